// SPDX-License-Identifier: GPL-2.0

//! A tree of files to read a machine from: this machine's own, a copy in a directory, or an
//! archive.
//!
//! Copies and archives come from others. Nothing of them is written to a disk, their links are
//! followed inside of them only, and there are limits to all that is kept.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File};
use std::io::{self, Read};
use std::path::{Component, Path, PathBuf};

use anyhow::{bail, ensure, Context, Result};
use flate2::read::MultiGzDecoder;
use rustix::fs::{Mode, OFlags};

use crate::text::{printable, printable_line};

/// No file that is read has more than this; what follows is cut off.
const FILE_MAX: u64 = 1 << 20;
/// No archive has more than this after decompression.
const ARCHIVE_MAX: u64 = 256 << 20;
/// No archive has more files, links and directories than this, with those that only the paths of
/// others mention.
const ENTRIES_MAX: usize = 1 << 20;
/// The paths of an archive, and what its links point to, have no more bytes than this: so many
/// entries with paths of 64 bytes.
const NAMES_MAX: usize = ENTRIES_MAX * 64;
/// No path of an archive has more parts than this: sysfs has some 20.
const DEPTH_MAX: usize = 63;
/// So many links are followed to find one file, as by the kernel.
const LINKS_MAX: usize = 40;
/// No path is longer than this.
const PATH_MAX: usize = 4096;

/// What is at a place.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Node {
    /// A file, and what is in it.
    File(Vec<u8>),
    /// A symbolic link, and where it points to.
    Link(String),
    /// A directory.
    Directory,
}

/// The files of an archive, by path, with the directories that it does not mention.
#[derive(Debug, Default)]
struct Memory {
    nodes: BTreeMap<String, Node>,
    /// Bytes of the paths, and of what links point to.
    names: usize,
}

/// Where the files are.
#[derive(Debug)]
enum Place {
    /// This machine. The kernel finds the files.
    Live,
    /// Below a directory that somebody made.
    Below(PathBuf),
    /// In memory.
    Memory(Memory),
}

/// What was read, to make a capture of it.
#[derive(Debug, Default)]
pub struct Record {
    /// Files, and what was in them.
    pub files: BTreeMap<String, Vec<u8>>,
    /// Symbolic links, and where they point to.
    pub links: BTreeMap<String, String>,
    /// Directories that count because they are there.
    pub directories: BTreeSet<String>,
}

/// A tree of files. All paths are relative to its root, such as `proc/cmdline`.
#[derive(Debug)]
pub struct Tree {
    place: Place,
    record: Option<RefCell<Record>>,
}

/// A path without `.`, and without a `/` at its ends; `None` if it leads upwards or is too long.
fn plain(path: &Path) -> Option<String> {
    let mut parts = Vec::new();
    for part in path.components() {
        match part {
            Component::Normal(name) => parts.push(name.to_str()?),
            Component::CurDir | Component::RootDir => (),
            Component::ParentDir | Component::Prefix(_) => return None,
        }
    }
    let path = parts.join("/");
    (!path.is_empty() && path.len() <= PATH_MAX).then_some(path)
}

/// Whether a directory, as a listing of its paths, holds a copy of a machine.
const MARK: &str = "sys/bus/pci/devices";

impl Memory {
    /// Adds a node, and all directories above it, unless that is more than the limits allow.
    fn insert(&mut self, path: String, node: Node) -> Result<()> {
        let depth = path.split('/').count();
        ensure!(
            depth <= DEPTH_MAX,
            "a path in it has {depth} parts, more than {DEPTH_MAX}"
        );
        let mut above = path.as_str();
        while let Some((parent, _)) = above.rsplit_once('/') {
            if self.nodes.contains_key(parent) {
                break;
            }
            self.add(parent.to_owned(), Node::Directory)?;
            above = parent;
        }
        self.add(path, node)
    }

    fn add(&mut self, path: String, node: Node) -> Result<()> {
        let target = match &node {
            Node::Link(target) => target.len(),
            _ => 0,
        };
        // those that are replaced by a later one of the same path count, too
        self.names += path.len() + target;
        ensure!(
            self.names <= NAMES_MAX,
            "its paths and links have more than {NAMES_MAX} bytes"
        );
        self.nodes.insert(path, node);
        ensure!(
            self.nodes.len() <= ENTRIES_MAX,
            "there are more than {ENTRIES_MAX} files and directories"
        );
        Ok(())
    }

    /// Reads an archive made by tar.
    fn unpack(archive: impl Read) -> Result<Self> {
        let mut memory = Memory::default();
        let mut kept = 0_u64;
        let mut archive = tar::Archive::new(Bounded(archive, ARCHIVE_MAX));
        for (count, entry) in archive.entries()?.enumerate() {
            ensure!(
                count < ENTRIES_MAX,
                "there are more than {ENTRIES_MAX} files"
            );
            let entry = entry?;
            let Some(path) = entry.path().ok().and_then(|path| plain(&path)) else {
                continue;
            };
            let target = entry.link_name().ok().flatten();
            let target = target.and_then(|target| Some(target.to_str()?.to_owned()));
            let target = target.filter(|target| target.len() <= PATH_MAX);
            let kind = entry.header().entry_type();
            let node = if kind.is_dir() {
                Node::Directory
            } else if kind.is_symlink() {
                target.map_or(Node::Directory, Node::Link)
            } else if kind.is_hard_link() {
                // its target is a path in the archive
                target.map_or(Node::Directory, |target| Node::Link(format!("/{target}")))
            } else if kind.is_file() || kind.is_gnu_sparse() {
                let mut content = Vec::new();
                entry.take(FILE_MAX).read_to_end(&mut content)?;
                kept += u64::try_from(content.len())?;
                // holes of sparse files are not in the archive
                ensure!(kept <= ARCHIVE_MAX, "it is larger than {ARCHIVE_MAX} bytes");
                Node::File(content)
            } else {
                continue;
            };
            memory.insert(path, node)?;
        }
        Ok(memory)
    }

    /// Makes the directory that holds the machine the root.
    fn descend(self) -> Option<Self> {
        let holds = |prefix: &str| self.nodes.contains_key(&format!("{prefix}{MARK}"));
        if holds("") {
            return Some(self);
        }
        let tops = self.nodes.keys().filter(|path| !path.contains('/'));
        let top = tops
            .map(|path| format!("{path}/"))
            .find(|prefix| holds(prefix))?;
        let nodes = self.nodes.into_iter().filter_map(|(path, node)| {
            let path = path.strip_prefix(&top)?.to_owned();
            Some((path, node))
        });
        Some(Memory {
            nodes: nodes.collect(),
            ..Memory::default()
        })
    }

    /// Names in a directory.
    fn entries(&self, path: &str) -> Vec<String> {
        let prefix = format!("{path}/");
        let inside = self.nodes.range(prefix.clone()..);
        let inside = inside.map_while(|(path, _)| path.strip_prefix(&prefix));
        inside
            .filter(|name| !name.contains('/'))
            .map(str::to_owned)
            .collect()
    }
}

/// A reader of what these bytes were before they were compressed, if they are compressed.
fn decompressor(bytes: &[u8]) -> Option<Box<dyn Read + '_>> {
    if bytes.starts_with(&[0x1f, 0x8b]) {
        Some(Box::new(MultiGzDecoder::new(bytes)))
    } else if bytes.starts_with(b"BZh") {
        Some(Box::new(bzip2::read::MultiBzDecoder::new(bytes)))
    } else {
        None
    }
}

/// What these bytes were before they were compressed, or they themselves.
pub fn decompressed(bytes: Vec<u8>) -> io::Result<Vec<u8>> {
    let Some(reader) = decompressor(&bytes) else {
        return Ok(bytes);
    };
    let mut plain = Vec::new();
    Bounded(reader, ARCHIVE_MAX).read_to_end(&mut plain)?;
    Ok(plain)
}

/// A reader that fails after so many bytes, instead of going on for ever.
struct Bounded<R>(R, u64);

impl<R: Read> Read for Bounded<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = self.0.read(buffer)?;
        let left = self
            .1
            .checked_sub(u64::try_from(read).unwrap_or(u64::MAX))
            .ok_or_else(|| io::Error::other(format!("it is larger than {ARCHIVE_MAX} bytes")))?;
        self.1 = left;
        Ok(read)
    }
}

impl Tree {
    fn of(place: Place) -> Self {
        Tree {
            place,
            record: None,
        }
    }

    /// This machine's own.
    pub fn live() -> Self {
        Self::of(Place::Live)
    }

    /// Whether it is this machine's own.
    pub fn is_live(&self) -> bool {
        matches!(self.place, Place::Live)
    }

    /// The same, remembering what is read of it.
    pub fn recording(self) -> Self {
        Tree {
            record: Some(RefCell::default()),
            ..self
        }
    }

    /// What was read, if that was remembered.
    pub fn into_record(self) -> Record {
        self.record.map(RefCell::into_inner).unwrap_or_default()
    }

    /// A copy in a directory, or in the only directory in it.
    pub fn below(dir: &Path) -> Result<Self> {
        let holds = |dir: &Path| dir.join(MARK).is_dir();
        if holds(dir) {
            return Ok(Self::of(Place::Below(dir.to_owned())));
        }
        let inside = fs::read_dir(dir).with_context(|| format!("cannot read {}", dir.display()))?;
        let mut inside = inside.take(64).flatten().map(|entry| entry.path());
        match inside.find(|path| holds(path)) {
            Some(dir) => Ok(Self::of(Place::Below(dir))),
            None => bail!("{}: no {MARK} in it", dir.display()),
        }
    }

    /// An archive, if these bytes are the beginning of one.
    pub fn archive(bytes: &[u8]) -> Option<Result<Self>> {
        let is_archive = |bytes: &[u8]| bytes.get(257..262) == Some(b"ustar");
        let memory = match decompressor(bytes) {
            Some(mut reader) => {
                let mut start = Vec::new();
                match reader.by_ref().take(512).read_to_end(&mut start) {
                    Ok(_) if !is_archive(&start) => return None,
                    Ok(_) => Memory::unpack(start.chain(reader)),
                    Err(error) => Err(error.into()),
                }
            }
            None if is_archive(bytes) => Memory::unpack(bytes),
            None => return None,
        };
        let tree = memory.context("the archive is damaged").and_then(|memory| {
            let memory = memory.descend().context("there is no copy of /sys in it")?;
            Ok(Self::of(Place::Memory(memory)))
        });
        Some(tree)
    }

    /// Where a symbolic link at a place points to, `None` if nothing is there, and `Some(None)` if
    /// it is no link.
    fn link(&self, path: &str) -> Option<Option<String>> {
        match &self.place {
            Place::Live => link_on_disk(Path::new("/").join(path)),
            Place::Below(root) => link_on_disk(root.join(path)),
            Place::Memory(memory) => match memory.nodes.get(path)? {
                Node::Link(target) => Some(Some(target.clone())),
                _ => Some(None),
            },
        }
    }

    /// Follows links, and never leaves the tree.
    fn resolve(&self, path: &str) -> Option<String> {
        let mut todo: Vec<String> = path.rsplit('/').map(str::to_owned).collect();
        let mut done: Vec<String> = Vec::new();
        let mut links = 0;
        while let Some(part) = todo.pop() {
            match part.as_str() {
                "" | "." => continue,
                // above the root is the root
                ".." => {
                    done.pop();
                    continue;
                }
                _ => done.push(part),
            }
            let at = done.join("/");
            if at.len() > PATH_MAX {
                return None;
            }
            if let Some(target) = self.link(&at)? {
                links += 1;
                if links > LINKS_MAX {
                    return None;
                }
                if target.starts_with('/') {
                    done.clear();
                } else {
                    done.pop();
                }
                todo.extend(target.rsplit('/').map(str::to_owned));
            }
        }
        Some(done.join("/"))
    }

    /// Where a file or directory really is, with all links followed.
    pub fn real(&self, path: &str) -> Option<String> {
        let real = match &self.place {
            Place::Live => {
                let real = fs::canonicalize(Path::new("/").join(path)).ok()?;
                plain(&real)?
            }
            _ => self.resolve(path)?,
        };
        if let Some(record) = &self.record {
            let mut record = record.borrow_mut();
            if real != path {
                record.links.insert(path.to_owned(), format!("/{real}"));
            }
            record.directories.insert(real.clone());
        }
        Some(real)
    }

    /// What is in a file, up to a limit; `None` if it cannot be read.
    pub fn read(&self, path: &str) -> Option<Vec<u8>> {
        let content = match &self.place {
            Place::Live => {
                let mut content = Vec::new();
                let file = File::open(Path::new("/").join(path)).ok()?;
                file.take(FILE_MAX).read_to_end(&mut content).ok()?;
                content
            }
            Place::Below(root) => {
                let path = root.join(self.resolve(path)?);
                // neither a pipe nor a device, which might never end or never begin
                if !fs::metadata(&path).ok()?.is_file() {
                    return None;
                }
                let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
                let file = File::from(rustix::fs::open(&path, flags, Mode::empty()).ok()?);
                let mut content = Vec::new();
                file.take(FILE_MAX).read_to_end(&mut content).ok()?;
                content
            }
            Place::Memory(memory) => match memory.nodes.get(&self.resolve(path)?)? {
                Node::File(content) => content.clone(),
                _ => return None,
            },
        };
        if let Some(record) = &self.record {
            let mut record = record.borrow_mut();
            record.files.insert(path.to_owned(), content.clone());
        }
        Some(content)
    }

    /// What is in a file of text, without space at its ends, and safe to print.
    pub fn text(&self, path: &str) -> Option<String> {
        let content = self.read(path)?;
        Some(printable(String::from_utf8_lossy(&content).trim()))
    }

    /// The same of a file with one line.
    pub fn line(&self, path: &str) -> Option<String> {
        Some(printable_line(&self.text(path)?))
    }

    /// The last part of what a symbolic link points to, safe to print.
    pub fn link_name(&self, path: &str) -> Option<String> {
        let target = self.link(path)??;
        if let Some(record) = &self.record {
            let mut record = record.borrow_mut();
            record.links.insert(path.to_owned(), target.clone());
        }
        let name = target.rsplit('/').find(|part| !part.is_empty())?;
        Some(printable_line(name))
    }

    /// Names in a directory that are of interest, in order; none if there is no such directory.
    ///
    /// Those that are not safe to print are left out: the kernel makes no such names.
    pub fn entries(&self, path: &str, of_interest: impl Fn(&str) -> bool) -> Vec<String> {
        let on_disk = |dir: &Path| -> Vec<String> {
            let entries = fs::read_dir(dir).into_iter().flatten().take(ENTRIES_MAX);
            let names = entries.filter_map(|entry| entry.ok()?.file_name().into_string().ok());
            names.collect()
        };
        let mut names = match &self.place {
            Place::Live => on_disk(&Path::new("/").join(path)),
            Place::Below(root) => self
                .resolve(path)
                .map_or_else(Vec::new, |path| on_disk(&root.join(path))),
            Place::Memory(memory) => self
                .resolve(path)
                .map_or_else(Vec::new, |path| memory.entries(&path)),
        };
        names.retain(|name| of_interest(name) && printable_line(name) == *name);
        names.sort();
        if let Some(record) = &self.record {
            let mut record = record.borrow_mut();
            for inside in names.iter().map(|name| format!("{path}/{name}")) {
                // a link to what is not there stays one
                match self.link(&inside) {
                    Some(Some(target)) if !self.is_there(&inside) => {
                        record.links.insert(inside, target);
                    }
                    _ => {
                        record.directories.insert(inside);
                    }
                }
            }
        }
        names
    }

    /// Whether there is something at a place, with all links followed.
    fn is_there(&self, path: &str) -> bool {
        match &self.place {
            Place::Live => Path::new("/").join(path).exists(),
            _ => self.resolve(path).is_some(),
        }
    }

    /// Whether there is such a directory.
    pub fn is_directory(&self, path: &str) -> bool {
        let is = match &self.place {
            Place::Live => Path::new("/").join(path).is_dir(),
            Place::Below(root) => self
                .resolve(path)
                .is_some_and(|path| root.join(path).is_dir()),
            Place::Memory(memory) => self
                .resolve(path)
                .is_some_and(|path| memory.nodes.get(&path) == Some(&Node::Directory)),
        };
        if let Some(record) = self.record.as_ref().filter(|_| is) {
            record.borrow_mut().directories.insert(path.to_owned());
        }
        is
    }
}

/// Where a link on disk points to; `Some(None)` for what is no link.
fn link_on_disk(path: PathBuf) -> Option<Option<String>> {
    let kind = fs::symlink_metadata(&path).ok()?.file_type();
    if !kind.is_symlink() {
        return Some(None);
    }
    let target = fs::read_link(path).ok()?;
    Some(Some(target.to_str()?.to_owned()))
}

impl Record {
    /// Writes it as a compressed archive, which [`Tree::archive`] reads.
    ///
    /// The same machine gives the same bytes: there are no owners and no times in it.
    pub fn write(&self, out: impl io::Write) -> io::Result<()> {
        let packer = flate2::write::GzEncoder::new(out, flate2::Compression::best());
        let mut archive = tar::Builder::new(packer);
        let header = |kind, size| {
            let mut header = tar::Header::new_gnu();
            header.set_entry_type(kind);
            header.set_mode(if kind == tar::EntryType::Directory {
                0o755
            } else {
                0o644
            });
            header.set_size(size);
            header
        };
        let known = |path: &String| self.files.contains_key(path) || self.links.contains_key(path);
        for path in self.directories.iter().filter(|path| !known(path)) {
            let mut header = header(tar::EntryType::Directory, 0);
            archive.append_data(&mut header, format!("{path}/"), io::empty())?;
        }
        for (path, content) in &self.files {
            let mut header = header(tar::EntryType::Regular, content.len() as u64);
            archive.append_data(&mut header, path, content.as_slice())?;
        }
        for (path, target) in &self.links {
            let mut header = header(tar::EntryType::Symlink, 0);
            archive.append_link(&mut header, path, target)?;
        }
        archive.into_inner()?.finish()?.flush()
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    /// An archive of these files and links, whatever their names are.
    fn pack(files: &[(&str, &[u8])], links: &[(&str, &str)]) -> Vec<u8> {
        let mut archive = tar::Builder::new(Vec::new());
        let add =
            |archive: &mut tar::Builder<Vec<u8>>, kind, path: &str, target: &str, data: &[u8]| {
                let mut header = tar::Header::new_gnu();
                header.set_entry_type(kind);
                header.set_size(data.len() as u64);
                header.as_mut_bytes()[..path.len()].copy_from_slice(path.as_bytes());
                header.as_mut_bytes()[157..157 + target.len()].copy_from_slice(target.as_bytes());
                header.set_cksum();
                archive.append(&header, data).expect("an entry");
            };
        for (path, data) in files {
            add(&mut archive, tar::EntryType::Regular, path, "", data);
        }
        for (path, target) in links {
            add(&mut archive, tar::EntryType::Symlink, path, target, &[]);
        }
        archive.into_inner().expect("an archive")
    }

    fn unpack(bytes: &[u8]) -> Tree {
        Tree::archive(bytes).expect("an archive").expect("a tree")
    }

    const HERE: (&str, &[u8]) = ("sys/bus/pci/devices/x/vendor", b"0x8086\n");

    #[test]
    fn reads_what_it_wrote() {
        let record = Record {
            files: [(
                "sys/bus/pci/devices/x/vendor".to_owned(),
                b"0x8086\n".to_vec(),
            )]
            .into(),
            links: [("sys/class/block/a".to_owned(), "/sys/devices/b".to_owned())].into(),
            directories: [
                "sys/devices/b".to_owned(),
                "sys/bus/pci/devices/x".to_owned(),
            ]
            .into(),
        };
        let mut bytes = Vec::new();
        record.write(&mut bytes).expect("an archive");
        let tree = unpack(&bytes);
        assert_eq!(
            tree.text("sys/bus/pci/devices/x/vendor").as_deref(),
            Some("0x8086")
        );
        assert_eq!(
            tree.real("sys/class/block/a").as_deref(),
            Some("sys/devices/b")
        );
        assert_eq!(tree.link_name("sys/class/block/a").as_deref(), Some("b"));
        assert_eq!(tree.entries("sys/bus/pci/devices", |_| true), ["x"]);
        assert!(tree.is_directory("sys/devices/b"));
        let mut again = Vec::new();
        record.write(&mut again).expect("an archive");
        assert_eq!(bytes, again);
    }

    #[test]
    fn descends_into_the_only_directory() {
        let tree = unpack(&pack(
            &[("machine/sys/bus/pci/devices/x/vendor", b"1")],
            &[],
        ));
        assert_eq!(
            tree.text("sys/bus/pci/devices/x/vendor").as_deref(),
            Some("1")
        );
        let other = pack(&[("etc/passwd", b"")], &[]);
        let error = Tree::archive(&other)
            .expect("an archive")
            .expect_err("no /sys");
        assert!(error.to_string().contains("no copy of /sys"), "{error}");
        assert!(Tree::archive(b"00:00.0 Host bridge").is_none());
    }

    /// What a terminal would act upon is not handed on.
    #[test]
    fn what_is_read_is_safe_to_print() {
        let files: [(&str, &[u8]); 3] = [
            HERE,
            ("sys/a/model", b"evil\x1b[2Jmodel\nnext\x07\n"),
            ("sys/a/\x1b[2J", b""),
        ];
        let tree = unpack(&pack(&files, &[("sys/a/driver", "drivers/\x1b]0;x\x07y")]));
        let text = tree.text("sys/a/model").expect("a file");
        assert_eq!(text, "evil\u{fffd}[2Jmodel\nnext\u{fffd}");
        let line = tree.line("sys/a/model").expect("a file");
        assert_eq!(line, "evil\u{fffd}[2Jmodel\u{fffd}next\u{fffd}");
        let name = tree.link_name("sys/a/driver").expect("a link");
        assert_eq!(name, "\u{fffd}]0;x\u{fffd}y");
        assert_eq!(tree.entries("sys/a", |_| true), ["driver", "model"]);
    }

    #[test]
    fn links_do_not_lead_out() {
        let links = [
            ("up", "../../../../etc/passwd"),
            ("top", "/etc/passwd"),
            ("circle", "circle"),
            ("a", "b"),
            ("b", "a"),
            ("sys/in", "../../../../sys/bus"),
        ];
        let tree = unpack(&pack(&[HERE], &links));
        for path in [
            "up",
            "top",
            "circle",
            "a",
            "b",
            "../../etc/passwd",
            "nothing",
        ] {
            assert_eq!(tree.read(path), None, "{path}");
            assert_eq!(tree.real(path), None, "{path}");
        }
        assert_eq!(tree.real("sys/in").as_deref(), Some("sys/bus"));

        // the same in a directory
        let dir = tempfile::tempdir().expect("a temporary directory");
        fs::create_dir_all(dir.path().join("m").join(MARK)).expect("a directory");
        for (name, target) in links {
            symlink(target, dir.path().join("m").join(name)).expect("a link");
        }
        let outside = dir.path().join("secret");
        fs::write(&outside, "secret").expect("a file");
        symlink("../secret", dir.path().join("m/out")).expect("a link");
        symlink(&outside, dir.path().join("m/absolute")).expect("a link");
        let tree = Tree::below(&dir.path().join("m")).expect("a tree");
        for path in ["up", "top", "circle", "out", "absolute", "../secret"] {
            assert_eq!(tree.read(path), None, "{path}");
        }
        assert_eq!(tree.real("sys/in").as_deref(), Some("sys/bus"));
    }

    #[test]
    fn names_do_not_lead_out() {
        let files: [(&str, &[u8]); 4] = [
            HERE,
            ("../up", b"1"),
            ("sys/../../up", b"2"),
            ("/top", b"3"),
        ];
        let tree = unpack(&pack(&files, &[]));
        assert_eq!(tree.read("up"), None);
        assert_eq!(tree.read("../up"), None);
        assert_eq!(tree.read("top").as_deref(), Some(&b"3"[..]));
    }

    #[test]
    fn there_are_limits() {
        // a file that is larger than any in sysfs is cut
        let large = vec![b'x'; 3 << 20];
        let tree = unpack(&pack(&[HERE, ("sys/large", &large)], &[]));
        assert_eq!(
            tree.read("sys/large").map(|data| data.len() as u64),
            Some(FILE_MAX)
        );

        // directories that are only mentioned count as well, and so do the bytes of all paths
        let deep = |parts: usize| {
            let mut archive = tar::Builder::new(Vec::new());
            for path in [HERE.0.to_owned(), "d/".repeat(parts - 1) + "file"] {
                let mut header = tar::Header::new_gnu();
                header.set_size(0);
                let added = archive.append_data(&mut header, path, io::empty());
                added.expect("room");
            }
            let bytes = archive.into_inner().expect("an archive");
            Tree::archive(&bytes).expect("an archive")
        };
        assert!(deep(DEPTH_MAX).is_ok());
        for parts in [DEPTH_MAX + 1, 2001] {
            let error = deep(parts).expect_err("too deep");
            let said = format!("{error:#}");
            assert!(said.contains(&format!("has {parts} parts")), "{said}");
        }

        let long = "n".repeat(60);
        let mut memory = Memory::default();
        // each adds itself and 61 directories, with some 120,000 bytes of paths
        let mut names = (0..).map(|i| format!("{i}/{}x", format!("{long}/").repeat(61)));
        let error = loop {
            let name = names.next().expect("endless");
            if let Err(error) = memory.insert(name, Node::Directory) {
                break error;
            }
        };
        assert!(error.to_string().contains("paths and links"), "{error}");
        let kept: usize = memory.nodes.keys().map(String::len).sum();
        assert!(kept <= NAMES_MAX && kept > NAMES_MAX - (1 << 17), "{kept}");

        let mut memory = Memory::default();
        // each adds a directory as well
        let mut names = (0..).map(|i| format!("{i:x}/x"));
        let added = (0..)
            .zip(names.by_ref())
            .find_map(|(i, name)| memory.insert(name, Node::Directory).err().map(|e| (i, e)));
        let (added, error) = added.expect("endless");
        assert_eq!(added, ENTRIES_MAX / 2);
        assert!(
            error.to_string().contains("files and directories"),
            "{error}"
        );

        // what grows beyond all limits when it is decompressed is given up
        let mut bomb = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        let mut head = tar::Header::new_gnu();
        head.set_path("sys/zeros").expect("a path");
        head.set_size(ARCHIVE_MAX * 4);
        head.set_cksum();
        io::Write::write_all(&mut bomb, head.as_bytes()).expect("room");
        let zeros = vec![0; 1 << 20];
        for _ in 0..(ARCHIVE_MAX >> 20) + 2 {
            io::Write::write_all(&mut bomb, &zeros).expect("room");
        }
        let bomb = bomb.finish().expect("an archive");
        let error = Tree::archive(&bomb)
            .expect("an archive")
            .expect_err("too much");
        assert!(format!("{error:#}").contains("larger than"), "{error:#}");
    }
}
