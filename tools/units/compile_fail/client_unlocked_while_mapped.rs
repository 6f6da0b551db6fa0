// SPDX-License-Identifier: GPL-2.0

//! A client stays bound while memory is mapped for it.
//~ lifetime may not live long enough

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
    let table = provider.pool().alloc_sgl(4096)?;
    let mapped = BoundDevice::with(dev, |client| {
        table.map(client.client()?, DataDirection::ToDevice)
    })?;

    Ok(mapped.iter().count())
}
