// SPDX-License-Identifier: GPL-2.0

//! Devices of other drivers, kept bound.
//!
//! A driver has proof that its own device is bound: a [`Device<Bound>`]. An orchestrator that
//! allocates memory of a provider, or maps it for a client, deals with devices of other drivers,
//! which are unbound when they like. Both the pool of a provider and the DMA mappings of a client
//! exist only while their devices are bound.
//!
//! In the kernel's tree this would be `rust/kernel/device/bound.rs`, of the maintainers of the
//! driver core.
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
    time::{
        delay::fsleep,
        Delta,
        Instant,
        Monotonic, //
    },
    types::NotThreadSafe, //
};

/// A device that stays bound to its driver as long as it is borrowed: its lock is held, under which
/// binding and unbinding happen.
///
/// C: `device_lock()` and `device_is_bound()`, as in `drivers/base/dd.c`.
///
/// It is lent to a closure, and nobody owns it, so that it cannot be leaked with the lock held.
/// Hold it as briefly as possible: unbinding the device, and whoever else wants its lock, waits.
///
/// It is not handed out as a [`Device<Bound>`]. What the kernel crate ties to one of those, such as
/// [`devres::register()`](kernel::devres::register), goes with the driver of that device; but what
/// runs then is code of the caller's module, which may have been removed long before.
///
/// # Deadlocks
///
/// Who waits for a device's lock in a callback of its driver, in the `store()` of one of its
/// attributes, or with memory of it in hand, waits for itself: the lock is held, or unbinding holds
/// it and waits for the caller. So nobody waits here for longer than [`PATIENCE`], and the lock is
/// only tried. For the same reason the order of two devices does not matter.
///
/// # Invariants
///
/// The lock of `dev` is held by this object, for the task that made it, and `dev` is bound.
pub struct BoundDevice {
    dev: ARef<Device>,
    _not_send: NotThreadSafe,
}

/// How long a lock is waited for.
pub const PATIENCE: Delta = Delta::from_secs(30);

/// How long there is between two attempts.
const PAUSE: Delta = Delta::from_millis(1);

impl BoundDevice {
    /// Calls `f` with `dev` kept bound. May sleep.
    ///
    /// # Errors
    ///
    /// - [`EBUSY`] if somebody else had the lock for all of [`PATIENCE`].
    /// - [`ENODEV`] if no driver is bound.
    /// - What `f` returns.
    #[doc(alias = "device_lock")]
    pub fn with<T>(dev: &Device, f: impl FnOnce(&Self) -> Result<T>) -> Result<T> {
        f(&Self::patiently(|| Self::try_lock(dev))?)
    }

    /// The same, without waiting. Needs process context, and does not sleep itself.
    ///
    /// # Errors
    ///
    /// - [`EBUSY`] if somebody has the lock: maybe the device is being unbound.
    /// - [`ENODEV`] if no driver is bound.
    /// - What `f` returns.
    #[doc(alias = "device_trylock")]
    pub fn try_with<T>(dev: &Device, f: impl FnOnce(&Self) -> Result<T>) -> Result<T> {
        f(&Self::try_lock(dev)?)
    }

    /// Calls `f` with both devices kept bound, which may be the same: a provider and a client. May
    /// sleep.
    ///
    /// # Errors
    ///
    /// As [`Self::with()`], for either of them.
    pub fn with_both<T>(
        a: &Device,
        b: &Device,
        f: impl FnOnce(&Self, &Self) -> Result<T>,
    ) -> Result<T> {
        if core::ptr::eq(a, b) {
            return Self::with(a, |both| f(both, both));
        }

        // Neither is kept while the other is waited for.
        let (a, b) = Self::patiently(|| Ok((Self::try_lock(a)?, Self::try_lock(b)?)))?;

        f(&a, &b)
    }

    /// Tries until there is another result than [`EBUSY`], for as long as [`PATIENCE`].
    fn patiently<T>(attempt: impl Fn() -> Result<T>) -> Result<T> {
        let start = Instant::<Monotonic>::now();

        loop {
            match attempt() {
                Err(error) if error == EBUSY && start.elapsed() < PATIENCE => fsleep(PAUSE),
                result => return result,
            }
        }
    }

    fn try_lock(dev: &Device) -> Result<Self> {
        // SAFETY: `raw::device()` returns a valid `struct device`.
        if !unsafe { helpers::p2pdma_helper_device_trylock(raw::device(dev)) } {
            return Err(EBUSY);
        }

        // SAFETY: `raw::device()` returns a valid `struct device`. Its lock is held, so the driver
        // does not change.
        if !unsafe { helpers::p2pdma_helper_device_is_bound(raw::device(dev)) } {
            // SAFETY: Locked above, by this task.
            unsafe { helpers::p2pdma_helper_device_unlock(raw::device(dev)) };
            return Err(ENODEV);
        }

        // INVARIANT: Locked above, by this task, and found bound.
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
