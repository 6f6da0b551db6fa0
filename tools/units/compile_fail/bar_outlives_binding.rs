// SPDX-License-Identifier: GPL-2.0

//! A BAR that was looked up as a provider does not outlive the binding of its device.
//~ lifetime may not live long enough

use kernel::{
    device::Core,
    pci,
    prelude::*, //
};
use p2pdma::provider::mmio::{
    BarProvider,
    Bars, //
};

pub fn misuse(dev: &pci::Device<Core<'_>>) -> Result<Option<BarProvider<'static>>> {
    Ok(Bars::init(dev)?.get(0))
}
