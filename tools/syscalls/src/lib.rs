// SPDX-License-Identifier: GPL-2.0

//! System calls on mapped memory that have no safe wrapper elsewhere: reads and writes at a
//! position, one at a time ([`read_at()`], [`write_at()`]) or many at once ([`Queue`]), and what
//! only an `ioctl()` does: NVMe's Compare ([`compare()`]), and asking the kernel about two
//! functions ([`Harness`]).
//!
//! Peer-to-peer memory is a device's: no reference to its bytes is ever made, which is what the
//! wrappers of other crates want. Memory is an [`MmapRegion`] here, whose bytes are reached
//! through pointers and atomics only, so that the kernel and devices can write to it at any time.
//!
//! All of this is safe to call, whatever the arguments. What is `unsafe` in it says why it is
//! sound.

mod device;
mod direct;
mod harness;
mod nvme;
mod queue;

pub use direct::{read_at, write_at};
pub use harness::Harness;
pub use nvme::{compare, knows_compare, Compared};
pub use queue::{Completion, Direction, Queue, Transfer};
pub use vm_memory::MmapRegion;
