// SPDX-License-Identifier: GPL-2.0

//! What a transport is, and its ports: where hosts connect, created by the administrator in
//! configfs.
//!
//! C header: [`drivers/nvme/target/nvmet.h`](srctree/drivers/nvme/target/nvmet.h)
//!
//! Place: `drivers/nvme/target/rust/transport.rs`, kept by NVM EXPRESS TARGET DRIVER.

use crate::{
    bindings,
    ctrl::Ctrl, //
};
use core::{
    ops::Deref,
    ptr::NonNull, //
};
use kernel::{
    impl_has_work,
    new_condvar,
    new_mutex,
    new_work,
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
    types::Opaque,
    workqueue::{
        self,
        Work,
        WorkItem, //
    }, //
};
use p2pdma::compat::synchronize_rcu;

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
    /// # Safety
    ///
    /// The caller must keep a reference to `registered` until it has called [`Self::clear()`] on
    /// this slot.
    pub(crate) unsafe fn set(&self, registered: &Arc<Registered<T>>) -> Result {
        let ptr = Arc::as_ptr(registered).cast_mut();

        // INVARIANT: The pointer of an `Arc` that is not dropped before the slot was cleared and a
        // grace period has passed, by the safety requirement.
        self.0
            .cmpxchg(core::ptr::null_mut(), ptr, Release)
            .map_err(|_| EBUSY)?;
        Ok(())
    }

    /// Empties the slot, and waits for those who are looking at it. May sleep.
    ///
    /// Safe at any time: what is found in a slot that is emptied too early is [`None`].
    pub(crate) fn clear(&self) {
        // INVARIANT: NULL.
        self.0.store(core::ptr::null_mut(), Release);
        synchronize_rcu();
    }
}

/// Ports of a transport that the core has enabled.
///
/// # Invariants
///
/// While `open` is set, or `enabled` is not 0, the transport is registered with the core.
pub(crate) struct Ports {
    pub(crate) enabled: usize,
    pub(crate) open: bool,
}

/// A transport while it is registered, and for as long as something of it exists.
#[pin_data]
pub struct Registered<T: Transport> {
    #[pin]
    pub(crate) ops: Opaque<bindings::nvmet_fabrics_ops>,
    #[pin]
    pub(crate) ports: Mutex<Ports>,
    #[pin]
    pub(crate) removed: CondVar,
    #[pin]
    pub(crate) transport: T,
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

    /// One of the ports that were counted in [`Ports`] is not enabled any more.
    pub(crate) fn port_removed(&self) {
        // INVARIANT: Fewer than before.
        self.ports.lock().enabled -= 1;
        self.removed.notify_all();
    }
}

/// Who uses a port.
struct Users {
    queues: usize,
    retired: bool,
}

/// A port of a transport, from [`Transport::add_port()`] on.
///
/// C: `struct nvmet_port`.
///
/// # Invariants
///
/// - `port` is a valid `struct nvmet_port` until `retire()` was called and no `User` of it is left.
/// - There is no new `User` once `users.retired` is set.
#[doc(alias = "nvmet_port")]
#[pin_data]
pub struct Port<T: Transport> {
    port: NonNull<bindings::nvmet_port>,
    id: u16,
    registered: Arc<Registered<T>>,
    #[pin]
    users: Mutex<Users>,
    #[pin]
    unused: CondVar,
    #[pin]
    work: Work<Self>,
}

// SAFETY: A `struct nvmet_port` belongs to no thread.
unsafe impl<T: Transport> Send for Port<T> {}
// SAFETY: What `port` points to is only read, and does not change while the port is enabled.
unsafe impl<T: Transport> Sync for Port<T> {}

impl_has_work! {
    impl{T: Transport} HasWork<Self> for Port<T> { self.work }
}

impl<T: Transport> Port<T> {
    /// # Safety
    ///
    /// `port` must be a valid port, and stay so until after [`Self::retire()`] was called and the
    /// item that it puts on `nvmet_wq` was done.
    pub(crate) unsafe fn new(
        port: NonNull<bindings::nvmet_port>,
        registered: Arc<Registered<T>>,
    ) -> Result<Arc<Self>> {
        // SAFETY: The port is valid.
        let id = unsafe { bindings::p2pdma_nvmet_helper_port_id(port.as_ptr()) };

        // INVARIANT: `port` is valid by the safety requirement: the item that `retire()` queues is
        // done when there are no users any more.
        Arc::pin_init(
            try_pin_init!(Self {
                port,
                id,
                registered,
                users <- new_mutex!(Users { queues: 0, retired: false }),
                unused <- new_condvar!(),
                work <- new_work!("nvmet::Port::work"),
            }),
            GFP_KERNEL,
        )
    }

    /// The port's ID: the name of its directory in configfs.
    pub fn id(&self) -> u16 {
        self.id
    }

    /// The transport.
    pub fn registered(&self) -> &Arc<Registered<T>> {
        &self.registered
    }

    /// Lets nobody in any more, and holds up the release of the `struct nvmet_port` until the last
    /// has left. What is called after the first time does nothing.
    pub(crate) fn retire(self: &Arc<Self>) {
        // INVARIANT: From here on `enter()` fails.
        if core::mem::replace(&mut self.users.lock().retired, true) {
            return;
        }

        // Fails if it is queued already, and this is called once.
        let _ = queue().enqueue(self.clone());
    }

    /// Counts in a user of the port; [`ENODEV`] if the port is being removed.
    pub(crate) fn enter(self: &Arc<Self>) -> Result<User<T>> {
        let mut users = self.users.lock();

        if users.retired {
            return Err(ENODEV);
        }
        users.queues += 1;
        drop(users);

        // INVARIANT: Counted in above.
        Ok(User { port: self.clone() })
    }
}

impl<T: Transport> WorkItem for Port<T> {
    type Pointer = Arc<Self>;

    /// Runs on `nvmet_wq`, which `nvmet_port_release()` flushes before it frees the port.
    fn run(this: Arc<Self>) {
        let mut users = this.users.lock();

        while users.queues > 0 {
            this.unused.wait(&mut users);
        }
    }
}

/// A user of a port, which is valid as long as it has any.
///
/// # Invariants
///
/// `port.users.queues` counts this object.
pub(crate) struct User<T: Transport> {
    port: Arc<Port<T>>,
}

impl<T: Transport> User<T> {
    /// The port.
    pub(crate) fn port(&self) -> &Arc<Port<T>> {
        &self.port
    }

    /// The C structure, valid for as long as `self`.
    pub(crate) fn as_raw(&self) -> *mut bindings::nvmet_port {
        self.port.port.as_ptr()
    }
}

impl<T: Transport> Drop for User<T> {
    fn drop(&mut self) {
        // Notified under the lock: when the waiter sees the count, this is done with the port.
        let mut users = self.port.users.lock();

        users.queues -= 1;
        if users.queues == 0 {
            self.port.unused.notify_all();
        }
    }
}
