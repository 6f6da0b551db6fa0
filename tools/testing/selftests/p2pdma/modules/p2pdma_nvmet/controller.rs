// SPDX-License-Identifier: GPL-2.0

//! A host's controller with its queues, and how it goes.
//!
//! It goes when the host disconnects, when the core wants it deleted, or when its client leaves,
//! whichever is first. Calls that are working on it end at the next command, and are waited for.

use crate::{
    abi,
    counters::Counters,
    table::Table,
    Queue,
    TestTransport, //
};
use kernel::{
    debugfs::File,
    device::Device,
    impl_has_work,
    new_condvar,
    new_mutex,
    new_work,
    prelude::*,
    str::CString,
    sync::{
        aref::ARef,
        Arc,
        CondVar,
        Mutex, //
    },
    workqueue::{
        Work,
        WorkItem, //
    }, //
};
use nvmet::{
    command::{
        Command,
        CC_ENABLE, //
    },
    connect::{
        Connect,
        ConnectError, //
    },
    request::{
        Request,
        Responses, //
    },
    transport::Port, //
};
use p2pdma::compat::code::ENOTCONN;

/// Entries of an admin queue, as hosts have it (`NVME_AQ_DEPTH`).
const ADMIN_QUEUE_SIZE: u16 = 32;

#[derive(Clone, Copy, PartialEq, Eq)]
enum Phase {
    Live,
    /// No new calls are let in.
    Closing,
    /// The queues are disconnected.
    Closed,
}

struct State {
    phase: Phase,
    /// Calls that are working on it.
    calls: usize,
    /// By ID; empty from the end of the closing phase on.
    queues: KVec<Arc<Queue>>,
    /// What it counts; not there when `queues` are not.
    counters: Option<Arc<File<Counters>>>,
}

/// A controller, from the host's point of view.
#[pin_data]
pub(crate) struct Controller {
    id: u16,
    port: Arc<Port<TestTransport>>,
    client: Option<ARef<Device>>,
    table: Arc<Table>,
    #[pin]
    state: Mutex<State>,
    #[pin]
    changed: CondVar,
    #[pin]
    work: Work<Self>,
}

impl_has_work! {
    impl HasWork<Self> for Controller { self.work }
}

impl Controller {
    /// Connects all queues, and enables the controller.
    ///
    /// If the target refuses, that is no error: then there is no controller, and `args` say why.
    pub(crate) fn connect(
        table: &Arc<Table>,
        args: &mut abi::p2pdma_nvmet_connect,
    ) -> Result<Option<Arc<Self>>> {
        if args.reserved != 0 || (args.queues > 0 && args.queue_size < 2) {
            return Err(EINVAL);
        }

        let port = table.port(args.port).ok_or(ENODEV)?;
        let client = find_client(args.client)?;
        let subsys_nqn = abi::string(&args.subsysnqn)?;
        let host_nqn = abi::string(&args.hostnqn)?;

        // Dropped last: whoever waits for its end is waiting for the queues.
        let attempt = table.attempt(client.clone())?;
        // A client that has left before that knows nothing of the attempt.
        let again = find_client(args.client)?;
        if again.as_deref().map(core::ptr::from_ref) != client.as_deref().map(core::ptr::from_ref) {
            return Err(ENODEV);
        }
        let mut queues: KVec<Arc<Queue>> =
            KVec::with_capacity(usize::from(args.queues) + 1, GFP_KERNEL)?;
        let mut refused = None;

        for qid in 0..=args.queues {
            let result = Queue::connect(
                &port,
                &Connect {
                    qid,
                    size: if qid == 0 {
                        ADMIN_QUEUE_SIZE
                    } else {
                        args.queue_size
                    },
                    admin: queues.first(),
                    subsys_nqn,
                    host_nqn,
                    client: client.clone(),
                },
            );
            match result {
                Ok(queue) => queues.push(queue, GFP_KERNEL)?,
                Err(ConnectError::Failed(e)) => return Err(e),
                Err(ConnectError::Refused(status, _)) => refused = Some((qid, status)),
            }
            if let (None, 0, Some(admin)) = (refused, qid, queues.first()) {
                refused = enable(admin)?.map(|status| (qid, status));
            }
            if let Some((qid, status)) = refused {
                args.qid = qid;
                args.status = status.raw();
                return Ok(None);
            }
        }

        // It has an admin queue, which was connected first.
        let id = queues.first().ok_or(EIO)?.ctrl_id();
        let name = CString::try_from_fmt(fmt!("{id}"))?;
        let counters = Arc::pin_init(Counters::file(table.dir(), &name), GFP_KERNEL)?;
        let ctrl = Arc::pin_init(
            try_pin_init!(Self {
                id,
                port,
                client,
                table: table.clone(),
                state <- new_mutex!(State {
                    phase: Phase::Live,
                    calls: 0,
                    queues,
                    counters: Some(counters),
                }),
                changed <- new_condvar!(),
                work <- new_work!("p2pdma_nvmet::Controller::work"),
            }),
            GFP_KERNEL,
        )?;

        attempt.succeeded(&ctrl).inspect_err(|_| ctrl.close())?;
        drop(attempt);
        args.cntlid = id;
        args.status = 0;
        Ok(Some(ctrl))
    }

    /// Its ID.
    pub(crate) fn id(&self) -> u16 {
        self.id
    }

    /// The port that it was connected through.
    pub(crate) fn port(&self) -> &Arc<Port<TestTransport>> {
        &self.port
    }

    /// The device that does the fabric's DMA.
    pub(crate) fn client(&self) -> Option<&Device> {
        self.client.as_deref()
    }

    /// Whether calls are let in. Otherwise its queues may be gone, and its ID be another's.
    pub(crate) fn is_live(&self) -> bool {
        self.state.lock().phase == Phase::Live
    }

    /// Lets a call work on queue `qid`, until what is returned is dropped.
    ///
    /// # Errors
    ///
    /// - [`ENOTCONN`] if the controller is going, or gone.
    /// - [`ENOENT`] if it has no such queue.
    pub(crate) fn enter(&self, qid: u16) -> Result<Call<'_>> {
        let mut state = self.state.lock();

        if state.phase != Phase::Live {
            return Err(ENOTCONN);
        }
        let queue = state.queues.get(usize::from(qid)).ok_or(ENOENT)?.clone();
        let counters = state.counters.clone().ok_or(ENOTCONN)?;

        state.calls += 1;
        Ok(Call {
            queue,
            counters,
            inside: Inside { ctrl: self },
        })
    }

    /// Disconnects all queues, I/O queues first. When it returns, they are disconnected.
    pub(crate) fn close(&self) {
        let mut state = self.state.lock();

        if state.phase != Phase::Live {
            // Somebody else does it.
            while state.phase != Phase::Closed {
                self.changed.wait(&mut state);
            }
            return;
        }

        state.phase = Phase::Closing;
        while state.calls > 0 {
            self.changed.wait(&mut state);
        }
        let mut queues = core::mem::take(&mut state.queues);
        let counters = state.counters.take();
        drop(state);

        // Before the queues, because the next controller may have the ID, and so the file's name.
        drop(counters);
        // The admin queue is the first, and goes last.
        while let Some(queue) = queues.pop() {
            drop(queue);
        }
        self.table.remove(self);

        self.state.lock().phase = Phase::Closed;
        self.changed.notify_all();
    }
}

impl WorkItem for Controller {
    type Pointer = Arc<Self>;

    fn run(this: Arc<Self>) {
        this.close();
    }
}

/// Enables a new controller; the status, if it refuses.
fn enable(admin: &Queue) -> Result<Option<nvmet::command::Status>> {
    let mut responses = Responses::new(admin)?;
    let response = match Request::new(admin)?.init(&Command::set_cc(CC_ENABLE)) {
        Ok(request) => {
            request.execute(&mut responses);
            responses.wait().ok_or(EIO)?
        }
        Err(response) => response,
    };
    let status = response.status();

    Ok((!status.is_success()).then_some(status))
}

/// The PCI function that the ABI has as `function`, if that is one.
fn find_client(function: u64) -> Result<Option<ARef<Device>>> {
    if function == abi::NO_FUNCTION {
        return Ok(None);
    }

    let pdev = abi::find_function(function).ok_or(ENODEV)?;
    let device: &Device = (*pdev).as_ref();

    Ok(Some(device.into()))
}

/// A call that works on a queue of a controller, which waits for it when it is closed.
pub(crate) struct Call<'a> {
    queue: Arc<Queue>,
    counters: Arc<File<Counters>>,
    // Last, so that the others are dropped when the controller goes on.
    inside: Inside<'a>,
}

impl Call<'_> {
    /// The queue.
    pub(crate) fn queue(&self) -> &Queue {
        &self.queue
    }

    /// What the controller counts.
    pub(crate) fn counters(&self) -> &Counters {
        &self.counters
    }

    /// Whether the controller waits for this call to end.
    pub(crate) fn must_end(&self) -> bool {
        !self.inside.ctrl.is_live()
    }
}

/// One of the controller's calls, counted.
struct Inside<'a> {
    ctrl: &'a Controller,
}

impl Drop for Inside<'_> {
    fn drop(&mut self) {
        let mut state = self.ctrl.state.lock();

        state.calls -= 1;
        if state.calls == 0 {
            self.ctrl.changed.notify_all();
        }
    }
}
