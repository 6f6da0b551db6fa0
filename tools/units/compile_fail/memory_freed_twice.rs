// SPDX-License-Identifier: GPL-2.0

//! Memory goes back to its pool once.
//~ E0382

use kernel::prelude::*;
use p2pdma::provider::Provider;

pub fn misuse(provider: &Provider<'_>) -> Result {
    let memory = provider.pool().alloc(4096)?;

    drop(memory);
    drop(memory);
    Ok(())
}
