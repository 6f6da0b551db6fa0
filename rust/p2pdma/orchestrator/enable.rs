// SPDX-License-Identifier: GPL-2.0

//! The value of a configfs or sysfs attribute with which the user enables peer-to-peer DMA: off,
//! automatic, or a given provider. nvmet's `p2pmem` is one.
//!
//! C header: [`include/linux/pci-p2pdma.h`](srctree/include/linux/pci-p2pdma.h)
//!
//! # Examples
//!
//! What a user stored, made use of:
//!
//! ```ignore
#![doc = include_str!("../examples/enable.rs")]
//! ```
//!
//! In the kernel's tree this would be `rust/kernel/pci/p2pdma/enable.rs`, of the maintainers of PCI
//! peer-to-peer DMA.

use super::distance::FoundProvider;
use crate::raw;
use core::ptr::NonNull;
use kernel::{
    bindings,
    error::to_result,
    page::PAGE_SIZE,
    prelude::*,
    sync::aref::ARef, //
};

/// What the user chose.
pub enum Enable {
    /// No peer-to-peer DMA.
    Off,
    /// With whichever provider [`find_many()`](crate::orchestrator::distance::find_many) finds.
    Auto,
    /// With this provider.
    Provider(FoundProvider),
}

impl Enable {
    /// Parses what was stored: a boolean as `kstrtobool()` takes it, or the full name of a PCI
    /// device (`0000:01:00.0`); a newline may follow.
    ///
    /// C: `pci_p2pdma_enable_store()`. May sleep.
    ///
    /// # Errors
    ///
    /// [`ENODEV`] if it is neither, or the device has published no memory. The kernel's log says
    /// which.
    #[doc(alias = "pci_p2pdma_enable_store")]
    pub fn parse(value: &CStr) -> Result<Self> {
        let mut dev = core::ptr::null_mut();
        let mut enable = false;

        // SAFETY: `value` is a C string, and the two others are valid for writing.
        to_result(unsafe {
            bindings::pci_p2pdma_enable_store(value.as_char_ptr(), &mut dev, &mut enable)
        })?;

        Ok(match (enable, NonNull::new(dev)) {
            (false, _) => Self::Off,
            (true, None) => Self::Auto,
            (true, Some(dev)) => {
                // SAFETY: The device was returned with a reference taken, which passes to the
                // `ARef`.
                let dev = unsafe { ARef::from_raw(dev.cast()) };

                // SAFETY: `pci_p2pdma_enable_store()` accepts devices with published memory only.
                Self::Provider(unsafe { FoundProvider::new(dev) })
            }
        })
    }

    /// Writes the value as the attribute shows it, with a newline, and returns its length in bytes.
    ///
    /// C: `pci_p2pdma_enable_show()`. Any context.
    #[doc(alias = "pci_p2pdma_enable_show")]
    pub fn show(&self, page: &mut [u8; PAGE_SIZE]) -> usize {
        let (enable, dev) = match self {
            Self::Off => (false, core::ptr::null_mut()),
            Self::Auto => (true, core::ptr::null_mut()),
            Self::Provider(found) => (true, raw::pci_dev(found.device())),
        };

        // SAFETY: `page` is valid for writing a page, which is what the function expects; `dev` is
        // NULL or valid.
        let len =
            unsafe { bindings::pci_p2pdma_enable_show(page.as_mut_ptr().cast(), dev, enable) };

        // CAST: The number of bytes written, which is not negative.
        len as usize
    }
}
