// SPDX-License-Identifier: GPL-2.0

//! Registration of a transport.
//!
//! C header: [`drivers/nvme/target/nvmet.h`](srctree/drivers/nvme/target/nvmet.h)
//!
//! Place: `drivers/nvme/target/rust/registration.rs`, kept by NVM EXPRESS TARGET DRIVER.
//!
//! # Examples
//!
//! ```ignore
#![doc = include_str!("examples/transport.rs")]
//! ```

use crate::{
    bindings,
    ctrl::Ctrl,
    transport::{
        Port,
        Ports,
        Registered,
        Slot,
        Transport, //
    }, //
};
use core::{
    ops::Deref,
    ptr::NonNull, //
};
use kernel::{
    error::{
        from_result,
        to_result, //
    },
    new_condvar,
    new_mutex,
    prelude::*,
    sync::Arc,
    types::{
        Opaque,
        ScopeGuard, //
    }, //
};
use p2pdma::system::{
    Abandoned,
    AtModuleExit, //
};

/// The registration of a transport, undone when it is dropped.
///
/// Dropping waits until no port of this type is enabled any more. In a module's data it never has
/// to wait: the core holds a reference to the module for each enabled port.
///
/// It may be leaked: then it is removed when its module goes ([`AtModuleExit`]).
///
/// C: `nvmet_register_transport()`, `nvmet_unregister_transport()`.
///
/// # Invariants
///
/// `registered` is registered with the core, and `slot`, which this object has filled, holds it.
pub struct Registration<T: Transport> {
    registered: Arc<Registered<T>>,
    slot: &'static Slot<T>,
    // Cancelled after `registered` was removed.
    _at_exit: AtModuleExit,
}

/// A registration, for the time when its module goes and it was leaked.
struct Leaked<T: Transport> {
    registered: Arc<Registered<T>>,
    slot: &'static Slot<T>,
}

impl<T: Transport> Abandoned for Leaked<T> {
    fn abandoned(&self) {
        // SAFETY: Whoever drops the registration cancels this, so it was leaked: it is registered,
        // and nobody else removes it.
        unsafe { remove(&self.registered, self.slot) };
    }
}

/// Removes a transport from the core, after all ports of its type were disabled, for which it
/// waits.
///
/// # Safety
///
/// `registered` must be registered with the core and be what `slot` holds; it is not registered
/// after that.
unsafe fn remove<T: Transport>(registered: &Arc<Registered<T>>, slot: &Slot<T>) {
    let mut ports = registered.ports.lock();

    // From now on `add_port()` refuses.
    ports.open = false;
    while ports.enabled > 0 {
        registered.removed.wait(&mut ports);
    }
    drop(ports);

    // SAFETY: Registered, by the safety requirement. No port is enabled, and none can be: the core
    // would look for the transport of an enabled port.
    unsafe { bindings::nvmet_unregister_transport(registered.ops()) };

    // Before the `Arc` is dropped, as the slot's invariant demands.
    slot.clear();

    // SAFETY: `nvmet_wq` exists (point 1 of the crate's lifetimes). What is flushed is point 7.
    unsafe { bindings::p2pdma_nvmet_helper_flush() };
}

impl<T: Transport> Registration<T> {
    /// Registers `transport`. May sleep.
    ///
    /// # Errors
    ///
    /// - [`EBUSY`] if a transport of this type is registered, or the slot is taken.
    /// - [`ENOMEM`].
    #[doc(alias = "nvmet_register_transport")]
    pub fn new<E>(module: &'static ThisModule, transport: impl PinInit<T, E>) -> Result<Self>
    where
        Error: From<E>,
    {
        let ops = bindings::nvmet_fabrics_ops {
            owner: module.as_ptr(),
            // CAST: The enumeration's representation is `u8`.
            type_: c_uint::from(T::TYPE as u8),
            queue_response: Some(crate::entry::queue_response),
            add_port: Some(add_port::<T>),
            remove_port: Some(remove_port::<T>),
            delete_ctrl: Some(delete_ctrl::<T>),
            ..Default::default()
        };
        let registered = Arc::pin_init::<Error>(
            try_pin_init!(Registered {
                ops: Opaque::new(ops),
                // INVARIANT: Not open, and without ports.
                ports <- new_mutex!(Ports { enabled: 0, open: false }),
                removed <- new_condvar!(),
                transport <- transport,
            }),
            GFP_KERNEL,
        )?;
        // Asked once: what is filled here is what is cleared.
        let slot = T::slot();
        let leaked = Arc::new(
            Leaked {
                registered: registered.clone(),
                slot,
            },
            GFP_KERNEL,
        )?;

        // SAFETY: The registration, or what is below, keeps the reference until it has emptied the
        // slot.
        unsafe { slot.set(&registered) }?;

        // SAFETY: The operations stay where they are, and are valid for as long as point 2 of the
        // crate's lifetimes demands. Their functions are those of this crate.
        let result = to_result(unsafe { bindings::nvmet_register_transport(registered.ops()) });

        if result.is_err() {
            slot.clear();
            // The only reason there is, for which the C function says EINVAL.
            return Err(EBUSY);
        }

        let at_exit = AtModuleExit::new(leaked).inspect_err(|_| {
            // SAFETY: Registered just now.
            unsafe { remove(&registered, slot) };
        })?;

        // A port that the core adds before that is refused.
        //
        // INVARIANT: Registered.
        registered.ports.lock().open = true;

        // INVARIANT: As above.
        Ok(Self {
            registered,
            slot,
            _at_exit: at_exit,
        })
    }
}

impl<T: Transport> Deref for Registration<T> {
    type Target = Arc<Registered<T>>;

    fn deref(&self) -> &Self::Target {
        &self.registered
    }
}

impl<T: Transport> Drop for Registration<T> {
    fn drop(&mut self) {
        // SAFETY: Registered, and in the slot, by the type invariant; `self` is dropped once, and
        // the other way to remove it is for what was leaked.
        unsafe { remove(&self.registered, self.slot) };
    }
}

/// `nvmet_fabrics_ops.add_port()`
///
/// # Safety
///
/// To be called by the core only, which keeps the transport of type `T::TYPE` from being
/// unregistered meanwhile: `port` is valid, and of that type.
unsafe extern "C" fn add_port<T: Transport>(port: *mut bindings::nvmet_port) -> c_int {
    from_result(|| {
        let registered = T::slot().get().ok_or(ENODEV)?;
        let raw = NonNull::new(port).ok_or(EINVAL)?;

        {
            let mut ports = registered.ports.lock();
            if !ports.open {
                return Err(ENODEV);
            }
            // INVARIANT: It is open, and so it is registered; and so it is the one that the core
            // calls, of which there is one of a type. It stays until the count is 0 again.
            ports.enabled += 1;
        }
        let undo = ScopeGuard::new_with_data(registered.clone(), |registered| {
            registered.port_removed();
        });

        // SAFETY: The core calls with a valid port, and will call `remove_port()` before it is
        // released (unless this function fails, and then nobody keeps it).
        let port = unsafe { Port::new(raw, registered.clone()) }?;
        if let Err(e) = registered.transport.add_port(&port) {
            port.retire();
            return Err(e);
        }

        // SAFETY: The port is valid, and its private data are for the transport to use.
        unsafe {
            bindings::p2pdma_nvmet_helper_port_set_priv(
                raw.as_ptr(),
                Arc::into_raw(port).cast_mut().cast(),
            )
        };
        undo.dismiss();
        Ok(0)
    })
}

/// `nvmet_fabrics_ops.remove_port()`
///
/// # Safety
///
/// To be called by the core only, for a port for which [`add_port()`] succeeded.
unsafe extern "C" fn remove_port<T: Transport>(port: *mut bindings::nvmet_port) {
    // SAFETY: The core calls with a valid port.
    let private = unsafe { bindings::p2pdma_nvmet_helper_port_priv(port) };
    // SAFETY: Set by `add_port()`, and taken away only here.
    let port = unsafe { Arc::<Port<T>>::from_raw(private.cast()) };
    let registered = port.registered().clone();

    registered.transport.remove_port(&port);
    port.retire();
    drop(port);
    registered.port_removed();
}

/// `nvmet_fabrics_ops.delete_ctrl()`
///
/// # Safety
///
/// To be called by the core only: `ctrl` is valid and was created through a queue of `T`.
unsafe extern "C" fn delete_ctrl<T: Transport>(ctrl: *mut bindings::nvmet_ctrl) {
    let Some(ctrl) = NonNull::new(ctrl) else {
        return;
    };

    // SAFETY: The core calls with a valid controller.
    let ops = unsafe { bindings::p2pdma_nvmet_helper_ctrl_ops(ctrl.as_ptr()) };
    // SAFETY: `ops` is that of the registration through whose port the controller was connected,
    // which exists as long as the controller does (point 2 of the crate's lifetimes).
    let registered = unsafe { &*kernel::container_of!(Opaque::cast_from(ops), Registered<T>, ops) };

    // SAFETY: The controller is valid for the duration of the call.
    let ctrl = unsafe { Ctrl::from_raw(ctrl) };

    registered.transport.delete_ctrl(&ctrl);
}
