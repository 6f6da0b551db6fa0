// SPDX-License-Identifier: GPL-2.0

//! A page that was pinned is not looked at after it was released.
//~ E0505

use kernel::prelude::*;
use p2pdma::{
    page::PageExt,
    user::{
        current::CurrentMm,
        pages::PageArray,
        pin::{
            self,
            Access,
            Flags,
            UserRange, //
        }, //
    }, //
};

pub fn misuse(mm: CurrentMm<'_>, range: UserRange, array: PageArray) -> Result<i32> {
    let pages = pin::pin_fast(mm, range, Flags::short_term(Access::Read), array)?;
    let page = pages.iter().next().ok_or(EFAULT)?;

    drop(pages);
    Ok(page.ref_count())
}
