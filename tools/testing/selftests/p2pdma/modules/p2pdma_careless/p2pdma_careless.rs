// SPDX-License-Identifier: GPL-2.0

//! What no orchestrator should do, and safe code can: it leaks what tells it of drivers that go,
//! and mappings, and is removed; and while it is told, it makes, drops and leaks what tells it.
//!
//! `p2pdma_careless` in `tools/testing/selftests/p2pdma` removes it, and looks what comes of that.

#![forbid(unsafe_code)]

use kernel::{
    dma::DataDirection,
    new_mutex,
    page::PAGE_SIZE,
    pci,
    prelude::*,
    sync::{
        Arc,
        Mutex, //
    },
    ThisModule, //
};
use p2pdma::{
    orchestrator::watch::{
        Events,
        Watch, //
    },
    pci::{
        bound::BoundDevice,
        devices, //
    },
    pool::Pool,
    system::{
        Abandoned,
        AtModuleExit, //
    }, //
};

/// Where a watch is that drops itself.
#[pin_data]
struct Slot {
    #[pin]
    watch: Mutex<Option<Watch<Quits>>>,
}

/// Drops the watch that calls it.
struct Quits(Arc<Slot>);

impl Events for Quits {
    fn going(&self, _dev: &pci::Device) {
        // Not within the lock, which is no business of whoever drops it.
        let watch = self.0.watch.lock().take();

        drop(watch);
    }

    fn gone(&self, _dev: &pci::Device) {}
}

/// Makes more of its kind.
struct Spawns;

impl Events for Spawns {
    fn going(&self, dev: &pci::Device) {
        dev_info!(dev, "careless: a driver goes\n");
        if let Ok(watch) = Watch::new::<Error>(Ok(Quiet)) {
            core::mem::forget(watch);
        }
        drop(Watch::new::<Error>(Ok(Quiet)));
    }

    fn gone(&self, _dev: &pci::Device) {}
}

/// Does nothing.
struct Quiet;

impl Events for Quiet {
    fn going(&self, _dev: &pci::Device) {}

    fn gone(&self, _dev: &pci::Device) {}
}

/// Put right when the module goes; and drops what says so, in the middle of it.
#[pin_data]
struct Forgets {
    #[pin]
    act: Mutex<Option<AtModuleExit>>,
}

impl Abandoned for Forgets {
    fn abandoned(&self) {
        let act = self.act.lock().take();

        pr_info!("careless: abandoned\n");
        drop(act);
    }
}

struct Careless;

/// Maps memory of each provider for the provider itself, and leaks the mapping: it goes with the
/// driver of the device. NVMe controllers are left alone, as they are not unbound so easily.
fn leak_mappings() -> Result {
    for dev in devices::all().filter(|dev| dev.pci_class() != pci::Class::STORAGE_EXPRESS) {
        // Others have no pool, or no driver.
        let _ = BoundDevice::with(dev.as_ref(), |bound| {
            // CAST: The page size fits.
            let list = Pool::of(bound)?.alloc_sgl_owned(PAGE_SIZE as u32)?;

            core::mem::forget(list.map_devres(bound.client()?, DataDirection::Bidirectional)?);
            dev_info!(bound, "careless: mapped, and leaked\n");
            Ok(())
        });
    }
    Ok(())
}

impl kernel::Module for Careless {
    fn init(_module: &'static ThisModule) -> Result<Self> {
        let slot = Arc::pin_init(
            pin_init!(Slot {
                watch <- new_mutex!(None),
            }),
            GFP_KERNEL,
        )?;
        let quits = Watch::new::<Error>(Ok(Quits(slot.clone())))?;

        *slot.watch.lock() = Some(quits);
        core::mem::forget(Watch::new::<Error>(Ok(Spawns))?);

        let forgets = Arc::pin_init(
            pin_init!(Forgets {
                act <- new_mutex!(None),
            }),
            GFP_KERNEL,
        )?;
        let act = AtModuleExit::new(forgets.clone())?;

        *forgets.act.lock() = Some(act);
        leak_mappings()?;
        Ok(Self)
    }
}

module! {
    type: Careless,
    name: "p2pdma_careless",
    authors: ["The p2pdma for Rust-for-Linux authors"],
    description: "Test of what safe code can do to the library for PCI peer-to-peer DMA",
    license: "GPL",
}
