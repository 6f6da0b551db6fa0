// SPDX-License-Identifier: GPL-2.0

//! The pattern that memory is filled with: `p2pdma_test_word()` of `p2pdma_test_uapi.h`, which C
//! programs use.

use crate::abi;

const POSITION: u64 = (1 << abi::P2PDMA_TEST_POSITION_BITS) - 1;

/// The part of a number that is a position, the other being a tag.
pub(crate) fn position(word: u64) -> u64 {
    word & POSITION
}

/// The word at `position` of the pattern with tag `tag`.
pub(crate) fn word(tag: u64, at: u64) -> u64 {
    let mut z = tag | position(at);

    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}
