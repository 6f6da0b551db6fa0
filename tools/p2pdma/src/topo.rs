// SPDX-License-Identifier: GPL-2.0

//! `p2pdma topo`: a matrix of who can reach whom.

use std::io::{self, Write};

use serde::Serialize;

use crate::machine::{Device, Machine};
use crate::route::{route, Route, Via};
use crate::text::{shorten, styled, table, HEADING};

/// Version of what `--json` prints.
pub const SCHEMA: u32 = 1;

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
    /// The way between them.
    #[serde(flatten)]
    pub route: Route,
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

/// Whether a function is of a kind that does peer-to-peer DMA: graphics, accelerators, network,
/// NVMe.
fn is_of_a_kind(device: &Device) -> bool {
    matches!(device.class >> 16, 0x02 | 0x03 | 0x12) || matches!(device.class >> 8, 0x0108 | 0x0b40)
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

/// Looks at every pair of what matters; of all functions that are no bridges on request.
pub fn topology(machine: &Machine, all: bool) -> Topology<'_> {
    let provides = |bdf| machine.providers.iter().any(|provider| provider.bdf == bdf);
    let devices: Vec<&Device> = machine
        .devices
        .values()
        .filter(|device| {
            // the class of bridges, of PCI and of hosts
            let is_end = device.class >> 16 != 0x06;
            is_of_a_kind(device) || (all && is_end) || provides(device.bdf)
        })
        .collect();
    let pair = |a: &Device, b: &Device| {
        let route = route(machine, a.bdf, b.bdf);
        Pair {
            near: near(a, b, &route),
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
    let verdict = match (&pair.route.via, pair.route.via.works()) {
        (Via::SameFunction, _) => return "X".to_owned(),
        (Via::Bridge { .. }, _) => "BUS",
        (Via::HostBridge { .. }, Some(true)) => "HB",
        (Via::Unknown { .. }, Some(true)) => "YES",
        (_, Some(false)) => "NO",
        (_, _) => "?",
    };
    let near = format!("{:?}", pair.near).to_uppercase();
    format!("{verdict} {} {near}", pair.route.distance)
}

/// Prints the matrix.
pub fn text(topology: &Topology<'_>, mut out: impl Write) -> io::Result<()> {
    let devices = &topology.devices;
    if devices.is_empty() {
        return writeln!(
            out,
            "There is no graphics, accelerator, network or NVMe device, and no provider; --all \
             takes all."
        );
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
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::machine::fake;

    fn shown(machine: &Machine) -> String {
        let mut out = Vec::new();
        text(&topology(machine, false), &mut out).expect("output");
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
        let topology = topology(&machine, false);
        assert_eq!((topology.devices.len(), topology.pairs.len()), (3, 9));
        let value = serde_json::to_value(&topology).expect("JSON");
        assert_eq!(value["schema"], 1);
        assert_eq!(value["pairs"][0]["near"], "X");
        assert_eq!(value["pairs"][1]["via"], "bridge");
    }

    #[test]
    fn says_that_there_is_nothing() {
        assert!(shown(&fake::Fake::new().read()).contains("--all"));
    }
}
