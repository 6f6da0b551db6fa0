// SPDX-License-Identifier: GPL-2.0

//! Which ports and controllers there are, and what happens to them.

use crate::{
    controller::Controller,
    TestTransport, //
};
use kernel::{
    debugfs::Dir,
    device::Device,
    new_condvar,
    new_mutex,
    prelude::*,
    sync::{
        aref::ARef,
        Arc,
        CondVar,
        Mutex, //
    }, //
};
use nvmet::{
    client::Watcher,
    transport::{
        self,
        Port, //
    }, //
};
use p2pdma::compat::code::ECONNRESET;

/// A host that is connecting: what happens to its controller before that is in the table is noted
/// here.
struct Attempt {
    id: u64,
    client: Option<ARef<Device>>,
    /// The client leaves.
    doomed: bool,
}

#[derive(Default)]
struct Entries {
    ports: KVec<Arc<Port<TestTransport>>>,
    controllers: KVec<Arc<Controller>>,
    attempts: KVec<Attempt>,
    next_attempt: u64,
    /// IDs of controllers that the core wants deleted, and that are not in the table yet. Empty
    /// unless there are attempts.
    unknown: KVec<u16>,
    /// Clients that are leaving right now: nobody starts to connect with them.
    leaving: KVec<ARef<Device>>,
}

/// The table.
#[pin_data]
pub(crate) struct Table {
    #[pin]
    entries: Mutex<Entries>,
    /// An attempt ended.
    #[pin]
    attempted: CondVar,
    /// `p2pdma_nvmet/` in debugfs.
    dir: Dir,
}

impl Table {
    pub(crate) fn new() -> Result<Arc<Self>> {
        Arc::pin_init(
            pin_init!(Self {
                entries <- new_mutex!(Entries::default()),
                attempted <- new_condvar!(),
                dir: Dir::new(c"p2pdma_nvmet"),
            }),
            GFP_KERNEL,
        )
    }

    pub(crate) fn dir(&self) -> &Dir {
        &self.dir
    }

    pub(crate) fn add_port(&self, port: &Arc<Port<TestTransport>>) -> Result {
        Ok(self.entries.lock().ports.push(port.clone(), GFP_KERNEL)?)
    }

    /// Has all controllers closed that were connected through the port. Those of subsystems that
    /// were linked to it were deleted before, but there may be some of the discovery subsystem.
    pub(crate) fn remove_port(&self, port: &Port<TestTransport>) {
        let is_it = |other: &Arc<Port<TestTransport>>| core::ptr::eq(&**other, port);
        let mut entries = self.entries.lock();

        entries.ports.retain(|other| !is_it(other));
        for ctrl in entries.controllers.iter().filter(|ctrl| is_it(ctrl.port())) {
            // Fails if it is on the queue already.
            drop(transport::queue().enqueue(ctrl.clone()));
        }
    }

    /// The port with that ID.
    pub(crate) fn port(&self, id: u16) -> Option<Arc<Port<TestTransport>>> {
        let entries = self.entries.lock();

        entries.ports.iter().find(|port| port.id() == id).cloned()
    }

    /// Has the controller closed, but not here: the core holds its subsystem's lock.
    pub(crate) fn delete_ctrl(&self, id: u16) {
        let mut entries = self.entries.lock();
        let mut found = false;

        // Those that are not live may have no queues any more, and another have their ID.
        for ctrl in entries.controllers.iter().filter(|ctrl| ctrl.id() == id) {
            found |= ctrl.is_live();
            // Fails if it is on the queue already.
            drop(transport::queue().enqueue(ctrl.clone()));
        }

        if !found && !entries.attempts.is_empty() && entries.unknown.push(id, GFP_KERNEL).is_err() {
            pr_err!("no memory, controller {} stays\n", id);
        }
    }

    /// Starts an attempt to connect; what is returned ends it. [`ENODEV`] if the client is leaving.
    pub(crate) fn attempt(self: &Arc<Self>, client: Option<ARef<Device>>) -> Result<Attempting> {
        let mut entries = self.entries.lock();
        let id = entries.next_attempt;

        if let Some(client) = &client {
            if entries.leaving.iter().any(|other| is_same(other, client)) {
                return Err(ENODEV);
            }
        }

        entries.next_attempt += 1;
        entries.attempts.push(
            Attempt {
                id,
                client,
                doomed: false,
            },
            GFP_KERNEL,
        )?;
        Ok(Attempting {
            table: self.clone(),
            id,
        })
    }

    /// Takes a closed controller out.
    pub(crate) fn remove(&self, ctrl: &Controller) {
        self.entries
            .lock()
            .controllers
            .retain(|other| !core::ptr::eq(&**other, ctrl));
    }
}

impl Watcher for Table {
    fn leaving(&self, device: &Device) {
        let is_client = |client: Option<&Device>| client.is_some_and(|dev| is_same(dev, device));
        let mut entries = self.entries.lock();

        // Otherwise hosts that connect again and again would keep this busy for ever.
        if entries.leaving.push(device.into(), GFP_KERNEL).is_err() {
            pr_err!("no memory, hosts may connect with a client that leaves\n");
        }

        // Those that are connecting will not get into the table.
        while entries
            .attempts
            .iter_mut()
            .filter(|attempt| is_client(attempt.client.as_deref()))
            .map(|attempt| attempt.doomed = true)
            .count()
            > 0
        {
            self.attempted.wait(&mut entries);
        }

        loop {
            let Some(ctrl) = entries
                .controllers
                .iter()
                .find(|ctrl| is_client(ctrl.client()))
                .cloned()
            else {
                break;
            };

            drop(entries);
            pr_info!("controller {}: client leaves\n", ctrl.id());
            ctrl.close();
            entries = self.entries.lock();
        }

        // Another bus notification for the same device may be under way, and has its own entry.
        if let Some(index) = entries
            .leaving
            .iter()
            .position(|other| is_same(other, device))
        {
            // It is there.
            let _ = entries.leaving.remove(index);
        }
    }
}

fn is_same(one: &Device, other: &Device) -> bool {
    core::ptr::eq(one, other)
}

/// An attempt to connect, ended when this is dropped.
pub(crate) struct Attempting {
    table: Arc<Table>,
    id: u64,
}

impl Attempting {
    /// Puts the controller into the table, where `delete_ctrl()` finds it.
    ///
    /// The attempt has not ended yet: if this fails, the caller has to close the controller before.
    ///
    /// # Errors
    ///
    /// - [`ECONNRESET`] if it was to be deleted meanwhile.
    /// - [`ENODEV`] if its client left, or its port was removed, meanwhile.
    /// - [`ENOMEM`].
    pub(crate) fn succeeded(&self, ctrl: &Arc<Controller>) -> Result {
        let mut entries = self.table.entries.lock();

        if entries.unknown.iter().any(|&id| id == ctrl.id()) {
            return Err(ECONNRESET);
        }
        if entries
            .attempts
            .iter()
            .any(|attempt| attempt.id == self.id && attempt.doomed)
        {
            return Err(ENODEV);
        }
        let is_its = |port| Arc::ptr_eq(port, ctrl.port());
        if !entries.ports.iter().any(is_its) {
            return Err(ENODEV);
        }
        Ok(entries.controllers.push(ctrl.clone(), GFP_KERNEL)?)
    }
}

impl Drop for Attempting {
    fn drop(&mut self) {
        let mut entries = self.table.entries.lock();

        entries.attempts.retain(|attempt| attempt.id != self.id);
        if entries.attempts.is_empty() {
            entries.unknown.clear();
        }
        self.table.attempted.notify_all();
    }
}
