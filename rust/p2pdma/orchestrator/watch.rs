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
//!
//! In the kernel's tree this would be `rust/kernel/pci/p2pdma/watch.rs`, of the maintainers of PCI
//! peer-to-peer DMA.

use crate::{
    pci::notifier::{
        Event,
        Listener,
        Listening, //
    },
    provider, //
};
use kernel::{
    pci,
    prelude::*,
    sync::Arc, //
};

/// What an orchestrator does when drivers are unbound from providers.
///
/// Both functions may sleep. They run in the thread that binds, unbinds or removes the device,
/// mostly with its lock held: what they wait for must not wait for that lock. Nor must they bind or
/// unbind PCI devices: see [`Listener`].
///
/// Nothing is borrowed (`'static`): a [`Watch`] that is leaked goes on calling them, as long as the
/// module is there that they are part of.
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

/// Calls the functions of `T` for as long as it exists. It may be made and dropped anywhere, also
/// in these functions. A call that is under way when it is dropped goes on, and keeps what is told.
///
/// What is made while a driver is being unbound is not told that this one is going. So whoever
/// makes one for each of its users, as they come, needs one more that is older than all of them,
/// and tells which drivers are going. Those that are older are called first.
///
/// It can be leaked: see [`Listening`].
///
/// C: `bus_register_notifier()` on `pci_bus_type`.
pub struct Watch<T: Events> {
    // Dropped first, so that who watches is not told any more once its owner has let it go.
    _listening: Listening,
    told: Arc<Told<T>>,
}

/// What the bus tells, as far as it matters to orchestrators.
#[pin_data]
struct Told<T> {
    #[pin]
    events: T,
}

impl<T: Events> Listener for Told<T> {
    fn notify(&self, event: Event, dev: &pci::Device) {
        match event {
            // Both come before managed resources are released.
            Event::Unbind | Event::NotBound if provider::provides(dev) => self.events.going(dev),
            // After `NotBound` there is no `Unbound`. A driver is bound only to a device that has
            // no managed resources.
            Event::Unbound | Event::Bind | Event::Removed => self.events.gone(dev),
            Event::Unbind | Event::NotBound | Event::Remove => (),
        }
    }
}

impl<T: Events> Watch<T> {
    /// Starts watching. May sleep.
    ///
    /// # Errors
    ///
    /// - [`ENOMEM`].
    /// - What the initializer returns.
    #[doc(alias = "bus_register_notifier")]
    pub fn new<E>(events: impl PinInit<T, E>) -> Result<Self>
    where
        Error: From<E>,
    {
        let told = Arc::pin_init::<Error>(
            try_pin_init!(Told {
                events <- events,
            }? Error),
            GFP_KERNEL,
        )?;

        Ok(Self {
            _listening: Listening::new(told.clone())?,
            told,
        })
    }

    /// Who is told.
    pub fn events(&self) -> &T {
        &self.told.events
    }
}
