// SPDX-License-Identifier: GPL-2.0

//! Which memory of a device to provide.

#![forbid(unsafe_code)]

use crate::{
    module_parameters,
    nvme, //
};
use core::num::NonZero;
use kernel::{
    device::Core,
    fmt,
    pci,
    prelude::*, //
};
use p2pdma::provider::{
    self,
    range::{
        BarRange,
        NUM_BARS, //
    }, //
};

/// Most ranges that the memory can be split into.
const MAX_SPLIT: u32 = 64;

/// The module's parameters, checked as far as goes without a device.
pub(crate) struct Parameters {
    pub(crate) bar: Option<u8>,
    pub(crate) offset: u64,
    pub(crate) size: Option<NonZero<u64>>,
    pub(crate) split: u32,
    pub(crate) publish: Option<bool>,
}

impl Parameters {
    /// Reads them; what is wrong is reported for `pdev`.
    pub(crate) fn get(pdev: &pci::Device) -> Result<Self> {
        let bar = *module_parameters::bar.value_ref();
        let bar = match u8::try_from(bar) {
            Ok(bar) if bar < NUM_BARS => Some(bar),
            Err(_) if bar == -1 => None,
            _ => {
                dev_err!(pdev, "parameter bar={}: BARs are 0 to 5\n", bar);
                return Err(EINVAL);
            }
        };

        let split = *module_parameters::split.value_ref();
        if !(1..=MAX_SPLIT).contains(&split) {
            dev_err!(pdev, "parameter split={}: use 1 to {}\n", split, MAX_SPLIT);
            return Err(EINVAL);
        }

        let publish = match *module_parameters::publish.value_ref() {
            -1 => None,
            0 => Some(false),
            1 => Some(true),
            publish => {
                dev_err!(pdev, "parameter publish={}: use 0 or 1\n", publish);
                return Err(EINVAL);
            }
        };

        Ok(Self {
            bar,
            offset: *module_parameters::offset.value_ref(),
            size: NonZero::new(*module_parameters::size.value_ref()),
            split,
            publish,
        })
    }
}

/// What kind of memory is provided.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Source {
    /// An NVMe Controller Memory Buffer.
    Cmb,
    /// A memory BAR.
    Bar,
}

impl Source {
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Cmb => "cmb",
            Self::Bar => "bar",
        }
    }
}

/// The memory to provide.
pub(crate) struct Choice {
    pub(crate) source: Source,
    /// Whether devices can read and write data there.
    pub(crate) takes_data: bool,
    range: BarRange,
}

impl Choice {
    /// Chooses; what is wrong with the device's memory, or the parameters, is reported in one line.
    pub(crate) fn make(pdev: &pci::Device<Core<'_>>, parameters: &Parameters) -> Result<Self> {
        let limits = provider::limits();

        if pdev.pci_class() == pci::Class::STORAGE_EXPRESS {
            match parameters.bar {
                None => return nvme::choose(pdev, parameters),
                Some(bar) => nvme::refuse_cmb(pdev, bar)?,
            }
        }

        let range = match parameters.bar {
            Some(bar) => BarRange::new(
                &provider::bar(pdev, bar),
                parameters.offset,
                parameters.size,
                &limits,
            ),
            None => BarRange::largest(&provider::bars(pdev), &limits).and_then(|range| {
                BarRange::new(
                    &provider::bar(pdev, range.bar()),
                    parameters.offset,
                    parameters.size,
                    &limits,
                )
            }),
        };

        Ok(Self {
            source: Source::Bar,
            takes_data: true,
            range: range.map_err(|e| refuse(pdev, e))?,
        })
    }

    /// The Controller Memory Buffer of an NVMe controller, or the part of it that `range` is.
    pub(crate) fn cmb(range: BarRange, takes_data: bool) -> Self {
        Self {
            source: Source::Cmb,
            takes_data,
            range,
        }
    }

    /// The memory as `parts` ranges of the same size.
    pub(crate) fn split(&self, pdev: &pci::Device, parts: u32) -> Result<KVec<BarRange>> {
        let limits = provider::limits();
        // CAST: 32 bits to 64.
        let mut ranges = KVec::with_capacity(parts as usize, GFP_KERNEL)?;

        for index in 0..parts {
            let range = self.range.part(index, parts, &limits);

            ranges.push(range.map_err(|e| refuse(pdev, e))?, GFP_KERNEL)?;
        }
        Ok(ranges)
    }
}

/// Reports why memory cannot be provided, and returns the error number for it.
pub(crate) fn refuse(pdev: &pci::Device, error: impl fmt::Display + Into<Error>) -> Error {
    dev_err!(pdev, "cannot provide peer-to-peer memory: {}\n", error);
    error.into()
}
