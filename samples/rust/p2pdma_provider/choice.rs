// SPDX-License-Identifier: GPL-2.0

//! The memory that was chosen to be provided, whoever chose it.

#![forbid(unsafe_code)]

use kernel::{
    fmt,
    pci,
    prelude::*, //
};
use p2pdma::provider::{
    self,
    range::BarRange, //
};

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
    /// A memory BAR, or the part of it that `range` is.
    pub(crate) fn bar(range: BarRange) -> Self {
        Self {
            source: Source::Bar,
            takes_data: true,
            range,
        }
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
