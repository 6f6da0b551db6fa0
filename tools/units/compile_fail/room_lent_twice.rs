// SPDX-License-Identifier: GPL-2.0

//! Room that pages are in is not lent to another call.
//~ E0499

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
    let flags = Flags::short_term(Access::Read);
    let first = pin::pin_fast(mm, range, flags, &mut *array)?;
    let second = pin::pin_fast(mm, range, flags, &mut *array)?;

    Ok(first.len() + second.len())
}
