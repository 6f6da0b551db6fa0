// SPDX-License-Identifier: GPL-2.0

//! User pages that are held, and room for them.
//!
//! C header: [`include/linux/mm.h`](srctree/include/linux/mm.h); see also
//! [`Documentation/core-api/pin_user_pages.rst`].
//!
//! [`Documentation/core-api/pin_user_pages.rst`]: srctree/Documentation/core-api/pin_user_pages.rst
//!
//! The array that the kernel writes the pages to belongs to the caller, as in C: [`Room`] is an
//! array on the stack, or a [`PageArray`] that is allocated once and lent to call after call.
//! Nothing is allocated here for a call.
//!
//! In the kernel's tree this would be `rust/kernel/mm/pages.rs`, of the maintainers of memory
//! management in Rust.

use crate::bindings as helpers;
use core::{
    marker::PhantomData,
    mem::MaybeUninit,
    ptr::NonNull, //
};
use kernel::{
    bindings,
    page::BorrowedPage,
    prelude::*, //
};

/// Most pages that one call takes: 1 GiB of 4 KiB pages.
pub const MAX_PAGES: usize = 1 << 18;

/// Room for one page.
#[repr(transparent)]
pub struct Slot(MaybeUninit<*mut bindings::page>);

impl Slot {
    /// With nothing in it: `[Slot::EMPTY; 4]` is room for four pages.
    #[allow(clippy::declare_interior_mutable_const)]
    pub const EMPTY: Self = Self(MaybeUninit::uninit());
}

// SAFETY: Room alone gives access to no page; see `UserPages` for pages that are in it.
unsafe impl Send for Slot {}

// SAFETY: As it can be sent: a reference to room gives access to nothing.
unsafe impl Sync for Slot {}

/// Room for pages: for as many as it has [`Slot`]s, which are one at least, and at most
/// [`MAX_PAGES`].
pub trait Room: private::Sealed {
    /// The slots: always the same, at the same place in memory for as long as `self` is not moved.
    #[doc(hidden)]
    fn slots(&self) -> &[Slot];

    /// The same, to be written.
    #[doc(hidden)]
    fn slots_mut(&mut self) -> &mut [Slot];
}

mod private {
    pub trait Sealed {}

    impl<const N: usize> Sealed for [super::Slot; N] {}
    impl Sealed for super::PageArray {}
    impl<R: super::Room> Sealed for &mut R {}

    impl Sealed for super::Pin {}
    impl Sealed for super::Get {}
}

impl<const N: usize> Room for [Slot; N] {
    #[inline]
    fn slots(&self) -> &[Slot] {
        const { assert!(N > 0 && N <= MAX_PAGES) };
        self
    }

    #[inline]
    fn slots_mut(&mut self) -> &mut [Slot] {
        const { assert!(N > 0 && N <= MAX_PAGES) };
        self
    }
}

/// Room that was allocated, for many pages, or to be used by many calls.
///
/// C: `kvmalloc_array()` of `struct page *`.
///
/// # Invariants
///
/// `slots` has at least one, and at most [`MAX_PAGES`].
#[doc(alias = "kvmalloc_array")]
pub struct PageArray {
    slots: KVVec<Slot>,
}

impl PageArray {
    /// Room for `pages` pages. May sleep: allocates.
    ///
    /// # Errors
    ///
    /// - [`EINVAL`] if there are none.
    /// - [`E2BIG`] if there are more than [`MAX_PAGES`].
    /// - [`ENOMEM`].
    pub fn new(pages: usize) -> Result<Self> {
        if pages == 0 {
            return Err(EINVAL);
        }
        if pages > MAX_PAGES {
            return Err(E2BIG);
        }

        let mut slots = KVVec::with_capacity(pages, GFP_KERNEL)?;
        // SAFETY: There is capacity for that many, none is in it yet, and a slot is valid with
        // nothing in it.
        unsafe { slots.inc_len(pages) };

        // INVARIANT: Checked above.
        Ok(Self { slots })
    }

    /// Number of pages that there is room for.
    pub fn capacity(&self) -> usize {
        self.slots.len()
    }
}

impl Room for PageArray {
    #[inline]
    fn slots(&self) -> &[Slot] {
        &self.slots
    }

    #[inline]
    fn slots_mut(&mut self) -> &mut [Slot] {
        &mut self.slots
    }
}

impl<R: Room> Room for &mut R {
    #[inline]
    fn slots(&self) -> &[Slot] {
        (**self).slots()
    }

    #[inline]
    fn slots_mut(&mut self) -> &mut [Slot] {
        (**self).slots_mut()
    }
}

/// How pages are held, and so how they are released: [`Pin`] or [`Get`].
pub trait Hold: private::Sealed {
    /// Marks pages dirty, if asked to, and releases them. May sleep.
    ///
    /// # Safety
    ///
    /// `pages` must be an array of `len` pages, on each of which one hold of this kind is given up.
    #[doc(hidden)]
    unsafe fn release(pages: *mut *mut bindings::page, len: usize, dirty: bool);
}

/// Pages that are pinned (`FOLL_PIN`): released with `unpin_user_pages_dirty_lock()`.
pub enum Pin {}

/// Pages that are referenced (`FOLL_GET`): released with `put_page()`.
pub enum Get {}

impl Hold for Pin {
    #[inline]
    unsafe fn release(pages: *mut *mut bindings::page, len: usize, dirty: bool) {
        // SAFETY: By the safety requirements each of the pages is pinned, and unpinned once here.
        // CAST: Both have 64 bits.
        unsafe { bindings::unpin_user_pages_dirty_lock(pages, len as c_ulong, dirty) }
    }
}

impl Hold for Get {
    #[inline]
    unsafe fn release(pages: *mut *mut bindings::page, len: usize, dirty: bool) {
        for i in 0..len {
            // SAFETY: `i` is within the array, by the safety requirements.
            let page = unsafe { *pages.add(i) };

            if dirty {
                // SAFETY: By the safety requirements there is still a reference on the page.
                unsafe { bindings::set_page_dirty_lock(page) };
            }
            // SAFETY: By the safety requirements there is a reference on the page to be given up;
            // each page is visited once.
            unsafe { helpers::p2pdma_helper_put_page(page) };
        }
    }
}

/// User pages that are held, released when dropped, which may sleep; marked dirty before, if they
/// were taken to be written.
///
/// C: an array of pages, released with `unpin_user_pages_dirty_lock()`, or with
/// `set_page_dirty_lock()` and `put_page()`.
///
/// # Invariants
///
/// The first `len` slots of `room` hold pages, on each of which this object has one hold of kind
/// `H`.
#[doc(alias = "unpin_user_pages_dirty_lock")]
#[doc(alias = "unpin_user_page")]
#[doc(alias = "put_page")]
pub struct UserPages<R: Room, H: Hold> {
    room: R,
    len: usize,
    dirty: bool,
    hold: PhantomData<H>,
}

impl<R: Room, H: Hold> UserPages<R, H> {
    /// # Safety
    ///
    /// The first `len` slots of `room` must hold pages, on each of which one hold of kind `H` is
    /// handed over.
    #[inline]
    pub(super) unsafe fn new(room: R, len: usize, dirty: bool) -> Self {
        // INVARIANT: By the safety requirements.
        Self {
            room,
            len,
            dirty,
            hold: PhantomData,
        }
    }

    /// What a C function left in `room`, which returned how many pages it took, or an error number.
    ///
    /// # Safety
    ///
    /// If `got` is positive, that many pages must be in `room`, on each of which one hold of kind
    /// `H` is handed over.
    #[inline]
    pub(super) unsafe fn from_return(room: R, got: isize, dirty: bool) -> Result<Self> {
        if got < 0 {
            // CAST: Error numbers are small.
            return Err(Error::from_errno(got as c_int));
        }

        // SAFETY: By the safety requirements.
        // CAST: Not negative.
        Ok(unsafe { Self::new(room, got as usize, dirty) })
    }

    /// Number of pages: fewer than asked for where the kernel stopped in the middle, also none.
    #[inline]
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether the kernel took none.
    #[inline]
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    fn raw(&self) -> impl ExactSizeIterator<Item = NonNull<bindings::page>> + '_ {
        self.room.slots().iter().take(self.len).map(|slot| {
            // SAFETY: By the type invariant there is a page in each of the first `len` slots, and
            // a pointer to a page is not NULL.
            unsafe { NonNull::new_unchecked(slot.0.assume_init()) }
        })
    }

    /// The pages, in the order of their user addresses. Facts about them are in
    /// [`PageExt`](crate::page::PageExt).
    pub fn iter(&self) -> impl ExactSizeIterator<Item = BorrowedPage<'_>> + '_ {
        self.raw().map(|page| {
            // SAFETY: By the type invariant the page is held, and so valid, while `self` is
            // borrowed.
            unsafe { BorrowedPage::from_raw(page) }
        })
    }

    /// Takes a plain reference on each of the pages: they stay when those in `self` are released.
    ///
    /// C: `try_get_page()`. Any context.
    ///
    /// # Errors
    ///
    /// - [`E2BIG`] if `room` is too small.
    /// - [`ENOMEM`] if a page has as many references as it can count.
    #[doc(alias = "get_page")]
    #[doc(alias = "try_get_page")]
    pub fn reference<S: Room>(&self, room: S) -> Result<UserPages<S, Get>> {
        if room.slots().len() < self.len {
            return Err(E2BIG);
        }

        // SAFETY: There are no pages in it yet.
        let mut taken = unsafe { UserPages::new(room, 0, false) };

        for (i, page) in self.raw().enumerate() {
            // SAFETY: By the type invariant `self` holds the page already, so it is valid and has
            // a reference.
            if !unsafe { helpers::p2pdma_helper_try_get_page(page.as_ptr()) } {
                return Err(ENOMEM);
            }
            taken.room.slots_mut()[i].0.write(page.as_ptr());
            // INVARIANT: The page in the next slot has a reference that was taken just now.
            taken.len = i + 1;
        }
        Ok(taken)
    }
}

impl<R: Room, H: Hold> Drop for UserPages<R, H> {
    #[inline]
    fn drop(&mut self) {
        let pages = as_array(&mut self.room);

        // SAFETY: By the type invariant there are `len` pages in the room, which are held, and this
        // object is not used any more.
        unsafe { H::release(pages, self.len, self.dirty) }
    }
}

/// The room as C has it.
#[inline]
pub(super) fn as_array<R: Room>(room: &mut R) -> *mut *mut bindings::page {
    // CAST: A slot is a transparent wrapper of a pointer that may not be initialized.
    room.slots_mut().as_mut_ptr().cast()
}
