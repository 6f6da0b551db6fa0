// SPDX-License-Identifier: GPL-2.0

//! The counterpart to all others: correct use, which compiles.
//~ OK

use kernel::{
    dma::DataDirection,
    prelude::*, //
};
use p2pdma::{
    client::Client,
    provider::Provider,
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

pub fn correct(provider: &Provider<'_>, client: Client<'_>, range: UserRange) -> Result<usize> {
    let memory = provider.pool().alloc(4096)?;
    let table = provider.pool().alloc_sgl(4096)?;
    let mapped = table.map(client, DataDirection::ToDevice)?;
    let current = kernel::current!();
    let flags = Flags::short_term(Access::Read).allow_p2pdma();
    let mut array = PageArray::new(range.pages())?;
    let pages = pin::pin_fast(CurrentMm::new(current)?, range, flags, &mut array)?;

    Ok(memory.size() + mapped.iter().count() + pages.len())
}
