// SPDX-License-Identifier: GPL-2.0

//! Small parts of other subsystems that the kernel crate does not cover.
//!
//! In the kernel's tree these would be in `rust/kernel/task.rs`, `workqueue.rs` and `print.rs`,
//! each of the maintainers of that subsystem in Rust.

use crate::bindings as helpers;
use core::ptr::NonNull;
use kernel::{
    bindings,
    prelude::*,
    sync::Arc,
    workqueue, //
};

/// Whether the current process may administrate the system.
///
/// C: `capable(CAP_SYS_ADMIN)`. Any process context.
#[doc(alias = "capable")]
pub fn may_administrate() -> bool {
    // SAFETY: CAP_SYS_ADMIN is a valid capability.
    // CAST: A small positive constant.
    unsafe { bindings::capable(bindings::CAP_SYS_ADMIN as kernel::ffi::c_int) }
}

/// For each turn of a loop that takes long: whether the current process still waits for its end.
/// Lets others run. May sleep.
///
/// C: `cond_resched()` and `signal_pending()`.
///
/// # Errors
///
/// [`EINTR`] if there is a signal for it.
#[doc(alias = "signal_pending")]
#[doc(alias = "cond_resched")]
pub fn resched_or_signal() -> Result {
    // SAFETY: Sleeping is the only thing it needs, and callers of this function know that it may
    // sleep.
    unsafe { helpers::p2pdma_helper_cond_resched() };
    if kernel::current!().signal_pending() {
        return Err(EINTR);
    }
    Ok(())
}

/// Calls `f` on `n` workers at the same time, with the numbers 0 to `n` - 1, and waits for all of
/// them. May sleep.
///
/// C: `alloc_workqueue()`, `queue_work()` and `destroy_workqueue()`.
///
/// # Errors
///
/// [`ENOMEM`] if not all could be started; those that were are waited for.
#[doc(alias = "queue_work")]
pub fn run_on_workers(n: usize, f: &(dyn Fn(usize) + Sync)) -> Result {
    // A queue of its own, because destroying it waits until the workers have returned: what says
    // that it is done may not have left the code of its module yet.
    //
    // It may be waited for by a worker of any other queue: the kernel warns if one that is for
    // reclaiming memory waits for one that is not.
    //
    // SAFETY: The name has nothing to format. 0 stands for the default number of workers.
    let queue = unsafe {
        bindings::alloc_workqueue_noprof(
            c"p2pdma".as_char_ptr(),
            bindings::wq_flags_WQ_UNBOUND | bindings::wq_flags_WQ_MEM_RECLAIM,
            0,
        )
    };
    let queue = NonNull::new(queue).ok_or(ENOMEM)?;

    // SAFETY: Workers use it, and all of them are waited for by `destroy_workqueue()` below, which
    // is reached also if not all of them could be started.
    let f = unsafe {
        core::mem::transmute::<&(dyn Fn(usize) + Sync), &'static (dyn Fn(usize) + Sync)>(f)
    };
    // SAFETY: Allocated just now, and destroyed below, after the last use.
    let workers = unsafe { workqueue::Queue::from_raw(queue.as_ptr()) };
    let result = (0..n).try_for_each(|i| {
        workers
            .try_spawn(GFP_KERNEL, move || f(i))
            .map_err(|_| ENOMEM)
    });

    // SAFETY: The queue is valid, and nothing more is queued from here on; `destroy_workqueue()`
    // waits for what is.
    unsafe { bindings::destroy_workqueue(queue.as_ptr()) };
    result
}

/// Whether a message that user space can provoke may be printed now: ten in five seconds, for all
/// users of this crate together. The kernel says how many were left out.
///
/// C: `__ratelimit()`. Any context.
#[doc(alias = "__ratelimit")]
pub fn ratelimit() -> bool {
    // SAFETY: Has no preconditions.
    unsafe { helpers::p2pdma_helper_ratelimit() }
}

/// Keeps this library's module loaded, for what is registered elsewhere and may be leaked.
///
/// # Invariants
///
/// Holds a reference to the library's module.
pub(crate) struct Library(());

impl Library {
    /// To be called by code of the library only, so that it is there. Any context.
    ///
    /// C: `__module_get()`.
    pub(crate) fn keep() -> Self {
        // SAFETY: This is code of the module, so somebody who calls it holds a reference.
        unsafe { helpers::p2pdma_helper_library_get() };
        // INVARIANT: Taken just now.
        Self(())
    }
}

impl Drop for Library {
    fn drop(&mut self) {
        // The module's exit function waits until all tasks have left its code.
        //
        // SAFETY: By the type invariant there is a reference, which is dropped once.
        unsafe { helpers::p2pdma_helper_library_put() };
    }
}

/// Hands `data` over to C code, which calls back with it.
///
/// # Errors
///
/// [`ENOMEM`] if `register` returns NULL.
///
/// # Safety
///
/// If `register` returns NULL, nobody must keep what it was called with. Otherwise that must be
/// [released](release) once, and not be used after that.
pub(crate) unsafe fn hand_over<T, H>(
    data: Arc<T>,
    register: impl FnOnce(*mut c_void) -> *mut H,
) -> Result<NonNull<H>> {
    let data = Arc::into_raw(data);

    NonNull::new(register(data.cast_mut().cast())).ok_or_else(|| {
        // SAFETY: From `Arc::into_raw()` above, and nobody else has it, by the safety requirement.
        drop(unsafe { Arc::from_raw(data) });
        ENOMEM
    })
}

/// Lets go of what was [handed over](hand_over).
///
/// # Safety
///
/// `data` must be from `Arc::<T>::into_raw()`, and not be used after that.
pub(crate) unsafe extern "C" fn release<T>(data: *mut c_void) {
    // SAFETY: By the safety requirement.
    drop(unsafe { Arc::<T>::from_raw(data.cast_const().cast()) });
}

/// What has to be put right when a module goes that has leaked something.
pub trait Abandoned: Send + Sync + 'static {
    /// The module that this function is part of goes: its exit function has returned, or its
    /// initialization failed, and its memory is about to be released. May sleep.
    fn abandoned(&self);
}

/// Has [`Abandoned::abandoned()`] called when the module goes that this function is part of, unless
/// it is dropped before.
///
/// For abstractions that register code and data of a module with other parts of the kernel, and
/// remove them when they are dropped: they may be leaked as well.
///
/// C: `register_module_notifier()`, `MODULE_STATE_GOING`.
///
/// # Invariants
///
/// `raw` was returned by `p2pdma_helper_at_exit()`, and not cancelled.
pub struct AtModuleExit {
    raw: NonNull<helpers::p2pdma_last_act>,
}

// SAFETY: It belongs to no thread, and what is called is `Send` and `Sync`.
unsafe impl Send for AtModuleExit {}

// SAFETY: Through a shared reference nothing can be reached.
unsafe impl Sync for AtModuleExit {}

impl AtModuleExit {
    /// May sleep.
    ///
    /// # Errors
    ///
    /// [`ENOMEM`].
    pub fn new<T: Abandoned>(what: Arc<T>) -> Result<Self> {
        // SAFETY: `abandoned()` and `release()` are those for an `Arc<T>` that was taken apart. The
        // function returns NULL only if it has kept nothing; it releases the data once, after the
        // call.
        let raw = unsafe {
            hand_over(what, |data| {
                helpers::p2pdma_helper_at_exit(Some(abandoned::<T>), Some(release::<T>), data)
            })
        }?;

        // INVARIANT: Returned just now.
        Ok(Self { raw })
    }
}

impl Drop for AtModuleExit {
    fn drop(&mut self) {
        // SAFETY: By the type invariant it was not cancelled. `self` is dropped once.
        unsafe { helpers::p2pdma_helper_cancel_at_exit(self.raw.as_ptr()) };
    }
}

/// # Safety
///
/// `data` must be from an `Arc<T>` that exists.
unsafe extern "C" fn abandoned<T: Abandoned>(data: *mut c_void) {
    // SAFETY: By the safety requirement, for the call.
    unsafe { &*data.cast::<T>() }.abandoned();
}
