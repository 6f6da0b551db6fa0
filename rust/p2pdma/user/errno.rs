// SPDX-License-Identifier: GPL-2.0

//! Error numbers of what [`range`](super::range) finds, and how it is printed.
//!
//! In the kernel's tree this would be a part of `rust/kernel/mm/gup.rs`, of the maintainers of
//! memory management in Rust.

use super::range::UserRangeError;
use kernel::{
    fmt,
    prelude::*, //
};

impl From<UserRangeError> for Error {
    fn from(error: UserRangeError) -> Self {
        match error {
            UserRangeError::Empty | UserRangeError::Wraps { .. } => EINVAL,
        }
    }
}

impl fmt::Display for UserRangeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        core::fmt::Display::fmt(self, f)
    }
}
