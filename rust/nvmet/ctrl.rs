// SPDX-License-Identifier: GPL-2.0

//! Controllers, as the core shows them to the transport.
//!
//! C header: [`drivers/nvme/target/nvmet.h`](srctree/drivers/nvme/target/nvmet.h)
//!
//! Place: `drivers/nvme/target/rust/ctrl.rs`, kept by NVM EXPRESS TARGET DRIVER.

use crate::bindings;
use core::marker::PhantomData;
use core::ptr::NonNull;

/// A controller, for the duration of a callback.
///
/// # Invariants
///
/// `ctrl` is a valid `struct nvmet_ctrl` for `'a`.
pub struct Ctrl<'a> {
    ctrl: NonNull<bindings::nvmet_ctrl>,
    callback: PhantomData<&'a ()>,
}

impl Ctrl<'_> {
    /// # Safety
    ///
    /// `ctrl` must be a valid `struct nvmet_ctrl` for as long as the object is used.
    pub(crate) unsafe fn from_raw(ctrl: NonNull<bindings::nvmet_ctrl>) -> Self {
        // INVARIANT: By the safety requirement.
        Self {
            ctrl,
            callback: PhantomData,
        }
    }

    /// The controller's ID (CNTLID), unique among all controllers of the target that exist.
    pub fn id(&self) -> u16 {
        // SAFETY: The pointer is valid by the type invariant.
        unsafe { bindings::p2pdma_nvmet_helper_ctrl_id(self.ctrl.as_ptr()) }
    }
}
