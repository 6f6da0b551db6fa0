// SPDX-License-Identifier: GPL-2.0
use kernel::{device::Device, dma::DataDirection, prelude::*};
use p2pdma::{bound::BoundDevice, distance, pool::Pool, sg::EntryExt};

/// Lets `client` write 64 KiB into the memory of the provider that is nearest to it.
pub fn transfer(client: &Device) -> Result {
    let provider = distance::find(client)?;

    // Neither of them may be unbound meanwhile.
    let client = BoundDevice::lock(client)?;
    let bound = BoundDevice::try_lock(provider.device().as_ref())?;

    let table = Pool::of(bound.pci()?)?.alloc_sgl(64 << 10)?;
    let mapped = table.map(&client, DataDirection::FromDevice)?;

    for entry in mapped.iter() {
        dev_info!(
            &*client,
            "{:#x}, {} bytes, bus address: {}\n",
            entry.dma_address(),
            entry.dma_len(),
            entry.is_bus_address()
        );
    }
    // Unmapped, and given back to the pool.
    Ok(())
}
