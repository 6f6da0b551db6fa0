// SPDX-License-Identifier: GPL-2.0

//! Devices of other drivers, kept bound.
//!
//! A driver has proof that its own device is bound: a [`Device<Bound>`]. An orchestrator that
//! allocates memory of a provider, or maps it for a client, deals with devices of other drivers,
//! which are unbound when they like. Both the pool of a provider and the DMA mappings of a client
//! exist only while their devices are bound.
//!
//! # Examples
//!
//! An orchestrator that keeps a client and a provider bound:
//!
//! ```ignore
#![doc = include_str!("../examples/orchestrator.rs")]
//! ```

use crate::{
    bindings as helpers,
    raw, //
};
use core::ops::Deref;
use kernel::{
    device::{
        Bound,
        Device, //
    },
    pci,
    prelude::*,
    sync::aref::ARef,
    types::NotThreadSafe, //
};

/// A device that stays bound to its driver while this exists: its lock is held, under which binding
/// and unbinding happen.
///
/// C: `device_lock()` and `device_is_bound()`, as in `drivers/base/dd.c`.
///
/// Hold it as briefly as possible: unbinding the device, and whoever else wants its lock, waits.
/// Two of these at a time are ordered by nothing, so at most one of them may be from
/// [`Self::lock()`], and that the first.
///
/// It is not handed out as a [`Device<Bound>`]. What the kernel crate ties to one of those, such as
/// [`devres::register()`](kernel::devres::register), goes with the driver of that device; but what
/// runs then is code of the caller's module, which may have been removed long before.
///
/// # Invariants
///
/// The lock of `dev` is held by this object, for the task that made it, and `dev` is bound.
pub struct BoundDevice {
    dev: ARef<Device>,
    _not_send: NotThreadSafe,
}

impl BoundDevice {
    /// Waits for the lock of `dev`. May sleep.
    ///
    /// Not to be called in a callback of the device's own driver, which runs under the lock; nor
    /// while memory of `dev` is held, for which unbinding waits under the lock.
    ///
    /// # Errors
    ///
    /// [`ENODEV`] if no driver is bound.
    #[doc(alias = "device_lock")]
    pub fn lock(dev: &Device) -> Result<Self> {
        // SAFETY: `raw::device()` returns a valid `struct device`.
        unsafe { helpers::p2pdma_helper_device_lock(raw::device(dev)) };

        Self::locked(dev)
    }

    /// Takes the lock of `dev` if nobody has it. Does not sleep, but needs process context.
    ///
    /// # Errors
    ///
    /// - [`EBUSY`] if somebody has the lock: maybe the device is being unbound.
    /// - [`ENODEV`] if no driver is bound.
    #[doc(alias = "device_trylock")]
    pub fn try_lock(dev: &Device) -> Result<Self> {
        // SAFETY: `raw::device()` returns a valid `struct device`.
        if !unsafe { helpers::p2pdma_helper_device_trylock(raw::device(dev)) } {
            return Err(EBUSY);
        }

        Self::locked(dev)
    }

    /// `dev` must just have been locked by the caller.
    fn locked(dev: &Device) -> Result<Self> {
        // SAFETY: `raw::device()` returns a valid `struct device`. Its lock is held, so the driver
        // does not change.
        if !unsafe { helpers::p2pdma_helper_device_is_bound(raw::device(dev)) } {
            // SAFETY: Locked by the caller, which leaves it to this function.
            unsafe { helpers::p2pdma_helper_device_unlock(raw::device(dev)) };
            return Err(ENODEV);
        }

        // INVARIANT: Locked by the caller, in this task, and found bound.
        Ok(Self {
            dev: dev.into(),
            _not_send: NotThreadSafe,
        })
    }

    /// The device as a PCI device. Any context.
    ///
    /// # Errors
    ///
    /// [`EINVAL`] if it is none.
    pub fn pci(&self) -> Result<&pci::Device> {
        (&**self).try_into()
    }

    /// The device as a PCI device that is bound; only for what does not outlast `self`.
    pub(crate) fn pci_bound(&self) -> Result<&pci::Device<Bound>> {
        // SAFETY: By the type invariant the device is bound, and stays so until `self` is dropped:
        // the lock has to be taken to unbind it.
        unsafe { self.dev.as_bound() }.try_into()
    }
}

impl Deref for BoundDevice {
    type Target = Device;

    fn deref(&self) -> &Self::Target {
        &self.dev
    }
}

impl Drop for BoundDevice {
    fn drop(&mut self) {
        // SAFETY: By the type invariant the lock is held by this object, and by this task, as the
        // object is not sent to another.
        unsafe { helpers::p2pdma_helper_device_unlock(raw::device(&self.dev)) };
    }
}
