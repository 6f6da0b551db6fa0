// SPDX-License-Identifier: GPL-2.0

//! Scatterlists, and the pages in them.

use super::{
    Case,
    Suite,
    Test, //
};
use crate::{
    expect,
    expect_eq, //
};
// In some series, the size of a region is a method of the trait.
#[allow(unused_imports)]
use kernel::io::Io;
use kernel::{
    page::PAGE_SIZE,
    prelude::*,
    sizes::SZ_2M, //
};
use p2pdma::{
    client::sg::Sgl,
    page::PageExt,
    provider::PageOwner, //
};

pub(super) const SUITE: Suite = Suite {
    name: "sgl",
    about: "scatterlists, and the pages in them",
    cases: &[
        Case {
            name: "lengths",
            run: lengths,
        },
        Case {
            name: "refused",
            run: refused,
        },
        Case {
            name: "pages",
            run: pages,
        },
        Case {
            name: "gather",
            run: gather,
        },
        Case {
            name: "gather_refused",
            run: gather_refused,
        },
    ],
};

/// One entry, as long as asked for; whole pages of the pool.
fn lengths(test: &mut Test<'_>) -> Result {
    let pool = test.pool();
    let before = pool.measure_free()?;

    for length in [4, 512, 4092, 4096, 4100, 65536, 1 << 20] {
        let table = pool.alloc_sgl(length)?;
        // CAST: 32 bits to 64.
        let taken = (length as usize).next_multiple_of(PAGE_SIZE);

        expect_eq!(test, 1, table.len());
        expect_eq!(
            test,
            length as usize,
            table.segments().map(|io| io.size()).sum::<usize>()
        );
        expect_eq!(test, taken / PAGE_SIZE, table.pages().count());
        expect_eq!(test, before - taken as u64, pool.measure_free()?);
        drop(table);
        expect_eq!(test, before, pool.measure_free()?);
    }
    Ok(())
}

fn refused(test: &mut Test<'_>) -> Result {
    let pool = test.pool();

    expect_eq!(test, Some(EINVAL), pool.alloc_sgl(0).err());
    expect_eq!(test, Some(EINVAL), pool.alloc_sgl(6).err());
    expect_eq!(test, Some(ENOMEM), pool.alloc_sgl(u32::MAX & !3).err());
    Ok(())
}

/// Pages of the provider, in a row, that nobody refers to.
fn pages(test: &mut Test<'_>) -> Result {
    // CAST: A small number.
    let table = test.pool().alloc_sgl((5 * PAGE_SIZE) as u32)?;
    let mut last = None;

    for page in table.pages() {
        let location = page.location();

        expect!(test, page.is_p2pdma(), "no page of peer-to-peer memory");
        expect!(
            test,
            page.is_of(test.provider()),
            "no page of the provider: {location:?}"
        );
        expect!(
            test,
            page.provider()
                .is_some_and(|dev| core::ptr::eq(&*dev, test.provider())),
            "another device claims it: {location:?}"
        );
        expect_eq!(test, 0, page.ref_count());
        if let Some(location) = location {
            // That is where a range can begin.
            expect_eq!(test, 0, (location.phys - location.offset) % SZ_2M as u64);
            expect!(
                test,
                location.offset + PAGE_SIZE as u64 <= location.range,
                "beyond the end of its range: {location:?}"
            );
        }
        if let (Some(location), Some(last)) = (location, last) {
            // CAST: 64 bits.
            expect_eq!(test, last + PAGE_SIZE as u64, location.offset);
        }
        last = location.map(|location| location.offset);
    }
    expect!(test, last.is_some(), "the last page is nowhere");
    Ok(())
}

/// Several pieces, each an entry, in the order in which they came.
fn gather(test: &mut Test<'_>) -> Result {
    let pool = test.pool();
    let before = pool.measure_free()?;
    let mut pieces = KVec::new();
    let mut addresses = KVec::new();
    let mut taken = 0;

    for pages in [1, 3, 2, 1, 7] {
        let memory = pool.alloc(pages * PAGE_SIZE)?;

        addresses.push((memory.bus_address(), memory.size()), GFP_KERNEL)?;
        taken += memory.size();
        pieces.push(memory, GFP_KERNEL)?;
    }

    let table = Sgl::gather(pieces)?;

    expect_eq!(test, addresses.len(), table.len());
    // CAST: 64 bits.
    expect_eq!(test, before - taken as u64, pool.measure_free()?);
    for ((address, size), (found, io)) in addresses
        .iter()
        .zip(table.bus_addresses().zip(table.segments()))
    {
        expect_eq!(test, *address, found);
        expect_eq!(test, *size, io.size());
    }
    drop(table);
    expect_eq!(test, before, pool.measure_free()?);
    Ok(())
}

fn gather_refused(test: &mut Test<'_>) -> Result {
    let none: KVec<p2pdma::pool::Memory<&kernel::pci::Device>> = KVec::new();

    expect_eq!(test, Some(EINVAL), Sgl::gather(none).err());
    Ok(())
}
