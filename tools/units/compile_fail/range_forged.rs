// SPDX-License-Identifier: GPL-2.0

//! A range exists only after it was checked.
//~ E0451

use core::num::NonZero;
use p2pdma::provider::range::BarRange;

pub fn misuse() -> BarRange {
    BarRange {
        bar: 0,
        offset: 1,
        size: NonZero::<u64>::MIN,
        start: 0,
    }
}
