// SPDX-License-Identifier: GPL-2.0

//! `p2pdma check`: whether two functions can do peer-to-peer DMA, and why, or why not.

use std::io::{self, Write};

use serde::Serialize;

use crate::bdf::Bdf;
use crate::machine::Machine;
use crate::route::{host_bridge_device, route, Route, Via};
use crate::size::Size;
use crate::text::{hanging, list, styled, BAD, GOOD, HEADING, REFUSED};

/// Version of what `--json` prints: it changes when something is renamed, removed or redefined.
pub const SCHEMA: u32 = 1;

/// What comes out.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Verdict {
    /// Below a common bridge, with addresses of the bus.
    BusAddress,
    /// Through the host bridge, which the kernel allows.
    HostBridge,
    /// The kernel refuses.
    NotSupported,
    /// It works, one way or the other.
    Either,
    /// It cannot be told.
    Unknown,
}

/// What a check found.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum State {
    /// As it should be.
    Ok,
    /// Worth knowing.
    Note,
    /// This forbids it.
    Fail,
    /// Could not be found out.
    Unknown,
}

/// One check.
#[derive(Debug, Serialize)]
pub struct Check {
    /// Its name, which stays the same.
    pub id: &'static str,
    /// What it found.
    pub state: State,
    /// What that rests on.
    pub evidence: String,
    /// What can be done.
    pub remedies: Vec<String>,
}

/// All about a pair.
#[derive(Debug, Serialize)]
pub struct Report {
    /// Version of this format.
    pub schema: u32,
    /// What comes out.
    pub verdict: Verdict,
    /// The way between the two.
    pub route: Route,
    /// What was looked at.
    pub checks: Vec<Check>,
}

/// What is behind a check, for `--explain`.
pub const EXPLANATIONS: &[(&str, &str)] = &[
    (
        "path",
        "The kernel counts the ports between two functions (calc_map_type_and_dist() in \
         drivers/pci/p2pdma.c). Two functions below one bridge can reach each other without the \
         host. Where there is no such bridge, the host bridge has to pass the traffic on.",
    ),
    (
        "acs",
        "Access Control Services of a port can redirect requests (bit 2), completions (bit 3) or \
         decide by an egress vector (bit 5). If any port in the path has one of these set, the \
         traffic goes up to the host bridge (pci_bridge_has_acs_redir()). The kernel sets the bits \
         at boot if an IOMMU is there. It keeps its verdict for a pair until the provider is bound \
         again (map_types), whatever setpci changes.",
    ),
    (
        "host-bridge",
        "The PCIe specification does not demand that a root complex passes traffic from one of \
         its ports to another, and many do not. The kernel allows it on processors of AMD from Zen \
         on, and for host bridges in pci_p2pdma_whitelist[], some of them only if both functions \
         are below the same one. It knows a host bridge by the first device of its bus, which must \
         be function 00.0 or a root port.",
    ),
    (
        "pool",
        "A provider is a function whose driver gave memory of a BAR to the kernel \
         (pci_p2pdma_add_resource()). That has to begin and end at multiples of 2 MiB, the size \
         of a section of struct pages, or memremap_pages() refuses it. Whether two functions can \
         reach each other does not depend on it.",
    ),
    (
        "command-line",
        "pci=disable_acs_redir= and pci=config_acs= take lists separated by ';'. A comma ends the \
         option: what follows is taken for another option of pci= and ignored \
         (Documentation/admin-guide/kernel-parameters.txt).",
    ),
    (
        "hypervisor",
        "A virtual machine sees the topology that the host made up. Whether the real ports pass \
         the traffic on is decided in the host, and the guest's kernel cannot know.",
    ),
    (
        "iommu",
        "An IOMMU that translates maps traffic which passes the host bridge; identity domains and \
         traffic below a switch are left alone. Software that puts raw BAR addresses on the bus \
         is stopped by a translating domain.",
    ),
];

/// Bits of the ACS control word, by their names in lspci.
fn acs_bits(control: u16) -> String {
    let names = [
        "SrcValid",
        "TransBlk",
        "ReqRedir",
        "CmpltRedir",
        "UpstreamFwd",
        "EgressCtrl",
        "DirectTrans",
    ];
    let set = (0_u16..)
        .zip(names)
        .filter(|(bit, _)| (control >> bit) & 1 == 1);
    let set: Vec<_> = set.map(|(_, name)| name).collect();
    format!("{control:#06x} ({})", set.join(" "))
}

fn names(bdfs: &[Bdf]) -> Vec<String> {
    bdfs.iter().map(Bdf::to_string).collect()
}

/// What makes the ports let traffic through.
fn acs_remedies(machine: &Machine, ports: &[Bdf], provider: Bdf) -> Vec<String> {
    let joined = names(ports).join(";");
    let ids = ports.iter().filter_map(|port| machine.devices.get(port));
    let mut ids: Vec<_> = ids
        .map(|port| format!("pci:{:04x}:{:04x}", port.vendor_id, port.device_id))
        .collect();
    ids.sort();
    ids.dedup();
    // only what redirects is cleared, bits 5, 3 and 2; 'x' leaves a bit as it is
    let clear: Vec<_> = ports.iter().map(|port| format!("0x00xx@{port}")).collect();
    let clear = clear.join(";");
    let mut remedies = vec![
        format!("boot with \"pci=disable_acs_redir={joined}\" (devices below are less isolated)"),
        format!(
            "the same where bus numbers may move: \"pci=disable_acs_redir={}\"",
            ids.join(";")
        ),
        format!("or, bit by bit: \"pci=config_acs={clear}\""),
    ];
    let setpci = ports.iter().map(|port| {
        let control = machine.devices.get(port).and_then(|port| port.acs_control);
        let kept = control.unwrap_or(0) & !0x2c;
        format!("setpci -s {port} ECAP_ACS+6.w={kept:04x}")
    });
    remedies.extend(setpci);
    remedies.push(format!(
        "after setpci, unbind {provider} and bind it again: the kernel keeps its verdict until then"
    ));
    remedies
}

fn acs(machine: &Machine, route: &Route) -> Check {
    let words = |ports: &[Bdf]| {
        let word = |port: &Bdf| {
            let control = machine.devices.get(port).and_then(|port| port.acs_control);
            let bits = control.map_or("redirects".to_owned(), acs_bits);
            format!("{port} {bits}")
        };
        list(&ports.iter().map(word).collect::<Vec<_>>())
    };
    let (state, evidence, remedies) = match &route.via {
        Via::HostBridge {
            acs_redirect,
            allowed,
        } if !acs_redirect.is_empty() => (
            match allowed {
                Some(true) => State::Note,
                Some(false) => State::Fail,
                None => State::Unknown,
            },
            format!("redirect to the host bridge: {}", words(acs_redirect)),
            acs_remedies(machine, acs_redirect, route.provider),
        ),
        Via::Unknown { acs_unknown, .. } => (
            State::Unknown,
            format!("cannot be read: {}", list(&names(acs_unknown))),
            vec!["run it as root: others get the first 64 bytes of config only".to_owned()],
        ),
        Via::HostBridge { .. } => (
            State::Ok,
            "does not matter: there is no path below a common bridge".to_owned(),
            Vec::new(),
        ),
        _ => (
            State::Ok,
            "no port in the path redirects".to_owned(),
            Vec::new(),
        ),
    };
    Check {
        id: "acs",
        state,
        evidence,
        remedies,
    }
}

fn path(route: &Route) -> Check {
    let evidence = match &route.via {
        Via::SameFunction => "both are the same function".to_owned(),
        Via::Bridge { bridge } | Via::Unknown { bridge, .. } => format!("both are below {bridge}"),
        Via::HostBridge { acs_redirect, .. } if !acs_redirect.is_empty() => {
            "there is a common bridge, but ACS sends the traffic past it".to_owned()
        }
        Via::HostBridge { .. } => "no bridge is above both".to_owned(),
    };
    Check {
        id: "path",
        state: State::Ok,
        evidence: format!("{evidence}; distance {}", route.distance),
        remedies: Vec::new(),
    }
}

/// What decides about traffic through the host bridge, if that is where it goes.
fn host_bridge(machine: &Machine, route: &Route) -> Option<Check> {
    let allowed = match &route.via {
        Via::HostBridge { allowed, .. } => *allowed,
        Via::Unknown {
            host_bridge_allowed,
            ..
        } => *host_bridge_allowed,
        Via::SameFunction | Via::Bridge { .. } => return None,
    };
    let bus = |bdf: Bdf| Some(machine.devices.get(&bdf)?.root_bus.as_str());
    let mut buses: Vec<_> = [bus(route.provider), bus(route.client)]
        .into_iter()
        .flatten()
        .collect();
    buses.dedup();
    let mut said: Vec<_> = buses
        .iter()
        .map(|bus| match host_bridge_device(machine, bus) {
            Ok(Some(device)) | Err(device) => format!(
                "{bus} is {} [{:04x}:{:04x}]",
                device.bdf, device.vendor_id, device.device_id
            ),
            Ok(None) => format!("{bus} begins with neither function 00.0 nor a root port"),
        })
        .collect();
    said.push(
        match (machine.cpu_allows_any_pair, allowed) {
            (Some(true), _) => "the processor (AMD, Zen or newer) allows any pair",
            (_, Some(true)) => "in the kernel's list",
            (_, Some(false)) if buses.len() > 1 => "not in the kernel's list for two host bridges",
            (_, Some(false)) => "not in the kernel's list",
            (None, None) => "nothing is known of the processor, which may allow it",
            (_, None) => "cannot be told",
        }
        .to_owned(),
    );
    // with ACS out of the way there would be a shorter path
    let is_detour = match &route.via {
        Via::HostBridge { acs_redirect, .. } => !acs_redirect.is_empty(),
        _ => true,
    };
    let (state, remedies) = match allowed {
        Some(true) => (State::Ok, Vec::new()),
        Some(false) if !is_detour => (
            State::Fail,
            vec!["put both below one PCIe switch".to_owned()],
        ),
        Some(false) => (State::Note, Vec::new()),
        None => (State::Unknown, Vec::new()),
    };
    Some(Check {
        id: "host-bridge",
        state,
        evidence: said.join("; "),
        remedies,
    })
}

/// Lists that the kernel takes for shorter ones than were meant.
pub fn command_line(line: &str) -> Option<Check> {
    let options = line
        .split_whitespace()
        .filter_map(|word| word.strip_prefix("pci="));
    let mut lost = Vec::new();
    let mut remedies = Vec::new();
    for option in options {
        let parts: Vec<_> = option.split(',').collect();
        let lists =
            |part: &str| part.starts_with("disable_acs_redir=") || part.contains("config_acs=");
        let Some(at) = parts.iter().position(|part| lists(part)) else {
            continue;
        };
        let is_port = |part: &&&str| {
            part.parse::<Bdf>().is_ok() || part.starts_with("pci:") || part.contains('@')
        };
        let after: Vec<_> = parts[at + 1..]
            .iter()
            .take_while(is_port)
            .copied()
            .collect();
        if !after.is_empty() {
            lost.extend(after.iter().map(|part| (*part).to_owned()));
            let all = [&[parts[at]][..], &after].concat().join(";");
            remedies.push(format!("separate them by ';': \"pci={all}\""));
        }
    }
    (!lost.is_empty()).then(|| Check {
        id: "command-line",
        state: State::Fail,
        evidence: format!(
            "command line: a comma ends the list, so that the kernel ignores {}",
            list(&lost)
        ),
        remedies,
    })
}

/// Memory is remapped in sections of this size: a pool has to begin and end at multiples of it.
const SECTION: u64 = 2 << 20;

/// Why the first of the two provides nothing now, if so.
fn pool(machine: &Machine, bdf: Bdf) -> Option<Check> {
    if machine.providers.iter().any(|provider| provider.bdf == bdf) {
        return None;
    }
    let clients = machine.clients.iter().filter(|client| client.bdf == bdf);
    let cmb = clients
        .filter_map(|client| Some((client, client.cmb?)))
        .next();
    let evidence = match cmb {
        Some((client, cmb)) => {
            let place = match cmb.offset {
                0 => format!("BAR {}", cmb.bar),
                offset => format!("BAR {} + {}", cmb.bar, Size(offset)),
            };
            let why = if cmb.size % SECTION != 0 {
                "not provided: the kernel needs multiples of 2 MiB"
            } else if cmb.offset % SECTION != 0 {
                "not provided: the kernel needs it to begin at a multiple of 2 MiB"
            } else {
                "not provided: the kernel's log says why (nvme: failed to register the CMB)"
            };
            let name = &client.controller;
            format!("{name} has a CMB of {} in {place}; {why}", Size(cmb.size))
        }
        None => format!("{bdf} has no p2pmem/: no driver provides memory of it now"),
    };
    Some(Check {
        id: "pool",
        state: State::Note,
        evidence,
        remedies: Vec::new(),
    })
}

fn surroundings(machine: &Machine, route: &Route) -> Vec<Check> {
    let mut checks = Vec::new();
    if machine.hypervisor {
        checks.push(Check {
            id: "hypervisor",
            state: State::Note,
            evidence: "this is a virtual machine: where the traffic really goes is the host's to \
                       decide"
                .to_owned(),
            remedies: Vec::new(),
        });
    }
    let domain = |bdf: Bdf| {
        let iommu = machine.devices.get(&bdf)?.iommu.as_deref()?;
        let kind = match iommu {
            "identity" => "passes through",
            _ => "translates",
        };
        Some(format!("{bdf} {iommu} ({kind})"))
    };
    let mut ends = vec![route.provider, route.client];
    ends.dedup();
    let domains: Vec<_> = ends.into_iter().filter_map(domain).collect();
    if !domains.is_empty() {
        checks.push(Check {
            id: "iommu",
            state: State::Note,
            evidence: format!("iommu_group/type: {}", list(&domains)),
            remedies: Vec::new(),
        });
    }
    checks
}

/// Looks at a pair.
pub fn check(machine: &Machine, provider: Bdf, client: Bdf) -> Report {
    let route = route(machine, provider, client);
    let verdict = match (&route.via, route.via.works()) {
        (Via::SameFunction | Via::Bridge { .. }, _) => Verdict::BusAddress,
        (Via::HostBridge { .. }, Some(true)) => Verdict::HostBridge,
        (Via::HostBridge { .. }, Some(false)) => Verdict::NotSupported,
        (Via::Unknown { .. }, Some(true)) => Verdict::Either,
        _ => Verdict::Unknown,
    };
    let mut checks = vec![path(&route), acs(machine, &route)];
    checks.extend(host_bridge(machine, &route));
    checks.extend(machine.command_line.as_deref().and_then(command_line));
    checks.extend(pool(machine, provider));
    checks.extend(surroundings(machine, &route));
    Report {
        schema: SCHEMA,
        verdict,
        route,
        checks,
    }
}

/// Prints what was found.
pub fn text(report: &Report, mut out: impl Write) -> io::Result<()> {
    let (style, verdict) = match report.verdict {
        Verdict::BusAddress => (GOOD, "supported, with bus addresses"),
        Verdict::HostBridge => (GOOD, "supported, through the host bridge"),
        Verdict::Either => (GOOD, "supported, directly or through the host bridge"),
        Verdict::NotSupported => (BAD, "not supported"),
        Verdict::Unknown => (REFUSED, "cannot be told"),
    };
    let pair = format!("{} - {}", report.route.provider, report.route.client);
    writeln!(
        out,
        "{}: {}",
        styled(HEADING, &pair),
        styled(style, verdict)
    )?;
    for check in &report.checks {
        let state = match check.state {
            State::Ok => styled(GOOD, "ok     "),
            State::Note => "note   ".to_owned(),
            State::Fail => styled(BAD, "FAIL   "),
            State::Unknown => styled(REFUSED, "unknown"),
        };
        let start = format!("  {state} {:13}", check.id);
        writeln!(out, "{}", hanging(&start, &check.evidence))?;
        for remedy in &check.remedies {
            writeln!(out, "{}", hanging("            - ", remedy))?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config_space::fake::config;
    use crate::machine::fake::{root_ports, switch, Fake};

    fn bdf(text: &str) -> Bdf {
        text.parse().expect("an address")
    }

    fn of(fake: &Fake, a: &str, b: &str) -> Report {
        check(&fake.read(), bdf(a), bdf(b))
    }

    fn find<'a>(report: &'a Report, id: &str) -> &'a Check {
        let check = report.checks.iter().find(|check| check.id == id);
        check.unwrap_or_else(|| panic!("no {id}: {report:?}"))
    }

    const GPU: (u16, u16, u32) = (0x8086, 0xe20b, 0x03_0000);

    /// Case of users: two accelerators without a pool, below two root ports.
    #[test]
    fn needs_no_pool() {
        let fake = Fake::new();
        fake.function(&["0000:00:00.0"], (0x8086, 0x4c43, 0x06_0000), "");
        fake.port(&["0000:00:06.0"], 4, None);
        fake.port(&["0000:00:06.3"], 4, None);
        fake.function(&["0000:00:06.0", "0000:03:00.0"], GPU, "xe");
        fake.function(&["0000:00:06.3", "0000:07:00.0"], GPU, "xe");
        let report = of(&fake, "03:00.0", "07:00.0");
        assert_eq!(report.verdict, Verdict::NotSupported);
        assert_eq!(report.route.distance, 4);
        let bridge = find(&report, "host-bridge");
        assert_eq!(bridge.state, State::Fail);
        assert!(
            bridge.evidence.contains("0000:00:00.0 [8086:4c43]"),
            "{bridge:?}"
        );
        assert!(bridge.remedies[0].contains("one PCIe switch"));
    }

    /// Nested switches, four ports of which redirect, and then do not.
    fn nested(acs: u16) -> Fake {
        let fake = Fake::new();
        let (root, up) = ("0000:00:01.0", "0000:0a:00.0");
        fake.function(&["0000:00:00.0"], (0x8086, 0x4c43, 0x06_0000), "");
        fake.port(&[root], 4, Some(0));
        fake.port(&[root, up], 5, None);
        for [a, b, c, end] in [
            [
                "0000:0b:00.0",
                "0000:0c:00.0",
                "0000:0d:01.0",
                "0000:0e:00.0",
            ],
            [
                "0000:0b:10.0",
                "0000:10:00.0",
                "0000:11:01.0",
                "0000:12:00.0",
            ],
        ] {
            fake.port(&[root, up, a], 6, Some(acs));
            fake.port(&[root, up, a, b], 5, None);
            fake.port(&[root, up, a, b, c], 6, Some(acs));
            fake.function(&[root, up, a, b, c, end], GPU, "xe");
        }
        fake
    }

    #[test]
    fn names_all_that_redirect() {
        let report = of(&nested(0x000c), "0e:00.0", "12:00.0");
        assert_eq!(report.verdict, Verdict::NotSupported);
        assert_eq!(report.route.distance, 8);
        let acs = find(&report, "acs");
        assert_eq!(acs.state, State::Fail);
        assert!(
            acs.evidence.contains("0x000c (ReqRedir CmpltRedir)"),
            "{acs:?}"
        );
        let ports = "0000:0d:01.0;0000:0b:00.0;0000:11:01.0;0000:0b:10.0";
        let said = acs.remedies.join("\n");
        assert!(
            said.contains(&format!("\"pci=disable_acs_redir={ports}\"")),
            "{said}"
        );
        assert!(
            said.contains("\"pci=disable_acs_redir=pci:104c:8233\""),
            "{said}"
        );
        assert!(
            said.contains("pci=config_acs=0x00xx@0000:0d:01.0;"),
            "{said}"
        );
        assert!(
            said.contains("setpci -s 0000:11:01.0 ECAP_ACS+6.w=0000"),
            "{said}"
        );
        assert!(said.contains("unbind 0000:0e:00.0"), "{said}");

        let report = of(&nested(0), "0e:00.0", "12:00.0");
        assert_eq!(report.verdict, Verdict::BusAddress);
        assert_eq!(report.route.distance, 8);
    }

    #[test]
    fn notices_commas() {
        let fake = nested(0x000c);
        fake.write(
            "proc/cmdline",
            "root=/dev/sda quiet pci=disable_acs_redir=0000:0c:10.0,0000:0a:00.0,0000:16:08.0 x\n",
        );
        let report = of(&fake, "0e:00.0", "12:00.0");
        let line = find(&report, "command-line");
        assert!(
            line.evidence.ends_with("0000:0a:00.0 and 0000:16:08.0"),
            "{line:?}"
        );
        assert_eq!(
            line.remedies,
            ["separate them by ';': \
              \"pci=disable_acs_redir=0000:0c:10.0;0000:0a:00.0;0000:16:08.0\""]
        );
        for good in [
            "pci=disable_acs_redir=00:01.0;00:02.0,realloc",
            "pci=realloc,nomsi",
            "",
        ] {
            fake.write("proc/cmdline", good);
            let report = of(&fake, "0e:00.0", "12:00.0");
            assert!(
                report.checks.iter().all(|check| check.id != "command-line"),
                "{good}"
            );
        }
    }

    /// Root ports with ACS and a translating IOMMU, of a processor that allows it.
    #[test]
    fn shows_bits_and_domains() {
        let fake = root_ports(Some(0x1d));
        fake.cpu("AuthenticAMD", 0x19);
        fake.write(
            "sys/bus/pci/devices/0000:02:00.0/iommu_group/type",
            "DMA-FQ\n",
        );
        let report = of(&fake, "03:00.0", "02:00.0");
        assert_eq!(report.verdict, Verdict::HostBridge);
        assert!(find(&report, "iommu")
            .evidence
            .contains("0000:02:00.0 DMA-FQ (translates)"));
        assert_eq!(
            acs_bits(0x1d),
            "0x001d (SrcValid ReqRedir CmpltRedir UpstreamFwd)"
        );
    }

    /// Endpoints on the root bus.
    #[test]
    fn needs_no_bridge() {
        let fake = Fake::new();
        fake.function(&["0000:00:00.0"], (0x8086, 0x1237, 0x06_0000), "");
        fake.nvme(&["0000:00:04.0"], 0, "cmb");
        fake.nvme(&["0000:00:05.0"], 1, "plain");
        let report = of(&fake, "00:04.0", "00:05.0");
        assert_eq!(
            (report.verdict, report.route.distance),
            (Verdict::NotSupported, 2)
        );
        fake.cpu("AuthenticAMD", 0x17);
        assert_eq!(of(&fake, "00:04.0", "00:05.0").verdict, Verdict::HostBridge);
    }

    #[test]
    fn says_that_it_is_a_guest() {
        let fake = switch();
        fake.write(
            "proc/cpuinfo",
            "vendor_id\t: GenuineIntel\ncpu family\t: 6\nflags\t\t: fpu hypervisor lm\n",
        );
        assert_eq!(
            find(&of(&fake, "05:00.0", "04:00.0"), "hypervisor").state,
            State::Note
        );
    }

    /// Without root, and with a device that does not answer.
    #[test]
    fn does_not_guess() {
        for content in [config(6, Some(0))[..64].to_vec(), vec![0xff; 4096]] {
            let fake = switch();
            fake.write("sys/bus/pci/devices/0000:02:01.0/config", content);
            let report = of(&fake, "05:00.0", "04:00.0");
            assert_eq!(report.verdict, Verdict::Unknown);
            assert!(find(&report, "acs").evidence.contains("0000:02:01.0"));
            // both outcomes are allowed
            fake.cpu("AuthenticAMD", 0x19);
            assert_eq!(of(&fake, "05:00.0", "04:00.0").verdict, Verdict::Either);
        }
    }

    /// Two sockets, one of which is in the list, for itself only.
    #[test]
    fn tells_host_bridges_apart() {
        let fake = Fake::new();
        fake.function(&["0000:00:00.0"], (0x8086, 0x3c00, 0x06_0000), "");
        for (port, end) in [
            ("0000:00:01.0", "0000:02:00.0"),
            ("0000:00:02.0", "0000:03:00.0"),
        ] {
            fake.port(&[port], 4, None);
            fake.function(&[port, end], GPU, "");
        }
        // the first of bus 80 is a root port that is not in the list
        for (port, end) in [
            ("0000:80:02.0", "0000:83:00.0"),
            ("0000:80:03.0", "0000:84:00.0"),
        ] {
            fake.function_on(
                "pci0000:80",
                &[port],
                (0x8086, 0x3c04, 0x06_0400),
                "pcieport",
            );
            fake.write(
                &format!("sys/bus/pci/devices/{port}/config"),
                config(4, None),
            );
            fake.function_on("pci0000:80", &[port, end], GPU, "");
        }
        assert_eq!(of(&fake, "02:00.0", "03:00.0").verdict, Verdict::HostBridge);
        assert_eq!(
            of(&fake, "83:00.0", "84:00.0").verdict,
            Verdict::NotSupported
        );
        let report = of(&fake, "02:00.0", "83:00.0");
        assert_eq!(report.verdict, Verdict::NotSupported);
        let evidence = &find(&report, "host-bridge").evidence;
        assert!(evidence.contains("two host bridges") && evidence.contains("8086:3c04"));
    }

    /// Without root: whether the first device is a root port is not known.
    #[test]
    fn knows_what_is_not_in_the_list() {
        for (id, expected) in [(0x3c04, Verdict::NotSupported), (0x2030, Verdict::Unknown)] {
            let fake = Fake::new();
            for (port, end) in [
                ("0000:00:02.0", "0000:02:00.0"),
                ("0000:00:03.0", "0000:03:00.0"),
            ] {
                fake.function(&[port], (0x8086, id, 0x06_0400), "pcieport");
                let config = &config(4, None)[..64];
                fake.write(&format!("sys/bus/pci/devices/{port}/config"), config);
                fake.function(&[port, end], GPU, "");
            }
            assert_eq!(of(&fake, "02:00.0", "03:00.0").verdict, expected);
        }
    }

    /// Buffers that the kernel cannot take.
    #[test]
    fn says_why_a_cmb_is_not_provided() {
        for (location, size, expected) in [
            (
                "0x00000002",
                "0x00080001",
                "512 KiB in BAR 2; not provided: the kernel needs multiples",
            ),
            (
                "0x00000002",
                "0x00004001",
                "16 KiB in BAR 2; not provided: the kernel needs multiples",
            ),
            (
                "0x00010004",
                "0x0020001d",
                "2 MiB in BAR 4 + 64 KiB; not provided: the kernel needs it to begin",
            ),
        ] {
            let fake = Fake::new();
            let dir = fake.nvme(&["0000:00:04.0"], 0, "cmb");
            fake.nvme(&["0000:00:05.0"], 1, "plain");
            fake.write(&format!("{dir}/nvme/nvme0/cmbloc"), location);
            fake.write(&format!("{dir}/nvme/nvme0/cmbsz"), size);
            let report = of(&fake, "00:04.0", "00:05.0");
            let pool = find(&report, "pool");
            let expected = format!("nvme0 has a CMB of {expected}");
            assert!(pool.evidence.starts_with(&expected), "{pool:?}");
            fake.pool(&dir, 67_108_864);
            let report = of(&fake, "00:04.0", "00:05.0");
            assert!(report.checks.iter().all(|check| check.id != "pool"));
        }
    }

    #[test]
    fn the_format_is_what_is_documented() {
        let report = of(&nested(0x000c), "0e:00.0", "12:00.0");
        let value = serde_json::to_value(&report).expect("JSON");
        let keys = |value: &serde_json::Value| -> Vec<String> {
            value
                .as_object()
                .expect("an object")
                .keys()
                .cloned()
                .collect()
        };
        assert_eq!(keys(&value), ["checks", "route", "schema", "verdict"]);
        assert_eq!(
            keys(&value["checks"][0]),
            ["evidence", "id", "remedies", "state"]
        );
        assert_eq!(
            (&value["schema"], &value["verdict"]),
            (&1.into(), &"not-supported".into())
        );
        assert_eq!(value["checks"][1]["state"], "fail");
        for check in &report.checks {
            assert!(
                EXPLANATIONS.iter().any(|(id, _)| *id == check.id),
                "{}",
                check.id
            );
        }
    }

    #[test]
    fn reads_well() {
        let mut out = Vec::new();
        text(&of(&switch(), "05:00.0", "04:00.0"), &mut out).expect("output");
        let out = anstream::adapter::strip_str(&String::from_utf8_lossy(&out)).to_string();
        assert_eq!(
            out,
            "0000:05:00.0 - 0000:04:00.0: supported, with bus addresses\n  \
             ok      path         both are below 0000:01:00.0; distance 4\n  \
             ok      acs          no port in the path redirects\n"
        );
    }
}
