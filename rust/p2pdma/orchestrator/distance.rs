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

use crate::{
    bindings as helpers,
    raw, //
};
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
    /// peer-to-peer traffic.
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

/// A PCI device as one of the clients of [`distance_many()`] and [`find_many()`], which take an
/// array of these.
///
/// C: an element of `struct device **clients`. There it may be any device, and counts as the PCI
/// device above it, which may be gone when it is; to map for it is refused.
///
/// # Invariants
///
/// The device is a PCI device.
#[derive(Clone, Copy)]
#[repr(transparent)]
pub struct ClientDevice<'a>(&'a device::Device);

impl<'a> From<&'a pci::Device> for ClientDevice<'a> {
    #[inline]
    fn from(dev: &'a pci::Device) -> Self {
        // INVARIANT: By its type.
        Self(dev.as_ref())
    }
}

impl<'a> TryFrom<&'a device::Device> for ClientDevice<'a> {
    type Error = Error;

    /// [`EINVAL`] if it is no PCI device.
    #[inline]
    fn try_from(dev: &'a device::Device) -> Result<Self> {
        <&pci::Device>::try_from(dev).map(Self::from)
    }
}

/// `clients` as the C functions take them: pointer and number.
///
/// The pointer is not const there, but what it points to is only read.
///
/// # Errors
///
/// [`EINVAL`] if there are none.
#[inline]
fn as_raw(clients: &[ClientDevice<'_>]) -> Result<(*mut *mut bindings::device, c_int)> {
    if clients.is_empty() {
        return Err(EINVAL);
    }

    Ok((
        // CAST: `ClientDevice` is a transparent wrapper of a reference to `device::Device`, which
        // is one of `struct device`, so a slice of them is an array of pointers.
        clients.as_ptr().cast_mut().cast(),
        clients.len().try_into()?,
    ))
}

/// Whether the host bridge that `dev` is below is there: the kernel would follow a NULL pointer for
/// a device that was kept when its host controller went.
///
/// It may go just after that. The kernel has the same gap wherever it keeps a client.
fn has_host_bridge(dev: &pci::Device) -> bool {
    // SAFETY: `raw::pci_dev()` returns a valid `struct pci_dev`, whose bus, and those above it with
    // the `struct pci_host_bridge`, stay as long as it.
    unsafe { helpers::p2pdma_helper_has_host_bridge(raw::pci_dev(dev)) }
}

/// The same of each of `clients`.
fn have_host_bridges(clients: &[ClientDevice<'_>]) -> bool {
    clients
        .iter()
        .filter_map(|client| <&pci::Device>::try_from(client.0).ok())
        .all(has_host_bridge)
}

/// Distance between `provider` and `clients`, added up.
///
/// A device whose host controller has gone is out of reach.
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
    clients: &[ClientDevice<'_>],
    report: Report,
) -> Result<Reach> {
    if !has_host_bridge(provider) || !have_host_bridges(clients) {
        return Ok(Reach::NotSupported);
    }
    let (clients, num) = as_raw(clients)?;
    // What the function looks at besides, the first device of a host bridge, it takes no reference
    // to: that is a defect of its own, see Documentation/p2pdma/kernel-issues.rst.
    //
    // SAFETY:
    // - `raw::pci_dev()` returns a valid `struct pci_dev`.
    // - `clients` points to `num` valid pointers to the `struct device` of PCI devices (by the type
    //   invariant), borrowed for the call, and what these refer to stays as long as they do.
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
pub fn distance(provider: &pci::Device, client: &pci::Device, report: Report) -> Reach {
    // There is a client.
    distance_many(provider, &[client.into()], report).unwrap_or(Reach::NotSupported)
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
/// - [`ENODEV`] if no published provider is in reach of all of them. (The C function returns NULL
///   for that, and where it has no memory.)
#[doc(alias = "pci_p2pmem_find_many")]
pub fn find_many(clients: &[ClientDevice<'_>]) -> Result<FoundProvider> {
    if !have_host_bridges(clients) {
        return Err(ENODEV);
    }
    let (clients, num) = as_raw(clients)?;
    // SAFETY: `clients` points to `num` valid pointers to the `struct device` of PCI devices (by
    // the type invariant), borrowed for the call, and what these refer to stays as long as they do.
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
pub fn find(client: &pci::Device) -> Result<FoundProvider> {
    find_many(&[client.into()])
}
