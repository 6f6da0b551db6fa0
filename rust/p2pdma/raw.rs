// SPDX-License-Identifier: GPL-2.0

//! Raw pointers of the kernel crate's types that the kernel crate keeps to itself.
//!
//! In the kernel's tree this would not be: `as_raw()` is there for the kernel crate itself.

use kernel::{
    bindings,
    device,
    pci, //
};

/// An address on the PCI bus (`pci_bus_addr_t`): what a peer below the same switch uses.
pub type BusAddress = bindings::pci_bus_addr_t;

/// `pci::Device::as_raw()`, which is private outside of the kernel crate.
///
/// The pointer is valid for as long as `dev` is borrowed.
#[inline]
pub(crate) fn pci_dev<Ctx: device::DeviceContext>(
    dev: &pci::Device<Ctx>,
) -> *mut bindings::pci_dev {
    // CAST: `pci::Device` is a transparent wrapper of `Opaque<struct pci_dev>`, which is in turn a
    // transparent wrapper with interior mutability.
    core::ptr::from_ref(dev).cast_mut().cast()
}

/// The `pci::Device` of a `struct pci_dev`.
///
/// # Safety
///
/// `pdev` must be valid for `'a`: a reference is held on it.
#[inline]
pub(crate) unsafe fn pci_device<'a>(pdev: *mut bindings::pci_dev) -> &'a pci::Device {
    // SAFETY: Valid for `'a` by the safety requirement.
    // CAST: `pci::Device` is a transparent wrapper of `struct pci_dev`.
    unsafe { &*pdev.cast() }
}

/// `device::Device::as_raw()`, likewise.
#[inline]
pub(crate) fn device<Ctx: device::DeviceContext>(
    dev: &device::Device<Ctx>,
) -> *mut bindings::device {
    // CAST: As for `pci_dev()`.
    core::ptr::from_ref(dev).cast_mut().cast()
}
