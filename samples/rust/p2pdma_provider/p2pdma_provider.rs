// SPDX-License-Identifier: GPL-2.0

//! A PCI driver that offers memory of its device as peer-to-peer memory.
//!
//! It binds QEMU's `pci-testdev` by id, and any other device through `driver_override`. Of an NVMe
//! controller it offers the Controller Memory Buffer, of anything else the largest memory BAR;
//! module parameters say otherwise. See `Documentation/p2pdma/provider.rst`.

#![forbid(unsafe_code)]

mod attributes;
mod choice;
mod nvme;
mod parameters;
mod select;

use attributes::State;
use kernel::{
    device::Core,
    error::code::*,
    pci,
    prelude::*, //
};
use p2pdma::{
    compat::{
        code::EOPNOTSUPP,
        IdInfo, //
    },
    pci::sysfs,
    provider::{
        self,
        Provider, //
    }, //
};
use parameters::Parameters;

p2pdma::pci_device_table!(
    PCI_TABLE,
    <ProviderDriver as pci::Driver>::IdInfo,
    [(
        // QEMU's pci-testdev.
        pci::DeviceId::from_id(pci::Vendor::REDHAT, 0x5),
        ()
    )]
);

struct ProviderDriver;

/// What a bound device has. The attributes, and the pages themselves, are resources managed by the
/// device, and go after this.
struct ProviderData<'bound> {
    provider: Provider<'bound>,
}

impl pci::Driver for ProviderDriver {
    type IdInfo = ();
    type Data<'bound> = ProviderData<'bound>;

    const ID_TABLE: pci::IdTable<Self::IdInfo> = &PCI_TABLE;

    fn probe<'bound>(
        pdev: &'bound pci::Device<Core<'_>>,
        _info: IdInfo<'bound, Self::IdInfo>,
    ) -> impl PinInit<Self::Data<'bound>, Error> + 'bound {
        let parameters = Parameters::get(pdev)?;

        let enabled = provider::enable(pdev)
            .inspect_err(|e| dev_err!(pdev, "cannot enable the device: {:?}\n", e))?;

        let choice = select::choose(pdev, &parameters)?;
        let ranges = choice.split(pdev, parameters.split)?;
        let provider = Provider::register(enabled, &ranges).inspect_err(|e| match *e {
            EBUSY => dev_err!(pdev, "the device provides peer-to-peer memory already\n"),
            EOPNOTSUPP => dev_err!(pdev, "the BARs of the device must not be mapped\n"),
            ENOMEM => dev_err!(
                pdev,
                "not enough memory: the pages of the range need {} bytes of system memory\n",
                provider::page_structs(&ranges)
            ),
            e => dev_err!(pdev, "the kernel refuses the memory: {:?}\n", e),
        })?;

        let publish = parameters.publish.unwrap_or(choice.takes_data);
        sysfs::register(
            pdev.as_ref(),
            State::new(&provider, choice.source, publish)?,
        )?;

        Ok(ProviderData { provider })
    }

    fn unbind<'bound>(pdev: &'bound pci::Device<Core<'_>>, this: Pin<&Self::Data<'bound>>) {
        let provider = &this.provider;

        // New users should not find it, now that those that are left are counted.
        provider.publish(false);

        match provider.usage() {
            Ok(usage) if usage.total > 0 => dev_info!(
                pdev,
                "{} of {} bytes in use: mapped by user space {} (pinned for I/O {}), allocated in \
                 the kernel {}\n",
                usage.total,
                provider.size(),
                usage.user.mapped,
                usage.user.pinned,
                usage.kernel()
            ),
            Ok(_) => (),
            Err(e) => dev_warn!(pdev, "cannot tell whether memory is in use: {:?}\n", e),
        }
    }
}

kernel::module_pci_driver! {
    type: ProviderDriver,
    name: "p2pdma_provider",
    authors: ["The p2pdma for Rust-for-Linux authors"],
    description: "PCI peer-to-peer memory provider",
    license: "GPL",
    params: {
        bar: i32 {
            default: -1,
            description: "BAR, 0 to 5 (default: an NVMe controller's CMB, or the largest BAR)",
        },
        offset: u64 {
            default: 0,
            description: "First byte to provide, from the start of the BAR or CMB (default 0)",
        },
        size: u64 {
            default: 0,
            description: "Number of bytes to provide (default 0: all from the offset)",
        },
        split: u32 {
            default: 1,
            description: "Number of equal ranges to register the memory as, 1 to 64 (default 1)",
        },
        publish: i32 {
            default: -1,
            description: "Publish the memory, 0 or 1 (default: if it takes reads and writes)",
        },
    },
}
