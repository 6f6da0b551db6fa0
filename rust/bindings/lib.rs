// SPDX-License-Identifier: GPL-2.0

//! Bindings to C that the kernel's own [`bindings`](kernel::bindings) crate lacks.
//!
//! Generated at build time from `rust/bindings/bindings_helper.h`. Nothing outside of the library
//! uses this module.
//!
//! In the kernel's tree this would not be: the kernel's `bindings` crate would have them.

#![allow(
    dead_code,
    improper_ctypes,
    missing_docs,
    non_camel_case_types,
    non_snake_case,
    non_upper_case_globals,
    unreachable_pub,
    unsafe_op_in_unsafe_fn,
    clippy::all,
    clippy::undocumented_unsafe_blocks
)]

use kernel::{
    bindings::*,
    ffi, //
};

include!(env!("P2PDMA_BINDINGS"));
