// SPDX-License-Identifier: GPL-2.0

//! Being told when drivers are bound to PCI devices, and unbound from them.
//!
//! C header: [`include/linux/device/bus.h`](srctree/include/linux/device/bus.h)
//!
//! In the kernel's tree this would be `rust/kernel/device/notifier.rs`, of the maintainers of the
//! driver core.

use crate::{
    bindings as helpers,
    raw,
    system::{
        hand_over,
        release, //
    }, //
};
use core::ptr::NonNull;
use kernel::{
    bindings,
    pci,
    prelude::*,
    sync::Arc, //
};

/// What happens to a device.
///
/// C: `enum bus_notifier_event`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[doc(alias = "bus_notifier_event")]
pub enum Event {
    /// A driver is about to be bound: `probe()` was not called yet. The device has no managed
    /// resources.
    Bind,
    /// `probe()` failed. Managed resources are about to be released.
    NotBound,
    /// The driver is about to be unbound: nothing of it has been told, or released, yet.
    Unbind,
    /// The driver was unbound, and the managed resources released.
    Unbound,
    /// The device is about to be removed from the bus.
    Remove,
    /// The device was removed from the bus.
    Removed,
}

impl Event {
    fn from_raw(event: bindings::bus_notifier_event) -> Option<Self> {
        Some(match event {
            bindings::bus_notifier_event_BUS_NOTIFY_BIND_DRIVER => Self::Bind,
            bindings::bus_notifier_event_BUS_NOTIFY_DRIVER_NOT_BOUND => Self::NotBound,
            bindings::bus_notifier_event_BUS_NOTIFY_UNBIND_DRIVER => Self::Unbind,
            bindings::bus_notifier_event_BUS_NOTIFY_UNBOUND_DRIVER => Self::Unbound,
            bindings::bus_notifier_event_BUS_NOTIFY_DEL_DEVICE => Self::Remove,
            bindings::bus_notifier_event_BUS_NOTIFY_REMOVED_DEVICE => Self::Removed,
            _ => return None,
        })
    }
}

/// Who is told.
///
/// It is called in the thread that binds, unbinds or removes the device, mostly with the device's
/// lock held: what it waits for must not wait for that lock. It may sleep, and may make and drop
/// [`Listening`]s, its own included. It must not bind or unbind other PCI devices, as registering a
/// driver does: the bus would tell of these while it tells of this one, and both wait for ever if
/// another notifier is registered in between.
///
/// All binding of PCI devices waits for it where somebody registers or unregisters another notifier
/// of the bus in the meantime, so it has to return in bounded time.
pub trait Listener: Send + Sync + 'static {
    /// `event` happens to `dev`.
    fn notify(&self, event: Event, dev: &pci::Device);
}

/// Tells a [`Listener`], until it is dropped. A call that is under way then goes on: the listener
/// is counted, and lasts as long.
///
/// Those that are older are told first; those that are made while others are told, of the next
/// event.
///
/// # Leaks
///
/// It can be leaked. Nothing is borrowed by a `Listener`, and p2pdma.ko, which has the only
/// notifier that the bus knows of, stops calling code of a module when the module goes: between the
/// module's exit function and the release of its memory. So nothing is called that is not there any
/// more; and if somebody else drops it after that, the listener's data are not released, as that is
/// code of the module as well. What counts is the module that the `Listener` is compiled in: one
/// that calls closures of other modules has to see to it that these stay.
///
/// C: `bus_register_notifier()` on `pci_bus_type`.
///
/// # Invariants
///
/// `raw` was returned by `p2pdma_helper_listen()`, and not removed.
#[doc(alias = "bus_register_notifier")]
pub struct Listening {
    raw: NonNull<helpers::p2pdma_listener>,
}

// SAFETY: A listener belongs to no thread, and what is told is `Send` and `Sync`.
unsafe impl Send for Listening {}

// SAFETY: Through a shared reference nothing can be reached.
unsafe impl Sync for Listening {}

impl Listening {
    /// Starts to tell `listener`. May sleep.
    ///
    /// # Errors
    ///
    /// [`ENOMEM`].
    pub fn new<T: Listener>(listener: Arc<T>) -> Result<Self> {
        // SAFETY: `call()` and `release()` are those for an `Arc<T>` that was taken apart. The
        // function returns NULL only if it has kept nothing; it releases the data once, after the
        // last call (or, when the module is gone whose code that is, never).
        let raw = unsafe {
            hand_over(listener, |data| {
                helpers::p2pdma_helper_listen(Some(call::<T>), Some(release::<T>), data)
            })
        }?;

        // INVARIANT: Returned just now.
        Ok(Self { raw })
    }
}

impl Drop for Listening {
    fn drop(&mut self) {
        // SAFETY: By the type invariant it was not removed. `self` is dropped once.
        unsafe { helpers::p2pdma_helper_unlisten(self.raw.as_ptr()) };
    }
}

/// # Safety
///
/// `data` must be from an `Arc<T>` that exists, and `pdev` a valid device for the call.
unsafe extern "C" fn call<T: Listener>(
    data: *mut c_void,
    event: c_ulong,
    pdev: *mut bindings::pci_dev,
) {
    // CAST: Small positive constants.
    let Some(event) = Event::from_raw(event as bindings::bus_notifier_event) else {
        return;
    };
    // SAFETY: By the safety requirement, for the call.
    let listener = unsafe { &*data.cast::<T>() };
    // SAFETY: By the safety requirement. `pci::Device` is a transparent wrapper.
    let dev = unsafe { raw::pci_device(pdev) };

    listener.notify(event, dev);
}
