// SPDX-License-Identifier: GPL-2.0

//! Drivers of PCI devices: what only a driver can try, in its `probe()`.
//!
//! They bind by `driver_override` only, to a device with a memory BAR that can be provided.
//! [`TestDriver`] is bound if all is as it should be; what is not has a line each in the log. While
//! it is bound it provides the BAR, unpublished, and keeps a page of it for itself.
//! [`FailingDriver`] is never bound.

use kernel::{
    device::Core,
    fmt,
    page::PAGE_SIZE,
    pci,
    prelude::*,
    time::{
        delay::fsleep,
        Delta, //
    }, //
};
use p2pdma::{
    compat::IdInfo,
    orchestrator::distance,
    pci::sysfs::{
        self,
        Attribute,
        Attributes, //
    },
    pool::Memory,
    provider::{
        self,
        mmio::Bars,
        range::{
            Bar,
            BarKind,
            BarRange,
            NUM_BARS, //
        },
        Enabled,
        Provider, //
    },
    system, //
};

p2pdma::pci_device_table!(PCI_TABLE, <TestDriver as pci::Driver>::IdInfo, []);

/// The driver.
pub(crate) struct TestDriver;

/// What a bound device has.
pub(crate) struct Data<'bound> {
    // Its fields are dropped in this order: the memory, and then the publication of all of it.
    _mailbox: Memory<&'bound pci::Device>,
    _provider: Provider<'bound>,
}

/// Says what is not as it should be, and goes on.
struct Verdict<'a> {
    pdev: &'a pci::Device,
    failed: bool,
}

impl Verdict<'_> {
    fn expect(&mut self, condition: bool, what: fmt::Arguments<'_>) {
        if !condition {
            dev_err!(self.pdev, "{}\n", what);
            self.failed = true;
        }
    }
}

/// The lower layer: each memory BAR has a bus address, the others have none.
fn bars(pdev: &pci::Device<Core<'_>>, verdict: &mut Verdict<'_>) -> Result {
    let bars = Bars::init(pdev)?;

    for index in 0..=NUM_BARS {
        let bar = provider::bar(pdev, index);
        let found = bars.get(index);

        verdict.expect(
            found.is_some() == (bar.kind == BarKind::Memory),
            fmt!(
                "BAR {index} is {:?}, and found is {}",
                bar.kind,
                found.is_some()
            ),
        );
        let Some(found) = found else {
            continue;
        };
        let address = provider::bus_address(pdev, index)?;

        verdict.expect(*found.bar() == bar, fmt!("BAR {index} is another"));
        for (phys, expected) in [
            (bar.start, Some(address)),
            (bar.start + bar.len - 1, Some(address + bar.len - 1)),
            (bar.start + bar.len, None),
            (bar.start - 1, None),
            (0, None),
        ] {
            let got = found.bus_address(phys);

            verdict.expect(
                got == expected,
                fmt!("BAR {index}, {phys:#x}: expected {expected:x?}, got {got:x?}"),
            );
        }
    }
    Ok(())
}

/// What must not be registered.
fn refused(enabled: Enabled<'_, '_>, range: BarRange, verdict: &mut Verdict<'_>) -> Result {
    let pdev = enabled.device();
    let limits = provider::limits();
    // The smallest has no half.
    let half = range.part(1, 2, &limits).unwrap_or(range);
    // Of a BAR that the device does not have.
    let forged = BarRange::new(
        &Bar {
            start: range.start() + range.size().get(),
            ..provider::bar(pdev, range.bar())
        },
        0,
        None,
        &limits,
    )?;

    for (what, ranges) in [
        ("no ranges", &[][..]),
        ("the same range twice", &[range, range]),
        ("ranges that overlap", &[range, half]),
        ("a range of another BAR", &[forged]),
    ] {
        let result = Provider::register(enabled, ranges).map(|_| ());

        verdict.expect(
            result == Err(EINVAL),
            fmt!("{what}: expected EINVAL, got {result:?}"),
        );
    }
    Ok(())
}

/// A group that is not named as the driver, as the kernel has for devices that wake the machine.
struct Wakeup;

impl Attributes for Wakeup {
    const GROUP: &'static CStr = c"wakeup";
    const ATTRIBUTES: &'static [Attribute] = &[Attribute::ro(c"nothing")];

    fn show(&self, _index: usize, _out: &mut dyn fmt::Write) -> fmt::Result {
        Ok(())
    }
}

impl pci::Driver for TestDriver {
    type IdInfo = ();
    type Data<'bound> = Data<'bound>;

    const ID_TABLE: pci::IdTable<Self::IdInfo> = &PCI_TABLE;

    fn probe<'bound>(
        pdev: &'bound pci::Device<Core<'_>>,
        _info: IdInfo<'bound, Self::IdInfo>,
    ) -> impl PinInit<Self::Data<'bound>, Error> + 'bound {
        let mut verdict = Verdict {
            pdev,
            failed: false,
        };

        let group = sysfs::register(pdev.as_ref(), Wakeup);
        verdict.expect(
            group == Err(EINVAL),
            fmt!("group wakeup: expected EINVAL, got {group:?}"),
        );

        let enabled = provider::enable(pdev)?;
        bars(pdev, &mut verdict)?;

        let range = BarRange::largest(&provider::bars(pdev), &provider::limits())?;
        refused(enabled, range, &mut verdict)?;

        let provider = Provider::register(enabled, &[range])?;
        let again = Provider::register(enabled, &[range]).map(|_| ());
        verdict.expect(
            again == Err(EBUSY),
            fmt!("registered again: expected EBUSY, got {again:?}"),
        );

        let pool = provider.pool();
        let mailbox = pool.alloc(PAGE_SIZE)?;
        // CAST: The page size fits.
        let rest = range.size().get() - PAGE_SIZE as u64;
        let free = pool.measure_free();
        verdict.expect(free == Ok(rest), fmt!("free: {free:?}"));
        let device: &pci::Device = pdev;
        let published =
            distance::find(device).is_ok_and(|found| core::ptr::eq(found.device(), device));
        verdict.expect(!published, fmt!("published"));

        if verdict.failed {
            return Err(EIO);
        }
        Ok(Data {
            _mailbox: mailbox,
            _provider: provider,
        })
    }
}

p2pdma::pci_device_table!(FAILING_TABLE, <FailingDriver as pci::Driver>::IdInfo, []);

/// A driver whose `probe()` fails with EIO when its memory is in use: once two pages of it are.
///
/// There is time for a program to map a page, pin it, and map another.
pub(crate) struct FailingDriver;

impl FailingDriver {
    /// How often it looks, and how long that takes: a minute at most, on the slowest machine.
    const LOOKS: usize = 6000;
    const PAUSE: Delta = Delta::from_millis(10);
}

impl pci::Driver for FailingDriver {
    type IdInfo = ();
    type Data<'bound> = ();

    const ID_TABLE: pci::IdTable<Self::IdInfo> = &FAILING_TABLE;

    fn probe<'bound>(
        pdev: &'bound pci::Device<Core<'_>>,
        _info: IdInfo<'bound, Self::IdInfo>,
    ) -> impl PinInit<Self::Data<'bound>, Error> + 'bound {
        let enabled = provider::enable(pdev)?;

        let range = BarRange::largest(&provider::bars(pdev), &provider::limits())?;
        let provider = Provider::register(enabled, &[range])?;

        for _ in 0..Self::LOOKS {
            // CAST: The page size fits.
            if provider.user_memory().mapped >= 2 * PAGE_SIZE as u64 {
                return Err::<(), Error>(EIO);
            }
            system::resched_or_signal()?;
            fsleep(Self::PAUSE);
        }
        Err(ETIMEDOUT)
    }
}
