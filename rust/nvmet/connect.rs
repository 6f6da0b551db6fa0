// SPDX-License-Identifier: GPL-2.0

//! Connecting a queue, as a host does it.
//!
//! C header: [`include/linux/nvme.h`](srctree/include/linux/nvme.h)
//!
//! Place: `drivers/nvme/target/rust/connect.rs`, kept by NVM EXPRESS TARGET DRIVER.

use crate::{
    bindings,
    command::{
        Command,
        Status, //
    },
    queue::Queue,
    request::{
        Request,
        Responses, //
    },
    transport::{
        Port,
        Transport, //
    }, //
};
use kernel::{
    device::Device,
    pci,
    prelude::*,
    sync::{
        aref::ARef,
        Arc, //
    }, //
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
    /// The PCI device that does the fabric's DMA, so that the core can look for peer-to-peer memory
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

impl<T: Transport> Queue<T> {
    /// Connects a queue through `port`: sends a Connect command and waits for its completion.
    ///
    /// May sleep. The core takes `nvmet_config_sem` for reading, and the subsystem's lock.
    ///
    /// # Errors
    ///
    /// - [`ConnectError::Refused`] with what the core says.
    /// - [`EINVAL`] if a name is longer than [`NQN_SIZE`], or `size` is 0; if an I/O queue is not
    ///   given an admin queue, and that of this port; if `client` is no PCI device, whose parent
    ///   the core would look at, which may be gone.
    /// - [`ENODEV`] if the port is being removed.
    /// - [`ENOMEM`].
    pub fn connect(
        port: &Arc<Port<T>>,
        connect: &Connect<'_, T>,
    ) -> Result<Arc<Self>, ConnectError> {
        if connect
            .client
            .as_ref()
            .is_some_and(|client| <&pci::Device>::try_from(&**client).is_err())
        {
            return Err(EINVAL.into());
        }

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

        let (user, client, admin) = (
            port.enter()?,
            connect.client.clone(),
            connect.admin.cloned(),
        );
        // SAFETY: Nobody but this function, and the request that it makes and waits for, has it
        // before it is connected.
        let queue = Arc::pin_init(unsafe { Self::new(user, client, admin) }, GFP_KERNEL)?;

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
