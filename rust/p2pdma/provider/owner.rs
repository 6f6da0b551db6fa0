// SPDX-License-Identifier: GPL-2.0

//! Whose memory a page is.
//!
//! In the kernel's tree this would be `rust/kernel/pci/p2pdma/owner.rs`, of the maintainers of PCI
//! peer-to-peer DMA.

use crate::{
    bindings as helpers,
    page::PageExt,
    pci::devices,
    provider::{
        bars,
        range::{
            BarKind,
            NUM_BARS, //
        }, //
    },
    raw, //
};
use kernel::{
    page::Page,
    pci,
    sync::aref::ARef, //
};

mod private {
    pub trait Sealed {}

    impl Sealed for kernel::page::Page {}
}

/// Whose memory a [`Page`] is.
pub trait PageOwner: private::Sealed {
    /// Whether it is peer-to-peer memory of `dev`: within one of its BARs. Any context.
    fn is_of(&self, dev: &pci::Device) -> bool;

    /// The device whose memory it is; [`None`] if it is no peer-to-peer memory.
    ///
    /// The kernel keeps the owner of a page to itself, so this walks all PCI devices. May sleep.
    fn provider(&self) -> Option<ARef<pci::Device>>;
}

impl PageOwner for Page {
    fn is_of(&self, dev: &pci::Device) -> bool {
        let phys = self.phys();

        self.is_p2pdma()
            && (0..NUM_BARS).any(|index| {
                let bar = bars::bar(dev, index);

                bar.kind == BarKind::Memory && phys >= bar.start && phys - bar.start < bar.len
            })
    }

    fn provider(&self) -> Option<ARef<pci::Device>> {
        if !self.is_p2pdma() {
            return None;
        }

        devices::all().find(|dev| self.is_of(dev))
    }
}

/// Whether `dev` provides peer-to-peer memory now, or was set up for it.
///
/// C: `pdev->p2pdma` is not NULL. Any context.
pub fn provides(dev: &pci::Device) -> bool {
    // SAFETY: `raw::pci_dev()` returns a valid `struct pci_dev`.
    unsafe { helpers::p2pdma_helper_has_p2pdma(raw::pci_dev(dev)) }
}
