// SPDX-License-Identifier: GPL-2.0

//! User pages, pinned or referenced, peer-to-peer memory among them if asked for.
//!
//! C header: [`include/linux/mm.h`](srctree/include/linux/mm.h); see also
//! [`Documentation/core-api/pin_user_pages.rst`](srctree/Documentation/core-api/pin_user_pages.rst).
//!
//! A page of peer-to-peer memory can vanish when its provider is unbound, so it may be pinned only
//! for as long as an I/O lasts: `FOLL_PCI_P2PDMA` and `FOLL_LONGTERM` exclude each other. Here
//! [`Flags`] carries the term in its type, and [`Flags::allow_p2pdma()`] exists for short terms
//! only. Tests that have to see the kernel refuse the combination go through
//! [`Flags::test_only_long_term_p2pdma()`].
//!
//! # Examples
//!
//! ```ignore
#![doc = include_str!("../examples/pin.rs")]
//! ```

pub use super::range::UserRangeError;

use super::range;
use crate::{
    bindings as helpers,
    page::PageRef, //
};
use core::{
    marker::PhantomData,
    num::NonZero,
    ptr::NonNull, //
};
use kernel::{
    bindings,
    mm::MmWithUser,
    page::PAGE_SIZE,
    prelude::*,
    sync::aref::ARef, //
};

/// Most pages that one call takes: 1 GiB of 4 KiB pages.
pub const MAX_PAGES: usize = 1 << 18;

/// What the kernel, or a device for it, does with the pages.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Access {
    /// Reads them.
    Read,
    /// Writes them: the mapping has to be writable, and the pages are marked dirty on release
    /// (`FOLL_WRITE`).
    Write,
}

/// Marks [`Flags`] of pins that last as long as one I/O.
pub enum ShortTerm {}
/// Marks [`Flags`] of pins that last as long as user space likes (`FOLL_LONGTERM`).
pub enum LongTerm {}
/// Marks [`Flags`] that only a test of the kernel's refusal has a use for.
pub enum TestOnly {}

/// How long pages are held: a mark in the type of [`Flags`].
pub trait Term: private::Sealed {}

impl Term for ShortTerm {}
impl Term for LongTerm {}
impl Term for TestOnly {}

/// Terms for which a plain reference will do. `FOLL_LONGTERM` asks for a pin.
pub trait GetTerm: Term {}

impl GetTerm for ShortTerm {}
impl GetTerm for TestOnly {}

mod private {
    pub trait Sealed {}

    impl Sealed for super::ShortTerm {}
    impl Sealed for super::LongTerm {}
    impl Sealed for super::TestOnly {}
}

/// Flags of a call that pins or references user pages (`gup_flags`).
pub struct Flags<T: Term> {
    bits: c_uint,
    term: PhantomData<T>,
}

impl<T: Term> Clone for Flags<T> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<T: Term> Copy for Flags<T> {}

impl<T: Term> Flags<T> {
    const fn new(access: Access, bits: c_uint) -> Self {
        let write = match access {
            Access::Read => 0,
            Access::Write => bindings::FOLL_WRITE,
        };

        Self {
            bits: bits | write,
            term: PhantomData,
        }
    }

    fn writes(self) -> bool {
        self.bits & bindings::FOLL_WRITE != 0
    }
}

impl Flags<ShortTerm> {
    /// For pages that are held as long as one I/O lasts.
    pub const fn short_term(access: Access) -> Self {
        Self::new(access, 0)
    }

    /// Takes pages of peer-to-peer memory, too, which are refused otherwise.
    ///
    /// C: `FOLL_PCI_P2PDMA`.
    #[doc(alias = "FOLL_PCI_P2PDMA")]
    pub const fn allow_p2pdma(mut self) -> Self {
        self.bits |= bindings::FOLL_PCI_P2PDMA;
        self
    }
}

impl Flags<LongTerm> {
    /// For pages that are held as long as user space likes. Peer-to-peer memory is always refused.
    ///
    /// C: `FOLL_LONGTERM`.
    #[doc(alias = "FOLL_LONGTERM")]
    pub const fn long_term(access: Access) -> Self {
        Self::new(access, bindings::FOLL_LONGTERM)
    }
}

impl Flags<TestOnly> {
    /// `FOLL_LONGTERM` with `FOLL_PCI_P2PDMA`, which the kernel refuses and warns of, once a boot.
    ///
    /// For tests of that refusal, and nothing else.
    pub const fn test_only_long_term_p2pdma(access: Access) -> Self {
        Self::new(access, bindings::FOLL_LONGTERM | bindings::FOLL_PCI_P2PDMA)
    }

    /// `FOLL_LONGTERM` for a call that does not pin, which the kernel refuses and warns of, once a
    /// boot.
    ///
    /// For tests of that refusal, and nothing else.
    pub const fn test_only_long_term_get(access: Access) -> Self {
        Self::new(access, bindings::FOLL_LONGTERM)
    }
}

/// A range of user addresses, as the pages that it touches.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct UserRange {
    start: usize,
    pages: NonZero<usize>,
}

impl UserRange {
    /// The pages that `len` bytes from `addr` touch.
    ///
    /// Whether anything is mapped there is not checked here.
    ///
    /// # Errors
    ///
    /// What is wrong with it; as an [`Error`]:
    ///
    /// - [`EINVAL`] if `len` is 0 or the range wraps around.
    /// - [`E2BIG`] if it touches more than [`MAX_PAGES`] pages.
    pub fn new(addr: usize, len: usize) -> Result<Self, UserRangeError> {
        let (start, pages) = range::pages(addr, len, PAGE_SIZE, MAX_PAGES)?;

        Ok(Self { start, pages })
    }

    /// Address of the first page.
    pub fn start(&self) -> usize {
        self.start
    }

    /// Number of pages.
    pub fn pages(&self) -> usize {
        self.pages.get()
    }
}

/// How pages are held, and so how they are released.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Hold {
    /// `FOLL_PIN`: released with `unpin_user_page()`.
    Pin,
    /// `FOLL_GET`: released with `put_page()`.
    Get,
}

/// User pages that are held, released when dropped, which may sleep; marked dirty before, if they
/// were taken for [`Access::Write`].
///
/// C: an array of pages, released with `unpin_user_pages_dirty_lock()`, or with
/// `set_page_dirty_lock()` and `put_page()`.
///
/// # Invariants
///
/// Each of `pages` is a page on which this object holds one reference of kind `hold`.
#[doc(alias = "unpin_user_pages_dirty_lock")]
#[doc(alias = "unpin_user_page")]
#[doc(alias = "put_page")]
pub struct UserPages {
    pages: KVVec<*mut bindings::page>,
    hold: Hold,
    dirty: bool,
}

// SAFETY: References to pages belong to no thread.
unsafe impl Send for UserPages {}

// SAFETY: Through a shared reference only facts about the pages can be read, which may change
// under the reader.
unsafe impl Sync for UserPages {}

impl UserPages {
    /// Room for `max` pages, filled by `f`, which gets a pointer to it and returns how many pages
    /// it filled in, or an error number.
    ///
    /// # Safety
    ///
    /// `f` must hold a reference of kind `hold` on each page that it filled in.
    unsafe fn collect(
        max: usize,
        hold: Hold,
        dirty: bool,
        f: impl FnOnce(*mut *mut bindings::page) -> isize,
    ) -> Result<Self> {
        let mut pages = KVVec::with_capacity(max, GFP_KERNEL)?;
        let got = f(pages.as_mut_ptr());
        let got = match usize::try_from(got) {
            Ok(got) => got.min(max),
            // CAST: Error numbers are small.
            Err(_) => return Err(Error::from_errno(got as c_int)),
        };

        // SAFETY: There is room for `max` pages, and `f` filled in the first `got`.
        unsafe { pages.inc_len(got) };

        // INVARIANT: By the safety requirement.
        Ok(Self { pages, hold, dirty })
    }

    /// Number of pages: fewer than asked for where the kernel stopped in the middle, also none.
    pub fn len(&self) -> usize {
        self.pages.len()
    }

    /// Whether the kernel took none.
    pub fn is_empty(&self) -> bool {
        self.pages.is_empty()
    }

    /// Takes a plain reference on each of the pages: they stay when the pins in `self` go. May
    /// sleep: allocates.
    ///
    /// C: `try_get_page()`.
    ///
    /// # Errors
    ///
    /// [`ENOMEM`]; also where a page has as many references as it can count.
    #[doc(alias = "get_page")]
    #[doc(alias = "try_get_page")]
    pub fn reference(&self) -> Result<Self> {
        // INVARIANT: There are no pages yet.
        let mut taken = Self {
            pages: KVVec::with_capacity(self.len(), GFP_KERNEL)?,
            hold: Hold::Get,
            dirty: false,
        };

        for &page in self.pages.iter() {
            // SAFETY: By the type invariant `self` holds a reference on the page already.
            if !unsafe { helpers::p2pdma_helper_try_get_page(page) } {
                return Err(ENOMEM);
            }
            // INVARIANT: A reference on it was taken just now. There is room for it.
            taken.pages.push(page, GFP_KERNEL)?;
        }
        Ok(taken)
    }

    /// The pages, in the order of their user addresses.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = PageRef<'_>> + '_ {
        self.pages.iter().map(|&page| {
            // SAFETY:
            // - Pages that were taken are not NULL.
            // - By the type invariant a reference is held on the page while `self` is borrowed.
            unsafe { PageRef::from_raw(NonNull::new_unchecked(page)) }
        })
    }
}

impl Drop for UserPages {
    fn drop(&mut self) {
        match self.hold {
            Hold::Pin => {
                // SAFETY: By the type invariant each of the pages is pinned by this object once.
                unsafe {
                    bindings::unpin_user_pages_dirty_lock(
                        self.pages.as_mut_ptr(),
                        self.pages.len(),
                        self.dirty,
                    )
                }
            }
            Hold::Get => {
                for &page in self.pages.iter() {
                    if self.dirty {
                        // SAFETY: By the type invariant a reference is held on the page.
                        unsafe { bindings::set_page_dirty_lock(page) };
                    }
                    // SAFETY: By the type invariant a reference is held on the page; each page
                    // is visited once.
                    unsafe { helpers::p2pdma_helper_put_page(page) };
                }
            }
        }
    }
}

/// The functions that go without the mmap lock take for granted that there is user memory.
///
/// # Errors
///
/// [`EFAULT`] in a kernel thread.
fn check_user_memory() -> Result {
    kernel::current!().mm().map(|_| ()).ok_or(EFAULT)
}

/// Pins pages of the current process, without the mmap lock where that goes.
///
/// C: `pin_user_pages_fast()`. May sleep.
///
/// # Errors
///
/// - What the C function returns. With a page of peer-to-peer memory that `flags` do not allow:
///   `EREMOTEIO` if it is the first; otherwise the pages before it are returned.
/// - [`EFAULT`] in a kernel thread, which has no user pages.
#[doc(alias = "pin_user_pages_fast")]
pub fn pin_fast<T: Term>(range: UserRange, flags: Flags<T>) -> Result<UserPages> {
    check_user_memory()?;

    // SAFETY: The function pins the pages whose number it returns.
    unsafe {
        UserPages::collect(range.pages(), Hold::Pin, flags.writes(), |pages| {
            // SAFETY: There is room for `range.pages()` pages, and the current task has user
            // memory. The function checks the user address itself, and sleeps, which the caller is
            // told. CAST: At most `MAX_PAGES` pages; the error numbers fit as well.
            bindings::pin_user_pages_fast(range.start, range.pages() as c_int, flags.bits, pages)
                as isize
        })
    }
}

/// Takes references on pages of the current process, without the mmap lock where that goes.
///
/// C: `get_user_pages_fast()`. May sleep. Errors as for [`pin_fast()`].
#[doc(alias = "get_user_pages_fast")]
pub fn get_fast<T: GetTerm>(range: UserRange, flags: Flags<T>) -> Result<UserPages> {
    check_user_memory()?;

    // SAFETY: The function takes a reference on the pages whose number it returns.
    unsafe {
        UserPages::collect(range.pages(), Hold::Get, flags.writes(), |pages| {
            // SAFETY: As for `pin_fast()`.
            // CAST: As for `pin_fast()`.
            bindings::get_user_pages_fast(range.start, range.pages() as c_int, flags.bits, pages)
                as isize
        })
    }
}

/// Takes references on pages of the current process that are mapped already, and stops at the first
/// that is not, or that would need the mmap lock for another reason.
///
/// C: `get_user_pages_fast_only()`. Any context; allocates the array with [`GFP_KERNEL`], though.
///
/// # Errors
///
/// What the C function returns. A page of peer-to-peer memory that `flags` do not allow is no
/// error: the pages before it are returned, maybe none.
#[doc(alias = "get_user_pages_fast_only")]
pub fn get_fast_only<T: GetTerm>(range: UserRange, flags: Flags<T>) -> Result<UserPages> {
    check_user_memory()?;

    // SAFETY: The function takes a reference on the pages whose number it returns.
    unsafe {
        UserPages::collect(range.pages(), Hold::Get, flags.writes(), |pages| {
            // SAFETY: As for `pin_fast()`.
            // CAST: As for `pin_fast()`.
            bindings::get_user_pages_fast_only(
                range.start,
                range.pages() as c_int,
                flags.bits,
                pages,
            ) as isize
        })
    }
}

/// Pins pages of the current process, with the mmap lock held.
///
/// C: `pin_user_pages()`. May sleep.
///
/// # Errors
///
/// - What the C function returns; with a page of peer-to-peer memory that `flags` do not allow, as
///   [`pin_fast()`].
/// - [`EFAULT`] in a kernel thread, which has no user pages.
#[doc(alias = "pin_user_pages")]
pub fn pin<T: Term>(range: UserRange, flags: Flags<T>) -> Result<UserPages> {
    let task = kernel::current!();
    let mm = task.mm().ok_or(EFAULT)?;
    let _lock = mm.mmap_read_lock();

    // SAFETY: The function pins the pages whose number it returns.
    unsafe {
        UserPages::collect(range.pages(), Hold::Pin, flags.writes(), |pages| {
            // SAFETY: There is room for `range.pages()` pages, and the mmap lock of the current
            // process is held.
            bindings::pin_user_pages(range.start, range.pages(), flags.bits, pages)
        })
    }
}

/// Takes references on pages of the current process, with the mmap lock held.
///
/// C: `get_user_pages()`. May sleep. Errors as for [`pin()`].
#[doc(alias = "get_user_pages")]
pub fn get<T: GetTerm>(range: UserRange, flags: Flags<T>) -> Result<UserPages> {
    let task = kernel::current!();
    let mm = task.mm().ok_or(EFAULT)?;
    let _lock = mm.mmap_read_lock();

    // SAFETY: The function takes a reference on the pages whose number it returns.
    unsafe {
        UserPages::collect(range.pages(), Hold::Get, flags.writes(), |pages| {
            // SAFETY: As for `pin()`.
            bindings::get_user_pages(range.start, range.pages(), flags.bits, pages)
        })
    }
}

/// The memory of a process, by its number in the caller's PID namespace. 0 is the caller.
///
/// Whether the caller may look into that process is not checked here: `mm_access()` is not
/// exported. Whoever passes on a number that came from user space has to ask for a capability.
///
/// C: `find_get_pid()`, `get_pid_task()` and `get_task_mm()`. May sleep.
///
/// # Errors
///
/// - [`ESRCH`] if there is no such process, or it has no user memory: a kernel thread, or a process
///   that is exiting.
#[doc(alias = "get_task_mm")]
pub fn memory_of(pid: i32) -> Result<ARef<MmWithUser>> {
    if pid == 0 {
        return kernel::current!().mm().map(ARef::from).ok_or(ESRCH);
    }

    // SAFETY: Takes any number; returns NULL or a `struct pid` with a reference taken.
    let pid = unsafe { bindings::find_get_pid(pid) };
    if pid.is_null() {
        return Err(ESRCH);
    }

    // SAFETY: `pid` is valid; the function returns NULL or a task with a reference taken.
    let task = unsafe { bindings::get_pid_task(pid, bindings::pid_type_PIDTYPE_PID) };
    // SAFETY: The reference was taken above, and `pid` is not used any more.
    unsafe { bindings::put_pid(pid) };
    let task = NonNull::new(task).ok_or(ESRCH)?;

    // SAFETY: `task` is valid; the function returns NULL or its memory with `mm_users` raised.
    let mm = unsafe { bindings::get_task_mm(task.as_ptr()) };
    // SAFETY: The reference was taken above, and `task` is not used any more.
    unsafe { bindings::put_task_struct(task.as_ptr()) };
    let mm = NonNull::new(mm).ok_or(ESRCH)?;

    // SAFETY: `mm_users` was raised by `get_task_mm()`, which passes to the `ARef`. `MmWithUser` is
    // a transparent wrapper of `struct mm_struct`.
    Ok(unsafe { ARef::from_raw(mm.cast()) })
}

/// Pins pages of another process, whose mmap lock is taken.
///
/// C: `pin_user_pages_remote()`. May sleep.
///
/// # Errors
///
/// What the C function returns; with a page of peer-to-peer memory that `flags` do not allow, as
/// [`pin_fast()`].
#[doc(alias = "pin_user_pages_remote")]
pub fn pin_remote<T: Term>(
    mm: &MmWithUser,
    range: UserRange,
    flags: Flags<T>,
) -> Result<UserPages> {
    let _lock = mm.mmap_read_lock();

    // SAFETY: The function pins the pages whose number it returns.
    unsafe {
        UserPages::collect(range.pages(), Hold::Pin, flags.writes(), |pages| {
            // SAFETY: There is room for `range.pages()` pages, `mm` is valid, and its mmap lock is
            // held; without `locked` the function does not give it up.
            bindings::pin_user_pages_remote(
                mm.as_raw(),
                range.start,
                range.pages(),
                flags.bits,
                pages,
                core::ptr::null_mut(),
            )
        })
    }
}

/// Takes references on pages of another process, whose mmap lock is taken.
///
/// C: `get_user_pages_remote()`. May sleep. Errors as for [`pin_remote()`].
#[doc(alias = "get_user_pages_remote")]
pub fn get_remote<T: GetTerm>(
    mm: &MmWithUser,
    range: UserRange,
    flags: Flags<T>,
) -> Result<UserPages> {
    let _lock = mm.mmap_read_lock();

    // SAFETY: The function takes a reference on the pages whose number it returns.
    unsafe {
        UserPages::collect(range.pages(), Hold::Get, flags.writes(), |pages| {
            // SAFETY: As for `pin_remote()`.
            bindings::get_user_pages_remote(
                mm.as_raw(),
                range.start,
                range.pages(),
                flags.bits,
                pages,
                core::ptr::null_mut(),
            )
        })
    }
}

/// A piece of user memory for [`UserIter`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Segment {
    /// Its first address.
    pub addr: usize,
    /// Its size in bytes.
    pub len: usize,
}

impl Segment {
    /// Number of pages that it touches.
    pub fn pages(&self) -> usize {
        if self.len == 0 {
            return 0;
        }
        (self.addr % PAGE_SIZE)
            .saturating_add(self.len)
            .div_ceil(PAGE_SIZE)
    }
}

/// Most segments that an iterator takes (`UIO_MAXIOV`).
pub const MAX_SEGMENTS: usize = 1024;

/// An `iov_iter` over pieces of user memory of the current process.
///
/// C: `struct iov_iter` of type `ITER_IOVEC`, as `readv()` and `writev()` make it.
///
/// # Invariants
///
/// `iter` iterates over the segments in `iov`, which stay where they are in memory.
pub struct UserIter {
    iter: bindings::iov_iter,
    iov: KVec<bindings::iovec>,
    /// Segments that are done, and bytes of the one behind them.
    done: (usize, usize),
    access: Access,
}

/// What [`UserIter::extract()`] took from one segment.
pub struct Extracted {
    /// The pages, pinned.
    pub pages: UserPages,
    /// Offset of the first byte in the first page.
    pub offset: usize,
    /// Number of bytes.
    pub len: usize,
}

impl UserIter {
    /// An iterator over `segments`, for an I/O that does `access` to them. May sleep: allocates.
    ///
    /// # Errors
    ///
    /// - [`EINVAL`] if there are no segments, more than [`MAX_SEGMENTS`], or more than
    ///   `isize::MAX` bytes together.
    /// - [`ENOMEM`].
    #[doc(alias = "iov_iter_init")]
    pub fn new(segments: &[Segment], access: Access) -> Result<Self> {
        if segments.is_empty() || segments.len() > MAX_SEGMENTS {
            return Err(EINVAL);
        }

        let mut iov = KVec::with_capacity(segments.len(), GFP_KERNEL)?;
        let mut count = 0usize;
        for segment in segments {
            count = count.checked_add(segment.len).ok_or(EINVAL)?;
            iov.push(
                bindings::iovec {
                    iov_base: core::ptr::without_provenance_mut(segment.addr),
                    iov_len: segment.len,
                },
                GFP_KERNEL,
            )?;
        }
        if count > isize::MAX as usize {
            return Err(EINVAL);
        }

        // Reads into memory are writes of its pages.
        let direction = match access {
            Access::Write => bindings::ITER_DEST,
            Access::Read => bindings::ITER_SOURCE,
        };
        let mut iter = bindings::iov_iter::default();
        // SAFETY: `iter` is valid for writing, and `iov` holds that many segments, of `count` bytes
        // together.
        unsafe { bindings::iov_iter_init(&mut iter, direction, iov.as_ptr(), iov.len(), count) };

        // INVARIANT: Made from `iov` just now; a `KVec` that is not changed does not move what it
        // holds.
        Ok(Self {
            iter,
            iov,
            done: (0, 0),
            access,
        })
    }

    /// Number of bytes left.
    pub fn len(&self) -> usize {
        // SAFETY: `self.iter` is valid by the type invariant.
        unsafe { helpers::p2pdma_helper_iov_iter_count(&self.iter) }
    }

    /// Whether no bytes are left.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Passes by `len` bytes, and segments that have none left: what is left of the next, if any.
    fn pass(&mut self, len: usize) -> Option<Segment> {
        self.done.1 += len;
        while let Some(segment) = self.iov.get(self.done.0) {
            if self.done.1 < segment.iov_len {
                return Some(Segment {
                    addr: segment.iov_base.addr().wrapping_add(self.done.1),
                    len: segment.iov_len - self.done.1,
                });
            }
            self.done = (self.done.0 + 1, self.done.1 - segment.iov_len);
        }
        None
    }

    /// Pins the pages of the next segment, at most `max` of them, and advances behind them.
    ///
    /// Pages of peer-to-peer memory are taken only with `allow_p2pdma`.
    ///
    /// C: `iov_iter_extract_pages()`, with `ITER_ALLOW_P2PDMA`. May sleep. To be called by the
    /// process that the memory belongs to.
    ///
    /// # Errors
    ///
    /// - [`EINVAL`] if `max` is 0 or more than [`MAX_PAGES`].
    /// - What `pin_user_pages_fast()` returns: `EREMOTEIO` for peer-to-peer memory that is not
    ///   allowed, [`EFAULT`] where nothing is mapped.
    #[doc(alias = "iov_iter_extract_pages")]
    pub fn extract(&mut self, max: usize, allow_p2pdma: bool) -> Result<Extracted> {
        if max == 0 || max > MAX_PAGES {
            return Err(EINVAL);
        }
        check_user_memory()?;

        // No room for pages that the segment does not have. If there is none any more, the function
        // finds that out.
        let max = self
            .pass(0)
            .map_or(1, |segment| segment.pages().clamp(1, max));
        let flags = if allow_p2pdma {
            helpers::P2PDMA_CONST_ITER_ALLOW_P2PDMA
        } else {
            0
        };
        let mut offset = 0;
        let mut len = 0;

        // SAFETY: The function pins the pages that it fills in. It returns bytes: these are the
        // pages that they touch.
        let pages = unsafe {
            UserPages::collect(max, Hold::Pin, self.access == Access::Write, |mut pages| {
                // SAFETY: `self.iter` is valid by the type invariant, and there is room for `max`
                // pages. `pages` is not NULL, so the function does not replace it.
                let got = bindings::iov_iter_extract_pages(
                    &mut self.iter,
                    &mut pages,
                    usize::MAX,
                    // CAST: At most `MAX_PAGES`.
                    max as c_uint,
                    flags,
                    &mut offset,
                );

                match usize::try_from(got) {
                    Ok(0) | Err(_) => got,
                    Ok(got) => {
                        len = got;
                        // CAST: At most `max`.
                        (offset + got).div_ceil(PAGE_SIZE) as isize
                    }
                }
            })?
        };

        self.pass(len);
        Ok(Extracted { pages, offset, len })
    }
}
