// SPDX-License-Identifier: GPL-2.0

//! Memory that a driver allocates for itself is kept nowhere that lasts longer than the binding.
//~ lifetime may not live long enough

use kernel::{
    pci,
    prelude::*, //
};
use p2pdma::{
    pool::Memory,
    provider::Provider, //
};

pub fn misuse(provider: &Provider<'_>) -> Result<Memory<&'static pci::Device>> {
    provider.pool().alloc(4096)
}
