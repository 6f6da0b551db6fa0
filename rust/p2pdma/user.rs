// SPDX-License-Identifier: GPL-2.0

//! User pages: memory that user space has mapped, [pinned](pin) for an I/O.

mod errno;
pub mod pin;
mod range;
