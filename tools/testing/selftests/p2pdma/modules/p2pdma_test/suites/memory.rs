// SPDX-License-Identifier: GPL-2.0

//! What memory holds, through the io accessors.

use super::{
    Case,
    Suite,
    Test, //
};
use crate::{
    expect_eq,
    pattern, //
};
use kernel::{
    io::Io,
    page::PAGE_SIZE,
    prelude::*, //
};

pub(super) const SUITE: Suite = Suite {
    name: "memory",
    about: "content, through the io accessors",
    cases: &[
        Case {
            name: "holds",
            run: holds,
        },
        Case {
            name: "widths",
            run: widths,
        },
        Case {
            name: "bounds",
            run: bounds,
        },
        Case {
            name: "apart",
            run: apart,
        },
    ],
};

const TAG: u64 = 1 << crate::abi::P2PDMA_TEST_POSITION_BITS;

/// Every word of a piece keeps its own value.
fn holds(test: &mut Test<'_>) -> Result {
    let memory = test.pool().alloc(8 * PAGE_SIZE)?;
    let io = memory.io();
    let mut wrong = 0;

    for at in (0..memory.size()).step_by(8) {
        // CAST: 64 bits.
        io.try_write64(pattern::word(TAG, at as u64), at)?;
    }
    for at in (0..memory.size()).step_by(8) {
        // CAST: 64 bits.
        wrong += u32::from(io.try_read64(at)? != pattern::word(TAG, at as u64));
    }
    expect_eq!(test, 0, wrong);
    Ok(())
}

/// Accesses of all widths see the same bytes.
fn widths(test: &mut Test<'_>) -> Result {
    let memory = test.pool().alloc(PAGE_SIZE)?;
    let io = memory.io();
    let word: u64 = 0x8877_6655_4433_2211;
    let bytes = word.to_le_bytes();

    io.try_write64(word.to_le(), 0)?;
    for (at, byte) in bytes.iter().enumerate() {
        expect_eq!(test, *byte, io.try_read8(at)?);
    }
    expect_eq!(test, 0x4433_2211, io.try_read32(0)?);
    expect_eq!(test, 0x8877_6655, io.try_read32(4)?);
    expect_eq!(test, 0x6655, io.try_read16(4)?);

    io.try_write8(0xaa, 3)?;
    io.try_write16(0xbbcc, 4)?;
    expect_eq!(test, 0x8877_bbcc_aa33_2211, io.try_read64(0)?);
    io.try_write32(0x0102_0304, 4)?;
    expect_eq!(test, 0x0102_0304_aa33_2211, io.try_read64(0)?);
    Ok(())
}

/// There is no access that is not wholly within the memory.
fn bounds(test: &mut Test<'_>) -> Result {
    let memory = test.pool().alloc(PAGE_SIZE)?;
    let io = memory.io();

    expect_eq!(test, true, io.try_read64(PAGE_SIZE - 8).is_ok());
    expect_eq!(test, Some(EINVAL), io.try_read64(PAGE_SIZE).err());
    expect_eq!(test, Some(EINVAL), io.try_read64(PAGE_SIZE - 4).err());
    expect_eq!(test, Some(EINVAL), io.try_read8(PAGE_SIZE).err());
    expect_eq!(test, Some(EINVAL), io.try_read64(usize::MAX - 7).err());
    expect_eq!(test, Some(EINVAL), io.try_write64(0, PAGE_SIZE).err());
    expect_eq!(test, Some(EINVAL), io.try_write32(0, PAGE_SIZE - 2).err());
    Ok(())
}

/// Two pieces have no byte in common.
fn apart(test: &mut Test<'_>) -> Result {
    let pool = test.pool();
    let mut pieces = KVec::new();

    for i in 0..16 {
        let memory = pool.alloc((1 + i % 3) * PAGE_SIZE)?;

        for at in (0..memory.size()).step_by(512) {
            // CAST: 64 bits.
            memory
                .io()
                .try_write64(pattern::word((i as u64 + 1) * TAG, at as u64), at)?;
        }
        pieces.push(memory, GFP_KERNEL)?;
    }
    for (i, memory) in pieces.iter().enumerate() {
        for at in (0..memory.size()).step_by(512) {
            // CAST: 64 bits.
            let expected = pattern::word((i as u64 + 1) * TAG, at as u64);

            expect_eq!(test, expected, memory.io().try_read64(at)?);
        }
    }
    Ok(())
}
