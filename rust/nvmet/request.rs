// SPDX-License-Identifier: GPL-2.0

//! Requests: commands on their way through the target.
//!
//! C header: [`drivers/nvme/target/nvmet.h`](srctree/drivers/nvme/target/nvmet.h)
//!
//! The type of a [`Request`] says how far it got:
//!
//! ```text
//!        new()            init()               execute()         wait()
//!   ────────────▶ Idle ────────────▶ Parsed ────────────▶ (core) ────────▶ Completed
//!                  ▲       refused      │ alloc_data(),                        │
//!                  │  ┌─────────────────│ data()                               │ data()
//!                  │  ▼                 ▼ drop: the core lets go of it         ▼
//!                  └─ Completed                                            recycle()
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
    queue::Queue,
    transport::Transport, //
};
use core::{
    marker::PhantomData,
    mem::ManuallyDrop,
    ops::Range,
    ptr::NonNull, //
};
use kernel::{
    bindings::scatterlist,
    error::to_result,
    io::{
        Io,
        Mmio,
        MmioRaw,
        Region, //
    },
    new_condvar,
    new_spinlock_irq,
    page::PAGE_SIZE,
    pci,
    prelude::*,
    sync::{
        CondVar,
        SpinLockIrq, //
    },
    types::Opaque, //
};
use p2pdma::page::PageRef;

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
    use super::*;

    pub trait Sealed {
        /// Lets go of what the core holds for the request, when it is dropped in this state.
        ///
        /// # Safety
        ///
        /// `req` must be in this state, and not be used afterwards.
        unsafe fn abandon(_req: *mut bindings::nvmet_req) {}
    }

    impl Sealed for Idle {}
    impl Sealed for Completed {}

    impl Sealed for Parsed {
        unsafe fn abandon(req: *mut bindings::nvmet_req) {
            // SAFETY: `nvmet_req_init()` succeeded, and the request was not executed.
            unsafe { bindings::nvmet_req_uninit(req) };
        }
    }
}

/// Memory of a request.
#[repr(C)]
struct Slot {
    /// What the core sees.
    req: bindings::nvmet_req,
    command: Command,
    completion: bindings::nvme_completion,
    /// The [`Queue`]; its type is known to those who get at the slot.
    queue: *const c_void,
    /// Where the response goes; NULL while `init()` runs.
    collector: *const Collector,
    /// The next response that was not taken yet.
    next: *mut Slot,
}

/// A request.
///
/// Dropping it gives back its memory, and before that what the core holds for it.
///
/// C: `struct nvmet_req`.
///
/// # Invariants
///
/// - `slot.req` is in state `S`, and nobody else has a pointer to the slot.
/// - `slot.queue` points to a `Queue<T>` that is valid for `'q`.
/// - If `slot.req.sg` is not NULL, it is a list that `nvmet_req_alloc_sgls()` made for it.
#[doc(alias = "nvmet_req")]
pub struct Request<'q, T: Transport, S: State = Idle> {
    slot: ManuallyDrop<KBox<Opaque<Slot>>>,
    queue: PhantomData<&'q Queue<T>>,
    state: PhantomData<S>,
}

// SAFETY: A request belongs to no thread.
unsafe impl<T: Transport, S: State> Send for Request<'_, T, S> {}

impl<'q, T: Transport, S: State> Request<'q, T, S> {
    fn slot(&self) -> *mut Slot {
        self.slot.get()
    }

    fn req(&self) -> *mut bindings::nvmet_req {
        // SAFETY: In bounds of the slot.
        unsafe { &raw mut (*self.slot()).req }
    }

    /// The same request in another state, which the caller has brought about.
    fn with_state<N: State>(mut self) -> Request<'q, T, N> {
        // SAFETY: Taken once: `self` is forgotten.
        let slot = unsafe { ManuallyDrop::take(&mut self.slot) };

        core::mem::forget(self);
        Request {
            slot: ManuallyDrop::new(slot),
            queue: PhantomData,
            state: PhantomData,
        }
    }

    /// The queue.
    pub fn queue(&self) -> &'q Queue<T> {
        // SAFETY: By the type invariant.
        unsafe { &*(*self.slot()).queue.cast() }
    }

    /// The command; of no meaning while the request is idle.
    pub fn command(&self) -> &Command {
        // SAFETY: The core does not write to it while the request is not in its hands.
        unsafe { &(*self.slot()).command }
    }

    /// Frees the scatterlist, if there is one.
    fn free_data(&mut self) {
        let req = self.req();

        // SAFETY: By the type invariant a list that is not NULL was made by
        // `nvmet_req_alloc_sgls()`. The core is not using it: it is not in its hands.
        unsafe {
            if !(*req).sg.is_null() {
                bindings::nvmet_req_free_sgls(req);
            }
        }
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

        // INVARIANT: The list has that many entries, none if it is NULL. It stays while `self` is
        // borrowed, and nobody else looks at the memory: the request is not being executed.
        Data {
            sg: NonNull::new(sg),
            // CAST: Not negative.
            nents: if sg.is_null() { 0 } else { nents as usize },
            provider: self.provider(),
            request: PhantomData,
        }
    }
}

impl<'q, T: Transport> Request<'q, T, Idle> {
    /// Allocates memory for a request of `queue`. May sleep.
    ///
    /// # Errors
    ///
    /// [`ENOMEM`].
    pub fn new(queue: &'q Queue<T>) -> Result<Self> {
        let slot = KBox::new(Opaque::<Slot>::zeroed(), GFP_KERNEL)?;
        let raw = slot.get();

        // SAFETY: In bounds of the slot, which nobody else knows yet.
        unsafe {
            (*raw).queue = core::ptr::from_ref(queue).cast();
            (*raw).req.cmd = &raw mut (*raw).command;
            (*raw).req.cqe = &raw mut (*raw).completion;
        }

        // INVARIANT: Idle, the only owner, of `queue`, and without a list.
        Ok(Self {
            slot: ManuallyDrop::new(slot),
            queue: PhantomData,
            state: PhantomData,
        })
    }

    /// Has the core parse `command`.
    ///
    /// An Asynchronous Event Request, which the core would complete when there is an event, or when
    /// the queue is destroyed, is refused here, as by a controller that takes none: nobody could
    /// wait for it while the queue is borrowed.
    ///
    /// So are commands that the core still looks at when it has completed them: all of a subsystem
    /// that is passed through to a controller, and Zone Append.
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
        let slot = self.slot();
        let queue = self.queue();
        let client = queue.client().map_or(core::ptr::null_mut(), |dev| {
            core::ptr::from_ref(dev).cast_mut().cast()
        });

        // SAFETY: The slot is that of an idle request, which nobody else uses. Without a collector
        // `queue_response()` leaves it alone if the core refuses the command.
        unsafe {
            (*slot).command = *command;
            (*slot).collector = core::ptr::null();
            (*slot).req.port = queue.user().as_raw();
            (*slot).req.p2p_client = client;
            (*slot).req.p2p_dev = core::ptr::null_mut();
        }

        // SAFETY: The request is the slot's, as above. The queue, its port, its client and the
        // operations are valid for `'q`, and the request does not live longer (points 2 to 5 of the
        // crate's lifetimes).
        let parsed = unsafe {
            bindings::nvmet_req_init(
                &raw mut (*slot).req,
                queue.sq(),
                queue.port().registered().ops(),
            )
        };

        // INVARIANT: `nvmet_req_init()` has cleared `sg`.
        if !parsed {
            return Err(self.with_state());
        }
        // CAST: The opcode has 8 bits.
        let code = if queue.id() == 0
            && command.opcode() == bindings::nvme_admin_opcode_nvme_admin_async_event as u8
        {
            bindings::NVME_SC_ASYNC_LIMIT
        // SAFETY: The request was parsed.
        } else if unsafe { bindings::p2pdma_nvmet_helper_req_is_used_later(&raw mut (*slot).req) } {
            bindings::NVME_SC_INVALID_OPCODE
        } else {
            return Ok(self.with_state());
        };
        // CAST: A status has 16 bits.
        let status = (code | bindings::NVME_STATUS_DNR) as u16;

        // SAFETY: The request was parsed, and is not used by the core afterwards: it was not
        // executed. Without a collector `queue_response()` leaves it alone.
        unsafe { bindings::nvmet_req_complete(&raw mut (*slot).req, status) };
        Err(self.with_state())
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
    pub fn execute(mut self, responses: &mut Responses<'q, T>) {
        let slot = self.slot();

        responses.in_flight += 1;
        // SAFETY: Taken once: `self` is forgotten. Whoever gets the slot next makes a `Request` of
        // it again.
        let _ = KBox::into_raw(unsafe { ManuallyDrop::take(&mut self.slot) });
        core::mem::forget(self);

        // The collector stays until the slot was collected: `responses` waits for that when it is
        // dropped, and if it is forgotten, the collector is never freed. The queue is valid for
        // `'q`, and its destruction waits for the core to be done.
        //
        // SAFETY: The request was parsed, so that the core has set `execute`, and owns the slot
        // from here on. What it points to stays for as long, see above.
        unsafe {
            (*slot).collector = &raw const *responses.collector;
            if let Some(execute) = (*slot).req.execute {
                execute(&raw mut (*slot).req);
            }
        }
    }
}

impl<'q, T: Transport> Request<'q, T, Completed> {
    /// The completion's status.
    pub fn status(&self) -> Status {
        // SAFETY: The core is done with the request.
        Status::from_cqe(unsafe { (*self.slot()).completion.status })
    }

    /// The completion's result: dwords 0 and 1.
    pub fn result(&self) -> u64 {
        // SAFETY: The core is done with the request. Any bits are valid for the integer.
        u64::from_le(unsafe {
            (&raw const (*self.slot()).completion.result)
                .cast::<u64>()
                .read_unaligned()
        })
    }

    /// Head of the submission queue (SQHD).
    pub fn sq_head(&self) -> u16 {
        // SAFETY: The core is done with the request.
        u16::from_le(unsafe { (*self.slot()).completion.sq_head })
    }

    /// Frees the memory of the data, and makes the request available for the next command.
    pub fn recycle(mut self) -> Request<'q, T, Idle> {
        self.free_data();
        self.with_state()
    }
}

impl<T: Transport, S: State> Drop for Request<'_, T, S> {
    fn drop(&mut self) {
        self.free_data();
        // SAFETY: The request is in this state by the type invariant, and freed below.
        unsafe { S::abandon(self.req()) };
        // SAFETY: Dropped once.
        unsafe { ManuallyDrop::drop(&mut self.slot) };
    }
}

/// Responses that were not taken yet, first in first out.
///
/// # Invariants
///
/// `first` and `last` are both NULL, or the ends of a list of slots that nobody else has.
struct Collected {
    first: *mut Slot,
    last: *mut Slot,
}

// SAFETY: Slots belong to no thread.
unsafe impl Send for Collected {}

#[pin_data]
struct Collector {
    #[pin]
    collected: SpinLockIrq<Collected>,
    #[pin]
    more: CondVar,
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
        let collector = KBox::pin_init(
            pin_init!(Collector {
                // INVARIANT: Both are NULL.
                collected <- new_spinlock_irq!(
                    Collected {
                        first: core::ptr::null_mut(),
                        last: core::ptr::null_mut(),
                    },
                    "nvmet::Collector::collected"
                ),
                more <- new_condvar!("nvmet::Collector::more"),
            }),
            GFP_KERNEL,
        )?;

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

        let mut collected = self.collector.collected.lock();
        while collected.first.is_null() {
            self.collector.more.wait(&mut collected);
        }
        let slot = collected.first;
        // INVARIANT: The first is taken off the list.
        //
        // SAFETY: The slots on the list are valid by the type invariant.
        collected.first = unsafe { (*slot).next };
        if collected.first.is_null() {
            collected.last = core::ptr::null_mut();
        }
        drop(collected);

        // SAFETY: From `KBox::into_raw()` in `execute()`.
        let slot = unsafe { KBox::from_raw(slot.cast::<Opaque<Slot>>()) };

        // INVARIANT: Completed, no longer on the list, and executed as a `Request<'q, T>`.
        Some(Request {
            slot: ManuallyDrop::new(slot),
            queue: PhantomData,
            state: PhantomData,
        })
    }
}

impl<T: Transport> Drop for Responses<'_, T> {
    fn drop(&mut self) {
        while self.wait().is_some() {}
    }
}

/// `nvmet_fabrics_ops.queue_response()`, in any context.
///
/// # Safety
///
/// To be called by the core only, with the request of a [`Slot`] that it owns, and once.
pub(crate) unsafe extern "C" fn queue_response(req: *mut bindings::nvmet_req) {
    // SAFETY: All requests that the core gets from this crate are part of a slot.
    let slot = unsafe { kernel::container_of!(req, Slot, req) };
    // SAFETY: The core owns the slot, and gives it back with this call.
    let Some(collector) = NonNull::new(unsafe { (*slot).collector }.cast_mut()) else {
        // Refused in `init()`, which has the slot.
        return;
    };
    // SAFETY: The collector stays until it was given this slot and its lock was released.
    let collector = unsafe { collector.as_ref() };
    let mut collected = collector.collected.lock();

    // INVARIANT: The slot is put at the end of the list, and is nobody else's: the core does not
    // look at the request any more. (`init()` has refused those for which it does.)
    //
    // SAFETY: The slot is valid, and so are those on the list.
    unsafe {
        (*slot).next = core::ptr::null_mut();
        match collected.last.is_null() {
            true => collected.first = slot,
            false => (*collected.last).next = slot,
        }
    }
    collected.last = slot;
    // Under the lock: when the waiter has it, this is done with the collector.
    collector.more.notify_one();
}

/// The memory of a request's data, as the fabric's DMA sees it.
///
/// # Invariants
///
/// - `sg` is the first of `nents` entries; `nents` is 0 if it is [`None`].
/// - The list stays for `'a`, and nobody else accesses the memory.
pub struct Data<'a> {
    sg: Option<NonNull<scatterlist>>,
    nents: usize,
    provider: Option<&'a pci::Device>,
    request: PhantomData<&'a mut ()>,
}

impl<'a> Data<'a> {
    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.nents == 0
    }

    /// As [`Request::provider()`].
    pub fn provider(&self) -> Option<&'a pci::Device> {
        self.provider
    }

    /// The pieces of memory, in the order of the data.
    pub fn segments(&mut self) -> Segments<'_> {
        // INVARIANT: By that of `self`, which is borrowed mutably.
        Segments {
            next: self.sg,
            left: self.nents,
            data: PhantomData,
        }
    }

    /// Calls `f` with each piece of the range of `len` bytes from `offset` on: the segment, the
    /// offset in it, and the part of `0..len` that it holds.
    fn for_each_part(
        &mut self,
        offset: usize,
        len: usize,
        mut f: impl FnMut(&mut Segment<'_>, usize, Range<usize>) -> Result,
    ) -> Result {
        let mut skip = offset;
        let mut done = 0;

        for mut segment in self.segments() {
            if done == len {
                break;
            }
            if skip >= segment.len() {
                skip -= segment.len();
                continue;
            }
            let part = (segment.len() - skip).min(len - done);
            f(&mut segment, skip, done..done + part)?;
            done += part;
            skip = 0;
        }

        if done < len {
            return Err(EINVAL);
        }
        Ok(())
    }

    /// Copies `from` to `offset`; [`EINVAL`] if there is no room.
    pub fn copy_from_slice(&mut self, offset: usize, from: &[u8]) -> Result {
        self.for_each_part(offset, from.len(), |segment, at, part| {
            segment.copy_from_slice(at, &from[part])
        })
    }

    /// Copies from `offset` to `to`; [`EINVAL`] if there are not as many bytes.
    pub fn copy_to_slice(&mut self, offset: usize, to: &mut [u8]) -> Result {
        self.for_each_part(offset, to.len(), |segment, at, part| {
            segment.copy_to_slice(at, &mut to[part])
        })
    }
}

/// Iterator over the pieces of a request's memory.
///
/// # Invariants
///
/// `next` is an entry of a list that stays for `'a`, whose memory nobody else accesses, and `left`
/// entries follow from it on, itself included.
pub struct Segments<'a> {
    next: Option<NonNull<scatterlist>>,
    left: usize,
    data: PhantomData<&'a mut ()>,
}

impl<'a> Iterator for Segments<'a> {
    type Item = Segment<'a>;

    fn next(&mut self) -> Option<Self::Item> {
        let sg = self.next.filter(|_| self.left > 0)?;

        // SAFETY: `sg` is a valid entry by the type invariant, of memory that has a kernel address:
        // pages of the system that were not allocated from high memory, or device memory.
        let (addr, len, next) = unsafe {
            (
                bindings::p2pdma_nvmet_helper_sg_virt(sg.as_ptr()).cast::<u8>(),
                (*sg.as_ptr()).length as usize,
                kernel::bindings::sg_next(sg.as_ptr()),
            )
        };
        // INVARIANT: `sg_next()` returns the entry behind `sg`, or NULL.
        self.next = NonNull::new(next);
        self.left -= 1;

        let mut segment = Segment {
            sg,
            len,
            memory: Memory::Ram(&mut []),
        };
        segment.memory = if segment.page(0).is_p2pdma() {
            // Peer-to-peer memory is allocated in whole pages, so rounding up stays within. Then it
            // does not fail: the memory is page aligned.
            let region = MmioRaw::new_region(addr.addr(), len.next_multiple_of(4)).ok()?;

            // SAFETY: The memory is mapped, and stays so for `'a`: it is allocated.
            Memory::Io(unsafe { Mmio::from_raw(region) })
        } else {
            // SAFETY: `addr` is valid for `len` bytes, pages of the system that the core has
            // allocated: whatever they hold is a value of `u8`. By the type invariant nobody else
            // accesses them for `'a`.
            Memory::Ram(unsafe { core::slice::from_raw_parts_mut(addr, len) })
        };
        Some(segment)
    }
}

/// What a segment is made of, and how the CPU gets at it.
pub enum Memory<'a> {
    /// Peer-to-peer memory: only through io accessors. The region ends at a multiple of four bytes,
    /// which may be behind the data.
    Io(Mmio<'a, Region>),
    /// Memory of the system.
    Ram(&'a mut [u8]),
}

/// A piece of a request's memory, contiguous for CPU and bus.
pub struct Segment<'a> {
    sg: NonNull<scatterlist>,
    len: usize,
    memory: Memory<'a>,
}

impl<'a> Segment<'a> {
    /// Length in bytes.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Always `false`: entries of a list are not empty.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// The memory.
    pub fn memory(&mut self) -> &mut Memory<'a> {
        &mut self.memory
    }

    /// The page that holds byte `offset`, which is below [`Self::len()`].
    fn page(&self, offset: usize) -> PageRef<'a> {
        // SAFETY: The entry is valid, and the page is part of it: entries start at the start of a
        // page. Entries of more than one page are peer-to-peer memory, whose `struct page`s are
        // contiguous.
        let page = unsafe {
            bindings::p2pdma_nvmet_helper_sg_page(
                self.sg.as_ptr(),
                // CAST: Lengths of entries have 32 bits.
                (offset / PAGE_SIZE) as c_uint,
            )
        };

        // SAFETY: A page of a scatterlist's entry is valid, with a reference or allocated from a
        // pool, as long as the list is.
        unsafe { PageRef::from_raw(NonNull::new_unchecked(page)) }
    }

    /// All pages.
    pub fn pages(&self) -> impl Iterator<Item = PageRef<'a>> + '_ {
        (0..self.len)
            .step_by(PAGE_SIZE)
            .map(|offset| self.page(offset))
    }

    /// The sub-region of `len` bytes from `offset` on; [`EINVAL`] if it is not inside.
    fn check(&self, offset: usize, len: usize) -> Result {
        match offset.checked_add(len) {
            Some(end) if end <= self.len => Ok(()),
            _ => Err(EINVAL),
        }
    }

    /// Writes 64 bits at `offset`, a multiple of 8.
    #[inline]
    pub fn write64(&mut self, offset: usize, value: u64) -> Result {
        self.check(offset, 8)?;
        match &mut self.memory {
            Memory::Io(io) => io.try_write64(value, offset),
            Memory::Ram(ram) => {
                ram[offset..offset + 8].copy_from_slice(&value.to_ne_bytes());
                Ok(())
            }
        }
    }

    /// Reads 64 bits at `offset`, a multiple of 8.
    #[inline]
    pub fn read64(&self, offset: usize) -> Result<u64> {
        self.check(offset, 8)?;
        match &self.memory {
            Memory::Io(io) => io.try_read64(offset),
            Memory::Ram(ram) => {
                let mut bytes = [0; 8];

                bytes.copy_from_slice(&ram[offset..offset + 8]);
                Ok(u64::from_ne_bytes(bytes))
            }
        }
    }

    fn copy_from_slice(&mut self, offset: usize, from: &[u8]) -> Result {
        self.check(offset, from.len())?;
        match &mut self.memory {
            Memory::Io(io) => {
                let words = from.chunks_exact(8).take_while(|_| offset % 8 == 0);
                let mut at = offset;

                for word in words {
                    let mut bytes = [0; 8];

                    bytes.copy_from_slice(word);
                    io.try_write64(u64::from_ne_bytes(bytes), at)?;
                    at += 8;
                }
                for byte in &from[at - offset..] {
                    io.try_write8(*byte, at)?;
                    at += 1;
                }
            }
            Memory::Ram(ram) => ram[offset..offset + from.len()].copy_from_slice(from),
        }
        Ok(())
    }

    fn copy_to_slice(&self, offset: usize, to: &mut [u8]) -> Result {
        self.check(offset, to.len())?;
        match &self.memory {
            Memory::Io(io) => {
                let words = to.chunks_exact_mut(8).take_while(|_| offset % 8 == 0);
                let mut at = offset;

                for word in words {
                    word.copy_from_slice(&io.try_read64(at)?.to_ne_bytes());
                    at += 8;
                }
                for byte in &mut to[at - offset..] {
                    *byte = io.try_read8(at)?;
                    at += 1;
                }
            }
            Memory::Ram(ram) => to.copy_from_slice(&ram[offset..offset + to.len()]),
        }
        Ok(())
    }
}
