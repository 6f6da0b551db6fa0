// SPDX-License-Identifier: GPL-2.0
use kernel::{dma::DataDirection, pci, prelude::*};
use p2pdma::{
    client::sg::EntryExt,
    orchestrator::distance,
    pci::bound::BoundDevice,
    pool::Pool, //
};

/// Lets `client` write 64 KiB into the memory of the provider that is nearest to it.
pub fn transfer(client: &pci::Device) -> Result {
    let found = distance::find(client)?;
    let (provider, client) = (found.device().as_ref(), client.as_ref());

    // Neither of them may be unbound meanwhile. They may be the same: an NVMe controller with a
    // memory buffer is nearest to itself.
    BoundDevice::with_both(provider, client, |provider, client| {
        let table = Pool::of(provider)?.alloc_sgl(64 << 10)?;
        let mapped = table.map(client.client()?, DataDirection::FromDevice)?;

        for entry in mapped.iter() {
            dev_info!(
                client,
                "{:#x}, {} bytes, bus address: {}\n",
                entry.dma_address(),
                entry.dma_len(),
                entry.is_bus_address()
            );
        }
        // Unmapped, and given back to the pool.
        Ok(())
    })
}
