// SPDX-License-Identifier: GPL-2.0

//! What the driver shows in sysfs, beside the kernel's own `p2pmem/` group: see
//! `Documentation/ABI/testing/sysfs-driver-p2pdma_provider`.

#![forbid(unsafe_code)]

use crate::choice::Source;
use core::fmt;
use kernel::{
    prelude::*,
    str::kstrtobool_bytes, //
};
use p2pdma::{
    provider::{
        self,
        Provider, //
    },
    range::BarRange,
    sysfs::{
        Attribute,
        Attributes, //
    }, //
};

/// What a bound device provides.
pub(crate) struct State<'bound> {
    pub(crate) provider: Provider<'bound>,
    pub(crate) source: Source,
}

impl State<'_> {
    /// The first range: ranges that the memory was split into follow it without a gap.
    fn first(&self, f: impl FnOnce(&BarRange) -> fmt::Result) -> fmt::Result {
        self.provider.ranges().first().map_or(Err(fmt::Error), f)
    }
}

impl Attributes for State<'_> {
    const GROUP: &'static CStr = c"p2pdma_provider";
    const ATTRIBUTES: &'static [Attribute] = &[
        Attribute::ro(c"source"),
        Attribute::ro(c"bar"),
        Attribute::ro(c"offset"),
        Attribute::ro(c"size"),
        Attribute::ro(c"ranges"),
        Attribute::ro(c"bus_address"),
        Attribute::ro(c"numa_node"),
        Attribute::rw(c"publish"),
    ];

    fn show(&self, index: usize, out: &mut dyn fmt::Write) -> fmt::Result {
        let provider = &self.provider;

        match index {
            0 => out.write_str(self.source.as_str()),
            1 => self.first(|range| write!(out, "{}", range.bar())),
            2 => self.first(|range| write!(out, "{}", range.offset())),
            3 => write!(out, "{}", provider.size()),
            4 => write!(out, "{}", provider.ranges().len()),
            5 => self.first(|range| write!(out, "{:#x}", provider.bus_address(range))),
            6 => match provider::numa_node(provider.device().as_ref()) {
                Some(node) => write!(out, "{node}"),
                None => out.write_str("-1"),
            },
            7 => write!(out, "{}", u8::from(provider.is_published())),
            _ => Err(fmt::Error),
        }
    }

    fn store(&self, _index: usize, value: &str) -> Result {
        // The only attribute that can be written.
        self.provider.publish(kstrtobool_bytes(value.as_bytes())?);
        Ok(())
    }
}
