// SPDX-License-Identifier: GPL-2.0

//! What differs between the kernel crates of the supported series.
//!
//! This is the one place that does: `compat/v7_2.rs` is for Linux 7.2 and what comes after it, up
//! to the next file there. Kbuild picks one by the kernel's version, and nothing else asks for
//! that. All of them have the same items, which are those of the newest series where it has them.
//!
//! To support a series whose kernel crate differs, add a file, and its two lines below. To drop
//! one, remove them.
//!
//! In the kernel's tree this would not be.

#[cfg_attr(kernel_crate = "7_2", path = "compat/v7_2.rs")]
#[cfg_attr(kernel_crate = "7_3", path = "compat/v7_3.rs")]
mod series;

pub use series::{
    code,
    mmio,
    parameter,
    DevresBar,
    IdInfo,
    Mmio,
    SpinLockIrq, //
};

use kernel::bindings;

/// Waits until all RCU readers that are there now are done. May sleep.
///
/// C: `synchronize_rcu()`.
pub fn synchronize_rcu() {
    // SAFETY: All it needs is that it may sleep.
    unsafe { bindings::synchronize_rcu() };
}
