// SPDX-License-Identifier: GPL-2.0

//! Which memory of a device to provide.

#![forbid(unsafe_code)]

use crate::{
    choice::{
        refuse,
        Choice, //
    },
    nvme,
    parameters::Parameters, //
};
use kernel::{
    device::Core,
    pci,
    prelude::*, //
};
use p2pdma::provider::{
    self,
    range::BarRange, //
};

/// Chooses; what is wrong with the device's memory, or the parameters, is reported in one line.
pub(crate) fn choose(pdev: &pci::Device<Core<'_>>, parameters: &Parameters) -> Result<Choice> {
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

    Ok(Choice::bar(range.map_err(|e| refuse(pdev, e))?))
}
