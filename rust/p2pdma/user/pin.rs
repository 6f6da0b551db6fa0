// SPDX-License-Identifier: GPL-2.0

//! User pages, pinned or referenced, peer-to-peer memory among them if asked for.
//!
//! C header: [`include/linux/mm.h`](srctree/include/linux/mm.h); see also
//! [`Documentation/core-api/pin_user_pages.rst`].
//!
//! [`Documentation/core-api/pin_user_pages.rst`]: srctree/Documentation/core-api/pin_user_pages.rst
//!
//! A page of peer-to-peer memory can vanish when its provider is unbound, so it may be pinned only
//! for as long as an I/O lasts: `FOLL_PCI_P2PDMA` and `FOLL_LONGTERM` exclude each other. Here
//! [`Flags`] carries the term in its type, and [`Flags::allow_p2pdma()`] exists for short terms
//! only; and only what pins takes [`LongTerm`]. So no call gets to the checks of these that the
//! kernel has, which warn.
//!
//! In the kernel's tree this would be `rust/kernel/mm/gup.rs`, of the maintainers of memory
//! management in Rust.
//!
//! # Examples
//!
//! ```ignore
#![doc = include_str!("../examples/pin.rs")]
//! ```

pub use super::range::UserRangeError;

use super::{
    current::CurrentMm,
    pages::{
        as_array,
        Get,
        Hold,
        Pin,
        Room,
        UserPages, //
    },
    range, //
};
use core::{
    marker::PhantomData,
    ptr::NonNull, //
};
use kernel::{
    bindings,
    mm::MmWithUser,
    page::{
        PAGE_MASK,
        PAGE_SHIFT, //
    },
    prelude::*,
    sync::aref::ARef, //
};

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

/// How long pages are held: a mark in the type of [`Flags`].
pub trait Term: private::Sealed {}

impl Term for ShortTerm {}
impl Term for LongTerm {}

mod private {
    pub trait Sealed {}

    impl Sealed for super::ShortTerm {}
    impl Sealed for super::LongTerm {}
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
    #[inline]
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

    #[inline]
    fn writes(self) -> bool {
        self.bits & bindings::FOLL_WRITE != 0
    }
}

impl Flags<ShortTerm> {
    /// For pages that are held as long as one I/O lasts.
    #[inline]
    pub const fn short_term(access: Access) -> Self {
        Self::new(access, 0)
    }

    /// Takes pages of peer-to-peer memory, too, which are refused otherwise.
    ///
    /// C: `FOLL_PCI_P2PDMA`.
    #[doc(alias = "FOLL_PCI_P2PDMA")]
    #[inline]
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
    #[inline]
    pub const fn long_term(access: Access) -> Self {
        Self::new(access, bindings::FOLL_LONGTERM)
    }
}

/// A range of user addresses, as the pages that it touches.
///
/// # Invariants
///
/// `pages`, at least one, are those that some bytes from `addr` touch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct UserRange {
    addr: usize,
    pages: usize,
}

impl UserRange {
    /// The pages that `len` bytes from `addr` touch.
    ///
    /// Whether anything is mapped there is not checked here.
    ///
    /// # Errors
    ///
    /// What is wrong with it; as an [`Error`], [`EINVAL`]: `len` is 0, or the range wraps around.
    #[inline]
    pub fn new(addr: usize, len: usize) -> Result<Self, UserRangeError> {
        let pages = range::pages(addr, len, PAGE_SHIFT)?;

        // INVARIANT: Just counted.
        Ok(Self { addr, pages })
    }

    /// Address of the first page.
    #[inline]
    pub fn start(&self) -> usize {
        self.addr & PAGE_MASK
    }

    /// Number of pages.
    #[inline]
    pub fn pages(&self) -> usize {
        self.pages
    }
}

/// What `call` takes of the pages of `range`, in `room`: it is called with an array that has room
/// for all of them, and returns how many it took, or an error number.
///
/// # Errors
///
/// [`E2BIG`] if there is not room for the pages of `range`; and that error.
///
/// # Safety
///
/// `call` must write as many pages as it returns to the array, and hand over one hold of kind `H`
/// on each.
#[inline]
unsafe fn take<T: Term, R: Room, H: Hold>(
    range: UserRange,
    flags: Flags<T>,
    mut room: R,
    call: impl FnOnce(*mut *mut bindings::page) -> isize,
) -> Result<UserPages<R, H>> {
    if range.pages > room.slots().len() {
        return Err(E2BIG);
    }

    let got = call(as_array(&mut room));

    // SAFETY: By the safety requirement.
    unsafe { UserPages::from_return(room, got, flags.writes()) }
}

/// Pins pages of the current process, without the mmap lock where that goes.
///
/// C: `pin_user_pages_fast()`. May sleep.
///
/// # Errors
///
/// - What the C function returns. With a page of peer-to-peer memory that `flags` do not allow:
///   `EREMOTEIO` if it is the first; otherwise the pages before it are returned.
/// - [`E2BIG`] if `room` is too small for the range.
#[doc(alias = "pin_user_pages_fast")]
#[inline]
pub fn pin_fast<T: Term, R: Room>(
    _current: CurrentMm<'_>,
    range: UserRange,
    flags: Flags<T>,
    room: R,
) -> Result<UserPages<R, Pin>> {
    // CAST: At most `MAX_PAGES`; and from 32 bits to 64.
    //
    // SAFETY: `pages` has room for the pages, and the current task has user memory: `CurrentMm`.
    // The function checks the addresses, from the page of the first on, takes
    // these `flags`, and pins what it returns.
    unsafe {
        take(range, flags, room, |pages| {
            bindings::pin_user_pages_fast(range.addr, range.pages as c_int, flags.bits, pages)
                as isize
        })
    }
}

/// Takes references on pages of the current process, without the mmap lock where that goes.
///
/// C: `get_user_pages_fast()`. May sleep. Errors as for [`pin_fast()`].
#[doc(alias = "get_user_pages_fast")]
#[inline]
pub fn get_fast<R: Room>(
    _current: CurrentMm<'_>,
    range: UserRange,
    flags: Flags<ShortTerm>,
    room: R,
) -> Result<UserPages<R, Get>> {
    // CAST: At most `MAX_PAGES`; and from 32 bits to 64.
    //
    // SAFETY: `pages` has room for the pages, and the current task has user memory: `CurrentMm`.
    // The function checks the addresses, from the page of the first on, takes
    // these `flags` (not for a long term), and references what it returns.
    unsafe {
        take(range, flags, room, |pages| {
            bindings::get_user_pages_fast(range.addr, range.pages as c_int, flags.bits, pages)
                as isize
        })
    }
}

/// Takes references on pages of the current process that are mapped already, and stops at the first
/// that is not, or that would need the mmap lock for another reason.
///
/// C: `get_user_pages_fast_only()`. Any context that a process is in; to release pages that were
/// taken to be written may sleep.
///
/// # Errors
///
/// - What the C function returns. A page of peer-to-peer memory that `flags` do not allow is no
///   error: the pages before it are returned, maybe none.
/// - [`E2BIG`] if `room` is too small for the range.
#[doc(alias = "get_user_pages_fast_only")]
#[inline]
pub fn get_fast_only<R: Room>(
    _current: CurrentMm<'_>,
    range: UserRange,
    flags: Flags<ShortTerm>,
    room: R,
) -> Result<UserPages<R, Get>> {
    // CAST: At most `MAX_PAGES`; and from 32 bits to 64.
    //
    // SAFETY: `pages` has room for the pages, and the current task has user memory: `CurrentMm`.
    // The function checks the addresses, from the page of the first on, takes
    // these `flags` (not for a long term), and references what it returns.
    unsafe {
        take(range, flags, room, |pages| {
            bindings::get_user_pages_fast_only(range.addr, range.pages as c_int, flags.bits, pages)
                as isize
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
/// - [`E2BIG`] if `room` is too small for the range.
#[doc(alias = "pin_user_pages")]
pub fn pin<T: Term, R: Room>(
    current: CurrentMm<'_>,
    range: UserRange,
    flags: Flags<T>,
    room: R,
) -> Result<UserPages<R, Pin>> {
    // SAFETY: `pages` has room for the pages, and the mmap lock of the current process is held
    // around the call. The function takes these `flags`, and pins what it returns.
    unsafe {
        take(range, flags, room, |pages| {
            let _lock = current.mmap_read_lock();

            bindings::pin_user_pages(range.start(), range.pages, flags.bits, pages)
        })
    }
}

/// Takes references on pages of the current process, with the mmap lock held.
///
/// C: `get_user_pages()`. May sleep. Errors as for [`pin()`].
#[doc(alias = "get_user_pages")]
pub fn get<R: Room>(
    current: CurrentMm<'_>,
    range: UserRange,
    flags: Flags<ShortTerm>,
    room: R,
) -> Result<UserPages<R, Get>> {
    // SAFETY: `pages` has room for the pages, and the mmap lock of the current process is held
    // around the call. The function takes these `flags` (not for a long term), and references what
    // it returns.
    unsafe {
        take(range, flags, room, |pages| {
            let _lock = current.mmap_read_lock();

            bindings::get_user_pages(range.start(), range.pages, flags.bits, pages)
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

/// `pin_user_pages_remote()`, or its like that takes references.
type Remote = unsafe extern "C" fn(
    *mut bindings::mm_struct,
    c_ulong,
    c_ulong,
    c_uint,
    *mut *mut bindings::page,
    *mut c_int,
) -> c_long;

/// What `call` takes of the pages of another process, whose mmap lock is held meanwhile.
///
/// # Errors
///
/// As [`take()`].
///
/// # Safety
///
/// `call` must hand over holds of kind `H`, and take these `flags`.
unsafe fn take_remote<T: Term, R: Room, H: Hold>(
    mm: &MmWithUser,
    range: UserRange,
    flags: Flags<T>,
    room: R,
    call: Remote,
) -> Result<UserPages<R, H>> {
    // SAFETY: `pages` has room for the pages, `mm` is valid, and its mmap lock is held around the
    // call; without `locked` the function does not give it up. The rest is the safety requirement.
    unsafe {
        take(range, flags, room, |pages| {
            let _lock = mm.mmap_read_lock();
            let locked = core::ptr::null_mut();

            call(
                mm.as_raw(),
                range.start(),
                range.pages,
                flags.bits,
                pages,
                locked,
            )
        })
    }
}

/// Pins pages of another process, whose mmap lock is taken.
///
/// C: `pin_user_pages_remote()`. May sleep.
///
/// # Errors
///
/// - What the C function returns; with a page of peer-to-peer memory that `flags` do not allow, as
///   [`pin_fast()`].
/// - [`E2BIG`] if `room` is too small for the range.
#[doc(alias = "pin_user_pages_remote")]
pub fn pin_remote<T: Term, R: Room>(
    mm: &MmWithUser,
    range: UserRange,
    flags: Flags<T>,
    room: R,
) -> Result<UserPages<R, Pin>> {
    // SAFETY: The function pins what it returns, and takes these `flags`.
    unsafe { take_remote(mm, range, flags, room, bindings::pin_user_pages_remote) }
}

/// Takes references on pages of another process, whose mmap lock is taken.
///
/// C: `get_user_pages_remote()`. May sleep. Errors as for [`pin_remote()`].
#[doc(alias = "get_user_pages_remote")]
pub fn get_remote<R: Room>(
    mm: &MmWithUser,
    range: UserRange,
    flags: Flags<ShortTerm>,
    room: R,
) -> Result<UserPages<R, Get>> {
    // SAFETY: The function references what it returns, and takes these `flags`: not for a long
    // term.
    unsafe { take_remote(mm, range, flags, room, bindings::get_user_pages_remote) }
}
