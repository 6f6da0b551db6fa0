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
use crate::tree::Tree;

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

/// Reads what `lspci -D -nn -xxxx` prints; `-xxx` and `-x` will do, with less known.
pub fn lspci(text: &str) -> Machine {
    let mut configs: BTreeMap<Bdf, Vec<u8>> = BTreeMap::new();
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
        }
    }

    let bridges: BTreeMap<(u32, u8), Bdf> = configs
        .iter()
        .filter_map(|(bdf, config)| {
            let below = config_space::secondary_bus(config)?;
            (below > bdf.bus().1).then_some(((bdf.bus().0, below), *bdf))
        })
        .collect();
    let root_bus = |mut bdf: Bdf| {
        // numbers of buses grow downwards, so that this ends
        while let Some(bridge) = bridges.get(&bdf.bus()) {
            bdf = *bridge;
        }
        let (domain, bus) = bdf.bus();
        format!("pci{domain:04x}:{bus:02x}")
    };
    let device = |bdf: Bdf, config: &[u8]| {
        let (vendor_id, device_id, class) =
            config_space::ids(config).unwrap_or((0xffff, 0xffff, 0));
        let port_type = config_space::port_type(config);
        Device {
            bdf,
            parent: bridges.get(&bdf.bus()).copied(),
            root_bus: root_bus(bdf),
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
mod tests {
    use std::fmt::Write as _;
    use std::fs;

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

    fn machine_text(length: usize) -> String {
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

    #[test]
    fn no_text_makes_it_panic() {
        let good = machine_text(64).into_bytes();
        let mut state = 0x9e37_79b9_7f4a_7c15_u64;
        for _ in 0..500 {
            let mut text = good.clone();
            for _ in 0..40 {
                state ^= state << 13;
                state ^= state >> 7;
                state ^= state << 17;
                let at = usize::try_from(state >> 32).unwrap_or(0) % text.len();
                text[at] = state.to_le_bytes()[0];
            }
            lspci(&String::from_utf8_lossy(&text));
        }
        // bridges that claim each other's bus
        let mut text = String::new();
        dump(&mut text, "01:00.0", Some(2), config(4, None));
        dump(&mut text, "02:00.0", Some(1), config(4, None));
        assert_eq!(lspci(&text).devices.len(), 2);
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
    }
}
