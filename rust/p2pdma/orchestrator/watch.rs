// SPDX-License-Identifier: GPL-2.0

//! Being told when a provider goes, for orchestrators that keep its memory.
//!
//! Unbinding a provider's driver waits for all of its memory (see the lifetime argument in the
//! [crate's documentation](crate#lifetimes)). An orchestrator that keeps memory for as long as its
//! own users like needs a reason to give it back, and this is one: the bus tells that a driver is
//! about to be unbound, or that its `probe()` failed, before the memory is waited for.
//!
//! C header: [`include/linux/device/bus.h`](srctree/include/linux/device/bus.h)
//!
//! # Examples
//!
//! Memory that is kept until its provider goes:
//!
//! ```ignore
#![doc = include_str!("../examples/watch.rs")]
//! ```

use crate::{
    provider,
    raw, //
};
use kernel::{
    bindings,
    error::to_result,
    pci,
    prelude::*,
    types::Opaque, //
};

/// What an orchestrator does when drivers are unbound from providers.
///
/// Both functions may sleep. They run in the thread that binds, unbinds or removes the device,
/// mostly with its lock held: what they wait for must not wait for that lock.
///
/// Nothing is borrowed (`'static`): a [`Watch`] that is leaked goes on calling them.
pub trait Events: Send + Sync + 'static {
    /// The driver of `dev`, which is set up as a provider, is about to be unbound; or its `probe()`
    /// failed after it had registered the memory, which user space may have mapped and pinned by
    /// then.
    ///
    /// All that keeps memory of `dev` has to go, now or as soon as the call that uses it returns;
    /// and nothing must be added any more, although allocations still succeed for a while, until
    /// [`Self::gone()`].
    fn going(&self, dev: &pci::Device);

    /// The memory that `dev` had as a provider is gone, if it had any: its driver was unbound, or
    /// the next one is about to be bound, or it was removed from the bus.
    ///
    /// Nobody tells of the end where `probe()` failed, only of the attempt after it. So a device
    /// can be one that goes for as long as the system runs: what is kept of those must not be
    /// limited to few of them, or has to leave out those that are [no
    /// providers](provider::provides) any more.
    fn gone(&self, dev: &pci::Device);
}

/// Calls the functions of `T` for as long as it exists.
///
/// What is made while a driver is being unbound is not told that this one is going. So whoever
/// makes one for each of its users, as they come, needs one more that is older than all of them,
/// and tells which drivers are going. Those that are older are called first.
///
/// C: `bus_register_notifier()` on `pci_bus_type`.
///
/// # Invariants
///
/// `block` is registered with `pci_bus_type`, and its callback is `notify()`.
#[pin_data(PinnedDrop)]
pub struct Watch<T: Events> {
    #[pin]
    block: Opaque<bindings::notifier_block>,
    #[pin]
    events: T,
}

// SAFETY: A notifier can be unregistered on any thread, and `T` is `Send`.
unsafe impl<T: Events> Send for Watch<T> {}

// SAFETY: Through a shared reference only `events` can be reached, and `T` is `Sync`.
unsafe impl<T: Events> Sync for Watch<T> {}

impl<T: Events> Watch<T> {
    /// Starts watching. May sleep.
    #[doc(alias = "bus_register_notifier")]
    pub fn new<E>(events: impl PinInit<T, E>) -> impl PinInit<Self, Error>
    where
        Error: From<E>,
    {
        try_pin_init!(Self {
            // First, because it may be called as soon as the notifier is registered.
            events <- events,
            block <- Opaque::try_ffi_init(|slot: *mut bindings::notifier_block| {
                let block = bindings::notifier_block {
                    notifier_call: Some(Self::notify),
                    ..pin_init::zeroed()
                };

                // SAFETY: `slot` is valid for writing.
                unsafe { slot.write(block) };
                // INVARIANT: Registered here.
                // SAFETY: The bus exists for as long as the kernel runs. The block is initialized,
                // and stays where it is until it is unregistered when `self` is dropped.
                to_result(unsafe {
                    bindings::bus_register_notifier(&raw const bindings::pci_bus_type, slot)
                })
            }),
        })
    }

    /// # Safety
    ///
    /// `block` must be that of a `Watch<T>`, and `data` a `struct device` of `pci_bus_type`.
    unsafe extern "C" fn notify(
        block: *mut bindings::notifier_block,
        event: c_ulong,
        data: *mut c_void,
    ) -> c_int {
        // SAFETY: `block` is the field of a `Watch<T>` by the safety requirement. `Opaque` is a
        // transparent wrapper.
        let this =
            unsafe { kernel::container_of!(Opaque::cast_from(block).cast_mut(), Self, block) };
        // SAFETY: The `Watch` exists: it unregisters the notifier, which waits for this function,
        // before it goes, and what is pinned and leaked stays where it is. `events`, which borrows
        // nothing, was initialized before the notifier was registered.
        let events = unsafe { &(*this).events };
        // SAFETY: `data` is a `struct device` that is part of a `struct pci_dev`, by the safety
        // requirement; whoever notifies holds a reference to it.
        let dev = unsafe { raw::pci_dev_of(data.cast()) };

        // CAST: Small positive constants.
        match event as bindings::bus_notifier_event {
            // Both come before managed resources are released.
            bindings::bus_notifier_event_BUS_NOTIFY_UNBIND_DRIVER
            | bindings::bus_notifier_event_BUS_NOTIFY_DRIVER_NOT_BOUND
                if provider::provides(dev) =>
            {
                events.going(dev)
            }
            // After `DRIVER_NOT_BOUND` there is no `UNBOUND_DRIVER`. A driver is bound only to a
            // device that has no managed resources.
            bindings::bus_notifier_event_BUS_NOTIFY_UNBOUND_DRIVER
            | bindings::bus_notifier_event_BUS_NOTIFY_BIND_DRIVER
            | bindings::bus_notifier_event_BUS_NOTIFY_REMOVED_DEVICE => events.gone(dev),
            _ => (),
        }

        // CAST: NOTIFY_DONE is 0.
        bindings::NOTIFY_DONE as c_int
    }

    /// Who is told.
    pub fn events(&self) -> &T {
        &self.events
    }
}

#[pinned_drop]
impl<T: Events> PinnedDrop for Watch<T> {
    fn drop(self: Pin<&mut Self>) {
        // SAFETY: By the type invariant the block is registered with this bus. The function waits
        // for callbacks that are running.
        unsafe {
            bindings::bus_unregister_notifier(&raw const bindings::pci_bus_type, self.block.get())
        };
    }
}
