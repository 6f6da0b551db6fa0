// SPDX-License-Identifier: GPL-2.0

//! A scatterlist is mapped for one client at a time.
//~ E0382

use kernel::{
    dma::DataDirection,
    prelude::*, //
};
use p2pdma::{
    client::Client,
    provider::Provider, //
};

pub fn misuse(provider: &Provider<'_>, a: Client<'_>, b: Client<'_>) -> Result<usize> {
    let table = provider.pool().alloc_sgl(4096)?;
    let first = table.map(a, DataDirection::ToDevice)?;
    let second = table.map(b, DataDirection::ToDevice)?;

    Ok(first.iter().count() + second.iter().count())
}
