// SPDX-License-Identifier: GPL-2.0

//! Queues: pairs of a submission and a completion queue, connected by a host.
//!
//! C header: [`drivers/nvme/target/nvmet.h`](srctree/drivers/nvme/target/nvmet.h)

use crate::{
    bindings,
    command::{
        Command,
        Status, //
    },
    port::{
        Port,
        User, //
    },
    request::{
        Request,
        Responses, //
    },
    transport::Transport, //
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

/// Size of the fields that hold a qualified name, in bytes, the terminating NUL included.
pub const NQN_FIELD_LEN: usize = bindings::NVMF_NQN_FIELD_LEN as usize;

/// Longest qualified name, in bytes.
pub const NQN_SIZE: usize = bindings::NVMF_NQN_SIZE as usize;

/// CNTLID in the Connect of an admin queue: the target chooses one (dynamic controller model).
const CNTLID_DYNAMIC: u16 = 0xffff;

/// What a host asks for when it connects a queue.
///
/// C: `struct nvmf_connect_command`, `struct nvmf_connect_data`.
#[doc(alias = "nvmf_connect_data")]
pub struct Connect<'a, T: Transport> {
    /// 0 for the admin queue of a new controller, else the ID of an I/O queue.
    pub qid: u16,
    /// Entries of the queue.
    pub size: u16,
    /// For an I/O queue the admin queue of its controller, which stays at least as long.
    pub admin: Option<&'a Arc<Queue<T>>>,
    /// The subsystem.
    pub subsys_nqn: &'a [u8],
    /// The host.
    pub host_nqn: &'a [u8],
    /// The device that does the fabric's DMA, so that the core can look for peer-to-peer memory
    /// that it reaches; without one there is none. What counts is the one given for the admin
    /// queue.
    ///
    /// C: `req->p2p_client`.
    pub client: Option<ARef<Device>>,
}

/// Why a queue was not connected.
#[derive(Debug)]
pub enum ConnectError {
    /// The target refused: completion status, and the first dword of the result, which names the
    /// offending parameter for some.
    Refused(Status, u32),
    /// It did not come to that.
    Failed(Error),
}

impl From<Error> for ConnectError {
    fn from(e: Error) -> Self {
        Self::Failed(e)
    }
}

impl From<kernel::alloc::AllocError> for ConnectError {
    fn from(e: kernel::alloc::AllocError) -> Self {
        Self::Failed(e.into())
    }
}

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
/// - What [`Self::connect()`] returned is connected: `sq.ctrl` is a valid controller until `self`
///   is dropped. Only that is shared.
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
    pair: Opaque<Pair>,
}

// SAFETY: The queues belong to no thread.
unsafe impl<T: Transport> Send for Queue<T> {}
// SAFETY: The core takes requests of a connected queue from several threads at once, as nvme-loop
// hands them to it.
unsafe impl<T: Transport> Sync for Queue<T> {}

impl<T: Transport> Queue<T> {
    /// Connects a queue through `port`: sends a Connect command and waits for its completion.
    ///
    /// May sleep. The core takes `nvmet_config_sem` for reading, and the subsystem's lock.
    ///
    /// # Errors
    ///
    /// - [`ConnectError::Refused`] with what the core says.
    /// - [`EINVAL`] if a name is longer than [`NQN_SIZE`], or `size` is 0; if an I/O queue is not
    ///   given an admin queue, and that of this port.
    /// - [`ENODEV`] if the port is being removed.
    /// - [`ENOMEM`].
    pub fn connect(
        port: &Arc<Port<T>>,
        connect: &Connect<'_, T>,
    ) -> Result<Arc<Self>, ConnectError> {
        let cntlid = match connect.admin {
            None if connect.qid == 0 => CNTLID_DYNAMIC,
            Some(admin)
                if connect.qid != 0 && admin.id() == 0 && Arc::ptr_eq(admin.port(), port) =>
            {
                admin.ctrl_id()
            }
            _ => return Err(EINVAL.into()),
        };
        let mut data = bindings::nvmf_connect_data {
            cntlid: cntlid.to_le(),
            ..Default::default()
        };
        set_nqn(&mut data.subsysnqn, connect.subsys_nqn)?;
        set_nqn(&mut data.hostnqn, connect.host_nqn)?;
        let sqsize = connect.size.checked_sub(1).ok_or(EINVAL)?;

        let user = port.enter()?;
        let queue = Arc::pin_init(
            try_pin_init!(Self {
                client: connect.client.clone(),
                user,
                admin: connect.admin.cloned(),
                // INVARIANT: Initialised as said.
                pair <- Opaque::try_ffi_init(|pair: *mut Pair| {
                    // SAFETY: `pair` is valid for writing; all zero is what both functions expect
                    // (transports allocate them with `kzalloc()`).
                    to_result(unsafe {
                        pair.write_bytes(0, 1);
                        bindings::nvmet_cq_init(&raw mut (*pair).cq);
                        let ret =
                            bindings::nvmet_sq_init(&raw mut (*pair).sq, &raw mut (*pair).cq);
                        if ret != 0 {
                            bindings::nvmet_cq_put(&raw mut (*pair).cq);
                        }
                        ret
                    })
                }),
            }),
            GFP_KERNEL,
        )?;

        let command = Command::connect(connect.qid, sqsize);
        let mut responses = Responses::new(&queue)?;
        let response = match Request::new(&queue)?.init(&command) {
            Ok(mut request) => {
                request.alloc_data(size_of_val(&data))?;
                // SAFETY: All fields of the C structure are integers, or arrays of them, without
                // padding in between.
                let bytes = unsafe {
                    core::slice::from_raw_parts((&raw const data).cast::<u8>(), size_of_val(&data))
                };
                request.data().copy_from_slice(0, bytes)?;
                request.execute(&mut responses);
                // One is under way.
                responses.wait().ok_or(EIO)?
            }
            Err(response) => response,
        };

        if !response.status().is_success() {
            return Err(ConnectError::Refused(
                response.status(),
                // CAST: The low half.
                response.result() as u32,
            ));
        }
        drop(response);
        drop(responses);

        // INVARIANT: `nvmet_install_queue()` has set `sq.ctrl`.
        Ok(queue)
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
        // SAFETY: Written when the queue was connected, not changed afterwards.
        unsafe { (*self.sq()).qid }
    }

    /// Number of entries.
    pub fn size(&self) -> u16 {
        // SAFETY: As for `id()`.
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
        // Waits until the core is done with all requests. There are none that were initialised and
        // not executed: those borrow `self`.
        //
        // SAFETY: By the type invariant both queues are initialised. Nothing uses them any more.
        unsafe {
            bindings::nvmet_sq_destroy(self.sq());
            bindings::nvmet_cq_put(self.cq());
        }
    }
}

/// Copies a qualified name into a field; [`EINVAL`] if it is too long.
fn set_nqn(field: &mut [c_char; NQN_FIELD_LEN], nqn: &[u8]) -> Result {
    if nqn.len() > NQN_SIZE {
        return Err(EINVAL);
    }
    for (to, from) in field.iter_mut().zip(nqn) {
        *to = *from;
    }
    Ok(())
}
