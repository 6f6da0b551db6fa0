// SPDX-License-Identifier: GPL-2.0

//! Small parts of other subsystems that the kernel crate does not cover.

use crate::bindings as helpers;
use kernel::{
    bindings,
    prelude::*,
    sync::{
        atomic::{
            Atomic,
            Full, //
        },
        Arc,
        Completion, //
    },
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

/// Calls `f` on `n` workers at the same time, with the numbers 0 to `n` - 1, and waits for all of
/// them. May sleep.
///
/// C: `queue_work()` on `system_unbound_wq`.
///
/// # Errors
///
/// [`ENOMEM`] if not all could be started; those that were are waited for.
#[doc(alias = "queue_work")]
pub fn in_parallel(n: usize, f: &(dyn Fn(usize) + Sync)) -> Result {
    let group = Arc::pin_init(
        pin_init!(Group {
            left: Atomic::new(1),
            done <- Completion::new(),
        }),
        GFP_KERNEL,
    )?;
    let mut result = Ok(());

    // SAFETY: Workers use it, and all of them are waited for before this function returns.
    let f = unsafe {
        core::mem::transmute::<&(dyn Fn(usize) + Sync), &'static (dyn Fn(usize) + Sync)>(f)
    };
    for i in 0..n {
        let worker = group.clone();

        group.left.fetch_add(1, Full);
        let started = workqueue::system_unbound().try_spawn(GFP_KERNEL, move || {
            f(i);
            worker.put();
        });
        if started.is_err() {
            group.put();
            result = Err(ENOMEM);
            break;
        }
    }
    group.put();
    group.done.wait_for_completion();
    result
}

/// Workers that are waited for.
#[pin_data]
struct Group {
    /// Workers that are not done, and one for who waits.
    left: Atomic<i32>,
    #[pin]
    done: Completion,
}

impl Group {
    fn put(&self) {
        if self.left.fetch_add(-1, Full) == 1 {
            self.done.complete_all();
        }
    }
}

/// Whether a message that user space can provoke may be printed now: ten in five seconds, for all
/// users of this crate together. The kernel says how many were left out.
///
/// C: `__ratelimit()`. Any context.
#[doc(alias = "__ratelimit")]
pub fn may_print() -> bool {
    // SAFETY: Has no preconditions.
    unsafe { helpers::p2pdma_helper_ratelimit() }
}
