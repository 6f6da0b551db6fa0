// SPDX-License-Identifier: GPL-2.0

//! A driver whose attributes do calls of the library many times, to measure them.
//!
//! Each attribute of the group `p2pdma_bench`, when it is read, does its calls [`ITERATIONS`] times
//! and shows how many nanoseconds that took: under `-icount`, that is how many instructions.
//! `p2pdma_bench_c` does the same calls in C. See `Documentation/p2pdma/bench.rst`.

#![forbid(unsafe_code)]

use core::fmt;
use kernel::{
    device::Core,
    pci,
    prelude::*,
    sizes::SZ_64K,
    time::{
        Instant,
        Monotonic, //
    }, //
};
use p2pdma::{
    distance::{
        self,
        Reach,
        Report, //
    },
    provider::{
        self,
        Provider, //
    },
    range::BarRange,
    sysfs::{
        Attribute,
        Attributes,
        Group, //
    }, //
};

const ITERATIONS: u32 = 200;
const BENCH_BAR: u8 = 2;

struct Bench<'bound> {
    provider: Provider<'bound>,
}

impl Bench<'_> {
    fn alloc(&self) -> Result {
        drop(self.provider.pool().alloc(SZ_64K)?);
        Ok(())
    }

    fn alloc_sgl(&self) -> Result {
        // CAST: 64 KiB.
        drop(self.provider.pool().alloc_sgl(SZ_64K as u32)?);
        Ok(())
    }

    fn distance(&self) -> Result {
        let dev = self.provider.device();

        match distance::distance(dev, dev.as_ref(), Report::Quiet) {
            Reach::Ports(_) => Ok(()),
            Reach::NotSupported => Err(EIO),
        }
    }

    fn distance_many(&self) -> Result {
        let dev = self.provider.device();
        let client = dev.as_ref();

        match distance::distance_many(dev, &[client, client, client, client], Report::Quiet)? {
            Reach::Ports(_) => Ok(()),
            Reach::NotSupported => Err(EIO),
        }
    }
}

impl Attributes for Bench<'_> {
    const GROUP: &'static CStr = c"p2pdma_bench";
    const ATTRIBUTES: &'static [Attribute] = &[
        Attribute::ro(c"alloc"),
        Attribute::ro(c"alloc_sgl"),
        Attribute::ro(c"distance"),
        Attribute::ro(c"distance_many"),
    ];

    fn show(&self, index: usize, out: &mut dyn fmt::Write) -> fmt::Result {
        let calls: [fn(&Self) -> Result; 4] = [
            Self::alloc,
            Self::alloc_sgl,
            Self::distance,
            Self::distance_many,
        ];
        let call = calls.get(index).ok_or(fmt::Error)?;
        let start = Instant::<Monotonic>::now();

        for _ in 0..ITERATIONS {
            call(self).map_err(|_| fmt::Error)?;
        }
        write!(out, "{}", start.elapsed().as_nanos())
    }
}

struct BenchDriver;

kernel::pci_device_table!(PCI_TABLE, <BenchDriver as pci::Driver>::IdInfo, []);

impl pci::Driver for BenchDriver {
    type IdInfo = ();
    type Data<'bound> = Group<'bound, Bench<'bound>>;

    // Devices are bound through driver_override.
    const ID_TABLE: pci::IdTable<Self::IdInfo> = &PCI_TABLE;

    fn probe<'bound>(
        pdev: &'bound pci::Device<Core<'_>>,
        _info: Option<&'bound Self::IdInfo>,
    ) -> impl PinInit<Self::Data<'bound>, Error> + 'bound {
        pdev.enable_device_mem()?;

        let bar = provider::bar(pdev, BENCH_BAR);
        let range = BarRange::new(&bar, 0, None, &provider::limits())?;
        let provider = Provider::register(pdev, &[range])?;

        provider.publish(true);
        Group::new(pdev.as_ref(), Bench { provider })
    }
}

kernel::module_pci_driver! {
    type: BenchDriver,
    name: "p2pdma_bench_rust",
    authors: ["The p2pdma for Rust-for-Linux authors"],
    description: "PCI peer-to-peer memory: calls to measure, in Rust",
    license: "GPL",
}
