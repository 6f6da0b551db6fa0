// SPDX-License-Identifier: GPL-2.0

//! Facts about a page: whether it is peer-to-peer memory, whose, and where in the pool.
//!
//! C headers: [`include/linux/memremap.h`](srctree/include/linux/memremap.h),
//! [`include/linux/page_ref.h`](srctree/include/linux/page_ref.h)

use crate::bindings as helpers;
use core::{
    marker::PhantomData,
    ptr::NonNull, //
};
use kernel::{
    bindings,
    io::PhysAddr, //
};

/// What a pin adds to the reference count of a page (`GUP_PIN_COUNTING_BIAS`).
pub const PIN_BIAS: i32 = bindings::GUP_PIN_COUNTING_BIAS as i32;

/// A page that stays for `'a`.
///
/// # Invariants
///
/// For `'a`, `page` is a valid `struct page`: a reference is held on it, or it is memory that is
/// allocated from a provider's pool, or it belongs to a provider that is bound.
#[derive(Clone, Copy)]
pub struct PageRef<'a> {
    page: NonNull<bindings::page>,
    holder: PhantomData<&'a ()>,
}

/// Where a page of peer-to-peer memory is.
///
/// A pool of several ranges has no order, and so no offsets of its own: its pages are told apart by
/// `phys`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Location {
    /// CPU physical address of the page.
    pub phys: PhysAddr,
    /// Offset of the page in the range that was registered with it, in bytes.
    pub offset: u64,
    /// Size of that range in bytes.
    pub range: u64,
}

impl<'a> PageRef<'a> {
    /// For abstractions of other parts of the kernel that hand out pages.
    ///
    /// # Safety
    ///
    /// `page` must be as the type invariant says, for `'a`.
    #[inline]
    pub unsafe fn from_raw(page: NonNull<bindings::page>) -> Self {
        // INVARIANT: By the safety requirement.
        Self {
            page,
            holder: PhantomData,
        }
    }

    /// Whether it is a page of peer-to-peer memory.
    ///
    /// C: `is_pci_p2pdma_page()`. Any context.
    #[doc(alias = "is_pci_p2pdma_page")]
    #[inline]
    pub fn is_p2pdma(&self) -> bool {
        // SAFETY: The page is valid by the type invariant.
        unsafe { helpers::p2pdma_helper_is_p2pdma_page(self.page.as_ptr()) }
    }

    /// Its reference count. A pin counts as [`PIN_BIAS`] references.
    ///
    /// Others may change it at any time: what is asserted on it has to hold for all of them.
    ///
    /// C: `page_ref_count()`. Any context.
    #[doc(alias = "page_ref_count")]
    #[inline]
    pub fn ref_count(&self) -> i32 {
        // SAFETY: The page is valid by the type invariant.
        unsafe { helpers::p2pdma_helper_page_ref_count(self.page.as_ptr()) }
    }

    /// Its CPU physical address.
    ///
    /// C: `page_to_phys()`. Any context.
    #[doc(alias = "page_to_phys")]
    #[inline]
    pub fn phys(&self) -> PhysAddr {
        // SAFETY: The page is valid by the type invariant.
        unsafe { helpers::p2pdma_helper_page_to_phys(self.page.as_ptr()) }
    }

    /// Where it is in its provider's memory; [`None`] if it is no peer-to-peer memory.
    ///
    /// C: `page_pgmap()` and its range. Any context.
    #[doc(alias = "page_pgmap")]
    pub fn location(&self) -> Option<Location> {
        if !self.is_p2pdma() {
            return None;
        }

        let mut range = bindings::range::default();
        // SAFETY: The page is one of device memory, as just checked, so it has a `pgmap`, which
        // stays as long as the page (the lifetime argument in the crate's documentation).
        unsafe { helpers::p2pdma_helper_page_range(self.page.as_ptr(), &mut range) };

        let phys = self.phys();
        Some(Location {
            phys,
            // The page is within its range.
            offset: phys - range.start,
            range: range.end - range.start + 1,
        })
    }
}
