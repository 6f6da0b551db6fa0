// SPDX-License-Identifier: GPL-2.0

//! A PCI driver that offers a memory BAR as peer-to-peer memory.
//!
//! It binds QEMU's `pci-testdev` by id, and any other device through `driver_override`.

#![forbid(unsafe_code)]

use kernel::{
    device::Core,
    pci,
    prelude::*, //
};
use p2pdma::{
    provider::{
        self,
        Provider, //
    },
    range::BarRange, //
};

struct ProviderDriver;

struct ProviderData<'bound> {
    provider: Provider<'bound>,
}

kernel::pci_device_table!(
    PCI_TABLE,
    <ProviderDriver as pci::Driver>::IdInfo,
    [(pci::DeviceId::from_id(pci::Vendor::REDHAT, 0x5), ())]
);

impl pci::Driver for ProviderDriver {
    type IdInfo = ();
    type Data<'bound> = ProviderData<'bound>;

    const ID_TABLE: pci::IdTable<Self::IdInfo> = &PCI_TABLE;

    fn probe<'bound>(
        pdev: &'bound pci::Device<Core<'_>>,
        _info: Option<&'bound Self::IdInfo>,
    ) -> impl PinInit<Self::Data<'bound>, Error> + 'bound {
        pdev.enable_device_mem()?;

        let limits = provider::limits();
        let range = BarRange::largest(&provider::bars(pdev), &limits).map_err(|e| {
            dev_err!(pdev, "cannot provide peer-to-peer memory: {:?}\n", e);
            ENODEV
        })?;

        let provider = Provider::register(pdev, &[range])?;
        provider.publish(true);

        Ok(ProviderData { provider })
    }

    fn unbind<'bound>(pdev: &'bound pci::Device<Core<'_>>, this: Pin<&Self::Data<'bound>>) {
        dev_dbg!(pdev, "{} bytes withdrawn\n", this.provider.size());
    }
}

kernel::module_pci_driver! {
    type: ProviderDriver,
    name: "p2pdma_provider",
    authors: ["The p2pdma for Rust-for-Linux authors"],
    description: "PCI peer-to-peer memory provider",
    license: "GPL",
}
