// SPDX-License-Identifier: GPL-2.0

//! Whether a disk may be written to.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt as _;

use anyhow::{bail, Context, Result};

use crate::machine::{Client, Namespace};
use crate::text::list;
use crate::users::{Files, Use};

/// What the content of a disk begins with: offset, bytes, and what it is.
const SIGNATURES: &[(u64, &[u8], &str)] = &[
    (0x438, &[0x53, 0xef], "a file system (ext2, ext3 or ext4)"),
    (0, b"XFSB", "a file system (XFS)"),
    (0x10040, b"_BHRfS_M", "a file system (btrfs)"),
    (0x1018, b"\xc6\x85\x73\xf6", "a file system (bcachefs)"),
    (0x400, &[0x10, 0x20, 0xf5, 0xf2], "a file system (F2FS)"),
    (3, b"NTFS    ", "a file system (NTFS)"),
    (0x36, b"FAT", "a file system (FAT)"),
    (0x52, b"FAT32", "a file system (FAT)"),
    (512, b"EFI PART", "a partition table (GPT)"),
    (4096, b"EFI PART", "a partition table (GPT)"),
    (0, b"LUKS\xba\xbe", "encrypted data (LUKS)"),
    (0x218, b"LVM2 001", "a physical volume of LVM"),
    (0, &[0xfc, 0x4e, 0x2b, 0xa9], "a member of an array (md)"),
    (4096, &[0xfc, 0x4e, 0x2b, 0xa9], "a member of an array (md)"),
    (4086, b"SWAPSPACE2", "swap space"),
    (65526, b"SWAPSPACE2", "swap space"),
    (0x1fe, &[0x55, 0xaa], "a boot sector or a partition table"),
];

/// What md has at the end of its members, by the metadata's version.
fn at_the_end(size: u64) -> [u64; 2] {
    // 1.0: 8 KiB from the end, at a whole 4 KiB; 0.90: the last whole 64 KiB
    let newer = size.saturating_sub(8192) & !4095;
    let older = (size & !0xffff).saturating_sub(0x1_0000);
    [newer, older]
}

/// What is on a medium, as far as it is known.
pub fn content(medium: &File, size: u64) -> io::Result<Option<&'static str>> {
    let holds = |at: u64, bytes: &[u8]| {
        if at + bytes.len() as u64 > size {
            return Ok(false);
        }
        let mut found = vec![0; bytes.len()];
        medium.read_exact_at(&mut found, at)?;
        Ok::<_, io::Error>(found == bytes)
    };
    for (at, bytes, what) in SIGNATURES {
        if holds(*at, bytes)? {
            return Ok(Some(what));
        }
    }
    for at in at_the_end(size) {
        if holds(at, &[0xfc, 0x4e, 0x2b, 0xa9])? {
            return Ok(Some("a member of an array (md)"));
        }
    }
    Ok(None)
}

/// Whether the name is that of a disk, or of a part of it.
fn is_of(name: &str, disk: &str) -> bool {
    name.strip_prefix(disk).is_some_and(|rest| {
        let number = rest.strip_prefix('p').unwrap_or(rest);
        rest.is_empty() || (rest.starts_with('p') && number.bytes().all(|c| c.is_ascii_digit()))
    })
}

/// What a disk is in use for. What is known of other disks of the same controller is left out, but
/// not what is made of several.
pub fn uses(files: &Files<'_>, client: &Client, disk: &Namespace) -> Vec<Use> {
    let others = |name: &str| {
        let mut others = client.namespaces.iter();
        others.any(|other| other.name != disk.name && is_of(name, &other.name))
    };
    let mut uses = files.uses(client.bdf);
    uses.retain(|one| match one {
        Use::Mounted { disk, .. }
        | Use::Swap { disk }
        | Use::Member { disk, .. }
        | Use::Exported { disk, .. }
        | Use::Exclusive { disk } => !others(disk),
        Use::Network { .. } => false,
        // the controller's own node is open in many a service
        Use::Open { node, .. } => {
            let name = node.strip_prefix("/dev/").unwrap_or(node);
            name != client.controller && !name.starts_with("ng") && !others(name)
        }
    });
    uses
}

/// Refuses a disk that is in use, or holds something.
///
/// # Errors
///
/// What it is, and what to do.
pub fn may_write(files: &Files<'_>, client: &Client, disk: &Namespace) -> Result<()> {
    let path = disk.path();
    let uses: Vec<_> = uses(files, client, disk)
        .iter()
        .map(Use::to_string)
        .collect();
    if !uses.is_empty() {
        bail!(
            "{} is in use, nothing is written to it: {}",
            path.display(),
            list(&uses)
        );
    }
    let cannot = || format!("cannot read {}", path.display());
    let medium = File::open(&path).with_context(cannot)?;
    if let Some(what) = content(&medium, disk.size).with_context(cannot)? {
        bail!(
            "{0} holds {what}, nothing is written to it\n  \
             if nobody needs that any more, remove it first: wipefs --all {0}",
            path.display()
        );
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::machine::fake;

    #[test]
    fn knows_what_is_on_a_medium() {
        const SIZE: u64 = 1 << 20;
        let with = |at: u64, bytes: &[u8]| {
            let medium = tempfile::tempfile().expect("a file");
            medium.set_len(SIZE).expect("room");
            medium.write_all_at(bytes, at).expect("a write");
            content(&medium, SIZE).expect("it can be read")
        };
        assert_eq!(with(0, &[]), None);
        assert_eq!(with(0x438, &[0x53]), None);
        for (at, bytes, what) in SIGNATURES {
            assert_eq!(with(*at, bytes), Some(*what));
        }
        for at in at_the_end(SIZE) {
            assert_eq!(
                with(at, &[0xfc, 0x4e, 0x2b, 0xa9]),
                with(4096, &[0xfc, 0x4e, 0x2b, 0xa9])
            );
        }
        let small = tempfile::tempfile().expect("a file");
        small.set_len(512).expect("room");
        assert_eq!(content(&small, 512).expect("it can be read"), None);
    }

    #[test]
    fn tells_disks_apart() {
        for (name, is) in [
            ("nvme1n1", true),
            ("nvme1n1p3", true),
            ("nvme1n10", false),
            ("nvme1n1px", false),
            ("nvme0n1", false),
        ] {
            assert_eq!(is_of(name, "nvme1n1"), is, "{name}");
        }
    }

    #[test]
    fn refuses_what_is_in_use() {
        let fake = fake::switch();
        let root = fake.root.path();
        let device = std::fs::canonicalize(root.join("sys/bus/pci/devices/0000:04:00.0"));
        let device = device.expect("a device");
        let class = root.join("sys/class/block");
        std::fs::create_dir_all(&class).expect("a directory");
        for (name, number) in [("nvme1n1", 1), ("nvme1n2", 2)] {
            let disk = device.join("nvme/nvme1").join(name);
            std::fs::create_dir_all(&disk).expect("a directory");
            std::fs::write(disk.join("dev"), format!("259:{number}\n")).expect("a file");
            std::fs::create_dir_all(disk.join("queue")).expect("a directory");
            std::fs::write(disk.join("queue/logical_block_size"), "512\n").expect("a file");
            std::fs::write(disk.join("size"), "131072\n").expect("a file");
            std::os::unix::fs::symlink(&disk, class.join(name)).expect("a link");
        }
        let mount = |number: u32| {
            fake.write(
                "proc/self/mountinfo",
                format!("36 35 259:{number} / /mnt rw - ext4 /dev/x rw\n"),
            );
        };
        let machine = fake.read();
        let client = machine
            .clients
            .iter()
            .find(|client| client.controller == "nvme1");
        let client = client.expect("a client");
        let disk = &client.namespaces[0];
        assert_eq!(
            (disk.name.as_str(), client.namespaces.len()),
            ("nvme1n1", 2)
        );
        let files = Files::below(root);
        assert_eq!(uses(&files, client, disk), []);
        mount(2);
        assert_eq!(uses(&files, client, disk), []);
        mount(1);
        assert_eq!(uses(&files, client, disk).len(), 1);
        let refused = may_write(&files, client, disk).expect_err("it is mounted");
        assert!(
            refused.to_string().contains("nvme1n1 is mounted on /mnt"),
            "{refused}"
        );
    }
}
