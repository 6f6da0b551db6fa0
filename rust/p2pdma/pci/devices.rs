// SPDX-License-Identifier: GPL-2.0

//! PCI functions by address, for orchestrators whose users name them.
//!
//! C header: [`include/linux/pci.h`](srctree/include/linux/pci.h)
//!
//! In the kernel's tree this would be `rust/kernel/pci/devices.rs`, of the maintainers of the PCI
//! subsystem in Rust.

use crate::{
    bindings as helpers,
    raw, //
};
use core::{
    iter::FusedIterator,
    ptr::NonNull, //
};
use kernel::{
    bindings,
    device::Device,
    fmt,
    pci,
    prelude::*,
    sync::aref::ARef, //
};

pub use super::address::Address;

impl Address {
    /// Address of `dev`.
    ///
    /// Any context, also if the device is gone.
    ///
    /// C: `pci_name()`, `pdev->bus->number` and `pdev->devfn`. Not `pci_domain_nr()`, which looks
    /// at what belongs to the driver of the host controller, and goes with that.
    #[doc(alias = "pci_name")]
    #[doc(alias = "pci_domain_nr")]
    pub fn of(dev: &pci::Device) -> Self {
        let pdev = raw::pci_dev(dev);

        // SAFETY: `pdev` is a valid `struct pci_dev`: its bus stays as long as it.
        let (bus, devfn) = unsafe { ((*(*pdev).bus).number, (*pdev).devfn) };

        Self {
            // A PCI function is never renamed.
            domain: Self::domain_in(dev.as_ref().name().to_bytes()),
            bus,
            // CAST: Eight bits.
            devfn: devfn as u8,
        }
    }

    /// Finds the device at this address.
    ///
    /// C: `pci_get_domain_bus_and_slot()`. May sleep.
    #[doc(alias = "pci_get_domain_bus_and_slot")]
    pub fn find(self) -> Option<ARef<pci::Device>> {
        let domain = c_int::try_from(self.domain).ok()?;
        // SAFETY: Takes any address; returns NULL or a device with a reference taken.
        let pdev = unsafe {
            bindings::pci_get_domain_bus_and_slot(domain, self.bus.into(), self.devfn.into())
        };
        let pdev = NonNull::new(pdev)?;

        // SAFETY: The reference passes to the `ARef`. `pci::Device` is a transparent wrapper of
        // `struct pci_dev`.
        Some(unsafe { ARef::from_raw(pdev.cast()) })
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        core::fmt::Display::fmt(self, f)
    }
}

/// The NUMA node that `dev` is near to; [`None`] if the firmware does not say.
///
/// C: `dev_to_node()`. Any context.
#[doc(alias = "dev_to_node")]
pub fn numa_node(dev: &Device) -> Option<u32> {
    // SAFETY: `raw::device()` returns a valid `struct device`.
    let node = unsafe { helpers::p2pdma_helper_device_node(raw::device(dev)) };

    // NUMA_NO_NODE is -1.
    u32::try_from(node).ok()
}

/// All PCI functions.
///
/// C: `for_each_pci_dev()`. May sleep.
#[doc(alias = "for_each_pci_dev")]
pub fn all() -> All {
    All { at: At::Start }
}

/// Iterator over all PCI functions; see [`all()`].
pub struct All {
    at: At,
}

/// Where an iterator is.
enum At {
    Start,
    After(ARef<pci::Device>),
    End,
}

// Once it has come to the end it stays there: the C function would start over.
impl FusedIterator for All {}

impl Iterator for All {
    type Item = ARef<pci::Device>;

    fn next(&mut self) -> Option<Self::Item> {
        let from = match core::mem::replace(&mut self.at, At::End) {
            At::Start => core::ptr::null_mut(),
            At::After(dev) => ARef::into_raw(dev).as_ptr().cast(),
            At::End => return None,
        };
        // SAFETY: `from` is NULL or a device with a reference, which passes to the function.
        let next = unsafe {
            // CAST: PCI_ANY_ID is ~0, an `int` that the function takes as unsigned.
            bindings::pci_get_device(
                bindings::PCI_ANY_ID as u32,
                bindings::PCI_ANY_ID as u32,
                from,
            )
        };
        let next = NonNull::new(next)?;

        // SAFETY: The reference that the function took passes to the `ARef`. `pci::Device` is a
        // transparent wrapper of `struct pci_dev`.
        let dev: ARef<pci::Device> = unsafe { ARef::from_raw(next.cast()) };

        self.at = At::After(dev.clone());
        Some(dev)
    }
}
