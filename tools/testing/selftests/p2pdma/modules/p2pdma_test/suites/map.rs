// SPDX-License-Identifier: GPL-2.0

//! Mapping memory for clients: every NVMe controller that is bound.

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
    dma::DataDirection,
    page::PAGE_SIZE,
    pci,
    prelude::*, //
};
use p2pdma::{
    client::{
        sg::{
            EntryExt,
            MapType,
            Sgl, //
        },
        Client, //
    },
    orchestrator::distance::{
        self,
        Reach,
        Report, //
    },
    pci::{
        bound::BoundDevice,
        devices::{
            self,
            Address, //
        }, //
    }, //
};

pub(super) const SUITE: Suite = Suite {
    name: "map",
    about: "mapping memory for NVMe controllers",
    cases: &[
        Case {
            name: "types",
            run: types,
        },
        Case {
            name: "addresses",
            run: addresses,
        },
        Case {
            name: "directions",
            run: directions,
        },
    ],
};

/// Calls `f` for each controller that is bound, and skips the case if there is none.
fn each_client(
    test: &mut Test<'_>,
    mut f: impl FnMut(&mut Test<'_>, &pci::Device, Client<'_>) -> Result,
) -> Result {
    let mut none = true;

    for dev in devices::all().filter(|dev| dev.pci_class() == pci::Class::STORAGE_EXPRESS) {
        if core::ptr::eq(&*dev, test.provider()) {
            // Its lock is held already.
            none = false;
            f(test, &dev, test.pool().client())?;
            continue;
        }

        // One lock is held, so this must not be waited for.
        let mut called = false;
        let result = BoundDevice::try_with((*dev).as_ref(), |client| {
            called = true;
            f(test, &dev, client.client()?)
        });

        none &= !called;
        match result {
            result if called => result?,
            Err(error) if error == EBUSY => test.out.diagnose(fmt!(
                "{}: somebody else has its lock, left out",
                Address::of(&dev)
            )),
            // No driver is bound.
            _ => (),
        }
    }
    if none {
        test.skip("no NVMe controller");
    }
    Ok(())
}

/// A mapping is refused where there is no distance, and only there.
fn types(test: &mut Test<'_>) -> Result {
    each_client(test, |test, dev, client| {
        let reach = distance::distance(test.provider(), dev, Report::Quiet);
        let map_type = MapType::probe(test.pool(), client)?;

        expect!(
            test,
            (reach == Reach::NotSupported) == (map_type == MapType::NotSupported),
            "{}: {reach:?}, but {map_type:?}",
            Address::of(dev)
        );
        if core::ptr::eq(dev, test.provider()) {
            expect_eq!(test, MapType::BusAddr, map_type);
        }
        Ok(())
    })
}

/// A bus address is that of the memory; and all entries are of one kind.
fn addresses(test: &mut Test<'_>) -> Result {
    each_client(test, |test, dev, client| {
        let pool = test.pool();
        let mut pieces = KVec::new();

        for pages in 1..=4 {
            pieces.push(pool.alloc(pages * PAGE_SIZE)?, GFP_KERNEL)?;
        }

        let table = Sgl::gather(pieces)?;
        let mut expected = KVec::new();
        for address in table.bus_addresses() {
            expected.push(address, GFP_KERNEL)?;
        }

        let Ok(mapped) = table.map(client, DataDirection::Bidirectional) else {
            // For `types` to judge.
            return Ok(());
        };
        let bus = mapped.iter().filter(|entry| entry.is_bus_address()).count();
        let total: u64 = mapped.iter().map(|entry| entry.dma_len()).sum();

        expect!(
            test,
            bus == 0 || bus == expected.len(),
            "{}: {bus} of {} are bus addresses",
            Address::of(dev),
            expected.len()
        );
        // CAST: 64 bits.
        expect_eq!(test, (10 * PAGE_SIZE) as u64, total);
        if bus != 0 {
            for (entry, expected) in mapped.iter().zip(&expected) {
                expect_eq!(test, *expected, entry.dma_address());
            }
        }
        Ok(())
    })
}

/// The direction makes no difference to whether, and `None` is none.
fn directions(test: &mut Test<'_>) -> Result {
    each_client(test, |test, _, client| {
        let mut results = [false; 3];

        for (result, dir) in results.iter_mut().zip([
            DataDirection::Bidirectional,
            DataDirection::ToDevice,
            DataDirection::FromDevice,
        ]) {
            // CAST: The page size fits.
            let table = test.pool().alloc_sgl(PAGE_SIZE as u32)?;

            *result = table.map(client, dir).is_ok();
        }
        expect_eq!(test, [results[0]; 3], results);

        // CAST: The page size fits.
        let table = test.pool().alloc_sgl(PAGE_SIZE as u32)?;
        expect_eq!(
            test,
            Some(EINVAL),
            table.map(client, DataDirection::None).err()
        );
        Ok(())
    })
}
