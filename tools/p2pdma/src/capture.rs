// SPDX-License-Identifier: GPL-2.0

//! `p2pdma capture`: all that this program reads of a machine, in one file, for others to look at.
//!
//! What names a single piece of hardware is replaced: serial numbers, identifiers made of them,
//! MAC addresses. So is what people named: volumes, and places at which file systems are mounted.
//! The same name gives the same replacement, so that what belongs together still does.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{self, Read as _, Write as _};

use anyhow::Result;

use crate::block;
use crate::cmdline;
use crate::config_space;
use crate::machine::{Machine, Reader, CAPTURED};
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

/// What is kept of /proc/cpuinfo: there may be a serial number of the processor, too.
const PROCESSOR: &[&str] = &[
    "processor",
    "vendor_id",
    "cpu family",
    "model",
    "model name",
    "stepping",
    "flags",
    "CPU implementer",
    "CPU architecture",
    "CPU variant",
    "CPU part",
    "CPU revision",
    "Features",
];

/// Mount points that every machine may have. The names of others are replaced.
const POINTS: &[&str] = &[
    "/",
    "/boot",
    "/boot/efi",
    "/home",
    "/mnt",
    "/opt",
    "/srv",
    "/sys",
    "/tmp",
    "/usr",
    "/var",
];

/// Replaces names, the same by the same.
#[derive(Default)]
struct Replacements(BTreeMap<Vec<u8>, usize>);

impl Replacements {
    fn name(&mut self, kind: &str, name: &[u8]) -> String {
        let next = self.0.len() + 1;
        let number = self.0.entry(name.trim_ascii().to_vec()).or_insert(next);
        format!("{kind}-{number}")
    }

    fn content(&mut self, kind: &str, content: &[u8]) -> Vec<u8> {
        if content.trim_ascii().is_empty() {
            return content.to_vec();
        }
        format!("{}\n", self.name(kind, content)).into_bytes()
    }

    /// A line of mountinfo without names: of what is mounted, only the device is left.
    fn mount(&mut self, line: &str) -> Option<String> {
        let (first, second) = line.split_once(" - ")?;
        let first: Vec<_> = first.split(' ').collect();
        let [id, parent, number, _, point, options, ..] = first[..] else {
            return None;
        };
        let mut second = second.split(' ');
        let (kind, source) = (second.next()?, second.next()?);
        let point = match POINTS.contains(&point) {
            true => point.to_owned(),
            false => format!("/{}", self.name("mount", point.as_bytes())),
        };
        let name = source
            .strip_prefix("/dev/")
            .map(|name| name.rsplit_once('/'));
        let source = match name {
            _ if kind == "sysfs" => kind.to_owned(),
            None => return None,
            // the kernel's own name
            Some(None) => source.to_owned(),
            Some(Some(("mapper", name))) => {
                format!("/dev/mapper/{}", self.name("name", name.as_bytes()))
            }
            Some(Some(_)) => format!("/dev/{}", self.name("source", source.as_bytes())),
        };
        let mode = match options.split(',').any(|option| option == "ro") {
            true => "ro",
            false => "rw",
        };
        Some(format!(
            "{id} {parent} {number} / {point} {mode} - {kind} {source} {mode}\n"
        ))
    }

    /// What matters of mountinfo.
    fn mounts(&mut self, text: &str) -> String {
        let of_interest = block::mounts_of_interest(text);
        let lines = of_interest.lines();
        lines.filter_map(|line| self.mount(line)).collect()
    }
}

/// The lines about processors that matter here, and those that separate them.
fn processors(text: &str) -> String {
    let of_interest = |line: &&str| {
        let name = line.split(':').next().unwrap_or_default().trim();
        name.is_empty() || PROCESSOR.contains(&name)
    };
    text.split_inclusive('\n').filter(of_interest).collect()
}

/// A compressed configuration of the kernel, without what does not matter here.
fn configuration(packed: &[u8]) -> io::Result<Vec<u8>> {
    let mut text = Vec::new();
    let unpacker = flate2::read::GzDecoder::new(packed);
    unpacker.take(4 << 20).read_to_end(&mut text)?;
    let kept = filter(&text, system::options_of_interest);
    let mut packer = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::best());
    packer.write_all(&kept)?;
    packer.finish()
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
    let paths = record.directories.iter().chain(record.links.keys());
    let ids = paths.filter_map(|path| {
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
    // one is there that leads to a device that is not
    let links = std::mem::take(&mut record.links).into_iter();
    record.links = links.map(|(path, to)| (new(&path), to)).collect();
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
            let text = String::from_utf8_lossy(content);
            *content = replacements.mounts(&text).into_bytes();
        } else if path == "proc/self/status" {
            *content = filter(content, system::status_of_interest);
        } else if path == "proc/cpuinfo" {
            *content = filter(content, processors);
        } else if path.starts_with("boot/config-") {
            *content = filter(content, system::options_of_interest);
        } else if path == "proc/config.gz" {
            *content = configuration(content).unwrap_or_default();
        } else if path == "run/.containerenv" || path == ".dockerenv" {
            // that it is there is all that matters: podman writes names into it
            content.clear();
        } else if NAMES.contains(&name) || path.ends_with("/dm/name") {
            *content = replacements.content(name, content);
        }
    }
}

/// Reads a machine from a tree, and gives all that was read.
pub fn capture(tree: Tree) -> Result<(Machine, Record)> {
    let reader = Reader::of(tree.recording());
    let machine = reader.read()?;
    let read_by_us = reader.is_read_by_us();
    let mut record = reader.into_tree().into_record();
    scrub(&mut record);
    if read_by_us {
        record.files.insert(CAPTURED.to_owned(), Vec::new());
    }
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
                for block in value["blocks"]
                    .as_object_mut()
                    .expect("blocks")
                    .values_mut()
                {
                    if block.get("name").is_some() {
                        block["name"] = "replaced".into();
                    }
                }
                // those that are on no block device are left out
                let mounts = value["mounts"].as_array_mut().expect("mounts");
                mounts.retain(|mount| mount["kind"] == "ext4");
                for mount in mounts {
                    mount["point"] = "replaced".into();
                    mount["source"] = "replaced".into();
                }
                value
            };
            assert_eq!(json(&machine), json(&again(&record)));
            assert!(!machine.clients.is_empty());
        }
    }

    /// What was not there when it was captured is told from what is not in a copy of others.
    #[test]
    fn a_capture_knows_what_was_not_there() {
        let port = "02:01.0".parse().expect("an address");
        for (version, length, is_express, expected) in [
            // all that the kernel can read of a PCIe function
            ("7.3.4", 256, true, Some(false)),
            // without root
            ("7.3.4", 64, true, None),
            // conventional PCI, with root and without
            ("7.3.4", 256, false, Some(false)),
            ("7.3.4", 64, false, Some(false)),
            // a kernel that does not tell these apart
            ("4.12.1", 64, false, None),
        ] {
            let fake = fake::switch();
            fake.write("proc/sys/kernel/osrelease", version);
            let dir = "sys/bus/pci/devices/0000:02:01.0";
            let config = config_space::fake::config(6, Some(0x0c));
            fake.write(&format!("{dir}/config"), &config[..length]);
            if is_express {
                fake.write(&format!("{dir}/max_link_width"), "16\n");
            }
            let redirects = |machine: &Machine| machine.devices[&port].acs_redirect;
            // a copy that others made
            assert_eq!(redirects(&fake.read()), None, "{version} {length}");
            let (_, record) = capture(Tree::below(fake.root.path()).expect("a tree")).expect("it");
            assert_eq!(redirects(&again(&record)), None, "{version} {length}");
            // as the program reads it of the running kernel, and of a capture of a capture
            fake.write(CAPTURED, "");
            let (machine, record) =
                capture(Tree::below(fake.root.path()).expect("a tree")).expect("a capture");
            assert_eq!(redirects(&machine), expected, "{version} {length}");
            assert_eq!(redirects(&again(&record)), expected, "{version} {length}");
        }
    }

    /// A copy that somebody made without what a link points to.
    #[test]
    fn what_is_missing_is_missing_in_a_capture_of_a_copy() {
        let fake = fake::switch();
        let devices = fake.root.path().join("sys/bus/pci/devices");
        let link = devices.join("0000:06:00.0");
        std::os::unix::fs::symlink("../../../../devices/gone", link).expect("a link");
        let (machine, record) =
            capture(Tree::below(fake.root.path()).expect("a tree")).expect("a capture");
        assert_eq!(machine.devices.len(), 9);
        assert_eq!(again(&record).devices.len(), 9);
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
        // a link to a device that is not there
        let gone = fake.root.path().join("sys/fs/btrfs/SECRET06/devices/sda");
        std::os::unix::fs::symlink("../../../../devices/gone/sda", gone).expect("a link");
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
        assert_eq!(machine.blocks["btrfs of nvme0n1"].below, ["nvme0n1", "sda"]);
        assert_eq!(machine.command_line.as_deref(), Some("pci=noats"));
        assert!(machine.clients[0].serial.starts_with("serial-"));
        assert_eq!(
            parameters(b"\"pci=disable_acs_redir=1:0.0;2:0.0\" root=\"pci=x y\"\n"),
            b"pci=disable_acs_redir=1:0.0;2:0.0\n"
        );
        assert_ne!(machine.clients[0].serial, machine.clients[1].serial);
    }

    /// Names that people gave, and a number of the processor, are no part of it.
    #[test]
    fn other_names_are_replaced() {
        let fake = fake::switch();
        let processor = "processor\t: 0\nvendor_id\t: GenuineIntel\ncpu family\t: 6\n\
                         Serial\t\t: SECRET1\nflags\t\t: fpu hypervisor\n";
        fake.write("proc/cpuinfo", processor);
        let dir = "sys/devices/virtual/block/dm-0";
        fake.block("dm-0", dir);
        fake.write(&format!("{dir}/dm/name"), "luks-SECRET2\n");
        fake.write(&format!("{dir}/dev"), "253:0\n");
        fake.write(
            "proc/self/mountinfo",
            "22 20 253:0 /SECRET3 /home/SECRET4 rw,context=SECRET5 shared:1 - ext4 \
             /dev/mapper/luks-SECRET2 rw,subvol=SECRET6\n\
             23 20 259:1 / / ro - ext4 /dev/nvme0n1p1 ro\n\
             24 20 254:7 / /mnt rw - ext4 /dev/SECRET7/SECRET8 rw\n\
             25 20 0:22 / /sys ro,nosuid - sysfs sysfs rw\n",
        );
        fake.write("run/.containerenv", "name=\"SECRET9\"\n");
        let mut packed = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::none());
        packed
            .write_all(b"CONFIG_PCI_P2PDMA=y\nCONFIG_DEFAULT_HOSTNAME=\"SECRET10\"\n")
            .expect("room");
        fake.write("proc/config.gz", packed.finish().expect("an archive"));
        fake.write(
            "proc/cmdline",
            "quiet \"pci=disable_acs_redir=0000:00:01.0;0000:00:02.0\" init=\"SECRET11 x\"\n",
        );
        let tree = Tree::below(fake.root.path()).expect("a tree");
        let (machine, record) = capture(tree).expect("a capture");
        for (path, content) in &record.files {
            let mut text = content.clone();
            if path.ends_with(".gz") {
                text.clear();
                let mut unpacker = flate2::read::GzDecoder::new(content.as_slice());
                unpacker.read_to_end(&mut text).expect("compressed");
            }
            let text = String::from_utf8_lossy(&text);
            assert!(!text.contains("SECRET"), "{path}: {text}");
        }
        let again = again(&record);
        assert_eq!(again.system, machine.system);
        assert_eq!(again.cpu_allows_any_pair, Some(false));
        assert!(again.hypervisor);
        let line = again.command_line.expect("a command line");
        assert_eq!(line, "pci=disable_acs_redir=0000:00:01.0;0000:00:02.0");
        let mounts: Vec<_> = again
            .mounts
            .iter()
            .map(|mount| (mount.number, mount.kind.as_str(), mount.read_only))
            .collect();
        let expected = [
            ((253, 0), "ext4", false),
            ((259, 1), "ext4", true),
            ((254, 7), "ext4", false),
            ((0, 22), "sysfs", true),
        ];
        assert_eq!(mounts, expected);
        assert_eq!(again.mounts[3].point, "/sys");
        // the volume and what is mounted of it have one name
        let block::Kind::Dm { name } = &again.blocks["dm-0"].kind else {
            panic!("no volume");
        };
        assert_eq!(again.mounts[0].source, format!("/dev/mapper/{name}"));
    }
}
