// SPDX-License-Identifier: GPL-2.0

//! User pages that are taken out of an `iov_iter`, as direct I/O does.
//!
//! C header: [`include/linux/uio.h`](srctree/include/linux/uio.h)
//!
//! [`ExtractPages`] adds this to the kernel's [`IovIterDest`] and [`IovIterSource`], which a
//! driver's `read_iter()` and `write_iter()` get. [`UserIter`] makes such an iterator from
//! addresses.
//!
//! In the kernel's tree this would be a part of `rust/kernel/iov.rs`, of the maintainers of the
//! VFS in Rust.

use super::{
    current::CurrentMm,
    pages::{
        as_array,
        Pin,
        Room,
        UserPages, //
    },
};
use crate::bindings as helpers;
use core::marker::PhantomData;
use kernel::{
    bindings,
    iov::{
        IovIterDest,
        IovIterSource, //
    },
    page::{
        PAGE_SHIFT,
        PAGE_SIZE, //
    },
    prelude::*, //
};

/// Consecutive bytes of user memory, for a [`UserIter`].
///
/// C: `struct iovec`.
#[repr(transparent)]
#[doc(alias = "iovec")]
pub struct Segment(bindings::iovec);

impl Segment {
    /// `len` bytes from `addr`. Whether anything is mapped there is not checked here.
    #[inline]
    pub const fn new(addr: usize, len: usize) -> Self {
        Self(bindings::iovec {
            iov_base: core::ptr::without_provenance_mut(addr),
            iov_len: len,
        })
    }

    /// Its first address.
    pub fn addr(&self) -> usize {
        self.0.iov_base.addr()
    }

    /// Its size in bytes.
    pub fn len(&self) -> usize {
        self.0.iov_len
    }

    /// Whether it has no bytes.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Number of pages that it touches.
    pub fn pages(&self) -> usize {
        if self.is_empty() {
            return 0;
        }
        (self.addr() % PAGE_SIZE)
            .saturating_add(self.len())
            .div_ceil(PAGE_SIZE)
    }
}

impl Clone for Segment {
    fn clone(&self) -> Self {
        Self::new(self.addr(), self.len())
    }
}

/// Most segments that an iterator takes (`UIO_MAXIOV`).
pub const MAX_SEGMENTS: usize = 1024;

/// What [`ExtractPages::extract_pages()`] took from one segment.
pub struct Extracted<R: Room> {
    /// The pages, pinned.
    pub pages: UserPages<R, Pin>,
    /// Offset of the first byte in the first page.
    pub offset: usize,
    /// Number of bytes.
    pub len: usize,
}

/// What `extract_pages()` does with peer-to-peer memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PeerMemory {
    /// It is refused.
    Refuse,
    /// It is taken (`ITER_ALLOW_P2PDMA`).
    Allow,
}

/// Iterators whose user pages can be taken out: [`IovIterDest`], whose memory is going to be
/// written, and [`IovIterSource`], whose memory is going to be read.
pub trait ExtractPages: private::Sealed + Sized {
    /// `data_source` of the iterator.
    #[doc(hidden)]
    const DATA_SOURCE: u32;

    /// The kernel's type for an iterator.
    ///
    /// # Safety
    ///
    /// As `from_raw()` of that type.
    #[doc(hidden)]
    unsafe fn from_raw<'i>(iter: *mut bindings::iov_iter) -> &'i mut Self;

    /// The iterator, valid while `self` is borrowed.
    #[doc(hidden)]
    fn raw(&mut self) -> *mut bindings::iov_iter;

    /// Pins the pages of the next segment, as many as there is room for, and advances after them;
    /// [`None`] if there are no bytes left.
    ///
    /// C: `iov_iter_extract_pages()`. May sleep. To be called by the process that the memory
    /// belongs to.
    ///
    /// # Errors
    ///
    /// - [`EINVAL`] if the iterator is not one over user memory: pages of others are not pinned.
    /// - What `pin_user_pages_fast()` returns: `EREMOTEIO` for peer-to-peer memory that is not
    ///   allowed, [`EFAULT`] where nothing is mapped.
    #[doc(alias = "iov_iter_extract_pages")]
    #[inline]
    fn extract_pages<R: Room>(
        &mut self,
        _current: CurrentMm<'_>,
        mut room: R,
        peer: PeerMemory,
    ) -> Result<Option<Extracted<R>>> {
        let iter = self.raw();

        // SAFETY: `iter` is valid, and nobody else's, while `self` is borrowed.
        // CAST: Small numbers, in an enumeration.
        if u32::from(unsafe { (*iter).iter_type }) > bindings::iter_type_ITER_IOVEC {
            return Err(EINVAL);
        }
        let max = room.slots().len();
        let flags = match peer {
            PeerMemory::Refuse => 0,
            PeerMemory::Allow => helpers::P2PDMA_CONST_ITER_ALLOW_P2PDMA,
        };
        let mut pages = as_array(&mut room);
        let mut offset = 0;
        // SAFETY: `iter` is valid, as above. There is room for `max` pages, which is not NULL, so
        // that the function does not replace it. The current task has user memory,
        // as there is a `CurrentMm`.
        // CAST: At most `MAX_PAGES`, of any room.
        let got = unsafe {
            bindings::iov_iter_extract_pages(
                iter,
                &mut pages,
                usize::MAX,
                max as c_uint,
                flags,
                &mut offset,
            )
        };
        if got <= 0 {
            if got == 0 {
                return Ok(None);
            }
            // CAST: Error numbers are small.
            return Err(Error::from_errno(got as c_int));
        }

        // CAST: Positive.
        let len = got as usize;
        // What the bytes touch. Does not wrap: less than two pages, and what fits into `isize`.
        let pages = offset.wrapping_add(len).wrapping_add(PAGE_SIZE - 1) >> PAGE_SHIFT;

        // SAFETY: Of user memory, the function pinned those pages that the bytes touch, and wrote
        // them to `room`.
        let pages =
            unsafe { UserPages::new(room, pages, Self::DATA_SOURCE == bindings::ITER_DEST) };

        Ok(Some(Extracted { pages, offset, len }))
    }
}

mod private {
    pub trait Sealed {}

    impl Sealed for kernel::iov::IovIterDest<'_> {}
    impl Sealed for kernel::iov::IovIterSource<'_> {}
}

impl ExtractPages for IovIterDest<'_> {
    const DATA_SOURCE: u32 = bindings::ITER_DEST;

    #[inline]
    unsafe fn from_raw<'i>(iter: *mut bindings::iov_iter) -> &'i mut Self {
        // SAFETY: By the safety requirements.
        unsafe { IovIterDest::from_raw(iter) }
    }

    #[inline]
    fn raw(&mut self) -> *mut bindings::iov_iter {
        IovIterDest::as_raw(self)
    }
}

impl ExtractPages for IovIterSource<'_> {
    const DATA_SOURCE: u32 = bindings::ITER_SOURCE;

    #[inline]
    unsafe fn from_raw<'i>(iter: *mut bindings::iov_iter) -> &'i mut Self {
        // SAFETY: By the safety requirements.
        unsafe { IovIterSource::from_raw(iter) }
    }

    #[inline]
    fn raw(&mut self) -> *mut bindings::iov_iter {
        IovIterSource::as_raw(self)
    }
}

/// An iterator over user memory of the current process, which borrows its segments from the
/// caller: `UserIter<IovIterDest<'_>>` for memory that is going to be written, and
/// `UserIter<IovIterSource<'_>>` for memory that is going to be read.
///
/// C: `struct iov_iter` of type `ITER_UBUF` or `ITER_IOVEC`.
///
/// # Invariants
///
/// `iter` is an iterator in direction `D`, and what it refers to is valid for the lifetime in `D`.
pub struct UserIter<D: ExtractPages> {
    iter: bindings::iov_iter,
    direction: PhantomData<D>,
}

impl<D: ExtractPages> UserIter<D> {
    /// An iterator over one segment, without an array.
    ///
    /// C: `iov_iter_ubuf()`.
    #[doc(alias = "iov_iter_ubuf")]
    #[inline]
    pub fn one(segment: Segment) -> Self {
        let mut iter = bindings::iov_iter {
            // CAST: A small number, in an enumeration.
            iter_type: bindings::iter_type_ITER_UBUF as u8,
            nofault: false,
            data_source: D::DATA_SOURCE != 0,
            iov_offset: 0,
            // SAFETY: Numbers and pointers, which may be zero.
            __bindgen_anon_1: unsafe { core::mem::zeroed() },
            __bindgen_anon_2: bindings::iov_iter__bindgen_ty_2 { nr_segs: 1 },
        };
        // SAFETY: These are the members of the union that an iterator of this type has; there is
        // no other reference to `iter`.
        unsafe {
            let buffer = iter.__bindgen_anon_1.__bindgen_anon_1.as_mut();

            buffer.__bindgen_anon_1.ubuf = segment.0.iov_base;
            buffer.count = segment.0.iov_len;
        }

        // INVARIANT: In direction `D`, and there is no array of segments.
        Self {
            iter,
            direction: PhantomData,
        }
    }
}

/// An iterator over user memory that is going to be written.
pub type UserDest<'a> = UserIter<IovIterDest<'a>>;

/// An iterator over user memory that is going to be read.
pub type UserSource<'a> = UserIter<IovIterSource<'a>>;

/// Iterators that borrow what they refer to for `'a`.
pub trait Borrows<'a>: ExtractPages {}

impl<'a> Borrows<'a> for IovIterDest<'a> {}
impl<'a> Borrows<'a> for IovIterSource<'a> {}

impl<D: ExtractPages> UserIter<D> {
    /// An iterator over `segments`.
    ///
    /// C: `iov_iter_init()`.
    ///
    /// # Errors
    ///
    /// [`EINVAL`] if there are no segments, more than [`MAX_SEGMENTS`], or more than `isize::MAX`
    /// bytes together.
    #[doc(alias = "iov_iter_init")]
    pub fn new<'a>(segments: &'a [Segment]) -> Result<Self>
    where
        D: Borrows<'a>,
    {
        if segments.is_empty() || segments.len() > MAX_SEGMENTS {
            return Err(EINVAL);
        }

        let count = segments
            .iter()
            .try_fold(0usize, |count, segment| count.checked_add(segment.len()))
            .ok_or(EINVAL)?;

        if isize::try_from(count).is_err() {
            return Err(EINVAL);
        }

        let mut iter = bindings::iov_iter::default();
        // SAFETY: `iter` is valid for writing. `segments` are that many, of `count` bytes together;
        // each is a transparent wrapper of a `struct iovec`.
        unsafe {
            bindings::iov_iter_init(
                &mut iter,
                D::DATA_SOURCE,
                segments.as_ptr().cast(),
                segments.len(),
                count,
            )
        };

        // INVARIANT: In direction `D`, and the segments are borrowed for its lifetime.
        Ok(Self {
            iter,
            direction: PhantomData,
        })
    }
}

impl<D: ExtractPages> UserIter<D> {
    /// The iterator, as the kernel's type for it.
    #[inline]
    pub fn as_iter(&mut self) -> &mut D {
        // SAFETY: By the type invariant this is an iterator in direction `D`, valid and nobody
        // else's for as long as `self` is borrowed. What safe code can do with the reference keeps
        // it so; another `D` that is put in its place is one as well.
        unsafe { D::from_raw(&mut self.iter) }
    }
}
