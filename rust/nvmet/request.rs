// SPDX-License-Identifier: GPL-2.0

//! Requests: commands on their way through the target.
//!
//! C header: [`drivers/nvme/target/nvmet.h`](srctree/drivers/nvme/target/nvmet.h)
//!
//! Place: `drivers/nvme/target/rust/request.rs`, kept by NVM EXPRESS TARGET DRIVER.
//!
//! The type of a [`Request`] says how far it got:
//!
//! ```text
//!        new()            init()               execute()         wait()
//!   ------------> Idle ------------> Parsed ------------> (core) --------> Completed
//!                  ^       refused      | alloc_data(),                        |
//!                  |  +-----------------| data()                               | data()
//!                  |  v                 v drop: the core lets go of it         v
//!                  +- Completed                                            recycle()
//! ```
//!
//! # Examples
//!
//! ```ignore
#![doc = include_str!("examples/request.rs")]
//! ```

use crate::{
    bindings,
    command::{
        Command,
        Status, //
    },
    data::Data,
    entry::{
        free_data,
        Collector,
        Entry, //
    },
    queue::Queue,
    transport::Transport, //
};
use core::{
    marker::PhantomData,
    mem::ManuallyDrop,
    ptr::NonNull, //
};
use kernel::{
    error::to_result,
    pci,
    prelude::*, //
};

/// How far a [`Request`] got.
pub trait State: private::Sealed {}

/// Nothing is under way.
pub enum Idle {}
/// The core has parsed the command, holds on to queue and namespace, and waits for the execution.
pub enum Parsed {}
/// The core is done with the command.
pub enum Completed {}

impl State for Idle {}
impl State for Parsed {}
impl State for Completed {}

mod private {
    pub trait Sealed {}

    impl Sealed for super::Idle {}
    impl Sealed for super::Parsed {}
    impl Sealed for super::Completed {}
}

/// A request.
///
/// Dropping it gives back its memory, and before that what the core holds for it.
///
/// C: `struct nvmet_req`.
///
/// # Invariants
///
/// - `entry` is valid, its request is in state `S` and `entry.parsed` says whether that is
///   [`Parsed`]; nobody else uses it, but for the list of the queue that it is on.
/// - `entry.queue` points to a `Queue<T>` that is valid for `'q`, and made the entry.
/// - If `entry.req.sg` is not NULL, it is a list that `nvmet_req_alloc_sgls()` made for it.
#[doc(alias = "nvmet_req")]
pub struct Request<'q, T: Transport, S: State = Idle> {
    entry: NonNull<Entry>,
    queue: PhantomData<&'q Queue<T>>,
    state: PhantomData<S>,
}

// SAFETY: A request belongs to no thread, and neither does its queue, which is `Sync`.
unsafe impl<T: Transport, S: State> Send for Request<'_, T, S> {}

impl<'q, T: Transport, S: State> Request<'q, T, S> {
    /// # Safety
    ///
    /// What is returned must fulfil the type's invariants, and be the only request of `entry`.
    unsafe fn from_raw(entry: NonNull<Entry>) -> Self {
        // INVARIANT: By the safety requirement.
        Self {
            entry,
            queue: PhantomData,
            state: PhantomData,
        }
    }

    /// Gives up the request, and what it owns with it.
    fn into_raw(self) -> NonNull<Entry> {
        ManuallyDrop::new(self).entry
    }

    fn entry(&self) -> *mut Entry {
        self.entry.as_ptr()
    }

    fn req(&self) -> *mut bindings::nvmet_req {
        // SAFETY: In bounds of the entry, which is valid by the type invariant.
        unsafe { &raw mut (*self.entry()).req }
    }

    /// The same request in another state.
    ///
    /// # Safety
    ///
    /// The caller must have brought about that state, `entry.parsed` included.
    unsafe fn with_state<N: State>(self) -> Request<'q, T, N> {
        // SAFETY: The invariants are those of `self` but for the state, which is the caller's; and
        // `self` is given up.
        unsafe { Request::from_raw(self.into_raw()) }
    }

    /// The queue.
    pub fn queue(&self) -> &'q Queue<T> {
        // SAFETY: By the type invariant.
        unsafe { &*(*self.entry()).queue.cast() }
    }

    /// The command; of no meaning while the request is idle.
    pub fn command(&self) -> &Command {
        // SAFETY: The core does not write to it while the request is not in its hands.
        unsafe { &(*self.entry()).command }
    }

    /// The provider whose peer-to-peer memory holds the data; [`None`] if there are no data, or
    /// they are in memory of the system.
    ///
    /// C: `req->p2p_dev`.
    pub fn provider(&self) -> Option<&pci::Device> {
        // SAFETY: The request is not in the core's hands.
        let dev = unsafe {
            if (*self.req()).sg.is_null() {
                return None;
            }
            NonNull::new((*self.req()).p2p_dev)?
        };

        // SAFETY: The device stays while memory of its pool is allocated, and that is while `self`
        // is borrowed (point 6 of the crate's lifetimes). `pci::Device` is a transparent wrapper of
        // `struct pci_dev`.
        Some(unsafe { dev.cast().as_ref() })
    }

    /// Length of the data in bytes, metadata included.
    pub fn data_len(&self) -> usize {
        // SAFETY: The request is not in the core's hands.
        unsafe { (*self.req()).transfer_len }
    }

    /// The memory of the data. Empty if none was allocated.
    pub fn data(&mut self) -> Data<'_> {
        let req = self.req();

        // SAFETY: The request is not in the core's hands.
        let (sg, nents) = unsafe { ((*req).sg, (*req).sg_cnt) };

        // CAST: Not negative.
        //
        // SAFETY: The core has made the list, of that many entries: of pages that it allocated with
        // `GFP_KERNEL`, or of a provider's pool. It stays while `self` is borrowed, and nobody else
        // accesses the memory: the request is not being executed.
        unsafe { Data::from_raw(sg, nents as usize, self.provider()) }
    }
}

impl<'q, T: Transport> Request<'q, T, Idle> {
    /// Allocates memory for a request of `queue`. May sleep.
    ///
    /// # Errors
    ///
    /// [`ENOMEM`].
    pub fn new(queue: &'q Queue<T>) -> Result<Self> {
        let entry = queue.entries().new_entry()?;

        // SAFETY: The entry is new, and nobody else uses it.
        unsafe { (*entry.as_ptr()).queue = core::ptr::from_ref(queue).cast() };

        // INVARIANT: Idle, the only one, of `queue`, and without a list.
        //
        // SAFETY: As said.
        Ok(unsafe { Self::from_raw(entry) })
    }

    /// Has the core parse `command`.
    ///
    /// An Asynchronous Event Request, which the core would complete when there is an event, or when
    /// the queue is destroyed, is refused here, as by a controller that takes none: nobody could
    /// wait for it while the queue is borrowed.
    ///
    /// So are commands that the core still looks at when it has completed them: all of a subsystem
    /// that is passed through to a controller, and Zone Append. And Reservation Acquire that
    /// preempts and aborts, where the core waits for all requests that were parsed, and nobody can
    /// drop one that the same thread has.
    ///
    /// C: `nvmet_req_init()`. Any context in which the core takes commands; does not sleep.
    ///
    /// # Errors
    ///
    /// The completed request, if the command is refused.
    #[doc(alias = "nvmet_req_init")]
    pub fn init(
        self,
        command: &Command,
    ) -> Result<Request<'q, T, Parsed>, Request<'q, T, Completed>> {
        let entry = self.entry();
        let queue = self.queue();
        let client = queue.client().map_or(core::ptr::null_mut(), |dev| {
            core::ptr::from_ref(dev).cast_mut().cast()
        });

        // SAFETY: The entry is that of an idle request, which nobody else uses. Without a collector
        // `queue_response()` leaves it alone if the core refuses the command.
        unsafe {
            (*entry).command = *command;
            (*entry).collector = core::ptr::null();
            (*entry).req.port = queue.user().as_raw();
            (*entry).req.p2p_client = client;
            (*entry).req.p2p_dev = core::ptr::null_mut();
        }

        // SAFETY: The request is the entry's, as above. The queue, its port, its client and the
        // operations are valid for `'q`, and the request does not live longer (points 2 to 5 of the
        // crate's lifetimes).
        let parsed = unsafe {
            bindings::nvmet_req_init(
                &raw mut (*entry).req,
                queue.sq(),
                queue.port().registered().ops(),
            )
        };

        // `nvmet_req_init()` has cleared `sg`.
        if !parsed {
            // SAFETY: The core has completed the request, and the entry is not marked as parsed.
            return Err(unsafe { self.with_state() });
        }
        // CAST: The opcode has 8 bits.
        let code = if queue.id() == 0
            && command.opcode() == bindings::nvme_admin_opcode_nvme_admin_async_event as u8
        {
            bindings::NVME_SC_ASYNC_LIMIT
        // SAFETY: The request was parsed.
        } else if unsafe { bindings::p2pdma_nvmet_helper_req_is_refused(&raw mut (*entry).req) } {
            bindings::NVME_SC_INVALID_OPCODE
        } else {
            // SAFETY: The request was parsed, and is marked so.
            return Ok(unsafe {
                (*entry).parsed = true;
                self.with_state()
            });
        };
        // CAST: A status has 16 bits.
        let status = (code | bindings::NVME_STATUS_DNR) as u16;

        // SAFETY: The request was parsed, and is not used by the core afterwards: it was not
        // executed. Without a collector `queue_response()` leaves it alone.
        unsafe { bindings::nvmet_req_complete(&raw mut (*entry).req, status) };
        // SAFETY: Completed above, and not marked as parsed.
        Err(unsafe { self.with_state() })
    }
}

impl<'q, T: Transport> Request<'q, T, Parsed> {
    /// Length of the data that the command asks for, in bytes, metadata included; the core refuses
    /// to execute the command with any other.
    ///
    /// C: `nvmet_req_transfer_len()`.
    #[doc(alias = "nvmet_req_transfer_len")]
    pub fn transfer_len(&self) -> usize {
        // SAFETY: The request was parsed.
        unsafe { bindings::nvmet_req_transfer_len(self.req()) }
    }

    /// Whether the command moves data from the host to the controller.
    ///
    /// C: `nvme_is_write()`.
    #[doc(alias = "nvme_is_write")]
    pub fn is_write(&self) -> bool {
        // SAFETY: The request was parsed.
        unsafe { bindings::p2pdma_nvmet_helper_req_is_write(self.req()) }
    }

    /// Whether the core has paired the namespace and the client with a provider. Then
    /// [`Self::alloc_data()`] is meant to take peer-to-peer memory, and memory of the system only
    /// if the pool is exhausted.
    pub fn has_provider(&self) -> bool {
        // SAFETY: The request was parsed; the queue is connected, or was not and has no controller.
        unsafe { bindings::p2pdma_nvmet_helper_req_has_provider(self.req()) }
    }

    /// Allocates memory for `len` bytes of data: peer-to-peer memory if there is a provider and it
    /// has that much left, else memory of the system; [`Self::provider()`] tells.
    ///
    /// `len` is what the host says that it sends or expects. 0 is allowed, and allocates nothing.
    /// After an error the request is one without data: if it is executed nevertheless, the core
    /// refuses the command if that has any.
    ///
    /// C: `req->transfer_len`, `nvmet_req_alloc_sgls()`. May sleep.
    ///
    /// # Errors
    ///
    /// - [`EINVAL`] if `len` has no room for data beside the command's metadata, or exceeds 32
    ///   bits.
    /// - [`EBUSY`] if memory was allocated already.
    /// - [`ENOMEM`].
    #[doc(alias = "nvmet_req_alloc_sgls")]
    pub fn alloc_data(&mut self, len: usize) -> Result {
        let req = self.req();

        // SAFETY: The request is not in the core's hands.
        let (sg, metadata_len) = unsafe { ((*req).sg, (*req).metadata_len) };

        if !sg.is_null() {
            return Err(EBUSY);
        }
        // The core subtracts the one from the other, and takes the difference for a positive one.
        if (len <= metadata_len && len + metadata_len > 0) || len > c_uint::MAX as usize {
            return Err(EINVAL);
        }

        // SAFETY: The request was parsed, is not in the core's hands, and has no list.
        unsafe {
            (*req).transfer_len = len;
            if len > 0 {
                let result = to_result(bindings::nvmet_req_alloc_sgls(req));
                if result.is_err() {
                    // What is left there after an error was freed, and the counts with it must not
                    // let a command pass for one with data.
                    (*req).sg = core::ptr::null_mut();
                    (*req).sg_cnt = 0;
                    (*req).metadata_sg = core::ptr::null_mut();
                    (*req).metadata_sg_cnt = 0;
                    (*req).transfer_len = 0;
                    return result;
                }
            }
        }
        // INVARIANT: Made by `nvmet_req_alloc_sgls()`.
        Ok(())
    }

    /// Has the core execute the command. The request comes back from
    /// [`responses.wait()`](Responses::wait).
    ///
    /// C: `req->execute()`. May sleep.
    pub fn execute(self, responses: &mut Responses<'q, T>) {
        responses.in_flight += 1;
        // Whoever gets the entry next makes a `Request` of it again.
        let entry = self.into_raw().as_ptr();

        // The collector stays until the entry was collected: `responses` waits for that when it is
        // dropped, and if it is forgotten, the collector is never freed. The queue is valid for
        // `'q`, and its destruction waits for the core to be done.
        //
        // SAFETY: The request was parsed, so that the core has set `execute`, and owns the entry
        // from here on. What it points to stays for as long, see above.
        unsafe {
            (*entry).parsed = false;
            (*entry).collector = &raw const *responses.collector;
            if let Some(execute) = (*entry).req.execute {
                execute(&raw mut (*entry).req);
            }
        }
    }
}

impl<'q, T: Transport> Request<'q, T, Completed> {
    /// The completion's status.
    pub fn status(&self) -> Status {
        // SAFETY: The core is done with the request.
        Status::from_cqe(unsafe { (*self.entry()).completion.status })
    }

    /// The completion's result: dwords 0 and 1.
    pub fn result(&self) -> u64 {
        // SAFETY: The core is done with the request. Any bits are valid for the integer.
        u64::from_le(unsafe {
            (&raw const (*self.entry()).completion.result)
                .cast::<u64>()
                .read_unaligned()
        })
    }

    /// Head of the submission queue (SQHD).
    pub fn sq_head(&self) -> u16 {
        // SAFETY: The core is done with the request.
        u16::from_le(unsafe { (*self.entry()).completion.sq_head })
    }

    /// Frees the memory of the data, and makes the request available for the next command.
    pub fn recycle(self) -> Request<'q, T, Idle> {
        // SAFETY: The entry is valid and nobody else's, by the type invariant, and the core is done
        // with it. A completed request without data, not marked as parsed, is an idle one.
        unsafe {
            free_data(self.entry());
            self.with_state()
        }
    }
}

impl<T: Transport, S: State> Drop for Request<'_, T, S> {
    fn drop(&mut self) {
        // SAFETY: By the type invariant the entry is valid, of this queue, and nobody else's. It is
        // not in the core's hands, and not used afterwards. The queue is borrowed, so it was not
        // destroyed.
        unsafe { self.queue().entries().free(self.entry()) };
    }
}

/// Where the responses of executed requests are collected, for one thread to take them.
///
/// Dropping it waits until all requests that were executed with it are completed, as
/// [`Self::wait()`] does.
pub struct Responses<'q, T: Transport> {
    collector: Pin<KBox<Collector>>,
    in_flight: usize,
    queue: PhantomData<&'q Queue<T>>,
}

impl<'q, T: Transport> Responses<'q, T> {
    /// For requests of `queue`. The borrow makes sure that the queue is still there when they come
    /// back. May sleep.
    ///
    /// # Errors
    ///
    /// [`ENOMEM`].
    pub fn new(_queue: &'q Queue<T>) -> Result<Self> {
        let collector = KBox::pin_init(Collector::new(), GFP_KERNEL)?;

        Ok(Self {
            collector,
            in_flight: 0,
            queue: PhantomData,
        })
    }

    /// Number of requests that were executed and not taken again.
    pub fn in_flight(&self) -> usize {
        self.in_flight
    }

    /// Waits for the next request to be completed; [`None`] if none is under way.
    ///
    /// Sleeps, uninterruptibly: storage answers in bounded time, and what does not,
    /// [`init()`](Request::init) refuses.
    pub fn wait(&mut self) -> Option<Request<'q, T, Completed>> {
        self.in_flight = self.in_flight.checked_sub(1)?;

        let entry = NonNull::new(self.collector.wait())?;

        // SAFETY: Executed as a `Request<'q, T>`, which was given up: the entry is valid, its queue
        // is for `'q`, and it is nobody else's, as it was taken off the list. The core is done with
        // it, and it was not marked as parsed since it was executed.
        Some(unsafe { Request::from_raw(entry) })
    }
}

impl<T: Transport> Drop for Responses<'_, T> {
    fn drop(&mut self) {
        while self.wait().is_some() {}
    }
}
