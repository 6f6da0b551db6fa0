// SPDX-License-Identifier: GPL-2.0

//! Queues: pairs of a submission and a completion queue, connected by a host.
//!
//! C header: [`drivers/nvme/target/nvmet.h`](srctree/drivers/nvme/target/nvmet.h)
//!
//! Place: `drivers/nvme/target/rust/queue.rs`, kept by NVM EXPRESS TARGET DRIVER.

use crate::{
    bindings,
    entry::Entries,
    transport::{
        Port,
        Transport,
        User, //
    }, //
};
use kernel::{
    device::Device,
    error::to_result,
    prelude::*,
    sync::{
        aref::ARef,
        Arc, //
    },
    types::Opaque, //
};

/// Both queues of a pair.
#[repr(C)]
struct Pair {
    cq: bindings::nvmet_cq,
    sq: bindings::nvmet_sq,
}

/// A pair of queues of a controller, connected through a port. Dropping it disconnects it; the
/// controller goes with its last queue.
///
/// C: `struct nvmet_sq`, `struct nvmet_cq`.
///
/// # Invariants
///
/// - `pair` was initialised by `nvmet_cq_init()` and `nvmet_sq_init()`.
/// - What [`Self::connect()`](Queue::connect) returned is connected: `sq.ctrl` is a valid
///   controller until `self` is dropped. Only that is shared.
#[doc(alias = "nvmet_sq")]
#[doc(alias = "nvmet_cq")]
#[pin_data(PinnedDrop)]
pub struct Queue<T: Transport> {
    client: Option<ARef<Device>>,
    // All dropped after `PinnedDrop::drop()`, in which the controller may go that refers to the
    // port.
    user: User<T>,
    admin: Option<Arc<Queue<T>>>,
    #[pin]
    entries: Entries,
    #[pin]
    pair: Opaque<Pair>,
}

// SAFETY: The queues belong to no thread.
unsafe impl<T: Transport> Send for Queue<T> {}
// SAFETY: The core takes requests of a connected queue from several threads at once, as nvme-loop
// hands them to it.
unsafe impl<T: Transport> Sync for Queue<T> {}

impl<T: Transport> Queue<T> {
    /// A pair of queues that is not connected yet.
    ///
    /// # Safety
    ///
    /// It must not be shared before it is connected: see the type's invariants.
    pub(crate) unsafe fn new(
        user: User<T>,
        client: Option<ARef<Device>>,
        admin: Option<Arc<Queue<T>>>,
    ) -> impl PinInit<Self, Error> {
        try_pin_init!(Self {
            client,
            user,
            admin,
            entries <- Entries::new(),
            // INVARIANT: Initialised as said.
            pair <- Opaque::try_ffi_init(|pair: *mut Pair| {
                // SAFETY: `pair` is valid for writing; all zero is what both functions expect
                // (transports allocate them with `kzalloc()`).
                to_result(unsafe {
                    pair.write_bytes(0, 1);
                    bindings::nvmet_cq_init(&raw mut (*pair).cq);
                    let ret = bindings::nvmet_sq_init(&raw mut (*pair).sq, &raw mut (*pair).cq);
                    if ret != 0 {
                        bindings::nvmet_cq_put(&raw mut (*pair).cq);
                    }
                    ret
                })
            }),
        })
    }

    /// All requests that were made for it.
    pub(crate) fn entries(&self) -> &Entries {
        &self.entries
    }

    pub(crate) fn sq(&self) -> *mut bindings::nvmet_sq {
        // SAFETY: In bounds of the pair.
        unsafe { &raw mut (*self.pair.get()).sq }
    }

    pub(crate) fn cq(&self) -> *mut bindings::nvmet_cq {
        // SAFETY: In bounds of the pair.
        unsafe { &raw mut (*self.pair.get()).cq }
    }

    pub(crate) fn user(&self) -> &User<T> {
        &self.user
    }

    /// The port that it was connected through.
    pub fn port(&self) -> &Arc<Port<T>> {
        self.user.port()
    }

    /// The device that does the fabric's DMA.
    pub fn client(&self) -> Option<&Device> {
        self.client.as_deref()
    }

    /// Its ID; 0 for an admin queue.
    pub fn id(&self) -> u16 {
        // SAFETY: The field is in bounds of the pair. It is written when the queue is connected,
        // which ends before the queue is shared, and not changed afterwards.
        unsafe { (*self.sq()).qid }
    }

    /// Number of entries.
    pub fn size(&self) -> u16 {
        // SAFETY: In bounds of the pair, written when the queue is connected, and not changed
        // afterwards.
        unsafe { (*self.sq()).size }
    }

    /// ID of its controller.
    pub fn ctrl_id(&self) -> u16 {
        // SAFETY: By the type invariant the queue is connected, so that `ctrl` is valid.
        unsafe { bindings::p2pdma_nvmet_helper_ctrl_id((*self.sq()).ctrl) }
    }
}

#[pinned_drop]
impl<T: Transport> PinnedDrop for Queue<T> {
    fn drop(self: Pin<&mut Self>) {
        // Waits until the core is done with all requests.
        //
        // SAFETY: By the type invariant both queues are initialised, and this is where they end.
        // All requests borrow the queue, so that there are none left but those that were leaked.
        // The core waits for those that were parsed, until they are abandoned.
        unsafe {
            self.entries.abandon_leaked();
            bindings::nvmet_sq_destroy(self.sq());
            bindings::nvmet_cq_put(self.cq());
            self.entries.free_leaked();
        }
    }
}
