// SPDX-License-Identifier: GPL-2.0

//! The initramfs: a newc cpio archive, not compressed, since the guest would unpack it slowly.

use std::collections::BTreeMap;
use std::io::{self, Write};
use std::path::Path;

use cpio::newc::{self, ModeFileType};

/// Files of the guest, by absolute path.
#[derive(Debug, Default)]
pub struct Initramfs {
    entries: BTreeMap<String, Entry>,
}

#[derive(Debug)]
enum Entry {
    Directory,
    File { mode: u32, bytes: Vec<u8> },
    Link { target: String },
    Device { major: u32, minor: u32 },
}

impl Initramfs {
    /// An archive with the directories that every guest has.
    pub fn new() -> Self {
        let mut archive = Self::default();
        for directory in [
            "/bin", "/dev", "/proc", "/root", "/run", "/sbin", "/sys", "/tmp",
        ] {
            archive.put(directory, Entry::Directory);
        }
        // Init's own standard streams, before devtmpfs is there.
        archive.put("/dev/console", Entry::Device { major: 5, minor: 1 });
        archive
    }

    /// Adds an executable file.
    pub fn program(&mut self, path: impl AsRef<Path>, bytes: Vec<u8>) {
        self.put(path, Entry::File { mode: 0o755, bytes });
    }

    /// Adds a file that is only read.
    pub fn file(&mut self, path: impl AsRef<Path>, bytes: Vec<u8>) {
        self.put(path, Entry::File { mode: 0o644, bytes });
    }

    /// Adds a symbolic link.
    pub fn link(&mut self, path: impl AsRef<Path>, target: &str) {
        self.put(
            path,
            Entry::Link {
                target: target.into(),
            },
        );
    }

    /// Whether there is something at `path`.
    pub fn contains(&self, path: &str) -> bool {
        self.entries.contains_key(path.trim_start_matches('/'))
    }

    fn put(&mut self, path: impl AsRef<Path>, entry: Entry) {
        let path = path.as_ref().to_string_lossy();
        let path = path.trim_matches('/');
        for (at, _) in path.match_indices('/') {
            self.entries
                .entry(path[..at].into())
                .or_insert(Entry::Directory);
        }
        self.entries.insert(path.into(), entry);
    }

    /// Writes the archive.
    pub fn write(&self, mut out: impl Write) -> io::Result<()> {
        for (number, (path, entry)) in (1..).zip(&self.entries) {
            let builder = newc::Builder::new(path).ino(number).nlink(1);
            let (builder, bytes): (_, &[u8]) = match entry {
                Entry::Directory => (
                    builder
                        .mode(0o755)
                        .set_mode_file_type(ModeFileType::Directory),
                    &[],
                ),
                Entry::File { mode, bytes } => (
                    builder
                        .mode(*mode)
                        .set_mode_file_type(ModeFileType::Regular),
                    bytes,
                ),
                Entry::Link { target } => (
                    builder
                        .mode(0o777)
                        .set_mode_file_type(ModeFileType::Symlink),
                    target.as_bytes(),
                ),
                Entry::Device { major, minor } => (
                    builder
                        .mode(0o600)
                        .set_mode_file_type(ModeFileType::Char)
                        .rdev_major(*major)
                        .rdev_minor(*minor),
                    &[],
                ),
            };
            let size = u32::try_from(bytes.len())
                .map_err(|_| io::Error::other(format!("{path} is larger than 4 GiB")))?;
            let mut writer = builder.write(&mut out, size);
            writer.write_all(bytes)?;
            writer.finish()?;
        }
        newc::trailer(&mut out)?;
        out.flush()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Read;

    #[test]
    fn the_archive_reads_back() {
        let mut archive = Initramfs::new();
        archive.program("/a/b/test", b"#!/bin/sh\n".to_vec());
        archive.file("/etc/x", vec![1, 2, 3]);
        archive.link("/bin/sh", "busybox");
        assert!(archive.contains("/a/b"));
        assert!(!archive.contains("/a/c"));
        let mut bytes = Vec::new();
        archive.write(&mut bytes).expect("writes");
        assert_eq!(&bytes[..6], b"070701");

        let mut found = BTreeMap::new();
        let mut rest = bytes.as_slice();
        loop {
            let mut reader = newc::Reader::new(rest).expect("a header");
            if reader.entry().is_trailer() {
                break;
            }
            let mut contents = Vec::new();
            reader.read_to_end(&mut contents).expect("contents");
            let entry = reader.entry();
            found.insert(
                entry.name().to_owned(),
                (entry.mode(), entry.rdev_major(), contents),
            );
            rest = reader.finish().expect("next");
        }
        assert_eq!(found["a/b/test"].0, 0o100_755);
        assert_eq!(found["a/b/test"].2, b"#!/bin/sh\n");
        assert_eq!(found["a"].0, 0o040_755);
        assert_eq!(found["etc/x"], (0o100_644, 0, vec![1, 2, 3]));
        assert_eq!(found["bin/sh"], (0o120_777, 0, b"busybox".to_vec()));
        assert_eq!(found["dev/console"].0, 0o020_600);
        assert_eq!(found["dev/console"].1, 5);
        // A directory comes before what is in it: the kernel creates nothing by itself.
        let order: Vec<_> = found.keys().collect();
        let at = |name: &str| order.iter().position(|&key| key == name);
        assert!(at("a") < at("a/b") && at("a/b") < at("a/b/test"));
    }
}
