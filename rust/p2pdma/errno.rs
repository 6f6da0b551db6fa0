// SPDX-License-Identifier: GPL-2.0

//! Error numbers of the errors that the pure modules define, and how they are printed.

use crate::{
    address::Address,
    cmb::CmbError,
    range::RangeError,
    user::UserRangeError, //
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

impl From<UserRangeError> for Error {
    fn from(error: UserRangeError) -> Self {
        match error {
            UserRangeError::Empty | UserRangeError::Wraps { .. } => EINVAL,
            UserRangeError::TooMany { .. } => E2BIG,
        }
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        core::fmt::Display::fmt(self, f)
    }
}

impl fmt::Display for UserRangeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        core::fmt::Display::fmt(self, f)
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
