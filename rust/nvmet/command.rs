// SPDX-License-Identifier: GPL-2.0

//! Commands and their completion status, as the NVMe specifications lay them out.
//!
//! C header: [`include/linux/nvme.h`](srctree/include/linux/nvme.h)
//!
//! Place: `drivers/nvme/target/rust/command.rs`, kept by NVM EXPRESS TARGET DRIVER.

use crate::bindings;
use core::fmt;

/// Size of a command in bytes (a submission queue entry).
pub const COMMAND_SIZE: usize = 64;

/// A command as it arrives at the target, little endian.
///
/// Any 64 bytes are a command: it is the core's business to refuse what makes no sense, as it has
/// to for commands of any host.
///
/// C: `struct nvme_command`.
#[doc(alias = "nvme_command")]
#[derive(Clone, Copy)]
#[repr(C, align(8))]
pub struct Command([u8; COMMAND_SIZE]);

/// What fabrics commands and their data need in `flags`: the data pointer holds an SGL.
const FLAGS: u8 = bindings::NVME_CMD_SGL_METABUF as u8;

/// The bytes of a command's C structure.
macro_rules! bytes_of {
    ($command:expr, $ty:ty) => {{
        let command: $ty = $command;

        // SAFETY: Both have the same size, which `transmute()` checks; all fields of the C
        // structure are integers, or arrays of them, without padding in between, and any bytes are
        // valid for an array of `u8`.
        Command(unsafe { core::mem::transmute::<$ty, [u8; COMMAND_SIZE]>(command) })
    }};
}

impl Command {
    /// A command of which only the bytes are known.
    pub const fn from_bytes(bytes: [u8; COMMAND_SIZE]) -> Self {
        Self(bytes)
    }

    /// The bytes.
    pub const fn as_bytes(&self) -> &[u8; COMMAND_SIZE] {
        &self.0
    }

    /// The opcode (CDW0, bits 7:0).
    pub const fn opcode(&self) -> u8 {
        self.0[0]
    }

    /// The namespace (CDW1).
    pub fn nsid(&self) -> u32 {
        let mut bytes = [0; 4];

        bytes.copy_from_slice(&self.0[4..8]);
        u32::from_le_bytes(bytes)
    }

    /// First block of a Read, a Write, or what else has it there (CDW10 and CDW11).
    pub fn slba(&self) -> u64 {
        let mut bytes = [0; 8];

        bytes.copy_from_slice(&self.0[40..48]);
        u64::from_le_bytes(bytes)
    }

    /// Read or Write.
    fn rw(opcode: u32, nsid: u32, slba: u64, blocks: u16) -> Self {
        bytes_of!(
            bindings::nvme_rw_command {
                // CAST: Opcodes have 8 bits.
                opcode: opcode as u8,
                flags: FLAGS,
                nsid: nsid.to_le(),
                slba: slba.to_le(),
                length: blocks.to_le(),
                ..Default::default()
            },
            bindings::nvme_rw_command
        )
    }

    /// Read of `blocks` + 1 blocks from `slba` on.
    #[doc(alias = "nvme_cmd_read")]
    pub fn read(nsid: u32, slba: u64, blocks: u16) -> Self {
        Self::rw(bindings::nvme_opcode_nvme_cmd_read, nsid, slba, blocks)
    }

    /// Write of `blocks` + 1 blocks from `slba` on.
    #[doc(alias = "nvme_cmd_write")]
    pub fn write(nsid: u32, slba: u64, blocks: u16) -> Self {
        Self::rw(bindings::nvme_opcode_nvme_cmd_write, nsid, slba, blocks)
    }

    /// Connect of queue `qid`, `size` - 1 in `sqsize`.
    #[doc(alias = "nvme_fabrics_type_connect")]
    pub(crate) fn connect(qid: u16, sqsize: u16) -> Self {
        bytes_of!(
            bindings::nvmf_connect_command {
                // CAST: Opcodes and types have 8 bits.
                opcode: bindings::nvmf_fabrics_opcode_nvme_fabrics_command as u8,
                resv1: FLAGS,
                fctype: bindings::nvmf_capsule_command_nvme_fabrics_type_connect as u8,
                qid: qid.to_le(),
                sqsize: sqsize.to_le(),
                ..Default::default()
            },
            bindings::nvmf_connect_command
        )
    }

    /// Property Set of CC, Controller Configuration.
    #[doc(alias = "nvme_fabrics_type_property_set")]
    pub fn set_cc(cc: u32) -> Self {
        bytes_of!(
            bindings::nvmf_property_set_command {
                // CAST: Opcodes and types have 8 bits.
                opcode: bindings::nvmf_fabrics_opcode_nvme_fabrics_command as u8,
                resv1: FLAGS,
                fctype: bindings::nvmf_capsule_command_nvme_fabrics_type_property_set as u8,
                offset: bindings::NVME_REG_CC.to_le(),
                value: u64::from(cc).to_le(),
                ..Default::default()
            },
            bindings::nvmf_property_set_command
        )
    }
}

/// CC that enables a controller with the NVM command set: I/O queue entries of 64 and 16 bytes, EN.
pub const CC_ENABLE: u32 = (6 << 16) | (4 << 20) | 1;

/// The status field of a completion, without the phase tag.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Status(u16);

impl Status {
    /// From the little endian field of a completion, with the phase tag in bit 0.
    pub(crate) fn from_cqe(status: u16) -> Self {
        Self(u16::from_le(status) >> 1)
    }

    /// Whether the command was completed without error.
    pub fn is_success(self) -> bool {
        self.code() == 0
    }

    /// Status code type and status code, as in `NVME_SC_…` of the C header.
    pub fn code(self) -> u16 {
        // CAST: The mask has 11 bits.
        self.0 & bindings::NVME_SCT_SC_MASK as u16
    }

    /// All bits: type and code, More (`NVME_STATUS_MORE`) and Do Not Retry (`NVME_STATUS_DNR`).
    pub fn raw(self) -> u16 {
        self.0
    }
}

impl fmt::Debug for Status {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:#06x}", self.0)
    }
}
