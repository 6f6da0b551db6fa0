// SPDX-License-Identifier: GPL-2.0

//! Providers: devices that offer a BAR, or a part of one, as peer-to-peer memory.
//!
//! C header: [`include/linux/pci-p2pdma.h`](srctree/include/linux/pci-p2pdma.h)

use crate::{
    bindings as helpers,
    pool::Pool,
    range::{
        Bar,
        BarKind,
        BarRange,
        Limits,
        NUM_BARS, //
    },
    raw, //
};
use kernel::{
    bindings,
    device::{
        Bound,
        Core, //
    },
    error::to_result,
    pci,
    prelude::*, //
};

/// What the kernel asks of a range on this machine: `memremap_compat_align()` and
/// `mhp_get_pluggable_range()`.
pub fn limits() -> Limits {
    // SAFETY: Has no preconditions: returns a constant of the running kernel.
    let align = unsafe { bindings::memremap_compat_align() };
    // SAFETY: Has no preconditions: computes from constants of the running kernel. Peer-to-peer
    // memory gets a linear mapping, hence `true`.
    let range = unsafe { bindings::mhp_get_pluggable_range(true) };

    Limits {
        // CAST: `unsigned long` is 64 bits wide wherever PCI_P2PDMA can be enabled (it depends on
        // 64BIT).
        align: align as u64,
        first: range.start,
        last: range.end,
    }
}

/// Reads what BAR `index` of `dev` is (`pci_resource_flags()`, `pci_resource_start()`,
/// `pci_resource_len()`). An index that no standard BAR has gives one of kind
/// [`BarKind::Absent`].
pub fn bar(dev: &pci::Device, index: u8) -> Bar {
    if index >= NUM_BARS {
        return Bar {
            index,
            kind: BarKind::Absent,
            start: 0,
            len: 0,
        };
    }

    // SAFETY: `raw::pci_dev()` returns a valid `struct pci_dev`, and `index` is that of a standard
    // BAR, as just checked.
    let flags = unsafe { helpers::p2pdma_helper_resource_flags(raw::pci_dev(dev), index.into()) };
    // CAST: IORESOURCE_* are small positive constants.
    let kind = if flags & bindings::IORESOURCE_MEM as usize != 0 {
        BarKind::Memory
    } else if flags & bindings::IORESOURCE_IO as usize != 0 {
        BarKind::IoPort
    } else {
        BarKind::Absent
    };

    // Neither call fails for the index of a standard BAR.
    Bar {
        index,
        kind,
        start: dev.resource_start(index.into()).unwrap_or(0),
        len: dev.resource_len(index.into()).unwrap_or(0),
    }
}

/// All standard BARs of `dev`.
pub fn bars(dev: &pci::Device) -> [Bar; NUM_BARS as usize] {
    core::array::from_fn(|index| {
        // CAST: `index` is below `NUM_BARS`, which is a `u8`.
        bar(dev, index as u8)
    })
}

/// A device that provides peer-to-peer memory, for as long as it is bound to its driver.
///
/// Made in `probe()` and kept in the driver's private data. There it is dropped after `unbind()`
/// and before the device's managed resources are released, which is what the lifetime argument in
/// the [crate's documentation](crate#lifetimes) asks for.
///
/// Dropping it withdraws the publication. The pages themselves, and the `p2pmem/` group in sysfs,
/// are resources managed by the device: they go when the driver is unbound.
///
/// # Invariants
///
/// At least one range of `dev` was registered by this object, so the device has a pool for as
/// long as it is bound.
pub struct Provider<'bound> {
    dev: &'bound pci::Device<Bound>,
    size: u64,
}

impl<'bound> Provider<'bound> {
    /// Registers `ranges` of `dev` as peer-to-peer memory.
    ///
    /// The memory decoding of the device has to be enabled already
    /// ([`pci::Device::enable_device_mem()`]). Nothing is published yet.
    ///
    /// C: `pci_p2pdma_add_resource()`, once a range. May sleep.
    ///
    /// # Errors
    ///
    /// - [`EINVAL`] if `ranges` is empty, two of them overlap, or one is not a range of `dev`.
    /// - [`EBUSY`] if the device provides peer-to-peer memory already.
    /// - [`EOPNOTSUPP`] if the BARs of the device must not be mapped (`pci_dev.non_mappable_bars`).
    /// - [`ENOMEM`], or what `memremap_pages()` returns.
    ///
    /// After an error, ranges that were registered before it go with the device's other managed
    /// resources: let `probe()` fail.
    #[doc(alias = "pci_p2pdma_add_resource")]
    pub fn register(dev: &'bound pci::Device<Core<'_>>, ranges: &[BarRange]) -> Result<Self> {
        let limits = limits();
        let mut size = 0u64;

        for (i, range) in ranges.iter().enumerate() {
            let checked = BarRange::new(
                &bar(dev, range.bar()),
                range.offset(),
                Some(range.size()),
                &limits,
            );
            if checked != Ok(*range) || ranges[..i].iter().any(|other| other.overlaps(range)) {
                return Err(EINVAL);
            }
            // Ranges that do not overlap do not wrap when their sizes are added up.
            size += range.size().get();
        }
        if ranges.is_empty() {
            return Err(EINVAL);
        }

        let pdev = raw::pci_dev(dev);

        // SAFETY: `pdev` is a valid `struct pci_dev`. `Core` means that its device lock is held,
        // under which the bit does not change.
        if unsafe { (*pdev).non_mappable_bars() } != 0 {
            return Err(EOPNOTSUPP);
        }
        // SAFETY: `pdev` is a valid `struct pci_dev`.
        if unsafe { helpers::p2pdma_helper_has_p2pdma(pdev) } {
            return Err(EBUSY);
        }

        for range in ranges {
            // SAFETY:
            // - `pdev` is a valid `struct pci_dev`.
            // - `Core` means that it is being bound and its device lock is held: resources managed
            //   by the device can be added, and nobody else registers memory of it meanwhile.
            to_result(unsafe {
                bindings::pci_p2pdma_add_resource(
                    pdev,
                    range.bar().into(),
                    // CAST: `size_t` has 64 bits, see `limits()`.
                    range.size().get() as usize,
                    range.offset(),
                )
            })?;
        }

        // INVARIANT: `ranges` is not empty, and all of them were registered.
        Ok(Self { dev, size })
    }

    /// Publishes the memory, so that [`find()`](crate::distance::find) and the configuration of
    /// orchestrators such as nvmet find it, or withdraws it.
    ///
    /// Publication does not gate mappings of `p2pmem/allocate` by user space.
    ///
    /// C: `pci_p2pmem_publish()`. Any context.
    #[doc(alias = "pci_p2pmem_publish")]
    pub fn publish(&self, publish: bool) {
        // SAFETY: `raw::pci_dev()` returns a valid `struct pci_dev`.
        unsafe { bindings::pci_p2pmem_publish(raw::pci_dev(self.dev), publish) };
    }

    /// The pool of the device's peer-to-peer memory.
    ///
    /// What is allocated from it borrows `self`, and so is freed before the pages go.
    pub fn pool(&self) -> Pool<'_> {
        // By the invariant of `Self` the device has a pool while it is bound, and it is bound for
        // `'bound`, which outlives `&self`.
        Pool::new(self.dev)
    }

    /// Size of all registered ranges together, in bytes.
    pub fn size(&self) -> u64 {
        self.size
    }

    /// The device.
    pub fn device(&self) -> &'bound pci::Device<Bound> {
        self.dev
    }
}

impl Drop for Provider<'_> {
    fn drop(&mut self) {
        self.publish(false);
    }
}
