// SPDX-License-Identifier: GPL-2.0

//! The provider's side: a device that offers a BAR, or a part of one, as peer-to-peer memory.
//!
//! [`Provider`] registers [ranges](mod@range) of BARs as memory with a pool; [`cmb`] decodes what
//! an NVMe controller says of its memory buffer; [`mmio`] is the layer below, a BAR without pages.
//!
//! In the kernel's tree this would be `rust/kernel/pci/p2pdma/provider.rs`, of the maintainers of
//! PCI peer-to-peer DMA.

mod bars;
pub mod cmb;
mod errno;
pub mod mmio;
mod owner;
pub mod range;
mod register;

pub use bars::{
    bar,
    bars,
    bus_address,
    limits, //
};
pub use owner::{
    provides,
    PageOwner, //
};
pub use register::{
    enable,
    page_structs,
    Enabled,
    Provider,
    Publication,
    Usage,
    UserMemory, //
};
