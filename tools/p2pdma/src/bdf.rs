// SPDX-License-Identifier: GPL-2.0

//! PCI addresses.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// Address of a PCI function: domain, bus, device and function.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Bdf {
    domain: u32,
    bus: u8,
    device: u8,
    function: u8,
}

impl Bdf {
    /// Domain and bus.
    pub fn bus(self) -> (u32, u8) {
        (self.domain, self.bus)
    }

    /// All of it in one number, as the module `p2pdma_test` has it.
    pub fn number(self) -> u64 {
        let numbers = [
            u64::from(self.domain) << 16,
            u64::from(self.bus) << 8,
            u64::from(self.device) << 3,
            u64::from(self.function),
        ];
        numbers.into_iter().fold(0, |all, one| all | one)
    }

    /// Device and function as they stand in a path of ports: `1f.7`.
    pub fn slot(self) -> String {
        format!("{:02x}.{:x}", self.device, self.function)
    }

    /// Whether it is function 0 of device 0 on its bus.
    pub fn is_slot_zero(self) -> bool {
        self.device == 0 && self.function == 0
    }
}

/// The text is not a PCI address.
#[derive(Debug, PartialEq, Eq)]
pub struct NotABdf(String);

impl fmt::Display for NotABdf {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "'{}' is not a PCI address such as 0000:03:00.0 or 03:00.0",
            self.0
        )
    }
}

impl std::error::Error for NotABdf {}

impl FromStr for Bdf {
    type Err = NotABdf;

    /// Takes `0000:03:00.0` as in sysfs, and `03:00.0` as lspci writes it in domain 0.
    fn from_str(text: &str) -> Result<Self, NotABdf> {
        let parse = || {
            let (rest, function) = text.rsplit_once('.')?;
            let (rest, device) = rest.rsplit_once(':')?;
            let (domain, bus) = rest.rsplit_once(':').unwrap_or(("0", rest));
            let hex = |digits: &str, max_digits: usize, max: u32| {
                let plain = digits.bytes().all(|b| b.is_ascii_hexdigit());
                let value = u32::from_str_radix(digits, 16).ok()?;
                (plain && digits.len() <= max_digits && value <= max).then_some(value)
            };
            Some(Bdf {
                domain: hex(domain, 8, u32::MAX)?,
                bus: u8::try_from(hex(bus, 2, 0xff)?).ok()?,
                device: u8::try_from(hex(device, 2, 0x1f)?).ok()?,
                function: u8::try_from(hex(function, 1, 7)?).ok()?,
            })
        };
        parse().ok_or_else(|| NotABdf(text.to_owned()))
    }
}

impl fmt::Display for Bdf {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{:04x}:{:02x}:{:02x}.{}",
            self.domain, self.bus, self.device, self.function
        )
    }
}

impl<'de> Deserialize<'de> for Bdf {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        text.parse().map_err(serde::de::Error::custom)
    }
}

impl Serialize for Bdf {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn is_one_number() {
        let bdf: Bdf = "10000:e1:1f.7".parse().expect("an address");
        assert_eq!(bdf.number(), 0x1_0000_e1ff);
    }

    #[test]
    fn reads_what_sysfs_and_lspci_write() {
        for (text, shown) in [
            ("0000:03:00.0", "0000:03:00.0"),
            ("03:00.0", "0000:03:00.0"),
            ("10000:e1:1f.7", "10000:e1:1f.7"),
        ] {
            assert_eq!(text.parse::<Bdf>().map(|b| b.to_string()), Ok(shown.into()));
        }
    }

    #[test]
    fn refuses_what_is_none() {
        for text in [
            "",
            "0000",
            "03:00",
            "0000:03:20.0",
            "0000:03:00.8",
            "0000:100:00.0",
            "pci0000:00",
            "0000:+3:00.0",
            "0000:03:00.0 ",
            "nvme0n1",
            "000:3:0.00",
            ":03:00.0",
        ] {
            assert!(text.parse::<Bdf>().is_err(), "{text}");
        }
    }

    #[test]
    fn orders_by_place() {
        let mut all: Vec<Bdf> = ["0001:00:00.0", "00:1f.0", "00:02.1", "00:02.0"]
            .iter()
            .filter_map(|t| t.parse().ok())
            .collect();
        all.sort();
        let shown: Vec<_> = all.iter().map(Bdf::to_string).collect();
        assert_eq!(
            shown,
            [
                "0000:00:02.0",
                "0000:00:02.1",
                "0000:00:1f.0",
                "0001:00:00.0"
            ]
        );
    }
}
