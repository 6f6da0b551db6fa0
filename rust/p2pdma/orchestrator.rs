// SPDX-License-Identifier: GPL-2.0

//! The orchestrator's side: who pairs providers with clients, by [distance] or by what the user
//! [chose](enable), and is [told](watch) when a provider goes.
//!
//! In the kernel's tree this would be no file of its own: what is in here would be in
//! `rust/kernel/pci/p2pdma.rs`, of the maintainers of PCI peer-to-peer DMA.

pub mod distance;
pub mod enable;
pub mod watch;
