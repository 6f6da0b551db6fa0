// SPDX-License-Identifier: GPL-2.0
use core::fmt;
use kernel::{
    device::Core,
    pci,
    prelude::*,
    sync::atomic::{Atomic, Relaxed},
};
use p2pdma::pci::sysfs::{
    self,
    Attribute,
    Attributes, //
};

/// The directory `my_driver`, with the file `speed`.
pub struct State(Atomic<u32>);

impl Attributes for State {
    const GROUP: &'static CStr = c"my_driver";
    const ATTRIBUTES: &'static [Attribute] = &[Attribute::rw(c"speed")];

    fn show(&self, _index: usize, out: &mut dyn fmt::Write) -> fmt::Result {
        write!(out, "{}", self.0.load(Relaxed))
    }

    fn store(&self, _index: usize, value: &str) -> Result {
        self.0.store(value.parse().map_err(|_| EINVAL)?, Relaxed);
        Ok(())
    }
}

pub fn probe(pdev: &pci::Device<Core<'_>>) -> Result {
    sysfs::register(pdev.as_ref(), State(Atomic::new(1)))
}
