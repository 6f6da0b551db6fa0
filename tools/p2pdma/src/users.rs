// SPDX-License-Identifier: GPL-2.0

//! Who uses a PCI function, and who uses the peer-to-peer memory that it provides.
//!
//! Whoever takes a device away from its driver has to know the first, whoever takes a provider away
//! the second. All of it is read from sysfs, procfs and configfs below a directory, which is `/`
//! but in tests. Without root, other users' processes cannot be looked at.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;
use serde::Serialize;

use crate::bdf::Bdf;
use crate::machine::Provider;
use crate::size::Size;
use crate::text::printable_line;

/// What a function is in use for.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(tag = "use", rename_all = "kebab-case")]
pub enum Use {
    /// A file system on it is mounted.
    Mounted {
        /// Name of the block device.
        disk: String,
        /// Where it is mounted.
        on: String,
    },
    /// It is swapped to.
    Swap {
        /// Name of the block device.
        disk: String,
    },
    /// It is a part of another block device, as of md, dm and loop.
    Member {
        /// Name of the block device.
        disk: String,
        /// Name of the other.
        of: String,
    },
    /// A namespace of the kernel's NVMe target is on it.
    Exported {
        /// Name of the block device.
        disk: String,
        /// Name of the subsystem, and number of the namespace.
        namespace: String,
    },
    /// The kernel has it opened for itself alone.
    Exclusive {
        /// Name of the block device.
        disk: String,
    },
    /// A network interface of it is up.
    Network {
        /// Name of the interface.
        interface: String,
    },
    /// A process has it open.
    Open {
        /// The device node.
        node: String,
        /// Number of the process.
        pid: u32,
        /// Its name.
        command: String,
    },
}

impl Use {
    /// The same with names that are safe to print: some are chosen by whoever made the thing.
    fn printable(mut self) -> Self {
        let names = match &mut self {
            Use::Mounted { disk, on } => vec![disk, on],
            Use::Member { disk, of } => vec![disk, of],
            Use::Exported { disk, namespace } => vec![disk, namespace],
            Use::Swap { disk } | Use::Exclusive { disk } => vec![disk],
            Use::Network { interface } => vec![interface],
            Use::Open { node, command, .. } => vec![node, command],
        };
        for name in names {
            *name = printable_line(name);
        }
        self
    }
}

impl fmt::Display for Use {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Use::Mounted { disk, on } => write!(f, "{disk} is mounted on {on}"),
            Use::Swap { disk } => write!(f, "{disk} is swapped to"),
            Use::Member { disk, of } => write!(f, "{disk} is a part of {of}"),
            Use::Exported { disk, namespace } => {
                write!(f, "{disk} is exported by the NVMe target as {namespace}")
            }
            Use::Exclusive { disk } => write!(f, "the kernel uses {disk} for itself"),
            Use::Network { interface } => write!(f, "the interface {interface} is up"),
            Use::Open { node, pid, command } => {
                write!(f, "{node} is open in process {pid} ({command})")
            }
        }
    }
}

/// A process that has mapped peer-to-peer memory.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Process {
    /// Its number.
    pub pid: u32,
    /// Its name.
    pub command: String,
    /// How much it has mapped, in bytes.
    pub bytes: u64,
}

/// Who uses a provider's memory.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct PoolUsers {
    /// Processes that have mapped it.
    pub processes: Vec<Process>,
    /// Namespaces of the kernel's NVMe target that are to use it.
    pub targets: Vec<String>,
    /// What else of the pool is in use, in bytes: what drivers have allocated, and what is mapped
    /// by processes that could not be looked at.
    pub kernel: u64,
}

impl PoolUsers {
    /// Each of them, in words.
    pub fn lines(&self) -> Vec<String> {
        let processes = self.processes.iter().map(|process| {
            let Process {
                pid,
                command,
                bytes,
            } = process;
            format!("process {pid} ({command}) has mapped {}", Size(*bytes))
        });
        let targets = self
            .targets
            .iter()
            .map(|target| format!("namespace {target} of the NVMe target"));
        let kernel = (self.kernel > 0).then(|| format!("drivers hold {}", Size(self.kernel)));
        processes.chain(targets).chain(kernel).collect()
    }
}

fn entries(dir: impl AsRef<Path>) -> Vec<(String, PathBuf)> {
    let entries = fs::read_dir(dir).into_iter().flatten().flatten();
    let mut entries: Vec<_> = entries
        .filter_map(|entry| Some((entry.file_name().into_string().ok()?, entry.path())))
        .collect();
    entries.sort();
    entries
}

fn text(path: impl AsRef<Path>) -> Option<String> {
    Some(fs::read_to_string(path).ok()?.trim().to_owned())
}

/// The name that a process, by its directory, gives itself, safe to print.
fn command(process: impl AsRef<Path>) -> String {
    let name = text(process.as_ref().join("comm")).unwrap_or_default();
    printable_line(&name)
}

/// Undoes the octal escapes of /proc/mounts and /proc/swaps.
fn unescape(field: &str) -> String {
    let mut out = Vec::new();
    let bytes = field.as_bytes();
    let mut at = 0;
    while let Some(&byte) = bytes.get(at) {
        let digits = bytes.get(at + 1..at + 4).filter(|_| byte == b'\\');
        let escaped = digits
            .and_then(|digits| std::str::from_utf8(digits).ok())
            .and_then(|digits| u8::from_str_radix(digits, 8).ok());
        out.push(escaped.unwrap_or(byte));
        at += if escaped.is_some() { 4 } else { 1 };
    }
    String::from_utf8_lossy(&out).into_owned()
}

/// What is to be found in a machine's files.
pub struct Files<'a> {
    root: &'a Path,
}

/// Device numbers or names of device nodes, and what to call them.
#[derive(Default)]
struct Nodes {
    by_number: BTreeMap<(bool, u32, u32), String>,
    by_path: BTreeSet<String>,
}

impl<'a> Files<'a> {
    /// Those below a directory.
    pub fn below(root: &'a Path) -> Self {
        Files { root }
    }

    fn sys(&self, path: &str) -> PathBuf {
        self.root.join("sys").join(path)
    }

    fn device(&self, bdf: Bdf) -> PathBuf {
        self.sys(&format!("bus/pci/devices/{bdf}"))
    }

    /// Block devices of a function, and all that is made of them: with what they are a part of.
    fn disks(&self, device: &Path) -> BTreeMap<String, Vec<String>> {
        let mut known = BTreeMap::new();
        let mut todo: Vec<String> = entries(self.sys("class/block"))
            .into_iter()
            .filter(|(_, path)| {
                fs::canonicalize(path)
                    .is_ok_and(|path| path.starts_with(device) || self.is_only_path(&path, device))
            })
            .map(|(name, _)| name)
            .collect();
        while let Some(name) = todo.pop() {
            if known.contains_key(&name) {
                continue;
            }
            let holders = entries(self.sys(&format!("class/block/{name}/holders")));
            let mut above: Vec<_> = holders.into_iter().map(|(name, _)| name).collect();
            above.extend(self.loops_on(&name));
            todo.extend(above.iter().cloned());
            known.insert(name, above);
        }
        known
    }

    /// Whether a block device is the head of a multipath namespace, and the function holds all
    /// controllers that lead to it.
    fn is_only_path(&self, disk: &Path, device: &Path) -> bool {
        let mut above = disk.ancestors().skip(1);
        let subsystem = above.find(|dir| {
            let name = dir.file_name().and_then(|name| name.to_str());
            name.is_some_and(|name| name.starts_with("nvme-subsys") && name != "nvme-subsystem")
        });
        let Some(subsystem) = subsystem else {
            return false;
        };
        let controllers: Vec<_> = entries(subsystem)
            .into_iter()
            .filter(|(name, path)| name.starts_with("nvme") && path.is_symlink())
            .filter_map(|(_, path)| fs::canonicalize(path).ok())
            .collect();
        !controllers.is_empty() && controllers.iter().all(|path| path.starts_with(device))
    }

    /// Loop devices on a block device; those on files are below what is mounted.
    fn loops_on(&self, name: &str) -> Vec<String> {
        let node = format!("/dev/{name}");
        entries(self.sys("block"))
            .into_iter()
            .filter(|(_, path)| text(path.join("loop/backing_file")).as_ref() == Some(&node))
            .map(|(name, _)| name)
            .collect()
    }

    /// `major:minor` of a block device.
    fn number(&self, disk: &str) -> Option<String> {
        text(self.sys(&format!("class/block/{disk}/dev")))
    }

    fn mounts(&self, disks: &BTreeMap<String, Vec<String>>, uses: &mut BTreeSet<Use>) {
        let numbers: BTreeMap<String, &String> = disks
            .keys()
            .filter_map(|disk| Some((self.number(disk)?, disk)))
            .collect();
        for process in ["self", "1"] {
            let path = self.root.join("proc").join(process).join("mountinfo");
            for line in fs::read_to_string(path).unwrap_or_default().lines() {
                // 36 35 98:0 /root /mnt options - ext4 /dev/root options
                let fields: Vec<_> = line.split(' ').collect();
                let source = fields
                    .iter()
                    .position(|field| *field == "-")
                    .and_then(|at| fields.get(at + 2));
                let (Some(number), Some(on)) = (fields.get(2), fields.get(4)) else {
                    continue;
                };
                // file systems of several disks have a number of their own
                let by_source = || {
                    let name = source?.strip_prefix("/dev/")?;
                    disks.get_key_value(name).map(|(disk, _)| disk)
                };
                let disk = numbers.get(*number).copied().or_else(by_source);
                uses.extend(disk.map(|disk| Use::Mounted {
                    disk: disk.clone(),
                    on: unescape(on),
                }));
            }
        }
    }

    fn swaps(&self, disks: &BTreeMap<String, Vec<String>>, uses: &mut BTreeSet<Use>) {
        let swaps = fs::read_to_string(self.root.join("proc/swaps")).unwrap_or_default();
        for line in swaps.lines().skip(1) {
            let node = line.split_whitespace().next().map(unescape);
            let name = node.as_deref().and_then(|node| node.strip_prefix("/dev/"));
            // LVM's are links: /dev/mapper/name
            let real = name.map(|name| self.root.join("dev").join(name));
            let real = real.and_then(|path| fs::canonicalize(path).ok());
            let real = real.and_then(|path| Some(path.file_name()?.to_str()?.to_owned()));
            let disk = [name.map(str::to_owned), real]
                .into_iter()
                .flatten()
                .find(|name| disks.contains_key(name));
            uses.extend(disk.map(|disk| Use::Swap { disk }));
        }
    }

    /// Namespaces of the kernel's NVMe target: subsystem and number, and the directory.
    fn target_namespaces(&self) -> Vec<(String, PathBuf)> {
        let mut found = Vec::new();
        for (subsystem, dir) in entries(self.sys("kernel/config/nvmet/subsystems")) {
            for (number, dir) in entries(dir.join("namespaces")) {
                found.push((printable_line(&format!("{subsystem}/{number}")), dir));
            }
        }
        found
    }

    /// All device nodes that belong to a function.
    fn nodes(&self, device: &Path, disks: &BTreeMap<String, Vec<String>>) -> Nodes {
        let mut nodes = Nodes::default();
        let mut add = |block: bool, number: &str, name: String| {
            let number = number.split_once(':');
            let number = number.and_then(|(a, b)| Some((block, a.parse().ok()?, b.parse().ok()?)));
            let path = format!("/dev/{name}");
            nodes
                .by_number
                .extend(number.map(|number| (number, path.clone())));
            nodes.by_path.insert(path);
        };
        for disk in disks.keys() {
            add(true, &self.number(disk).unwrap_or_default(), disk.clone());
        }
        for (number, path) in entries(self.sys("dev/char")) {
            let Ok(real) = fs::canonicalize(&path) else {
                continue;
            };
            if real.starts_with(device) {
                let events = fs::read_to_string(real.join("uevent")).unwrap_or_default();
                let mut lines = events.lines();
                let name = lines.find_map(|line| line.strip_prefix("DEVNAME="));
                let name = name.or_else(|| real.file_name()?.to_str());
                add(false, &number, name.unwrap_or_default().to_owned());
            }
        }
        let group = fs::read_link(device.join("iommu_group")).ok();
        let group = group.and_then(|path| Some(path.file_name()?.to_str()?.to_owned()));
        if let Some(group) = group {
            let number = text(self.sys(&format!("class/vfio/{group}/dev")));
            add(false, &number.unwrap_or_default(), format!("vfio/{group}"));
        }
        nodes
    }

    /// Processes other than this one: their numbers and directories.
    fn processes(&self) -> Vec<(u32, PathBuf)> {
        let this = std::process::id();
        entries(self.root.join("proc"))
            .into_iter()
            .filter_map(|(name, path)| Some((name.parse().ok()?, path)))
            .filter(|(pid, _)| *pid != this)
            .collect()
    }

    fn open_files(&self, nodes: &Nodes, uses: &mut BTreeSet<Use>) {
        for (pid, dir) in self.processes() {
            for (_, path) in entries(dir.join("fd")) {
                let link = fs::read_link(&path).ok();
                let link = link.and_then(|link| Some(link.to_str()?.to_owned()));
                let Some(link) = link.filter(|link| link.starts_with('/')) else {
                    continue;
                };
                let by_number = || {
                    let status = fs::metadata(&path).ok()?;
                    let block = match status.mode() & 0o170_000 {
                        0o060_000 => true,
                        0o020_000 => false,
                        _ => return None,
                    };
                    let (major, minor) = (
                        rustix::fs::major(status.rdev()),
                        rustix::fs::minor(status.rdev()),
                    );
                    nodes.by_number.get(&(block, major, minor)).cloned()
                };
                let node = match nodes.by_path.contains(&link) {
                    true => Some(link),
                    false => by_number(),
                };
                uses.extend(node.map(|node| Use::Open {
                    node,
                    pid,
                    command: command(&dir),
                }));
            }
        }
    }

    /// Whether the kernel, or another program, has a block device for itself: file systems, md, dm,
    /// swap and what else claims one.
    fn is_claimed(&self, disk: &str) -> bool {
        let flags = OFlags::RDONLY | OFlags::EXCL | OFlags::NONBLOCK | OFlags::CLOEXEC;
        let path = self.root.join("dev").join(disk);
        rustix::fs::open(path, flags, Mode::empty()).err() == Some(Errno::BUSY)
    }

    /// What a function is in use for.
    pub fn uses(&self, bdf: Bdf) -> Vec<Use> {
        let Ok(device) = fs::canonicalize(self.device(bdf)) else {
            return Vec::new();
        };
        let mut uses = BTreeSet::new();
        let disks = self.disks(&device);
        for (disk, above) in &disks {
            uses.extend(above.iter().map(|of| Use::Member {
                disk: disk.clone(),
                of: of.clone(),
            }));
        }
        self.mounts(&disks, &mut uses);
        self.swaps(&disks, &mut uses);
        for (namespace, dir) in self.target_namespaces() {
            let node = text(dir.join("device_path")).unwrap_or_default();
            let name = node.strip_prefix("/dev/").unwrap_or(&node);
            let disk = disks.get_key_value(name).map(|(disk, _)| disk.clone());
            if text(dir.join("enable")).as_deref() == Some("1") {
                uses.extend(disk.map(|disk| Use::Exported { disk, namespace }));
            }
        }
        for (interface, dir) in entries(device.join("net")) {
            let flags = text(dir.join("flags")).unwrap_or_default();
            let flags = u32::from_str_radix(flags.trim_start_matches("0x"), 16).unwrap_or(0);
            // IFF_UP
            if flags & 1 != 0 {
                uses.insert(Use::Network { interface });
            }
        }
        self.open_files(&self.nodes(&device, &disks), &mut uses);
        let known: BTreeSet<_> = uses
            .iter()
            .filter_map(|known| match known {
                Use::Mounted { disk, .. }
                | Use::Swap { disk }
                | Use::Member { disk, .. }
                | Use::Exported { disk, .. } => Some(disk.clone()),
                Use::Open { node, .. } => Some(node.trim_start_matches("/dev/").to_owned()),
                _ => None,
            })
            .collect();
        // a disk cannot be claimed either while a partition is
        let explained = |disk: &String| known.iter().any(|known| known.starts_with(disk.as_str()));
        uses.extend(
            disks
                .keys()
                .filter(|disk| !explained(disk) && self.is_claimed(disk))
                .map(|disk| Use::Exclusive { disk: disk.clone() }),
        );
        uses.into_iter().map(Use::printable).collect()
    }

    /// Who uses the memory that a function provides.
    pub fn pool_users(&self, provider: &Provider) -> PoolUsers {
        let ending = format!("/{}/p2pmem/allocate", provider.bdf);
        let mut processes = Vec::new();
        for (pid, dir) in self.processes() {
            let maps = fs::read_to_string(dir.join("maps")).unwrap_or_default();
            // 7f0000000000-7f0000010000 rw-s 00000000 00:15 1234   /sys/devices/.../allocate
            let mapped = maps.lines().filter(|line| line.ends_with(&ending));
            let bytes: u64 = mapped
                .filter_map(|line| {
                    let (start, end) = line.split(' ').next()?.split_once('-')?;
                    let number = |digits| u64::from_str_radix(digits, 16).ok();
                    number(end)?.checked_sub(number(start)?)
                })
                .sum();
            if bytes > 0 {
                processes.push(Process {
                    pid,
                    command: command(&dir),
                    bytes,
                });
            }
        }
        let targets = self
            .target_namespaces()
            .into_iter()
            .filter(|(_, dir)| {
                let p2pmem = text(dir.join("p2pmem")).unwrap_or_default();
                p2pmem.parse() == Ok(provider.bdf)
            })
            .map(|(name, _)| name)
            .collect();
        let used = provider.size.saturating_sub(provider.available);
        let mapped = processes.iter().map(|process| process.bytes).sum();
        PoolUsers {
            processes,
            targets,
            kernel: used.saturating_sub(mapped),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;
    use crate::machine::fake::{self, Fake};

    fn bdf(text: &str) -> Bdf {
        text.parse().expect("an address")
    }

    fn link(fake: &Fake, target: &str, path: &str) {
        let path = fake.root.path().join(path);
        fs::create_dir_all(path.parent().expect("a parent")).expect("a directory");
        symlink(target, path).expect("a link");
    }

    /// The switch, with the disks known as block devices.
    fn machine() -> Fake {
        let fake = fake::switch();
        let root = fake.root.path().to_owned();
        let classes = [("03:00.0", 0), ("04:00.0", 1)];
        for (address, number) in classes {
            let device = root.join(format!("sys/bus/pci/devices/0000:{address}"));
            let device = fs::canonicalize(device).expect("a device");
            let disk = device.join(format!("nvme/nvme{number}/nvme{number}n1"));
            fs::write(disk.join("dev"), format!("259:{number}\n")).expect("a file");
            let class = format!("sys/class/block/nvme{number}n1");
            link(&fake, disk.to_str().expect("UTF-8"), &class);
        }
        fake
    }

    fn lines(fake: &Fake, address: &str) -> Vec<String> {
        let uses = Files::below(fake.root.path()).uses(bdf(address));
        uses.iter().map(Use::to_string).collect()
    }

    #[test]
    fn idle_devices_have_no_users() {
        let fake = machine();
        for address in ["03:00.0", "04:00.0", "05:00.0", "00:00.0", "1f:00.0"] {
            assert_eq!(lines(&fake, address), [""; 0], "{address}");
        }
    }

    #[test]
    fn finds_what_is_mounted() {
        let fake = machine();
        fake.write(
            "proc/self/mountinfo",
            "22 1 0:20 / /sys rw - sysfs sysfs rw\n\
             36 35 259:1 / /mnt/a\\040b rw,noatime shared:1 - ext4 /dev/nvme1n1 rw\n\
             37 35 0:50 / /pool rw - btrfs /dev/nvme0n1 rw\nnothing of the kind\n",
        );
        assert_eq!(lines(&fake, "04:00.0"), ["nvme1n1 is mounted on /mnt/a b"]);
        assert_eq!(lines(&fake, "03:00.0"), ["nvme0n1 is mounted on /pool"]);
    }

    #[test]
    fn finds_what_is_above() {
        let fake = machine();
        let holders = "sys/devices/virtual/block/md0";
        fake.write(&format!("{holders}/dev"), "9:0\n");
        let md = fake.root.path().join(holders);
        link(&fake, md.to_str().expect("UTF-8"), "sys/class/block/md0");
        for disk in ["nvme0n1", "nvme1n1"] {
            fake.write(&format!("sys/class/block/{disk}/holders/md0/x"), "");
        }
        fake.write(
            "proc/swaps",
            "Filename Type Size Used Priority\n/dev/md0 partition 1 0 -2\n",
        );
        fake.write("sys/block/loop3/loop/backing_file", "/dev/nvme0n1\n");
        assert_eq!(
            lines(&fake, "04:00.0"),
            ["md0 is swapped to", "nvme1n1 is a part of md0"]
        );
        assert!(lines(&fake, "03:00.0").contains(&"nvme0n1 is a part of loop3".to_owned()));
    }

    #[test]
    fn finds_processes() {
        let fake = machine();
        fake.write("proc/77/comm", "fio\n");
        link(&fake, "/dev/nvme1n1", "proc/77/fd/3");
        link(&fake, "socket:[12]", "proc/77/fd/4");
        link(&fake, "/dev/nvme0", "proc/77/fd/5");
        let device = fs::canonicalize(fake.root.path().join("sys/bus/pci/devices/0000:03:00.0"));
        let node = device.expect("a device").join("nvme/nvme0");
        link(&fake, node.to_str().expect("UTF-8"), "sys/dev/char/240:0");
        assert_eq!(
            lines(&fake, "04:00.0"),
            ["/dev/nvme1n1 is open in process 77 (fio)"]
        );
        assert_eq!(
            lines(&fake, "03:00.0"),
            ["/dev/nvme0 is open in process 77 (fio)"]
        );
    }

    #[test]
    fn finds_networks_and_targets() {
        let fake = machine();
        let device = "sys/bus/pci/devices/0000:05:00.0";
        fake.write(&format!("{device}/net/eth0/flags"), "0x1003\n");
        fake.write(&format!("{device}/net/eth1/flags"), "0x1002\n");
        assert_eq!(lines(&fake, "05:00.0"), ["the interface eth0 is up"]);
        let namespace = "sys/kernel/config/nvmet/subsystems/testnqn/namespaces/1";
        fake.write(&format!("{namespace}/device_path"), "/dev/nvme1n1\n");
        fake.write(&format!("{namespace}/enable"), "1\n");
        assert_eq!(
            lines(&fake, "04:00.0"),
            ["nvme1n1 is exported by the NVMe target as testnqn/1"]
        );
        fake.write(&format!("{namespace}/enable"), "0\n");
        assert_eq!(lines(&fake, "04:00.0"), [""; 0]);
    }

    #[test]
    fn a_multipath_head_is_in_use_through_its_only_path() {
        let fake = machine();
        let root = fake.root.path();
        let subsystem = "sys/devices/virtual/nvme-subsystem/nvme-subsys1";
        fake.write(&format!("{subsystem}/nvme9n1/dev"), "259:9\n");
        let head = root.join(subsystem).join("nvme9n1");
        link(
            &fake,
            head.to_str().expect("UTF-8"),
            "sys/class/block/nvme9n1",
        );
        fake.write(
            "proc/1/mountinfo",
            "36 35 259:9 / /data rw - xfs /dev/nvme9n1 rw\n",
        );
        let controller = |address: &str, name: &str| {
            let device = root.join(format!("sys/bus/pci/devices/0000:{address}/nvme/{name}"));
            let device = fs::canonicalize(device).expect("a controller");
            let path = format!("{subsystem}/{name}");
            link(&fake, device.to_str().expect("UTF-8"), &path);
        };
        controller("04:00.0", "nvme1");
        assert_eq!(lines(&fake, "04:00.0"), ["nvme9n1 is mounted on /data"]);
        controller("03:00.0", "nvme0");
        assert_eq!(lines(&fake, "04:00.0"), [""; 0]);
    }

    #[test]
    fn finds_users_of_a_pool() {
        let fake = machine();
        let map = "/sys/devices/pci0000:00/0000:05:00.0/p2pmem/allocate";
        fake.write("proc/80/comm", "app\n");
        fake.write(
            "proc/80/maps",
            format!(
                "7f0000000000-7f0000010000 rw-s 00000000 00:15 12 {map}\n\
                 7f0000010000-7f0000011000 rw-p 00000000 00:00 0\n\
                 7f0000020000-7f0000021000 rw-s 00000000 00:15 12 {map}\n"
            ),
        );
        let namespace = "sys/kernel/config/nvmet/subsystems/nqn/namespaces/2";
        fake.write(&format!("{namespace}/p2pmem"), "0000:05:00.0\n");
        fake.pool("sys/bus/pci/devices/0000:05:00.0", (64 << 20) - 0x13000);
        let machine = fake.read();
        let users = Files::below(fake.root.path()).pool_users(&machine.providers[1]);
        assert_eq!(
            users.lines(),
            [
                "process 80 (app) has mapped 68 KiB",
                "namespace nqn/2 of the NVMe target",
                "drivers hold 8 KiB",
            ]
        );
    }

    /// Names of mount points, interfaces and subsystems are anybody's.
    #[test]
    fn names_are_safe_to_print() {
        let fake = machine();
        let device = "sys/bus/pci/devices/0000:04:00.0";
        fake.write(&format!("{device}/net/e\x1b[2Jh0/flags"), "0x1003\n");
        fake.write(
            "proc/self/mountinfo",
            "36 35 259:1 / /mnt/a\\033b\\012c rw - ext4 /dev/nvme1n1 rw\n",
        );
        let namespace = "sys/kernel/config/nvmet/subsystems/n\u{202e}qn/namespaces/1";
        fake.write(&format!("{namespace}/device_path"), "/dev/nvme1n1\n");
        fake.write(&format!("{namespace}/enable"), "1\n");
        fake.write(&format!("{namespace}/p2pmem"), "0000:05:00.0\n");
        assert_eq!(
            lines(&fake, "04:00.0"),
            [
                "nvme1n1 is mounted on /mnt/a\u{fffd}b\u{fffd}c",
                "nvme1n1 is exported by the NVMe target as n\u{fffd}qn/1",
                "the interface e\u{fffd}[2Jh0 is up",
            ]
        );
        let machine = fake.read();
        let users = Files::below(fake.root.path()).pool_users(&machine.providers[1]);
        assert_eq!(users.targets, ["n\u{fffd}qn/1"]);
    }

    #[test]
    fn undoes_escapes() {
        for (escaped, plain) in [
            ("/a\\040b\\011", "/a b\t"),
            ("/a\\", "/a\\"),
            ("/a\\04", "/a\\04"),
            ("/\\999", "/\\999"),
            ("\\134", "\\"),
        ] {
            assert_eq!(unescape(escaped), plain);
        }
    }
}
