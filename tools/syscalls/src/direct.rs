// SPDX-License-Identifier: GPL-2.0

//! One transfer at a time.

use std::fs::File;
use std::io;
use std::os::fd::AsRawFd as _;

use vm_memory::{MmapRegion, VolatileMemory as _};

/// The address of a part of a region, which is checked to be inside.
pub(crate) fn address(region: &MmapRegion, offset: usize, len: usize) -> io::Result<*mut u8> {
    let slice = region
        .get_slice(offset, len)
        .map_err(|error| io::Error::new(io::ErrorKind::InvalidInput, error.to_string()))?;
    Ok(slice.ptr_guard_mut().as_ptr())
}

fn position(pos: u64) -> io::Result<libc::off64_t> {
    libc::off64_t::try_from(pos).map_err(|_| io::Error::from(io::ErrorKind::InvalidInput))
}

fn count(result: libc::ssize_t) -> io::Result<usize> {
    usize::try_from(result).map_err(|_| io::Error::last_os_error())
}

/// Reads from a position of a file into a part of a region, with one `pread()`: the number of
/// bytes that were read.
///
/// # Errors
///
/// That of the call, and [`InvalidInput`](io::ErrorKind::InvalidInput) if the part is not inside
/// of the region.
pub fn read_at(
    file: &File,
    pos: u64,
    region: &MmapRegion,
    offset: usize,
    len: usize,
) -> io::Result<usize> {
    let (to, pos) = (address(region, offset, len)?, position(pos)?);
    // SAFETY: `len` bytes from `to` are inside of the region, which `address()` has checked. It is
    // mapped as long as `region` is borrowed, which is longer than the call. Nobody has a
    // reference to its bytes, as `MmapRegion` gives none but to atomics.
    count(unsafe { libc::pread64(file.as_raw_fd(), to.cast(), len, pos) })
}

/// Writes a part of a region to a position of a file, with one `pwrite()`: the number of bytes
/// that were written.
///
/// # Errors
///
/// That of the call, and [`InvalidInput`](io::ErrorKind::InvalidInput) if the part is not inside
/// of the region.
pub fn write_at(
    file: &File,
    pos: u64,
    region: &MmapRegion,
    offset: usize,
    len: usize,
) -> io::Result<usize> {
    let (from, pos) = (address(region, offset, len)?, position(pos)?);
    // SAFETY: `len` bytes from `from` are inside of the region, which `address()` has checked. It
    // is mapped as long as `region` is borrowed, which is longer than the call, and only read.
    count(unsafe { libc::pwrite64(file.as_raw_fd(), from.cast(), len, pos) })
}

#[cfg(test)]
mod tests {
    use super::*;
    use vm_memory::Bytes as _;

    #[test]
    fn moves_to_and_from_positions() {
        let file = tempfile::tempfile().expect("a file");
        let region = MmapRegion::<()>::new(8192).expect("memory");
        let slice = region.as_volatile_slice();
        slice.write_slice(b"peer", 100).expect("room");
        assert_eq!(write_at(&file, 512, &region, 100, 4).expect("a write"), 4);
        assert_eq!(read_at(&file, 512, &region, 8000, 100).expect("a read"), 4);
        let mut back = [0; 4];
        slice.read_slice(&mut back, 8000).expect("room");
        assert_eq!(&back, b"peer");
        assert_eq!(read_at(&file, 516, &region, 0, 4).expect("the end"), 0);
    }

    #[test]
    fn refuses_what_is_outside() {
        let file = tempfile::tempfile().expect("a file");
        let region = MmapRegion::new(4096).expect("memory");
        for (offset, len) in [(0, 4097), (4096, 1), (1, usize::MAX), (usize::MAX, 1)] {
            let error = read_at(&file, 0, &region, offset, len).expect_err("outside");
            assert_eq!(error.kind(), io::ErrorKind::InvalidInput, "{offset} {len}");
            assert!(write_at(&file, 0, &region, offset, len).is_err());
        }
        assert!(read_at(&file, u64::MAX, &region, 0, 1).is_err());
    }

    #[test]
    fn passes_errors_on() {
        let file = File::open("/").expect("a directory");
        let region = MmapRegion::new(4096).expect("memory");
        let error = read_at(&file, 0, &region, 0, 4096).expect_err("a directory");
        assert_eq!(error.kind(), io::ErrorKind::IsADirectory);
    }
}
