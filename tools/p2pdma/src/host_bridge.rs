// SPDX-License-Identifier: GPL-2.0

//! The kernel's list of host bridges that peer-to-peer traffic may pass.

use std::str::FromStr;

use crate::text::list as list_of;

/// `pci_p2pdma_whitelist[]`, as data.
const LIST: &str = include_str!("../data/host-bridges.txt");

/// The kernels whose list this is: `make unit` compares it with those that are prepared.
pub const COMPARED: &[(u32, u32)] = &[(7, 2), (7, 3)];

/// Their names.
pub fn compared() -> String {
    let names = COMPARED
        .iter()
        .map(|(major, minor)| format!("{major}.{minor}"));
    format!("Linux {}", list_of(&names.collect::<Vec<_>>()))
}

/// Whether a kernel is one of them, or not known.
pub fn is_compared(kernel: Option<(u32, u32)>) -> bool {
    kernel.is_none_or(|kernel| COMPARED.contains(&kernel))
}

/// A line of the list.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Entry {
    /// Vendor id.
    pub vendor: u16,
    /// Device id, or all of the vendor's.
    pub device: Option<u16>,
    /// Only between devices below one host bridge.
    pub same_host_bridge: bool,
    /// Version of the kernel that has it first, if not all that are supported have it.
    pub since: Option<(u32, u32)>,
}

/// The first two numbers of a kernel's release, such as `7.3.4+deb13-amd64`.
pub fn version(release: &str) -> Option<(u32, u32)> {
    let mut numbers = release.split(|c: char| !c.is_ascii_digit());
    Some((numbers.next()?.parse().ok()?, numbers.next()?.parse().ok()?))
}

impl Entry {
    /// Whether it is about a host bridge's first device, and lets traffic pass.
    fn names(&self, ids: (u16, u16)) -> bool {
        self.vendor == ids.0 && self.device.is_none_or(|device| device == ids.1)
    }

    fn allows(&self, same_host_bridge: bool) -> bool {
        same_host_bridge || !self.same_host_bridge
    }
}

/// As on the command line: `8086:3420`, `1ae0:*` or `1b36:000e=same`.
impl FromStr for Entry {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let (ids, same_host_bridge) = match text.split_once('=') {
            Some((ids, "same")) => (ids, true),
            _ => (text, false),
        };
        let id = |word: &str| (word.len() == 4).then(|| u16::from_str_radix(word, 16).ok())?;
        let parsed = ids.split_once(':').and_then(|(vendor, device)| {
            let device = (device != "*").then(|| id(device).ok_or(())).transpose();
            Some((id(vendor)?, device.ok()?))
        });
        let (vendor, device) = parsed.ok_or(
            "it is VENDOR:DEVICE, as lspci -n prints them, or VENDOR:*, with '=same' after it for \
             one that passes only what stays below it",
        )?;
        Ok(Entry {
            vendor,
            device,
            same_host_bridge,
            since: None,
        })
    }
}

fn entry(line: &str) -> Option<Entry> {
    let mut words = line.split_whitespace();
    let mut id = || {
        let word = words.next()?;
        (word != "*").then(|| u16::from_str_radix(word, 16).ok())
    };
    let (vendor, device) = (id()??, id());
    let mut entry = Entry {
        vendor,
        device: device.flatten(),
        same_host_bridge: false,
        since: None,
    };
    for word in words {
        match word.strip_prefix("since=") {
            Some(release) => entry.since = version(release),
            None => entry.same_host_bridge |= word == "same-host-bridge",
        }
    }
    Some(entry)
}

/// The list of a kernel; of the newest that is supported if its version is not known.
pub fn list(kernel: Option<(u32, u32)>) -> impl Iterator<Item = Entry> {
    LIST.lines()
        .filter(|line| !line.starts_with('#'))
        .filter_map(entry)
        .filter(move |entry| match (entry.since, kernel) {
            (Some(since), Some(kernel)) => kernel >= since,
            _ => true,
        })
}

/// What `__host_bridge_whitelist()` says of a host bridge's first device.
pub fn allows(ids: (u16, u16), same_host_bridge: bool, kernel: Option<(u32, u32)>) -> bool {
    list(kernel)
        .find(|entry| entry.names(ids))
        .is_some_and(|entry| entry.allows(same_host_bridge))
}

/// The same of what was added to the kernel's list.
pub fn added(entries: &[Entry], ids: (u16, u16), same_host_bridge: bool) -> bool {
    let mut naming = entries.iter().filter(|entry| entry.names(ids));
    naming.any(|entry| entry.allows(same_host_bridge))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::path::Path;
    use std::{env, fs};

    use super::*;

    #[test]
    fn follows_the_flags() {
        assert!(allows((0x8086, 0x3c00), true, None));
        assert!(!allows((0x8086, 0x3c00), false, None));
        assert!(allows((0x8086, 0x2030), false, None));
        assert!(!allows((0x8086, 0x4c43), true, None));
        assert!(allows((0x1ae0, 0x1234), false, None));
        assert!(allows((0x10de, 0x2f95), false, Some((7, 3))));
        assert!(!allows((0x10de, 0x2f95), false, Some((7, 2))));
    }

    #[test]
    fn knows_what_it_is_the_list_of() {
        assert_eq!(compared(), "Linux 7.2 and 7.3");
        assert!(is_compared(None) && is_compared(Some((7, 2))) && is_compared(Some((7, 3))));
        assert!(!is_compared(Some((5, 10))) && !is_compared(Some((7, 4))));
    }

    #[test]
    fn reads_what_is_added() {
        let of = |text: &str| {
            text.parse::<Entry>()
                .map_err(|why| assert!(!why.is_empty()))
        };
        let entry = of("1b36:000e=same").expect("an entry");
        assert!(added(&[entry], (0x1b36, 0x000e), true));
        assert!(!added(&[entry], (0x1b36, 0x000e), false));
        assert!(!added(&[entry], (0x1b36, 0x000c), true));
        let entries = [entry, of("1b36:*").expect("an entry")];
        assert!(added(&entries, (0x1b36, 0x000e), false));
        assert!(added(&entries, (0x1b36, 0x000c), false));
        for bad in [
            "",
            ":",
            "8086",
            "8086:",
            "8086:34",
            "*:3420",
            "8086:3420=",
            "8086:3420=x",
        ] {
            assert_eq!(of(bad), Err(()), "{bad}");
        }
    }

    #[test]
    fn reads_versions() {
        assert_eq!(version("7.3.4+deb13-amd64"), Some((7, 3)));
        assert_eq!(version("8.0-rc1"), Some((8, 0)));
        assert_eq!(version(""), None);
        assert_eq!(version("next"), None);
    }

    /// The table as the kernel's source has it.
    fn of_the_kernel(source: &Path) -> Vec<(u16, Option<u16>, bool)> {
        let read = |file: &str| fs::read_to_string(source.join(file)).expect(file);
        let ids = read("include/linux/pci_ids.h");
        let ids: BTreeMap<&str, u16> = ids
            .lines()
            .filter_map(|line| {
                let mut words = line.strip_prefix("#define")?.split_whitespace();
                let (name, value) = (words.next()?, words.next()?);
                let value = u16::from_str_radix(value.strip_prefix("0x")?, 16).ok()?;
                Some((name, value))
            })
            .collect();
        let id = |word: &str| match word.strip_prefix("0x") {
            Some(hex) => u16::from_str_radix(hex, 16).expect("a number"),
            None => *ids.get(word).expect(word),
        };
        let code = read("drivers/pci/p2pdma.c");
        let (_, table) = code
            .split_once("pci_p2pdma_whitelist[] = {")
            .expect("the table");
        let (table, _) = table.split_once("\n};").expect("its end");
        table
            .lines()
            .filter_map(|line| {
                let (line, _) = line.trim().strip_prefix('{')?.split_once('}')?;
                let words: Vec<_> = line.split(',').map(str::trim).collect();
                let [vendor, device, flags] = words[..] else {
                    return None;
                };
                assert!(["0", "REQ_SAME_HOST_BRIDGE"].contains(&flags), "{flags}");
                let device = (device != "PCI_ANY_ID").then(|| id(device));
                Some((id(vendor), device, flags != "0"))
            })
            .collect()
    }

    #[test]
    #[ignore = "needs P2PDMA_KERNELS, as `make unit` sets it"]
    fn the_list_is_that_of_each_kernel() {
        let kernels = env::var("P2PDMA_KERNELS").expect("P2PDMA_KERNELS: the kernels' kernel.json");
        let mut compared = 0;
        for kernel in kernels.split_whitespace() {
            let text = fs::read_to_string(kernel).expect(kernel);
            let json: serde_json::Value = serde_json::from_str(&text).expect(kernel);
            let source = Path::new(json["source"].as_str().expect("its source"));
            let makefile = fs::read_to_string(source.join("Makefile")).expect("its Makefile");
            let number = |name: &str| -> u32 {
                let line = makefile.lines().find_map(|line| line.strip_prefix(name));
                let value = line.and_then(|line| line.split_once('=')).expect(name).1;
                value.trim().parse().expect(name)
            };
            let version = (number("VERSION"), number("PATCHLEVEL"));
            let ours: Vec<_> = list(Some(version))
                .map(|entry| (entry.vendor, entry.device, entry.same_host_bridge))
                .collect();
            let theirs = of_the_kernel(source);
            assert!(!theirs.is_empty());
            assert!(is_compared(Some(version)), "{version:?} is not in COMPARED");
            assert_eq!(ours, theirs, "{version:?}: {}", source.display());
            compared += 1;
        }
        assert_ne!(compared, 0, "no kernel to compare with");
    }
}
