// SPDX-License-Identifier: GPL-2.0

//! A page that was pinned is not looked at after it was released.
//~ E0505

use kernel::prelude::*;
use p2pdma::user::pin::{
    self,
    Access,
    Flags,
    UserRange, //
};

pub fn misuse(range: UserRange) -> Result<i32> {
    let pages = pin::pin_fast(range, Flags::short_term(Access::Read))?;
    let page = pages.iter().next().ok_or(EFAULT)?;

    drop(pages);
    Ok(page.ref_count())
}
