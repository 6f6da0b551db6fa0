// SPDX-License-Identifier: GPL-2.0

//! The pool of a provider's memory, and what is allocated from it.
//!
//! Peer-to-peer memory is MMIO. The CPU reaches it only through the io accessors that
//! [`Memory::io()`] hands out: there is no slice, and so nothing that `memcpy()` could be called
//! on.
//!
//! C header: [`include/linux/pci-p2pdma.h`](srctree/include/linux/pci-p2pdma.h)
//!
//! # Examples
//!
//! A driver that takes a page of its own pool:
//!
//! ```ignore
#![doc = include_str!("examples/provider.rs")]
//! ```
//!
//! In the kernel's tree this would be `rust/kernel/pci/p2pdma/pool.rs`, of the maintainers of PCI
//! peer-to-peer DMA.

use crate::{
    bindings as helpers,
    compat::{
        mmio,
        Mmio, //
    },
    pci::bound::BoundDevice,
    raw, //
};
use core::{
    mem::ManuallyDrop,
    ops::Deref,
    ptr::NonNull, //
};
use kernel::{
    bindings,
    device::Bound,
    page::{
        page_align,
        PAGE_SIZE, //
    },
    pci,
    prelude::*,
    sync::aref::ARef, //
};

pub use crate::raw::BusAddress;

/// How an allocation holds on to the device that it came from.
///
/// Either a borrow (`&pci::Device`), so that the allocation cannot outlive the time for which the
/// device is known to be bound; or a counted reference (`ARef<pci::Device>`), for orchestrators
/// that keep allocations in structures of their own.
pub trait ProviderRef: Deref<Target = pci::Device> + Send + Sync + private::Sealed {}

impl ProviderRef for &pci::Device {}
impl ProviderRef for ARef<pci::Device> {}

mod private {
    use super::*;

    pub trait Sealed {}

    impl Sealed for &pci::Device {}
    impl Sealed for ARef<pci::Device> {}
}

/// The pool of a provider (`pdev->p2pdma->pool`), while its device is bound.
///
/// From [`Provider::pool()`](crate::provider::Provider::pool), or for the device of another driver
/// from [`Pool::of()`].
///
/// # Invariants
///
/// `dev` is bound for `'a`, and has a pool of peer-to-peer memory.
#[derive(Clone, Copy)]
pub struct Pool<'a> {
    dev: &'a pci::Device<Bound>,
}

impl<'a> Pool<'a> {
    /// The pool of another driver's device, published or not. May sleep.
    ///
    /// It is there only while the device's lock is held. A
    /// [`Device<Bound>`](kernel::device::Device) would not do: some callbacks get one of a device
    /// whose managed resources are being released, when a range's pages are already unmapped and
    /// the pool still hands them out. And a device that was unbound, and bound to a driver that
    /// sets peer-to-peer DMA up without a pool (`pcim_p2pdma_init()` alone, as vfio-pci does),
    /// makes `pci_alloc_p2pmem()` dereference NULL.
    ///
    /// # Errors
    ///
    /// - [`ENODEV`] if the device has no pool.
    /// - [`EINVAL`] if it is no PCI device.
    pub fn of(bound: &'a BoundDevice) -> Result<Self> {
        let dev = bound.pci_bound()?;

        // SAFETY: The device's lock is held as long as `bound` is borrowed.
        if !unsafe { Self::exists(dev) } {
            return Err(ENODEV);
        }
        // INVARIANT: Bound for `'a`. While the lock is held, the attribute is there if, and only
        // if, there is a pool: the kernel adds and removes them together, and the only other way
        // to a group of that name, `sysfs::register()`, refuses it. A child of the device that is
        // called so is no group.
        Ok(Self { dev })
    }

    /// Whether `dev` has a pool.
    ///
    /// # Safety
    ///
    /// The lock of `dev` must be held: otherwise the answer means nothing.
    pub(crate) unsafe fn exists(dev: &pci::Device<Bound>) -> bool {
        // SAFETY: `raw::device()` returns a valid `struct device`, which is bound, and so in sysfs;
        // the name is a C string.
        unsafe {
            helpers::p2pdma_helper_device_has_group(
                raw::device(dev.as_ref()),
                c"p2pmem".as_char_ptr(),
            )
        }
    }

    /// The pool of `dev`.
    ///
    /// # Safety
    ///
    /// `dev` must have a pool for `'a`: memory of it was registered since it was bound.
    pub(crate) unsafe fn registered(dev: &'a pci::Device<Bound>) -> Self {
        // INVARIANT: Bound for `'a`, with a pool by the safety requirement.
        Self { dev }
    }

    /// The device that provides the memory. Any context.
    pub fn device(&self) -> &'a pci::Device {
        self.dev
    }

    /// The same, with the proof that it is bound.
    pub(crate) fn bound(&self) -> &'a pci::Device<Bound> {
        self.dev
    }

    /// Bytes that are free, found out by allocating all of them for a moment, in which others find
    /// the pool empty. May sleep.
    ///
    /// C: none. The kernel keeps the account of a pool to itself, and shows it in sysfs only.
    ///
    /// # Errors
    ///
    /// [`ENOMEM`] if there is no memory to remember what was allocated.
    pub fn measure_free(&self) -> Result<u64> {
        /// More than any pool has.
        const ALL: usize = 1 << 46;

        let mut taken = KVVec::new();
        let (mut size, mut free) = (ALL, 0);

        while size >= PAGE_SIZE {
            match self.alloc(size) {
                Ok(memory) => {
                    taken.push(memory, GFP_KERNEL)?;
                    // CAST: 64 bits.
                    free += size as u64;
                }
                Err(_) => size /= 2,
            }
            // SAFETY: Sleeping is the only thing it needs, and callers of this function know that
            // it may sleep.
            unsafe { helpers::p2pdma_helper_cond_resched() };
        }
        Ok(free)
    }

    /// Allocates `size` bytes, rounded up to whole pages, that borrow from where `self` came from.
    ///
    /// C: `pci_alloc_p2pmem()`. Any context: takes an RCU read lock, and no memory but the pool's.
    ///
    /// # Errors
    ///
    /// - [`EINVAL`] if `size` is 0, or wraps when it is rounded up.
    /// - [`ENOMEM`] if the pool has no such contiguous piece left, or the provider is being
    ///   unbound.
    #[doc(alias = "pci_alloc_p2pmem")]
    #[inline]
    pub fn alloc(&self, size: usize) -> Result<Memory<&'a pci::Device>> {
        // SAFETY: By the type invariant the device is bound, and has a pool.
        unsafe { Memory::new(self.dev, size) }
    }

    /// The same, holding a counted reference to the provider.
    ///
    /// Unbinding the provider's driver waits until the memory is dropped: whoever keeps it has to
    /// have a reason to drop it in bounded time.
    ///
    /// # Errors
    ///
    /// As [`Self::alloc()`].
    #[inline]
    pub fn alloc_owned(&self, size: usize) -> Result<Memory<ARef<pci::Device>>> {
        // SAFETY: By the type invariant the device is bound, and has a pool.
        unsafe { Memory::new(self.dev.into(), size) }
    }
}

/// Contiguous peer-to-peer memory, given back to its pool when dropped.
///
/// C: what `pci_alloc_p2pmem()` returns, freed with `pci_free_p2pmem()`.
///
/// # Invariants
///
/// `addr` is the kernel address and `size` the size, whole pages and not 0, of memory that
/// `pci_alloc_p2pmem()` took out of `dev`'s pool and that was not freed.
#[doc(alias = "pci_free_p2pmem")]
pub struct Memory<D: ProviderRef> {
    dev: D,
    addr: NonNull<c_void>,
    size: usize,
}

// SAFETY: The memory belongs to no thread, and can be freed on any; `D` is `Send`.
unsafe impl<D: ProviderRef> Send for Memory<D> {}

// SAFETY: Through a shared reference the address and the size can be read, which do not change, and
// the memory be accessed with io accessors, which may race with each other as they may with
// devices.
unsafe impl<D: ProviderRef> Sync for Memory<D> {}

impl<D: ProviderRef> Memory<D> {
    /// # Safety
    ///
    /// `dev` must be bound, and have a pool.
    #[inline]
    unsafe fn new(dev: D, size: usize) -> Result<Self> {
        if size == 0 {
            return Err(EINVAL);
        }
        let size = page_align(size).ok_or(EINVAL)?;
        // SAFETY: `raw::pci_dev()` returns a valid `struct pci_dev`. It has a pool, by the safety
        // requirement.
        let addr = unsafe { bindings::pci_alloc_p2pmem(raw::pci_dev(&*dev), size) };

        // INVARIANT: The function took `size` bytes, whole pages, out of the pool of `dev`.
        Ok(Self {
            dev,
            addr: NonNull::new(addr).ok_or(ENOMEM)?,
            size,
        })
    }

    /// Size in bytes: what was asked for, rounded up to whole pages.
    #[inline]
    pub fn size(&self) -> usize {
        self.size
    }

    /// The device that provides the memory.
    #[inline]
    pub fn device(&self) -> &pci::Device {
        &self.dev
    }

    /// The address that peers below the same switch use.
    ///
    /// A driver maps the memory for its device instead, with
    /// [`Sgl::map()`](crate::client::sg::Sgl::map), which also handles peers behind a host
    /// bridge.
    ///
    /// C: `pci_p2pmem_virt_to_bus()`. Any context.
    #[doc(alias = "pci_p2pmem_virt_to_bus")]
    pub fn bus_address(&self) -> BusAddress {
        // SAFETY: By the type invariant this is memory of the pool of `self.dev`, which cannot go
        // while the memory is allocated (see the lifetime argument in the crate's documentation).
        unsafe { bindings::pci_p2pmem_virt_to_bus(raw::pci_dev(&*self.dev), self.as_ptr()) }
    }

    /// The io accessors of the memory: all the access that the CPU gets.
    ///
    /// See [`kernel::io::Io`] for `try_read64()`, `try_write64()` and the like; offsets are in
    /// bytes from the start of the memory.
    #[inline]
    pub fn io(&self) -> Mmio<'_> {
        // SAFETY: By the type invariant the memory is mapped uncached by `memremap_pages()`. It
        // stays so while `self` is borrowed: it is not freed before, and pages that are allocated
        // are not unmapped (see the lifetime argument in the crate's documentation).
        let io = unsafe { mmio(self.addr.addr().get(), self.size) };

        // SAFETY: By the type invariant the memory consists of whole pages, and its address is that
        // of a page: both are multiples of 4.
        unsafe { io.unwrap_unchecked() }
    }

    /// Takes it apart, without giving the memory back: the device, the kernel address of the first
    /// byte, and the size.
    pub(crate) fn into_raw(self) -> (D, *mut c_void, usize) {
        let this = ManuallyDrop::new(self);
        // SAFETY: The field is valid for reading. `this` is never dropped, and its `dev` is not
        // read once more, so there is one owner of what it refers to.
        let dev = unsafe { core::ptr::read(&this.dev) };

        (dev, this.as_ptr(), this.size())
    }

    /// Kernel address of the first byte.
    #[inline]
    pub(crate) fn as_ptr(&self) -> *mut c_void {
        self.addr.as_ptr()
    }
}

impl<D: ProviderRef> Drop for Memory<D> {
    #[inline]
    fn drop(&mut self) {
        // SAFETY: By the type invariants this is memory of `self.dev`'s pool, of this size, that
        // was not freed. The pool is there: it is destroyed only after all that was allocated from
        // it came back (see the lifetime argument in the crate's documentation).
        unsafe { bindings::pci_free_p2pmem(raw::pci_dev(&*self.dev), self.as_ptr(), self.size()) };
    }
}
