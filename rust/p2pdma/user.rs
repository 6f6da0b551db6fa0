// SPDX-License-Identifier: GPL-2.0

//! User pages: memory that user space has mapped, held for an I/O. They are [pinned](pin) by their
//! address, or [extracted](extract) from an `iov_iter`, and [held](pages) until they are dropped.
//!
//! In the kernel's tree this would be `rust/kernel/mm/gup.rs`, of the maintainers of memory
//! management in Rust.

pub mod current;
mod errno;
pub mod extract;
pub mod pages;
pub mod pin;
mod range;
