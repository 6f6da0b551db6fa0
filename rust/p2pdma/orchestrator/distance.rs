// SPDX-License-Identifier: GPL-2.0

//! Who can reach whom, and how far it is: what an orchestrator asks before it pairs a provider
//! with clients.
//!
//! C header: [`include/linux/pci-p2pdma.h`](srctree/include/linux/pci-p2pdma.h)
//!
//! # Examples
//!
//! An orchestrator that finds a provider for a client:
//!
//! ```ignore
#![doc = include_str!("../examples/orchestrator.rs")]
//! ```
//!
//! In the kernel's tree this would be `rust/kernel/pci/p2pdma/distance.rs`, of the maintainers of
//! PCI peer-to-peer DMA.

use crate::raw;
use core::ptr::NonNull;
use kernel::{
    bindings,
    device,
    pci,
    prelude::*,
    sync::aref::ARef, //
};

/// Whether clients can reach the memory of a provider.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reach {
    /// They can. The number of ports between the provider and the clients, added up over the
    /// clients: 0 if provider and only client are the same device, 4 below one switch. Lower is
    /// better.
    Ports(u32),
    /// At least one of them cannot: the path crosses a host bridge that is not known to forward
    /// peer-to-peer traffic, or the client is no PCI device.
    NotSupported,
}

/// Whether the kernel says in its log why a client cannot reach a provider.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Report {
    /// As little as possible. (A host bridge that is not on the allowlist is reported all the same
    /// where a port redirects.)
    Quiet,
    /// A warning for each client: which port redirects (and the kernel parameter that stops it), or
    /// that there is no common bridge and no host bridge on the allowlist.
    Verbose,
}

/// `clients` as the C functions take them: pointer and number.
///
/// The pointer is not const there, but what it points to is only read. All are PCI devices: for
/// others the C functions look at their parents, which may be gone if the device is.
///
/// # Errors
///
/// - [`EINVAL`] if there are none.
/// - [`ENODEV`] if one of them is no PCI device.
#[inline]
fn as_raw(clients: &[&device::Device]) -> Result<(*mut *mut bindings::device, c_int)> {
    if clients.is_empty() {
        return Err(EINVAL);
    }
    if clients
        .iter()
        .any(|client| <&pci::Device>::try_from(*client).is_err())
    {
        return Err(ENODEV);
    }

    Ok((
        // CAST: `device::Device` is a transparent wrapper of `struct device`, so a slice of
        // references is an array of pointers.
        clients.as_ptr().cast_mut().cast(),
        clients.len().try_into()?,
    ))
}

/// Distance between `provider` and `clients`, added up.
///
/// A client that is no PCI device cannot reach any provider: a DMA mapping is refused for it. (For
/// the C function it counts as the PCI device above it, which may be gone when it is.)
///
/// C: `pci_p2pdma_distance_many()`. Does not sleep; not for interrupts, which the lock of the
/// provider's map types is not safe against.
///
/// # Errors
///
/// [`EINVAL`] if there are no clients. (The C function returns -1 for that, as it does for clients
/// that are out of reach.)
#[doc(alias = "pci_p2pdma_distance_many")]
#[inline]
pub fn distance_many(
    provider: &pci::Device,
    clients: &[&device::Device],
    report: Report,
) -> Result<Reach> {
    let (clients, num) = match as_raw(clients) {
        Err(error) if error == ENODEV => return Ok(Reach::NotSupported),
        clients => clients?,
    };
    // SAFETY:
    // - `raw::pci_dev()` returns a valid `struct pci_dev`.
    // - `clients` points to `num` valid pointers to the `struct device` of PCI devices, borrowed
    //   for the call, and what these refer to stays as long as they do.
    let distance = unsafe {
        bindings::pci_p2pdma_distance_many(
            raw::pci_dev(provider),
            clients,
            num,
            report == Report::Verbose,
        )
    };

    Ok(u32::try_from(distance).map_or(Reach::NotSupported, Reach::Ports))
}

/// Distance between `provider` and one client.
///
/// C: `pci_p2pdma_distance()`. Context as for [`distance_many()`].
#[doc(alias = "pci_p2pdma_distance")]
#[inline]
pub fn distance(provider: &pci::Device, client: &device::Device, report: Report) -> Reach {
    // There is a client.
    distance_many(provider, &[client], report).unwrap_or(Reach::NotSupported)
}

/// A published provider that was found for some clients, with a counted reference to it.
///
/// To allocate its memory, [keep it bound](crate::pci::bound::BoundDevice) and look for
/// [its pool](crate::pool::Pool::of): it may have been unbound meanwhile.
///
/// C: what `pci_p2pmem_find_many()` returns, released with `pci_dev_put()`.
///
/// # Invariants
///
/// The device had published peer-to-peer memory when it was found.
pub struct FoundProvider {
    dev: ARef<pci::Device>,
}

impl FoundProvider {
    /// # Safety
    ///
    /// `dev` must have had published memory just now.
    pub(crate) unsafe fn new(dev: ARef<pci::Device>) -> Self {
        // INVARIANT: By the safety requirement.
        Self { dev }
    }

    /// The device.
    pub fn device(&self) -> &pci::Device {
        &self.dev
    }
}

impl From<FoundProvider> for ARef<pci::Device> {
    fn from(found: FoundProvider) -> Self {
        found.dev
    }
}

/// Finds the published provider that is nearest to all of `clients`; one at random if several are
/// equally near.
///
/// C: `pci_p2pmem_find_many()`. May sleep: allocates, and walks all PCI devices.
///
/// # Errors
///
/// - [`EINVAL`] if there are no clients.
/// - [`ENODEV`] if no published provider is in reach of all of them, or one is no PCI device. (The
///   C function returns NULL for that, and where it has no memory.)
#[doc(alias = "pci_p2pmem_find_many")]
pub fn find_many(clients: &[&device::Device]) -> Result<FoundProvider> {
    let (clients, num) = as_raw(clients)?;
    // SAFETY: `clients` points to `num` valid pointers to the `struct device` of PCI devices,
    // borrowed for the call, and what these refer to stays as long as they do.
    let pdev = unsafe { bindings::pci_p2pmem_find_many(clients, num) };
    let pdev = NonNull::new(pdev).ok_or(ENODEV)?;

    // SAFETY: The device was returned with a reference taken, which passes to the `ARef`.
    // `pci::Device` is a transparent wrapper of `struct pci_dev`.
    let dev = unsafe { ARef::from_raw(pdev.cast()) };

    // SAFETY: `pci_p2pmem_find_many()` looks at published memory only.
    Ok(unsafe { FoundProvider::new(dev) })
}

/// Finds the published provider that is nearest to `client`.
///
/// C: `pci_p2pmem_find()`. Context and errors as for [`find_many()`].
#[doc(alias = "pci_p2pmem_find")]
pub fn find(client: &device::Device) -> Result<FoundProvider> {
    find_many(&[client])
}
