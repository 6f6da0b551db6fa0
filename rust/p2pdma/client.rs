// SPDX-License-Identifier: GPL-2.0

//! The client's side: a device that does DMA to and from peer-to-peer memory, which is
//! [mapped](sg) for it.

mod device;
pub mod sg;

pub use device::Client;
