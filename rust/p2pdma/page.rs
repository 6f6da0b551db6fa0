// SPDX-License-Identifier: GPL-2.0

//! Facts about a page: whether it is peer-to-peer memory, and where in a provider's memory. Whose
//! it is, is known to [`provider`](crate::provider::PageOwner).
//!
//! C headers: [`include/linux/memremap.h`](srctree/include/linux/memremap.h),
//! [`include/linux/page_ref.h`](srctree/include/linux/page_ref.h)
//!
//! In the kernel's tree this would be a part of `rust/kernel/page.rs`, of the maintainers of memory
//! management in Rust.

use crate::bindings as helpers;
use kernel::{
    bindings,
    io::PhysAddr,
    page::Page, //
};

/// What a pin adds to the reference count of a page (`GUP_PIN_COUNTING_BIAS`).
pub const PIN_BIAS: i32 = bindings::GUP_PIN_COUNTING_BIAS as i32;

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

mod private {
    pub trait Sealed {}

    impl Sealed for kernel::page::Page {}
}

/// Facts about a [`Page`], which is valid for as long as it is borrowed
/// ([`BorrowedPage`](kernel::page::BorrowedPage)).
pub trait PageExt: private::Sealed {
    /// Whether it is a page of peer-to-peer memory.
    ///
    /// C: `is_pci_p2pdma_page()`. Any context.
    #[doc(alias = "is_pci_p2pdma_page")]
    fn is_p2pdma(&self) -> bool;

    /// Its reference count. A pin counts as [`PIN_BIAS`] references.
    ///
    /// Others may change it at any time: what is asserted on it has to hold for all of them.
    ///
    /// C: `page_ref_count()`. Any context.
    #[doc(alias = "page_ref_count")]
    fn ref_count(&self) -> i32;

    /// Its CPU physical address.
    ///
    /// C: `page_to_phys()`. Any context.
    #[doc(alias = "page_to_phys")]
    fn phys(&self) -> PhysAddr;

    /// Where it is in its provider's memory; [`None`] if it is no peer-to-peer memory.
    ///
    /// C: `page_pgmap()` and its range. Any context.
    #[doc(alias = "page_pgmap")]
    fn location(&self) -> Option<Location>;
}

impl PageExt for Page {
    #[inline]
    fn is_p2pdma(&self) -> bool {
        // SAFETY: By the type invariant of `Page` this is a valid page.
        unsafe { helpers::p2pdma_helper_is_p2pdma_page(self.as_ptr()) }
    }

    #[inline]
    fn ref_count(&self) -> i32 {
        // SAFETY: By the type invariant of `Page` this is a valid page.
        unsafe { helpers::p2pdma_helper_page_ref_count(self.as_ptr()) }
    }

    #[inline]
    fn phys(&self) -> PhysAddr {
        // SAFETY: By the type invariant of `Page` this is a valid page.
        unsafe { helpers::p2pdma_helper_page_to_phys(self.as_ptr()) }
    }

    fn location(&self) -> Option<Location> {
        if !self.is_p2pdma() {
            return None;
        }

        let mut range = bindings::range::default();
        // SAFETY: The page is one of device memory, as just checked, so it has a `pgmap`, which
        // stays as long as the page (the lifetime argument in the crate's documentation).
        unsafe { helpers::p2pdma_helper_page_range(self.as_ptr(), &mut range) };

        let phys = self.phys();
        Some(Location {
            phys,
            // The page is within its range.
            offset: phys - range.start,
            range: range.end - range.start + 1,
        })
    }
}
