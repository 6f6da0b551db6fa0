// SPDX-License-Identifier: GPL-2.0

//! The lock that keeps a device bound is released by the task that took it.
//~ E0277

use p2pdma::pci::bound::BoundDevice;

fn send<T: Send>(_: T) {}

pub fn misuse(bound: BoundDevice) {
    send(bound);
}
