// SPDX-License-Identifier: GPL-2.0

//! Memory that is allocated through a provider is freed before the provider goes.
//~ E0505

use kernel::prelude::*;
use p2pdma::provider::Provider;

pub fn misuse(provider: Provider<'_>) -> Result<usize> {
    let memory = provider.pool().alloc(4096)?;

    drop(provider);
    Ok(memory.size())
}
