// SPDX-License-Identifier: GPL-2.0

//! The Controller Memory Buffer of an NVMe controller that no other driver is bound to.

#![forbid(unsafe_code)]

use crate::{
    choice::{
        refuse,
        Choice, //
    },
    parameters::Parameters, //
};
use kernel::{
    device::Core,
    devres,
    io::Io,
    pci,
    prelude::*,
    sync::Arc, //
};
use p2pdma::{
    compat::DevresBar,
    provider::{
        self,
        cmb::{
            self,
            Cmb,
            CmbError, //
        },
        range::BarRange, //
    }, //
};

/// The controller's properties up to the end of CMBSTS.
type Registers<'bound> = pci::Bar<'bound, { cmb::REGISTERS_LEN }>;

/// The registers of a controller that is there, and not at work.
fn idle<'bound>(pdev: &'bound pci::Device<Core<'_>>) -> Result<Registers<'bound>> {
    let registers: Registers<'_> = pdev
        .iomap_region_sized(0, c"p2pdma_provider")
        .inspect_err(|e| dev_err!(pdev, "cannot map the controller's registers: {:?}\n", e))?;

    let cap = read_cap(&registers);
    if cmb::registers_gone(cap) {
        return Err(refuse(pdev, CmbError::Gone));
    }
    if cmb::controller_works(
        registers.read32(cmb::REG_CC),
        registers.read32(cmb::REG_CSTS),
    ) {
        dev_err!(
            pdev,
            "the controller is enabled: bind the nvme driver and unbind it, which shuts it down\n"
        );
        return Err(EBUSY);
    }
    Ok(registers)
}

/// Finds the CMB, and enables it until the device is unbound; what is wrong is reported in one
/// line.
pub(crate) fn choose(pdev: &pci::Device<Core<'_>>, parameters: &Parameters) -> Result<Choice> {
    let registers = idle(pdev)?;
    let (cmb, range) = if cmb::has_cmbmsc(read_cap(&registers)) {
        enable(pdev, registers, parameters)?
    } else {
        find(pdev, &registers, parameters)?
    };

    Ok(Choice::cmb(range, cmb.takes_data()))
}

/// Refuses BAR `bar`, named by the user, if the CMB is in it: there is no memory before the
/// controller is told so. What is wrong is reported in one line.
pub(crate) fn refuse_cmb(pdev: &pci::Device<Core<'_>>, bar: u8) -> Result {
    let registers = idle(pdev)?;
    let hidden = cmb::has_cmbmsc(read_cap(&registers));

    if hidden {
        write_cmbmsc(&registers, cmb::CMBMSC_REGISTERS_ONLY);
    }
    let cmb = Cmb::decode(
        registers.read32(cmb::REG_CMBLOC),
        registers.read32(cmb::REG_CMBSZ),
    );
    if hidden {
        write_cmbmsc(&registers, cmb::CMBMSC_DISABLED);
    }

    if cmb.is_ok_and(|cmb| cmb.bar == bar) {
        dev_err!(
            pdev,
            "parameter bar={}: that BAR holds the controller's memory buffer; leave out bar= to \
             provide it\n",
            bar
        );
        return Err(EINVAL);
    }
    Ok(())
}

/// Finds and enables a CMB of the 1.4 scheme.
fn enable(
    pdev: &pci::Device<Core<'_>>,
    registers: Registers<'_>,
    parameters: &Parameters,
) -> Result<(Cmb, BarRange)> {
    // Managed resources are released in reverse order: the pages, which are registered later, go
    // first. Until then devices may still access the memory.
    let registers = Arc::new(registers.into_devres()?, GFP_KERNEL)?;
    devres::register::<DisableOnRelease, Error>(
        pdev.as_ref(),
        Ok(DisableOnRelease(registers.clone())),
        GFP_KERNEL,
    )?;

    let registers = registers.access(pdev.as_ref())?;
    write_cmbmsc(registers, cmb::CMBMSC_REGISTERS_ONLY);

    let (cmb, range) = find(pdev, registers, parameters)?;
    let address = provider::bus_address(pdev, cmb.bar)?.wrapping_add(cmb.offset);

    if let Some(value) = cmb::cmbmsc_enable(address) {
        write_cmbmsc(registers, value);
        if !cmb::address_refused(registers.read32(cmb::REG_CMBSTS)) {
            return Ok((cmb, range));
        }
    }
    dev_err!(
        pdev,
        "the controller refuses its memory buffer at bus address {:#x}\n",
        address
    );
    Err(EIO)
}

/// Reads where the CMB is, and which part of it is asked for.
fn find(
    pdev: &pci::Device<Core<'_>>,
    registers: &Registers<'_>,
    parameters: &Parameters,
) -> Result<(Cmb, BarRange)> {
    let cmbloc = registers.read32(cmb::REG_CMBLOC);
    let cmbsz = registers.read32(cmb::REG_CMBSZ);
    let cmb = Cmb::decode(cmbloc, cmbsz).map_err(|e| refuse(pdev, e))?;
    let bar = provider::bar(pdev, cmb.bar);
    let range = cmb
        .range(
            &bar,
            parameters.offset,
            parameters.size,
            &provider::limits(),
        )
        .map_err(|e| refuse(pdev, e))?;

    Ok((cmb, range))
}

/// Disables the CMB when dropped.
struct DisableOnRelease(Arc<DevresBar<{ cmb::REGISTERS_LEN }>>);

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

/// Writes CMBMSC in two halves, the upper one first: not every controller takes writes of 64 bits,
/// and the enable bits are in the lower half.
fn write_cmbmsc(registers: &Registers<'_>, value: u64) {
    // CAST: The halves.
    registers.write32((value >> 32) as u32, cmb::REG_CMBMSC + 4);
    registers.write32(value as u32, cmb::REG_CMBMSC);
}
