// SPDX-License-Identifier: GPL-2.0

//! What several of the tools must agree on.

mod arch;
mod kbuild;
mod manifest;
pub mod qemu;
mod scale;

pub use arch::{Arch, Names};
pub use kbuild::Compilation;
pub use manifest::{Check, Manifest, OWN};
pub use scale::parse_scale;
