// SPDX-License-Identifier: GPL-2.0

//! What a word on the command line names: a PCI function, a disk, a stack of disks, or what is
//! mounted from them.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{bail, Context, Result};
use serde::Serialize;

use crate::bdf::Bdf;
use crate::block::{Block, Kind};
use crate::machine::Machine;

/// A block device, and all that it is made of.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Member {
    /// Its name.
    pub name: String,
    /// What it is, in words.
    pub what: String,
    /// Whether its queue takes peer-to-peer pages, if that is known.
    pub takes_p2p: Option<bool>,
    /// Why it takes none, if the reason is its own.
    pub why: Option<String>,
    /// The PCI function that moves its data.
    pub function: Option<Bdf>,
    /// What it is made of.
    pub below: Vec<Member>,
}

impl Member {
    /// It and all that is below it, from the top.
    pub fn all(&self) -> Vec<&Member> {
        let below = self.below.iter().flat_map(Member::all);
        std::iter::once(self).chain(below).collect()
    }

    /// The functions that move its data, each once.
    pub fn functions(&self) -> Vec<Bdf> {
        let mut functions: Vec<_> = self.all().iter().filter_map(|one| one.function).collect();
        functions.sort();
        functions.dedup();
        functions
    }
}

/// What a word names.
#[derive(Debug, PartialEq, Eq)]
pub enum Target {
    /// A PCI function.
    Function(Bdf),
    /// A block device.
    Disk(Member),
}

/// No stack is higher than this, and none has more members.
const HEIGHT_MAX: usize = 16;
const MEMBERS_MAX: usize = 1024;

/// Finds out what a block device is made of, and what takes peer-to-peer pages of it.
fn member(machine: &Machine, name: &str, height: usize, room: &mut usize) -> Option<Member> {
    let block = machine.blocks.get(name)?;
    *room = room.checked_sub(1)?;
    let height = height.checked_sub(1)?;
    let below: Vec<_> = block
        .below
        .iter()
        .filter_map(|name| member(machine, name, height, room))
        .collect();
    let all_below = || {
        let takes = below.iter().map(|member| member.takes_p2p);
        let complete = below.len() == block.below.len() && !below.is_empty();
        takes.fold(complete.then_some(true), |all, one| match (all, one) {
            (Some(false), _) | (_, Some(false)) => Some(false),
            (Some(true), Some(true)) => Some(true),
            _ => None,
        })
    };
    let driver = block
        .function
        .and_then(|bdf| machine.devices.get(&bdf)?.driver.clone());
    let (what, takes_p2p, why) = match &block.kind {
        Kind::Nvme => {
            let is_ours = driver.as_deref() == Some("nvme");
            let why = (!is_ours).then(|| "its driver is not nvme".to_owned());
            ("NVMe disk".to_owned(), Some(is_ours), why)
        }
        Kind::NvmeFabrics => (
            "disk of the fabrics driver".to_owned(),
            Some(false),
            Some("no PCI function moves its data".to_owned()),
        ),
        Kind::NvmeHead => ("NVMe disk with several paths".to_owned(), all_below(), None),
        Kind::Md { level } if ["raid0", "raid1", "raid10"].contains(&level.as_str()) => {
            (format!("md {level}"), all_below(), None)
        }
        Kind::Md { level } => (
            format!("md {level}"),
            Some(false),
            Some("md passes them on in raid0, raid1 and raid10 only".to_owned()),
        ),
        Kind::Dm { name } => (
            format!("device mapper, {name}"),
            Some(false),
            Some("the device mapper passes none on".to_owned()),
        ),
        Kind::Partition => ("partition".to_owned(), all_below(), None),
        Kind::Btrfs => ("file system".to_owned(), all_below(), None),
        Kind::Other => (
            driver.map_or("other disk".to_owned(), |driver| {
                format!("disk of {driver}")
            }),
            Some(false),
            Some("its driver does not take them".to_owned()),
        ),
    };
    Some(Member {
        name: name.to_owned(),
        what,
        takes_p2p,
        why,
        function: block.function,
        below,
    })
}

/// The block device that a path is on.
fn mounted(machine: &Machine, path: &Path) -> Result<String> {
    let mounts = machine.mounts.iter();
    // of those at one place, the last covers the others
    let mount = mounts
        .filter(|mount| path.starts_with(&mount.point))
        .enumerate()
        .max_by_key(|(order, mount)| (mount.point.len(), *order))
        .map(|(_, mount)| mount)
        .with_context(|| format!("it is not known what {} is on", path.display()))?;
    let by_number = machine
        .blocks
        .iter()
        .find(|(_, block)| block.number == Some(mount.number))
        .map(|(name, _)| name.clone());
    if mount.kind == "btrfs" {
        let device = named(machine, &mount.source);
        let holds = |block: &&(&String, &Block)| {
            let (_, block) = block;
            block.kind == Kind::Btrfs
                && device
                    .as_ref()
                    .is_some_and(|device| block.below.contains(device))
        };
        let found = machine.blocks.iter().find(|block| holds(&block));
        return found.map(|(name, _)| name.clone()).with_context(|| {
            format!(
                "{} is on btrfs, of {} and others: which they are is not known without \
                 /sys/fs/btrfs; name the disks",
                path.display(),
                mount.source
            )
        });
    }
    // others with several devices have a number of their own, too
    by_number
        .or_else(|| named(machine, &mount.source))
        .with_context(|| {
            format!(
                "{} is on {} ({}), which is no block device here",
                path.display(),
                mount.source,
                mount.kind
            )
        })
}

/// The block device that a path below /dev, or a plain name, names.
fn named(machine: &Machine, word: &str) -> Option<String> {
    let name = word.strip_prefix("/dev/").unwrap_or(word);
    if machine.blocks.contains_key(name) {
        return Some(name.to_owned());
    }
    let mapped = name.strip_prefix("mapper/").unwrap_or(name);
    let is_it = |kind: &Kind| matches!(kind, Kind::Dm { name } if name == mapped);
    let found = machine.blocks.iter().find(|(_, block)| is_it(&block.kind));
    found.map(|(name, _)| name.clone())
}

/// Finds what a word names, on this machine (`live`) or on one that was read from elsewhere.
pub fn target(machine: &Machine, live: bool, word: &str) -> Result<Target> {
    if let Ok(bdf) = word.parse::<Bdf>() {
        if !machine.devices.contains_key(&bdf) {
            bail!("there is no PCI function {bdf}; p2pdma show --all lists all");
        }
        return Ok(Target::Function(bdf));
    }
    let of = |name: &str| {
        let member = member(machine, name, HEIGHT_MAX, &mut { MEMBERS_MAX });
        member
            .map(Target::Disk)
            .with_context(|| format!("there is no block device {name}"))
    };
    if let Some(name) = named(machine, word) {
        return of(&name);
    }
    let name = word.strip_prefix("/dev/").unwrap_or(word);
    let client = machine.clients.iter().find(|client| {
        client.controller == name || client.namespaces.iter().any(|disk| disk.name == name)
    });
    if let Some(client) = client {
        return Ok(Target::Function(client.bdf));
    }
    if !word.contains('/') {
        bail!(
            "'{word}' is neither a PCI address such as 0000:03:00.0, nor a disk, nor a path of a \
             file here"
        );
    }
    let mut path = PathBuf::from(word);
    if live {
        path = fs::canonicalize(&path).with_context(|| format!("cannot find {word}"))?;
        if let Some(name) = path.to_str().and_then(|path| named(machine, path)) {
            return of(&name);
        }
    }
    of(&mounted(machine, &path)?)
}

/// Finds the PCI function that a word names: one that provides, or could.
pub fn function(machine: &Machine, live: bool, word: &str) -> Result<Bdf> {
    let disk = match target(machine, live, word)? {
        Target::Function(bdf) => return Ok(bdf),
        Target::Disk(disk) => disk,
    };
    match disk.functions()[..] {
        [bdf] => Ok(bdf),
        [] => bail!("{word} is a {}: no PCI function moves its data", disk.what),
        _ => bail!(
            "{word} is made of several disks: {}",
            disk.below
                .iter()
                .map(|one| one.name.as_str())
                .collect::<Vec<_>>()
                .join(", ")
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::machine::fake;

    fn disk(machine: &Machine, word: &str) -> Member {
        match target(machine, false, word).expect(word) {
            Target::Disk(disk) => disk,
            Target::Function(bdf) => panic!("{word} is {bdf}"),
        }
    }

    /// Case of users: an array of two disks, a partition, a file on the array, a disk of fabrics.
    #[test]
    fn looks_into_stacks() {
        let machine = fake::stacks().read();
        let md = disk(&machine, "md0");
        assert_eq!((md.what.as_str(), md.takes_p2p), ("md raid0", Some(true)));
        let names: Vec<_> = md.all().iter().map(|one| one.name.clone()).collect();
        assert_eq!(names, ["md0", "nvme0n1", "nvme1n1"]);
        assert_eq!(md.functions().len(), 2);
        assert_eq!(disk(&machine, "/mnt/array/data/file").name, "md0");
        assert_eq!(disk(&machine, "/dev/nvme0n1p1").functions().len(), 1);
        assert_eq!(disk(&machine, "nvme0n1p1").takes_p2p, Some(true));

        // one lower disk is enough to forbid it
        let md = disk(&machine, "md1");
        assert_eq!(md.takes_p2p, Some(false));
        let culprit: Vec<_> = md
            .all()
            .into_iter()
            .filter(|one| one.why.is_some())
            .collect();
        assert_eq!(culprit.len(), 1);
        assert_eq!(culprit[0].name, "nvme2n1");
        assert_eq!(culprit[0].what, "disk of the fabrics driver");
        assert_eq!(disk(&machine, "md2").takes_p2p, Some(false));

        let mapped = disk(&machine, "/dev/mapper/vg-data");
        assert_eq!(
            (mapped.name.as_str(), mapped.takes_p2p),
            ("dm-0", Some(false))
        );
        // a head, one path of which is not on PCI
        assert_eq!(disk(&machine, "nvme3n1").takes_p2p, Some(true));
        assert_eq!(disk(&machine, "nvme4n1").takes_p2p, Some(false));
    }

    /// btrfs names one of its devices as what is mounted.
    #[test]
    fn file_systems_of_several_devices() {
        let fake = fake::stacks();
        fake.write(
            "proc/self/mountinfo",
            "21 20 0:44 / /mnt/data rw - btrfs /dev/nvme0n1 rw\n\
             22 20 0:45 / /mnt/mixed rw - btrfs /dev/nvme0n1p1 rw\n",
        );
        let file = Path::new("/mnt/data/file");
        let error = mounted(&fake.read(), file).expect_err("one of several");
        assert!(error.to_string().contains("name the disks"), "{error}");
        for (id, devices) in [
            ("0b7e-1", ["nvme0n1", "nvme1n1"]),
            ("0b7e-2", ["nvme1n1p1", "nvme2n1"]),
        ] {
            for device in devices {
                fake.write(&format!("sys/fs/btrfs/{id}/devices/{device}/dev"), "");
            }
        }
        fake.write("sys/fs/btrfs/features/raid1c34", "0\n");
        let machine = fake.read();
        let all = disk(&machine, "/mnt/data/file");
        let names: Vec<_> = all.all().iter().map(|one| one.name.clone()).collect();
        assert_eq!(names, ["btrfs of nvme0n1", "nvme0n1", "nvme1n1"]);
        assert_eq!((all.takes_p2p, all.functions().len()), (Some(true), 2));
        // not the file system of this disk
        mounted(&machine, Path::new("/mnt/mixed/file")).expect_err("another");
        fake.write("sys/fs/btrfs/0b7e-1/devices/missing/dev", "");
        assert_eq!(disk(&fake.read(), "/mnt/data/file").takes_p2p, None);
    }

    #[test]
    fn says_what_is_not_there() {
        let machine = fake::stacks().read();
        for (word, said) in [
            ("sdz", "neither a PCI address"),
            ("00:1f.7", "no PCI function 0000:00:1f.7"),
            ("/proc/x", "which is no block device"),
        ] {
            let error = target(&machine, false, word).expect_err(word);
            assert!(error.to_string().contains(said), "{word}: {error}");
        }
        let error = function(&machine, false, "md0").expect_err("several");
        assert!(error.to_string().contains("nvme0n1, nvme1n1"), "{error}");
        let error = function(&machine, false, "nvme2n1").expect_err("none");
        assert!(error.to_string().contains("fabrics"), "{error}");
    }

    /// Members that hold each other, and very many.
    #[test]
    fn broken_stacks_end() {
        let fake = fake::Fake::new();
        for n in 0..12 {
            fake.block(
                &format!("md{n}"),
                &format!("sys/devices/virtual/block/md{n}"),
            );
            fake.write(
                &format!("sys/devices/virtual/block/md{n}/md/level"),
                "raid0\n",
            );
            for m in 0..12 {
                fake.write(
                    &format!("sys/devices/virtual/block/md{n}/slaves/md{m}/x"),
                    "",
                );
            }
        }
        let machine = fake.read();
        assert!(disk(&machine, "md0").all().len() <= MEMBERS_MAX);
    }
}
