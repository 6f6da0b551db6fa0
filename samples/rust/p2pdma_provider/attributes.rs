// SPDX-License-Identifier: GPL-2.0

//! What the driver shows in sysfs, beside the kernel's own `p2pmem/` group: see
//! `Documentation/ABI/testing/sysfs-driver-p2pdma_provider`.

#![forbid(unsafe_code)]

use crate::choice::Source;
use core::fmt;
use kernel::{
    new_mutex,
    prelude::*,
    str::kstrtobool_bytes,
    sync::Mutex, //
};
use p2pdma::{
    pci::{
        devices,
        sysfs::{
            Attribute,
            Attributes, //
        }, //
    },
    provider::{
        range::BarRange,
        Provider,
        Publication, //
    }, //
};

/// Whether the memory is published, and what changes that.
struct Publish {
    publication: Publication,
    published: bool,
}

/// What a bound device provides.
///
/// It goes with the attributes: after the driver's data, and before the pages, for which unbinding
/// may have to wait. So what is written to `publish` until then does not stay in force.
pub(crate) struct State {
    source: Source,
    /// The first range: others that the memory was split into follow it without a gap.
    first: BarRange,
    bus_address: u64,
    size: u64,
    ranges: usize,
    numa_node: Option<u32>,
    publish: Pin<KBox<Mutex<Publish>>>,
}

impl State {
    /// What `provider` provides; publishes it if `publish` says so.
    pub(crate) fn new(provider: &Provider<'_>, source: Source, publish: bool) -> Result<Self> {
        let first = *provider.ranges().first().ok_or(EINVAL)?;

        let publication = provider.publication()?;

        publication.set(publish)?;
        Ok(Self {
            source,
            first,
            bus_address: provider.bus_address(&first),
            size: provider.size(),
            ranges: provider.ranges().len(),
            numa_node: devices::numa_node(provider.device().as_ref()),
            publish: KBox::pin_init(
                new_mutex!(Publish {
                    publication,
                    published: publish,
                }),
                GFP_KERNEL,
            )?,
        })
    }
}

impl Attributes for State {
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
        match index {
            0 => out.write_str(self.source.as_str()),
            1 => write!(out, "{}", self.first.bar()),
            2 => write!(out, "{}", self.first.offset()),
            3 => write!(out, "{}", self.size),
            4 => write!(out, "{}", self.ranges),
            5 => write!(out, "{:#x}", self.bus_address),
            6 => match self.numa_node {
                Some(node) => write!(out, "{node}"),
                None => out.write_str("-1"),
            },
            7 => write!(out, "{}", u8::from(self.publish.lock().published)),
            _ => Err(fmt::Error),
        }
    }

    fn store(&self, _index: usize, value: &str) -> Result {
        // The only attribute that can be written.
        let published = kstrtobool_bytes(value.as_bytes())?;
        // Several may write at the same time.
        let mut publish = self.publish.lock();

        publish.publication.set(published)?;
        publish.published = published;
        Ok(())
    }
}
