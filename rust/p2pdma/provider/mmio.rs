// SPDX-License-Identifier: GPL-2.0

//! Providers without pages: the layer below [`provider`](crate::provider).
//!
//! Any memory BAR of a device can take part in peer-to-peer DMA by its address alone, without
//! `struct page`s and without a pool: that is how vfio-pci shares BARs as dma-bufs. There is no
//! allocation, so nothing here keeps the memory alive; whoever hands addresses out has to take them
//! back before the driver is unbound.
//!
//! C header: [`include/linux/pci-p2pdma.h`](srctree/include/linux/pci-p2pdma.h)
//!
//! # Examples
//!
//! A driver that lets peers write to its registers:
//!
//! ```ignore
#![doc = include_str!("../examples/mmio.rs")]
//! ```
//!
//! In the kernel's tree this would be `rust/kernel/pci/p2pdma/mmio.rs`, of the maintainers of PCI
//! peer-to-peer DMA.

use super::{
    bars,
    range::{
        Bar,
        BarKind,
        NUM_BARS, //
    }, //
};
use crate::{
    pool::BusAddress,
    raw, //
};
use core::ptr::NonNull;
use kernel::{
    bindings,
    device::{
        Bound,
        Core, //
    },
    error::to_result,
    io::PhysAddr,
    pci,
    prelude::*, //
};

/// A device that was set up for peer-to-peer DMA, for as long as it is bound.
///
/// # Invariants
///
/// `pcim_p2pdma_init()` succeeded for `dev`.
#[derive(Clone, Copy)]
pub struct Bars<'bound> {
    dev: &'bound pci::Device<Bound>,
}

impl<'bound> Bars<'bound> {
    /// Sets `dev` up. Not needed before [`Provider::register()`], which does it as well.
    ///
    /// C: `pcim_p2pdma_init()`. May sleep.
    ///
    /// # Errors
    ///
    /// - [`EOPNOTSUPP`] if the BARs of the device must not be mapped.
    /// - [`ENOMEM`].
    ///
    /// [`Provider::register()`]: crate::provider::Provider::register
    #[doc(alias = "pcim_p2pdma_init")]
    pub fn init(dev: &'bound pci::Device<Core<'_>>) -> Result<Self> {
        // SAFETY: `raw::pci_dev()` returns a valid `struct pci_dev`. `Core` means a callback of its
        // driver, under its lock: what is added is released by the `devres_release_all()` that
        // follows at the latest.
        to_result(unsafe { bindings::pcim_p2pdma_init(raw::pci_dev(dev)) })?;

        // INVARIANT: Succeeded just now; undone when the device is unbound.
        Ok(Self { dev })
    }

    /// BAR `index` as a provider; [`None`] if it is not a memory BAR, or has no address.
    ///
    /// C: `pcim_p2pdma_provider()`. Any context.
    #[doc(alias = "pcim_p2pdma_provider")]
    pub fn get(&self, index: u8) -> Option<BarProvider<'bound>> {
        let bar = bars::bar(self.dev, index);

        if index >= NUM_BARS || bar.kind != BarKind::Memory {
            return None;
        }

        // SAFETY: `raw::pci_dev()` returns a valid `struct pci_dev`, which was set up, by the type
        // invariant, and `index` is that of a standard BAR.
        let provider =
            unsafe { bindings::pcim_p2pdma_provider(raw::pci_dev(self.dev), index.into()) };

        NonNull::new(provider).map(|provider| BarProvider {
            // SAFETY: The C structure is not changed after it was set up, and freed when the device
            // is unbound: it is valid for `'bound`.
            raw: unsafe { provider.as_ref() },
            bar,
        })
    }
}

/// A memory BAR as a provider.
///
/// C: `struct p2pdma_provider`.
#[doc(alias = "p2pdma_provider")]
#[derive(Clone, Copy)]
pub struct BarProvider<'bound> {
    raw: &'bound bindings::p2pdma_provider,
    bar: Bar,
}

// SAFETY: The C structure belongs to no thread, and is not changed after it was set up. The device
// that it points to is used by the C code only.
unsafe impl Send for BarProvider<'_> {}

// SAFETY: As above: through a shared reference it is only read.
unsafe impl Sync for BarProvider<'_> {}

impl BarProvider<'_> {
    /// The BAR.
    pub fn bar(&self) -> &Bar {
        &self.bar
    }

    /// The address on the PCI bus of CPU physical address `phys`; [`None`] if that is not in the
    /// BAR.
    ///
    /// C: `pci_p2pdma_bus_addr_map()`. Any context.
    #[doc(alias = "pci_p2pdma_bus_addr_map")]
    pub fn bus_address(&self, phys: PhysAddr) -> Option<BusAddress> {
        let offset = phys.checked_sub(self.bar.start)?;

        // The difference may be negative, in two's complement.
        (offset < self.bar.len).then_some(phys.wrapping_add(self.raw.bus_offset))
    }
}
