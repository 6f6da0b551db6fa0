// SPDX-License-Identifier: GPL-2.0

//! Clients: devices that do DMA to and from a provider's memory.

use crate::raw;
use core::ops::Deref;
use kernel::{
    device::{
        Bound,
        Device, //
    },
    sync::aref::ARef, //
};

use crate::bindings as helpers;

/// A client device that stays bound to its driver while this exists.
///
/// A driver that maps memory for its own device has a [`Device<Bound>`] and does not need this. An
/// orchestrator maps for the device of another driver, and that driver must not be unbound
/// meanwhile: the guard holds the device's lock, under which binding and unbinding happen.
///
/// C: `device_lock()` and a look at `dev->driver`, as in `drivers/base/dd.c`.
///
/// # Invariants
///
/// The lock of `dev` is held by this object, and `dev` is bound.
pub struct BoundClient {
    dev: ARef<Device>,
}

impl BoundClient {
    /// Locks `dev`; [`None`] if no driver is bound to it.
    ///
    /// May sleep. The caller must not be in a callback of the device's own driver, which runs
    /// under the same lock.
    #[doc(alias = "device_lock")]
    pub fn lock(dev: &Device) -> Option<Self> {
        let ptr = raw::device(dev);

        // SAFETY: `ptr` is a valid `struct device`.
        unsafe { helpers::p2pdma_helper_device_lock(ptr) };

        // SAFETY: `ptr` is a valid `struct device` and its lock is held, so the driver does not
        // change.
        if unsafe { helpers::p2pdma_helper_device_is_bound(ptr) } {
            // INVARIANT: Locked and found bound above.
            Some(Self { dev: dev.into() })
        } else {
            // SAFETY: Locked above.
            unsafe { helpers::p2pdma_helper_device_unlock(ptr) };
            None
        }
    }
}

impl Deref for BoundClient {
    type Target = Device<Bound>;

    fn deref(&self) -> &Self::Target {
        // SAFETY: By the type invariant the device is bound, and stays so until `self` is dropped:
        // the lock has to be taken to unbind it.
        unsafe { self.dev.as_bound() }
    }
}

impl Drop for BoundClient {
    fn drop(&mut self) {
        // SAFETY: By the type invariant the lock is held by this object.
        unsafe { helpers::p2pdma_helper_device_unlock(raw::device(&self.dev)) };
    }
}
