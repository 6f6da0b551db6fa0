// SPDX-License-Identifier: GPL-2.0

//! What the kernel says of two functions, asked through the module `p2pdma_test`.

use std::fs::File;
use std::io;
use std::os::fd::AsRawFd as _;

use crate::device::sysfs;

/// `struct p2pdma_test_distance` of p2pdma_test_uapi.h.
#[repr(C)]
struct Distance {
    size: u32,
    flags: u32,
    provider: u64,
    clients: u64,
    nr_clients: u32,
    reserved: u32,
    ret: i64,
}

/// `P2PDMA_TEST_IOC_DISTANCE`: `_IO(P2PDMA_TEST_TYPE, P2PDMA_TEST_NR_DISTANCE)`.
const IOCTL_DISTANCE: libc::c_ulong = 0xbb0a;

/// The module's device.
#[derive(Debug)]
pub struct Harness(File);

impl Harness {
    /// Opens it, if it is there.
    ///
    /// # Errors
    ///
    /// `ENOENT` if the module is not loaded, `EPERM` without `CAP_SYS_ADMIN`, and `ENOTTY` if
    /// something else has its name.
    pub fn open() -> io::Result<Self> {
        let file = File::options()
            .read(true)
            .write(true)
            .open("/dev/p2pdma_test")?;
        match sysfs(&file)?.ends_with("misc/p2pdma_test") {
            true => Ok(Harness(file)),
            false => Err(io::Error::from_raw_os_error(libc::ENOTTY)),
        }
    }

    /// The distance between two functions by `pci_p2pdma_distance_many()`, or `None` if the kernel
    /// refuses the pair. Functions are domain, bus, device and function in one number:
    /// `domain << 16 | bus << 8 | device << 3 | function`. Neither needs a pool or a driver.
    ///
    /// # Errors
    ///
    /// That of the call: `ENODEV` if there is no such function.
    pub fn distance(&self, provider: u64, client: u64) -> io::Result<Option<u64>> {
        let mut asked = Distance {
            size: size_of::<Distance>() as u32,
            flags: 0,
            provider,
            clients: (&raw const client) as u64,
            nr_clients: 1,
            reserved: 0,
            ret: 0,
        };
        let fd = self.0.as_raw_fd();
        // SAFETY: The file is the module's device, which `open()` has checked. It reads a structure
        // whose first member is its size, and writes no more than that, which is `asked`; it reads
        // one number at `clients`, where `client` is, which lives longer than the call.
        let result = unsafe { libc::ioctl(fd, IOCTL_DISTANCE, &raw mut asked) };
        if result == -1 {
            return Err(io::Error::last_os_error());
        }
        Ok(u64::try_from(asked.ret).ok())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HEADER: &str = include_str!("../../testing/selftests/p2pdma/p2pdma_test_uapi.h");

    /// The structure and the number are those of the header.
    #[test]
    fn the_abi_is_the_headers() {
        let numbers = HEADER.split_once("enum p2pdma_test_nr {").expect("it").1;
        let numbers = numbers.split_once('}').expect("its end").0;
        let place = numbers
            .lines()
            .map(str::trim)
            .filter(|line| !line.is_empty())
            .position(|line| line == "P2PDMA_TEST_NR_DISTANCE,");
        assert!(HEADER.contains("#define P2PDMA_TEST_TYPE\t0xBB\n"));
        assert_eq!(place, Some(IOCTL_DISTANCE as usize & 0xff));
        let members = HEADER
            .split_once("struct p2pdma_test_distance {")
            .expect("it")
            .1;
        let members = members.split_once('}').expect("its end").0;
        let words: Vec<_> = members.split_whitespace().collect();
        let expected = "__u32 size; __u32 flags; __u64 provider; __u64 clients; __u32 nr_clients; \
                        __u32 reserved; __s64 ret;";
        assert_eq!(words.join(" "), expected);
        assert_eq!(size_of::<Distance>(), 40);
    }
}
