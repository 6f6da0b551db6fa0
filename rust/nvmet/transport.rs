// SPDX-License-Identifier: GPL-2.0

//! Registration of a transport.
//!
//! C header: [`drivers/nvme/target/nvmet.h`](srctree/drivers/nvme/target/nvmet.h)
//!
//! # Examples
//!
//! ```ignore
#![doc = include_str!("examples/transport.rs")]
//! ```

use crate::{
    bindings,
    ctrl::Ctrl,
    port::Port, //
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
    sync::{
        atomic::{
            Acquire,
            Atomic,
            Release, //
        },
        rcu,
        Arc,
        CondVar,
        Mutex, //
    },
    types::{
        Opaque,
        ScopeGuard, //
    },
    workqueue, //
};

/// Type of a transport in Discovery Log Page Entries (TRTYPE), and the name that configfs has for
/// it in a port's `addr_trtype`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Type {
    /// `rdma`
    Rdma = bindings::NVMF_TRTYPE_RDMA as u8,
    /// `fc`
    Fc = bindings::NVMF_TRTYPE_FC as u8,
    /// `tcp`
    Tcp = bindings::NVMF_TRTYPE_TCP as u8,
    /// `loop`, "reserved for host usage": what a transport without a type of its own can use while
    /// `nvme-loop` is not loaded.
    Loop = bindings::NVMF_TRTYPE_LOOP as u8,
}

/// A transport.
pub trait Transport: Sized + Send + Sync + 'static {
    /// Its type.
    const TYPE: Type;

    /// Where its registration is found; a `static` of the module, and always the same one: ports
    /// are refused while what is found there is not the transport that is registered.
    fn slot() -> &'static Slot<Self>;

    /// The first subsystem was linked to a port of this type.
    ///
    /// May sleep; called with `nvmet_config_sem` held for writing, so it must not wait for a
    /// connect.
    fn add_port(&self, port: &Arc<Port<Self>>) -> Result;

    /// The last subsystem was unlinked from the port, and its controllers deleted before. Queues
    /// can no longer be connected through it when this returns.
    ///
    /// The transport has to drop the queues that are left, those of the discovery subsystem, in
    /// bounded time: the port's release waits for it.
    ///
    /// Context as for [`Self::add_port()`].
    fn remove_port(&self, port: &Port<Self>);

    /// A controller has to go, because its subsystem is unlinked from its port, or after a fatal
    /// error.
    ///
    /// The transport has to drop the controller's queues in bounded time. It must not do so here,
    /// where the core holds the subsystem's lock, but for instance from [`queue()`].
    fn delete_ctrl(&self, ctrl: &Ctrl<'_>);
}

/// The queue for work that the removal of a port has to wait for (`nvmet_wq`).
#[doc(alias = "nvmet_wq")]
pub fn queue() -> &'static workqueue::Queue {
    // SAFETY: Set once, when `nvmet.ko` was loaded.
    let wq = unsafe { bindings::nvmet_wq };

    // SAFETY: The queue is destroyed when `nvmet.ko` is removed, which is not before this module is
    // (point 1 of the crate's lifetimes).
    unsafe { workqueue::Queue::from_raw(wq) }
}

/// Where the registration of a transport can be found, from its callbacks and from elsewhere in its
/// module.
///
/// # Invariants
///
/// The pointer is NULL, or that of an [`Arc`] of whoever filled the slot, which is not dropped
/// before an RCU grace period has passed since the pointer was set to NULL.
pub struct Slot<T: Transport>(Atomic<*mut Registered<T>>);

impl<T: Transport> Slot<T> {
    /// An empty slot.
    #[allow(clippy::new_without_default)]
    pub const fn new() -> Self {
        // INVARIANT: NULL.
        Self(Atomic::<*mut Registered<T>>::new(core::ptr::null_mut()))
    }

    /// What is registered; [`None`] before and after.
    pub fn get(&self) -> Option<Arc<Registered<T>>> {
        let _guard = rcu::read_lock();
        let registered = NonNull::new(self.0.load(Acquire))?;

        // SAFETY: By the type invariant the pointer is that of an `Arc` which exists at least until
        // `_guard` is dropped, so it has a reference that can be duplicated: the `ManuallyDrop`
        // stands for that one.
        let borrowed = core::mem::ManuallyDrop::new(unsafe { Arc::from_raw(registered.as_ptr()) });

        Some((*borrowed).clone())
    }

    /// Fills an empty slot: [`EBUSY`] if it is not.
    ///
    /// Whoever has filled it keeps the type's invariant: calls [`Self::clear()`] on this slot
    /// before `registered` is dropped.
    fn set(&self, registered: &Arc<Registered<T>>) -> Result {
        let ptr = Arc::as_ptr(registered).cast_mut();

        // INVARIANT: The pointer of an `Arc`, for which the caller answers.
        self.0
            .cmpxchg(core::ptr::null_mut(), ptr, Release)
            .map_err(|_| EBUSY)?;
        Ok(())
    }

    /// Empties the slot, which the caller has filled, and waits for those who are looking at it.
    fn clear(&self) {
        // INVARIANT: NULL.
        self.0.store(core::ptr::null_mut(), Release);
        rcu::synchronize_rcu();
    }
}

/// Ports of a transport that the core has enabled.
///
/// # Invariants
///
/// While `open` is set, or `enabled` is not 0, the transport is registered with the core.
struct Ports {
    enabled: usize,
    open: bool,
}

/// A transport while it is registered, and for as long as something of it exists.
#[pin_data]
pub struct Registered<T: Transport> {
    #[pin]
    ops: Opaque<bindings::nvmet_fabrics_ops>,
    #[pin]
    ports: Mutex<Ports>,
    #[pin]
    removed: CondVar,
    #[pin]
    transport: T,
}

// SAFETY: `ops` is written before it is shared, and `T: Send`.
unsafe impl<T: Transport> Send for Registered<T> {}
// SAFETY: As above, and `T: Sync`.
unsafe impl<T: Transport> Sync for Registered<T> {}

impl<T: Transport> Deref for Registered<T> {
    type Target = T;

    fn deref(&self) -> &T {
        &self.transport
    }
}

impl<T: Transport> Registered<T> {
    /// The operations, valid for as long as `self`.
    pub(crate) fn ops(&self) -> *const bindings::nvmet_fabrics_ops {
        self.ops.get()
    }

    fn port_removed(&self) {
        // INVARIANT: Fewer than before.
        self.ports.lock().enabled -= 1;
        self.removed.notify_all();
    }
}

/// The registration of a transport, undone when it is dropped.
///
/// Dropping waits until no port of this type is enabled any more. In a module's data it never has
/// to wait: the core holds a reference to the module for each enabled port.
///
/// C: `nvmet_register_transport()`, `nvmet_unregister_transport()`.
///
/// # Invariants
///
/// `registered` is registered with the core, and `slot`, which this object has filled, holds it.
pub struct Registration<T: Transport> {
    registered: Arc<Registered<T>>,
    slot: &'static Slot<T>,
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
            queue_response: Some(crate::request::queue_response),
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

        slot.set(&registered)?;

        // SAFETY: The operations stay where they are, and are valid for as long as point 2 of the
        // crate's lifetimes demands. Their functions are those of this crate.
        let result = to_result(unsafe { bindings::nvmet_register_transport(registered.ops()) });

        if result.is_err() {
            slot.clear();
            // The only reason there is, for which the C function says EINVAL.
            return Err(EBUSY);
        }

        // A port that the core adds before that is refused.
        //
        // INVARIANT: Registered.
        registered.ports.lock().open = true;

        // INVARIANT: As above.
        Ok(Self { registered, slot })
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
        let mut ports = self.registered.ports.lock();

        // From now on `add_port()` refuses.
        ports.open = false;
        while ports.enabled > 0 {
            self.registered.removed.wait(&mut ports);
        }
        drop(ports);

        // SAFETY: Registered, by the type invariant. No port is enabled, and none can be: the core
        // would look for the transport of an enabled port.
        unsafe { bindings::nvmet_unregister_transport(self.registered.ops()) };

        // Before the `Arc` is dropped, as the slot's invariant demands.
        self.slot.clear();

        // SAFETY: `nvmet_wq` exists (point 1 of the crate's lifetimes). What is flushed is point 7.
        unsafe { bindings::p2pdma_nvmet_helper_flush() };
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
    // SAFETY: The port is valid.
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

    // SAFETY: The controller is valid.
    let ops = unsafe { bindings::p2pdma_nvmet_helper_ctrl_ops(ctrl.as_ptr()) };
    // SAFETY: `ops` is that of the registration through whose port the controller was connected,
    // which exists as long as the controller does (point 2 of the crate's lifetimes).
    let registered = unsafe { &*kernel::container_of!(Opaque::cast_from(ops), Registered<T>, ops) };

    // SAFETY: The controller is valid for the duration of the call.
    let ctrl = unsafe { Ctrl::from_raw(ctrl) };

    registered.transport.delete_ctrl(&ctrl);
}
