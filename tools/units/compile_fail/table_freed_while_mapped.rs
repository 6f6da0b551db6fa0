// SPDX-License-Identifier: GPL-2.0

//! A scatterlist is not freed while a client has it mapped.
//~ E0382

use kernel::{
    dma::DataDirection,
    prelude::*, //
};
use p2pdma::{
    client::Client,
    provider::Provider, //
};

pub fn misuse(provider: &Provider<'_>, client: Client<'_>) -> Result<usize> {
    let table = provider.pool().alloc_sgl(4096)?;
    let mapped = table.map(client, DataDirection::ToDevice)?;

    drop(table);
    Ok(mapped.iter().count())
}
