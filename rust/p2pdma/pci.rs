// SPDX-License-Identifier: GPL-2.0

//! PCI functions as such: by [address](devices), [kept bound](bound), [watched](notifier), and with
//! [attributes](sysfs) in sysfs. Nothing here knows of peer-to-peer DMA.
//!
//! In the kernel's tree this would be no file of its own: each of these says where it would be.

mod address;
pub mod bound;
pub mod devices;
pub mod notifier;
pub mod sysfs;
