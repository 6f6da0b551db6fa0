// SPDX-License-Identifier: GPL-2.0

//! Ranges of user addresses.
//!
//! Pure arithmetic, on [`core`] alone: the same file is compiled into the kernel module and into
//! the unit tests that run on the host.
//!
//! In the kernel's tree this would be a part of `rust/kernel/mm/gup.rs`, of the maintainers of
//! memory management in Rust.

use core::fmt;

/// Why some bytes are no range of pages.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum UserRangeError {
    /// There are none.
    Empty,
    /// They wrap around the address space.
    Wraps {
        /// Address of the first byte.
        addr: usize,
        /// Number of bytes.
        len: usize,
    },
}

impl fmt::Display for UserRangeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Self::Empty => f.write_str("no bytes"),
            Self::Wraps { addr, len } => {
                write!(f, "address {addr:#x} plus length {len:#x} wraps around")
            }
        }
    }
}

/// Number of pages of `1 << page_shift` bytes that `len` bytes from `addr` touch: at least one.
#[inline]
pub(crate) fn pages(addr: usize, len: usize, page_shift: usize) -> Result<usize, UserRangeError> {
    if len == 0 {
        return Err(UserRangeError::Empty);
    }
    let last = addr
        .checked_add(len - 1)
        .ok_or(UserRangeError::Wraps { addr, len })?;

    // Neither wraps: `last` is not below `addr`, and a page has more than one byte.
    Ok((last >> page_shift)
        .wrapping_sub(addr >> page_shift)
        .wrapping_add(1))
}

// The same cases run on the host under cargo, and in the kernel as a KUnit suite.
#[cfg(any(test, CONFIG_KUNIT = "y"))]
#[cfg_attr(not(test), kernel::macros::kunit_tests(rust_p2pdma_user))]
mod tests {
    #[cfg(not(test))]
    use kernel::prelude::*;

    use super::*;

    fn of(addr: usize, len: usize) -> Result<usize, UserRangeError> {
        pages(addr, len, 12)
    }

    #[test]
    fn whole_pages() {
        assert_eq!(of(0x7000, 4096), Ok(1));
        assert_eq!(of(0x7000, 3 * 4096), Ok(3));
        assert_eq!(of(0, 4096 << 18), Ok(1 << 18));
    }

    #[test]
    fn pages_that_are_touched() {
        assert_eq!(of(0x7fff, 1), Ok(1));
        assert_eq!(of(0x7fff, 2), Ok(2));
        assert_eq!(of(0x7001, 4096), Ok(2));
        assert_eq!(of(0x7001, 4095), Ok(1));
    }

    #[test]
    fn the_end_of_the_address_space() {
        assert_eq!(of(usize::MAX, 1), Ok(1));
        assert_eq!(of(usize::MAX - 4095, 4096), Ok(1));
        assert_eq!(
            of(usize::MAX, 2),
            Err(UserRangeError::Wraps {
                addr: usize::MAX,
                len: 2
            })
        );
        assert_eq!(
            of(4096, usize::MAX),
            Err(UserRangeError::Wraps {
                addr: 4096,
                len: usize::MAX
            })
        );
    }

    #[test]
    fn none_and_all() {
        assert_eq!(of(0x7000, 0), Err(UserRangeError::Empty));
        assert_eq!(of(usize::MAX, 0), Err(UserRangeError::Empty));
        // All there is, but for the last byte.
        assert_eq!(of(0, usize::MAX), Ok(usize::MAX / 4096 + 1));
    }
}
