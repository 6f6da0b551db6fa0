// SPDX-License-Identifier: GPL-2.0

//! What is held for a long term is pinned, and not referenced.
//~ E0308

use kernel::prelude::*;
use p2pdma::user::{
    current::CurrentMm,
    pages::PageArray,
    pin::{
        self,
        Access,
        Flags,
        UserRange, //
    }, //
};

pub fn misuse(mm: CurrentMm<'_>, range: UserRange, array: &mut PageArray) -> Result<usize> {
    Ok(pin::get_fast(mm, range, Flags::long_term(Access::Read), array)?.len())
}
