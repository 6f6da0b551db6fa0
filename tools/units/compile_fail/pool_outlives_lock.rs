// SPDX-License-Identifier: GPL-2.0

//! An orchestrator allocates only while it keeps the provider bound.
//~ lifetime may not live long enough

use kernel::{
    device::Device,
    prelude::*, //
};
use p2pdma::{
    pci::bound::BoundDevice,
    pool::Pool, //
};

pub fn misuse(dev: &Device) -> Result<usize> {
    let pool = BoundDevice::try_with(dev, |bound| Pool::of(bound))?;

    Ok(pool.alloc_owned(4096)?.size())
}
