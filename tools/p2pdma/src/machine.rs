// SPDX-License-Identifier: GPL-2.0

//! The machine as sysfs shows it: PCI functions, providers of peer-to-peer memory, and the NVMe
//! controllers that can be its clients.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use anyhow::{ensure, Result};
use serde::Serialize;

use crate::bdf::Bdf;
use crate::block::{self, Block, Mount};
use crate::config_space::{self, PortType, ReadBy};
use crate::facts::Facts;
use crate::host_bridge::{self, Entry};
use crate::system::System;
use crate::text::printable_line;
use crate::tree::Tree;

/// A PCI function.
#[derive(Clone, Debug, Serialize)]
pub struct Device {
    /// Its address.
    pub bdf: Bdf,
    /// The bridge above it, or `None` on a root bus.
    pub parent: Option<Bdf>,
    /// Name of the root bus it is below, such as `pci0000:00`.
    pub root_bus: String,
    /// Vendor id.
    pub vendor_id: u16,
    /// Device id.
    pub device_id: u16,
    /// Class code: class, subclass, programming interface.
    pub class: u32,
    /// What it is, in words.
    pub name: String,
    /// Kind of PCIe function, where the configuration space could be read.
    pub port_type: Option<PortType>,
    /// Driver that is bound to it.
    pub driver: Option<String>,
    /// NUMA node, if the firmware says.
    pub numa_node: Option<u32>,
    /// ACS sends peer-to-peer traffic that passes here up to the host bridge.
    pub acs_redirect: Option<bool>,
    /// The ACS control word, where there is one and it could be read.
    pub acs_control: Option<u16>,
    /// Type of the default domain of its IOMMU group, such as `identity` or `DMA-FQ`.
    pub iommu: Option<String>,
    /// What else is known of it.
    #[serde(flatten)]
    pub facts: Facts,
}

impl Device {
    /// Whether it is a bridge to another PCI bus.
    pub fn is_bridge(&self) -> bool {
        self.class >> 8 == 0x0604
    }
}

/// Where a provider's memory lies in its device.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Source {
    /// `cmb` for a Controller Memory Buffer of an NVMe controller, `bar` for a memory BAR.
    pub kind: String,
    /// Number of the BAR.
    pub bar: Option<u8>,
    /// Offset in the BAR, in bytes.
    pub offset: Option<u64>,
}

/// A function that provides peer-to-peer memory.
#[derive(Clone, Debug, Serialize)]
pub struct Provider {
    /// Its address.
    pub bdf: Bdf,
    /// Kind of device, as it is called in expectations: testdev, cmb, ivshmem or pci.
    pub kind: String,
    /// Driver that registered the memory.
    pub driver: Option<String>,
    /// Size of the pool, in bytes.
    pub size: u64,
    /// What of it can still be had, in bytes.
    pub available: u64,
    /// Whether other drivers can find it.
    pub published: bool,
    /// NUMA node, if the firmware says.
    pub numa_node: Option<u32>,
    /// Where the memory lies, if the driver says.
    pub source: Option<Source>,
}

/// A namespace of an NVMe controller.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Namespace {
    /// Name of the disk, such as `nvme0n1`.
    pub name: String,
    /// Size in bytes.
    pub size: u64,
    /// Size of a logical block in bytes.
    pub block_size: u64,
}

impl Namespace {
    /// The device node.
    pub fn path(&self) -> PathBuf {
        Path::new("/dev").join(&self.name)
    }
}

/// A Controller Memory Buffer, as its registers describe it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Cmb {
    /// Number of the BAR.
    pub bar: u8,
    /// Offset in the BAR, in bytes.
    pub offset: u64,
    /// Size in bytes.
    pub size: u64,
    /// Whether a controller can read from it (CMBSZ.RDS).
    pub reads: bool,
    /// Whether a controller can write to it (CMBSZ.WDS).
    pub writes: bool,
    /// CMBLOC and CMBSZ themselves.
    #[serde(skip)]
    pub registers: (u64, u64),
}

impl Cmb {
    /// From CMBLOC and CMBSZ.
    fn from_registers(location: u64, size: u64) -> Option<Self> {
        // CMBLOC.OFST and CMBSZ.SZ are in units of CMBSZ.SZU: 4 KiB << (4 * SZU)
        let unit = 4096_u64 << (4 * ((size >> 8) & 0xf));
        Some(Cmb {
            bar: u8::try_from(location & 7).ok()?,
            offset: ((location >> 12) & 0xf_ffff).checked_mul(unit)?,
            size: ((size >> 12) & 0xf_ffff)
                .checked_mul(unit)
                .filter(|size| *size != 0)?,
            reads: (size >> 3) & 1 == 1,
            writes: (size >> 4) & 1 == 1,
            registers: (location, size),
        })
    }
}

/// An NVMe controller, which can move data to and from peer-to-peer memory.
#[derive(Clone, Debug, Serialize)]
pub struct Client {
    /// Its address.
    pub bdf: Bdf,
    /// Name of the controller, such as `nvme0`.
    pub controller: String,
    /// Serial number.
    pub serial: String,
    /// Model name.
    pub model: String,
    /// State, `live` if all is well.
    pub state: String,
    /// Driver that is bound to it.
    pub driver: Option<String>,
    /// Its Controller Memory Buffer, if it has one.
    pub cmb: Option<Cmb>,
    /// Whether its queues take peer-to-peer pages.
    pub p2p_queues: bool,
    /// Its namespaces.
    pub namespaces: Vec<Namespace>,
}

/// All that matters of a machine.
#[derive(Clone, Debug, Serialize)]
pub struct Machine {
    /// All PCI functions, by address.
    pub devices: BTreeMap<Bdf, Device>,
    /// Those that provide peer-to-peer memory.
    pub providers: Vec<Provider>,
    /// NVMe controllers.
    pub clients: Vec<Client>,
    /// The kernel lets any pair through the host bridge, because of the processor; `None` if
    /// nothing is known of that.
    pub cpu_allows_any_pair: Option<bool>,
    /// The kernel's release, if it is known.
    pub kernel: Option<String>,
    /// What was given to the kernel at boot, if it is known.
    pub command_line: Option<String>,
    /// The processor says that this is a virtual machine.
    pub hypervisor: bool,
    /// The kernel, and what this program may do.
    pub system: System,
    /// Block devices, by name.
    pub blocks: BTreeMap<String, Block>,
    /// What is mounted.
    pub mounts: Vec<Mount>,
    /// What whoever asks says that its kernel has beside the list that is known here.
    #[serde(skip)]
    pub added_host_bridges: Vec<Entry>,
    /// The first function on each root bus.
    #[serde(skip)]
    pub first_on_root: BTreeMap<String, Bdf>,
}

impl Machine {
    /// A machine of these functions, of which nothing else is known.
    pub fn of(devices: BTreeMap<Bdf, Device>) -> Self {
        let mut machine = Machine {
            devices,
            providers: Vec::new(),
            clients: Vec::new(),
            cpu_allows_any_pair: None,
            kernel: None,
            command_line: None,
            hypervisor: false,
            system: System::default(),
            blocks: BTreeMap::new(),
            mounts: Vec::new(),
            added_host_bridges: Vec::new(),
            first_on_root: BTreeMap::new(),
        };
        machine.find_first_on_root();
        machine
    }

    /// Fills in the first function on each root bus, once all functions are known.
    fn find_first_on_root(&mut self) {
        let tops = self
            .devices
            .values()
            .filter(|device| device.parent.is_none());
        for device in tops {
            let first = self.first_on_root.entry(device.root_bus.clone());
            first.or_insert(device.bdf);
        }
    }
}

/// A directory of attributes.
struct Attributes<'a>(&'a Tree, &'a str);

impl Attributes<'_> {
    fn path(&self, name: &str) -> String {
        format!("{}/{name}", self.1)
    }

    fn text(&self, name: &str) -> Option<String> {
        self.0.line(&self.path(name))
    }

    fn number(&self, name: &str) -> Option<u64> {
        number(&self.text(name)?)
    }

    /// The last part of what a symbolic link points to.
    fn link(&self, name: &str) -> Option<String> {
        self.0.link_name(&self.path(name))
    }
}

/// A number as sysfs writes it, decimal or with `0x`.
pub fn number(text: &str) -> Option<u64> {
    match text.strip_prefix("0x") {
        Some(hex) => u64::from_str_radix(hex, 16).ok(),
        None => text.parse().ok(),
    }
}

/// What a function is, in words.
pub fn device_name(vendor: u16, device: u16, class: u32) -> String {
    let code = class.to_be_bytes();
    let known = pci_ids::Device::from_vid_pid(vendor, device).map(|d| d.name().to_owned());
    known
        .or_else(|| {
            use pci_ids::FromId as _;
            pci_ids::Subclass::from_cid_sid(code[1], code[2])
                .map(|subclass| subclass.name().to_owned())
                .or_else(|| Some(pci_ids::Class::from_id(code[1])?.name().to_owned()))
        })
        .unwrap_or_else(|| format!("device {vendor:04x}:{device:04x}"))
}

/// The `NNN` of `nvmeNNN`, and nothing but that.
pub fn is_controller_name(name: &str) -> bool {
    name.strip_prefix("nvme")
        .is_some_and(|n| !n.is_empty() && n.bytes().all(|b| b.is_ascii_digit()))
}

/// A file in a capture that says that this program read all of it from a running kernel: what is
/// not in it was not there.
pub const CAPTURED: &str = "p2pdma-capture";

/// From this version on the kernel has `max_link_width` for PCIe functions, and only for these.
const TELLS_EXPRESS: (u32, u32) = (4, 13);

/// Reads the machine from sysfs and procfs.
pub struct Reader {
    tree: Tree,
    /// This program read it from a running kernel, now or to make a capture.
    read_by_us: bool,
    /// The kernel says which functions are PCIe functions.
    tells_express: bool,
}

impl Reader {
    /// A reader of the machine that this runs on.
    pub fn of_this_machine() -> Self {
        Self::of(Tree::live())
    }

    /// A reader of a tree with `sys` and `proc` in it.
    pub fn of(tree: Tree) -> Self {
        let read_by_us = tree.is_live() || tree.read(CAPTURED).is_some();
        let release = tree.line("proc/sys/kernel/osrelease");
        let version = release.as_deref().and_then(host_bridge::version);
        Reader {
            tree,
            read_by_us,
            tells_express: version.is_some_and(|version| version >= TELLS_EXPRESS),
        }
    }

    /// Whether this program read it from a running kernel, now or to make a capture.
    pub fn is_read_by_us(&self) -> bool {
        self.read_by_us
    }

    /// The tree.
    pub fn into_tree(self) -> Tree {
        self.tree
    }

    /// Reads everything.
    ///
    /// Attributes that are missing are left out; without a PCI bus there is nothing to read.
    pub fn read(&self) -> Result<Machine> {
        let dir = "sys/bus/pci/devices";
        ensure!(
            self.tree.is_directory(dir),
            "no PCI bus on this machine: cannot read /{dir}"
        );

        let mut machine = Machine::of(BTreeMap::new());
        machine.kernel = self.tree.line("proc/sys/kernel/osrelease");
        machine.command_line = self.tree.line("proc/cmdline");
        machine.cpu_allows_any_pair = self.cpu_allows_any_pair();
        machine.hypervisor = self.hypervisor();
        machine.system = System::read(&self.tree, machine.kernel.as_deref());
        machine.blocks = block::read(&self.tree);
        machine.mounts = block::mounts(&self.tree);
        let is_function = |name: &str| name.parse::<Bdf>().is_ok();
        for name in self.tree.entries(dir, is_function) {
            let (Ok(bdf), Some(path)) = (name.parse(), self.tree.real(&format!("{dir}/{name}")))
            else {
                continue;
            };
            let device = self.device(bdf, &path);
            machine.providers.extend(self.provider(&device, &path));
            machine.clients.extend(self.clients(&device, &path));
            machine.devices.insert(bdf, device);
        }
        machine.find_first_on_root();
        Ok(machine)
    }

    fn attributes<'a>(&'a self, path: &'a str) -> Attributes<'a> {
        Attributes(&self.tree, path)
    }

    fn device(&self, bdf: Bdf, path: &str) -> Device {
        let attributes = self.attributes(path);
        let id = |name| {
            let value = attributes.number(name).unwrap_or(0xffff);
            u16::try_from(value).unwrap_or(0xffff)
        };
        let (vendor_id, device_id) = (id("vendor"), id("device"));
        let class = attributes
            .number("class")
            .and_then(|c| u32::try_from(c).ok());
        let class = class.unwrap_or(0);
        let config = self.tree.read(&attributes.path("config"));
        let config = config.unwrap_or_default();
        let read_by = match self.read_by_us {
            false => ReadBy::Others,
            // which everybody may read, and PCIe functions alone have
            true if self.tells_express && attributes.text("max_link_width").is_none() => {
                ReadBy::UsConventional
            }
            true => ReadBy::Us,
        };

        let group = self.tree.real(&attributes.path("iommu_group"));
        let mut facts = Facts::read(&self.tree, path, &config);
        let number = group.as_ref().and_then(|dir| dir.rsplit('/').next());
        facts.iommu_group = number.and_then(|number| number.parse().ok());

        // .../pci0000:00/0000:00:01.0/0000:01:00.0: what is above is the bridge, or the root bus
        let mut above = path.rsplit('/').skip(1);
        let parent = above.next();
        let is_bus = |name: &&str| name.parse::<Bdf>().is_err();
        let root_bus = parent.into_iter().chain(above).find(is_bus);

        Device {
            bdf,
            parent: parent.and_then(|name| name.parse().ok()),
            root_bus: printable_line(root_bus.unwrap_or_default()),
            vendor_id,
            device_id,
            class,
            name: device_name(vendor_id, device_id, class),
            port_type: config_space::port_type(&config),
            driver: attributes.link("driver"),
            numa_node: attributes
                .number("numa_node")
                .and_then(|n| u32::try_from(n).ok()),
            acs_redirect: config_space::acs_redirect(&config, read_by),
            acs_control: config_space::acs_control(&config, read_by).ok().flatten(),
            iommu: group
                .as_ref()
                .and_then(|dir| self.tree.line(&format!("{dir}/type"))),
            facts,
        }
    }

    fn provider(&self, device: &Device, path: &str) -> Option<Provider> {
        let pool_dir = format!("{path}/p2pmem");
        let pool = self.attributes(&pool_dir);
        Some(Provider {
            bdf: device.bdf,
            kind: provider_kind(device).to_owned(),
            driver: device.driver.clone(),
            size: pool.number("size")?,
            available: pool.number("available")?,
            published: pool.number("published") == Some(1),
            numa_node: device.numa_node,
            source: self.source(path),
        })
    }

    fn clients(&self, device: &Device, path: &str) -> Vec<Client> {
        let nvme = format!("{path}/nvme");
        let controllers = self.tree.entries(&nvme, is_controller_name);
        controllers
            .into_iter()
            .map(|controller| {
                let dir = format!("{nvme}/{controller}");
                let attributes = self.attributes(&dir);
                let text = |name| attributes.text(name).unwrap_or_default();
                Client {
                    bdf: device.bdf,
                    serial: text("serial"),
                    model: text("model"),
                    state: text("state"),
                    cmb: attributes
                        .number("cmbloc")
                        .zip(attributes.number("cmbsz"))
                        .and_then(|(location, size)| Cmb::from_registers(location, size)),
                    driver: device.driver.clone(),
                    // nvme_pci_supports_pci_p2pdma(): every queue of the PCI driver
                    p2p_queues: device.driver.as_deref() == Some("nvme"),
                    namespaces: self.namespaces(&dir),
                    controller,
                }
            })
            .collect()
    }

    /// The disks of a controller; with native multipath, those of its subsystem.
    fn namespaces(&self, controller: &str) -> Vec<Namespace> {
        let subsystem = self.tree.real(&format!("{controller}/subsystem"));
        // the class is called subsystem as well
        let subsystem =
            subsystem.filter(|dir| self.tree.read(&format!("{dir}/subsysnqn")).is_some());
        let is_disk = |name: &str| name.starts_with("nvme") && !is_controller_name(name);
        let disks = [Some(controller.to_owned()), subsystem]
            .into_iter()
            .flatten()
            .flat_map(|dir| {
                let names = self.tree.entries(&dir, is_disk);
                names
                    .into_iter()
                    .map(move |name| (format!("{dir}/{name}"), name))
            });
        disks
            .filter_map(|(dir, name)| {
                let disk = self.attributes(&dir);
                // the path to a namespace of a subsystem, nvme0c0n1, is hidden: its head is used
                if disk.number("hidden").unwrap_or(0) != 0 {
                    return None;
                }
                Some(Namespace {
                    name,
                    size: disk.number("size")?.checked_mul(512)?,
                    block_size: disk.number("queue/logical_block_size")?,
                })
            })
            .collect()
    }

    /// As the kernel's `cpu_supports_p2pdma()`: any AMD processor from Zen on.
    ///
    /// `None` if nothing is known of the processor.
    fn cpu_allows_any_pair(&self) -> Option<bool> {
        let info = self.tree.text("proc/cpuinfo")?;
        let field = |name: &str| {
            info.lines()
                .filter_map(|line| line.split_once(':'))
                .find(|(key, _)| key.trim() == name)
                .map(|(_, value)| value.trim())
        };
        let is_zen = field("vendor_id") == Some("AuthenticAMD")
            && field("cpu family")
                .and_then(|family| family.parse::<u32>().ok())
                .is_some_and(|family| family >= 0x17);
        Some(is_zen)
    }

    /// Where the memory lies: p2pdma_provider says it, and the nvme driver shows the CMB's
    /// register.
    fn source(&self, path: &str) -> Option<Source> {
        let own_dir = format!("{path}/p2pdma_provider");
        let own = self.attributes(&own_dir);
        if let Some(kind) = own.text("source") {
            return Some(Source {
                kind,
                bar: own.number("bar").and_then(|bar| u8::try_from(bar).ok()),
                offset: own.number("offset"),
            });
        }

        let nvme = format!("{path}/nvme");
        let controllers = self.tree.entries(&nvme, is_controller_name);
        let dir = format!("{nvme}/{}", controllers.first()?);
        let register = |name| self.attributes(&dir).number(name);
        let (location, size) = (register("cmbloc")?, register("cmbsz")?);
        // CMBLOC.BIR and OFST, the latter in units of CMBSZ.SZU: 4 KiB << (4 * SZU)
        let unit = 4096_u64 << (4 * ((size >> 8) & 0xf));
        Some(Source {
            kind: "cmb".to_owned(),
            bar: u8::try_from(location & 7).ok(),
            offset: ((location >> 12) & 0xf_ffff).checked_mul(unit),
        })
    }

    fn hypervisor(&self) -> bool {
        let info = self.tree.text("proc/cpuinfo").unwrap_or_default();
        let flags = info.lines().find(|line| line.starts_with("flags"));
        flags.is_some_and(|flags| flags.split_whitespace().any(|flag| flag == "hypervisor"))
    }
}

/// What expectations call this kind of device.
fn provider_kind(device: &Device) -> &'static str {
    match (device.vendor_id, device.device_id, device.class >> 8) {
        (0x1b36, 0x0005, _) => "testdev",
        (0x1af4, 0x1110, _) => "ivshmem",
        (_, _, 0x0108) => "cmb",
        _ => "pci",
    }
}

/// A machine for tests, in a directory laid out as sysfs is.
#[cfg(test)]
pub mod fake {
    use std::fs;
    use std::os::unix::fs::symlink;

    use super::*;
    use crate::config_space::fake::config;

    /// What to put into the tree.
    pub struct Fake {
        /// The directory, removed when dropped.
        pub root: tempfile::TempDir,
    }

    impl Fake {
        /// An empty machine with an Intel processor.
        pub fn new() -> Self {
            let root = tempfile::tempdir().expect("a temporary directory");
            let fake = Fake { root };
            fake.dir("sys/bus/pci/devices");
            fake.cpu("GenuineIntel", 6);
            fake
        }

        fn dir(&self, path: &str) -> PathBuf {
            let path = self.root.path().join(path);
            fs::create_dir_all(&path).expect("a directory");
            path
        }

        /// Writes a file, relative to the root.
        pub fn write(&self, path: &str, content: impl AsRef<[u8]>) {
            let path = self.root.path().join(path);
            fs::create_dir_all(path.parent().expect("a parent")).expect("a directory");
            fs::write(path, content).expect("a file");
        }

        /// The processor.
        pub fn cpu(&self, vendor: &str, family: u32) {
            let text = format!("processor\t: 0\nvendor_id\t: {vendor}\ncpu family\t: {family}\n");
            self.write("proc/cpuinfo", text);
        }

        /// A function below a chain of bridges, the last of the path being itself.
        pub fn function(&self, path: &[&str], ids: (u16, u16, u32), driver: &str) -> String {
            self.function_on("pci0000:00", path, ids, driver)
        }

        /// The same, on this root bus.
        pub fn function_on(
            &self,
            root_bus: &str,
            path: &[&str],
            ids: (u16, u16, u32),
            driver: &str,
        ) -> String {
            let bdf = path.last().expect("an address");
            let dir = format!("sys/devices/{root_bus}/{}", path.join("/"));
            let real = self.dir(&dir);
            let link = self.root.path().join("sys/bus/pci/devices").join(bdf);
            symlink(format!("../../../../{dir}"), link).expect("a link");
            self.write(&format!("{dir}/vendor"), format!("{:#06x}\n", ids.0));
            self.write(&format!("{dir}/device"), format!("{:#06x}\n", ids.1));
            self.write(&format!("{dir}/class"), format!("{:#08x}\n", ids.2));
            self.write(&format!("{dir}/numa_node"), "-1\n");
            self.write(&format!("{dir}/config"), config(0, None));
            if !driver.is_empty() {
                let drivers = format!("/sys/bus/pci/drivers/{driver}");
                symlink(drivers, real.join("driver")).expect("a link");
            }
            dir
        }

        /// A port of a root complex or a switch.
        pub fn port(&self, path: &[&str], port_type: u8, acs: Option<u16>) {
            let ids = match port_type {
                4 => (0x1b36, 0x000c, 0x06_0400),
                5 => (0x104c, 0x8232, 0x06_0400),
                _ => (0x104c, 0x8233, 0x06_0400),
            };
            let dir = self.function(path, ids, "pcieport");
            self.write(&format!("{dir}/config"), config(port_type, acs));
        }

        /// An NVMe controller with one namespace of 64 MiB.
        pub fn nvme(&self, path: &[&str], number: u32, serial: &str) -> String {
            let dir = self.function(path, (0x1b36, 0x0010, 0x01_0802), "nvme");
            self.write(&format!("{dir}/config"), config(0, None));
            let controller = format!("{dir}/nvme/nvme{number}");
            self.write(&format!("{controller}/serial"), format!("{serial:20}\n"));
            self.write(&format!("{controller}/model"), "QEMU NVMe Ctrl    \n");
            self.write(&format!("{controller}/state"), "live\n");
            let disk = format!("{controller}/nvme{number}n1");
            self.write(&format!("{disk}/size"), "131072\n");
            self.write(&format!("{disk}/hidden"), "0\n");
            self.write(&format!("{disk}/queue/logical_block_size"), "512\n");
            dir
        }

        /// A block device in a directory.
        pub fn block(&self, name: &str, dir: &str) {
            self.dir(dir);
            let class = self.dir("sys/class/block");
            symlink(format!("../../../{dir}"), class.join(name)).expect("a link");
        }

        /// A pool of 64 MiB.
        pub fn pool(&self, dir: &str, available: u64) {
            self.write(&format!("{dir}/p2pmem/size"), "67108864\n");
            self.write(&format!("{dir}/p2pmem/available"), format!("{available}\n"));
            self.write(&format!("{dir}/p2pmem/published"), "1\n");
        }

        /// Reads it.
        pub fn read(&self) -> Machine {
            let tree = Tree::below(self.root.path()).expect("a tree");
            Reader::of(tree).read().expect("a machine")
        }
    }

    /// An NVMe controller with a CMB, one without, and a test device, below one switch.
    pub fn switch() -> Fake {
        let fake = Fake::new();
        let (root, up) = ("0000:00:01.0", "0000:01:00.0");
        let down = ["0000:02:00.0", "0000:02:01.0", "0000:02:02.0"];
        fake.function(&["0000:00:00.0"], (0x8086, 0x29c0, 0x06_0000), "");
        fake.port(&[root], 4, Some(0));
        fake.port(&[root, up], 5, None);
        for port in down {
            fake.port(&[root, up, port], 6, None);
        }
        let dir = fake.nvme(&[root, up, down[0], "0000:03:00.0"], 0, "cmb");
        fake.pool(&dir, 66_977_792);
        fake.write(&format!("{dir}/nvme/nvme0/cmbloc"), "0x00000002\n");
        fake.write(&format!("{dir}/nvme/nvme0/cmbsz"), "0x0004021f\n");
        fake.nvme(&[root, up, down[1], "0000:04:00.0"], 1, "plain");
        let path = [root, up, down[2], "0000:05:00.0"];
        let dir = fake.function(&path, (0x1b36, 0x0005, 0x00_ff00), "p2pdma_provider");
        fake.pool(&dir, 67_108_864);
        fake.write(&format!("{dir}/p2pdma_provider/source"), "bar\n");
        fake.write(&format!("{dir}/p2pdma_provider/bar"), "2\n");
        fake.write(&format!("{dir}/p2pdma_provider/offset"), "0\n");
        fake
    }

    /// Two disks as [`switch`] has them, and what can be made of disks.
    pub fn stacks() -> Fake {
        let fake = switch();
        let (root, up) = ("0000:00:01.0", "0000:01:00.0");
        let pci = |port: &str, end: &str, n: u32| {
            let dir = format!("sys/devices/pci0000:00/{root}/{up}/{port}/{end}");
            format!("{dir}/nvme/nvme{n}/nvme{n}n1")
        };
        let first = pci("0000:02:00.0", "0000:03:00.0", 0);
        fake.block("nvme0n1", &first);
        fake.block("nvme1n1", &pci("0000:02:01.0", "0000:04:00.0", 1));
        fake.block("nvme0n1p1", &format!("{first}/nvme0n1p1"));
        fake.write(&format!("{first}/nvme0n1p1/partition"), "1\n");
        let fabrics = "sys/devices/virtual/nvme-fabrics/ctl/nvme2";
        fake.block("nvme2n1", &format!("{fabrics}/nvme2n1"));
        for (name, level, below) in [
            ("md0", "raid0", ["nvme0n1", "nvme1n1"]),
            ("md1", "raid1", ["nvme0n1", "nvme2n1"]),
            ("md2", "raid5", ["nvme0n1", "nvme1n1"]),
        ] {
            let dir = format!("sys/devices/virtual/block/{name}");
            fake.block(name, &dir);
            fake.write(&format!("{dir}/md/level"), format!("{level}\n"));
            for disk in below {
                fake.write(&format!("{dir}/slaves/{disk}/dev"), "");
            }
        }
        let mapped = "sys/devices/virtual/block/dm-0";
        fake.block("dm-0", mapped);
        fake.write(&format!("{mapped}/dm/name"), "vg-data\n");
        fake.write(&format!("{mapped}/slaves/nvme0n1p1/dev"), "");
        // heads, the second of which has a path that is not on PCI
        for (n, paths) in [(3, &["nvme0", "nvme1"][..]), (4, &["nvme0", "nvme2"])] {
            let subsystem = format!("sys/devices/virtual/nvme-subsystem/nvme-subsys{n}");
            fake.block(&format!("nvme{n}n1"), &format!("{subsystem}/nvme{n}n1"));
            for path in paths {
                let controller = match *path {
                    "nvme0" => first.trim_end_matches("/nvme0n1").to_owned(),
                    "nvme1" => pci("0000:02:01.0", "0000:04:00.0", 1).replace("/nvme1n1", ""),
                    _ => fabrics.to_owned(),
                };
                let link = fake.root.path().join(&subsystem).join(path);
                symlink(format!("../../../../../{controller}"), link).expect("a link");
            }
        }
        fake.write("sys/devices/virtual/block/md0/dev", "9:0\n");
        fake.write(
            "proc/self/mountinfo",
            "20 1 0:20 / / rw - tmpfs none rw\n\
             21 20 9:0 / /mnt/array rw - ext4 /dev/md0 rw\n",
        );
        fake
    }

    /// Switches below switches, 14 ports one below the other, and a disk at the end.
    pub fn chain() -> Fake {
        let fake = Fake::new();
        let mut path = vec!["0000:00:01.0".to_owned()];
        fake.port(&["0000:00:01.0"], 4, Some(0x1d));
        for bus in 1..14 {
            path.push(format!("0000:{bus:02x}:00.0"));
            let path: Vec<_> = path.iter().map(String::as_str).collect();
            let port_type = if bus % 2 == 1 { 5 } else { 6 };
            fake.port(&path, port_type, (port_type == 6).then_some(0x1d));
        }
        path.push("0000:0e:00.0".to_owned());
        let path: Vec<_> = path.iter().map(String::as_str).collect();
        let dir = fake.nvme(&path, 0, "cmb");
        fake.pool(&dir, 67_108_864);
        fake
    }

    /// The same devices, each below a root port of its own.
    pub fn root_ports(acs: Option<u16>) -> Fake {
        let fake = Fake::new();
        let ports = ["0000:00:01.0", "0000:00:02.0", "0000:00:03.0"];
        for port in ports {
            fake.port(&[port], 4, acs);
        }
        let dir = fake.nvme(&[ports[0], "0000:01:00.0"], 0, "cmb");
        fake.pool(&dir, 67_108_864);
        fake.nvme(&[ports[1], "0000:02:00.0"], 1, "plain");
        let path = [ports[2], "0000:03:00.0"];
        let dir = fake.function(&path, (0x1b36, 0x0005, 0x00_ff00), "p2pdma_provider");
        fake.pool(&dir, 67_108_864);
        fake
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    fn bdf(text: &str) -> Bdf {
        text.parse().expect("an address")
    }

    #[test]
    fn finds_the_tree() {
        let machine = fake::switch().read();
        let device = &machine.devices[&bdf("03:00.0")];
        assert_eq!(device.parent, Some(bdf("02:00.0")));
        assert_eq!(device.root_bus, "pci0000:00");
        assert_eq!(device.driver.as_deref(), Some("nvme"));
        assert_eq!(device.numa_node, None);
        assert_eq!(machine.devices[&bdf("00:01.0")].parent, None);
        assert_eq!(
            machine.devices[&bdf("01:00.0")].port_type,
            Some(PortType::SwitchUpstream)
        );
        assert_eq!(machine.devices.len(), 9);
    }

    #[test]
    fn names_devices() {
        let machine = fake::switch().read();
        assert_eq!(
            machine.devices[&bdf("05:00.0")].name,
            "QEMU PCI Test Device"
        );
        assert_eq!(
            device_name(0x1234, 0x5678, 0x01_0802),
            "Non-Volatile memory controller"
        );
        assert_eq!(device_name(0x1234, 0x5678, 0xee_0000), "device 1234:5678");
    }

    #[test]
    fn finds_providers() {
        let machine = fake::switch().read();
        let [cmb, testdev] = &machine.providers[..] else {
            panic!("{:?}", machine.providers);
        };
        assert_eq!((cmb.bdf, cmb.kind.as_str()), (bdf("03:00.0"), "cmb"));
        assert_eq!(
            (cmb.size, cmb.available, cmb.published),
            (64 << 20, 66_977_792, true)
        );
        let source = |kind: &str| Source {
            kind: kind.to_owned(),
            bar: Some(2),
            offset: Some(0),
        };
        assert_eq!(cmb.source, Some(source("cmb")));
        assert_eq!(testdev.kind, "testdev");
        assert_eq!(testdev.driver.as_deref(), Some("p2pdma_provider"));
        assert_eq!(testdev.source, Some(source("bar")));
    }

    #[test]
    fn decodes_the_cmb_offset_in_its_units() {
        let fake = fake::switch();
        let dir = "sys/bus/pci/devices/0000:03:00.0/nvme/nvme0";
        fake.write(&format!("{dir}/cmbloc"), "0x00003004\n");
        fake.write(&format!("{dir}/cmbsz"), "0x0004021f\n");
        let source = fake.read().providers[0].source.clone().expect("a source");
        assert_eq!((source.bar, source.offset), (Some(4), Some(3 << 20)));
    }

    #[test]
    fn finds_clients() {
        let machine = fake::switch().read();
        let [first, second] = &machine.clients[..] else {
            panic!("{:?}", machine.clients);
        };
        assert_eq!(
            (first.controller.as_str(), first.serial.as_str()),
            ("nvme0", "cmb")
        );
        assert_eq!(second.model, "QEMU NVMe Ctrl");
        assert!(second.p2p_queues);
        let expected = Namespace {
            name: "nvme1n1".into(),
            size: 64 << 20,
            block_size: 512,
        };
        assert_eq!(second.namespaces, [expected]);
    }

    #[test]
    fn takes_the_head_of_a_multipath_namespace() {
        let fake = fake::switch();
        let dir = "sys/bus/pci/devices/0000:04:00.0/nvme/nvme1";
        fs::rename(
            fake.root.path().join(dir).join("nvme1n1"),
            fake.root.path().join(dir).join("nvme1c1n1"),
        )
        .expect("a rename");
        fake.write(&format!("{dir}/nvme1c1n1/hidden"), "1\n");
        let subsystem = format!("{dir}/subsystem");
        fake.write(&format!("{subsystem}/subsysnqn"), "nqn\n");
        fake.write(&format!("{subsystem}/nvme1n1/size"), "8\n");
        fake.write(
            &format!("{subsystem}/nvme1n1/queue/logical_block_size"),
            "4096\n",
        );
        let names: Vec<_> = fake.read().clients[1]
            .namespaces
            .iter()
            .map(|n| (n.name.clone(), n.size, n.block_size))
            .collect();
        assert_eq!(names, [("nvme1n1".to_owned(), 4096, 4096)]);
    }

    /// Whatever names itself, no name reaches a terminal as more than a text.
    #[test]
    fn names_are_safe_to_print() {
        let fake = fake::switch();
        let evil = "\x1b]0;title\x07\x1b[2J\nline";
        let path = ["0000:00:05.0"];
        fake.function_on(
            "pci0000:00\x1b[31m",
            &path,
            (0x8086, 0x1234, 0x02_0000),
            evil,
        );
        let nvme = "sys/bus/pci/devices/0000:03:00.0/nvme/nvme0";
        for file in ["model", "serial", "state"] {
            fake.write(&format!("{nvme}/{file}"), evil);
        }
        fake.write("proc/sys/kernel/osrelease", evil);
        fake.write("proc/cmdline", format!("pci={evil}"));
        fake.write("run/systemd/container", evil);
        let dir = "sys/devices/virtual/block/dm-0";
        fake.block("dm-0", dir);
        fake.write(&format!("{dir}/dm/name"), evil);
        let machine = fake.read();
        assert_eq!(
            machine.clients[0].model,
            "\u{fffd}]0;title\u{fffd}\u{fffd}[2J\u{fffd}line"
        );
        let safe = |value: &serde_json::Value| match value {
            serde_json::Value::String(text) => printable_line(text) == *text,
            _ => true,
        };
        let mut todo = vec![serde_json::to_value(&machine).expect("JSON")];
        let mut texts = 0;
        while let Some(value) = todo.pop() {
            assert!(safe(&value), "{value}");
            match value {
                serde_json::Value::Array(values) => todo.extend(values),
                serde_json::Value::Object(values) => {
                    todo.extend(values.into_iter().map(|(_, value)| value));
                }
                serde_json::Value::String(text) => texts += usize::from(text.contains("title")),
                _ => (),
            }
        }
        // model, serial, state, release, command line, container, name; the driver's link has a
        // '/' before its name
        assert_eq!(texts, 8);
    }

    #[test]
    fn knows_processors_that_allow_any_pair() {
        let fake = fake::switch();
        for (vendor, family, expected) in [
            ("GenuineIntel", 6, false),
            ("AuthenticAMD", 0x16, false),
            ("AuthenticAMD", 0x17, true),
            ("AuthenticAMD", 0x1a, true),
            ("HygonGenuine", 0x18, false),
        ] {
            fake.cpu(vendor, family);
            assert_eq!(
                fake.read().cpu_allows_any_pair,
                Some(expected),
                "{vendor} {family:#x}"
            );
        }
    }

    #[test]
    fn says_so_without_a_pci_bus() {
        let root = tempfile::tempdir().expect("a temporary directory");
        let error = Tree::below(root.path()).expect_err("no bus");
        assert!(
            error.to_string().contains("no sys/bus/pci/devices"),
            "{error}"
        );
    }
}
