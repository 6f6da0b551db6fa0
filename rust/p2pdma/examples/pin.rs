// SPDX-License-Identifier: GPL-2.0
use kernel::prelude::*;
use p2pdma::{
    page::PageExt,
    user::{
        current::CurrentMm,
        pages::PageArray,
        pin::{
            pin_fast,
            Access,
            Flags,
            UserRange, //
        }, //
    }, //
};

/// How many of the pages of a user buffer, that a device is going to write to, are peer-to-peer
/// memory. `array` has room for the pages, and is used again by the next call.
pub fn look_at(addr: usize, len: usize, array: &mut PageArray) -> Result<usize> {
    let current = kernel::current!();
    let range = UserRange::new(addr, len)?;
    let flags = Flags::short_term(Access::Write).allow_p2pdma();
    let pages = pin_fast(CurrentMm::new(current)?, range, flags, array)?;

    Ok(pages.iter().filter(|page| page.is_p2pdma()).count())
    // Marked dirty, and unpinned.
}
