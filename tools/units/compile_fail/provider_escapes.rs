// SPDX-License-Identifier: GPL-2.0

//! A provider does not outlive the binding of its device.
//~ lifetime may not live long enough

use kernel::{
    device::Core,
    pci,
    prelude::*, //
};
use p2pdma::provider::{
    self,
    range::BarRange,
    Provider, //
};

pub fn misuse(dev: &pci::Device<Core<'_>>, range: BarRange) -> Result<Provider<'static>> {
    Provider::register(provider::enable(dev)?, &[range])
}
