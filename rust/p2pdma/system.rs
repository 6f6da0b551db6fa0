// SPDX-License-Identifier: GPL-2.0

//! Small parts of other subsystems that the kernel crate does not cover.

use crate::bindings as helpers;
use kernel::bindings;

/// Whether the current process may administrate the system.
///
/// C: `capable(CAP_SYS_ADMIN)`. Any process context.
#[doc(alias = "capable")]
pub fn may_administrate() -> bool {
    // SAFETY: CAP_SYS_ADMIN is a valid capability.
    // CAST: A small positive constant.
    unsafe { bindings::capable(bindings::CAP_SYS_ADMIN as kernel::ffi::c_int) }
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
