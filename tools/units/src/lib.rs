// SPDX-License-Identifier: GPL-2.0

//! The parts of the kernel library that need nothing of the kernel, compiled for the host.
//!
//! `cargo test` runs the same cases that a kernel with `CONFIG_KUNIT=y` runs as KUnit suites.

// Set by the kernel's build only.
#![allow(unexpected_cfgs)]
// As in the kernel.
#![allow(clippy::precedence)]

// Who asks for the domain in a name needs the kernel: here it is the tests alone.
#[cfg_attr(not(test), expect(dead_code))]
#[path = "../../../rust/p2pdma/pci/address.rs"]
pub mod address;

#[path = "../../../rust/p2pdma/provider/range.rs"]
pub mod range;

#[path = "../../../rust/p2pdma/provider/cmb.rs"]
pub mod cmb;

// The library itself uses what is not public there.
#[cfg(test)]
#[path = "../../../rust/p2pdma/user/range.rs"]
mod user;
