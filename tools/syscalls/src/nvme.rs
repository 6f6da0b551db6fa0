// SPDX-License-Identifier: GPL-2.0

//! NVMe commands to the namespace of a disk, past the block layer.

use std::fs::{self, File};
use std::io;
use std::os::fd::AsRawFd as _;
use std::path::PathBuf;

use vm_memory::{Bytes as _, MmapRegion, VolatileMemory as _};

use crate::device::sysfs;
use crate::direct::address;

/// `struct nvme_passthru_cmd` of linux/nvme_ioctl.h.
#[repr(C)]
#[derive(Default)]
struct Command {
    opcode: u8,
    flags: u8,
    rsvd1: u16,
    nsid: u32,
    cdw2: u32,
    cdw3: u32,
    metadata: u64,
    addr: u64,
    metadata_len: u32,
    data_len: u32,
    cdw10: u32,
    cdw11: u32,
    cdw12: u32,
    cdw13: u32,
    cdw14: u32,
    cdw15: u32,
    timeout_ms: u32,
    result: u32,
}

const IOCTL_ID: libc::c_ulong = 0x4e40;
const IOCTL_ADMIN: libc::c_ulong = 0xc048_4e41;
const IOCTL_IO: libc::c_ulong = 0xc048_4e43;

const ADMIN_IDENTIFY: u8 = 0x06;
const IO_COMPARE: u8 = 0x05;
/// Length of what a controller says of itself.
const IDENTIFY_LEN: usize = 4096;
/// Status: the data are not those of the medium; without the bits for "more" and "do not retry".
const COMPARE_FAILURE: i32 = 0x285;
const STATUS_MASK: i32 = 0x7ff;

/// How a command ended that the controller got.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Compared {
    /// The data are those of the medium.
    Equal,
    /// They are not.
    Different,
    /// The controller answered with another status, status code type and status code.
    Status(u16),
}

impl Compared {
    fn of(status: i32) -> Self {
        match status & STATUS_MASK {
            0 => Compared::Equal,
            COMPARE_FAILURE => Compared::Different,
            other => Compared::Status(other as u16),
        }
    }
}

fn checked(result: libc::c_int) -> io::Result<libc::c_int> {
    match result {
        -1 => Err(io::Error::last_os_error()),
        status => Ok(status),
    }
}

/// Refuses what is no disk of NVMe, to whose driver the numbers belong.
fn is_nvme(disk: &File) -> io::Result<PathBuf> {
    let path = sysfs(disk)?;
    let name = path.file_name().and_then(|name| name.to_str());
    // not a partition either, whose blocks begin elsewhere
    let is_it = name.is_some_and(|name| {
        let digits = |text: &str| !text.is_empty() && text.bytes().all(|c| c.is_ascii_digit());
        let numbers = name
            .strip_prefix("nvme")
            .and_then(|name| name.split_once('n'));
        numbers.is_some_and(|(controller, namespace)| digits(controller) && digits(namespace))
    });
    match is_it {
        true => Ok(path),
        false => Err(io::Error::from_raw_os_error(libc::ENOTTY)),
    }
}

fn namespace(disk: &File) -> io::Result<u32> {
    // SAFETY: NVME_IOCTL_ID takes no argument, and touches no memory of this process. The callers
    // have checked that the file is a disk of NVMe.
    let id = checked(unsafe { libc::ioctl(disk.as_raw_fd(), IOCTL_ID) })?;
    u32::try_from(id).map_err(|_| io::ErrorKind::InvalidData.into())
}

/// Size of a logical block in bytes.
fn block_size(disk: &File) -> io::Result<usize> {
    let mut size: libc::c_int = 0;
    // SAFETY: BLKSSZGET writes an `int` to the address, where there is one. The callers have
    // checked that the file is a disk.
    checked(unsafe { libc::ioctl(disk.as_raw_fd(), libc::BLKSSZGET, &raw mut size) })?;
    usize::try_from(size)
        .ok()
        .filter(|size| *size > 0)
        .ok_or_else(|| io::ErrorKind::InvalidData.into())
}

fn submit(disk: &File, request: libc::c_ulong, command: &mut Command) -> io::Result<i32> {
    // SAFETY: The callers, in this file, have checked that the file is a disk of NVMe. The kernel
    // reads and writes a `struct nvme_passthru_cmd`, which `command` is. What it points to is
    // memory that stays mapped for the call, of the length that the command is given and moves.
    // Nobody has a reference to that memory, as `MmapRegion` gives none but to atomics.
    checked(unsafe { libc::ioctl(disk.as_raw_fd(), request, command) })
}

/// Whether the controller of a disk knows the Compare command: bit 0 of ONCS.
///
/// # Errors
///
/// That of the call: `EACCES` or `EPERM` without `CAP_SYS_ADMIN`, `ENOTTY` of what is no NVMe disk.
pub fn knows_compare(disk: &File) -> io::Result<bool> {
    is_nvme(disk)?;
    let room = MmapRegion::<()>::new(IDENTIFY_LEN).map_err(io::Error::other)?;
    let mut command = Command {
        opcode: ADMIN_IDENTIFY,
        addr: address(&room, 0, IDENTIFY_LEN)? as u64,
        data_len: IDENTIFY_LEN as u32,
        cdw10: 1,
        ..Command::default()
    };
    let status = submit(disk, IOCTL_ADMIN, &mut command)?;
    if status != 0 {
        return Err(io::Error::other(format!("Identify: status {status:#x}")));
    }
    let mut supported = [0; 2];
    let slice = room.as_volatile_slice();
    slice
        .read_slice(&mut supported, 520)
        .map_err(io::Error::other)?;
    Ok(u16::from_le_bytes(supported) & 1 != 0)
}

/// Compares a part of a region with what is on a disk at a position. The controller reads the
/// memory, and nothing is written anywhere.
///
/// # Errors
///
/// That of the call: `EINVAL` if the controller does not reach the memory, `EACCES` or `EPERM`
/// without `CAP_SYS_ADMIN`, `ENOTTY` of what is no NVMe disk;
/// [`Unsupported`](io::ErrorKind::Unsupported) if its blocks have metadata; and
/// [`InvalidInput`](io::ErrorKind::InvalidInput) if the part is not inside of the region, or
/// position and length are not whole blocks of the disk.
pub fn compare(
    disk: &File,
    pos: u64,
    region: &MmapRegion,
    offset: usize,
    len: usize,
) -> io::Result<Compared> {
    let path = is_nvme(disk)?;
    // with metadata in between, a block is longer than it says
    let metadata = fs::read_to_string(path.join("metadata_bytes"));
    if metadata.is_ok_and(|bytes| bytes.trim() != "0") {
        return Err(io::ErrorKind::Unsupported.into());
    }
    let block = block_size(disk)?;
    let addr = address(region, offset, len)? as u64;
    let blocks = len / block;
    // how many there are is one less in the command, in 16 bits
    if len % block != 0 || pos % block as u64 != 0 || !(1..=65536).contains(&blocks) {
        return Err(io::ErrorKind::InvalidInput.into());
    }
    let first = pos / block as u64;
    let mut command = Command {
        opcode: IO_COMPARE,
        nsid: namespace(disk)?,
        addr,
        data_len: u32::try_from(len).map_err(|_| io::ErrorKind::InvalidInput)?,
        cdw10: first as u32,
        cdw11: (first >> 32) as u32,
        cdw12: (blocks - 1) as u32,
        ..Command::default()
    };
    submit(disk, IOCTL_IO, &mut command).map(Compared::of)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_structure_is_the_kernels() {
        assert_eq!(size_of::<Command>(), 72);
        // the size is a part of the number
        assert_eq!((IOCTL_IO >> 16) & 0x3fff, 72);
        assert_eq!(std::mem::offset_of!(Command, addr), 24);
        assert_eq!(std::mem::offset_of!(Command, data_len), 36);
        assert_eq!(std::mem::offset_of!(Command, cdw12), 48);
    }

    #[test]
    fn knows_how_it_ended() {
        assert_eq!(Compared::of(0), Compared::Equal);
        assert_eq!(Compared::of(0x4285), Compared::Different);
        assert_eq!(Compared::of(0x2281), Compared::Status(0x281));
    }

    #[test]
    fn is_for_disks() {
        let file = tempfile::tempfile().expect("a file");
        let region = MmapRegion::new(4096).expect("memory");
        let errors = [
            compare(&file, 0, &region, 0, 4096).err(),
            knows_compare(&file).err(),
            is_nvme(&File::open("/dev/null").expect("it")).err(),
        ];
        for error in errors {
            assert!(error.is_some(), "{error:?}");
        }
    }
}
