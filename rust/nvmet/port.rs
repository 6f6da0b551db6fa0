// SPDX-License-Identifier: GPL-2.0

//! Ports: where hosts connect, created by the administrator in configfs.
//!
//! C header: [`drivers/nvme/target/nvmet.h`](srctree/drivers/nvme/target/nvmet.h)

use crate::{
    bindings,
    transport::{
        self,
        Registered,
        Transport, //
    }, //
};
use core::ptr::NonNull;
use kernel::{
    impl_has_work,
    new_condvar,
    new_mutex,
    new_work,
    prelude::*,
    sync::{
        Arc,
        CondVar,
        Mutex, //
    },
    workqueue::{
        Work,
        WorkItem, //
    }, //
};

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
// SAFETY: What is behind `port` is only read, and does not change while the port is enabled.
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
    /// has left. To be called once.
    pub(crate) fn retire(self: &Arc<Self>) {
        // INVARIANT: From here on `enter()` fails.
        self.users.lock().retired = true;

        // Fails if it is queued already, and this is called once.
        let _ = transport::queue().enqueue(self.clone());
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
