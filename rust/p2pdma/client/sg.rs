// SPDX-License-Identifier: GPL-2.0

//! Scatterlists of peer-to-peer memory, and their DMA mapping for a client.
//!
//! C headers: [`include/linux/pci-p2pdma.h`](srctree/include/linux/pci-p2pdma.h),
//! [`include/linux/scatterlist.h`](srctree/include/linux/scatterlist.h)
//!
//! # Examples
//!
//! Memory of the nearest provider, mapped for a client:
//!
//! ```ignore
#![doc = include_str!("../examples/orchestrator.rs")]
//! ```
//!
//! In the kernel's tree this would be `rust/kernel/pci/p2pdma/scatterlist.rs`, of the maintainers
//! of PCI peer-to-peer DMA.

use super::Client;
use crate::{
    bindings as helpers,
    compat::{
        mmio,
        Mmio, //
    },
    pool::{
        BusAddress,
        Memory,
        Pool, //
        ProviderRef,
    },
    raw,
    system::Library, //
};
use core::{
    mem::ManuallyDrop,
    ops::Deref,
    ptr::NonNull, //
};
use kernel::{
    alloc::{
        flags::__GFP_NOWARN,
        Allocator,
        Vec, //
    },
    bindings,
    device::{
        Bound,
        Device, //
    },
    devres::Devres,
    dma::DataDirection,
    page::{
        BorrowedPage,
        PAGE_SIZE, //
    },
    pci,
    prelude::*,
    scatterlist::{
        SGEntry,
        SGTable, //
    },
    sync::aref::ARef, //
};

impl<'a> Pool<'a> {
    /// Allocates `length` bytes as a scatterlist that borrows from where `self` came from.
    ///
    /// C: `pci_p2pmem_alloc_sgl()`. May sleep.
    ///
    /// # Errors
    ///
    /// - [`EINVAL`] if `length` is 0 or no multiple of 4.
    /// - [`ENOMEM`] if the pool has no such contiguous piece left, the provider is being unbound,
    ///   or there is no memory for the list itself.
    #[doc(alias = "pci_p2pmem_alloc_sgl")]
    #[inline]
    pub fn alloc_sgl(&self, length: u32) -> Result<Sgl<&'a pci::Device>> {
        // SAFETY: A `Pool` is that of a device that is bound, and has one.
        unsafe { Sgl::new(self.device(), length) }
    }

    /// The same, holding a counted reference to the provider; see
    /// [`Pool::alloc_owned()`](crate::pool::Pool::alloc_owned) for what that asks of the caller.
    ///
    /// # Errors
    ///
    /// As [`Self::alloc_sgl()`].
    #[inline]
    pub fn alloc_sgl_owned(&self, length: u32) -> Result<Sgl<ARef<pci::Device>>> {
        // SAFETY: A `Pool` is that of a device that is bound, and has one.
        unsafe { Sgl::new(self.device().into(), length) }
    }
}

/// A scatterlist of peer-to-peer memory that is not mapped for any client; [`Self::map()`] does
/// that. The memory goes back to its pool when this is dropped.
///
/// C: what `pci_p2pmem_alloc_sgl()` returns, freed with `pci_p2pmem_free_sgl()`.
///
/// # Invariants
///
/// - `table.sgl` is a list of `table.orig_nents` entries of memory of `dev`'s pool, made by
///   `pci_p2pmem_alloc_sgl()`, or in the same way, and not freed.
/// - It is not DMA mapped, except within a [`MappedSgl`] or a [`ManagedSgl`]. Where it is
///   not, its entries hold nothing of an earlier mapping: code of the kernel (`__invalidate_sg()`)
///   takes what is there for its own.
#[doc(alias = "pci_p2pmem_free_sgl")]
pub struct Sgl<D: ProviderRef> {
    dev: D,
    table: bindings::sg_table,
}

// SAFETY: The list and its memory belong to no thread; see also `Memory`.
unsafe impl<D: ProviderRef> Send for Sgl<D> {}

// SAFETY: Through a shared reference can be reached: io accessors, which may race with each other
// as they may with the device; addresses, which do not change; and facts about pages, which others
// may change at any time.
unsafe impl<D: ProviderRef> Sync for Sgl<D> {}

impl<D: ProviderRef> Sgl<D> {
    /// # Safety
    ///
    /// `dev` must be bound, and have a pool.
    #[inline]
    unsafe fn new(dev: D, length: u32) -> Result<Self> {
        if length == 0 || length % 4 != 0 {
            return Err(EINVAL);
        }

        // Not `pci_p2pmem_alloc_sgl()`, which does the same by `sg_set_buf()`: with CONFIG_DEBUG_SG
        // that dies of device memory on arm64, see Documentation/p2pdma/kernel-issues.rst.
        let sgl = Self::new_list(1)?;
        // SAFETY: `raw::pci_dev()` returns a valid `struct pci_dev`, which has a pool by the safety
        // requirement.
        // CAST: 32 bits to 64.
        let addr = unsafe { bindings::pci_alloc_p2pmem(raw::pci_dev(&*dev), length as usize) };
        let addr = NonNull::new(addr).ok_or(ENOMEM)?;
        let sgl = ManuallyDrop::new(sgl).as_mut_ptr();

        // SAFETY: There is one entry. The memory has a linear mapping, and pages.
        unsafe { helpers::p2pdma_helper_sg_set_p2pmem(sgl, addr.as_ptr(), length) };

        // INVARIANT: Made just now, as `pci_p2pmem_alloc_sgl()` does it; not mapped.
        Ok(Self {
            dev,
            table: bindings::sg_table {
                sgl,
                nents: 1,
                orig_nents: 1,
            },
        })
    }

    /// A list with room for `nents` entries, which are empty: from `kmalloc()`, as
    /// `pci_p2pmem_free_sgl()` frees it with `kfree()`.
    fn new_list(nents: usize) -> Result<KVec<bindings::scatterlist>> {
        let entries = c_uint::try_from(nents)?;
        if entries == 0 {
            return Err(EINVAL);
        }
        // The caller is told if there is no such memory; nobody else needs to be.
        let mut list = KVec::with_capacity(nents, GFP_KERNEL | __GFP_NOWARN)?;

        // SAFETY: There is room for as many entries, and at least one.
        unsafe { bindings::sg_init_table(list.as_mut_ptr(), entries) };
        Ok(list)
    }

    /// A list of several pieces of memory of one pool, each an entry. What holds the pieces may be
    /// any kind of vector; the list itself is contiguous.
    ///
    /// C: none; `pci_p2pmem_alloc_sgl()` makes lists of one entry only, but callers and
    /// `pci_p2pmem_free_sgl()` take any. May sleep.
    ///
    /// # Errors
    ///
    /// The memory goes back to its pool then.
    ///
    /// - [`EINVAL`] if there is no memory, not all of it is from the same device, or a piece is
    ///   4 GiB and more.
    /// - [`ENOMEM`] if there is no memory for the list itself.
    #[doc(alias = "sg_init_table")]
    pub fn gather<A: Allocator>(memory: Vec<Memory<D>, A>) -> Result<Self> {
        let nents = c_uint::try_from(memory.len())?;
        let sgl = Self::new_list(memory.len())?;

        for piece in &memory {
            u32::try_from(piece.size())?;
            if !core::ptr::eq(piece.device(), memory[0].device()) {
                return Err(EINVAL);
            }
        }

        let sgl = ManuallyDrop::new(sgl).as_mut_ptr();
        let mut owner = None;
        for (i, piece) in memory.into_iter().enumerate() {
            let (dev, addr, size) = piece.into_raw();

            // SAFETY: There is an entry for each piece. The memory has a linear mapping, and pages.
            // CAST: Checked above.
            unsafe { helpers::p2pdma_helper_sg_set_p2pmem(sgl.add(i), addr, size as c_uint) };
            owner = Some(dev);
        }

        // INVARIANT: Each entry has memory of this device's pool, which now belongs to the list.
        Ok(Self {
            // There is at least one.
            dev: owner.ok_or(EINVAL)?,
            table: bindings::sg_table {
                sgl,
                nents,
                orig_nents: nents,
            },
        })
    }

    /// The device that provides the memory.
    #[inline]
    pub fn device(&self) -> &pci::Device {
        &self.dev
    }

    /// Number of entries.
    #[inline]
    pub fn len(&self) -> usize {
        // CAST: `unsigned int` to `usize`.
        self.table.orig_nents as usize
    }

    /// Always `false`: there is no list without entries.
    #[inline]
    pub fn is_empty(&self) -> bool {
        false
    }

    /// The io accessors of each entry's memory, in the order of the list.
    pub fn segments(&self) -> Segments<'_> {
        Segments {
            next: NonNull::new(self.table.sgl),
            left: self.len(),
            table: core::marker::PhantomData,
        }
    }

    /// Entry `index` as it is: see [`Self::raw_entries()`].
    pub(crate) fn raw_entry(&self, index: usize) -> Option<(NonNull<bindings::page>, u32, u32)> {
        self.raw_entries().nth(index)
    }

    /// The entries as they are: first page, offset in it, length in bytes.
    fn raw_entries(&self) -> impl Iterator<Item = (NonNull<bindings::page>, u32, u32)> + '_ {
        self.entries().filter_map(|entry| {
            // SAFETY: The entry is valid while `self` is borrowed.
            let (page, offset, len) = unsafe {
                (
                    helpers::p2pdma_helper_sg_page(entry.as_ptr()),
                    (*entry.as_ptr()).offset,
                    (*entry.as_ptr()).length,
                )
            };
            Some((NonNull::new(page)?, offset, len))
        })
    }

    /// The entries as they are in the list.
    fn entries(&self) -> impl Iterator<Item = NonNull<bindings::scatterlist>> + '_ {
        let mut segments = self.segments();

        core::iter::from_fn(move || segments.next_raw())
    }

    /// Addresses on the PCI bus of the entries' memory, in the order of the list: what a peer below
    /// the same switch uses.
    ///
    /// C: `pci_p2pmem_virt_to_bus()`. Any context.
    pub fn bus_addresses(&self) -> impl Iterator<Item = BusAddress> + '_ {
        self.entries().map(|entry| {
            // SAFETY: The entry is valid while `self` is borrowed, and has memory of the pool of
            // `self.dev`, which cannot go while the memory is allocated (see the lifetime argument
            // in the crate's documentation).
            unsafe {
                bindings::pci_p2pmem_virt_to_bus(
                    raw::pci_dev(&*self.dev),
                    helpers::p2pdma_helper_sg_virt(entry.as_ptr()),
                )
            }
        })
    }

    /// All pages of the memory, in the order of the list.
    pub fn pages(&self) -> impl Iterator<Item = BorrowedPage<'_>> + '_ {
        self.raw_entries().flat_map(|(first, _, len)| {
            // CAST: 32 bits to 64.
            (0..(len as usize).div_ceil(PAGE_SIZE)).map(move |i| {
                // SAFETY: The memory of an entry is contiguous, and so are its `struct page`s; it
                // is allocated while `self` is borrowed.
                unsafe { BorrowedPage::from_raw(first.add(i)) }
            })
        })
    }

    /// Maps the list for DMA by `client`, which takes the list over.
    ///
    /// Whether the addresses are bus addresses, addresses that the host bridge forwards, or I/O
    /// virtual addresses of the client's IOMMU, is the kernel's choice: see
    /// [`EntryExt::is_bus_address()`].
    ///
    /// C: `dma_map_sgtable()`. May sleep.
    ///
    /// # Errors
    ///
    /// The memory goes back to its pool then.
    ///
    /// - `EREMOTEIO` if the client cannot reach the memory. The kernel says why in its log if it is
    ///   asked for the first time about this pair, since the provider was bound; so not after
    ///   [`find()`](crate::orchestrator::distance::find), where
    ///   [`distance()`](crate::orchestrator::distance::distance) with [`Report::Verbose`] tells.
    /// - [`EINVAL`] if `dir` is [`DataDirection::None`], or an entry is longer than the client
    ///   takes (`dma_get_max_seg_size()`, 64 KiB where its driver does not say), or crosses what
    ///   must not be crossed (`dma_get_seg_boundary()`, 4 GiB where its driver does not say).
    /// - [`ERANGE`] if the memory lies beyond the addresses that the client's DMA mask covers, and
    ///   no IOMMU translates for it. The kernel would warn, or copy the memory with the CPU, or
    ///   hand out an address that the client cannot use.
    /// - [`EOPNOTSUPP`] if the client's DMA operations do not know peer-to-peer memory
    ///   (`dma_pci_p2pdma_supported()`), or if its DMA goes through bounce buffers, as that of
    ///   untrusted devices: the kernel does not ask there whether the pair is supported.
    /// - [`ENOMEM`], [`EIO`], [`EINVAL`] as `dma_map_sgtable()`.
    ///
    /// [`Report::Verbose`]: crate::orchestrator::distance::Report::Verbose
    #[doc(alias = "dma_map_sgtable")]
    #[inline]
    pub fn map<'a>(self, client: Client<'a>, dir: DataDirection) -> Result<MappedSgl<'a, D>> {
        self.try_map(client, dir)
            .map_err(|not_mapped| not_mapped.error)
    }

    /// The same, but the list comes back with the error.
    ///
    /// # Errors
    ///
    /// As [`Self::map()`].
    #[inline]
    pub fn try_map<'a>(
        mut self,
        client: Client<'a>,
        dir: DataDirection,
    ) -> Result<MappedSgl<'a, D>, NotMapped<D>> {
        let client = client.bound();

        if matches!(dir, DataDirection::None) {
            return Err(NotMapped {
                error: EINVAL,
                table: self,
            });
        }

        // SAFETY: `raw::device()` returns a valid `struct device` of a PCI device (the only kind of
        // a `Client`), which is bound and has a DMA mask. By the type invariant `self.table` is a
        // valid list with entries of one provider's memory, and not mapped.
        let ret = unsafe {
            helpers::p2pdma_helper_map_sgtable(raw::device(client), &mut self.table, dir.into())
        };

        match ret {
            // INVARIANT: Mapped just now.
            0 => Ok(MappedSgl {
                table: ManuallyDrop::new(self),
                client,
                dir,
            }),
            // The helper has left nothing in the entries.
            errno => Err(NotMapped {
                error: Error::from_errno(errno),
                table: self,
            }),
        }
    }
}

/// A list that could not be mapped; see [`Sgl::try_map()`].
pub struct NotMapped<D: ProviderRef> {
    /// Why.
    pub error: Error,
    /// The list.
    pub table: Sgl<D>,
}

impl Sgl<ARef<pci::Device>> {
    /// Maps the list for DMA by `client` until the mapping is dropped, or the client is unbound
    /// from its driver, whichever is first: the mapping is a managed resource of the client.
    ///
    /// It may be leaked: what ends the mapping is code of this library, which stays as long as the
    /// mapping does, also when the module that made it is gone.
    ///
    /// For orchestrators that keep mappings in structures of their own. The memory is given back
    /// together with the mapping; and to the provider, `client` is one more that holds memory of
    /// it, for which an unbind of the provider's driver waits.
    ///
    /// C: `dma_map_sgtable()` and `devm_add_action()`. May sleep.
    ///
    /// # Errors
    ///
    /// The memory goes back to its pool then. As [`Self::map()`].
    pub fn map_devres(self, client: Client<'_>, dir: DataDirection) -> Result<Devres<ManagedSgl>> {
        self.map(client, dir)?
            .into_devres()
            .map_err(|not_managed| not_managed.error)
    }
}

impl<'a> MappedSgl<'a, ARef<pci::Device>> {
    /// The same mapping, from now on a managed resource of the client; see
    /// [`Sgl::map_devres()`].
    ///
    /// C: `devm_add_action()`. May sleep.
    ///
    /// # Errors
    ///
    /// [`ENOMEM`]. The mapping comes back with it.
    pub fn into_devres(self) -> Result<Devres<ManagedSgl>, NotManaged<'a>> {
        let client = self.client;
        let mut mapped = Some(self);

        Devres::new(
            client,
            pin_init::init_scope(|| {
                // SAFETY: This is put into a `Devres` of the client.
                let managed = |mapped| unsafe { ManagedSgl::new(mapped) };

                Ok::<_, Error>(mapped.take().map(managed).ok_or(ENOMEM))
            }),
        )
        .map_err(|error| NotManaged { error, mapped })
    }
}

/// A mapping that could not be made a managed one; see [`MappedSgl::into_devres()`].
pub struct NotManaged<'a> {
    /// Why.
    pub error: Error,
    /// The mapping. `None` if it had been made a managed one already, and was ended again: nothing
    /// in `Devres` fails so late.
    pub mapped: Option<MappedSgl<'a, ARef<pci::Device>>>,
}

/// A scatterlist of peer-to-peer memory, mapped for DMA by one client for as long as that is bound;
/// see [`Sgl::map_devres()`].
///
/// # Invariants
///
/// - `table` is mapped for `client` in direction `dir`, and not used any more once it was taken out
///   by the drop.
/// - `client` is bound, as it was all the time since then.
pub struct ManagedSgl {
    table: ManuallyDrop<Sgl<ARef<pci::Device>>>,
    client: ARef<Device>,
    dir: DataDirection,
    // Last: what drops the others is code of the library.
    _library: Library,
}

// SAFETY: As for `Sgl`; a mapping belongs to no thread.
unsafe impl Send for ManagedSgl {}

// SAFETY: As for `Sgl`.
unsafe impl Sync for ManagedSgl {}

impl ManagedSgl {
    /// # Safety
    ///
    /// It must be put into a `Devres` of the client, which drops it before the client is unbound.
    unsafe fn new(mapped: MappedSgl<'_, ARef<pci::Device>>) -> Self {
        let mut mapped = ManuallyDrop::new(mapped);

        // INVARIANT: Mapped, as it was; the client is bound now, and until this is dropped, by the
        // safety requirement.
        Self {
            // SAFETY: `mapped` is not dropped, and goes out of scope here: nobody takes the table
            // out again.
            table: ManuallyDrop::new(unsafe { ManuallyDrop::take(&mut mapped.table) }),
            client: mapped.client.into(),
            dir: mapped.dir,
            _library: Library::keep(),
        }
    }

    /// The list itself, for the io accessors of its memory.
    pub fn table(&self) -> &Sgl<ARef<pci::Device>> {
        &self.table
    }
}

impl Deref for ManagedSgl {
    type Target = SGTable;

    fn deref(&self) -> &Self::Target {
        let table = core::ptr::from_ref(&self.table.table).cast_mut();

        // SAFETY: `table` is a valid `struct sg_table`, which is changed by nobody while `self` is
        // borrowed.
        unsafe { SGTable::from_raw(table) }
    }
}

impl Drop for ManagedSgl {
    fn drop(&mut self) {
        let client = raw::device(&self.client);

        // SAFETY: By the type invariant the table is mapped for this client in this direction. The
        // client is bound: its `Devres` drops this while the managed resources are released, when
        // its DMA operations are still there.
        unsafe { bindings::dma_unmap_sgtable(client, &mut self.table.table, self.dir.into(), 0) };
        // SAFETY: `self` is being dropped, so the field is neither dropped nor used once more.
        unsafe { ManuallyDrop::drop(&mut self.table) };
    }
}

impl<D: ProviderRef> Drop for Sgl<D> {
    #[inline]
    fn drop(&mut self) {
        // SAFETY: By the type invariant the list was made by `pci_p2pmem_alloc_sgl()` for this
        // device, or in the same way, is not freed, and not mapped. The pool is there as long as
        // memory of it is allocated (see the lifetime argument in the crate's documentation).
        unsafe { bindings::pci_p2pmem_free_sgl(raw::pci_dev(&*self.dev), self.table.sgl) };
    }
}

/// Iterator over the io accessors of a scatterlist's entries; see [`Sgl::segments()`].
///
/// # Invariants
///
/// `next` is an entry of a list that is not freed for `'a`, and `left` entries follow from it on,
/// itself included.
pub struct Segments<'a> {
    next: Option<NonNull<bindings::scatterlist>>,
    left: usize,
    table: core::marker::PhantomData<&'a ()>,
}

impl Segments<'_> {
    /// The next entry as it is in the list.
    fn next_raw(&mut self) -> Option<NonNull<bindings::scatterlist>> {
        let entry = self.next.filter(|_| self.left > 0)?;

        // SAFETY: `entry` is a valid entry by the type invariant.
        let next = unsafe { bindings::sg_next(entry.as_ptr()) };

        // INVARIANT: `sg_next()` returns the entry after `entry`, or NULL.
        self.next = NonNull::new(next);
        self.left -= 1;
        Some(entry)
    }
}

impl<'a> Iterator for Segments<'a> {
    type Item = Mmio<'a>;

    fn next(&mut self) -> Option<Self::Item> {
        let entry = self.next_raw()?;

        // SAFETY: `entry` is a valid entry by the type invariant, of memory that has a kernel
        // address (`memremap_pages()` mapped it).
        let (addr, len) = unsafe {
            (
                helpers::p2pdma_helper_sg_virt(entry.as_ptr()),
                (*entry.as_ptr()).length,
            )
        };
        // Does not fail: the memory is page aligned and `Sgl::new()` allows multiples of 4
        // only.
        //
        // SAFETY: The memory is mapped, and stays so for `'a`: it is allocated while the list
        // exists (see the lifetime argument in the crate's documentation).
        unsafe { mmio(addr.addr(), len as usize) }
    }
}

/// A scatterlist of peer-to-peer memory, mapped for DMA by one client; unmapped, and given back to
/// its pool, when dropped.
///
/// It is an [`SGTable`] of the kernel crate: [`SGTable::iter()`] yields its entries, with the
/// addresses that the client uses.
///
/// # Invariants
///
/// - `table` is mapped for `client` in direction `dir`.
/// - `table` is not used any more once it was taken out by [`Self::unmap()`] or the drop.
pub struct MappedSgl<'a, D: ProviderRef> {
    table: ManuallyDrop<Sgl<D>>,
    client: &'a Device<Bound>,
    dir: DataDirection,
}

impl<D: ProviderRef> MappedSgl<'_, D> {
    /// The list itself, for the io accessors of its memory.
    pub fn table(&self) -> &Sgl<D> {
        &self.table
    }

    /// Ends the mapping, and returns the list.
    ///
    /// C: `dma_unmap_sgtable()`. May sleep.
    #[doc(alias = "dma_unmap_sgtable")]
    #[inline]
    pub fn unmap(self) -> Sgl<D> {
        let mut this = ManuallyDrop::new(self);
        // SAFETY: `this` is not dropped, and goes out of scope here: nobody takes it out again.
        let mut table = unsafe { ManuallyDrop::take(&mut this.table) };

        // SAFETY: By the type invariant the table is mapped, for this client and in this direction.
        // `this` is not dropped, so this is not done once more. The client is bound, as when it was
        // mapped. The helper leaves nothing in the entries, as an `Sgl` that is not mapped has it.
        unsafe {
            helpers::p2pdma_helper_unmap_sgtable(
                raw::device(this.client),
                &mut table.table,
                this.dir.into(),
            )
        };
        table
    }
}

impl<D: ProviderRef> Deref for MappedSgl<'_, D> {
    type Target = SGTable;

    fn deref(&self) -> &Self::Target {
        let table = core::ptr::from_ref(&self.table.table).cast_mut();

        // SAFETY: `table` is a valid `struct sg_table`, which is changed by nobody while `self` is
        // borrowed.
        unsafe { SGTable::from_raw(table) }
    }
}

impl<D: ProviderRef> Drop for MappedSgl<'_, D> {
    #[inline]
    fn drop(&mut self) {
        let table = &mut self.table.table;

        // SAFETY: Whoever ended the mapping before forgot `self`, so it is mapped; by the type
        // invariant for this client and in this direction. The client is bound, as when it was
        // mapped.
        unsafe { bindings::dma_unmap_sgtable(raw::device(self.client), table, self.dir.into(), 0) };
        // SAFETY: `self` is being dropped, so the field is neither dropped nor used once more.
        unsafe { ManuallyDrop::drop(&mut self.table) };
    }
}

/// What [`SGEntry`] lacks for peer-to-peer memory.
pub trait EntryExt {
    /// Whether the address is one on the PCI bus, which the client's requests carry unchanged to
    /// the provider, through neither host bridge nor IOMMU.
    ///
    /// C: `sg_dma_is_bus_address()`.
    #[doc(alias = "sg_dma_is_bus_address")]
    fn is_bus_address(&self) -> bool;
}

impl EntryExt for SGEntry {
    fn is_bus_address(&self) -> bool {
        // CAST: `SGEntry` is a transparent wrapper of `struct scatterlist`.
        let entry = core::ptr::from_ref(self).cast_mut().cast();

        // SAFETY: `entry` is a valid entry for as long as `self` is borrowed.
        unsafe { helpers::p2pdma_helper_sg_is_bus_address(entry) }
    }
}

/// How the kernel maps a provider's memory for a client.
///
/// C: `enum pci_p2pdma_map_type`. `PCI_P2PDMA_MAP_UNKNOWN` and `PCI_P2PDMA_MAP_NONE` have no
/// variant: the former is internal to the C code, the latter means that the memory is not
/// peer-to-peer memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[doc(alias = "pci_p2pdma_map_type")]
pub enum MapType {
    /// `PCI_P2PDMA_MAP_NOT_SUPPORTED`: the traffic would cross a host bridge that is not known to
    /// forward it.
    #[doc(alias = "PCI_P2PDMA_MAP_NOT_SUPPORTED")]
    NotSupported,
    /// `PCI_P2PDMA_MAP_BUS_ADDR`: the traffic stays below a switch (or a multifunction device).
    #[doc(alias = "PCI_P2PDMA_MAP_BUS_ADDR")]
    BusAddr,
    /// `PCI_P2PDMA_MAP_THRU_HOST_BRIDGE`: the traffic crosses a host bridge that forwards it.
    #[doc(alias = "PCI_P2PDMA_MAP_THRU_HOST_BRIDGE")]
    ThruHostBridge,
}

impl MapType {
    /// Finds out by mapping one page of `pool` for `client`, and looking at the address.
    ///
    /// The kernel does not export `pci_p2pdma_map_type()`, and
    /// [`distance()`](crate::orchestrator::distance::distance) does not tell the two supported
    /// types apart. What a mapping says is what counts in the end. May sleep.
    ///
    /// # Errors
    ///
    /// - [`ENOMEM`] if the pool is exhausted.
    /// - As [`Sgl::map()`], but for the error that means [`MapType::NotSupported`].
    #[doc(alias = "pci_p2pdma_map_type")]
    pub fn probe(pool: Pool<'_>, client: Client<'_>) -> Result<Self> {
        // CAST: The page size fits.
        let table = pool.alloc_sgl(kernel::page::PAGE_SIZE as u32)?;

        let mapped = match table.map(client, DataDirection::Bidirectional) {
            Ok(mapped) => mapped,
            Err(e) if e.to_errno() == -(bindings::EREMOTEIO as c_int) => {
                return Ok(Self::NotSupported)
            }
            Err(e) => return Err(e),
        };
        let bus_address = mapped.iter().all(|entry| entry.is_bus_address());

        Ok(if bus_address {
            Self::BusAddr
        } else {
            Self::ThruHostBridge
        })
    }
}
