// SPDX-License-Identifier: GPL-2.0

//! A device that memory is mapped for.
//!
//! In the kernel's tree this would be `rust/kernel/pci/p2pdma/client.rs`, of the maintainers of PCI
//! peer-to-peer DMA.

use crate::{
    pci::bound::BoundDevice,
    pool::Pool, //
};
use kernel::{
    device::{
        Bound,
        Device, //
    },
    pci,
    prelude::*, //
};

/// A PCI device that is bound to its driver for `'a`, as one that memory is mapped for.
///
/// Of a driver's own device from [`Self::own()`], of another driver's from
/// [`BoundDevice::client()`](crate::pci::bound::BoundDevice::client). Others than PCI devices have
/// no path to a provider's memory that the kernel would know of: it refuses to map for them.
#[derive(Clone, Copy)]
pub struct Client<'a>(&'a pci::Device<Bound>);

impl<'a> Client<'a> {
    /// The device of the driver that calls. Any context.
    pub fn own(dev: &'a pci::Device<Bound>) -> Self {
        Self(dev)
    }

    /// The device. Any context.
    pub fn device(&self) -> &'a Device {
        self.0.as_ref()
    }

    pub(super) fn bound(&self) -> &'a Device<Bound> {
        self.0.as_ref()
    }
}

impl BoundDevice {
    /// The device as a client, to map memory for. Any context.
    ///
    /// # Errors
    ///
    /// [`EINVAL`] if it is no PCI device.
    pub fn client(&self) -> Result<Client<'_>> {
        self.pci_bound().map(Client::own)
    }
}

impl<'a> Pool<'a> {
    /// The same, as a client of its own memory. Any context.
    pub fn client(&self) -> Client<'a> {
        Client::own(self.bound())
    }
}
