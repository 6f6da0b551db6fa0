// SPDX-License-Identifier: GPL-2.0

//! A driver whose attributes do calls of the library many times, to measure them.
//!
//! Each attribute of the group `p2pdma_bench_rust`, when it is read, does its calls [`ITERATIONS`]
//! times and shows how many nanoseconds that took: under `-icount`, that is how many instructions.
//! `pin` and `extract` do theirs [`PAGE_ITERATIONS`] times, on memory of the process that reads:
//! what it wrote to `range`, address and length. Bios are for the disk whose descriptor it wrote to
//! `disk`.
//! `p2pdma_bench_c` does the same calls in C. See `Documentation/p2pdma/bench.rst`.

#![forbid(unsafe_code)]

use core::fmt;
use kernel::{
    device::Core,
    dma::DataDirection,
    page::PAGE_SIZE,
    pci,
    prelude::*,
    sizes::SZ_64K,
    sync::{
        aref::ARef,
        atomic::{
            Atomic,
            Relaxed, //
        }, //
    },
    time::{
        Instant,
        Monotonic, //
    }, //
};
use p2pdma::{
    block::{
        self,
        Bio,
        Disk,
        Op,
        Target, //
    },
    compat::IdInfo,
    orchestrator::distance::{
        self,
        ClientDevice,
        Reach,
        Report, //
    },
    pci::{
        bound::BoundDevice,
        sysfs::{
            self,
            Attribute,
            Attributes, //
        }, //
    },
    pool::Pool,
    provider::{
        self,
        range::BarRange,
        Provider, //
    },
    user::{
        current::CurrentMm,
        extract::{
            ExtractPages,
            Extracted,
            PeerMemory,
            Segment,
            UserDest, //
        },
        pages::PageArray,
        pin::{
            self,
            Access,
            Flags,
            UserRange, //
        }, //
    }, //
};

const ITERATIONS: u32 = 200;
const PAGE_ITERATIONS: u32 = 20;
const BENCH_BAR: u8 = 2;
const SEGMENTS: u32 = 16;
// CAST: 4 KiB.
const PAGE_BYTES: u32 = PAGE_SIZE as u32;

/// What the calls are made on.
struct Calls<'a> {
    dev: &'a pci::Device,
    pool: Pool<'a>,
    /// Descriptor of a disk, which the process that reads has open.
    disk: u32,
}

impl Calls<'_> {
    #[inline(never)]
    fn alloc(&self) -> Result {
        drop(self.pool.alloc(SZ_64K)?);
        Ok(())
    }

    #[inline(never)]
    fn alloc_sgl(&self) -> Result {
        // CAST: 64 KiB.
        drop(self.pool.alloc_sgl(SZ_64K as u32)?);
        Ok(())
    }

    #[inline(never)]
    fn distance(&self) -> Result {
        match distance::distance(self.dev, self.dev, Report::Quiet) {
            Reach::Ports(_) => Ok(()),
            Reach::NotSupported => Err(EIO),
        }
    }

    #[inline(never)]
    fn distance_many(&self) -> Result {
        let client = ClientDevice::from(self.dev);

        match distance::distance_many(self.dev, &[client; 4], Report::Quiet)? {
            Reach::Ports(_) => Ok(()),
            Reach::NotSupported => Err(EIO),
        }
    }

    /// Maps a list for its own provider, and unmaps it.
    fn map(&self) -> Result<i64> {
        let client = self.pool.client();
        // CAST: 64 KiB.
        let mut table = self.pool.alloc_sgl(SZ_64K as u32)?;
        let start = Instant::<Monotonic>::now();

        for _ in 0..ITERATIONS {
            table = table.map(client, DataDirection::Bidirectional)?.unmap();
        }
        Ok(start.elapsed().as_nanos())
    }

    /// Makes a bio of that many pages, and drops it.
    fn bio(&self, pages: u16) -> Result<i64> {
        let disk = Disk::from_fd(self.disk)?;
        let target = disk.target(Op::Read)?;
        // CAST: 64 KiB.
        let table = self.pool.alloc_sgl(SZ_64K as u32)?;
        let memory = block::Segment::of_table(&table, 0, 0, u32::from(pages) * PAGE_BYTES)?;
        let start = Instant::<Monotonic>::now();

        for i in 0..ITERATIONS {
            make_bio(target, u64::from(i * PAGE_BYTES), &memory)?;
        }
        Ok(start.elapsed().as_nanos())
    }

    /// The same, of every other page of the memory, so that none are merged.
    fn bio_of_segments(&self) -> Result<i64> {
        let disk = Disk::from_fd(self.disk)?;
        let target = disk.target(Op::Read)?;
        let table = self.pool.alloc_sgl(2 * SEGMENTS * PAGE_BYTES)?;
        let mut segments = KVec::new();

        for i in 0..SEGMENTS {
            let segment = block::Segment::of_table(&table, 0, 2 * i * PAGE_BYTES, PAGE_BYTES)?;

            segments.push(segment, GFP_KERNEL)?;
        }

        let start = Instant::<Monotonic>::now();

        for i in 0..ITERATIONS {
            make_bio_of_segments(target, u64::from(i * PAGE_BYTES), &segments)?;
        }
        Ok(start.elapsed().as_nanos())
    }

    /// Nanoseconds that [`ITERATIONS`] of `call` take.
    fn repeat(&self, call: impl Fn(&Self) -> Result) -> Result<i64> {
        let start = Instant::<Monotonic>::now();

        for _ in 0..ITERATIONS {
            call(self)?;
        }
        Ok(start.elapsed().as_nanos())
    }

    /// The same, of the call that `index` stands for. None is called through a pointer, as in C.
    fn measure(&self, index: usize) -> Result<i64> {
        match index {
            ALLOC => self.repeat(Self::alloc),
            ALLOC_SGL => self.repeat(Self::alloc_sgl),
            DISTANCE => self.repeat(Self::distance),
            DISTANCE_MANY => self.repeat(Self::distance_many),
            MAP => self.map(),
            BIO_1 => self.bio(1),
            BIO_16 => self.bio(16),
            BIO_SEGMENTS => self.bio_of_segments(),
            _ => Err(EINVAL),
        }
    }
}

/// A bio of one segment.
#[inline(never)]
fn make_bio(target: Target<'_>, pos: u64, memory: &block::Segment<'_>) -> Result {
    Bio::new(target, pos, 1)?.add(memory)?;
    Ok(())
}

/// A bio of several.
#[inline(never)]
fn make_bio_of_segments(target: Target<'_>, pos: u64, segments: &[block::Segment<'_>]) -> Result {
    // CAST: 16.
    let mut bio = Bio::new(target, pos, segments.len() as u16)?;

    for segment in segments {
        bio.add(segment)?;
    }
    Ok(())
}

/// Memory of the process that reads an attribute, and room for its pages.
struct UserMemory<'a> {
    mm: CurrentMm<'a>,
    addr: usize,
    len: usize,
    array: PageArray,
}

impl UserMemory<'_> {
    fn pin(&mut self) -> Result {
        let range = UserRange::new(self.addr, self.len)?;
        let flags = Flags::short_term(Access::Write).allow_p2pdma();
        let pages = pin::pin_fast(self.mm, range, flags, &mut self.array)?;
        let pinned = pages.len();

        drop(pages);
        if pinned == range.pages() {
            Ok(())
        } else {
            Err(EFAULT)
        }
    }

    fn extract(&mut self) -> Result {
        let mut iter = UserDest::one(Segment::new(self.addr, self.len));
        let extracted =
            iter.as_iter()
                .extract_pages(self.mm, &mut self.array, PeerMemory::Allow)?;
        let Some(Extracted { pages, len, .. }) = extracted else {
            return Err(EFAULT);
        };

        drop(pages);
        if len == self.len {
            Ok(())
        } else {
            Err(EFAULT)
        }
    }

    /// Nanoseconds that [`PAGE_ITERATIONS`] of `call` take.
    fn measure(&mut self, call: fn(&mut Self) -> Result) -> Result<i64> {
        let start = Instant::<Monotonic>::now();

        for _ in 0..PAGE_ITERATIONS {
            call(self)?;
        }
        Ok(start.elapsed().as_nanos())
    }
}

struct Bench {
    dev: ARef<pci::Device>,
    addr: Atomic<u64>,
    len: Atomic<u64>,
    disk: Atomic<u32>,
}

impl Bench {
    /// Address and length, as they were written to `range`.
    fn range(&self) -> (usize, usize) {
        // CAST: 64 bits, as PCI_P2PDMA depends on 64BIT.
        (
            self.addr.load(Relaxed) as usize,
            self.len.load(Relaxed) as usize,
        )
    }

    fn measure_pages(&self, call: fn(&mut UserMemory<'_>) -> Result) -> Result<i64> {
        let (addr, len) = self.range();
        let task = kernel::current!();

        UserMemory {
            mm: CurrentMm::new(task)?,
            addr,
            len,
            array: PageArray::new(len / PAGE_SIZE)?,
        }
        .measure(call)
    }

    fn measure(&self, index: usize) -> Result<i64> {
        match index {
            PIN => return self.measure_pages(|memory| memory.pin()),
            EXTRACT => return self.measure_pages(|memory| memory.extract()),
            _ => (),
        }

        let dev: &pci::Device = &self.dev;

        BoundDevice::try_with(dev.as_ref(), |bound| {
            Calls {
                dev,
                pool: Pool::of(bound)?,
                disk: self.disk.load(Relaxed),
            }
            .measure(index)
        })
    }
}

impl Attributes for Bench {
    const GROUP: &'static CStr = c"p2pdma_bench_rust";
    const ATTRIBUTES: &'static [Attribute] = &[
        Attribute::ro(c"alloc"),
        Attribute::ro(c"alloc_sgl"),
        Attribute::ro(c"distance"),
        Attribute::ro(c"distance_many"),
        Attribute::ro(c"map"),
        Attribute::ro(c"bio_1"),
        Attribute::ro(c"bio_16"),
        Attribute::ro(c"bio_segments"),
        Attribute::ro(c"pin"),
        Attribute::ro(c"extract"),
        Attribute::rw(c"range"),
        Attribute::rw(c"disk"),
    ];

    fn show(&self, index: usize, out: &mut dyn fmt::Write) -> fmt::Result {
        if index == RANGE {
            let (addr, len) = self.range();

            return write!(out, "{addr} {len}");
        }
        if index == DISK {
            return write!(out, "{}", self.disk.load(Relaxed));
        }

        let time = self.measure(index).map_err(|_| fmt::Error)?;

        write!(out, "{time}")
    }

    fn store(&self, index: usize, value: &str) -> Result {
        if index == DISK {
            self.disk.store(value.parse().map_err(|_| EINVAL)?, Relaxed);
            return Ok(());
        }
        if index != RANGE {
            return Err(EPERM);
        }

        let (addr, len) = value.split_once(' ').ok_or(EINVAL)?;

        self.addr.store(addr.parse().map_err(|_| EINVAL)?, Relaxed);
        self.len.store(len.parse().map_err(|_| EINVAL)?, Relaxed);
        Ok(())
    }
}

/// Places in [`Bench::ATTRIBUTES`].
const ALLOC: usize = 0;
const ALLOC_SGL: usize = 1;
const DISTANCE: usize = 2;
const DISTANCE_MANY: usize = 3;
const MAP: usize = 4;
const BIO_1: usize = 5;
const BIO_16: usize = 6;
const BIO_SEGMENTS: usize = 7;
const PIN: usize = 8;
const EXTRACT: usize = 9;
const RANGE: usize = 10;
const DISK: usize = 11;

struct BenchDriver;

p2pdma::pci_device_table!(PCI_TABLE, <BenchDriver as pci::Driver>::IdInfo, []);

impl pci::Driver for BenchDriver {
    type IdInfo = ();
    type Data<'bound> = Provider<'bound>;

    // Devices are bound through driver_override.
    const ID_TABLE: pci::IdTable<Self::IdInfo> = &PCI_TABLE;

    fn probe<'bound>(
        pdev: &'bound pci::Device<Core<'_>>,
        _info: IdInfo<'bound, Self::IdInfo>,
    ) -> impl PinInit<Self::Data<'bound>, Error> + 'bound {
        let enabled = provider::enable(pdev)?;

        let bar = provider::bar(pdev, BENCH_BAR);
        let range = BarRange::new(&bar, 0, None, &provider::limits())?;
        let provider = Provider::register(enabled, &[range])?;

        provider.publish(true);
        let dev: &pci::Device = pdev;
        sysfs::register(
            pdev.as_ref(),
            Bench {
                dev: dev.into(),
                addr: Atomic::new(0),
                len: Atomic::new(0),
                disk: Atomic::new(0),
            },
        )?;
        Ok(provider)
    }
}

kernel::module_pci_driver! {
    type: BenchDriver,
    name: "p2pdma_bench_rust",
    authors: ["The p2pdma for Rust-for-Linux authors"],
    description: "PCI peer-to-peer memory: calls to measure, in Rust",
    license: "GPL",
}
