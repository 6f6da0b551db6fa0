// SPDX-License-Identifier: GPL-2.0

//! The Controller Memory Buffer of an NVMe controller that no other driver is bound to.

#![forbid(unsafe_code)]

use crate::choice::{
    refuse,
    Choice,
    Parameters, //
};
use kernel::{
    device::Core,
    devres,
    io::Io,
    pci,
    prelude::*, //
};
use p2pdma::{
    cmb::{
        self,
        Cmb, //
    },
    provider,
    range::BarRange, //
};

/// The controller's properties up to the end of CMBSTS.
type Registers<'bound> = pci::Bar<'bound, { cmb::REGISTERS_LEN }>;

/// Finds the CMB, and enables it until the device is unbound; what is wrong is reported in one line.
pub(crate) fn choose(pdev: &pci::Device<Core<'_>>, parameters: &Parameters) -> Result<Choice> {
    let registers: Registers<'_> = pdev.iomap_region_sized(0, c"p2pdma_provider")?;
    let has_cmbmsc = cmb::has_cmbmsc(read_cap(&registers));

    if has_cmbmsc {
        write_cmbmsc(&registers, cmb::CMBMSC_REGISTERS_ONLY);
    }

    let choice = find(pdev, &registers, parameters);

    if has_cmbmsc {
        match &choice {
            Ok((_, bus_address)) => return enable(pdev, registers, *bus_address, choice?.0),
            Err(_) => write_cmbmsc(&registers, cmb::CMBMSC_DISABLED),
        }
    }
    Ok(choice?.0)
}

/// Reads where the CMB is, with the registers that describe it enabled.
///
/// Returns the choice, and the bus address of the start of the whole CMB.
fn find(
    pdev: &pci::Device<Core<'_>>,
    registers: &Registers<'_>,
    parameters: &Parameters,
) -> Result<(Choice, u64)> {
    let cmbloc = registers.read32(cmb::REG_CMBLOC);
    let cmbsz = registers.read32(cmb::REG_CMBSZ);
    let cmb = Cmb::decode(cmbloc, cmbsz).map_err(|e| {
        dev_err!(pdev, "cannot provide peer-to-peer memory: {}\n", e);
        Error::from(e)
    })?;

    let bar = provider::bar(pdev, cmb.bar);
    let limits = provider::limits();
    let range = cmb
        .range(&bar, &limits)
        .and_then(|_| cmb.part(parameters.offset, parameters.size))
        .and_then(|(offset, size)| BarRange::new(&bar, offset, Some(size), &limits))
        .map_err(|e| refuse(pdev, e))?;

    Ok((
        Choice::cmb(range, cmb.takes_data()),
        provider::bus_address(pdev, cmb.bar)?.wrapping_add(cmb.offset),
    ))
}

/// Enables the CMB at `bus_address` until the memory that is registered behind this is released.
fn enable(
    pdev: &pci::Device<Core<'_>>,
    registers: Registers<'_>,
    bus_address: u64,
    choice: Choice,
) -> Result<Choice> {
    let value = cmb::cmbmsc_enable(bus_address).ok_or(EINVAL)?;

    write_cmbmsc(&registers, value);
    if cmb::address_refused(registers.read32(cmb::REG_CMBSTS)) {
        write_cmbmsc(&registers, cmb::CMBMSC_DISABLED);
        dev_err!(
            pdev,
            "the controller refuses its memory buffer at bus address {:#x}\n",
            bus_address
        );
        return Err(EIO);
    }

    // Managed resources are released in reverse order: the pages, which are registered later, go
    // first. Until then devices may still access the memory.
    devres::register(
        pdev.as_ref(),
        DisableOnRelease(registers.into_devres()?),
        GFP_KERNEL,
    )?;
    Ok(choice)
}

/// Disables the CMB when dropped.
struct DisableOnRelease(pci::DevresBar<{ cmb::REGISTERS_LEN }>);

impl Drop for DisableOnRelease {
    fn drop(&mut self) {
        if let Some(registers) = self.0.try_access() {
            write_cmbmsc(&registers, cmb::CMBMSC_DISABLED);
        }
    }
}

/// Reads CAP in two halves: not every controller takes reads of 64 bits.
fn read_cap(registers: &Registers<'_>) -> u64 {
    u64::from(registers.read32(cmb::REG_CAP)) | u64::from(registers.read32(cmb::REG_CAP + 4)) << 32
}

/// Writes CMBMSC in two halves, the upper one first: not every controller takes writes of
/// 64 bits, and the enable bits are in the lower half.
fn write_cmbmsc(registers: &Registers<'_>, value: u64) {
    // CAST: The halves.
    registers.write32((value >> 32) as u32, cmb::REG_CMBMSC + 4);
    registers.write32(value as u32, cmb::REG_CMBMSC);
}
