// SPDX-License-Identifier: GPL-2.0

//! Bindings to [`drivers/nvme/target/nvmet.h`](srctree/drivers/nvme/target/nvmet.h), generated at
//! build time from `rust/nvmet/bindings_helper.h`.
//!
//! Place: none, the kernel's `bindings` crate would have them.

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

/// Opaque: reached through helpers only.
#[repr(C)]
pub struct nvmet_port {
    _opaque: [u8; 0],
}

/// Opaque: reached through helpers only.
#[repr(C)]
pub struct nvmet_ctrl {
    _opaque: [u8; 0],
}

/// Opaque: belongs to the core.
#[repr(C)]
pub struct nvmet_ns {
    _opaque: [u8; 0],
}

/// Opaque: belongs to the core.
#[repr(C)]
pub struct nvmet_pr_per_ctrl_ref {
    _opaque: [u8; 0],
}

/// `struct nvme_command`: 64 bytes.
#[repr(C, align(8))]
pub struct nvme_command {
    _bytes: [u8; 64],
}

include!(env!("P2PDMA_NVMET_BINDINGS"));
