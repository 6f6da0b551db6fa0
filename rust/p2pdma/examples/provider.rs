// SPDX-License-Identifier: GPL-2.0
use kernel::{device::Core, io::Io, pci, prelude::*};
use p2pdma::{
    pool::Memory,
    provider::{
        self,
        range::BarRange,
        Provider, //
    }, //
};

/// A driver's private data: the memory it provides, and a part that it keeps for itself.
pub struct Data<'bound> {
    pub provider: Provider<'bound>,
    pub mailbox: Memory<&'bound pci::Device>,
}

pub fn probe<'bound>(pdev: &'bound pci::Device<Core<'_>>) -> Result<Data<'bound>> {
    let enabled = provider::enable(pdev)?;

    // All of BAR 2. What is wrong with it, if anything, is said in the error.
    let bar = provider::bar(pdev, 2);
    let range = BarRange::new(&bar, 0, None, &provider::limits()).map_err(|e| {
        dev_err!(pdev, "cannot provide memory: {}\n", e);
        Error::from(e)
    })?;
    let provider = Provider::register(enabled, &[range])?;

    let mailbox = provider.pool().alloc(4096)?;
    mailbox.io().try_write32(0, 0)?;

    // Now others may use the rest.
    provider.publish(true);
    Ok(Data { provider, mailbox })
}
