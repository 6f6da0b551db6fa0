// SPDX-License-Identifier: GPL-2.0

//! Clients: the PCI devices that do a fabric's DMA.
//!
//! C header: [`include/linux/device/bus.h`](srctree/include/linux/device/bus.h)

use crate::bindings;
use kernel::{
    bindings::notifier_block,
    device::Device,
    error::to_result,
    prelude::*,
    sync::Arc,
    types::Opaque, //
};

/// What a transport does when a client goes.
pub trait Watcher: Send + Sync + 'static {
    /// The device is about to be removed from the bus, or its driver to be unbound; or that was
    /// done.
    ///
    /// When this returns, the transport must not use the device any more. May sleep; the device's
    /// lock may be held.
    ///
    /// Called before and after: who looks for the device in between still finds it. After the
    /// second call a device that was removed is not found any more. So a transport that notes down
    /// that it uses a device, and then finds it on the bus, is told when it leaves.
    fn leaving(&self, device: &Device);
}

/// Watches the PCI bus for devices that leave, as long as it exists.
///
/// Dropping it waits for callbacks that are under way: it sleeps, and must not happen in
/// [`Watcher::leaving()`], which would wait for itself.
///
/// The counterpart of the `remove()` callback that transports get from their fabric's layer, such
/// as `ib_client`.
///
/// C: `bus_register_notifier()`.
#[doc(alias = "bus_register_notifier")]
#[pin_data(PinnedDrop)]
pub struct Watch<W: Watcher> {
    #[pin]
    notifier: Opaque<notifier_block>,
    watcher: Arc<W>,
}

// SAFETY: A notifier belongs to no thread, and `Arc<W>: Send`.
unsafe impl<W: Watcher> Send for Watch<W> {}
// SAFETY: As above, and `Arc<W>: Sync`.
unsafe impl<W: Watcher> Sync for Watch<W> {}

impl<W: Watcher> Watch<W> {
    /// Starts to watch. May sleep.
    ///
    /// # Errors
    ///
    /// What `bus_register_notifier()` returns.
    pub fn new(watcher: Arc<W>) -> impl PinInit<Self, Error> {
        try_pin_init!(Self {
            watcher,
            // After `watcher`, which the callback needs.
            notifier <- Opaque::try_ffi_init(|notifier: *mut notifier_block| {
                // SAFETY: `notifier` is valid for writing, and stays where it is until it is
                // unregistered in `drop()`.
                to_result(unsafe {
                    notifier.write(notifier_block {
                        notifier_call: Some(notify::<W>),
                        ..Default::default()
                    });
                    bindings::p2pdma_nvmet_helper_watch(notifier)
                })
            }),
        })
    }
}

#[pinned_drop]
impl<W: Watcher> PinnedDrop for Watch<W> {
    fn drop(self: Pin<&mut Self>) {
        // SAFETY: Registered in `new()`. Waits for callbacks that are under way.
        unsafe { bindings::p2pdma_nvmet_helper_unwatch(self.notifier.get()) };
    }
}

/// # Safety
///
/// To be called by the bus only, with the notifier of a [`Watch`] and a valid device.
unsafe extern "C" fn notify<W: Watcher>(
    notifier: *mut notifier_block,
    event: usize,
    data: *mut c_void,
) -> c_int {
    // CAST: The enumeration is an `unsigned int`.
    if [
        bindings::bus_notifier_event_BUS_NOTIFY_DEL_DEVICE,
        bindings::bus_notifier_event_BUS_NOTIFY_REMOVED_DEVICE,
        bindings::bus_notifier_event_BUS_NOTIFY_UNBIND_DRIVER,
        bindings::bus_notifier_event_BUS_NOTIFY_UNBOUND_DRIVER,
    ]
    .contains(&(event as bindings::bus_notifier_event))
    {
        // SAFETY: The notifier is part of a `Watch`, which is initialised but for the notifier's
        // registration itself.
        let watch =
            unsafe { &*kernel::container_of!(Opaque::cast_from(notifier), Watch<W>, notifier) };

        // SAFETY: The bus calls with a valid device.
        let device = unsafe { Device::from_raw(data.cast()) };

        watch.watcher.leaving(device);
    }
    0
}
