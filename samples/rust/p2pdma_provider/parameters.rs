// SPDX-License-Identifier: GPL-2.0

//! The module's parameters.

#![forbid(unsafe_code)]

use crate::module_parameters;
use core::num::NonZero;
use kernel::{
    pci,
    prelude::*, //
};
use p2pdma::{
    compat::parameter,
    provider::range::NUM_BARS, //
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
        let bar = parameter(&module_parameters::bar);
        let bar = match u8::try_from(bar) {
            Ok(bar) if bar < NUM_BARS => Some(bar),
            Err(_) if bar == -1 => None,
            _ => {
                dev_err!(pdev, "parameter bar={}: BARs are 0 to 5\n", bar);
                return Err(EINVAL);
            }
        };

        let split = parameter(&module_parameters::split);
        if !(1..=MAX_SPLIT).contains(&split) {
            dev_err!(pdev, "parameter split={}: use 1 to {}\n", split, MAX_SPLIT);
            return Err(EINVAL);
        }

        let publish = match parameter(&module_parameters::publish) {
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
            offset: parameter(&module_parameters::offset),
            size: NonZero::new(parameter(&module_parameters::size)),
            split,
            publish,
        })
    }
}
