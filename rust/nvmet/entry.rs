// SPDX-License-Identifier: GPL-2.0

//! The memory of requests: what the core sees of them, what of it a queue has, and where it goes
//! when the core is done with it.
//!
//! A queue has a list of all requests that were made for it ([`Entries`]), so that those which were
//! leaked end with it: a request that was parsed and never executed would hold up the end of its
//! queue for ever, and peer-to-peer memory that is never freed the unbinding of its provider.
//!
//! C header: [`drivers/nvme/target/nvmet.h`](srctree/drivers/nvme/target/nvmet.h)
//!
//! Place: `drivers/nvme/target/rust/entry.rs`, kept by NVM EXPRESS TARGET DRIVER.

use crate::{
    bindings,
    command::Command, //
};
use core::ptr::NonNull;
use kernel::{
    new_condvar,
    prelude::*,
    sync::CondVar,
    types::Opaque, //
};
use p2pdma::{
    compat::SpinLockIrq,
    new_spinlock_irq, //
};

/// Memory of a request.
///
/// Made by [`Entries::new_entry()`], and freed by [`Entries::free()`].
#[repr(C)]
pub(crate) struct Entry {
    /// What the core sees.
    pub(crate) req: bindings::nvmet_req,
    pub(crate) command: Command,
    pub(crate) completion: bindings::nvme_completion,
    /// The queue; its type is known to those who get at the entry.
    pub(crate) queue: *const c_void,
    /// The core has parsed it, and it was not executed: the core holds queue and namespace for it.
    pub(crate) parsed: bool,
    /// Where the response goes; NULL while `init()` runs.
    pub(crate) collector: *const Collector,
    /// The next response that was not taken yet.
    next: *mut Entry,
    /// The neighbours among all requests of the queue, under the lock of its [`Entries`].
    before: *mut Entry,
    after: *mut Entry,
}

/// # Safety
///
/// `entry` must be valid, its request not be in the core's hands, and nobody else be using it.
pub(crate) unsafe fn free_data(entry: *mut Entry) {
    // SAFETY: In bounds of the entry.
    let req = unsafe { &raw mut (*entry).req };

    // SAFETY: A list that is not NULL was made by `nvmet_req_alloc_sgls()`: nothing else leaves one
    // there. The core is not using it, by the safety requirement.
    unsafe {
        if !(*req).sg.is_null() {
            bindings::nvmet_req_free_sgls(req);
        }
    }
}

/// Lets go of what the core holds for a request that was parsed and will not be executed.
///
/// # Safety
///
/// As for [`free_data()`]; and the queue must not have been destroyed.
pub(crate) unsafe fn abandon(entry: *mut Entry) {
    // SAFETY: The entry is valid. `parsed` says that `nvmet_req_init()` succeeded, and that the
    // request was not executed.
    unsafe {
        if (*entry).parsed {
            (*entry).parsed = false;
            bindings::nvmet_req_uninit(&raw mut (*entry).req);
        }
    }
}

/// The first of the requests of a queue.
struct First(*mut Entry);

// SAFETY: Entries belong to no thread.
unsafe impl Send for First {}

/// All requests of a queue.
///
/// # Invariants
///
/// `first` is NULL, or the first of a list of valid entries that [`Self::new_entry()`] made, and
/// that is changed under the lock only.
#[pin_data]
pub(crate) struct Entries {
    #[pin]
    first: SpinLockIrq<First>,
}

impl Entries {
    pub(crate) fn new() -> impl PinInit<Self> {
        // INVARIANT: NULL.
        pin_init!(Self {
            first <- new_spinlock_irq!(First(core::ptr::null_mut()), "nvmet::Entries::first"),
        })
    }

    /// A new entry for an idle request; all else is zero. May sleep.
    pub(crate) fn new_entry(&self) -> Result<NonNull<Entry>> {
        let entry = KBox::into_raw(KBox::new(Opaque::<Entry>::zeroed(), GFP_KERNEL)?);
        let entry = entry.cast::<Entry>();
        let mut first = self.first.lock();

        // INVARIANT: A valid entry is put at the start of the list.
        //
        // SAFETY: The entry is new, so nobody else uses it, and `entry` is valid as `Opaque` is a
        // transparent wrapper; a `Command` has size and alignment of a `struct nvme_command`. The
        // first of the list is valid by the type invariant, and its neighbours are changed under
        // the lock.
        unsafe {
            (*entry).req.cmd = (&raw mut (*entry).command).cast();
            (*entry).req.cqe = &raw mut (*entry).completion;
            (*entry).after = first.0;
            if !first.0.is_null() {
                (*first.0).before = entry;
            }
        }
        first.0 = entry;
        NonNull::new(entry).ok_or(ENOMEM)
    }

    /// Frees an entry, and its data.
    ///
    /// # Safety
    ///
    /// As for [`abandon()`]; `entry` must be from [`Self::new_entry()`] of `self`, and not be used
    /// afterwards.
    pub(crate) unsafe fn free(&self, entry: *mut Entry) {
        let mut first = self.first.lock();

        // INVARIANT: Taken off the list.
        //
        // SAFETY: `entry` is valid by the safety requirement and on this list, from where nothing
        // else takes it; its neighbours are valid by the type invariant. They are changed under the
        // lock.
        unsafe {
            let (before, after) = ((*entry).before, (*entry).after);

            match before.is_null() {
                true => first.0 = after,
                false => (*before).after = after,
            }
            if !after.is_null() {
                (*after).before = before;
            }
        }
        drop(first);

        // SAFETY: By the safety requirement nobody else uses the entry. It was made as a `KBox` of
        // that type, and is not on the list any more.
        unsafe {
            free_data(entry);
            abandon(entry);
            drop(KBox::from_raw(entry.cast::<Opaque<Entry>>()));
        }
    }

    /// Lets go of what the core holds for requests that were leaked, so that it does not wait for
    /// their execution.
    ///
    /// # Safety
    ///
    /// There must be no requests left but those that were leaked: nobody may use one or make one
    /// from here on, but for the core those that are being executed. The queue must not have been
    /// destroyed.
    pub(crate) unsafe fn abandon_leaked(&self) {
        let mut entry = self.first.lock().0;

        while !entry.is_null() {
            // SAFETY: The entry is valid by the type invariant, and nobody uses it or changes the
            // list, by the safety requirement. One that is being executed is not `parsed`, which
            // the core does not know of, and is left alone.
            unsafe {
                if (*entry).parsed {
                    free_data(entry);
                    abandon(entry);
                }
                entry = (*entry).after;
            }
        }
    }

    /// Frees the requests that were leaked, and their data.
    ///
    /// # Safety
    ///
    /// As for [`Self::abandon_leaked()`], which must have been called before; and the queue must
    /// have been destroyed, so that the core is done with all of its requests.
    pub(crate) unsafe fn free_leaked(&self) {
        loop {
            let entry = self.first.lock().0;

            if entry.is_null() {
                break;
            }
            // SAFETY: The entry is of this list and valid, by the type invariant. Nobody uses it by
            // the safety requirement, the core neither, and it is not parsed any more. A collector
            // that still knows it was leaked as well: it borrows the queue.
            unsafe { self.free(entry) };
        }
    }
}

/// Responses that were not taken yet, first in first out.
///
/// # Invariants
///
/// `first` and `last` are both NULL, or the ends of a list of entries that nobody else has.
struct Collected {
    first: *mut Entry,
    last: *mut Entry,
}

// SAFETY: Entries belong to no thread.
unsafe impl Send for Collected {}

#[pin_data]
pub(crate) struct Collector {
    #[pin]
    collected: SpinLockIrq<Collected>,
    #[pin]
    more: CondVar,
}

impl Collector {
    /// An empty one.
    pub(crate) fn new() -> impl PinInit<Self> {
        pin_init!(Self {
            // INVARIANT: Both are NULL.
            collected <- new_spinlock_irq!(
                Collected {
                    first: core::ptr::null_mut(),
                    last: core::ptr::null_mut(),
                },
                "nvmet::Collector::collected"
            ),
            more <- new_condvar!("nvmet::Collector::more"),
        })
    }

    /// Waits for the next response, and takes it.
    pub(crate) fn wait(&self) -> *mut Entry {
        let mut collected = self.collected.lock();

        while collected.first.is_null() {
            self.more.wait(&mut collected);
        }
        let entry = collected.first;
        // INVARIANT: The first is taken off the list.
        //
        // SAFETY: The entries on the list are valid by the type invariant.
        collected.first = unsafe { (*entry).next };
        if collected.first.is_null() {
            collected.last = core::ptr::null_mut();
        }
        entry
    }
}

/// `nvmet_fabrics_ops.queue_response()`, in any context.
///
/// # Safety
///
/// To be called by the core only, with the request of an [`Entry`] that it owns, and once.
pub(crate) unsafe extern "C" fn queue_response(req: *mut bindings::nvmet_req) {
    // SAFETY: All requests that the core gets from this crate are part of a entry.
    let entry = unsafe { kernel::container_of!(req, Entry, req) };
    // SAFETY: The core owns the entry, and gives it back with this call.
    let Some(collector) = NonNull::new(unsafe { (*entry).collector }.cast_mut()) else {
        // Refused in `init()`, which has the entry.
        return;
    };
    // SAFETY: The collector stays until it was given this entry and its lock was released.
    let collector = unsafe { collector.as_ref() };
    let mut collected = collector.collected.lock();

    // INVARIANT: The entry is put at the end of the list, and is nobody else's: the core does not
    // look at the request any more. (`init()` has refused those for which it does.)
    //
    // SAFETY: The entry is valid, and so are those on the list.
    unsafe {
        (*entry).next = core::ptr::null_mut();
        match collected.last.is_null() {
            true => collected.first = entry,
            false => (*collected.last).next = entry,
        }
    }
    collected.last = entry;
    // Under the lock: when the waiter has it, this is done with the collector.
    collector.more.notify_one();
}
