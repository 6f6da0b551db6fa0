// SPDX-License-Identifier: GPL-2.0

//! Clients: the PCI devices that do a fabric's DMA.
//!
//! C header: [`include/linux/device/bus.h`](srctree/include/linux/device/bus.h)
//!
//! Place: `drivers/nvme/target/rust/client.rs`, kept by NVM EXPRESS TARGET DRIVER.

use kernel::{
    device::Device,
    pci,
    prelude::*,
    sync::Arc, //
};
use p2pdma::pci::notifier::{
    Event,
    Listener,
    Listening, //
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

/// Watches the PCI bus for devices that leave, as long as it exists. It may be made, dropped and
/// leaked anywhere: see [`Listening`]. A callback that is under way when it is dropped goes on.
///
/// The counterpart of the `remove()` callback that transports get from their fabric's layer, such
/// as `ib_client`.
///
/// C: `bus_register_notifier()`.
#[doc(alias = "bus_register_notifier")]
pub struct Watch {
    _listening: Listening,
}

impl Watch {
    /// Starts to watch. May sleep.
    ///
    /// # Errors
    ///
    /// [`ENOMEM`].
    pub fn new<W: Watcher>(watcher: Arc<W>) -> Result<Self> {
        Ok(Self {
            _listening: Listening::new(Arc::new(Leaving(watcher), GFP_KERNEL)?)?,
        })
    }
}

/// What the bus tells, as far as it matters to transports.
struct Leaving<W>(Arc<W>);

impl<W: Watcher> Listener for Leaving<W> {
    fn notify(&self, event: Event, dev: &pci::Device) {
        match event {
            Event::Remove | Event::Removed | Event::Unbind | Event::Unbound => {
                self.0.leaving(dev.as_ref())
            }
            Event::Bind | Event::NotBound => (),
        }
    }
}
