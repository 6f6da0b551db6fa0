// SPDX-License-Identifier: GPL-2.0

//! A driver whose `probe()` does what a driver can do to become a provider, in a random order, and
//! which keeps what comes of it.
//!
//! It binds by `driver_override` only.

use core::num::NonZero;
use kernel::{
    device::Core,
    dma::DataDirection,
    fmt,
    page::PAGE_SIZE,
    pci,
    prelude::*,
    sync::{
        atomic::{
            Atomic,
            Relaxed, //
        },
        Arc, //
    }, //
};
use p2pdma::{
    client::{
        sg::{
            MappedSgl,
            Sgl, //
        },
        Client, //
    },
    compat::IdInfo,
    pci::sysfs::{
        self,
        Attribute,
        Attributes, //
    },
    pool::Memory,
    provider::{
        self,
        mmio::{
            BarProvider,
            Bars, //
        },
        range::{
            BarRange,
            NUM_BARS, //
        },
        Provider,
        Publication, //
    }, //
};

/// Where the random numbers come from.
pub(crate) static SEED: Atomic<u64> = Atomic::new(1);

/// Random numbers: xorshift.
struct Random(u64);

impl Random {
    /// Less than `n`.
    fn below(&mut self, n: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 >> 11) % n
    }
}

/// What is kept, for as long as the device is bound.
#[expect(dead_code, reason = "kept, to be dropped")]
enum Kept<'bound> {
    Memory(Memory<&'bound pci::Device>),
    Table(Sgl<&'bound pci::Device>),
    Mapped(MappedSgl<'bound, &'bound pci::Device>),
    Publication(Arc<Publication>),
    Bar(BarProvider<'bound>),
}

/// What the private data of the driver are. They are dropped in this order.
pub(crate) struct Data<'bound> {
    _kept: KVec<Kept<'bound>>,
    _provider: Option<Provider<'bound>>,
}

/// An attribute that publishes.
struct Switch(Arc<Publication>);

impl Attributes for Switch {
    const GROUP: &'static CStr = c"p2pdma_random";
    const ATTRIBUTES: &'static [Attribute] =
        &[Attribute::rw(c"publish"), Attribute::ro(c"too_long")];

    /// As much as there is room for, and one more.
    fn show(&self, index: usize, out: &mut dyn fmt::Write) -> fmt::Result {
        // Behind it there is a newline; and the kernel wants to see less than a page.
        (0..PAGE_SIZE - 2 + index).try_for_each(|_| out.write_str("a"))
    }

    fn store(&self, _index: usize, value: &str) -> Result {
        self.0.set(value == "1")
    }
}

/// A group that is not named as the driver: the kernel adds it itself, later.
struct Reserved;

impl Attributes for Reserved {
    const GROUP: &'static CStr = c"msi_irqs";
    const ATTRIBUTES: &'static [Attribute] = &[Attribute::ro(c"nothing")];

    fn show(&self, _index: usize, _out: &mut dyn fmt::Write) -> fmt::Result {
        Ok(())
    }
}

pub(crate) struct RandomDriver;

p2pdma::pci_device_table!(PCI_TABLE, <RandomDriver as pci::Driver>::IdInfo, []);

/// Ranges of the device, of which not all may go together.
fn ranges(pdev: &pci::Device, random: &mut Random) -> Result<KVec<BarRange>> {
    let limits = provider::limits();
    let mut ranges = KVec::new();

    for _ in 0..=random.below(3) {
        let range = match random.below(4) {
            0 => BarRange::largest(&provider::bars(pdev), &limits),
            1 => BarRange::largest(&provider::bars(pdev), &limits)
                // CAST: Less than 4.
                .and_then(|range| range.part(random.below(4) as u32, 4, &limits)),
            _ => {
                // CAST: A small number.
                let bar = provider::bar(pdev, random.below(u64::from(NUM_BARS)) as u8);
                let size = NonZero::new(random.below(4) << 20);

                BarRange::new(&bar, random.below(4) << 20, size, &limits)
            }
        };

        if let Ok(range) = range {
            ranges.push(range, GFP_KERNEL)?;
        }
    }
    Ok(ranges)
}

impl pci::Driver for RandomDriver {
    type IdInfo = ();
    type Data<'bound> = Data<'bound>;

    const ID_TABLE: pci::IdTable<Self::IdInfo> = &PCI_TABLE;

    fn probe<'bound>(
        pdev: &'bound pci::Device<Core<'_>>,
        _info: IdInfo<'bound, Self::IdInfo>,
    ) -> impl PinInit<Self::Data<'bound>, Error> + 'bound {
        let mut random = Random(SEED.load(Relaxed) | 1);
        let mut kept = KVec::new();
        let mut registered = None;

        for _ in 0..4 + random.below(12) {
            let provider = registered.as_ref();

            match (random.below(8), provider) {
                (0, _) => {
                    let bars = Bars::init(pdev)?;

                    for bar in (0..=NUM_BARS).filter_map(|index| bars.get(index)) {
                        kept.push(Kept::Bar(bar), GFP_KERNEL)?;
                    }
                }
                (1, _) | (_, None) => {
                    let ranges = ranges(pdev, &mut random)?;
                    let provider = Provider::register(provider::enable(pdev)?, &ranges);

                    if registered.is_none() {
                        registered = provider.ok();
                    }
                }
                (2, Some(provider)) => provider.publish(random.below(2) == 0),
                (3, Some(provider)) => {
                    let publication = Arc::new(provider.publication()?, GFP_KERNEL)?;

                    publication.set(random.below(2) == 0)?;
                    // If it is not, that will be seen.
                    kernel::warn_on!(sysfs::register(pdev.as_ref(), Reserved) != Err(EINVAL));
                    // Where it is there already, the error is a matter of course.
                    let _ = sysfs::register(pdev.as_ref(), Switch(publication.clone()));
                    kept.push(Kept::Publication(publication), GFP_KERNEL)?;
                }
                (4, Some(provider)) => {
                    // CAST: 64 bits.
                    if let Ok(memory) = provider.pool().alloc(random.below(1 << 20) as usize) {
                        kept.push(Kept::Memory(memory), GFP_KERNEL)?;
                    }
                }
                (5, Some(provider)) => {
                    // CAST: Less than 32 bits.
                    if let Ok(table) = provider.pool().alloc_sgl(random.below(1 << 18) as u32 * 4) {
                        kept.push(Kept::Table(table), GFP_KERNEL)?;
                    }
                }
                (6, Some(provider)) => {
                    let table = provider.pool().alloc_sgl(4096)?;
                    let mapped = table.map(Client::own(pdev), DataDirection::Bidirectional);

                    if let Ok(mapped) = mapped {
                        kept.push(Kept::Mapped(mapped), GFP_KERNEL)?;
                    }
                }
                (_, Some(provider)) => {
                    provider.usage()?;
                    drop(kept.pop());
                }
            }
        }
        if random.below(8) == 0 {
            return Err(EIO);
        }
        Ok(Data {
            _kept: kept,
            _provider: registered,
        })
    }
}
