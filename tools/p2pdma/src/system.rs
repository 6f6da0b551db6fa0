// SPDX-License-Identifier: GPL-2.0

//! What the kernel was built with, what it can map, and what this program may do here.

use std::io::Read as _;

use serde::Serialize;

use crate::text::printable_line;
use crate::tree::Tree;

/// Physical addresses that the kernel can map.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct LinearMap {
    /// The first.
    pub first: u64,
    /// The last.
    pub last: u64,
    /// What that was found out from: a file, and what is in it.
    pub evidence: String,
}

/// The kernel and the surroundings of this program. All of it may be unknown.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct System {
    /// The kernel was built with CONFIG_PCI_P2PDMA.
    pub p2pdma: Option<bool>,
    /// Where that is written.
    pub config: Option<String>,
    /// Physical addresses that the linear map can hold.
    pub linear_map: Option<LinearMap>,
    /// The container that this runs in, if it does.
    pub container: Option<String>,
    /// Whether this program may do what root may (CAP_SYS_ADMIN).
    pub privileged: Option<bool>,
    /// What is not there of /sys and /proc.
    pub missing: Vec<String>,
    /// In a container, the disks and controllers that have a device node.
    pub nodes: Option<Vec<String>>,
}

/// What is there on every machine with PCI devices, but not in every container.
const PARTS: &[&str] = &["sys/bus/pci/drivers", "sys/class/block", "proc/self"];

/// Options of the kernel's configuration that matter here.
const OPTIONS: &[&str] = &["CONFIG_PCI_P2PDMA", "CONFIG_ARM64_VA_BITS"];

/// Number of the capability CAP_SYS_ADMIN.
const CAP_SYS_ADMIN: u32 = 21;

/// The lines of a kernel's configuration that matter here.
pub fn options_of_interest(text: &str) -> String {
    let of_interest = |line: &&str| OPTIONS.iter().any(|option| line.contains(option));
    text.split_inclusive('\n').filter(of_interest).collect()
}

/// The line of /proc/self/status that matters here.
pub fn status_of_interest(text: &str) -> String {
    let of_interest = |line: &&str| line.starts_with("CapEff:");
    text.split_inclusive('\n').filter(of_interest).collect()
}

/// The kernel's configuration, and where it was found.
fn config(tree: &Tree, release: Option<&str>) -> Option<(String, String)> {
    let plain = release.map(|release| format!("boot/config-{release}"));
    if let Some((path, text)) = plain.and_then(|path| Some((path.clone(), tree.text(&path)?))) {
        return Some((format!("/{path}"), text));
    }
    let packed = tree.read("proc/config.gz")?;
    let mut text = String::new();
    let unpacker = flate2::read::GzDecoder::new(packed.as_slice());
    unpacker.take(4 << 20).read_to_string(&mut text).ok()?;
    Some(("/proc/config.gz".to_owned(), text))
}

/// The addresses that can be mapped, as `arch_get_mappable_range()` has them.
fn linear_map(tree: &Tree, config: Option<&str>) -> Option<LinearMap> {
    let info = tree.text("proc/cpuinfo")?;
    if info.contains("vendor_id") {
        let flags = info.lines().find(|line| line.starts_with("flags"))?;
        let five_levels = flags.split_whitespace().any(|flag| flag == "la57");
        let (bits, said) = match five_levels {
            true => (52, "/proc/cpuinfo: la57 is a flag"),
            false => (46, "/proc/cpuinfo: la57 is no flag"),
        };
        return Some(LinearMap {
            first: 0,
            last: (1 << bits) - 1,
            evidence: said.to_owned(),
        });
    }
    if !info.contains("CPU implementer") {
        return None;
    }
    // it begins with the first memory, in units of 1 GiB, and is half of the addresses long
    let memory = tree.text("proc/iomem")?;
    let first = memory
        .lines()
        .find(|line| line.ends_with(" : System RAM"))?;
    let first = first.trim().split_once('-')?.0;
    let start = u64::from_str_radix(first, 16).ok()?;
    // others than root read zeros
    let start = (start != 0).then_some(start & !((1 << 30) - 1))?;
    let bits = config.and_then(|text| {
        let line = text
            .lines()
            .find_map(|line| line.strip_prefix("CONFIG_ARM64_VA_BITS="));
        line?.parse::<u32>().ok()
    });
    let size = 1_u64 << (bits.unwrap_or(48).clamp(36, 52) - 1);
    Some(LinearMap {
        first: start,
        last: start.checked_add(size)? - 1,
        evidence: format!("/proc/iomem: System RAM from {} on", printable_line(first)),
    })
}

impl System {
    /// Reads it.
    pub fn read(tree: &Tree, release: Option<&str>) -> Self {
        let config = config(tree, release);
        let text = config.as_ref().map(|(_, text)| text.as_str());
        let is_set = |text: &str| text.lines().any(|line| line == "CONFIG_PCI_P2PDMA=y");
        let container = tree
            .line("run/systemd/container")
            .filter(|name| !name.is_empty())
            .or_else(|| tree.read(".dockerenv").map(|_| "docker".to_owned()))
            .or_else(|| tree.read("run/.containerenv").map(|_| "podman".to_owned()));
        let status = tree.text("proc/self/status").unwrap_or_default();
        let effective = status.lines().find_map(|line| line.strip_prefix("CapEff:"));
        let effective = effective.and_then(|hex| u64::from_str_radix(hex.trim(), 16).ok());
        System {
            p2pdma: text.map(is_set),
            linear_map: linear_map(tree, text),
            config: config.map(|(path, _)| path),
            // who knows of no kernel has not read a machine at all
            missing: PARTS
                .iter()
                .filter(|part| release.is_some() && !tree.is_directory(part))
                .map(|part| format!("/{part}"))
                .collect(),
            nodes: container
                .is_some()
                .then(|| tree.entries("dev", |name| name.starts_with("nvme"))),
            container,
            privileged: effective.map(|set| (set >> CAP_SYS_ADMIN) & 1 == 1),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use super::*;
    use crate::machine::fake::Fake;

    fn read(fake: &Fake) -> System {
        let tree = Tree::below(fake.root.path()).expect("a tree");
        System::read(&tree, Some("7.3.4"))
    }

    #[test]
    fn looks_for_what_containers_lack() {
        let fake = Fake::new();
        fake.write("sys/bus/pci/drivers/nvme/bind", "");
        fake.write("dev/nvme0n1", "");
        fake.write("dev/null", "");
        let system = read(&fake);
        assert_eq!(system.missing, ["/sys/class/block", "/proc/self"]);
        assert_eq!(system.nodes, None);
        fake.write(".dockerenv", "");
        assert_eq!(read(&fake).nodes, Some(vec!["nvme0n1".to_owned()]));
    }

    #[test]
    fn reads_the_configuration() {
        let fake = Fake::new();
        assert_eq!(read(&fake).p2pdma, None);
        let mut packed = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        packed
            .write_all(b"CONFIG_PCI=y\nCONFIG_PCI_P2PDMA=y\n")
            .expect("room");
        fake.write("proc/config.gz", packed.finish().expect("an archive"));
        assert_eq!(read(&fake).p2pdma, Some(true));
        fake.write(
            "boot/config-7.3.4",
            "CONFIG_PCI=y\n# CONFIG_PCI_P2PDMA is not set\n",
        );
        let system = read(&fake);
        assert_eq!(system.p2pdma, Some(false));
        assert_eq!(system.config.as_deref(), Some("/boot/config-7.3.4"));
        fake.write("boot/config-7.3.4", [0xff; 64]);
        assert_eq!(read(&fake).p2pdma, Some(false));
    }

    #[test]
    fn knows_the_linear_map() {
        let fake = Fake::new();
        let map = |first, last, evidence: &str| {
            Some(LinearMap {
                first,
                last,
                evidence: evidence.to_owned(),
            })
        };
        fake.write(
            "proc/cpuinfo",
            "vendor_id\t: GenuineIntel\nflags\t\t: fpu lm\n",
        );
        assert_eq!(
            read(&fake).linear_map,
            map(0, 0x3fff_ffff_ffff, "/proc/cpuinfo: la57 is no flag")
        );
        fake.write(
            "proc/cpuinfo",
            "vendor_id\t: GenuineIntel\nflags\t\t: fpu la57\n",
        );
        assert_eq!(
            read(&fake).linear_map,
            map(0, 0xf_ffff_ffff_ffff, "/proc/cpuinfo: la57 is a flag")
        );
        fake.write("proc/cpuinfo", "processor\t: 0\nCPU implementer\t: 0x41\n");
        assert_eq!(read(&fake).linear_map, None);
        fake.write(
            "proc/iomem",
            "58000000-5fffffff : PCI\n80200000-17fffffff : System RAM\n",
        );
        assert_eq!(
            read(&fake).linear_map,
            map(
                0x8000_0000,
                0x8000_7fff_ffff,
                "/proc/iomem: System RAM from 80200000 on"
            )
        );
        fake.write("proc/iomem", "00000000-00000000 : System RAM\n");
        assert_eq!(read(&fake).linear_map, None);
    }

    #[test]
    fn knows_what_it_may() {
        let fake = Fake::new();
        assert_eq!(read(&fake).privileged, None);
        fake.write(
            "proc/self/status",
            "Name:\tp2pdma\nCapEff:\t000001ffffffffff\n",
        );
        assert_eq!(read(&fake).privileged, Some(true));
        fake.write("proc/self/status", "CapEff:\t00000000a80425fb\n");
        fake.write("run/systemd/container", "podman\n");
        let system = read(&fake);
        assert_eq!(
            (system.privileged, system.container.as_deref()),
            (Some(false), Some("podman"))
        );
    }
}
