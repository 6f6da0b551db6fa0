// SPDX-License-Identifier: GPL-2.0

//! The BARs of a device as they are, and what the kernel asks of ranges.
//!
//! C headers: [`include/linux/pci.h`](srctree/include/linux/pci.h),
//! [`include/linux/memory_hotplug.h`](srctree/include/linux/memory_hotplug.h)
//!
//! In the kernel's tree this would be `rust/kernel/pci/io.rs`, of the maintainers of the PCI
//! subsystem in Rust.

use super::range::{
    Bar,
    BarKind,
    Limits,
    NUM_BARS, //
};
use crate::{
    bindings as helpers,
    raw::{
        self,
        BusAddress, //
    }, //
};
use kernel::{
    bindings,
    device::Bound,
    page::PAGE_SIZE,
    pci,
    prelude::*, //
};

/// What the kernel asks of a range on this machine: `memremap_compat_align()` and
/// `mhp_get_pluggable_range()`; and that no page of the memory map is shared with another range,
/// which the kernel does not ask, see [`Limits::memory_map_span()`]. Any context.
#[doc(alias = "memremap_compat_align")]
#[doc(alias = "mhp_get_pluggable_range")]
pub fn limits() -> Limits {
    // SAFETY: Has no preconditions: returns a constant of the running kernel.
    let align = unsafe { bindings::memremap_compat_align() };
    // SAFETY: Has no preconditions: computes from constants of the running kernel. Peer-to-peer
    // memory gets a linear mapping, hence `true`.
    let range = unsafe { bindings::mhp_get_pluggable_range(true) };

    Limits {
        // CAST: `unsigned long` and `usize` are 64 bits wide wherever PCI_P2PDMA can be enabled (it
        // depends on 64BIT).
        align: Limits::memory_map_span(PAGE_SIZE as u64, size_of::<bindings::page>() as u64)
            .max(align as u64),
        first: range.start,
        last: range.end,
    }
}

/// Reads what BAR `index` of `dev` is (`pci_resource_flags()`, `pci_resource_start()`,
/// `pci_resource_len()`). An index that no standard BAR has gives one of kind
/// [`BarKind::Absent`]. Any context.
#[doc(alias = "pci_resource_flags")]
#[doc(alias = "pci_resource_start")]
#[doc(alias = "pci_resource_len")]
pub fn bar(dev: &pci::Device, index: u8) -> Bar {
    if index >= NUM_BARS {
        return Bar {
            index,
            kind: BarKind::Absent,
            prefetchable: false,
            start: 0,
            len: 0,
        };
    }

    // SAFETY: `raw::pci_dev()` returns a valid `struct pci_dev`, and `index` is that of a standard
    // BAR, as just checked.
    let flags = unsafe { helpers::p2pdma_helper_resource_flags(raw::pci_dev(dev), index.into()) };
    // CAST: IORESOURCE_* are small positive constants.
    let prefetchable = flags & bindings::IORESOURCE_PREFETCH as usize != 0;
    let kind = if flags & bindings::IORESOURCE_UNSET as usize != 0 {
        BarKind::Unassigned
    } else if flags & bindings::IORESOURCE_MEM as usize != 0 {
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
        prefetchable,
        start: dev.resource_start(index.into()).unwrap_or(0),
        len: dev.resource_len(index.into()).unwrap_or(0),
    }
}

/// All standard BARs of `dev`. Any context.
pub fn bars(dev: &pci::Device) -> [Bar; NUM_BARS as usize] {
    core::array::from_fn(|index| {
        // CAST: `index` is below `NUM_BARS`, which is a `u8`.
        bar(dev, index as u8)
    })
}

/// Address of BAR `index` of `dev` on the PCI bus.
///
/// C: `pci_bus_address()`. Any context.
///
/// # Errors
///
/// [`EINVAL`] if no standard BAR has that index.
#[doc(alias = "pci_bus_address")]
pub fn bus_address(dev: &pci::Device<Bound>, index: u8) -> Result<BusAddress> {
    if index >= NUM_BARS {
        return Err(EINVAL);
    }

    // SAFETY: `raw::pci_dev()` returns a valid `struct pci_dev`, and `index` is that of a standard
    // BAR, as just checked. The device is bound, so that its host bridge, and the windows of that,
    // are there.
    Ok(unsafe { helpers::p2pdma_helper_bus_address(raw::pci_dev(dev), index.into()) })
}
