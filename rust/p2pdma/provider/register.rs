// SPDX-License-Identifier: GPL-2.0

//! Providers: devices that offer a BAR, or a part of one, as peer-to-peer memory.
//!
//! C header: [`include/linux/pci-p2pdma.h`](srctree/include/linux/pci-p2pdma.h)
//!
//! # Examples
//!
//! A driver that provides a BAR, and keeps a page of it for itself:
//!
//! ```ignore
#![doc = include_str!("../examples/provider.rs")]
//! ```
//!
//! In the kernel's tree this would be `rust/kernel/pci/p2pdma/provider.rs`, of the maintainers of
//! PCI peer-to-peer DMA.

use super::{
    bars::{
        self,
        bar,
        limits, //
    },
    range::BarRange, //
};
use crate::{
    bindings as helpers,
    page::PIN_BIAS,
    pool::{
        BusAddress,
        Pool, //
    },
    raw, //
};
use kernel::{
    bindings,
    device::{
        Bound,
        Core, //
    },
    devres::Devres,
    error::to_result,
    page::PAGE_SIZE,
    pci,
    prelude::*,
    sync::aref::ARef, //
};

/// System memory that registering `ranges` takes for their `struct page`s, in bytes: a 64th of
/// their size where pages have 4 KiB.
pub fn page_structs(ranges: &[BarRange]) -> u64 {
    ranges
        .iter()
        // CAST: The sizes of a page and of what describes it are small, the latter the smaller.
        .map(|range| range.size().get() / PAGE_SIZE as u64 * size_of::<bindings::page>() as u64)
        .fold(0, u64::saturating_add)
}

/// A device that is enabled, with its memory decoding, for as long as it is bound: what
/// [`Provider::register()`] asks for.
///
/// # Invariants
///
/// `pcim_enable_device()` succeeded for `dev` since it was bound.
#[derive(Clone, Copy)]
pub struct Enabled<'bound, 'core> {
    dev: &'bound pci::Device<Core<'core>>,
}

impl<'bound, 'core> Enabled<'bound, 'core> {
    /// The device. Any context.
    pub fn device(&self) -> &'bound pci::Device<Core<'core>> {
        self.dev
    }
}

/// Enables `dev`, with its memory decoding, until it is unbound and its managed resources, of which
/// this is one, are released.
///
/// The kernel crate has [`pci::Device::enable_device_mem()`], which is never undone.
///
/// C: `pcim_enable_device()`. May sleep.
///
/// # Errors
///
/// What the C function returns.
#[doc(alias = "pcim_enable_device")]
pub fn enable<'bound, 'core>(
    dev: &'bound pci::Device<Core<'core>>,
) -> Result<Enabled<'bound, 'core>> {
    // SAFETY: `raw::pci_dev()` returns a valid `struct pci_dev`. `Core` means a callback of its
    // driver, under its lock: what is added is released by the `devres_release_all()` that follows
    // at the latest.
    to_result(unsafe { bindings::pcim_enable_device(raw::pci_dev(dev)) })?;

    // INVARIANT: Succeeded just now.
    Ok(Enabled { dev })
}

/// A device that provides peer-to-peer memory, for as long as it is bound to its driver.
///
/// Made in `probe()` and kept in the driver's private data. There it is dropped after `unbind()`
/// and before the device's managed resources are released, which is what the lifetime argument in
/// the [crate's documentation](crate#lifetimes) asks for.
///
/// Dropping it withdraws the publication; a [`Publication`] can still publish, and withdraws when
/// it goes itself. The pages, and the `p2pmem/` group in sysfs, are resources managed by the
/// device: they go when the driver is unbound.
///
/// # Invariants
///
/// `ranges`, which is not empty, holds ranges of `dev` that this object registered, so the device
/// has a pool, and each page of them a `struct page`, for as long as it is bound.
pub struct Provider<'bound> {
    dev: &'bound pci::Device<Bound>,
    ranges: KVec<BarRange>,
}

/// What of a provider's memory user space has, in bytes.
///
/// A moment's view: users come and go meanwhile.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct UserMemory {
    /// Pages that user space has mapped, or that the kernel holds references to.
    pub mapped: u64,
    /// Thereof, pages that are pinned, as for an I/O: these outlive their mapping.
    pub pinned: u64,
}

/// What of a provider's memory is in use, in bytes.
///
/// A moment's view: users come and go meanwhile.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Usage {
    /// All that is taken out of the pool.
    pub total: u64,
    /// Thereof, what user space has.
    pub user: UserMemory,
}

impl Usage {
    /// What is allocated by the kernel, without user space: by nvmet, or by drivers for themselves.
    pub fn kernel(&self) -> u64 {
        self.total.saturating_sub(self.user.mapped)
    }
}

impl<'bound> Provider<'bound> {
    /// Registers `ranges` of `dev` as peer-to-peer memory.
    ///
    /// Nothing is published yet, but user space can map the memory from now on.
    ///
    /// C: `pci_p2pdma_add_resource()`, once a range. May sleep.
    ///
    /// # Errors
    ///
    /// - [`EINVAL`] if `ranges` is empty, two of them overlap, or one is not a range of `dev`.
    /// - [`EBUSY`] if the device provides peer-to-peer memory already.
    /// - [`EOPNOTSUPP`] if the BARs of the device must not be mapped (`pci_dev.non_mappable_bars`).
    /// - [`ENOMEM`] if there is less memory than [`page_structs()`] says, which the kernel would
    ///   warn of; or for other allocations.
    /// - What `memremap_pages()` returns.
    ///
    /// After an error, ranges that were registered before it go with the device's other managed
    /// resources: let `probe()` fail.
    #[doc(alias = "pci_p2pdma_add_resource")]
    pub fn register(enabled: Enabled<'bound, '_>, ranges: &[BarRange]) -> Result<Self> {
        let dev = enabled.device();
        let limits = limits();
        let mut registered = KVec::with_capacity(ranges.len(), GFP_KERNEL)?;

        for (i, range) in ranges.iter().enumerate() {
            let checked = BarRange::new(
                &bar(dev, range.bar()),
                range.offset(),
                Some(range.size()),
                &limits,
            );
            if checked != Ok(*range) || ranges[..i].iter().any(|other| other.overlaps(range)) {
                return Err(EINVAL);
            }
            registered.push(*range, GFP_KERNEL)?;
        }
        if ranges.is_empty() {
            return Err(EINVAL);
        }

        let pdev = raw::pci_dev(dev);

        // SAFETY: `Enabled` is made of `Core`, and lasts no longer: within a callback of the
        // driver, during which the device's lock is held.
        if unsafe { Pool::exists(dev) } {
            return Err(EBUSY);
        }
        // SAFETY: Has no preconditions.
        let available = unsafe { bindings::si_mem_available() };
        // CAST: A number of pages. Negative where there is hardly any memory.
        if page_structs(ranges) > (available.max(0) as u64).saturating_mul(PAGE_SIZE as u64) {
            return Err(ENOMEM);
        }

        for range in ranges {
            // SAFETY: `pdev` is a valid `struct pci_dev`. `Core` means a callback of its driver,
            // under its lock: nobody else registers memory meanwhile, and what is added is released
            // by the `devres_release_all()` that follows at the latest.
            let ret = unsafe {
                bindings::pci_p2pdma_add_resource(
                    pdev,
                    range.bar().into(),
                    // CAST: `size_t` has 64 bits, see `limits()`.
                    range.size().get() as usize,
                    range.offset(),
                )
            };
            to_result(ret)?;
        }

        // INVARIANT: `ranges` is not empty, and all of them were registered.
        Ok(Self {
            dev,
            ranges: registered,
        })
    }

    /// Publishes the memory, so that [`find()`](crate::orchestrator::distance::find) and the
    /// configuration of orchestrators such as nvmet find it, or withdraws it.
    ///
    /// Publication does not gate mappings of `p2pmem/allocate` by user space.
    ///
    /// C: `pci_p2pmem_publish()`. Any context.
    #[doc(alias = "pci_p2pmem_publish")]
    pub fn publish(&self, publish: bool) {
        // SAFETY: `raw::pci_dev()` returns a valid `struct pci_dev`.
        unsafe { bindings::pci_p2pmem_publish(raw::pci_dev(self.dev), publish) };
    }

    /// The pool of the device's peer-to-peer memory.
    ///
    /// What is allocated from it is tied to `'bound`, so that it can be kept beside `self` in the
    /// driver's private data, and is freed before the pages go.
    pub fn pool(&self) -> Pool<'bound> {
        // SAFETY: By the type invariant memory of the device was registered, for as long as it is
        // bound.
        unsafe { Pool::registered(self.dev) }
    }

    /// A handle that publishes the memory, or withdraws it, for as long as the device is bound: for
    /// attributes and the like, which do not have the `Provider`. May sleep.
    ///
    /// It can be used longer than the `Provider`: until it is dropped, or with the device's managed
    /// resources, before the pages of the ranges, for which unbinding may have to wait. Then it
    /// withdraws the publication.
    ///
    /// # Errors
    ///
    /// [`ENOMEM`].
    pub fn publication(&self) -> Result<Publication> {
        let dev: &pci::Device = self.dev;

        // Younger than the pages, and so released before.
        Ok(Publication(Devres::new(
            self.dev.as_ref(),
            Ok::<_, Error>(Published(dev.into())),
        )?))
    }

    /// The registered ranges.
    pub fn ranges(&self) -> &[BarRange] {
        &self.ranges
    }

    /// Address on the PCI bus of the first byte of `range`, which is what peers below the same
    /// switch use. `range` should be one of [`Self::ranges()`].
    pub fn bus_address(&self, range: &BarRange) -> BusAddress {
        // A `BarRange` has the index of a standard BAR, so this does not fail.
        bars::bus_address(self.dev, range.bar()).map_or(0, |bar| bar.wrapping_add(range.offset()))
    }

    /// Size of all registered ranges together, in bytes.
    pub fn size(&self) -> u64 {
        // Ranges that do not overlap do not wrap when their sizes are added up.
        self.ranges.iter().map(|range| range.size().get()).sum()
    }

    /// What of the memory is in use.
    ///
    /// For providers that are about to go: all that is free is allocated for a moment, see
    /// [`Pool::measure_free()`]. Where something is in use at all, looks at each page: takes time
    /// in proportion to the size of the memory. May sleep.
    ///
    /// # Errors
    ///
    /// As [`Pool::measure_free()`].
    pub fn usage(&self) -> Result<Usage> {
        let free = self.pool().measure_free()?;
        let total = self.size().saturating_sub(free);

        Ok(Usage {
            total,
            user: if total == 0 {
                UserMemory::default()
            } else {
                self.user_memory()
            },
        })
    }

    /// What of the memory user space has. Looks at each page: takes time in proportion to the size
    /// of the memory. May sleep.
    pub fn user_memory(&self) -> UserMemory {
        let mut user = UserMemory::default();

        for range in &self.ranges {
            let (mut referenced, mut pinned) = (0, 0);

            // SAFETY: `range` was registered, by the type invariant, so that each of its pages has
            // a `struct page`, one after the other, as long as the device is bound, which is longer
            // than `self` is borrowed. The counters are valid for writing. The caller is told that
            // this sleeps.
            unsafe {
                helpers::p2pdma_helper_count_pages(
                    helpers::p2pdma_helper_phys_to_page(range.start()),
                    // CAST: The page size is small, and there are 64 bits.
                    range.size().get() as usize / PAGE_SIZE,
                    PIN_BIAS,
                    &mut referenced,
                    &mut pinned,
                )
            };
            // CAST: 64 bits. Less than the size of the range.
            user.mapped += (referenced * PAGE_SIZE) as u64;
            user.pinned += (pinned * PAGE_SIZE) as u64;
        }
        user
    }

    /// The device.
    pub fn device(&self) -> &'bound pci::Device<Bound> {
        self.dev
    }
}

/// A device with published memory, or memory that could be.
struct Published(ARef<pci::Device>);

impl Published {
    fn set(&self, publish: bool) {
        // SAFETY: `raw::pci_dev()` returns a valid `struct pci_dev`.
        unsafe { bindings::pci_p2pmem_publish(raw::pci_dev(&*self.0), publish) };
    }
}

impl Drop for Published {
    fn drop(&mut self) {
        self.set(false);
    }
}

/// Publishes the memory of a provider, or withdraws it: see [`Provider::publication()`]. Dropping
/// it withdraws the publication.
pub struct Publication(Devres<Published>);

impl Publication {
    /// As [`Provider::publish()`].
    ///
    /// # Errors
    ///
    /// [`ENODEV`] if the device was unbound.
    pub fn set(&self, publish: bool) -> Result {
        self.0
            .try_access_with(|published| published.set(publish))
            .ok_or(ENODEV)
    }
}

impl Drop for Provider<'_> {
    fn drop(&mut self) {
        self.publish(false);
    }
}
