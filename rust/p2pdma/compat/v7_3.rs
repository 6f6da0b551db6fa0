// SPDX-License-Identifier: GPL-2.0

//! Linux 7.3.
//!
//! In the kernel's tree this would not be.

use kernel::{
    io::{
        self,
        MmioRaw,
        Region, //
    },
    module_param::ModuleParamAccess,
    pci,
    sync, //
};

pub use kernel::error::code;

/// The io accessors of a region that is mapped for `'a`.
pub type Mmio<'a> = io::Mmio<'a, Region>;

/// The io accessors of `size` bytes at `addr`; [`None`] if one of them is no multiple of 4.
///
/// # Safety
///
/// They are mapped, uncached, and stay so for `'a`.
#[inline]
pub unsafe fn mmio<'a>(addr: usize, size: usize) -> Option<Mmio<'a>> {
    let region = MmioRaw::new_region(addr, size).ok()?;

    // SAFETY: The region is mapped for `'a` by the safety requirement.
    Some(unsafe { io::Mmio::from_raw(region) })
}

/// The value of a parameter of a module.
#[inline]
pub fn parameter<T: Copy>(parameter: &ModuleParamAccess<T>) -> T {
    parameter.value()
}

/// A BAR that is mapped while its device is bound, see [`kernel::pci::Bar::into_devres()`].
pub type DevresBar<const SIZE: usize> = pci::DevresBar<SIZE>;

/// A spinlock that is held with interrupts disabled.
pub type SpinLockIrq<T> = sync::SpinLockIrq<T>;

/// Initialises a [`SpinLockIrq`](crate::compat::SpinLockIrq) that lockdep knows by `$name`.
#[macro_export]
macro_rules! new_spinlock_irq {
    ($inner:expr, $name:literal) => {
        ::kernel::new_spinlock_irq!($inner, $name)
    };
}

/// What `probe()` is told of the device's id: nothing if it was bound through `driver_override`.
pub type IdInfo<'a, T> = Option<&'a T>;

/// `kernel::pci_device_table!()` for drivers without information about ids.
#[macro_export]
macro_rules! pci_device_table {
    ($($table:tt)*) => {
        ::kernel::pci_device_table!($($table)*);
    };
}
