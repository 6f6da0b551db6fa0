// SPDX-License-Identifier: GPL-2.0

//! Who can reach whom, and how far it is: what an orchestrator asks before it pairs a provider
//! with clients.
//!
//! C header: [`include/linux/pci-p2pdma.h`](srctree/include/linux/pci-p2pdma.h)

use crate::{
    pool::Pool,
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
    /// peer-to-peer traffic, or the client is no PCI device.
    NotSupported,
}

/// Whether the kernel says in its log why a client cannot reach a provider.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Report {
    /// Nothing is printed.
    Quiet,
    /// A warning for each client: which port redirects (and the kernel parameter that stops it), or
    /// that there is no common bridge and no host bridge on the allowlist.
    Verbose,
}

/// Most clients that one call takes.
///
/// The C functions take any number; a bound keeps the array of pointers on the stack.
pub const MAX_CLIENTS: usize = 32;

/// The devices as an array of pointers on the stack, for the C functions.
fn with_raw<R>(
    clients: &[&device::Device],
    f: impl FnOnce(*mut *mut bindings::device, c_int) -> R,
) -> Result<R> {
    let mut array = [core::ptr::null_mut(); MAX_CLIENTS];

    if clients.is_empty() || clients.len() > MAX_CLIENTS {
        return Err(EINVAL);
    }
    for (slot, client) in array.iter_mut().zip(clients) {
        *slot = raw::device(*client);
    }

    // CAST: At most `MAX_CLIENTS`.
    Ok(f(array.as_mut_ptr(), clients.len() as c_int))
}

/// Distance between `provider` and `clients`, added up.
///
/// C: `pci_p2pdma_distance_many()`. Any context that may print; takes no lock that sleeps.
///
/// # Errors
///
/// [`EINVAL`] if there are no clients, or more than [`MAX_CLIENTS`]. (The C function returns -1
/// for no clients, as it does for clients that are out of reach.)
#[doc(alias = "pci_p2pdma_distance_many")]
pub fn distance_many(
    provider: &pci::Device,
    clients: &[&device::Device],
    report: Report,
) -> Result<Reach> {
    let distance = with_raw(clients, |clients, num| {
        // SAFETY:
        // - `raw::pci_dev()` returns a valid `struct pci_dev`.
        // - `clients` points to `num` valid pointers to `struct device`, borrowed for the call.
        unsafe {
            bindings::pci_p2pdma_distance_many(
                raw::pci_dev(provider),
                clients,
                num,
                report == Report::Verbose,
            )
        }
    })?;

    Ok(u32::try_from(distance).map_or(Reach::NotSupported, Reach::Ports))
}

/// Distance between `provider` and one client.
///
/// C: `pci_p2pdma_distance()`. Context as for [`distance_many()`].
#[doc(alias = "pci_p2pdma_distance")]
pub fn distance(provider: &pci::Device, client: &device::Device, report: Report) -> Reach {
    // One client is neither none nor too many.
    distance_many(provider, &[client], report).unwrap_or(Reach::NotSupported)
}

/// A published provider that was found for some clients, with a counted reference to it.
///
/// C: what `pci_p2pmem_find_many()` returns, released with `pci_dev_put()`.
///
/// # Invariants
///
/// The device had published peer-to-peer memory when it was found.
pub struct Found {
    dev: ARef<pci::Device>,
}

impl Found {
    /// `dev` has published memory: the caller's part of the type's invariant.
    pub(crate) fn new(dev: ARef<pci::Device>) -> Self {
        // INVARIANT: By the condition above.
        Self { dev }
    }

    /// The device.
    pub fn device(&self) -> &pci::Device {
        &self.dev
    }

    /// Its pool. Allocations fail with [`ENOMEM`] once the provider's driver was unbound.
    pub fn pool(&self) -> Pool<'_> {
        // What is published has a pool, see the type's invariant.
        Pool::new(&self.dev)
    }
}

impl From<Found> for ARef<pci::Device> {
    fn from(found: Found) -> Self {
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
/// - [`EINVAL`] if there are no clients, or more than [`MAX_CLIENTS`].
/// - [`ENODEV`] if no published provider is in reach of all of them. (The C function returns NULL
///   for that, and where it has no memory.)
#[doc(alias = "pci_p2pmem_find_many")]
pub fn find_many(clients: &[&device::Device]) -> Result<Found> {
    let pdev = with_raw(clients, |clients, num| {
        // SAFETY: `clients` points to `num` valid pointers to `struct device`, borrowed for the
        // call.
        unsafe { bindings::pci_p2pmem_find_many(clients, num) }
    })?;
    let pdev = NonNull::new(pdev).ok_or(ENODEV)?;

    // SAFETY: The device was returned with a reference taken, which passes to the `ARef`.
    // `pci::Device` is a transparent wrapper of `struct pci_dev`.
    let dev = unsafe { ARef::from_raw(pdev.cast()) };

    // `pci_p2pmem_find_many()` looks at published memory only.
    Ok(Found::new(dev))
}

/// Finds the published provider that is nearest to `client`.
///
/// C: `pci_p2pmem_find()`. Context and errors as for [`find_many()`].
#[doc(alias = "pci_p2pmem_find")]
pub fn find(client: &device::Device) -> Result<Found> {
    find_many(&[client])
}
