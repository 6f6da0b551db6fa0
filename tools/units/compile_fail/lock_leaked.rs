// SPDX-License-Identifier: GPL-2.0

//! What keeps a device bound is lent: it cannot be leaked with the device's lock held.
//~ E0507

use kernel::{
    device::Device,
    prelude::*, //
};
use p2pdma::pci::bound::BoundDevice;

pub fn misuse(dev: &Device) -> Result {
    BoundDevice::with(dev, |bound| {
        core::mem::forget(*bound);
        Ok(())
    })
}
