// SPDX-License-Identifier: GPL-2.0

//! Where a machine is read from: this one, a copied tree, or what lspci prints.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::Read as _;
use std::path::Path;

use anyhow::{bail, ensure, Context, Result};

use crate::bdf::Bdf;
use crate::config_space::{self, ReadBy};
use crate::facts::Facts;
use crate::machine::{device_name, Device, Machine, Reader};
use crate::tree::{decompressed, Tree};

/// No text of lspci is larger than this: 64 Ki functions of 4 KiB need less.
const TEXT_MAX: u64 = 1 << 30;

/// A line of a dump: `1a0: 00 ff ...`.
fn bytes(line: &str) -> Option<(usize, Vec<u8>)> {
    let (offset, bytes) = line.split_once(": ")?;
    let offset = usize::from_str_radix(offset, 16).ok()?;
    let byte = |word: &str| (word.len() == 2).then(|| u8::from_str_radix(word, 16).ok())?;
    let bytes: Option<Vec<u8>> = bytes.split_whitespace().map(byte).collect();
    let bytes = bytes?;
    (bytes.len() == 16 && offset % 16 == 0 && offset < 4096).then_some((offset, bytes))
}

/// Vendor and device in the line that lspci begins a function with: `[8086:154c]`, for `-nn`.
fn ids_in_brackets(line: &str) -> Option<(u16, u16)> {
    let id = |word: &str| (word.len() == 4).then(|| u16::from_str_radix(word, 16).ok())?;
    let mut words = line.rsplit('[').filter_map(|rest| {
        let (vendor, device) = rest.split_once(']')?.0.split_once(':')?;
        Some((id(vendor)?, id(device)?))
    });
    words.next()
}

/// Whether a function is a virtual one: it has no ids of its own in its configuration space.
fn is_virtual(config: &[u8]) -> bool {
    let ids = config_space::ids(config);
    !config_space::is_unreadable(config)
        && ids.is_some_and(|(vendor, device, _)| (vendor, device) == (0xffff, 0xffff))
}

/// What is on a bus.
#[derive(Clone, Copy)]
struct Bus {
    /// All functions are virtual ones.
    virtual_only: bool,
    /// All functions could be read.
    known: bool,
    /// There is a function that is no bridge.
    has_endpoint: bool,
}

/// What is above a bus.
struct Buses {
    buses: BTreeMap<(u32, u8), Bus>,
    /// The bridges and the last bus below each, by domain and the bus of their own below them.
    bridges: BTreeMap<(u32, u8), (Bdf, u8)>,
}

impl Buses {
    fn of(configs: &BTreeMap<Bdf, Vec<u8>>) -> Self {
        let mut all = Buses {
            buses: BTreeMap::new(),
            bridges: BTreeMap::new(),
        };
        for (bdf, config) in configs {
            let below = config_space::buses_below(config);
            let bus = all.buses.entry(bdf.bus()).or_insert(Bus {
                virtual_only: true,
                known: true,
                has_endpoint: false,
            });
            bus.virtual_only &= is_virtual(config);
            bus.known &= !config_space::is_unreadable(config);
            bus.has_endpoint |= below.is_none();
            let (domain, bus) = bdf.bus();
            if let Some(below) = below.filter(|below| *below.start() > bus) {
                let bridge = (*bdf, *below.end());
                all.bridges.insert((domain, *below.start()), bridge);
            }
        }
        all
    }

    /// The bridge above a bus, the number of which is larger than that of the bridge's own.
    fn bridge(&self, (domain, bus): (u32, u8)) -> Option<Bdf> {
        if let Some((bridge, _)) = self.bridges.get(&(domain, bus)) {
            return Some(*bridge);
        }
        // Virtual functions may be on buses after that of their physical function, below the same
        // bridge. Anything else on such a bus is below a bridge that could not be read, and so may
        // be virtual functions, unless all functions on the bus of the physical one could.
        let virtual_only = |bus: &Bus| bus.virtual_only;
        if !self.buses.get(&(domain, bus)).is_some_and(virtual_only) {
            return None;
        }
        let mut above = self.bridges.range((domain, 0)..=(domain, bus)).rev();
        let (first, (bridge, _)) = above.find(|(_, (_, last))| bus <= *last)?;
        let beside = self.buses.get(first)?;
        (beside.known && beside.has_endpoint).then_some(*bridge)
    }

    /// The root bus that a function is below.
    fn root(&self, mut bdf: Bdf) -> String {
        // numbers of buses grow downwards, so that this ends
        while let Some(bridge) = self.bridge(bdf.bus()) {
            bdf = bridge;
        }
        let (domain, bus) = bdf.bus();
        format!("pci{domain:04x}:{bus:02x}")
    }
}

/// Reads what `lspci -D -nn -xxxx` prints; `-xxx` and `-x` will do, with less known.
pub fn lspci(text: &str) -> Machine {
    let mut configs: BTreeMap<Bdf, Vec<u8>> = BTreeMap::new();
    let mut named: BTreeMap<Bdf, (u16, u16)> = BTreeMap::new();
    let mut current = None;
    for line in text.lines() {
        if let Some((offset, bytes)) = bytes(line) {
            let config = current.and_then(|bdf| configs.get_mut(&bdf));
            // what is missing in between would move what follows
            if let Some(config) = config.filter(|config| config.len() == offset) {
                config.extend(bytes);
            }
            continue;
        }
        let address = line.split_whitespace().next();
        let is_start = line.starts_with(|c: char| c.is_ascii_hexdigit());
        if let Some(bdf) = address
            .filter(|_| is_start)
            .and_then(|word| word.parse().ok())
        {
            current = Some(bdf);
            configs.entry(bdf).or_default().clear();
            named.extend(ids_in_brackets(line).map(|ids| (bdf, ids)));
        }
    }

    let buses = Buses::of(&configs);
    let device = |bdf: Bdf, config: &[u8]| {
        let (vendor_id, device_id, class) =
            config_space::ids(config).unwrap_or((0xffff, 0xffff, 0));
        // the kernel has ids of virtual functions from their physical one, and lspci from it
        let (vendor_id, device_id) = match (vendor_id, named.get(&bdf)) {
            (0xffff, Some(ids)) => *ids,
            _ => (vendor_id, device_id),
        };
        let port_type = config_space::port_type(config);
        Device {
            bdf,
            parent: buses.bridge(bdf.bus()),
            root_bus: buses.root(bdf),
            vendor_id,
            device_id,
            class,
            name: device_name(vendor_id, device_id, class),
            port_type,
            driver: None,
            numa_node: None,
            acs_redirect: config_space::acs_redirect(config, ReadBy::Others),
            acs_control: config_space::acs_control(config, ReadBy::Others)
                .ok()
                .flatten(),
            iommu: None,
            facts: Facts::of_config(config),
        }
    };
    let devices = configs
        .iter()
        .map(|(bdf, config)| (*bdf, device(*bdf, config)));
    Machine::of(devices.collect())
}

/// What `--from` can name.
#[derive(Debug)]
enum From {
    /// A copy of sysfs and procfs, in a directory or an archive.
    Tree(Tree),
    /// What lspci printed.
    Text(Machine),
}

/// Opens what `--from` names, or this machine.
fn open(from: Option<&Path>) -> Result<From> {
    let Some(from) = from else {
        return Ok(From::Tree(Tree::live()));
    };
    if from.is_dir() {
        return Tree::below(from).map(From::Tree);
    }
    let file = File::open(from).with_context(|| format!("cannot read {}", from.display()))?;
    let mut bytes = Vec::new();
    let read = file.take(TEXT_MAX).read_to_end(&mut bytes);
    read.with_context(|| format!("cannot read {}", from.display()))?;
    if let Some(tree) = Tree::archive(&bytes) {
        return tree
            .map(From::Tree)
            .with_context(|| format!("cannot use {}", from.display()));
    }
    let bytes = decompressed(bytes).with_context(|| format!("cannot use {}", from.display()))?;
    let machine = lspci(&String::from_utf8_lossy(&bytes));
    ensure!(
        !machine.devices.is_empty(),
        "{}: neither a capture, nor a directory with a copy of /sys and /proc, nor what \
         lspci -D -nn -xxxx prints",
        from.display()
    );
    Ok(From::Text(machine))
}

/// Reads a machine: this one, or what `--from` names.
pub fn read(from: Option<&Path>) -> Result<Machine> {
    match open(from)? {
        From::Tree(tree) => Reader::of(tree).read(),
        From::Text(machine) => Ok(machine),
    }
}

/// The tree that `--from` names, or this machine's own.
pub fn tree(from: Option<&Path>) -> Result<Tree> {
    match open(from)? {
        From::Tree(tree) => Ok(tree),
        From::Text(_) => {
            bail!("what lspci printed is as good as a capture: there is nothing else to take")
        }
    }
}

#[cfg(test)]
pub mod tests {
    use std::fmt::Write as _;
    use std::fs;
    use std::io::Write as _;

    use super::*;
    use crate::config_space::fake::config;
    use crate::config_space::PortType;
    use crate::route::{route, Via};

    fn bdf(text: &str) -> Bdf {
        text.parse().expect("an address")
    }

    /// A dump of one function, a bridge to a bus or an endpoint.
    fn dump(text: &mut String, name: &str, below: Option<u8>, mut config: Vec<u8>) {
        config[..4].copy_from_slice(&[0x86, 0x80, 0x34, 0x12]);
        if let Some(bus) = below {
            config[0x0b] = 6;
            config[0x0a] = 4;
            config[0x0e] = 1;
            config[0x19] = bus;
        }
        writeln!(text, "{name} Something: of a vendor (rev 12)").expect("room");
        for (index, line) in config.chunks(16).enumerate() {
            let bytes: Vec<_> = line.iter().map(|byte| format!("{byte:02x}")).collect();
            writeln!(text, "{:02x}: {}", index * 16, bytes.join(" ")).expect("room");
        }
        text.push('\n');
    }

    /// A switch with three functions below it, of each of which so many bytes are there.
    pub fn machine_text(length: usize) -> String {
        let cut = |port, acs| config(port, acs)[..length].to_vec();
        let mut text = String::new();
        dump(&mut text, "10000:00:01.0", Some(1), cut(4, Some(0x1d)));
        dump(&mut text, "10000:01:00.0", Some(2), cut(5, None));
        dump(&mut text, "10000:02:00.0", Some(3), cut(6, Some(0)));
        dump(&mut text, "10000:02:01.0", Some(4), cut(6, Some(0x0c)));
        dump(&mut text, "10000:03:00.0", None, cut(0, None));
        dump(&mut text, "10000:03:00.1", None, cut(0, None));
        dump(&mut text, "10000:04:00.0", None, cut(0, None));
        text
    }

    /// Bridges, by address, to these buses.
    pub fn bridges(below: &BTreeMap<&str, u8>) -> String {
        let mut text = String::new();
        for (name, bus) in below {
            dump(&mut text, name, Some(*bus), config(4, None));
        }
        text
    }

    #[test]
    fn reads_lspci() {
        let machine = lspci(&machine_text(4096));
        assert_eq!(machine.devices.len(), 7);
        let device = &machine.devices[&bdf("10000:04:00.0")];
        assert_eq!(device.parent, Some(bdf("10000:02:01.0")));
        assert_eq!(device.root_bus, "pci10000:00");
        let port = &machine.devices[&bdf("10000:02:01.0")];
        assert_eq!(port.acs_control, Some(0x0c));
        assert_eq!(port.port_type, Some(PortType::SwitchDownstream));

        let found = route(&machine, bdf("10000:03:00.0"), bdf("10000:03:00.1"));
        let bridge = bdf("10000:02:00.0");
        assert_eq!((found.distance, found.via), (2, Via::Bridge { bridge }));
        let found = route(&machine, bdf("10000:03:00.0"), bdf("10000:04:00.0"));
        let acs_redirect = vec![bdf("10000:02:01.0")];
        // nothing is known of the processor, and its rule may be the one that counts
        let via = Via::HostBridge {
            allowed: None,
            acs_redirect,
        };
        assert_eq!((found.distance, found.via), (4, via));
    }

    /// A virtual function on a bus that no bridge has for its own, in the range of one.
    #[test]
    fn virtual_functions_have_no_bridge_of_their_own() {
        let text = |upstream: Vec<u8>, port: Vec<u8>| {
            let range = |mut config: Vec<u8>, last| {
                config[0x1a] = last;
                config
            };
            let mut text = String::new();
            dump(&mut text, "00:01.0", Some(1), range(config(4, Some(0)), 9));
            dump(&mut text, "01:00.0", Some(2), range(upstream, 9));
            dump(&mut text, "02:00.0", Some(3), range(port, 4));
            dump(&mut text, "02:01.0", Some(5), range(config(6, Some(0)), 5));
            dump(&mut text, "03:00.0", None, config(0, None));
            dump(&mut text, "05:00.0", None, config(0, None));
            let start = text.len();
            dump(&mut text, "04:02.0", None, config(0, None));
            let own = text.split_off(start);
            let own = own.replacen("00: 86 80 34 12", "00: ff ff ff ff", 1);
            text + &own.replacen("vendor", "vendor [8086:154c]", 1)
        };
        let whole = || config(6, Some(0));
        let machine = lspci(&text(config(5, None), whole()));
        let device = &machine.devices[&bdf("04:02.0")];
        assert_eq!(device.parent, Some(bdf("02:00.0")));
        assert_eq!(device.root_bus, "pci0000:00");
        assert_eq!((device.vendor_id, device.device_id), (0x8086, 0x154c));
        let found = route(&machine, bdf("04:02.0"), bdf("05:00.0"));
        let bridge = bdf("01:00.0");
        assert_eq!(found.via, Via::Bridge { bridge });

        // not below the bridge above the one that could not be read
        let mut lost = text(config(5, None), whole());
        let (start, end) = ("02:00.0", "02:01.0");
        let range = lost.find(start).expect("it")..lost.find(end).expect("it");
        lost.replace_range(range, &format!("{start} Unreadable\n\n"));
        let machine = lspci(&lost);
        assert_eq!(machine.devices[&bdf("04:02.0")].parent, None);
        let found = route(&machine, bdf("04:02.0"), bdf("05:00.0"));
        assert_eq!(found.via.works(), None);
        // nor is anything but a virtual function
        let other = text(config(5, None), whole()).replace("00: ff ff ff ff", "00: 86 80 34 12");
        assert_eq!(lspci(&other).devices[&bdf("04:02.0")].parent, None);
    }

    #[test]
    fn what_is_cut_short_is_unknown() {
        for length in [64, 80, 112, 128, 160, 256, 320] {
            let machine = lspci(&machine_text(length));
            let found = route(&machine, bdf("10000:03:00.0"), bdf("10000:04:00.0"));
            assert!(
                matches!(found.via, Via::Unknown { .. }),
                "{length}: {:?}",
                found.via
            );
            assert_eq!(found.via.works(), None);
        }
    }

    /// Also in a text with all of some functions, 256 bytes need not be all of the others: it may
    /// be made of several.
    #[test]
    fn what_is_not_there_is_told_from_what_is_cut() {
        let text = |port: Vec<u8>, last: usize| {
            let mut text = String::new();
            dump(&mut text, "00:01.0", Some(1), config(4, Some(0)));
            dump(&mut text, "00:02.0", Some(2), port);
            dump(&mut text, "02:00.0", None, config(0, None)[..last].to_vec());
            text
        };
        let known = |text: &str, at: &str| lspci(text).devices[&bdf(at)].acs_redirect.is_some();
        let short = || config(4, Some(0x0c))[..256].to_vec();
        assert!(!known(&text(short(), 4096), "00:02.0"));
        // no line of it is missing
        let whole = text(config(4, Some(0x0c)), 256);
        assert!(known(&whole, "00:02.0") && !known(&whole, "02:00.0"));
        let lost = whole.replacen("\n100: 01 00", "\n", 2);
        assert!(lost.len() < whole.len(), "no such line");
        assert!(!known(&lost, "00:02.0"));
        assert!(!known(
            &text(config(4, None)[..128].to_vec(), 4096),
            "00:02.0"
        ));
    }

    #[test]
    fn says_what_it_takes() {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let error = read(Some(dir.path()))
            .map(|_| ())
            .expect_err("nothing there");
        assert!(
            error.to_string().contains("no sys/bus/pci/devices"),
            "{error}"
        );
        let file = dir.path().join("text");
        fs::write(&file, "nothing of the kind\n").expect("a file");
        let error = read(Some(&file)).map(|_| ()).expect_err("nothing in it");
        assert!(error.to_string().contains("lspci -D -nn -xxxx"), "{error}");

        // the same where it is compressed, which a text of lspci may be as well
        let compressed = |text: &str| {
            let mut packer = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
            packer.write_all(text.as_bytes()).expect("room");
            packer.finish().expect("compressed")
        };
        fs::write(&file, compressed("nothing of the kind\n")).expect("a file");
        let error = read(Some(&file)).map(|_| ()).expect_err("nothing in it");
        assert!(error.to_string().contains("lspci -D -nn -xxxx"), "{error}");
        fs::write(&file, compressed(&machine_text(4096))).expect("a file");
        assert_eq!(read(Some(&file)).expect("a machine").devices.len(), 7);
        let mut cut = compressed(&machine_text(4096));
        cut.truncate(cut.len() / 2);
        fs::write(&file, &cut).expect("a file");
        let error = read(Some(&file)).map(|_| ()).expect_err("damaged");
        assert_eq!(format!("{error:#}").lines().count(), 1, "{error:#}");
    }
}
