// SPDX-License-Identifier: GPL-2.0

//! `p2pdma topo`: a matrix of who can reach whom, and pictures of it.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{self, Write};

use serde::Serialize;

use crate::ask::{Answer, Answers};
use crate::bdf::Bdf;
use crate::check::{acs_bits, rate, transfers, verdict, Verdict};
use crate::kmsg::Log;
use crate::machine::{Device, Machine};
use crate::route::{route, Route, Via};
use crate::show::{squeezed, tree_lines, what, with_bridges};
use crate::text::{shorten, styled, table, BAD, HEADING};

/// Version of what `--json` prints.
pub const SCHEMA: u32 = 2;

/// So many columns fit into 80 characters.
const COLUMNS: usize = 5;

/// How near two functions are, in the terms of `nvidia-smi topo -m`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "UPPERCASE")]
pub enum Near {
    /// The same function.
    X,
    /// Below one bridge or switch.
    Pix,
    /// Below a common bridge, with several switches between.
    Pxb,
    /// Below one host bridge.
    Phb,
    /// Below host bridges of one NUMA node.
    Node,
    /// Anything else.
    Sys,
}

/// A pair.
#[derive(Debug, Serialize)]
pub struct Pair {
    /// How near the two are.
    pub near: Near,
    /// What the kernel decides, as far as that can be told.
    pub verdict: Verdict,
    /// Whether the kernel's log says that it allows the pair.
    pub kernel: Option<bool>,
    /// What the kernel says, if it could be asked.
    pub asked: Option<Answer>,
    /// The way between them.
    #[serde(flatten)]
    pub route: Route,
}

impl Pair {
    /// Whether the kernel's log says something else, and the kernel itself was not asked since.
    pub fn log_differs(&self) -> bool {
        let said = self.kernel.zip(self.route.via.works());
        self.asked.is_none() && said.is_some_and(|(said, works)| said != works)
    }

    /// Whether the kernel says something else, now that it is asked.
    pub fn kernel_differs(&self) -> bool {
        let Some(answer) = self.asked else {
            return false;
        };
        let works = self.route.via.works();
        let distance = answer.distance.map(usize::try_from);
        works.is_some_and(|works| works != answer.allowed)
            || distance.is_some_and(|distance| distance != Ok(self.route.distance))
    }

    /// Whether the kernel has said something else.
    pub fn is_contradicted(&self) -> bool {
        self.log_differs() || self.kernel_differs()
    }
}

/// All that matters, and every pair of it.
#[derive(Debug, Serialize)]
pub struct Topology<'a> {
    /// Version of this format.
    pub schema: u32,
    /// The functions.
    pub devices: Vec<&'a Device>,
    /// All pairs, the provider first.
    pub pairs: Vec<Pair>,
}

/// Intel's Data Streaming and In-Memory Analytics Accelerators, as drivers/dma/idxd has them: their
/// class, 0880, is that of most of what is in a processor.
const IDXD: &[u16] = &[0x0b25, 0x0cfe, 0x11fb, 0x1212, 0x1216, 0xb02d, 0xfd2d];

/// Whether a function is of a kind that does peer-to-peer DMA: graphics, accelerators (FPGAs
/// too), network and InfiniBand, NVMe.
fn is_of_a_kind(device: &Device) -> bool {
    let is_accelerator = match device.class >> 8 {
        0x0880 => device.vendor_id == 0x8086 && IDXD.contains(&device.device_id),
        // "memory controller", as many FPGAs are; on a root bus it is part of the chipset
        0x0580 => device.parent.is_some(),
        _ => false,
    };
    is_accelerator
        || matches!(device.class >> 16, 0x02 | 0x03 | 0x12)
        || matches!(device.class >> 8, 0x0108 | 0x0b40 | 0x0c06)
}

fn near(a: &Device, b: &Device, route: &Route) -> Near {
    match &route.via {
        Via::SameFunction => Near::X,
        Via::HostBridge { acs_redirect, .. } if acs_redirect.is_empty() => {
            if a.root_bus == b.root_bus {
                Near::Phb
            } else if a.numa_node.is_some() && a.numa_node == b.numa_node {
                Near::Node
            } else {
                Near::Sys
            }
        }
        // there is a common bridge, whatever ACS makes of it
        _ if a.bdf == b.bdf => Near::X,
        _ if route.distance <= 4 => Near::Pix,
        _ => Near::Pxb,
    }
}

/// What matters; all functions that are no bridges on request.
pub fn devices(machine: &Machine, all: bool) -> Vec<&Device> {
    let providers: BTreeSet<Bdf> = machine.providers.iter().map(|one| one.bdf).collect();
    let provides = |bdf| providers.contains(&bdf);
    machine
        .devices
        .values()
        .filter(|device| {
            // the class of bridges, of PCI and of hosts
            let is_end = device.class >> 16 != 0x06;
            is_of_a_kind(device) || (all && is_end) || provides(device.bdf)
        })
        .collect()
}

/// Looks at every pair of what matters.
pub fn topology<'a>(machine: &'a Machine, log: &Log, answers: &Answers, all: bool) -> Topology<'a> {
    let said = log.verdicts();
    let devices = devices(machine, all);
    let pair = |a: &Device, b: &Device| {
        let route = route(machine, a.bdf, b.bdf);
        Pair {
            near: near(a, b, &route),
            verdict: verdict(machine, &route),
            kernel: said.get(&(a.bdf, b.bdf)).map(|said| !said.refused),
            asked: answers.get(&(a.bdf, b.bdf)).copied(),
            route,
        }
    };
    let pairs = devices
        .iter()
        .flat_map(|a| devices.iter().map(|b| pair(a, b)))
        .collect();
    Topology {
        schema: SCHEMA,
        devices,
        pairs,
    }
}

fn cell(pair: &Pair) -> String {
    if pair.route.via == Via::SameFunction {
        return "X".to_owned();
    }
    let verdict = match pair.verdict {
        Verdict::BusAddress => "BUS",
        Verdict::HostBridge => "HB",
        Verdict::Either => "YES",
        Verdict::NotSupported => "NO",
        Verdict::Unknown => "?",
    };
    let mark = match pair.asked {
        _ if pair.is_contradicted() => "!",
        Some(_) => "=",
        None => "",
    };
    format!(
        "{verdict}{mark} {} {}",
        pair.route.distance,
        pair.near.name()
    )
}

impl Near {
    fn name(self) -> &'static str {
        match self {
            Near::X => "X",
            Near::Pix => "PIX",
            Near::Pxb => "PXB",
            Near::Phb => "PHB",
            Near::Node => "NODE",
            Near::Sys => "SYS",
        }
    }
}

/// Prints a line for each pair: provider, client, verdict, distance, and how near they are.
pub fn list(topology: &Topology<'_>, mut out: impl Write) -> io::Result<()> {
    for pair in &topology.pairs {
        writeln!(
            out,
            "{} {} {} {} {}",
            pair.route.provider,
            pair.route.client,
            pair.verdict.name(),
            pair.route.distance,
            pair.near.name()
        )?;
    }
    Ok(())
}

/// A link in a few words: `8 GT/s x4`.
fn link(device: &Device) -> String {
    device.facts.link.map_or("-".to_owned(), |link| {
        format!("{} x{}", transfers(link.speed), link.width)
    })
}

/// Prints the tree above what matters, with links and ACS.
pub fn tree(machine: &Machine, topology: &Topology<'_>, mut out: impl Write) -> io::Result<()> {
    let shown = with_bridges(machine, topology.devices.iter().map(|device| device.bdf));
    let rows = tree_lines(machine, &shown).into_iter().map(|(line, bdf)| {
        let Some(device) = bdf.and_then(|bdf| machine.devices.get(&bdf)) else {
            return vec![line, "root bus".to_owned()];
        };
        let acs = match (device.is_bridge(), device.acs_redirect, device.acs_control) {
            (false, ..) => String::new(),
            (true, None, _) => "?".to_owned(),
            (true, Some(_), None) => "none".to_owned(),
            (true, Some(true), Some(control)) => format!("{control:#06x} redirects"),
            (true, Some(false), Some(control)) => format!("{control:#06x}"),
        };
        vec![line, shorten(what(device), 21), link(device), acs]
    });
    let rows: Vec<_> = rows.collect();
    if rows.is_empty() {
        return writeln!(out, "{NOTHING}");
    }
    let header = ["function", "what", "link", "ACS"];
    let rows = squeezed(&header, rows, &[(1, 9), (3, 10)]);
    writeln!(out, "{}", table(&header, rows, &[]))?;
    let redirecting = shown
        .iter()
        .filter_map(|bdf| machine.devices.get(bdf))
        .filter(|device| device.acs_redirect == Some(true));
    for device in redirecting {
        let control = device.acs_control.unwrap_or(0);
        writeln!(out, "  {} ACS {}", device.bdf, acs_bits(control))?;
    }
    Ok(())
}

/// A text in a string of dot.
fn quoted(text: &str) -> String {
    let text = text.replace('\\', "\\\\").replace('"', "\\\"");
    format!("\"{}\"", text.replace('\n', "\\n"))
}

/// Prints the tree for dot, of Graphviz.
pub fn dot(machine: &Machine, topology: &Topology<'_>, mut out: impl Write) -> io::Result<()> {
    let shown = with_bridges(machine, topology.devices.iter().map(|device| device.bdf));
    writeln!(out, "graph p2pdma {{")?;
    writeln!(
        out,
        "  node [shape=box fontname=\"sans-serif\" fontsize=10];"
    )?;
    writeln!(out, "  edge [fontname=\"sans-serif\" fontsize=9];")?;
    for device in shown.iter().filter_map(|bdf| machine.devices.get(bdf)) {
        let name = quoted(&device.bdf.to_string());
        let label = quoted(&format!("{}\n{}", device.bdf, what(device)));
        let style = match device.acs_redirect {
            _ if !device.is_bridge() => " style=filled fillcolor=\"#e8f0fe\"",
            Some(true) => " color=\"#c5221f\" penwidth=2",
            None => " style=dashed",
            Some(false) => "",
        };
        writeln!(out, "  {name} [label={label}{style}];")?;
        let above = match device.parent {
            Some(parent) => quoted(&parent.to_string()),
            None => quoted(&device.root_bus),
        };
        let speed = device.facts.link.map_or(String::new(), |found| {
            format!("{}\n{}", link(device), rate(found.bandwidth()))
        });
        writeln!(out, "  {above} -- {name} [label={}];", quoted(&speed))?;
    }
    writeln!(out, "}}")
}

/// Draws the matrix as an SVG.
pub fn svg(topology: &Topology<'_>) -> svg::Document {
    use svg::node::element::{Rectangle, Text, Title};

    const CELL: usize = 64;
    const HEIGHT: usize = 32;
    const LEFT: usize = 400;
    const TOP: usize = 56;
    let devices = &topology.devices;
    let (width, height) = (
        LEFT + devices.len() * CELL + 16,
        TOP + devices.len() * HEIGHT + 48,
    );
    let text = |x: usize, y: usize, size: usize, content: &str| {
        Text::new(content)
            .set("x", x)
            .set("y", y)
            .set("font-size", size)
            .set("font-family", "sans-serif")
            .set("fill", "#202124")
    };
    let background = Rectangle::new()
        .set("width", width)
        .set("height", height)
        .set("fill", "#ffffff");
    let mut document = svg::Document::new()
        .set("viewBox", (0, 0, width, height))
        .set("width", width)
        .set("height", height)
        .add(background)
        .add(text(
            16,
            24,
            14,
            "Peer-to-peer DMA: provider (row) to client (column)",
        ));
    for (row, device) in devices.iter().enumerate() {
        let y = TOP + row * HEIGHT + 20;
        let name = shorten(&device.name, 34);
        let label = format!("{row}  {}  {name}", device.bdf);
        document = document.add(text(16, y, 12, &label)).add(text(
            LEFT + row * CELL + CELL / 2 - 4,
            TOP - 8,
            12,
            &row.to_string(),
        ));
    }
    for (index, pair) in topology.pairs.iter().enumerate() {
        let (row, column) = (index / devices.len(), index % devices.len());
        let (x, y) = (LEFT + column * CELL, TOP + row * HEIGHT);
        let colour = match pair.verdict {
            _ if pair.route.via == Via::SameFunction => "#f1f3f4",
            Verdict::BusAddress => "#a8dab5",
            Verdict::HostBridge | Verdict::Either => "#d2e3fc",
            Verdict::NotSupported => "#f6aea9",
            Verdict::Unknown => "#feefc3",
        };
        let told = format!(
            "{} - {}: {}",
            pair.route.provider,
            pair.route.client,
            pair.verdict.name()
        );
        let rectangle = Rectangle::new()
            .set("x", x)
            .set("y", y)
            .set("width", CELL - 2)
            .set("height", HEIGHT - 2)
            .set("fill", colour)
            .add(Title::new(told));
        document = document
            .add(rectangle)
            .add(text(x + 4, y + 19, 10, &cell(pair)));
    }
    let legend =
        "BUS bus address   HB through the host bridge   NO not supported   ? cannot be told";
    document.add(text(16, height - 16, 11, legend))
}

/// What is said where there is nothing to be shown.
const NOTHING: &str =
    "There is no graphics, accelerator, network or NVMe device, and no provider; \
                       --all takes\nall.";

/// Prints the matrix.
pub fn text(topology: &Topology<'_>, mut out: impl Write) -> io::Result<()> {
    let devices = &topology.devices;
    if devices.is_empty() {
        return writeln!(out, "{NOTHING}");
    }
    let rows = devices.iter().enumerate().map(|(number, device)| {
        let driver = device.driver.as_deref().unwrap_or("-");
        vec![
            number.to_string(),
            device.bdf.to_string(),
            shorten(&device.name, 36),
            shorten(driver, 15),
        ]
    });
    writeln!(out, "{}", styled(HEADING, "Devices"))?;
    writeln!(out, "{}", table(&[], rows.collect(), &[0]))?;

    writeln!(
        out,
        "\n{}",
        styled(HEADING, "Provider (row) to client (column)")
    )?;
    let numbers: Vec<usize> = (0..devices.len()).collect();
    for columns in numbers.chunks(COLUMNS) {
        let header: Vec<String> = columns.iter().map(usize::to_string).collect();
        let header: Vec<&str> = ["", "device"]
            .into_iter()
            .chain(header.iter().map(String::as_str))
            .collect();
        let rows = devices.iter().enumerate().map(|(row, device)| {
            let cells = columns
                .iter()
                .filter_map(|column| topology.pairs.get(row * devices.len() + column));
            let start = [row.to_string(), device.bdf.to_string()];
            start.into_iter().chain(cells.map(cell)).collect()
        });
        writeln!(out, "{}", table(&header, rows.collect(), &[0]))?;
    }
    writeln!(
        out,
        "\n  BUS bus address, HB through the host bridge, YES one or the other, NO not\n  \
         supported, ? cannot be told; then the distance. PIX one switch, PXB several,\n  \
         PHB one host bridge, NODE one NUMA node, SYS further. 'p2pdma check' says why."
    )?;
    if topology.pairs.iter().any(|pair| pair.asked.is_some()) {
        writeln!(out, "  = the kernel says the same, ! it says otherwise.")?;
    }
    for pair in topology.pairs.iter().filter(|pair| pair.kernel_differs()) {
        let (provider, client) = (pair.route.provider, pair.route.client);
        let answer = match pair.asked {
            Some(Answer { allowed: false, .. }) => "it is refused".to_owned(),
            Some(Answer {
                distance: Some(distance),
                ..
            }) => format!("distance {distance}"),
            _ => "it is allowed".to_owned(),
        };
        let start = styled(BAD, &format!("  ! {provider} - {client}: "));
        let said = format!("the kernel says otherwise: {answer}");
        writeln!(out, "{}", crate::text::hanging(&start, &said))?;
    }
    let contradicted = topology.pairs.iter().filter(|pair| pair.log_differs());
    let by_provider = contradicted.fold(BTreeMap::<Bdf, usize>::new(), |mut by, pair| {
        *by.entry(pair.route.provider).or_default() += 1;
        by
    });
    for (provider, pairs) in by_provider {
        let start = styled(BAD, "  ! ");
        let said = format!(
            "the kernel's log says otherwise of {pairs} pairs of {provider}: ACS was changed since \
             then. It keeps its verdict until {provider} is bound again."
        );
        writeln!(out, "{}", crate::text::hanging(&start, &said))?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::machine::fake;

    fn shown(machine: &Machine) -> String {
        let mut out = Vec::new();
        text(
            &topology(machine, &Log::default(), &Answers::new(), false),
            &mut out,
        )
        .expect("output");
        anstream::adapter::strip_str(&String::from_utf8_lossy(&out)).to_string()
    }

    #[test]
    fn shows_a_switch() {
        let output = shown(&fake::switch().read());
        assert!(output.contains("BUS 4 PIX"), "{output}");
        let rows: Vec<_> = output
            .lines()
            .filter(|line| line.starts_with("  0  0000:03:00.0"))
            .collect();
        assert_eq!(rows.len(), 2, "{output}");
        assert_eq!(
            rows[1],
            "  0  0000:03:00.0  X          BUS 4 PIX  BUS 4 PIX"
        );
    }

    #[test]
    fn shows_what_is_refused() {
        let fake = fake::root_ports(None);
        assert!(shown(&fake.read()).contains("NO 4 PHB"));
        fake.cpu("AuthenticAMD", 0x19);
        assert!(shown(&fake.read()).contains("HB 4 PHB"));
    }

    #[test]
    fn fits() {
        let fake = fake::switch();
        for function in 0..8 {
            let path = ["0000:00:01.0", "0000:01:00.0", "0000:02:02.0"];
            let end = format!("0000:05:01.{function}");
            let path = [&path[..], &[end.as_str()]].concat();
            fake.function(
                &path,
                (0x8086, 0x1572, 0x02_0000),
                "a_driver_with_a_long_name",
            );
        }
        let output = shown(&fake.read());
        assert!(
            output.lines().all(|line| line.chars().count() <= 80),
            "{output}"
        );
    }

    #[test]
    fn pairs_are_all_there() {
        let machine = fake::switch().read();
        let topology = topology(&machine, &Log::default(), &Answers::new(), false);
        assert_eq!((topology.devices.len(), topology.pairs.len()), (3, 9));
        let value = serde_json::to_value(&topology).expect("JSON");
        assert_eq!(value["schema"], 2);
        assert_eq!(value["pairs"][1]["verdict"], "bus-address");
        assert_eq!(value["pairs"][1]["kernel"], serde_json::Value::Null);
        assert_eq!(value["pairs"][0]["near"], "X");
        assert_eq!(value["pairs"][1]["via"], "bridge");
    }

    fn drawn(draw: impl Fn(&mut Vec<u8>) -> io::Result<()>) -> String {
        let mut out = Vec::new();
        draw(&mut out).expect("output");
        anstream::adapter::strip_str(&String::from_utf8_lossy(&out)).to_string()
    }

    #[test]
    fn lists_pairs() {
        let machine = fake::switch().read();
        let topology = topology(&machine, &Log::default(), &Answers::new(), false);
        let output = drawn(|out| list(&topology, out));
        let lines: Vec<_> = output.lines().collect();
        assert_eq!(lines.len(), 9);
        assert_eq!(lines[1], "0000:03:00.0 0000:04:00.0 bus-address 4 PIX");
        assert_eq!(lines[0], "0000:03:00.0 0000:03:00.0 bus-address 0 X");
    }

    #[test]
    fn long_chains_fit() {
        let machine = fake::chain().read();
        let topology = topology(&machine, &Log::default(), &Answers::new(), false);
        let output = drawn(|out| tree(&machine, &topology, out));
        assert!(output.contains("0000:0e:00.0"), "{output}");
        for line in output.lines() {
            assert!(line.chars().count() <= 80, "{line}");
        }
    }

    #[test]
    fn knows_what_matters() {
        let fake = fake::Fake::new();
        fake.port(&["0000:00:01.0"], 4, None);
        for (function, ids, matters) in [
            (0, (0x15b3, 0x1003, 0x0c_0600), true),
            (1, (0x8086, 0x0b25, 0x08_8000), true),
            (2, (0x8086, 0x3c20, 0x08_8000), false),
            (3, (0x10ee, 0x9038, 0x05_8000), true),
            (4, (0x10ee, 0x9038, 0x12_0000), true),
            (5, (0x8086, 0x0000, 0x0c_0300), false),
        ] {
            let end = format!("0000:01:00.{function}");
            fake.function(&["0000:00:01.0", &end], ids, "");
            let machine = fake.read();
            let found = devices(&machine, false);
            let found = found.iter().any(|device| device.bdf.to_string() == end);
            assert_eq!(found, matters, "{end}");
        }
        // of the chipset
        fake.function(&["0000:00:1f.2"], (0x8086, 0xa121, 0x05_8000), "");
        assert_eq!(devices(&fake.read(), false).len(), 4);
    }

    #[test]
    fn draws_the_tree() {
        let fake = fake::switch();
        let redirecting = crate::config_space::fake::config(6, Some(0x1d));
        fake.write("sys/bus/pci/devices/0000:02:01.0/config", redirecting);
        let machine = fake.read();
        let topology = topology(&machine, &Log::default(), &Answers::new(), false);
        let output = drawn(|out| tree(&machine, &topology, out));
        let row = "        ├─ 0000:02:01.0     downstream port        8 GT/s x4  0x001d redirects";
        assert!(output.lines().any(|line| line == row), "{output}");
        assert!(
            output.contains("0000:02:01.0 ACS 0x001d (SrcValid ReqRedir CmpltRedir UpstreamFwd)"),
            "{output}"
        );
        assert!(
            output.lines().all(|line| line.chars().count() <= 80),
            "{output}"
        );

        let output = drawn(|out| dot(&machine, &topology, out));
        assert!(
            output.contains("\"0000:02:01.0\" -- \"0000:04:00.0\""),
            "{output}"
        );
        assert!(output.contains("color=\"#c5221f\""), "{output}");
        assert_eq!(output.matches('{').count(), output.matches('}').count());
        assert_eq!(quoted("a\"b\\\nc"), r#""a\"b\\\nc""#);
    }

    #[test]
    fn draws_the_matrix() {
        let fake = fake::root_ports(None);
        let mut machine = fake.read();
        let device = machine.devices.values_mut().next_back().expect("a device");
        device.name = "<script> & \"Co\"".to_owned();
        let topology = topology(&machine, &Log::default(), &Answers::new(), false);
        let output = svg(&topology).to_string();
        assert_eq!(output.matches("<rect").count(), 1 + 9, "{output}");
        assert!(
            output.contains("NO 4 PHB") && !output.contains("<script>"),
            "{output}"
        );
        assert!(
            output.contains("&lt;script") && output.contains("&amp;"),
            "{output}"
        );
    }

    #[test]
    fn compares_with_what_the_kernel_answers() {
        let machine = fake::switch().read();
        let bdf = |text: &str| text.parse::<Bdf>().expect("an address");
        let answer = |allowed, distance| Answer {
            allowed,
            distance,
            by: "p2pdma_test",
        };
        let answers = Answers::from([
            ((bdf("03:00.0"), bdf("04:00.0")), answer(true, Some(4))),
            ((bdf("03:00.0"), bdf("05:00.0")), answer(true, Some(6))),
            ((bdf("05:00.0"), bdf("03:00.0")), answer(false, None)),
            ((bdf("05:00.0"), bdf("04:00.0")), answer(true, None)),
        ]);
        // what the log says is older
        let log = Log::of(
            "nvme 0000:04:00.0: cannot be used for peer-to-peer DMA as the client and provider \
             (0000:05:00.0) do not share an upstream bridge or whitelisted host bridge",
        );
        let topology = topology(&machine, &log, &answers, false);
        let cells: Vec<_> = topology.pairs.iter().map(cell).collect();
        assert_eq!(cells[1..3], ["BUS= 4 PIX", "BUS! 4 PIX"]);
        assert_eq!(cells[6..8], ["BUS! 4 PIX", "BUS= 4 PIX"]);
        let wrong = topology.pairs.iter().filter(|pair| pair.is_contradicted());
        assert_eq!(wrong.count(), 2);
        let output = drawn(|out| text(&topology, out));
        for said in [
            "0000:03:00.0 - 0000:05:00.0: the kernel says otherwise: distance 6",
            "0000:05:00.0 - 0000:03:00.0: the kernel says otherwise: it is refused",
        ] {
            assert!(output.contains(said), "{output}");
        }
        let value = serde_json::to_value(&topology).expect("JSON");
        assert_eq!(value["pairs"][1]["asked"]["distance"], 4);
        assert_eq!(value["pairs"][3]["asked"], serde_json::Value::Null);
    }

    /// ACS was changed after the kernel judged the pair.
    #[test]
    fn shows_what_the_kernel_said() {
        let machine = fake::switch().read();
        let log = Log::of(
            "nvme 0000:04:00.0: cannot be used for peer-to-peer DMA as the client and provider \
             (0000:05:00.0) do not share an upstream bridge or whitelisted host bridge",
        );
        let topology = topology(&machine, &log, &Answers::new(), false);
        let wrong: Vec<_> = topology
            .pairs
            .iter()
            .filter(|pair| pair.is_contradicted())
            .collect();
        assert_eq!(wrong.len(), 1);
        assert_eq!(
            (cell(wrong[0]).as_str(), wrong[0].kernel),
            ("BUS! 4 PIX", Some(false))
        );
        let output = drawn(|out| text(&topology, out));
        assert!(
            output.contains("otherwise of 1 pairs of 0000:05:00.0"),
            "{output}"
        );
    }

    #[test]
    fn says_that_there_is_nothing() {
        assert!(shown(&fake::Fake::new().read()).contains("--all"));
    }
}
