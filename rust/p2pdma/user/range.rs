// SPDX-License-Identifier: GPL-2.0

//! Ranges of user addresses.
//!
//! Pure arithmetic, on [`core`] alone: the same file is compiled into the kernel module and into
//! the unit tests that run on the host.

use core::{
    fmt,
    num::NonZero, //
};

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
    /// They touch more pages than a call takes.
    TooMany {
        /// Number of pages.
        pages: usize,
        /// Most pages that are allowed.
        max: usize,
    },
}

impl fmt::Display for UserRangeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Self::Empty => f.write_str("no bytes"),
            Self::Wraps { addr, len } => {
                write!(f, "address {addr:#x} plus length {len:#x} wraps around")
            }
            Self::TooMany { pages, max } => write!(f, "{pages} pages: at most {max}"),
        }
    }
}

/// The pages of `page_size` bytes, a power of two, that `len` bytes from `addr` touch: the address
/// of the first, and how many.
pub(crate) fn pages(
    addr: usize,
    len: usize,
    page_size: usize,
    max: usize,
) -> Result<(usize, NonZero<usize>), UserRangeError> {
    let len = NonZero::new(len).ok_or(UserRangeError::Empty)?.get();
    let last = addr
        .checked_add(len - 1)
        .ok_or(UserRangeError::Wraps { addr, len })?;
    let pages = last / page_size - addr / page_size + 1;

    if pages > max {
        return Err(UserRangeError::TooMany { pages, max });
    }
    // Not 0: `last` is not below `addr`.
    let pages = NonZero::new(pages).ok_or(UserRangeError::Empty)?;

    Ok((addr & !(page_size - 1), pages))
}

// The same cases run on the host under cargo, and in the kernel as a KUnit suite.
#[cfg(any(test, CONFIG_KUNIT = "y"))]
#[cfg_attr(not(test), kernel::macros::kunit_tests(rust_p2pdma_user))]
mod tests {
    #[cfg(not(test))]
    use kernel::prelude::*;

    use super::*;

    const MAX: usize = 1 << 18;

    fn of(addr: usize, len: usize) -> Result<(usize, usize), UserRangeError> {
        pages(addr, len, 4096, MAX).map(|(start, pages)| (start, pages.get()))
    }

    #[test]
    fn whole_pages() {
        assert_eq!(of(0x7000, 4096), Ok((0x7000, 1)));
        assert_eq!(of(0x7000, 3 * 4096), Ok((0x7000, 3)));
        assert_eq!(of(0, MAX * 4096), Ok((0, MAX)));
    }

    #[test]
    fn pages_that_are_touched() {
        assert_eq!(of(0x7fff, 1), Ok((0x7000, 1)));
        assert_eq!(of(0x7fff, 2), Ok((0x7000, 2)));
        assert_eq!(of(0x7001, 4096), Ok((0x7000, 2)));
        assert_eq!(of(0x7001, 4095), Ok((0x7000, 1)));
    }

    #[test]
    fn the_end_of_the_address_space() {
        assert_eq!(of(usize::MAX, 1), Ok((usize::MAX - 4095, 1)));
        assert_eq!(of(usize::MAX - 4095, 4096), Ok((usize::MAX - 4095, 1)));
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
    fn too_few_and_too_many() {
        assert_eq!(of(0x7000, 0), Err(UserRangeError::Empty));
        assert_eq!(of(usize::MAX, 0), Err(UserRangeError::Empty));
        assert_eq!(
            of(0, MAX * 4096 + 1),
            Err(UserRangeError::TooMany {
                pages: MAX + 1,
                max: MAX
            })
        );
        // All there is.
        assert_eq!(
            of(0, usize::MAX),
            Err(UserRangeError::TooMany {
                pages: usize::MAX / 4096 + 1,
                max: MAX
            })
        );
    }
}
