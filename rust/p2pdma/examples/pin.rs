// SPDX-License-Identifier: GPL-2.0
use kernel::prelude::*;
use p2pdma::user::pin::{
    pin_fast,
    Access,
    Flags,
    UserRange, //
};

/// How many of the pages of a user buffer, that a device is going to write to, are peer-to-peer
/// memory.
pub fn look_at(addr: usize, len: usize) -> Result<usize> {
    let range = UserRange::new(addr, len)?;
    let flags = Flags::short_term(Access::Write).allow_p2pdma();
    let pages = pin_fast(range, flags)?;

    Ok(pages.iter().filter(|page| page.is_p2pdma()).count())
    // Marked dirty, and unpinned.
}
