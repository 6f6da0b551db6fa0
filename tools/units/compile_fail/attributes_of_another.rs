// SPDX-License-Identifier: GPL-2.0

//! Attributes are those of a driver's own device: a device that is kept bound is not enough, since
//! its driver may be bound for longer than the module exists.
//~ E0308

use kernel::{
    device::Device,
    prelude::*, //
};
use p2pdma::pci::{
    bound::BoundDevice,
    sysfs::{
        self,
        Attributes, //
    }, //
};

pub fn misuse<T: Attributes + Send + 'static>(dev: &Device, data: T) -> Result {
    BoundDevice::with(dev, |bound| sysfs::register(bound, data))
}
