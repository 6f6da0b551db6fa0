// SPDX-License-Identifier: GPL-2.0

//! The registers of an NVMe controller that describe its Controller Memory Buffer (CMB).
//!
//! Pure decoding, on [`core`] alone: the same file is compiled into the kernel module and into the
//! unit tests that run on the host. Names are those of the NVM Express Base Specification, section
//! "Controller Properties"; the C counterpart is `nvme_map_cmb()` in
//! [`drivers/nvme/host/pci.c`](srctree/drivers/nvme/host/pci.c).

use super::range::{
    self,
    Bar,
    BarRange,
    Limits,
    RangeError, //
};
use core::{
    fmt,
    num::NonZero, //
};

/// Offset of CAP, Controller Capabilities (64 bits), in BAR 0.
pub const REG_CAP: usize = 0x00;
/// Offset of CMBLOC, Controller Memory Buffer Location (32 bits).
pub const REG_CMBLOC: usize = 0x38;
/// Offset of CMBSZ, Controller Memory Buffer Size (32 bits).
pub const REG_CMBSZ: usize = 0x3c;
/// Offset of CMBMSC, Controller Memory Buffer Memory Space Control (64 bits).
pub const REG_CMBMSC: usize = 0x50;

/// Offset of CMBSTS, Controller Memory Buffer Status (32 bits).
pub const REG_CMBSTS: usize = 0x58;
/// Size of the properties up to the end of CMBSTS, in bytes.
pub const REGISTERS_LEN: usize = REG_CMBSTS + 4;

/// CAP.CMBS: the controller has the 1.4 scheme, in which CMBLOC and CMBSZ read as zero until
/// CMBMSC.CRE is set.
const CAP_CMBS: u64 = 1 << 57;
/// CMBMSC.CRE, Capabilities Registers Enabled.
const CMBMSC_CRE: u64 = 1 << 0;
/// CMBMSC.CMSE, Controller Memory Space Enable.
const CMBMSC_CMSE: u64 = 1 << 1;

/// CMBSTS.CBAI, Controller Base Address Invalid.
const CMBSTS_CBAI: u32 = 1 << 0;

/// CMBMSC with everything disabled.
pub const CMBMSC_DISABLED: u64 = 0;
/// CMBMSC with the registers visible and the memory space still disabled.
pub const CMBMSC_REGISTERS_ONLY: u64 = CMBMSC_CRE;

/// Whether CAP says that the controller has the 1.4 scheme (CAP.CMBS).
///
/// A controller without it (QEMU: `legacy-cmb=on`) shows CMBLOC and CMBSZ at once and has no
/// CMBMSC.
pub fn has_cmbmsc(cap: u64) -> bool {
    cap & CAP_CMBS != 0
}

/// CMBMSC that enables the CMB for peers that address it at `bus_address`.
///
/// Bits 11:0 of the controller base address (CBA) do not exist: [`None`] if one of them is set.
pub fn cmbmsc_enable(bus_address: u64) -> Option<u64> {
    (bus_address & 0xfff == 0).then_some(bus_address | CMBMSC_CRE | CMBMSC_CMSE)
}

/// Whether CMBSTS says that the controller does not accept the address in CMBMSC
/// (CMBSTS.CBAI).
pub fn address_refused(cmbsts: u32) -> bool {
    cmbsts & CMBSTS_CBAI != 0
}

/// Where the CMB is and what it may be used for, decoded from CMBLOC and CMBSZ.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cmb {
    /// BAR that holds it (CMBLOC.BIR).
    pub bar: u8,
    /// Offset in that BAR, in bytes (CMBLOC.OFST in units of CMBSZ.SZU).
    pub offset: u64,
    /// Size in bytes (CMBSZ.SZ in units of CMBSZ.SZU).
    pub size: NonZero<u64>,
    /// Commands that move data from the controller to the host may use it (CMBSZ.RDS).
    pub reads: bool,
    /// Commands that move data from the host to the controller may use it (CMBSZ.WDS).
    pub writes: bool,
}

/// Why there is no CMB to use.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CmbError {
    /// CMBSZ is zero: the controller has none, or the 1.4 scheme was not switched on.
    None,
    /// CMBSZ.SZ is zero while other fields are set.
    NoSize {
        /// CMBSZ as read.
        cmbsz: u32,
    },
    /// CMBSZ.SZU is one of the reserved values.
    ReservedUnit {
        /// CMBSZ.SZU as read.
        szu: u8,
    },
    /// CMBLOC.BIR is not 0, 2, 3, 4 or 5.
    BadBar {
        /// CMBLOC.BIR as read.
        bir: u8,
    },
    /// The register reads all ones: the device is gone, or its memory space is off.
    Gone,
}

impl fmt::Display for CmbError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Self::None => f.write_str("the controller has no memory buffer (CMBSZ is 0)"),
            Self::NoSize { cmbsz } => {
                write!(f, "the memory buffer has no size (CMBSZ is {cmbsz:#010x})")
            }
            Self::ReservedUnit { szu } => write!(f, "CMBSZ.SZU is the reserved value {szu}"),
            Self::BadBar { bir } => write!(f, "CMBLOC.BIR is {bir}, not 0, 2, 3, 4 or 5"),
            Self::Gone => f.write_str("the controller's registers read all ones"),
        }
    }
}

impl Cmb {
    /// Decodes CMBLOC and CMBSZ.
    ///
    /// # Errors
    ///
    /// See [`CmbError`]. Whether the buffer lies within its BAR is not checked here: that is for
    /// [`Self::range()`].
    pub fn decode(cmbloc: u32, cmbsz: u32) -> Result<Self, CmbError> {
        match cmbsz {
            0 => return Err(CmbError::None),
            u32::MAX => return Err(CmbError::Gone),
            _ => (),
        }

        let szu = (cmbsz >> 8) & 0xf;
        // 0: 4 KiB, then each step 16 times the one before, up to 6: 64 GiB.
        if szu > 6 {
            return Err(CmbError::ReservedUnit { szu: szu as u8 });
        }
        let unit = 1u64 << (12 + 4 * szu);

        // Twenty bits times at most 2^36: no overflow.
        let size = NonZero::new(u64::from(cmbsz >> 12) * unit).ok_or(CmbError::NoSize { cmbsz })?;
        let offset = u64::from(cmbloc >> 12) * unit;

        let bir = (cmbloc & 0x7) as u8;
        if !matches!(bir, 0 | 2..=5) {
            return Err(CmbError::BadBar { bir });
        }

        Ok(Self {
            bar: bir,
            offset,
            size,
            reads: cmbsz & (1 << 3) != 0,
            writes: cmbsz & (1 << 4) != 0,
        })
    }

    /// The whole buffer as a range of `bar`.
    ///
    /// # Errors
    ///
    /// As [`BarRange::new()`].
    pub fn range(&self, bar: &Bar, limits: &Limits) -> Result<BarRange, RangeError> {
        BarRange::new(bar, self.offset, Some(self.size), limits)
    }

    /// A part of the buffer, `size` bytes from `offset`, or all from `offset` where `size` is
    /// [`None`]; returns its offset in the BAR, and its size.
    ///
    /// # Errors
    ///
    /// [`RangeError::Wraps`] or [`RangeError::PastCmb`].
    pub fn part(
        &self,
        offset: u64,
        size: Option<NonZero<u64>>,
    ) -> Result<(u64, NonZero<u64>), RangeError> {
        let size = range::part(self.size.get(), offset, size, |end| RangeError::PastCmb {
            end,
            len: self.size.get(),
        })?;

        // At most twenty bits, and twenty bits more, times 2^36: does not wrap.
        Ok((self.offset + offset, size))
    }

    /// Whether the buffer may be published: it takes reads and writes of data.
    pub fn takes_data(&self) -> bool {
        self.reads && self.writes
    }
}
