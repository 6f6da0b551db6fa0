// SPDX-License-Identifier: GPL-2.0

//! Memory is registered while the device is being bound, under its lock: a bound device is not
//! enough.
//~ E0308

use kernel::{
    device::Bound,
    pci,
    prelude::*, //
};
use p2pdma::provider::{
    self,
    range::BarRange,
    Provider, //
};

pub fn misuse(dev: &pci::Device<Bound>, range: BarRange) -> Result {
    let _provider = Provider::register(provider::enable(dev)?, &[range])?;

    Ok(())
}
