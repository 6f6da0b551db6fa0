// SPDX-License-Identifier: GPL-2.0

//! An orchestrator allocates only while it keeps the provider bound.
//~ E0505

use kernel::{
    device::Device,
    prelude::*, //
};
use p2pdma::{
    pci::bound::BoundDevice,
    pool::Pool, //
};

pub fn misuse(dev: &Device) -> Result<usize> {
    let bound = BoundDevice::try_lock(dev)?;
    let pool = Pool::of(&bound)?;

    drop(bound);
    Ok(pool.alloc_owned(4096)?.size())
}
