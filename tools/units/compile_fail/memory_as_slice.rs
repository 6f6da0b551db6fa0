// SPDX-License-Identifier: GPL-2.0

//! The CPU gets no slice of peer-to-peer memory, and so cannot copy from it as from memory.
//~ E0599

use kernel::prelude::*;
use p2pdma::provider::Provider;

pub fn misuse(provider: &Provider<'_>, out: &mut [u8]) -> Result {
    let memory = provider.pool().alloc(4096)?;

    out.copy_from_slice(memory.as_slice());
    Ok(())
}
