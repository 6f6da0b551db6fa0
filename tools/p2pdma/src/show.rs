// SPDX-License-Identifier: GPL-2.0

//! `p2pdma show`: the PCI tree, who provides, who consumes, and who reaches whom.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{self, Write};

use serde::Serialize;
use termtree::{GlyphPalette, Tree};

use crate::bdf::Bdf;
use crate::check::{pool, GUEST};
use crate::config_space::PortType;
use crate::machine::{Client, Device, Machine, Provider, Source};
use crate::route::{routes, upwards, Route, Via};
use crate::size::Size;
use crate::text::{hanging, list, shorten, styled, table, HEADING, WIDTH};

/// Version of what `--json` prints: it changes when something is renamed, removed or redefined.
const SCHEMA: u32 = 1;

/// What `--json` prints.
#[derive(Serialize)]
struct Report<'a> {
    schema: u32,
    hypervisor: bool,
    devices: Vec<&'a Device>,
    providers: &'a [Provider],
    clients: &'a [Client],
    routes: Vec<Route>,
}

/// Prints all as JSON.
pub fn json(machine: &Machine, mut out: impl Write) -> io::Result<()> {
    let report = Report {
        schema: SCHEMA,
        hypervisor: machine.hypervisor,
        devices: machine.devices.values().collect(),
        providers: &machine.providers,
        clients: &machine.clients,
        routes: routes(machine),
    };
    serde_json::to_writer_pretty(&mut out, &report)?;
    writeln!(out)
}

/// What a device is, for a person.
pub fn what(device: &Device) -> &str {
    match device.port_type {
        Some(PortType::RootPort) => "root port",
        Some(PortType::SwitchUpstream) => "upstream port",
        Some(PortType::SwitchDownstream) => "downstream port",
        _ => &device.name,
    }
}

/// What a device does here: `p2pmem, nvme0n1`, a pool and a disk.
fn role(machine: &Machine, bdf: Bdf) -> String {
    let provides = machine
        .providers
        .iter()
        .filter(|provider| provider.bdf == bdf)
        .map(|_| "p2pmem".to_owned());
    let serves = machine
        .clients
        .iter()
        .filter(|client| client.bdf == bdf)
        .flat_map(|client| client.namespaces.iter().map(|disk| disk.name.clone()));
    let mut all: Vec<_> = provides.chain(serves).collect();
    if all.len() > 3 {
        let more = all.len() - 2;
        all.truncate(2);
        all.push(format!("{more} more"));
    }
    all.join(", ")
}

/// Providers, clients, and all bridges above them.
fn concerned(machine: &Machine) -> BTreeSet<Bdf> {
    let providers = machine.providers.iter().map(|provider| provider.bdf);
    let clients = machine.clients.iter().map(|client| client.bdf);
    with_bridges(machine, providers.chain(clients))
}

/// These functions, and all bridges above them.
pub fn with_bridges(machine: &Machine, ends: impl Iterator<Item = Bdf>) -> BTreeSet<Bdf> {
    let mut concerned = BTreeSet::new();
    for end in ends {
        let mut at = Some(end);
        while let Some(bdf) = at {
            if !concerned.insert(bdf) {
                break;
            }
            at = machine.devices.get(&bdf).and_then(|device| device.parent);
        }
    }
    concerned
}

/// Narrow enough for switches below switches.
const GLYPHS: GlyphPalette = GlyphPalette {
    item_indent: "─ ",
    skip_indent: "  ",
    ..GlyphPalette::new()
};

/// Narrow enough for long chains of them.
const NARROW: GlyphPalette = GlyphPalette {
    item_indent: "─",
    skip_indent: " ",
    ..GlyphPalette::new()
};

/// Trees that are deeper are drawn like that.
const DEEP: usize = 8;

/// Devices by the bridge above them.
type Below<'a> = BTreeMap<Option<Bdf>, Vec<&'a Device>>;

/// A device and what is below it; adds all of them to the order in which they are printed.
fn branch(
    below: &Below<'_>,
    device: &Device,
    glyphs: GlyphPalette,
    order: &mut Vec<Option<Bdf>>,
) -> Tree<String> {
    order.push(Some(device.bdf));
    let children = below.get(&Some(device.bdf)).map_or(&[][..], Vec::as_slice);
    let leaves: Vec<_> = children
        .iter()
        .map(|child| branch(below, child, glyphs, order))
        .collect();
    Tree::new(device.bdf.to_string())
        .with_glyphs(glyphs)
        .with_leaves(leaves)
}

/// The tree's lines, each with the device it is about, if it is about one.
pub fn tree_lines(machine: &Machine, shown: &BTreeSet<Bdf>) -> Vec<(String, Option<Bdf>)> {
    let mut below = Below::new();
    for device in machine
        .devices
        .values()
        .filter(|device| shown.contains(&device.bdf))
    {
        below.entry(device.parent).or_default().push(device);
    }

    let depth = shown.iter().map(|bdf| upwards(machine, *bdf).len()).max();
    let glyphs = match depth {
        Some(depth) if depth > DEEP => NARROW,
        _ => GLYPHS,
    };
    let tops = below.get(&None).map_or(&[][..], Vec::as_slice);
    let root_buses: BTreeSet<&str> = tops.iter().map(|device| device.root_bus.as_str()).collect();
    let mut lines = Vec::new();
    for bus in root_buses {
        let mut order = vec![None];
        let tops = tops.iter().filter(|device| device.root_bus == bus);
        let leaves: Vec<_> = tops
            .map(|device| branch(&below, device, glyphs, &mut order))
            .collect();
        let tree = Tree::new(bus.to_owned())
            .with_glyphs(glyphs)
            .with_leaves(leaves);
        lines.extend(tree.to_string().lines().map(str::to_owned).zip(order));
    }
    lines
}

/// Rows whose columns are shortened, down to so many characters each, until they fit.
pub fn squeezed(
    header: &[&str],
    mut rows: Vec<Vec<String>>,
    columns: &[(usize, usize)],
) -> Vec<Vec<String>> {
    let width = |rows: &[Vec<String>], column: usize| {
        let cells = rows.iter().filter_map(|row| row.get(column));
        let title = header.get(column).map_or(0, |title| title.chars().count());
        cells
            .map(|cell| cell.chars().count())
            .max()
            .unwrap_or(0)
            .max(title)
    };
    let last = rows.iter().map(Vec::len).max().unwrap_or(0);
    let total: usize = (0..last).map(|column| width(&rows, column) + 2).sum();
    let mut over = total.saturating_sub(WIDTH);
    for (column, least) in columns {
        let now = width(&rows, *column);
        let cut = over.min(now.saturating_sub(*least));
        over -= cut;
        for cell in rows.iter_mut().filter_map(|row| row.get_mut(*column)) {
            *cell = shorten(cell, now - cut);
        }
    }
    rows
}

fn tree(machine: &Machine, all: bool, out: &mut impl Write) -> io::Result<()> {
    let shown = if all {
        machine.devices.keys().copied().collect()
    } else {
        concerned(machine)
    };
    let rows = tree_lines(machine, &shown).into_iter().map(|(line, bdf)| {
        let Some(device) = bdf.and_then(|bdf| machine.devices.get(&bdf)) else {
            return vec![line, "root bus".to_owned()];
        };
        vec![
            line,
            shorten(what(device), 17),
            shorten(device.driver.as_deref().unwrap_or("no driver"), 15),
            role(machine, device.bdf),
        ]
    });
    let rows = squeezed(&[], rows.collect(), &[(3, 12), (1, 9), (2, 9)]);

    writeln!(out, "{}", styled(HEADING, "PCI devices"))?;
    if !rows.is_empty() {
        writeln!(out, "{}", table(&[], rows, &[]))?;
    }
    let hidden = machine.devices.len() - shown.len();
    if hidden > 0 {
        writeln!(out, "  {hidden} not concerned, listed by --all")?;
    }
    Ok(())
}

/// Where memory lies: `BAR 2`, `CMB in BAR 2`.
pub fn place(source: &Source) -> String {
    let bar = source
        .bar
        .map_or("a BAR".to_owned(), |bar| format!("BAR {bar}"));
    let place = match source.offset {
        None | Some(0) => bar,
        Some(offset) => format!("{bar} + {}", Size(offset)),
    };
    match source.kind.as_str() {
        "cmb" => format!("CMB in {place}"),
        _ => place,
    }
}

fn providers(machine: &Machine, out: &mut impl Write) -> io::Result<()> {
    writeln!(
        out,
        "\n{}",
        styled(HEADING, "Providers of peer-to-peer memory")
    )?;
    if machine.providers.is_empty() && machine.system.p2pdma == Some(false) {
        return writeln!(
            out,
            "  none: this kernel is built without CONFIG_PCI_P2PDMA"
        );
    }
    // buffers that are there, and cannot be used
    let of_cmbs = machine.clients.iter().filter(|client| client.cmb.is_some());
    let unused: Vec<_> = of_cmbs
        .filter_map(|client| pool(machine, client.bdf))
        .filter(|_| machine.providers.is_empty())
        .collect();
    if machine.providers.is_empty() {
        let none = match unused[..] {
            [] => {
                "none: bind p2pdma_provider to a device with a memory BAR, or use an NVMe \
                 controller with a CMB"
            }
            _ => "none: bind p2pdma_provider to a device with a memory BAR",
        };
        writeln!(out, "{}", hanging("  ", none))?;
        for check in unused {
            writeln!(out, "{}", hanging("  ", &check.evidence))?;
        }
        return Ok(());
    }
    let rows = machine.providers.iter().map(|provider| {
        vec![
            provider.bdf.to_string(),
            shorten(provider.driver.as_deref().unwrap_or("-"), 16),
            provider.source.as_ref().map_or("-".to_owned(), place),
            Size(provider.size).to_string(),
            Size(provider.available).to_string(),
            if provider.published { "yes" } else { "no" }.to_owned(),
            provider
                .numa_node
                .map_or("-".to_owned(), |node| node.to_string()),
        ]
    });
    let header = [
        "device",
        "driver",
        "memory",
        "pool",
        "free",
        "published",
        "node",
    ];
    writeln!(out, "{}", table(&header, rows.collect(), &[3, 4]))
}

/// Rows whose last column goes on in further lines if it is too wide, between its items.
fn folded(header: &[&str], mut rows: Vec<Vec<String>>) -> Vec<Vec<String>> {
    let last = header.len() - 1;
    let before = (0..last).map(|column| {
        let cells = rows.iter().map(|row| row[column].chars().count());
        cells.max().unwrap_or(0).max(header[column].chars().count()) + 2
    });
    let room = WIDTH.saturating_sub(2 + before.sum::<usize>());
    for row in &mut rows {
        let mut lines: Vec<String> = Vec::new();
        for item in row[last].split_inclusive(", ") {
            match lines.last_mut() {
                Some(line) if line.chars().count() + item.trim_end().chars().count() <= room => {
                    line.push_str(item);
                }
                _ => lines.push(item.to_owned()),
            }
        }
        let lines: Vec<_> = lines.iter().map(|line| line.trim_end()).collect();
        row[last] = lines.join("\n");
    }
    rows
}

fn clients(machine: &Machine, out: &mut impl Write) -> io::Result<()> {
    writeln!(out, "\n{}", styled(HEADING, "Clients"))?;
    if machine.clients.is_empty() {
        let controllers = machine.devices.values();
        let controllers: Vec<_> = controllers
            .filter(|device| device.class >> 8 == 0x0108)
            .map(|device| match device.driver.as_deref() {
                Some(driver) => format!("{} (driver {driver})", device.bdf),
                None => format!("{} (no driver)", device.bdf),
            })
            .collect();
        let none = match controllers[..] {
            [] => "none: there is no NVMe controller".to_owned(),
            _ => format!(
                "none that is known by name, but NVMe controllers: {}",
                list(&controllers)
            ),
        };
        return writeln!(out, "{}", hanging("  ", &none));
    }
    let rows = machine.clients.iter().map(|client| {
        let disks = client.namespaces.iter();
        let disks: Vec<_> = disks
            .map(|disk| format!("{} {}", disk.name, Size(disk.size)))
            .collect();
        vec![
            client.bdf.to_string(),
            client.controller.clone(),
            shorten(&client.serial, 12),
            shorten(&client.model, 14),
            if client.p2p_queues { "yes" } else { "no" }.to_owned(),
            if disks.is_empty() {
                "no namespace".to_owned()
            } else {
                disks.join(", ")
            },
        ]
    });
    let rows: Vec<Vec<String>> = rows.collect();
    let header = [
        "device",
        "name",
        "serial",
        "model",
        "takes P2P",
        "namespaces",
    ];
    writeln!(out, "{}", table(&header, folded(&header, rows), &[]))
}

/// The way between a pair, in words.
pub fn describe(via: &Via) -> String {
    match via {
        Via::SameFunction => "the same device".to_owned(),
        Via::Bridge { bridge } => format!("direct, below {bridge}"),
        Via::HostBridge {
            allowed,
            acs_redirect,
        } => {
            let verdict = match allowed {
                Some(true) => "through the host bridge",
                Some(false) => "not supported: host bridge not trusted",
                None => "through the host bridge, if trusted",
            };
            if acs_redirect.is_empty() {
                return verdict.to_owned();
            }
            let bridges: Vec<_> = acs_redirect.iter().map(Bdf::to_string).collect();
            format!("{verdict} (ACS redirect in {})", list(&bridges))
        }
        Via::Unknown {
            bridge,
            host_bridge_allowed,
            ..
        } => match host_bridge_allowed {
            Some(true) => format!("direct below {bridge}, or through the host bridge"),
            _ => format!("below {bridge}, unless ACS forbids it (not readable)"),
        },
    }
}

fn ways(machine: &Machine, out: &mut impl Write) -> io::Result<()> {
    let routes = routes(machine);
    if routes.is_empty() {
        return Ok(());
    }
    writeln!(out, "\n{}", styled(HEADING, "Ways between them"))?;
    let rows = routes.iter().map(|route| {
        vec![
            format!("{} - {}", route.provider, route.client),
            route.distance.to_string(),
            textwrap::fill(&describe(&route.via), 39),
        ]
    });
    let header = ["provider - client", "distance", "traffic goes"];
    writeln!(out, "{}", table(&header, rows.collect(), &[1]))?;
    let bridges = || machine.devices.values().filter(|device| device.is_bridge());
    if bridges().any(|bridge| bridge.acs_redirect.is_none()) {
        writeln!(
            out,
            "  ACS settings could not be read, which takes root: ways may be other than\n  shown"
        )?;
    }
    if machine.hypervisor {
        writeln!(out, "{}", hanging("  ", GUEST))?;
    }
    Ok(())
}

/// Prints all for a person.
pub fn text(machine: &Machine, all: bool, mut out: impl Write) -> io::Result<()> {
    tree(machine, all, &mut out)?;
    providers(machine, &mut out)?;
    clients(machine, &mut out)?;
    ways(machine, &mut out)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::machine::fake;

    fn shown(machine: &Machine, all: bool) -> String {
        let mut out = anstream::StripStream::new(Vec::new());
        text(machine, all, &mut out).expect("output");
        String::from_utf8(out.into_inner()).expect("UTF-8")
    }

    #[test]
    fn shows_a_switch() {
        let expected = "\
PCI devices
  pci0000:00                root bus
  └─ 0000:00:01.0           root port          pcieport
     └─ 0000:01:00.0        upstream port      pcieport
        ├─ 0000:02:00.0     downstream port    pcieport
        │  └─ 0000:03:00.0  QEMU NVM Express…  nvme             p2pmem, nvme0n1
        ├─ 0000:02:01.0     downstream port    pcieport
        │  └─ 0000:04:00.0  QEMU NVM Express…  nvme             nvme1n1
        └─ 0000:02:02.0     downstream port    pcieport
           └─ 0000:05:00.0  QEMU PCI Test De…  p2pdma_provider  p2pmem
  1 not concerned, listed by --all

Providers of peer-to-peer memory
  device        driver           memory          pool      free  published  node
  0000:03:00.0  nvme             CMB in BAR 2  64 MiB  63.9 MiB  yes        -
  0000:05:00.0  p2pdma_provider  BAR 2         64 MiB    64 MiB  yes        -

Clients
  device        name   serial  model           takes P2P  namespaces
  0000:03:00.0  nvme0  cmb     QEMU NVMe Ctrl  yes        nvme0n1 64 MiB
  0000:04:00.0  nvme1  plain   QEMU NVMe Ctrl  yes        nvme1n1 64 MiB

Ways between them
  provider - client            distance  traffic goes
  0000:03:00.0 - 0000:03:00.0         0  the same device
  0000:03:00.0 - 0000:04:00.0         4  direct, below 0000:01:00.0
  0000:05:00.0 - 0000:03:00.0         4  direct, below 0000:01:00.0
  0000:05:00.0 - 0000:04:00.0         4  direct, below 0000:01:00.0
";
        assert_eq!(shown(&fake::switch().read(), false), expected);
    }

    #[test]
    fn shows_everything_on_request() {
        let output = shown(&fake::switch().read(), true);
        assert!(output.contains("├─ 0000:00:00.0"), "{output}");
        assert!(!output.contains("--all"), "{output}");
    }

    #[test]
    fn shows_who_redirects() {
        let output = shown(&fake::root_ports(Some(0x1d)).read(), false);
        let line = "0000:03:00.0 - 0000:02:00.0         4  not supported: host bridge not trusted";
        assert!(output.contains(line), "{output}");
    }

    #[test]
    fn shows_an_empty_machine() {
        let output = shown(&fake::Fake::new().read(), false);
        assert!(output.contains("none: bind p2pdma_provider"), "{output}");
        assert!(
            output.contains("none: there is no NVMe controller"),
            "{output}"
        );
        assert!(!output.contains("Ways"), "{output}");
    }

    /// Cases of users: a buffer that is too small, a controller without a name, a guest, and a
    /// kernel that is built without it.
    #[test]
    fn says_why_there_is_nothing() {
        let fake = fake::Fake::new();
        let dir = fake.nvme(&["0000:00:04.0"], 0, "cmb");
        fake.write(&format!("{dir}/nvme/nvme0/cmbloc"), "0x00000002\n");
        fake.write(&format!("{dir}/nvme/nvme0/cmbsz"), "0x00080001\n");
        let output = shown(&fake.read(), false);
        assert!(
            output.contains("nvme0 has a CMB of 512 KiB in BAR 2; not provided: the kernel needs"),
            "{output}"
        );
        assert!(!output.contains("use an NVMe"), "{output}");
        fake.write("proc/sys/kernel/osrelease", "6.1.0\n");
        fake.write("boot/config-6.1.0", "# CONFIG_PCI_P2PDMA is not set\n");
        let output = shown(&fake.read(), false);
        assert!(
            output.contains("none: this kernel is built without"),
            "{output}"
        );

        let fake = fake::Fake::new();
        fake.function(&["0000:00:04.0"], (0x8086, 0x0953, 0x01_0802), "nvme");
        let output = shown(&fake.read(), false);
        assert!(
            output.contains("but NVMe controllers: 0000:00:04.0 (driver nvme)"),
            "{output}"
        );

        let fake = fake::switch();
        assert!(!shown(&fake.read(), false).contains("virtual machine"));
        fake.write(
            "proc/cpuinfo",
            "vendor_id\t: GenuineIntel\nflags\t\t: fpu hypervisor\n",
        );
        let machine = fake.read();
        let output = shown(&machine, false);
        assert!(
            output.contains("  this is a virtual machine: where the traffic"),
            "{output}"
        );
        let mut out = Vec::new();
        json(&machine, &mut out).expect("output");
        let value: serde_json::Value = serde_json::from_slice(&out).expect("JSON");
        assert_eq!(value["hypervisor"], true);
    }

    #[test]
    fn fits() {
        let redirecting = fake::switch();
        for port in ["0000:02:00.0", "0000:02:01.0", "0000:02:02.0"] {
            let config = crate::config_space::fake::config(6, Some(0x1d));
            redirecting.write(&format!("sys/bus/pci/devices/{port}/config"), config);
        }
        // a controller with many disks
        let many = fake::switch();
        for n in 2..12 {
            let disk = format!("sys/bus/pci/devices/0000:04:00.0/nvme/nvme1/nvme1n{n}");
            many.write(&format!("{disk}/size"), "3750748848\n");
            many.write(&format!("{disk}/queue/logical_block_size"), "512\n");
        }
        let fakes = [
            fake::switch(),
            fake::root_ports(Some(0x1d)),
            redirecting,
            many,
            fake::chain(),
        ];
        for machine in fakes.map(|fake| fake.read()) {
            for line in shown(&machine, true).lines() {
                assert!(line.chars().count() <= 80, "{line}");
            }
        }
    }

    #[test]
    fn says_the_same_in_json() {
        let mut out = Vec::new();
        json(&fake::switch().read(), &mut out).expect("output");
        let value: serde_json::Value = serde_json::from_slice(&out).expect("JSON");
        assert_eq!(
            (&value["schema"], &value["hypervisor"]),
            (&1.into(), &false.into())
        );
        assert_eq!(value["providers"][1]["bdf"], "0000:05:00.0");
        assert_eq!(value["providers"][1]["size"], 67_108_864);
        assert_eq!(value["clients"][1]["namespaces"][0]["name"], "nvme1n1");
        assert_eq!(value["routes"][3]["via"], "bridge");
        assert_eq!(value["routes"][3]["bridge"], "0000:01:00.0");
        assert_eq!(value["devices"][1]["port_type"], "root-port");
        assert_eq!(value["devices"].as_array().map(Vec::len), Some(9));
    }

    /// Without root: where traffic goes is not known, and is not said to be known.
    #[test]
    fn says_in_json_what_is_not_known() {
        let fake = fake::switch();
        for port in ["0000:02:01.0", "0000:02:02.0"] {
            let config = crate::config_space::fake::config(6, Some(0));
            fake.write(&format!("sys/bus/pci/devices/{port}/config"), &config[..64]);
        }
        let value = |fake: &fake::Fake| -> serde_json::Value {
            let mut out = Vec::new();
            json(&fake.read(), &mut out).expect("output");
            serde_json::from_slice(&out).expect("JSON")
        };
        let unknown = value(&fake);
        // both ports are in the way, then the client's alone, then the provider's alone
        for (route, ports) in [
            (3, &["0000:02:02.0", "0000:02:01.0"][..]),
            (1, &["0000:02:01.0"]),
            (2, &["0000:02:02.0"]),
        ] {
            let expected = serde_json::json!({
                "provider": unknown["routes"][route]["provider"],
                "client": unknown["routes"][route]["client"],
                "distance": 4,
                "via": "unknown",
                "bridge": "0000:01:00.0",
                "host_bridge_allowed": false,
                "acs_unknown": ports,
            });
            assert_eq!(unknown["routes"][route], expected);
        }
        assert_eq!(unknown["routes"][0]["via"], "same-function");
        let devices = unknown["devices"].as_array().expect("a list");
        let port = devices.iter().find(|one| one["bdf"] == "0000:02:01.0");
        let port = port.expect("the port");
        for key in ["acs_redirect", "acs_control", "acs_capability"] {
            assert_eq!(port[key], serde_json::Value::Null, "{key}");
        }
        // nothing is known of the processor either
        fake.write("proc/cpuinfo", "");
        std::fs::remove_file(fake.root.path().join("proc/cpuinfo")).expect("it");
        let nothing = value(&fake);
        assert_eq!(
            nothing["routes"][3]["host_bridge_allowed"],
            serde_json::Value::Null
        );
        // of a processor that allows it, it works either way, and stays unknown
        fake.cpu("AuthenticAMD", 0x19);
        let either = value(&fake);
        assert_eq!(either["routes"][3]["via"], "unknown");
        assert_eq!(either["routes"][3]["host_bridge_allowed"], true);
    }
}
