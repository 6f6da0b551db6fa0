// SPDX-License-Identifier: GPL-2.0

//! The user memory of the current process.
//!
//! In the kernel's tree this would be a part of `rust/kernel/task.rs`, of the maintainers of the
//! scheduler and of Rust.

use core::ops::Deref;
use kernel::{
    mm::MmWithUser,
    prelude::*,
    task::CurrentTask,
    types::NotThreadSafe, //
};

/// The user memory of the current process: there is some, which C takes for granted where user
/// pages are taken without the mmap lock (`current->mm` is not NULL).
///
/// # Invariants
///
/// The memory is that of the task that this object is used by, for as long as the object exists.
#[derive(Clone, Copy)]
pub struct CurrentMm<'a> {
    mm: &'a MmWithUser,
    _not_send: NotThreadSafe,
}

impl<'a> CurrentMm<'a> {
    /// The user memory of the task that [`current!()`](kernel::current) returns.
    ///
    /// # Errors
    ///
    /// [`EFAULT`] in a kernel thread, which has none.
    #[inline]
    pub fn new(task: &'a CurrentTask) -> Result<Self> {
        match task.mm() {
            // INVARIANT: `mm()` is that of the current task, for as long as that is borrowed, which
            // is not longer than it goes on with this memory; and neither is sent to another task.
            Some(mm) => Ok(Self {
                mm,
                _not_send: NotThreadSafe,
            }),
            None => Err(EFAULT),
        }
    }
}

impl Deref for CurrentMm<'_> {
    type Target = MmWithUser;

    fn deref(&self) -> &MmWithUser {
        self.mm
    }
}
