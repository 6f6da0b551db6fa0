// SPDX-License-Identifier: GPL-2.0
use kernel::{device::Core, pci, prelude::*};
use p2pdma::{
    pool::BusAddress,
    provider::{
        self,
        mmio::Bars, //
    }, //
};

/// In `probe()`: where peers below the same switch find the doorbell, in the middle of BAR 2.
pub fn doorbell(pdev: &pci::Device<Core<'_>>) -> Result<BusAddress> {
    provider::enable(pdev)?;

    let bar = Bars::init(pdev)?.get(2).ok_or(ENODEV)?;
    let phys = bar.bar().start + bar.bar().len / 2;

    bar.bus_address(phys).ok_or(ENODEV)
}
