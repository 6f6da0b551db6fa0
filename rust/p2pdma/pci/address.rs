// SPDX-License-Identifier: GPL-2.0

//! Addresses of PCI functions.
//!
//! On [`core`] alone: the same file is compiled into the kernel module and into the unit tests that
//! run on the host.
//!
//! In the kernel's tree this would be `rust/kernel/pci/id.rs`, of the maintainers of the PCI
//! subsystem in Rust.

use core::fmt;

/// Address of a PCI function.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Address {
    /// PCI domain (segment).
    pub domain: u32,
    /// Number of the bus in its domain.
    pub bus: u8,
    /// Device on the bus, times 8, plus the function.
    pub devfn: u8,
}

impl Address {
    /// The domain in a name such as `pci_name()` has; 0 if there is none.
    pub(crate) fn domain_in(name: &[u8]) -> u32 {
        let domain = name.split(|&byte| byte == b':').next().unwrap_or(name);
        let domain = core::str::from_utf8(domain).unwrap_or("");

        u32::from_str_radix(domain, 16).unwrap_or(0)
    }

    /// The address as one number: the domain, and 16 bits with bus, device and function as in a
    /// requester ID.
    pub fn to_number(self) -> u64 {
        u64::from(self.domain) << 16 | u64::from(self.bus) << 8 | u64::from(self.devfn)
    }

    /// The address that [`Self::to_number()`] makes `number` of; [`None`] if there is none.
    pub fn from_number(number: u64) -> Option<Self> {
        Some(Self {
            domain: u32::try_from(number >> 16).ok()?,
            // CAST: Eight bits each.
            bus: (number >> 8) as u8,
            devfn: number as u8,
        })
    }
}

/// As `pci_name()` has it.
impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{:04x}:{:02x}:{:02x}.{}",
            self.domain,
            self.bus,
            self.devfn >> 3,
            self.devfn & 7
        )
    }
}

// The same cases run on the host under cargo, and in the kernel as a KUnit suite.
#[cfg(any(test, CONFIG_KUNIT = "y"))]
#[cfg_attr(not(test), kernel::macros::kunit_tests(rust_p2pdma_address))]
mod tests {
    use super::*;
    use core::fmt::Write;

    /// What of a text matches the address that is written to it.
    struct Expected<'a>(&'a str);

    impl Write for Expected<'_> {
        fn write_str(&mut self, s: &str) -> fmt::Result {
            self.0 = self.0.strip_prefix(s).ok_or(fmt::Error)?;
            Ok(())
        }
    }

    fn is_shown_as(domain: u32, bus: u8, devfn: u8, text: &str) -> bool {
        let mut expected = Expected(text);

        write!(expected, "{}", Address { domain, bus, devfn }).is_ok() && expected.0.is_empty()
    }

    #[test]
    fn shown_as_pci_name() {
        assert!(is_shown_as(0, 0, 0, "0000:00:00.0"));
        assert!(is_shown_as(0, 5, 0x0a, "0000:05:01.2"));
        assert!(is_shown_as(0xabc, 0xff, 0xff, "0abc:ff:1f.7"));
        // VMD and others have domains of more than 16 bits.
        assert!(is_shown_as(0x10000, 0x80, 0x08, "10000:80:01.0"));
        assert!(!is_shown_as(0, 0, 1, "0000:00:00.0"));
    }

    #[test]
    fn domain_of_a_name() {
        assert_eq!(Address::domain_in(b"0000:05:01.2"), 0);
        assert_eq!(Address::domain_in(b"0abc:ff:1f.7"), 0xabc);
        assert_eq!(Address::domain_in(b"10000:80:01.0"), 0x10000);
        assert_eq!(Address::domain_in(b""), 0);
        assert_eq!(Address::domain_in(b"\xff:00:00.0"), 0);
    }

    #[test]
    fn number_and_back() {
        for (domain, bus, devfn, number) in [
            (0, 0, 0, 0),
            (0, 5, 0x0a, 0x050a),
            (0xabc, 0xff, 0xff, 0xabc_ffff),
            (0x10000, 0x80, 0x08, 0x1_0000_8008),
            (u32::MAX, 0xff, 0xff, 0xffff_ffff_ffff),
        ] {
            let address = Address { domain, bus, devfn };

            assert_eq!(address.to_number(), number);
            assert_eq!(Address::from_number(number), Some(address));
        }
        // A domain of more than 32 bits.
        assert_eq!(Address::from_number(1 << 48), None);
        assert_eq!(Address::from_number(u64::MAX), None);
    }
}
