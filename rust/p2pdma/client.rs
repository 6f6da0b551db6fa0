// SPDX-License-Identifier: GPL-2.0

//! The client's side: a device that does DMA to and from peer-to-peer memory, which is
//! [mapped](sg) for it.
//!
//! In the kernel's tree this would be no file of its own: what is in here would be in
//! `rust/kernel/pci/p2pdma.rs`, of the maintainers of PCI peer-to-peer DMA.

mod device;
pub mod sg;

pub use device::Client;
