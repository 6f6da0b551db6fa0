// SPDX-License-Identifier: GPL-2.0

//! Memory is registered of a device that is enabled: of others nothing is decoded.
//~ E0308

use kernel::{
    device::Core,
    pci,
    prelude::*, //
};
use p2pdma::provider::{
    range::BarRange,
    Provider, //
};

pub fn misuse(dev: &pci::Device<Core<'_>>, range: BarRange) -> Result {
    let _provider = Provider::register(dev, &[range])?;

    Ok(())
}
