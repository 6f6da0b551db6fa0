// SPDX-License-Identifier: GPL-2.0

//! A device that memory is mapped for.
//!
//! In the kernel's tree this would be `rust/kernel/pci/p2pdma/client.rs`, of the maintainers of PCI
//! peer-to-peer DMA.

use crate::{
    bindings as helpers,
    pci::bound::BoundDevice,
    pool::Pool,
    raw, //
};
use kernel::{
    bindings,
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

    /// What its DMA can do, as its driver and the bus have set it up. Any context.
    ///
    /// # Errors
    ///
    /// [`EOPNOTSUPP`] if it cannot do peer-to-peer DMA at all; see
    /// [`SgTable::map()`](super::sg::SgTable::map).
    pub(super) fn dma(&self) -> Result<Dma> {
        let dev = raw::device(self.bound());

        // SAFETY: `raw::device()` returns a valid `struct device`, of a PCI device, which has a DMA
        // mask.
        let (supported, bounces) = unsafe {
            (
                bindings::dma_pci_p2pdma_supported(dev),
                helpers::p2pdma_helper_dma_bounces(dev),
            )
        };
        if !supported || bounces {
            return Err(EOPNOTSUPP);
        }

        // SAFETY: As above.
        Ok(unsafe {
            Dma {
                dev,
                last: helpers::p2pdma_helper_dma_last(dev),
                max_segment: helpers::p2pdma_helper_dma_max_seg_size(dev),
                direct: helpers::p2pdma_helper_dma_is_direct(dev),
            }
        })
    }
}

/// What the DMA of a client can do.
///
/// # Invariants
///
/// `dev` is a valid `struct device`.
pub(super) struct Dma {
    dev: *mut bindings::device,
    /// The last address that it gets at.
    last: u64,
    /// Most bytes in a segment.
    pub(super) max_segment: u32,
    /// Whether no IOMMU translates.
    direct: bool,
}

impl Dma {
    /// Whether it gets at `len` bytes, not 0, from DMA address `address` on.
    pub(super) fn reaches(&self, address: u64, len: u32) -> bool {
        address
            .checked_add(u64::from(len) - 1)
            .is_some_and(|last| last <= self.last)
    }

    /// Whether it gets at `len` bytes, not 0, from CPU physical address `phys` on, by that address or
    /// by one that an IOMMU finds.
    pub(super) fn reaches_phys(&self, phys: u64, len: u32) -> bool {
        if !self.direct {
            return true;
        }

        // SAFETY: `dev` is valid by the type invariant.
        let address = unsafe { helpers::p2pdma_helper_phys_to_dma(self.dev, phys) };

        self.reaches(address, len)
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
