// SPDX-License-Identifier: GPL-2.0

//! What is told that a driver goes borrows nothing: a watch that is leaked goes on calling it.
//~ E0478
//~ E0495

use kernel::pci;
use p2pdma::orchestrator::watch::Events;

pub struct Borrows<'a>(pub &'a u32);

impl<'a> Events for Borrows<'a> {
    fn going(&self, _dev: &pci::Device) {}

    fn gone(&self, _dev: &pci::Device) {}
}
