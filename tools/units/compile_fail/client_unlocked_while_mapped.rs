// SPDX-License-Identifier: GPL-2.0

//! A client stays bound while memory is mapped for it.
//~ E0505

use kernel::{
    device::Device,
    dma::DataDirection,
    prelude::*, //
};
use p2pdma::{
    pci::bound::BoundDevice,
    provider::Provider, //
};

pub fn misuse(provider: &Provider<'_>, dev: &Device) -> Result<usize> {
    let client = BoundDevice::lock(dev)?;
    let table = provider.pool().alloc_sgl(4096)?;
    let mapped = table.map(client.client()?, DataDirection::ToDevice)?;

    drop(client);
    Ok(mapped.iter().count())
}
