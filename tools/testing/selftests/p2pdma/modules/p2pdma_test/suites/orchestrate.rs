// SPDX-License-Identifier: GPL-2.0

//! Distances, finding a provider, what the user enables.

use super::{
    Case,
    Suite,
    Test, //
};
use crate::{
    expect,
    expect_eq, //
};
use kernel::{
    page::PAGE_SIZE,
    pci,
    prelude::*,
    str::CString, //
};
use p2pdma::{
    orchestrator::{
        distance::{
            self,
            ClientDevice,
            Reach,
            Report, //
        },
        enable::Enable, //
    },
    pci::devices::{
        self,
        Address, //
    }, //
};

pub(super) const SUITE: Suite = Suite {
    name: "orchestrate",
    about: "distances, finding a provider, what the user enables",
    cases: &[
        Case {
            name: "devices_end",
            run: devices_end,
        },
        Case {
            name: "distance_to_itself",
            run: distance_to_itself,
        },
        Case {
            name: "distance_is_symmetric",
            run: distance_is_symmetric,
        },
        Case {
            name: "distance_adds_up",
            run: distance_adds_up,
        },
        Case {
            name: "find",
            run: find,
        },
        Case {
            name: "enable",
            run: enable,
        },
    ],
};

/// Whoever asks for one more device after the last gets none: the C function would start over.
fn devices_end(test: &mut Test<'_>) -> Result {
    let mut all = devices::all();
    let count = all.by_ref().count();

    expect!(test, count > 0, "no devices");
    for _ in 0..3 {
        expect!(test, all.next().is_none(), "starts over after {count}");
    }
    Ok(())
}

fn distance_to_itself(test: &mut Test<'_>) -> Result {
    let provider = test.provider();

    expect_eq!(
        test,
        Reach::Ports(0),
        distance::distance(provider, provider, Report::Quiet)
    );
    expect_eq!(
        test,
        Some(EINVAL),
        distance::distance_many(provider, &[], Report::Quiet).err()
    );
    Ok(())
}

/// It is as far there as it is back, for every function on the bus.
fn distance_is_symmetric(test: &mut Test<'_>) -> Result {
    let provider = test.provider();

    for other in devices::all() {
        let there = distance::distance(provider, &other, Report::Quiet);
        let back = distance::distance(&other, provider, Report::Quiet);

        expect!(
            test,
            there == back,
            "{}: {there:?} there, {back:?} back",
            Address::of(&other)
        );
    }
    Ok(())
}

/// Several clients: the sum, unless one is out of reach.
fn distance_adds_up(test: &mut Test<'_>) -> Result {
    let provider = test.provider();
    let mut others = KVec::new();
    let mut clients = KVec::new();
    let mut sum = Some(0);

    for other in devices::all().take(16) {
        others.push(other, GFP_KERNEL)?;
    }
    for other in &others {
        clients.push(ClientDevice::from(&**other), GFP_KERNEL)?;
        sum = match distance::distance(provider, other, Report::Quiet) {
            Reach::Ports(ports) => sum.map(|sum| sum + ports),
            Reach::NotSupported => None,
        };
        expect_eq!(
            test,
            sum.map_or(Reach::NotSupported, Reach::Ports),
            distance::distance_many(provider, &clients, Report::Quiet)?
        );
        if sum.is_none() {
            // And so it stays, whoever comes.
            break;
        }
    }
    Ok(())
}

/// Whether a user could choose the provider.
fn is_published(provider: &pci::Device) -> Result<bool> {
    let address = CString::try_from_fmt(fmt!("{}", Address::of(provider)))?;

    Ok(Enable::parse(&address).is_ok())
}

/// What is published is the nearest to itself; what is not is not found.
fn find(test: &mut Test<'_>) -> Result {
    let provider = test.provider();
    let found = distance::find(provider).ok();
    let itself = found
        .as_ref()
        .is_some_and(|found| core::ptr::eq(found.device(), provider));

    expect_eq!(test, is_published(test.provider())?, itself);
    expect_eq!(test, Some(EINVAL), distance::find_many(&[]).err());
    Ok(())
}

/// What is stored is shown again.
fn enable(test: &mut Test<'_>) -> Result {
    let mut page = KVec::from_elem(0u8, PAGE_SIZE, GFP_KERNEL)?;
    let page: &mut [u8; PAGE_SIZE] = page.as_mut_slice().try_into().map_err(|_| EINVAL)?;

    for (value, shown) in [
        (c"0", "0\n"),
        (c"1\n", "1\n"),
        (c"off", "0\n"),
        (c"on", "1\n"),
    ] {
        let len = Enable::parse(value)?.show(page);

        expect_eq!(test, shown.as_bytes(), &page[..len]);
    }

    let address = CString::try_from_fmt(fmt!("{}\n", Address::of(test.provider())))?;

    match Enable::parse(&address) {
        Ok(enable) => {
            let len = enable.show(page);

            expect_eq!(test, address.to_bytes(), &page[..len]);
        }
        Err(error) => expect_eq!(test, ENODEV, error),
    }
    Ok(())
}
