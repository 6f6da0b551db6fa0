// SPDX-License-Identifier: GPL-2.0

//! A transport of the NVMe target for tests: an NVMe over Fabrics target without a fabric.
//!
//! Of the kernel's transports only nvmet-rdma offers the target peer-to-peer memory, and it takes
//! real hardware. This one does what nvmet-rdma does between the fabric and the target's core, and
//! leaves the fabric out: `/dev/p2pdma_nvmet` is the host's end of it, and the CPU does what an
//! RDMA adapter would do by DMA, through io accessors where the memory is a device's.
//!
//! - `abi`: the structures that come from and go to user space (`p2pdma_nvmet.h`);
//! - `host`: an open file of the device, one host;
//! - `controller`: the host's controller with its queues, and how it goes;
//! - `table`: which ports and controllers there are, and what happens to them;
//! - `command`, `run`: one command, and many;
//! - `counters`: what each controller counts, in debugfs.

#![forbid(unsafe_code)]

mod abi;
mod command;
mod controller;
mod counters;
mod host;
mod run;
mod table;

use host::Host;
use kernel::{
    miscdevice::{
        MiscDeviceOptions,
        MiscDeviceRegistration, //
    },
    prelude::*,
    sync::Arc, //
};
use nvmet::{
    client::Watch,
    ctrl::Ctrl,
    registration::Registration,
    transport::{
        Port,
        Slot,
        Transport,
        Type, //
    }, //
};
use p2pdma::compat::{
    code::{
        ECANCELED,
        EOPNOTSUPP, //
    },
    parameter, //
};
use table::Table;

/// Queues of this transport.
type Queue = nvmet::queue::Queue<TestTransport>;

/// The transport.
struct TestTransport {
    table: Arc<Table>,
}

static SLOT: Slot<TestTransport> = Slot::new();

impl Transport for TestTransport {
    const TYPE: Type = Type::Loop;

    fn slot() -> &'static Slot<Self> {
        &SLOT
    }

    fn add_port(&self, port: &Arc<Port<Self>>) -> Result {
        self.table.add_port(port)
    }

    fn remove_port(&self, port: &Port<Self>) {
        self.table.remove_port(port);
    }

    fn delete_ctrl(&self, ctrl: &Ctrl<'_>) {
        self.table.delete_ctrl(ctrl.id());
    }
}

/// A transport without ports, which is left registered if the parameter `leak` says so. There is
/// nothing in it: files in debugfs, for one, would be left behind as well.
struct LeftBehind;

static LEFT_BEHIND: Slot<LeftBehind> = Slot::new();

impl Transport for LeftBehind {
    const TYPE: Type = Type::Loop;

    fn slot() -> &'static Slot<Self> {
        &LEFT_BEHIND
    }

    fn add_port(&self, _port: &Arc<Port<Self>>) -> Result {
        Err(EOPNOTSUPP)
    }

    fn remove_port(&self, _port: &Port<Self>) {}

    fn delete_ctrl(&self, _ctrl: &Ctrl<'_>) {}
}

/// The module's data. Dropped from top to bottom: first there are no new hosts, then nobody is told
/// of clients any more, then there is no transport.
#[pin_data]
struct NvmetModule {
    #[pin]
    device: MiscDeviceRegistration<Host>,
    _watch: Watch,
    registration: Registration<TestTransport>,
}

impl kernel::InPlaceModule for NvmetModule {
    fn init(module: &'static ThisModule) -> impl PinInit<Self, Error> {
        let table = Table::new();

        try_pin_init!(Self {
            registration: {
                if parameter(&module_parameters::leak) != 0 {
                    core::mem::forget(Registration::new::<Error>(module, Ok(LeftBehind))?);
                    return Err(ECANCELED);
                }

                let table = table.clone().map_err(|_| ENOMEM)?;

                Registration::new(module, TestTransport { table }).inspect_err(|&e| {
                    if e == EBUSY {
                        pr_err!(
                            "transport type \"loop\" is taken, unload nvme-loop (or what else \
                             serves it) first\n"
                        );
                    }
                })?
            },
            _watch: Watch::new(table.map_err(|_| ENOMEM)?)?,
            device <- MiscDeviceRegistration::register(MiscDeviceOptions {
                name: c"p2pdma_nvmet",
            }),
        })
    }
}

module! {
    type: NvmetModule,
    name: "p2pdma_nvmet",
    authors: ["The p2pdma for Rust-for-Linux authors"],
    description: "NVMe target transport for tests of peer-to-peer memory",
    license: "GPL",
    params: {
        leak: u8 {
            default: 0,
            description: "1: leave the transport registered, and fail: what comes of that?",
        },
    },
}
