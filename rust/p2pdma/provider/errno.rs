// SPDX-License-Identifier: GPL-2.0

//! Error numbers of what [`range`](super::range) and [`cmb`](super::cmb) find, and how it is
//! printed.
//!
//! In the kernel's tree this would be `rust/kernel/pci/p2pdma/errno.rs`, of the maintainers of PCI
//! peer-to-peer DMA.

use super::{
    cmb::CmbError,
    range::RangeError, //
};
use kernel::{
    fmt,
    prelude::*, //
};

impl From<RangeError> for Error {
    fn from(error: RangeError) -> Self {
        match error {
            RangeError::NoSuchBar { .. }
            | RangeError::Absent { .. }
            | RangeError::IoPort { .. }
            | RangeError::Wraps { .. }
            | RangeError::PastEnd { .. }
            | RangeError::PastCmb { .. }
            | RangeError::Indivisible { .. }
            | RangeError::Misaligned { .. } => EINVAL,
            RangeError::NotPluggable { .. } => ERANGE,
            RangeError::Unassigned { .. } => ENXIO,
            RangeError::NoSuitableBar { .. } => ENODEV,
        }
    }
}

impl From<CmbError> for Error {
    fn from(error: CmbError) -> Self {
        match error {
            CmbError::None => ENODEV,
            CmbError::NoSize { .. } | CmbError::ReservedUnit { .. } | CmbError::BadBar { .. } => {
                EINVAL
            }
            CmbError::Gone => EIO,
        }
    }
}

impl fmt::Display for RangeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        core::fmt::Display::fmt(self, f)
    }
}

impl fmt::Display for CmbError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        core::fmt::Display::fmt(self, f)
    }
}
