// SPDX-License-Identifier: GPL-2.0

//! The commands of an orchestrator: distance, finding a provider, what the user enabled.

use crate::{
    abi::{
        self,
        Args, //
    },
    memory,
    refuse,
    session::Session, //
};
use kernel::{
    device::Device,
    page::PAGE_SIZE,
    prelude::*,
    sync::aref::ARef, //
};
use p2pdma::orchestrator::{
    distance::{
        self,
        ClientDevice,
        Reach,
        Report, //
    },
    enable::Enable, //
};

/// The devices that the ABI names as clients.
fn find_clients(session: &Session, clients: u64, nr: u32) -> Result<KVVec<ARef<Device>>> {
    let mut devices = KVVec::new();

    if nr == 0 {
        return Err(refuse!(EINVAL, "no clients"));
    }
    for client in abi::read_array::<u64>(clients, nr, abi::P2PDMA_TEST_MAX_CLIENTS)? {
        let device = if client == abi::SELF {
            session.device().into()
        } else {
            memory::find_function(client)?.as_ref().into()
        };

        devices.push(device, GFP_KERNEL)?;
    }
    Ok(devices)
}

/// Calls `f` with borrows of all devices.
fn with_borrowed<T>(
    devices: &[ARef<Device>],
    f: impl FnOnce(&[ClientDevice<'_>]) -> Result<T>,
) -> Result<T> {
    let mut borrowed = KVVec::with_capacity(devices.len(), GFP_KERNEL)?;

    for device in devices {
        let client = ClientDevice::try_from(&**device)
            .inspect_err(|_| refuse!((), "a client is no PCI device"))?;

        borrowed.push(client, GFP_KERNEL)?;
    }
    f(&borrowed)
}

impl Args for abi::p2pdma_test_distance {
    const FIRST: usize = 40;
    const FLAGS: u32 = abi::P2PDMA_TEST_DISTANCE_VERBOSE;

    fn flags(&self) -> u32 {
        self.flags
    }

    fn reserved_is_zero(&self) -> bool {
        self.reserved == 0
    }
}

/// Asks for a distance.
pub(crate) fn distance(session: &Session, args: &mut abi::p2pdma_test_distance) -> Result {
    let report = if args.flags & abi::P2PDMA_TEST_DISTANCE_VERBOSE != 0 {
        Report::Verbose
    } else {
        Report::Quiet
    };
    let provider = memory::find_function(args.provider)?;
    let clients = find_clients(session, args.clients, args.nr_clients)?;
    let reach = with_borrowed(&clients, |clients| {
        distance::distance_many(&provider, clients, report)
    })?;

    args.ret = match reach {
        Reach::Ports(ports) => ports.into(),
        Reach::NotSupported => -1,
    };
    Ok(())
}

impl Args for abi::p2pdma_test_find {
    const FIRST: usize = 32;
    const FLAGS: u32 = 0;

    fn flags(&self) -> u32 {
        self.flags
    }

    fn reserved_is_zero(&self) -> bool {
        self.reserved == 0
    }
}

/// Finds a provider.
pub(crate) fn find(session: &Session, args: &mut abi::p2pdma_test_find) -> Result {
    let clients = find_clients(session, args.clients, args.nr_clients)?;

    args.provider = with_borrowed(&clients, |clients| {
        match distance::find_many(clients) {
            Ok(found) => Ok(abi::function(found.device())),
            // Or no memory: the kernel's function does not tell.
            Err(error) if error == ENODEV => Ok(abi::NO_FUNCTION),
            Err(error) => Err(error),
        }
    })?;
    Ok(())
}

impl Args for abi::p2pdma_test_enable {
    const FIRST: usize = 160;
    const FLAGS: u32 = 0;

    fn flags(&self) -> u32 {
        self.flags
    }

    fn reserved_is_zero(&self) -> bool {
        self.reserved == 0
    }
}

/// Parses the value of an attribute, and shows it again.
pub(crate) fn enable(args: &mut abi::p2pdma_test_enable) -> Result {
    let value = CStr::from_bytes_until_nul(&args.value)
        .map_err(|_| refuse!(EINVAL, "the value has no end"))?;

    args.choice = abi::P2PDMA_TEST_OFF;
    args.provider = abi::NO_FUNCTION;
    args.shown = [0; 64];
    args.ret = 0;

    let enable = match Enable::parse(value) {
        Ok(enable) => enable,
        Err(error) => {
            args.ret = error.to_errno().into();
            return Ok(());
        }
    };
    let mut page = KVec::from_elem(0u8, PAGE_SIZE, GFP_KERNEL)?;
    let page: &mut [u8; PAGE_SIZE] = page.as_mut_slice().try_into().map_err(|_| EINVAL)?;
    let shown = enable.show(page).min(args.shown.len() - 1);

    args.shown[..shown].copy_from_slice(&page[..shown]);
    match enable {
        Enable::Off => (),
        Enable::Auto => args.choice = abi::P2PDMA_TEST_AUTO,
        Enable::Provider(found) => {
            args.choice = abi::P2PDMA_TEST_PROVIDER;
            args.provider = abi::function(found.device());
        }
    }
    Ok(())
}
