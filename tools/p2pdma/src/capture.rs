// SPDX-License-Identifier: GPL-2.0

//! `p2pdma capture`: all that this program reads of a machine, in one file, for others to look at.
//!
//! What names a single piece of hardware is replaced: serial numbers, identifiers made of them,
//! MAC addresses. The same number gives the same replacement, so that what belongs together still
//! does.

use std::collections::{BTreeMap, BTreeSet};

use anyhow::Result;

use crate::block;
use crate::cmdline;
use crate::config_space;
use crate::machine::{Machine, Reader};
use crate::system;
use crate::tree::{Record, Tree};

/// Files whose content names one piece of hardware, or the machine.
const NAMES: &[&str] = &[
    "serial",
    "subsysnqn",
    "wwid",
    "uuid",
    "nguid",
    "eui",
    "address",
];

/// Parameters of the kernel that decide about peer-to-peer DMA: all others are left out, as they
/// may hold names, keys and addresses.
const PARAMETERS: &[&str] = &[
    "pci=",
    "iommu",
    "intel_iommu",
    "amd_iommu",
    "arm-smmu",
    "pcie_",
    "pci-",
    "vfio",
    "nvme",
    "p2pdma",
    "memory_hotplug",
    "nokaslr",
    "no5lvl",
    "numa",
    "efi=",
    "swiotlb",
];

/// Replaces contents, the same by the same.
#[derive(Default)]
struct Replacements(BTreeMap<Vec<u8>, usize>);

impl Replacements {
    fn of(&mut self, name: &str, content: &[u8]) -> Vec<u8> {
        if content.trim_ascii().is_empty() {
            return content.to_vec();
        }
        let next = self.0.len() + 1;
        let number = self.0.entry(content.to_vec()).or_insert(next);
        format!("{name}-{number}\n").into_bytes()
    }
}

/// The parameters that matter here.
fn parameters(line: &[u8]) -> Vec<u8> {
    let line = String::from_utf8_lossy(line);
    let kept = cmdline::parameters(&line)
        .into_iter()
        .filter(|word| PARAMETERS.iter().any(|name| word.starts_with(name)))
        .map(|word| match word.contains(char::is_whitespace) {
            true => format!("\"{word}\""),
            false => word,
        });
    let kept: Vec<_> = kept.collect();
    format!("{}\n", kept.join(" ")).into_bytes()
}

fn filter(content: &[u8], of_interest: impl Fn(&str) -> String) -> Vec<u8> {
    of_interest(&String::from_utf8_lossy(content)).into_bytes()
}

/// Takes the identifiers of file systems out of paths.
fn rename(record: &mut Record) {
    let ids = record.directories.iter().filter_map(|path| {
        let path = path.strip_prefix(block::BTRFS)?.strip_prefix('/')?;
        path.split('/').next().map(str::to_owned)
    });
    let ids: BTreeSet<_> = ids.collect();
    let new = |path: &String| {
        let renamed = ids.iter().enumerate().find_map(|(number, id)| {
            let rest = path.strip_prefix(&format!("{}/{id}", block::BTRFS))?;
            let is_whole = rest.is_empty() || rest.starts_with('/');
            is_whole.then(|| format!("{}/fs-{number}{rest}", block::BTRFS))
        });
        renamed.unwrap_or_else(|| path.clone())
    };
    record.directories = record.directories.iter().map(new).collect();
}

/// Takes away what names a single machine.
fn scrub(record: &mut Record) {
    rename(record);
    let mut replacements = Replacements::default();
    for (path, content) in &mut record.files {
        let name = path.rsplit('/').next().unwrap_or_default();
        if name == "config" && path.contains("/pci") {
            config_space::clear_serial_number(content);
        } else if path == "proc/cmdline" {
            *content = parameters(content);
        } else if path == "proc/self/mountinfo" {
            *content = filter(content, block::mounts_of_interest);
        } else if path == "proc/self/status" {
            *content = filter(content, system::status_of_interest);
        } else if path.starts_with("boot/config-") {
            *content = filter(content, system::options_of_interest);
        } else if NAMES.contains(&name) {
            *content = replacements.of(name, content);
        }
    }
}

/// Reads a machine from a tree, and gives all that was read.
pub fn capture(tree: Tree) -> Result<(Machine, Record)> {
    let reader = Reader::of(tree.recording());
    let machine = reader.read()?;
    let mut record = reader.into_tree().into_record();
    scrub(&mut record);
    Ok((machine, record))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::machine::fake;

    fn again(record: &Record) -> Machine {
        let mut bytes = Vec::new();
        record.write(&mut bytes).expect("an archive");
        let tree = Tree::archive(&bytes).expect("an archive").expect("a tree");
        Reader::of(tree).read().expect("a machine")
    }

    #[test]
    fn a_capture_is_the_machine() {
        for fake in [fake::switch(), fake::root_ports(Some(0x1d)), fake::stacks()] {
            fake.write("proc/cmdline", "pci=noats iommu=pt\n");
            let tree = Tree::below(fake.root.path()).expect("a tree");
            let (machine, record) = capture(tree).expect("a capture");
            let json = |machine: &Machine| {
                let mut value = serde_json::to_value(machine).expect("JSON");
                for client in value["clients"].as_array_mut().expect("clients") {
                    client["serial"] = "replaced".into();
                }
                // those that are on no block device are left out
                let mounts = value["mounts"].as_array_mut().expect("mounts");
                mounts.retain(|mount| mount["kind"] == "ext4");
                value
            };
            assert_eq!(json(&machine), json(&again(&record)));
            assert!(!machine.clients.is_empty());
        }
    }

    #[test]
    fn names_are_replaced() {
        let fake = fake::switch();
        let dir = "sys/bus/pci/devices/0000:03:00.0";
        let mut config = config_space::fake::config(0, Some(0));
        // a serial number as an extended capability, after that of ACS
        config[0x142..0x144].copy_from_slice(&0x1801_u16.to_le_bytes());
        config[0x180..0x184].copy_from_slice(&0x0001_0003_u32.to_le_bytes());
        config[0x184..0x18c].copy_from_slice(b"SECRET01");
        fake.write(&format!("{dir}/config"), config);
        fake.write(&format!("{dir}/nvme/nvme0/serial"), "SECRET02\n");
        fake.write("sys/fs/btrfs/SECRET06/devices/nvme0n1/dev", "");
        fake.write(
            "proc/cmdline",
            "root=UUID=SECRET03 BOOTIF=SECRET04 pci=noats luks.key=SECRET05\n",
        );
        let tree = Tree::below(fake.root.path()).expect("a tree");
        let (machine, record) = capture(tree).expect("a capture");
        assert_eq!(machine.clients[0].serial, "SECRET02");
        for (path, content) in &record.files {
            let text = String::from_utf8_lossy(content);
            assert!(!text.contains("SECRET"), "{path}: {text}");
        }
        let mut paths = record.directories.iter().chain(record.links.keys());
        assert!(paths.all(|path| !path.contains("SECRET")), "{record:?}");
        let machine = again(&record);
        assert_eq!(machine.blocks["btrfs of nvme0n1"].below, ["nvme0n1"]);
        assert_eq!(machine.command_line.as_deref(), Some("pci=noats"));
        assert!(machine.clients[0].serial.starts_with("serial-"));
        assert_eq!(
            parameters(b"\"pci=disable_acs_redir=1:0.0;2:0.0\" root=\"pci=x y\"\n"),
            b"pci=disable_acs_redir=1:0.0;2:0.0\n"
        );
        assert_ne!(machine.clients[0].serial, machine.clients[1].serial);
    }
}
