// SPDX-License-Identifier: GPL-2.0

//! Allocating and freeing: what is taken, what comes back, what is left.

use super::{
    Case,
    Suite,
    Test, //
};
use crate::{
    expect_eq,
    memory,
    pattern, //
};
use kernel::{
    io::Io,
    page::PAGE_SIZE,
    prelude::*,
    sync::atomic::{
        Atomic,
        Relaxed, //
    }, //
};
use p2pdma::{
    pool::{
        Memory, //
        ProviderRef,
    },
    system, //
};

pub(super) const SUITE: Suite = Suite {
    name: "pool",
    about: "allocating and freeing, to the page",
    cases: &[
        Case {
            name: "sizes",
            run: sizes,
        },
        Case {
            name: "refused",
            run: refused,
        },
        Case {
            name: "exhaustion",
            run: exhaustion,
        },
        Case {
            name: "fragmentation",
            run: fragmentation,
        },
        Case {
            name: "bus_addresses",
            run: bus_addresses,
        },
        Case {
            name: "threads",
            run: threads,
        },
    ],
};

/// Whole pages are taken, and given back.
fn sizes(test: &mut Test<'_>) -> Result {
    let pool = test.pool();
    let before = pool.measure_free()?;

    for size in [1, 4, 4095, 4096, 4097, 65536, 65537, 1 << 20] {
        let memory = pool.alloc(size)?;
        // CAST: 64 bits.
        let taken = size.next_multiple_of(PAGE_SIZE) as u64;

        expect_eq!(test, size.next_multiple_of(PAGE_SIZE), memory.size());
        expect_eq!(test, before - taken, pool.measure_free()?);
        drop(memory);
        expect_eq!(test, before, pool.measure_free()?);
    }
    Ok(())
}

fn refused(test: &mut Test<'_>) -> Result {
    let pool = test.pool();
    // CAST: 64 bits.
    let size = pool.measure_free()? as usize;

    expect_eq!(test, Some(EINVAL), pool.alloc(0).err());
    expect_eq!(test, Some(EINVAL), pool.alloc(usize::MAX).err());
    expect_eq!(test, Some(ENOMEM), pool.alloc(size + 1).err());
    expect_eq!(test, Some(ENOMEM), pool.alloc(isize::MAX as usize).err());
    Ok(())
}

/// All pages one by one, until none is left, and all back.
fn exhaustion(test: &mut Test<'_>) -> Result {
    let pool = test.pool();
    // CAST: 64 bits.
    let free = pool.measure_free()? / PAGE_SIZE as u64;
    let mut pages = KVVec::new();

    while let Ok(page) = pool.alloc(PAGE_SIZE) {
        pages.push(page, GFP_KERNEL)?;
    }
    expect_eq!(test, free, pages.len() as u64);
    expect_eq!(test, 0, pool.measure_free()?);
    expect_eq!(test, Some(ENOMEM), pool.alloc(1).err());

    // What came back last is what is left.
    drop(pages.pop());
    expect_eq!(test, PAGE_SIZE as u64, pool.measure_free()?);
    expect_eq!(test, Some(ENOMEM), pool.alloc(PAGE_SIZE + 1).err());
    drop(pool.alloc(1)?);
    Ok(())
}

/// Every other page: half of the memory is free, and no two pages of it are neighbours.
fn fragmentation(test: &mut Test<'_>) -> Result {
    let pool = test.pool();
    let whole = memory::largest(pool)?;
    let mut kept = KVVec::new();
    let mut rest = KVVec::new();

    while let Ok(page) = pool.alloc(PAGE_SIZE) {
        if kept.len() > rest.len() {
            rest.push(page, GFP_KERNEL)?;
        } else {
            kept.push(page, GFP_KERNEL)?;
        }
    }
    let freed = rest.len();
    drop(rest);

    // CAST: 64 bits.
    expect_eq!(test, (freed * PAGE_SIZE) as u64, pool.measure_free()?);
    expect_eq!(test, PAGE_SIZE as u64, memory::largest(pool)?);
    expect_eq!(test, freed as u64, memory::count(pool)?);
    drop(kept);
    expect_eq!(test, whole, memory::largest(pool)?);
    Ok(())
}

/// Where memory follows memory, addresses do, and none is in two pieces.
fn bus_addresses(test: &mut Test<'_>) -> Result {
    let pool = test.pool();
    let mut pieces = KVec::new();

    for pages in 1..=8 {
        pieces.push(pool.alloc(pages * PAGE_SIZE)?, GFP_KERNEL)?;
    }
    for (i, a) in pieces.iter().enumerate() {
        for b in &pieces[..i] {
            // CAST: 64 bits.
            let apart = a.bus_address() >= b.bus_address() + b.size() as u64
                || b.bus_address() >= a.bus_address() + a.size() as u64;

            expect_eq!(test, true, apart);
        }
        // CAST: 64 bits.
        expect_eq!(test, 0, a.bus_address() % PAGE_SIZE as u64);
    }
    Ok(())
}

const WORKERS: usize = 4;
const ROUNDS: u64 = 200;

/// Writes to both ends of the memory whose it is, and sees that it stays so.
fn claim(memory: &Memory<impl ProviderRef>, tag: u64) -> Result<bool> {
    let io = memory.io();
    let last = memory.size() - 8;

    io.try_write64(pattern::word(tag, 0), 0)?;
    io.try_write64(pattern::word(tag, last as u64), last)?;
    Ok(io.try_read64(0)? == pattern::word(tag, 0)
        && io.try_read64(last)? == pattern::word(tag, last as u64))
}

/// Several workers at a time, each with a few pieces of several sizes.
fn threads(test: &mut Test<'_>) -> Result {
    let pool = test.pool();
    let (lost, errors) = (Atomic::<u32>::new(0), Atomic::<u32>::new(0));

    system::run_on_workers(WORKERS, &|worker| {
        for round in 0..ROUNDS {
            // CAST: Small numbers.
            let number = worker as u64 * ROUNDS + round;
            let pages = 1 + (pattern::word(0, number) % 16) as usize;
            let tag = (number + 1) << crate::abi::P2PDMA_TEST_POSITION_BITS;
            let claimed = pool
                .alloc(pages * PAGE_SIZE)
                .and_then(|memory| claim(&memory, tag));

            match claimed {
                Ok(true) => (),
                Ok(false) => drop(lost.fetch_add(1, Relaxed)),
                Err(_) => drop(errors.fetch_add(1, Relaxed)),
            }
        }
    })?;
    expect_eq!(test, 0, lost.load(Relaxed));
    expect_eq!(test, 0, errors.load(Relaxed));
    Ok(())
}
