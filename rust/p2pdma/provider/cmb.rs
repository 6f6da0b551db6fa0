// SPDX-License-Identifier: GPL-2.0

//! The registers of an NVMe controller that describe its Controller Memory Buffer (CMB).
//!
//! Pure decoding, on [`core`] alone: the same file is compiled into the kernel module and into the
//! unit tests that run on the host. Names are those of the NVM Express Base Specification, section
//! "Controller Properties"; the C counterpart is `nvme_map_cmb()` in
//! [`drivers/nvme/host/pci.c`](srctree/drivers/nvme/host/pci.c).
//!
//! In the kernel's tree this would be beside `drivers/nvme/host/pci.c`, of the maintainers of NVMe.

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
/// Offset of CC, Controller Configuration (32 bits).
pub const REG_CC: usize = 0x14;
/// Offset of CSTS, Controller Status (32 bits).
pub const REG_CSTS: usize = 0x1c;
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
/// CMBMSC with the registers visible, and the memory behind the BAR usable, but without an address
/// that the controller itself would know the memory by.
pub const CMBMSC_REGISTERS_ONLY: u64 = CMBMSC_CRE;

/// Whether CAP reads as all ones, which no controller has: it is gone, or its memory space is off,
/// and nothing else that it reads as means anything.
pub fn registers_gone(cap: u64) -> bool {
    cap == u64::MAX
}

/// Whether CAP says that the controller has the 1.4 scheme (CAP.CMBS).
///
/// A controller without it (QEMU: `legacy-cmb=on`) shows CMBLOC and CMBSZ at once and has no
/// CMBMSC.
pub fn has_cmbmsc(cap: u64) -> bool {
    cap & CAP_CMBS != 0
}

/// Whether CC and CSTS say that the controller works: it is enabled (CC.EN) or still ready
/// (CSTS.RDY), and was not shut down (CSTS.SHST). The kernel's NVMe driver leaves controllers
/// enabled, and shut down.
pub fn controller_works(cc: u32, csts: u32) -> bool {
    const SHST_COMPLETE: u32 = 2;

    (cc & 1 != 0 || csts & 1 != 0) && (csts >> 2) & 3 != SHST_COMPLETE
}

/// CMBMSC with which the CMB is enabled, and the controller takes addresses in its own commands
/// from `bus_address` on as those of its CMB, without a detour over the bus.
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
    /// See [`CmbError`]. Whether the buffer lies within its BAR is checked by [`Self::range()`].
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

    /// A part of the buffer as a range of `bar`: `size` bytes from `offset`, or all from `offset`
    /// where `size` is [`None`].
    ///
    /// # Errors
    ///
    /// - [`RangeError::PastEnd`] if the buffer, the whole of it, is not within the BAR.
    /// - [`RangeError::Wraps`] or [`RangeError::PastCmb`] if the part is not within the buffer.
    /// - As [`BarRange::new()`] for the part.
    pub fn range(
        &self,
        bar: &Bar,
        offset: u64,
        size: Option<NonZero<u64>>,
        limits: &Limits,
    ) -> Result<BarRange, RangeError> {
        range::part(bar.len, self.offset, Some(self.size), |end| {
            RangeError::PastEnd {
                bar: bar.index,
                end,
                len: bar.len,
            }
        })?;

        let size = range::part(self.size.get(), offset, size, |end| RangeError::PastCmb {
            end,
            len: self.size.get(),
        })?;

        // At most twenty bits, and twenty bits more, times 2^36: does not wrap.
        BarRange::new(bar, self.offset + offset, Some(size), limits)
    }

    /// Whether the buffer may be published: it takes reads and writes of data.
    pub fn takes_data(&self) -> bool {
        self.reads && self.writes
    }
}

// The same cases run on the host under cargo, and in the kernel as a KUnit suite.
#[cfg(any(test, CONFIG_KUNIT = "y"))]
#[cfg_attr(not(test), kernel::macros::kunit_tests(rust_p2pdma_cmb))]
mod tests {
    #[cfg(not(test))]
    use kernel::prelude::*;

    use super::{super::range::BarKind, *};

    /// What QEMU's `nvme,cmb_size_mb=64` shows: 64 MiB at the start of BAR 2, for submission
    /// queues, lists and data.
    const QEMU_CMBLOC: u32 = 0x0000_0062;
    const QEMU_CMBSZ: u32 = 0x0004_021d;

    const LIMITS: Limits = Limits {
        align: 1 << 21,
        first: 0,
        last: (1 << 46) - 1,
    };

    fn size(cmbsz: u32) -> Result<u64, CmbError> {
        Cmb::decode(0, cmbsz).map(|cmb| cmb.size.get())
    }

    #[test]
    fn qemu() {
        let facts = Cmb::decode(QEMU_CMBLOC, QEMU_CMBSZ)
            .map(|cmb| (cmb.bar, cmb.offset, cmb.size.get(), cmb.reads, cmb.writes));

        assert_eq!(facts, Ok((2, 0, 64 << 20, true, true)));
    }

    #[test]
    fn scheme() {
        // CAP of QEMU's controller, with the 1.4 scheme and with legacy-cmb=on.
        assert!(has_cmbmsc(0x0240_0080_0f01_07ff | 1 << 57));
        assert!(!has_cmbmsc(0x0040_0080_0f01_07ff));
    }

    #[test]
    fn size_units() {
        // One unit of each: 4 KiB, 64 KiB, 1 MiB, 16 MiB, 256 MiB, 4 GiB, 64 GiB.
        for szu in 0..=6 {
            assert_eq!(size(1 << 12 | szu << 8), Ok(4096u64 << (4 * szu)));
        }
        for szu in 7..=15 {
            assert_eq!(
                size(1 << 12 | szu << 8),
                Err(CmbError::ReservedUnit { szu: szu as u8 })
            );
        }
        // The most that can be said.
        assert_eq!(size(0xfffff << 12 | 6 << 8), Ok(0xfffff << 36));
    }

    #[test]
    fn no_buffer() {
        assert_eq!(size(0), Err(CmbError::None));
        assert_eq!(size(0x0000_021d), Err(CmbError::NoSize { cmbsz: 0x21d }));
        assert_eq!(size(u32::MAX), Err(CmbError::Gone));
    }

    #[test]
    fn location() {
        let location = |cmbloc| Cmb::decode(cmbloc, QEMU_CMBSZ).map(|cmb| (cmb.bar, cmb.offset));

        assert_eq!(location(0x0000_0000), Ok((0, 0)));
        // 16 units of 1 MiB into BAR 4.
        assert_eq!(location(0x0001_0004), Ok((4, 16 << 20)));
        assert_eq!(location(0xffff_f005), Ok((5, 0xfffff << 20)));
        for bir in [1, 6, 7] {
            assert_eq!(location(bir), Err(CmbError::BadBar { bir: bir as u8 }));
        }
    }

    #[test]
    fn data() {
        let takes_data = |bits: u32| Cmb::decode(0, 1 << 12 | bits).map(|cmb| cmb.takes_data());

        // Submission queues, completion queues and lists only.
        assert_eq!(takes_data(0x07), Ok(false));
        // Reads only, writes only, both.
        assert_eq!(takes_data(0x08), Ok(false));
        assert_eq!(takes_data(0x10), Ok(false));
        assert_eq!(takes_data(0x18), Ok(true));
    }

    fn range(cmbloc: u32, bar: u64, offset: u64, size: u64) -> Result<(u64, u64), RangeError> {
        let bar = Bar {
            index: 2,
            kind: BarKind::Memory,
            prefetchable: true,
            start: 0xf000_0000,
            len: bar,
        };

        match Cmb::decode(cmbloc, QEMU_CMBSZ) {
            Ok(cmb) => cmb.range(&bar, offset, NonZero::new(size), &LIMITS),
            Err(_) => Err(RangeError::Absent { bar: 2 }),
        }
        .map(|range| (range.offset(), range.size().get()))
    }

    #[test]
    fn larger_than_bar() {
        let past_end = Err(RangeError::PastEnd {
            bar: 2,
            end: 64 << 20,
            len: 32 << 20,
        });

        assert_eq!(range(QEMU_CMBLOC, 64 << 20, 0, 0), Ok((0, 64 << 20)));
        assert_eq!(range(QEMU_CMBLOC, 32 << 20, 0, 0), past_end);
        // A part that would fit does not help.
        assert_eq!(range(QEMU_CMBLOC, 32 << 20, 0, 2 << 20), past_end);
    }

    #[test]
    fn part() {
        // 64 MiB, 16 MiB into the BAR.
        let part = |offset, size| range(0x0001_0002, 128 << 20, offset, size);
        let past_end = |end| Err(RangeError::PastCmb { end, len: 64 << 20 });

        assert_eq!(part(0, 0), Ok((16 << 20, 64 << 20)));
        assert_eq!(part(2 << 20, 4 << 20), Ok((18 << 20, 4 << 20)));
        assert_eq!(part(64 << 20, 0), past_end(64 << 20));
        assert_eq!(part(62 << 20, 4 << 20), past_end(66 << 20));
        assert_eq!(
            part(1, u64::MAX),
            Err(RangeError::Wraps {
                offset: 1,
                size: u64::MAX
            })
        );
    }

    #[test]
    fn aligned_part() {
        // 1 MiB into the BAR: the whole is misaligned, a part is not.
        assert!(matches!(
            range(0x0000_1002, 128 << 20, 0, 0),
            Err(RangeError::Misaligned { .. })
        ));
        assert_eq!(
            range(0x0000_1002, 128 << 20, 1 << 20, 2 << 20),
            Ok((2 << 20, 2 << 20))
        );
    }

    #[test]
    fn works() {
        // Reset; enabled and ready; being enabled; being disabled.
        assert!(!controller_works(0x0046_0000, 0));
        assert!(controller_works(0x0046_0001, 1));
        assert!(controller_works(0x0046_0001, 0));
        assert!(controller_works(0x0046_0000, 1));
        // Shutting down; shut down, as the NVMe driver leaves it.
        assert!(controller_works(0x0046_4001, 1 << 2 | 1));
        assert!(!controller_works(0x0046_4001, 2 << 2 | 1));
    }

    #[test]
    fn a_controller_that_is_gone() {
        assert!(registers_gone(u64::MAX));
        // QEMU's, with and without the 1.4 scheme.
        assert!(!registers_gone(0x0a34_0103_0f01_07ff));
        assert!(!registers_gone(0x0834_0103_0f01_07ff));
        // All that is not reserved.
        assert!(!registers_gone(u64::MAX >> 1));
        // It would be taken for one at work.
        assert!(controller_works(u32::MAX, u32::MAX));
    }

    #[test]
    fn memory_space_control() {
        assert_eq!(cmbmsc_enable(0xf000_0000), Some(0xf000_0003));
        assert_eq!(cmbmsc_enable(0x40_0000_0000), Some(0x40_0000_0003));
        assert_eq!(cmbmsc_enable(0xf000_0800), None);
        assert!(address_refused(1));
        assert!(!address_refused(0));
    }
}
