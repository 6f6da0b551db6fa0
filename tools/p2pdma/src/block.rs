// SPDX-License-Identifier: GPL-2.0

//! Block devices, what they are made of, and what is mounted from them.

use std::collections::BTreeMap;

use serde::Serialize;

use crate::bdf::Bdf;
use crate::machine::is_controller_name;
use crate::tree::Tree;

/// What kind of block device it is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(tag = "kind", rename_all = "kebab-case")]
pub enum Kind {
    /// A namespace of an NVMe controller on PCI.
    Nvme,
    /// A namespace of an NVMe controller elsewhere.
    NvmeFabrics,
    /// The head of a namespace with several paths, below which there are controllers.
    NvmeHead,
    /// An array of md.
    Md {
        /// Its level, such as `raid0`.
        level: String,
    },
    /// A device of the device mapper.
    Dm {
        /// Its name below /dev/mapper.
        name: String,
    },
    /// A part of a disk.
    Partition,
    /// A file system that one or several devices hold together.
    Btrfs,
    /// Anything else.
    Other,
}

/// A block device.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Block {
    /// What it is.
    #[serde(flatten)]
    pub kind: Kind,
    /// Its number, major and minor.
    pub number: Option<(u32, u32)>,
    /// Names of the block devices that it is made of; of controllers below the head of a namespace.
    pub below: Vec<String>,
    /// The PCI function that moves its data, where it is no stack.
    pub function: Option<Bdf>,
}

/// A file system that is mounted.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Mount {
    /// Where.
    pub point: String,
    /// Number of the block device, or of none.
    pub number: (u32, u32),
    /// What was mounted.
    pub source: String,
    /// Kind of file system.
    pub kind: String,
    /// It is mounted for reading only.
    pub read_only: bool,
}

/// A number as `259:0`.
fn number(text: &str) -> Option<(u32, u32)> {
    let (major, minor) = text.trim().split_once(':')?;
    Some((major.parse().ok()?, minor.parse().ok()?))
}

/// The function nearest to the end of a path.
fn function(path: &str) -> Option<Bdf> {
    path.rsplit('/').find_map(|name| name.parse().ok())
}

/// Controllers below the head of a namespace.
fn paths(tree: &Tree, head: &str) -> Vec<String> {
    let Some((subsystem, _)) = head.rsplit_once('/') else {
        return Vec::new();
    };
    // nvme0c1n1 is the path by controller nvme1
    let through = tree.entries(&format!("{head}/multipath"), |_| true);
    let uses = |controller: &str| {
        through.is_empty()
            || through.iter().any(|path| {
                let number = path
                    .split_once('c')
                    .and_then(|(_, rest)| rest.split_once('n'));
                number.is_some_and(|(number, _)| controller == format!("nvme{number}"))
            })
    };
    let mut names = tree.entries(subsystem, is_controller_name);
    names.retain(|name| uses(name));
    names
}

/// The controllers of a subsystem as block devices, so that a stack can end in them.
fn controllers(tree: &Tree, head: &str, names: &[String]) -> Vec<(String, Block)> {
    let subsystem = head.rsplit_once('/').map_or("", |(dir, _)| dir);
    let one = |name: &String| {
        let real = tree.real(&format!("{subsystem}/{name}"))?;
        let function = function(&real);
        let kind = match function {
            Some(_) if !real.contains("/nvme-fabrics/") => Kind::Nvme,
            _ => Kind::NvmeFabrics,
        };
        let block = Block {
            function: function.filter(|_| kind == Kind::Nvme),
            kind,
            number: None,
            below: Vec::new(),
        };
        Some((name.clone(), block))
    };
    names.iter().filter_map(one).collect()
}

/// Reads all block devices.
pub fn read(tree: &Tree) -> BTreeMap<String, Block> {
    let class = "sys/class/block";
    let mut blocks = BTreeMap::new();
    for name in tree.entries(class, |_| true) {
        let Some(dir) = tree.real(&format!("{class}/{name}")) else {
            continue;
        };
        let text = |file: &str| tree.line(&format!("{dir}/{file}"));
        let slaves = || tree.entries(&format!("{dir}/slaves"), |_| true);
        let (kind, below) = if text("partition").is_some() {
            let parent = dir.rsplit('/').nth(1).map(str::to_owned);
            (Kind::Partition, parent.into_iter().collect())
        } else if let Some(level) = text("md/level") {
            (Kind::Md { level }, slaves())
        } else if let Some(name) = text("dm/name") {
            (Kind::Dm { name }, slaves())
        } else if dir.contains("/nvme-subsystem/") {
            let names = paths(tree, &dir);
            blocks.extend(controllers(tree, &dir, &names));
            (Kind::NvmeHead, names)
        } else if dir.contains("/nvme-fabrics/") {
            (Kind::NvmeFabrics, Vec::new())
        } else if name.starts_with("nvme") && function(&dir).is_some() {
            (Kind::Nvme, Vec::new())
        } else {
            (Kind::Other, slaves())
        };
        let ends = below.is_empty() && kind != Kind::NvmeFabrics;
        let block = Block {
            function: if ends { function(&dir) } else { None },
            number: text("dev").and_then(|text| number(&text)),
            kind,
            below,
        };
        blocks.insert(name, block);
    }
    blocks.extend(file_systems(tree));
    blocks
}

/// Where btrfs shows its file systems, by their UUIDs.
pub const BTRFS: &str = "sys/fs/btrfs";

/// File systems that can have several devices, as if they were made of them: `btrfs of nvme0n1`.
fn file_systems(tree: &Tree) -> Vec<(String, Block)> {
    // beside `features`
    let ids = tree.entries(BTRFS, |name| {
        tree.is_directory(&format!("{BTRFS}/{name}/devices"))
    });
    let one = |id: String| {
        let below = tree.entries(&format!("{BTRFS}/{id}/devices"), |_| true);
        let block = Block {
            kind: Kind::Btrfs,
            number: None,
            function: None,
            below,
        };
        Some((format!("btrfs of {}", block.below.first()?), block))
    };
    ids.into_iter().filter_map(one).collect()
}

/// A path of mountinfo, in which space, tab, newline and backslash are written in octal.
fn unescape(text: &str) -> String {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let [first, after @ ..] = rest {
        let octal = after
            .get(..3)
            .filter(|_| *first == b'\\')
            .and_then(|digits| {
                let digits = std::str::from_utf8(digits).ok()?;
                u8::from_str_radix(digits, 8).ok()
            });
        match octal {
            Some(byte) => {
                bytes.push(byte);
                rest = &after[3..];
            }
            None => {
                bytes.push(*first);
                rest = after;
            }
        }
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

/// A line of /proc/self/mountinfo.
fn mount(line: &str) -> Option<Mount> {
    let (first, second) = line.split_once(" - ")?;
    let first: Vec<_> = first.split(' ').collect();
    let mut second = second.split(' ');
    Some(Mount {
        number: number(first.get(2)?)?,
        point: unescape(first.get(4)?),
        read_only: first.get(5)?.split(',').any(|option| option == "ro"),
        kind: second.next()?.to_owned(),
        source: unescape(second.next()?),
    })
}

/// Reads what is mounted.
pub fn mounts(tree: &Tree) -> Vec<Mount> {
    let text = tree.text("proc/self/mountinfo").unwrap_or_default();
    text.lines().filter_map(mount).collect()
}

/// The lines of mountinfo that matter: file systems on block devices, and sysfs.
pub fn mounts_of_interest(text: &str) -> String {
    let of_interest = |line: &&str| {
        mount(line).is_some_and(|mount| mount.kind == "sysfs" || mount.source.starts_with("/dev/"))
    };
    text.split_inclusive('\n').filter(of_interest).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_mounts() {
        let line = r"36 35 259:2 / /mnt/a\040b rw,noatime shared:1 - ext4 /dev/nvme0n1p1 rw";
        let found = mount(line).expect("a mount");
        assert_eq!((found.point.as_str(), found.number), ("/mnt/a b", (259, 2)));
        assert_eq!((found.kind.as_str(), found.read_only), ("ext4", false));
        for line in [
            "",
            "36 35 259:2 / /mnt",
            "- - - - - - - - -",
            r"1 1 1:1 / \9 \77 - \ \",
        ] {
            let _ = mount(line);
        }
        let text =
            format!("{line}\n1 2 0:5 / /sys ro - sysfs sysfs ro\n1 2 0:6 / /run rw - tmpfs t rw\n");
        assert_eq!(mounts_of_interest(&text).lines().count(), 2);
    }
}
