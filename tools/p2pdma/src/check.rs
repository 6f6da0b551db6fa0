// SPDX-License-Identifier: GPL-2.0

//! `p2pdma check`: whether two functions can do peer-to-peer DMA, and why, or why not.

use std::io::{self, Write};

use serde::Serialize;

use crate::bdf::Bdf;
use crate::cmdline;
use crate::config_space::Bar;
use crate::host_bridge;
use crate::machine::{Client, Cmb, Device, Machine, Provider};
use crate::route::{between, host_bridge_device, judged, route, Route, Via};
use crate::size::Size;
use crate::target::{Member, Target};
use crate::text::{hanging, list, styled, BAD, GOOD, HEADING, REFUSED, WIDTH};

/// Version of what `--json` prints: it changes when something is renamed, removed or redefined.
pub const SCHEMA: u32 = 2;

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

impl Verdict {
    /// Its name, as in JSON.
    pub fn name(self) -> &'static str {
        match self {
            Verdict::BusAddress => "bus-address",
            Verdict::HostBridge => "host-bridge",
            Verdict::NotSupported => "not-supported",
            Verdict::Either => "either",
            Verdict::Unknown => "unknown",
        }
    }
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
    /// What the kernel decides about the path.
    pub verdict: Verdict,
    /// Whether it can be done, all checks considered; `None` if that cannot be told.
    pub able: Option<bool>,
    /// The way between the two.
    pub route: Route,
    /// What was looked at.
    pub checks: Vec<Check>,
}

/// All that was asked for.
#[derive(Debug, Serialize)]
pub struct Answer {
    /// Version of this format.
    pub schema: u32,
    /// What comes out for all pairs together; none if there is no pair.
    pub verdict: Option<Verdict>,
    /// Whether it can be done, all checks considered; `None` if that cannot be told.
    pub able: Option<bool>,
    /// What was looked at that concerns no pair: the machine, one function, the stack.
    pub checks: Vec<Check>,
    /// What the client is made of, if it is a block device.
    pub stack: Option<Member>,
    /// The pairs: several if the client is made of several disks.
    pub pairs: Vec<Report>,
}

/// Whether it can be done: not if any check fails, whatever the kernel decides about the path.
fn able<'a>(verdict: Option<Verdict>, checks: impl IntoIterator<Item = &'a Check>) -> Option<bool> {
    let failed = checks.into_iter().any(|check| check.state == State::Fail);
    match verdict {
        _ if failed => Some(false),
        Some(Verdict::NotSupported) => Some(false),
        Some(Verdict::Unknown) => None,
        _ => Some(true),
    }
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
         reach each other does not depend on it, and drivers that hand memory on as a dma-buf \
         need none. A CMB that cannot be provided is of no use to anybody.",
    ),
    (
        "command-line",
        "pci=disable_acs_redir= and pci=config_acs= take lists separated by ';'. A comma ends the \
         option: what follows is taken for another option of pci= and ignored. Of several of one \
         kind the kernel keeps the last (Documentation/admin-guide/kernel-parameters.txt).",
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
    (
        "kernel",
        "Without CONFIG_PCI_P2PDMA nothing of it is built: no driver can provide memory, the nvme \
         driver logs \"failed to register the CMB\", and there is no p2pmem/ in sysfs. User space \
         can map such memory from Linux 6.2 on.",
    ),
    (
        "queue",
        "A queue of a block device takes peer-to-peer pages if its driver says so \
         (BLK_FEAT_PCI_P2PDMA): that of the nvme driver on PCI, of md raid0, raid1 and raid10, and \
         of the head of an NVMe namespace with several paths, as long as all of what is below \
         does. Others refuse O_DIRECT with EREMOTEIO.",
    ),
    (
        "bar",
        "The memory of a provider is that of a memory BAR. Firmware may find no room for a large \
         one (\"Above 4G decoding\"), and it may be smaller than the device's memory: a Resizable \
         BAR can be made larger, by the firmware or by its driver.",
    ),
    (
        "linear-map",
        "Pages of peer-to-peer memory have addresses in the kernel's linear map, though nothing is \
         mapped there. What lies below or beyond that map is refused (mhp_get_pluggable_range()): \
         beyond 64 TiB on x86 with 4 levels of page tables, below the first memory on arm64.",
    ),
    (
        "dma-mask",
        "A client that cannot use addresses of so many bits cannot reach memory beyond, unless an \
         IOMMU that translates gives it other addresses. For bus addresses the kernel does not \
         check that.",
    ),
    (
        "link",
        "The slowest link in the path is as fast as peer-to-peer DMA can be, in each direction. \
         What is told is the rate of the link after its encoding; headers of packets take another \
         5 to 20 percent of that, depending on the payload. A link may have been trained down, \
         by a riser, a slot with fewer lanes, or power management.",
    ),
    (
        "payload",
        "A function sends packets of at most MPS bytes, and takes no larger ones: a receiver with \
         a smaller MPS treats them as malformed. The kernel keeps each device at what the port \
         above it has, which need not fit between two root ports; pci=pcie_bus_peer2peer sets 128 \
         bytes everywhere. MRRS is how much a function asks for at once.",
    ),
    (
        "numa",
        "Traffic between devices of two NUMA nodes passes the connection of the sockets, which on \
         many machines is far slower for peer-to-peer DMA than for memory.",
    ),
    (
        "sriov",
        "A virtual function shares the link and often the memory of its physical function. Whether \
         it has a BAR that can be provided is up to the device. All functions of a device are \
         below one port, so that they can reach each other if its ACS lets them.",
    ),
    (
        "cxl",
        "A port or device that does CXL as well. The kernel judges it as any PCIe port; memory of \
         CXL (CXL.mem) is not memory of a BAR, and cannot be provided.",
    ),
    (
        "container",
        "In a container, what is needed may be missing: writable files of /sys to bind a driver, \
         CAP_SYS_ADMIN to read ACS settings and p2pmem/allocate, device nodes of disks.",
    ),
];

/// Bits of the ACS control word, by their names in lspci.
pub fn acs_bits(control: u16) -> String {
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
    match set[..] {
        [] => format!("{control:#06x}"),
        _ => format!("{control:#06x} ({})", set.join(" ")),
    }
}

fn names(bdfs: &[Bdf]) -> Vec<String> {
    bdfs.iter().map(Bdf::to_string).collect()
}

/// What makes the ports let traffic through.
fn acs_remedies(machine: &Machine, ports: &[Bdf], provider: Bdf) -> Vec<String> {
    let devices = || ports.iter().filter_map(|port| machine.devices.get(port));
    let line = machine.command_line.as_deref().unwrap_or_default();
    // the kernel keeps the last list only, so that what is there already goes into this one
    let there = |option: &str| cmdline::values(line, option);
    let (lists, settings) = (there("disable_acs_redir"), there("config_acs"));
    let merged = |new: &[String], old: &[String]| {
        let mut all = new.to_vec();
        for item in old.iter().flat_map(|list| cmdline::items(list)) {
            if !all.iter().any(|one| one == item) {
                all.push(item.to_owned());
            }
        }
        all.join(";")
    };
    let mut ids: Vec<_> = devices()
        .map(|port| format!("pci:{:04x}:{:04x}", port.vendor_id, port.device_id))
        .collect();
    ids.sort();
    ids.dedup();
    // only what redirects is cleared, bits 5, 3 and 2; 'x' leaves a bit as it is
    let clear: Vec<_> = ports.iter().map(|port| format!("0x00xx@{port}")).collect();
    let joined = merged(&names(ports), &lists);
    let isolated = match devices().all(Device::is_bridge) {
        true => "devices below are",
        false => "these devices, and those below ports, are",
    };
    let mut remedies = vec![
        format!("boot with \"pci=disable_acs_redir={joined}\" ({isolated} less isolated)"),
        format!(
            "the same where bus numbers may move: \"pci=disable_acs_redir={}\"",
            merged(&ids, &lists)
        ),
        format!(
            "or, bit by bit: \"pci=config_acs={}\"",
            merged(&clear, &settings)
        ),
        "quote these for a boot loader, in which ';' ends a command".to_owned(),
    ];
    let paths: Vec<_> = ports
        .iter()
        .map(|port| cmdline::path(machine, *port))
        .collect();
    if paths != names(ports) {
        let paths = merged(&paths, &lists);
        remedies.insert(
            1,
            format!("the same by the path from the root: \"pci=disable_acs_redir={paths}\""),
        );
    }
    if !lists.is_empty() || !settings.is_empty() {
        remedies.push(
            "put each in the place of what is there now: the kernel keeps the last list only"
                .to_owned(),
        );
    }
    // the redirecting bits, and no others
    let setpci = ports
        .iter()
        .map(|port| format!("setpci -s {port} ECAP_ACS+6.w=0000:002c"));
    remedies.push("or now, until the next boot, as root:".to_owned());
    remedies.extend(setpci);
    remedies.push(format!(
        "after setpci, unbind {provider} and bind it again: the kernel keeps its verdict until then"
    ));
    let driver = machine.devices.get(&provider);
    if let Some(driver) = driver.and_then(|device| device.driver.as_deref()) {
        let command = |what| format!("echo {provider} >/sys/bus/pci/drivers/{driver}/{what}");
        remedies.extend(["unbind", "bind"].map(command));
    }
    remedies
}

/// The ACS registers of a port: `0000:00:01.0 control 0x001d (…), capability 0x005f`.
fn acs_words(machine: &Machine, port: Bdf) -> String {
    let device = machine.devices.get(&port);
    let Some(control) = device.and_then(|port| port.acs_control) else {
        return port.to_string();
    };
    let bits = acs_bits(control);
    match device.and_then(|port| port.facts.acs_capability) {
        Some(capability) => format!("{port} control {bits}, capability {capability:#06x}"),
        None => format!("{port} control {bits}"),
    }
}

/// What of these has which ACS registers, or none; ends of the path only if they have.
fn acs_of_all(machine: &Machine, all: &[Bdf]) -> Vec<String> {
    let devices = || all.iter().filter_map(|bdf| machine.devices.get(bdf));
    let mut said: Vec<_> = devices()
        .filter(|device| device.acs_control.is_some())
        .map(|device| acs_words(machine, device.bdf))
        .collect();
    let ports = || devices().filter(|device| device.is_bridge() && device.acs_control.is_none());
    let of = |is_known: bool| {
        let ports = ports().filter(|port| port.acs_redirect.is_some() == is_known);
        list(&ports.map(|port| port.bdf.to_string()).collect::<Vec<_>>())
    };
    for (text, ports) in [("without ACS", of(true)), ("not readable", of(false))] {
        if !ports.is_empty() {
            said.push(format!("{text}: {ports}"));
        }
    }
    said
}

fn acs(machine: &Machine, route: &Route) -> Check {
    let mut rest = judged(machine, route);
    let (state, evidence, remedies) = match &route.via {
        Via::HostBridge {
            acs_redirect,
            allowed,
        } if !acs_redirect.is_empty() => {
            rest.retain(|port| !acs_redirect.contains(port));
            let words: Vec<_> = acs_redirect
                .iter()
                .map(|port| acs_words(machine, *port))
                .collect();
            (
                match allowed {
                    Some(true) => State::Note,
                    Some(false) => State::Fail,
                    None => State::Unknown,
                },
                format!("redirect to the host bridge: {}", words.join("; ")),
                acs_remedies(machine, acs_redirect, route.provider),
            )
        }
        Via::Unknown { acs_unknown, .. } => {
            rest.retain(|port| !acs_unknown.contains(port));
            (
                State::Unknown,
                format!("cannot be read: {}", list(&names(acs_unknown))),
                vec!["run it as root: others get the first 64 bytes of config only".to_owned()],
            )
        }
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
    let mut said = vec![evidence];
    said.extend(acs_of_all(machine, &rest));
    Check {
        id: "acs",
        state,
        evidence: said.join("; "),
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

/// That the list of this kernel is not known, if so.
fn other_kernel(machine: &Machine) -> Option<String> {
    let release = machine.kernel.as_deref()?;
    let version = host_bridge::version(release);
    (!host_bridge::is_compared(version)).then(|| {
        format!(
            "the list that is known here is of {}, and this is Linux {release}: look into \
             pci_p2pdma_whitelist[] of its drivers/pci/p2pdma.c, and name what is in it with \
             --host-bridge",
            host_bridge::compared()
        )
    })
}

/// What the list is called: that of the kernel's version, of the newest if the version is not
/// known, or what --host-bridge names alone if the version is known and its list is not.
fn which_list(machine: &Machine) -> String {
    let version = machine.kernel.as_deref().and_then(host_bridge::version);
    let list = match (version, host_bridge::COMPARED.last()) {
        (None, Some((major, minor))) => {
            format!("list of Linux {major}.{minor} (the version of this kernel is not known)")
        }
        (Some((major, minor)), _) if host_bridge::is_compared(version) => {
            format!("kernel's list (of Linux {major}.{minor})")
        }
        _ => return "list that --host-bridge gives (the kernel's own is not known)".to_owned(),
    };
    match machine.added_host_bridges.is_empty() {
        true => list,
        false => format!("{list} with what --host-bridge adds to it"),
    }
}

/// What decides about traffic through the host bridge, if that is where it goes.
fn through_host_bridge(machine: &Machine, route: &Route) -> Option<Check> {
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
    said.push(match (machine.cpu_allows_any_pair, allowed) {
        (Some(true), _) => "the processor (AMD, Zen or newer) allows any pair".to_owned(),
        (_, None | Some(false)) if other_kernel(machine).is_some() => {
            other_kernel(machine).unwrap_or_default()
        }
        (_, Some(true)) => format!("in the {}", which_list(machine)),
        (_, Some(false)) if buses.len() > 1 => {
            format!("not in the {} for two host bridges", which_list(machine))
        }
        (_, Some(false)) => format!("not in the {}", which_list(machine)),
        (None, None) => "nothing is known of the processor, which may allow it".to_owned(),
        (_, None) => "cannot be told".to_owned(),
    });
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

/// Lists that the kernel takes for shorter ones than were meant, or not at all.
pub fn command_line(line: &str) -> Option<Check> {
    let is_list =
        |part: &str| part.starts_with("disable_acs_redir=") || part.starts_with("config_acs=");
    let mut said = Vec::new();
    let mut lost = Vec::new();
    let mut remedies = Vec::new();
    for option in cmdline::pci(line) {
        let parts: Vec<_> = option.split(',').collect();
        let Some(at) = parts.iter().position(|part| is_list(part)) else {
            continue;
        };
        let after: Vec<_> = parts[at + 1..]
            .iter()
            .take_while(|part| cmdline::is_port(part))
            .copied()
            .collect();
        if !after.is_empty() {
            lost.extend(after.iter().map(|part| (*part).to_owned()));
            // of config_acs=, each has flags of its own
            let flags = parts[at].strip_prefix("config_acs=");
            let flags = flags.and_then(|list| Some(list.rsplit_once('@')?.0));
            let flags = flags.map(|flags| flags.rsplit(';').next().unwrap_or(flags));
            let with_flags = |part: &&str| match flags {
                Some(flags) if !part.contains('@') => format!("{flags}@{part}"),
                _ => (*part).to_owned(),
            };
            let all: Vec<_> = after.iter().map(with_flags).collect();
            let first = parts[at];
            remedies.push(format!(
                "separate them by ';': \"pci={first};{}\"",
                all.join(";")
            ));
        }
    }
    if !lost.is_empty() {
        said.push(format!(
            "a comma ends the list, so that the kernel ignores {}",
            list(&lost)
        ));
    }
    for option in ["disable_acs_redir", "config_acs"] {
        let lists = cmdline::values(line, option);
        if let [ignored @ .., _] = &lists[..] {
            if !ignored.is_empty() {
                let ignored = list(ignored);
                said.push(format!(
                    "of several {option}= the kernel takes the last only, and ignores {ignored}"
                ));
                let items = lists.iter().flat_map(|list| cmdline::items(list));
                let all: Vec<_> = items.collect();
                remedies.push(format!(
                    "make one of them: \"pci={option}={}\"",
                    all.join(";")
                ));
            }
        }
    }
    (!said.is_empty()).then(|| Check {
        id: "command-line",
        state: State::Fail,
        evidence: format!("command line: {}", said.join("; ")),
        remedies,
    })
}

/// What the lists of the command line name, and what became of that.
fn command_line_effect(machine: &Machine, line: &str) -> Option<Check> {
    let last = |option: &str| cmdline::values(line, option).pop().unwrap_or_default();
    let (disable, config) = (last("disable_acs_redir"), last("config_acs"));
    let mut wrong = Vec::new();
    let mut remedies = Vec::new();
    let changed = "look for what set it after boot: setpci, a service, vfio";
    let moved = "name ports by path or by vendor and device: bus numbers move";
    // the functions that a word names, or none if the kernel reads no further
    let mut nobody = false;
    let mut named = |port: &str, word: &str, wrong: &mut Vec<String>| {
        if !cmdline::is_port(port) {
            wrong.push(format!(
                "{word} names no port: the kernel ignores what follows"
            ));
            return None;
        }
        let devices = machine.devices.values();
        let named: Vec<_> = devices
            .filter(|device| cmdline::names(machine, port, device))
            .collect();
        if named.is_empty() {
            wrong.push(format!("{word} names no function here"));
            nobody = true;
        }
        Some(named)
    };
    let mut by_flags = Vec::new();
    for item in cmdline::items(&config) {
        let Some((flags, port)) = item.split_once('@') else {
            wrong.push(format!("config_acs={item} has no flags before a '@'"));
            continue;
        };
        let Some((mask, set)) = cmdline::flags(flags) else {
            wrong.push(format!(
                "config_acs={item}: flags are 0, 1 and x for up to seven bits, the last for bit 0"
            ));
            continue;
        };
        let Some(named) = named(port, &format!("config_acs={item}"), &mut wrong) else {
            break;
        };
        for device in named {
            // the first that names it counts
            if by_flags.contains(&device.bdf) {
                continue;
            }
            by_flags.push(device.bdf);
            let Some(control) = device.acs_control else {
                continue;
            };
            // bits that a port does not have stay 0
            let has = device.facts.acs_capability.unwrap_or(u16::MAX) | control;
            let mask = mask & has;
            if (control ^ set) & mask != 0 {
                wrong.push(format!(
                    "{} has ACS control {}, though config_acs={item} names it",
                    device.bdf,
                    acs_bits(control)
                ));
                remedies.push(changed.to_owned());
            }
        }
    }
    for port in cmdline::items(&disable) {
        let Some(named) = named(port, &format!("disable_acs_redir={port}"), &mut wrong) else {
            break;
        };
        // config_acs= comes after it
        let redirecting = named
            .iter()
            .filter(|device| device.acs_redirect == Some(true) && !by_flags.contains(&device.bdf));
        for device in redirecting {
            wrong.push(format!(
                "{} redirects, though disable_acs_redir={port} names it",
                device.bdf
            ));
            remedies.push(changed.to_owned());
        }
    }
    if nobody {
        remedies.push(moved.to_owned());
    }
    remedies.sort();
    remedies.dedup();
    (!wrong.is_empty()).then(|| Check {
        id: "command-line",
        state: State::Note,
        evidence: format!("/proc/cmdline: {}", list(&wrong)),
        remedies,
    })
}

/// Memory is remapped in sections of this size: a pool has to begin and end at multiples of it.
const SECTION: u64 = 2 << 20;

/// Why a function provides nothing, for [`pool`].
struct Why {
    said: String,
    remedies: Vec<String>,
    /// What it has is there to be provided, and never can be.
    is_hopeless: bool,
}

impl Why {
    fn new(said: impl Into<String>, remedy: impl Into<String>) -> Self {
        Why {
            said: said.into(),
            remedies: vec![remedy.into()],
            is_hopeless: false,
        }
    }
}

const BOOT_ANOTHER: &str = "boot a kernel with CONFIG_PCI_P2PDMA=y";
const GIVE_AN_ADDRESS: &str =
    "boot with pci=realloc, and switch on \"Above 4G decoding\" in the firmware";
const PLACE_ELSEWHERE: &str =
    "let the firmware place the BAR elsewhere (\"MMIO base\", \"Above 4G decoding\")";
const USE_ANOTHER: &str = "use a device with a memory BAR of 2 MiB or more";

/// A file of a function in sysfs.
fn file(bdf: Bdf, name: &str) -> String {
    format!("/sys/bus/pci/devices/{bdf}/{name}")
}

/// What says where the BARs of a function are.
fn bars_file(device: &Device) -> String {
    match device.facts.bars_from {
        Some(name) => file(device.bdf, name),
        None => "its configuration space".to_owned(),
    }
}

/// First and last address of a BAR, if it has any.
fn addresses(bar: &Bar) -> Option<(u64, u64)> {
    let last = bar.size.filter(|size| *size != 0)? - 1;
    let end = bar.address.checked_add(last)?;
    (!bar.unassigned).then_some((bar.address, end))
}

/// On which side of the linear map a BAR lies, if the kernel cannot have pages for it: `lies below
/// …`, with what shows it.
fn outside(machine: &Machine, device: &Device, bar: &Bar) -> Option<String> {
    let (start, end) = addresses(bar)?;
    let map = machine.system.linear_map.as_ref()?;
    let side = if start < map.first {
        format!(
            "below what the linear map of this kernel covers, which begins at {:#x}",
            map.first
        )
    } else if end > map.last {
        format!(
            "beyond what the linear map of this kernel covers, which ends at {:#x}",
            map.last
        )
    } else {
        return None;
    };
    let (file, evidence) = (bars_file(device), &map.evidence);
    Some(format!(
        "{start:#x}-{end:#x} lies {side} ({file}; {evidence})"
    ))
}

/// Why the place of a BAR keeps it from being provided, if it does.
fn misplaced(machine: &Machine, device: &Device, bar: &Bar) -> Option<Why> {
    let index = bar.index;
    if bar.unassigned {
        let said = format!("BAR {index} has no address ({})", bars_file(device));
        return Some(Why::new(said, GIVE_AN_ADDRESS));
    }
    if let Some(outside) = outside(machine, device, bar) {
        return Some(Why::new(
            format!("BAR {index} at {outside}"),
            PLACE_ELSEWHERE,
        ));
    }
    // not with ordinary BARs, which begin at multiples of their size
    let size = bar.size.filter(|size| *size >= SECTION)?;
    (bar.address % SECTION != 0 || size % SECTION != 0).then(|| {
        let said = format!(
            "BAR {index} of {} at {:#x} ({}) is misaligned: the kernel needs it to begin and end \
             at multiples of 2 MiB",
            Size(size),
            bar.address,
            bars_file(device)
        );
        let part = aligned_part(0, size, bar.address);
        let remedy = part.map_or(USE_ANOTHER.to_owned(), |(offset, size)| {
            format!(
                "p2pdma bind {} --bar {index}{offset} --size {size}",
                device.bdf
            )
        });
        Why::new(said, remedy)
    })
}

/// The part of a range that begins and ends at multiples of 2 MiB, as options of `p2pdma bind`: how
/// far into the range, if it is not its beginning, and how much.
fn aligned_part(start: u64, size: u64, base: u64) -> Option<(String, String)> {
    let begin = base.checked_add(start)?;
    let end = begin.checked_add(size)? / SECTION * SECTION;
    let first = begin.checked_next_multiple_of(SECTION)?;
    let kib = |bytes: u64| match bytes % (1 << 20) {
        0 => format!("{}M", bytes >> 20),
        _ => format!("{}K", bytes >> 10),
    };
    let offset = match first - begin {
        0 => String::new(),
        offset => format!(" --offset {}", kib(offset)),
    };
    (end > first && (first - begin) % 1024 == 0).then(|| (offset, kib(end - first)))
}

/// Why the memory buffer of a controller is not provided.
fn of_cmb(machine: &Machine, device: &Device, client: &Client, cmb: Cmb) -> Why {
    let place = match cmb.offset {
        0 => format!("BAR {}", cmb.bar),
        offset => format!("BAR {} + {}", cmb.bar, Size(offset)),
    };
    let mut said = format!(
        "{} has a CMB of {} in {place}",
        client.controller,
        Size(cmb.size)
    );
    let (location, register) = cmb.registers;
    let registers = format!("cmbloc {location:#010x}, cmbsz {register:#010x}");
    let mut bars = device.facts.bars.iter();
    let bar = bars.find(|bar| bar.index == cmb.bar);
    let size = bar.and_then(|bar| bar.size);
    let hopeless = |said: String, remedy: String| Why {
        is_hopeless: true,
        ..Why::new(said, remedy)
    };
    let make_it_fit = "set another size of the CMB, if the controller can; or use the memory of \
                       another device";
    // nvme_map_cmb() takes what of it is in the BAR
    let inside = match size {
        Some(bar) if cmb.offset >= bar => {
            let why = format!(
                "{said}; not provided: the kernel needs it inside of its BAR of {} ({registers})",
                Size(bar)
            );
            return hopeless(why, make_it_fit.to_owned());
        }
        Some(bar) => cmb.size.min(bar - cmb.offset),
        None => cmb.size,
    };
    if inside < cmb.size {
        said.push_str(&format!(", of which {} are in the BAR", Size(inside)));
    }
    let misaligned = if inside % SECTION != 0 {
        Some("the kernel needs multiples of 2 MiB")
    } else if cmb.offset % SECTION != 0 {
        Some("the kernel needs it to begin at a multiple of 2 MiB")
    } else {
        None
    };
    if let Some(why) = misaligned {
        // p2pdma_provider takes a part of a CMB, but of none that is cut
        let part = aligned_part(cmb.offset, inside, 0).filter(|_| inside == cmb.size);
        let remedy = part.map(|(offset, size)| {
            format!(
                "p2pdma bind {}{offset} --size {size}, which takes the controller from nvme",
                client.bdf
            )
        });
        let why = format!("{said}; not provided: {why} ({registers})");
        return hopeless(why, remedy.unwrap_or_else(|| make_it_fit.to_owned()));
    }
    match bar.and_then(|bar| misplaced(machine, device, bar)) {
        Some(why) => Why {
            said: format!("{said}; not provided: {}", why.said),
            ..why
        },
        None => Why::new(
            format!(
                "{said}; not provided: the kernel's log says why (nvme: failed to register the CMB)"
            ),
            "p2pdma doctor explains what the log says",
        ),
    }
}

/// What is wrong with a pool that is there, if anything: that others do not find it.
fn unpublished(machine: &Machine, provider: &Provider) -> Option<Check> {
    if provider.published {
        return None;
    }
    let bdf = provider.bdf;
    let driver = provider.driver.as_deref().unwrap_or("its driver");
    let client = machine.clients.iter().find(|client| client.bdf == bdf);
    let cmb = client.and_then(|client| client.cmb);
    let lacks = cmb.and_then(|cmb| {
        let lacks = match (cmb.reads, cmb.writes) {
            (true, true) => return None,
            (false, true) => "reads (RDS)",
            (true, false) => "writes (WDS)",
            (false, false) => "reads (RDS) and writes (WDS)",
        };
        Some((cmb.registers.1, lacks))
    });
    let is_ours = driver == "p2pdma_provider";
    let (why, remedy) = match lacks {
        Some((register, lacks)) => (
            format!(
                "; CMBSZ ({register:#010x}) has no support for {lacks}, without which {driver} \
                 publishes none"
            ),
            "map it for what it supports, or use memory that takes both".to_owned(),
        ),
        None if is_ours => (String::new(), format!("p2pdma publish {bdf}")),
        None => (
            String::new(),
            format!("{driver} alone can publish it: look for an option of it"),
        ),
    };
    Some(Check {
        id: "pool",
        state: State::Note,
        evidence: format!(
            "the pool of {bdf}, of {driver}, is not published ({} is 0): other drivers, such as \
             the NVMe target, do not find it, while it can be mapped{why}",
            file(bdf, "p2pmem/published")
        ),
        remedies: vec![remedy],
    })
}

/// Why a function without a memory buffer of NVMe provides nothing.
fn of_bars(machine: &Machine, device: &Device, client: Option<&Client>) -> Why {
    let bdf = device.bdf;
    // its own registers are in the BARs of a controller
    if let Some(client) = client {
        let name = &client.controller;
        return Why::new(
            format!(
                "{name} has no CMB, the only memory that its driver, nvme, provides (there is no \
                 /sys/class/nvme/{name}/cmbsz)"
            ),
            "use a controller with a CMB, or bind p2pdma_provider to a device with a memory BAR",
        );
    }
    let bars = &device.facts.bars;
    let large = |size: Option<u64>| size.is_none_or(|size| size >= SECTION);
    if !bars.is_empty() && !bars.iter().any(|bar| large(bar.size)) {
        // which does not keep its driver from handing it on as a dma-buf
        return Why::new(
            format!(
                "{bdf} is not provided: none of its BARs is as large as 2 MiB, of which the kernel \
                 needs multiples ({})",
                bars_file(device)
            ),
            USE_ANOTHER,
        );
    }
    let chosen = chosen_bar(machine, bdf);
    if let Some(why) = chosen.and_then(|bar| misplaced(machine, device, bar)) {
        return Why {
            said: format!("{bdf} is not provided: {}", why.said),
            ..why
        };
    }
    // p2pdma_provider takes only prefetchable ones without being told
    let which = chosen.filter(|bar| !bar.prefetchable);
    let which = which.map_or(String::new(), |bar| format!(" --bar {}", bar.index));
    let bind = format!("p2pdma bind {bdf}{which}");
    let link = file(bdf, "driver");
    match device.driver.as_deref() {
        _ if device.facts.bars_from.is_none() => Why::new(
            format!("{bdf}: what lspci prints does not tell what its driver provides"),
            "look at what p2pdma capture writes there",
        ),
        None if device.class >> 8 == 0x0108 => Why::new(
            format!("{bdf} has no driver ({link}): whether it has a CMB is not known"),
            format!("p2pdma bind {bdf}"),
        ),
        None => Why::new(
            format!(
                "{bdf} has no p2pmem/: it has no driver that would provide memory of it ({link})"
            ),
            bind,
        ),
        Some(driver) => Why::new(
            format!(
                "{bdf} has no p2pmem/: its driver, {driver}, provides no memory of it now ({link})"
            ),
            format!("if it is not needed for anything else: {bind}"),
        ),
    }
}

/// Why a function provides nothing now, if so: it fails if what it has never can be provided.
pub fn pool(machine: &Machine, bdf: Bdf) -> Option<Check> {
    let provider = machine.providers.iter().find(|one| one.bdf == bdf);
    if let Some(provider) = provider {
        return unpublished(machine, provider);
    }
    let device = machine.devices.get(&bdf)?;
    let client = machine.clients.iter().find(|client| client.bdf == bdf);
    let cmb = client.and_then(|client| Some((client, client.cmb?)));
    let mut why = match cmb {
        Some((client, cmb)) => of_cmb(machine, device, client, cmb),
        None => of_bars(machine, device, client),
    };
    // that comes first, whatever else there is
    if let (Some(false), Some(path)) = (machine.system.p2pdma, &machine.system.config) {
        let what = cmb.map_or(bdf.to_string(), |(client, cmb)| {
            format!("{} has a CMB of {}", client.controller, Size(cmb.size))
        });
        let said = format!("this kernel is built without CONFIG_PCI_P2PDMA ({path})");
        why = Why::new(format!("{what}; not provided: {said}"), BOOT_ANOTHER);
    }
    Some(Check {
        id: "pool",
        state: match why.is_hopeless {
            true => State::Fail,
            false => State::Note,
        },
        evidence: why.said,
        remedies: why.remedies,
    })
}

/// What is to be said in a virtual machine.
pub const GUEST: &str =
    "this is a virtual machine: where the traffic really goes is the host's to decide";

/// What to do in a virtual machine if data are wrong.
pub const IN_THE_HOST: &str = "look at the ACS settings and the IOMMU of the host, and at whether \
     both functions are passed through below one switch";

/// That nothing can be promised in a virtual machine.
fn hypervisor(machine: &Machine) -> Option<Check> {
    machine.hypervisor.then(|| Check {
        id: "hypervisor",
        state: State::Note,
        evidence: GUEST.to_owned(),
        remedies: vec![format!("if data are wrong: {IN_THE_HOST}")],
    })
}

/// Whether a domain of this type gives out other addresses than those of the bus.
fn translates(domain: &str) -> bool {
    !["identity", "blocked"].contains(&domain)
}

/// Whether IOMMUs translate what the two send.
fn iommu(machine: &Machine, route: &Route) -> Option<Check> {
    let is_known = |device: &Device| device.iommu.is_some() || device.facts.iommu_group.is_some();
    let mut ends = vec![route.provider, route.client];
    ends.dedup();
    let devices = || ends.iter().filter_map(|bdf| machine.devices.get(bdf));
    let note = |evidence| Check {
        id: "iommu",
        state: State::Note,
        evidence,
        remedies: Vec::new(),
    };
    if !devices().any(is_known) {
        // what was not read of sysfs has no groups at all
        machine.kernel.as_ref()?;
        return Some(note(if machine.devices.values().any(is_known) {
            format!("no IOMMU group: {}", list(&names(&ends)))
        } else {
            "off, or there is none: no function is in an IOMMU group".to_owned()
        }));
    }
    let domain = |device: &Device| {
        let bdf = device.bdf;
        let group = device.facts.iommu_group;
        let group = group.map(|group| format!("group {group}"));
        let Some(iommu) = device.iommu.as_deref() else {
            let group = group.unwrap_or_else(|| "no IOMMU group".to_owned());
            return format!("{bdf} {group}");
        };
        let kind = match iommu {
            "identity" => "passes through",
            "blocked" => "lets nothing through",
            _ => "translates",
        };
        let group = group.map_or(String::new(), |group| format!(", {group}"));
        format!("{bdf} {iommu} ({kind}{group})")
    };
    let domains: Vec<_> = devices().map(domain).collect();
    let mut evidence = format!("iommu_group/type: {}", list(&domains));
    let client = machine.devices.get(&route.client);
    let translated = client.and_then(|client| client.iommu.as_deref());
    let through_host = matches!(route.via, Via::HostBridge { .. });
    if through_host && translated.is_some_and(translates) {
        evidence.push_str(&format!(
            "; the kernel maps the memory for {}, and what software makes it send to raw BAR \
             addresses is dropped, silently",
            route.client
        ));
    }
    Some(note(evidence))
}

/// Whether the kernel can do it at all.
fn kernel(machine: &Machine) -> Option<Check> {
    let version = machine.kernel.as_deref();
    let (state, evidence, remedies) = match (machine.system.p2pdma, &machine.system.config) {
        (Some(false), Some(path)) => (
            State::Fail,
            format!("{path}: this kernel is built without CONFIG_PCI_P2PDMA"),
            vec![BOOT_ANOTHER.to_owned()],
        ),
        (Some(true), Some(path)) => {
            let old = version
                .and_then(host_bridge::version)
                .filter(|v| *v < (6, 2));
            let evidence = format!("{path}: CONFIG_PCI_P2PDMA=y");
            match old {
                Some(_) => (
                    State::Note,
                    format!("{evidence}; before Linux 6.2 user space cannot map it"),
                    Vec::new(),
                ),
                None => (State::Ok, evidence, Vec::new()),
            }
        }
        _ => return None,
    };
    let evidence = match version {
        Some(version) => format!("Linux {version}; {evidence}"),
        None => evidence,
    };
    Some(Check {
        id: "kernel",
        state,
        evidence,
        remedies,
    })
}

/// What is missing in a container, or without root.
fn container(machine: &Machine) -> Option<Check> {
    let mut missing = Vec::new();
    let mut remedies = Vec::new();
    if machine.system.privileged == Some(false) {
        missing.push("CAP_SYS_ADMIN is missing: ACS settings and p2pmem/allocate cannot be read");
        remedies.push("run it as root, in a container with --privileged".to_owned());
    }
    let sysfs = machine.mounts.iter().rfind(|mount| mount.point == "/sys");
    if sysfs.is_some_and(|sysfs| sysfs.read_only) {
        missing.push("/sys is read-only: no driver can be bound");
        remedies.push("mount it for writing, with --privileged or -v /sys:/sys".to_owned());
    }
    let name = machine.system.container.as_deref();
    let mut missing: Vec<_> = missing.into_iter().map(str::to_owned).collect();
    let parts = &machine.system.missing;
    // captures and copies need not have all
    if name.is_some() && !parts.is_empty() {
        missing.push(format!(
            "not there: {}: what drivers, disks and mounts there are is not known",
            list(parts)
        ));
        remedies.push("let it have all of /sys and /proc, with -v /sys:/sys".to_owned());
    }
    if let Some(nodes) = &machine.system.nodes {
        let disks = machine.clients.iter().flat_map(|client| &client.namespaces);
        let without: Vec<_> = disks
            .filter(|disk| !nodes.contains(&disk.name))
            .map(|disk| disk.name.clone())
            .collect();
        if !without.is_empty() {
            missing.push(format!(
                "no device node: {}: nothing can be moved to or from them",
                list(&without)
            ));
            let options = without.iter().map(|disk| format!("--device /dev/{disk}"));
            remedies.push(format!(
                "run it with {}",
                options.collect::<Vec<_>>().join(" ")
            ));
        }
    }
    if missing.is_empty() && name.is_none() {
        return None;
    }
    let inside = name.map(|name| format!("this is a container ({name})"));
    let said: Vec<_> = inside.into_iter().chain(missing).collect();
    Some(Check {
        id: "container",
        state: State::Note,
        evidence: said.join("; "),
        remedies,
    })
}

/// A rate in millions of bytes a second.
pub fn rate(megabytes: u32) -> String {
    format!("{}.{:02} GB/s", megabytes / 1000, megabytes % 1000 / 10)
}

/// A number of transfers, in millions.
pub fn transfers(speed: u32) -> String {
    match speed % 1000 {
        0 => format!("{} GT/s", speed / 1000),
        part => format!("{}.{} GT/s", speed / 1000, part / 100),
    }
}

/// The slowest link of the path.
fn link(machine: &Machine, route: &Route) -> Option<Check> {
    let links = between(machine, route);
    let links = links.iter().filter_map(|bdf| {
        let link = machine.devices.get(bdf)?.facts.link?;
        Some((*bdf, link))
    });
    let (bdf, slowest) = links.min_by_key(|(_, link)| link.bandwidth())?;
    let mut evidence = format!(
        "at most {} each way, by the link of {bdf}: {} x{}",
        rate(slowest.bandwidth()),
        transfers(slowest.speed),
        slowest.width
    );
    let can = slowest.max_bandwidth();
    let is_slowed = can > slowest.bandwidth();
    if is_slowed {
        evidence.push_str(&format!(
            "; {bdf} itself can do {} x{} ({})",
            transfers(slowest.max_speed),
            slowest.max_width,
            rate(can)
        ));
    }
    Some(Check {
        id: "link",
        state: if is_slowed { State::Note } else { State::Ok },
        evidence,
        remedies: Vec::new(),
    })
}

/// Sizes of packets along the path.
fn payload(machine: &Machine, route: &Route) -> Option<Check> {
    let sizes: Vec<_> = between(machine, route)
        .iter()
        .filter_map(|bdf| Some((*bdf, machine.devices.get(bdf)?.facts.payload?)))
        .collect();
    let of = |bdf: Bdf| {
        sizes
            .iter()
            .find(|(at, _)| *at == bdf)
            .map(|(_, sizes)| *sizes)
    };
    let ends = of(route.provider).zip(of(route.client));
    let (provider, client) = ends?;
    let largest = provider.max_payload.max(client.max_payload);
    let too_small: Vec<_> = sizes
        .iter()
        .filter(|(_, sizes)| sizes.max_payload < largest)
        .map(|(bdf, sizes)| format!("{bdf} takes {}", sizes.max_payload))
        .collect();
    let evidence = format!(
        "MPS {} and {}, MRRS {} and {} bytes (provider and client)",
        provider.max_payload,
        client.max_payload,
        provider.max_read_request,
        client.max_read_request
    );
    Some(match too_small[..] {
        [] => Check {
            id: "payload",
            state: State::Ok,
            evidence,
            remedies: Vec::new(),
        },
        _ => Check {
            id: "payload",
            state: State::Note,
            evidence: format!(
                "{evidence}; packets of {largest} do not fit: {}",
                list(&too_small)
            ),
            remedies: vec![
                "boot with pci=pcie_bus_peer2peer, which sets 128 everywhere".to_owned(),
            ],
        },
    })
}

/// The memory that a function could provide.
fn bar(machine: &Machine, bdf: Bdf) -> Option<Check> {
    let bars = &machine.devices.get(&bdf)?.facts.bars;
    if bars.is_empty() {
        return None;
    }
    // without an address, only what would be provided forbids it
    let chosen = chosen_bar(machine, bdf).map(|bar| bar.index);
    let has_pool = machine.providers.iter().any(|one| one.bdf == bdf);
    let mut state = State::Ok;
    let mut remedies = Vec::new();
    let mut said = Vec::new();
    for bar in bars {
        let size = bar
            .size
            .map_or("of unknown size".to_owned(), |size| Size(size).to_string());
        let kind = match (bar.prefetchable, bar.wide) {
            (true, true) => ", prefetchable, 64 bits",
            (true, false) => ", prefetchable",
            (false, true) => ", 64 bits",
            (false, false) => "",
        };
        let mut text = format!("BAR {} {size} at {:#x}{kind}", bar.index, bar.address);
        if bar.unassigned {
            text = format!("BAR {} {size} has no address", bar.index);
            if chosen == Some(bar.index) && !has_pool {
                state = State::Fail;
            } else if state == State::Ok {
                state = State::Note;
            }
            remedies.push(GIVE_AN_ADDRESS.to_owned());
        }
        if bar.size.is_some_and(|size| size < SECTION) {
            text.push_str(", too small to be provided");
        }
        if let Some(resizable) = &bar.resizable {
            let (now, most) = (Size(resizable.size), Size(resizable.largest));
            text.push_str(&format!(", resizable, {now} of {most}"));
            if resizable.size < resizable.largest && state == State::Ok {
                state = State::Note;
                remedies.push(format!(
                    "switch on \"Resizable BAR\" in the firmware, or unbind {bdf} and write to \
                     resource{}_resize",
                    bar.index
                ));
            }
        }
        said.push(text);
    }
    remedies.dedup();
    Some(Check {
        id: "bar",
        state,
        evidence: format!("{bdf}: {}", said.join("; ")),
        remedies,
    })
}

/// The BAR that is provided, or would be: that of the pool or the CMB, or else the largest.
fn chosen_bar(machine: &Machine, bdf: Bdf) -> Option<&Bar> {
    let bars = &machine.devices.get(&bdf)?.facts.bars;
    let provider = machine
        .providers
        .iter()
        .find(|provider| provider.bdf == bdf);
    let chosen = provider.and_then(|provider| provider.source.as_ref()?.bar);
    let cmb = machine.clients.iter().find(|client| client.bdf == bdf);
    match chosen.or_else(|| Some(cmb?.cmb?.bar)) {
        Some(index) => bars.iter().find(|bar| bar.index == index),
        None => bars.iter().max_by_key(|bar| (bar.prefetchable, bar.size)),
    }
}

/// Whether the kernel can have pages for the memory.
fn linear_map(machine: &Machine, bdf: Bdf) -> Option<Check> {
    // it has had them
    if machine.providers.iter().any(|one| one.bdf == bdf) {
        return None;
    }
    let bar = chosen_bar(machine, bdf)?;
    let outside = outside(machine, machine.devices.get(&bdf)?, bar)?;
    Some(Check {
        id: "linear-map",
        state: State::Fail,
        evidence: format!("the memory of {bdf} at {outside}"),
        remedies: vec![PLACE_ELSEWHERE.to_owned()],
    })
}

/// Whether the client can use the provider's addresses.
fn dma_mask(machine: &Machine, route: &Route) -> Option<Check> {
    let (_, end) = addresses(chosen_bar(machine, route.provider)?)?;
    let client = machine.devices.get(&route.client)?;
    let bits = client.facts.dma_mask_bits?;
    let translated = matches!(route.via, Via::HostBridge { .. })
        && client.iommu.as_deref().is_some_and(translates);
    if translated || route.via == Via::SameFunction {
        return None;
    }
    let reaches = bits >= 64 || end >> bits == 0;
    Some(Check {
        id: "dma-mask",
        state: if reaches { State::Ok } else { State::Fail },
        evidence: format!(
            "{} uses addresses of {bits} bits, the memory of {} ends at {end:#x}",
            route.client, route.provider
        ),
        remedies: if reaches {
            Vec::new()
        } else {
            vec!["let the firmware place the BAR below (\"MMIO base\")".to_owned()]
        },
    })
}

/// Nodes, virtual functions and CXL.
fn neighbourhood(machine: &Machine, route: &Route) -> Vec<Check> {
    let note = |id, evidence| Check {
        id,
        state: State::Note,
        evidence,
        remedies: Vec::new(),
    };
    let mut checks = Vec::new();
    let node = |bdf: Bdf| machine.devices.get(&bdf)?.numa_node;
    if let (Some(a), Some(b)) = (node(route.provider), node(route.client)) {
        if a != b {
            let (provider, client) = (route.provider, route.client);
            let evidence =
                format!("{provider} is in NUMA node {a}, {client} in node {b}: the way is far");
            checks.push(note("numa", evidence));
        }
    }
    let mut ends = vec![route.provider, route.client];
    ends.dedup();
    for &bdf in &ends {
        let Some(facts) = machine.devices.get(&bdf).map(|device| &device.facts) else {
            continue;
        };
        if let Some(physical) = facts.physical_function {
            checks.push(note(
                "sriov",
                format!("{bdf} is a virtual function of {physical}"),
            ));
        } else if let Some(sriov) = facts.sriov.filter(|sriov| sriov.enabled != 0) {
            let (enabled, total) = (sriov.enabled, sriov.total);
            let evidence = format!("{bdf} has {enabled} of {total} virtual functions");
            checks.push(note("sriov", evidence));
        }
    }
    let is_cxl = |bdf: &Bdf| {
        machine
            .devices
            .get(bdf)
            .is_some_and(|device| device.facts.cxl)
    };
    let mut around = between(machine, route);
    // of a function alone there is nothing between
    if around.is_empty() {
        around = ends;
    }
    let cxl: Vec<_> = around.into_iter().filter(is_cxl).collect();
    if !cxl.is_empty() {
        checks.push(note(
            "cxl",
            format!("does CXL as well: {}", list(&names(&cxl))),
        ));
    }
    checks
}

/// Whether the queues of a block device and of what it is made of take peer-to-peer pages.
fn queue(stack: &Member) -> Check {
    let all = stack.all();
    let said: Vec<_> = all
        .iter()
        .map(|member| {
            let takes = match (member.takes_p2p, &member.why) {
                (Some(true), _) => "takes them".to_owned(),
                (Some(false), Some(why)) => format!("takes none: {why}"),
                (Some(false), None) => "takes none, as something below does not".to_owned(),
                (None, _) => "cannot be told".to_owned(),
            };
            format!("{} ({}) {takes}", member.name, member.what)
        })
        .collect();
    let culprits = all.iter().filter(|member| member.why.is_some());
    let remedies = culprits.map(|member| match member.name == stack.name {
        true => "use an NVMe disk on PCI, or md raid0, raid1 or raid10 of such".to_owned(),
        false => format!("leave out {}", member.name),
    });
    Check {
        id: "queue",
        state: match stack.takes_p2p {
            Some(true) => State::Ok,
            Some(false) => State::Fail,
            None => State::Unknown,
        },
        evidence: said.join("; "),
        remedies: remedies.collect(),
    }
}

/// Whether the queues of an NVMe controller take peer-to-peer pages.
fn queues(machine: &Machine, bdf: Bdf) -> Option<Check> {
    let client = machine.clients.iter().find(|client| client.bdf == bdf)?;
    let driver = client.driver.as_deref().unwrap_or("no driver");
    let disks: Vec<_> = client
        .namespaces
        .iter()
        .map(|disk| disk.name.clone())
        .collect();
    let disks = match disks[..] {
        [] => "no namespace".to_owned(),
        _ => list(&disks),
    };
    let (state, takes) = match client.p2p_queues {
        true => (State::Ok, "take"),
        false => (State::Note, "do not take"),
    };
    Some(Check {
        id: "queue",
        state,
        evidence: format!(
            "queues of {} ({driver}; {disks}) {takes} peer-to-peer pages",
            client.controller
        ),
        remedies: Vec::new(),
    })
}

/// What the kernel decides about a pair.
pub fn verdict(machine: &Machine, route: &Route) -> Verdict {
    match (&route.via, route.via.works()) {
        _ if machine.system.p2pdma == Some(false) => Verdict::NotSupported,
        (Via::SameFunction | Via::Bridge { .. }, _) => Verdict::BusAddress,
        (Via::HostBridge { .. }, Some(true)) => Verdict::HostBridge,
        (Via::HostBridge { .. }, Some(false)) => Verdict::NotSupported,
        (Via::Unknown { .. }, Some(true)) => Verdict::Either,
        _ => Verdict::Unknown,
    }
}

/// Looks at a pair.
pub fn check(machine: &Machine, provider: Bdf, client: Bdf) -> Report {
    let route = route(machine, provider, client);
    let verdict = verdict(machine, &route);
    let mut checks = vec![path(&route), acs(machine, &route)];
    checks.extend(through_host_bridge(machine, &route));
    checks.extend(of_provider(machine, provider));
    checks.extend(dma_mask(machine, &route));
    checks.extend(link(machine, &route));
    checks.extend(payload(machine, &route));
    checks.extend(iommu(machine, &route));
    checks.extend(neighbourhood(machine, &route));
    Report {
        verdict,
        able: able(Some(verdict), &checks),
        route,
        checks,
    }
}

/// What concerns the memory of a function.
fn of_provider(machine: &Machine, provider: Bdf) -> Vec<Check> {
    let mut checks: Vec<_> = pool(machine, provider).into_iter().collect();
    checks.extend(bar(machine, provider));
    checks.extend(linear_map(machine, provider));
    checks
}

/// What concerns the whole machine.
fn of_machine(machine: &Machine) -> Vec<Check> {
    let mut checks: Vec<_> = kernel(machine).into_iter().collect();
    if let Some(line) = machine.command_line.as_deref() {
        checks.extend(command_line(line));
        checks.extend(command_line_effect(machine, line));
    }
    checks.extend(hypervisor(machine));
    checks.extend(container(machine));
    checks
}

/// The host bridges, and whether the kernel lets traffic pass from one port of each to another.
fn host_bridges(machine: &Machine) -> Vec<Check> {
    let kernel = machine.kernel.as_deref().and_then(host_bridge::version);
    let one = |bus: &String| {
        let (device, sure) = match host_bridge_device(machine, bus) {
            Ok(Some(device)) => (device, true),
            Err(device) => (device, false),
            // no list can name it
            Ok(None) => {
                let (state, said) = match machine.cpu_allows_any_pair {
                    Some(true) => (State::Ok, "the processor allows any pair"),
                    Some(false) => (State::Note, "pairs have to be below one switch"),
                    None => (State::Unknown, "the processor is not known"),
                };
                return Check {
                    id: "host-bridge",
                    state,
                    evidence: format!(
                        "{bus} begins with neither function 00.0 nor a root port: {said}"
                    ),
                    remedies: Vec::new(),
                };
            }
        };
        let ids = (device.vendor_id, device.device_id);
        let other = other_kernel(machine);
        let listed = |same| {
            host_bridge::added(&machine.added_host_bridges, ids, same)
                || other.is_none() && host_bridge::allows(ids, same, kernel)
        };
        let which = which_list(machine);
        let (state, said) = match (machine.cpu_allows_any_pair, listed(true), listed(false)) {
            (Some(true), ..) => (State::Ok, "the processor allows any pair".to_owned()),
            (_, true, _) if !sure => (
                State::Unknown,
                format!("in the {which}, if it is a root port"),
            ),
            (_, true, true) => (State::Ok, format!("in the {which}")),
            (_, true, false) => (
                State::Ok,
                format!("in the {which}, for pairs below it alone"),
            ),
            _ if other.is_some() => (State::Unknown, other.unwrap_or_default()),
            (None, ..) => (
                State::Unknown,
                format!("not in the {which}; the processor is not known"),
            ),
            _ => (
                State::Note,
                format!("not in the {which}: pairs have to be below one switch"),
            ),
        };
        Check {
            id: "host-bridge",
            state,
            evidence: format!(
                "{bus}, {} [{:04x}:{:04x}]: {said}",
                device.bdf, ids.0, ids.1
            ),
            remedies: Vec::new(),
        }
    };
    machine.first_on_root.keys().map(one).collect()
}

/// Looks at the machine, at a function or disk of it, or at a pair.
pub fn answer(machine: &Machine, provider: Option<Bdf>, target: Option<Target>) -> Answer {
    let mut answer = Answer {
        schema: SCHEMA,
        verdict: None,
        able: None,
        checks: of_machine(machine),
        stack: None,
        pairs: Vec::new(),
    };
    let (clients, stack) = match target {
        None => (Vec::new(), None),
        Some(Target::Function(bdf)) => (vec![bdf], None),
        Some(Target::Disk(disk)) => (disk.functions(), Some(disk)),
    };
    answer.checks.extend(stack.as_ref().map(queue));
    match provider {
        None if clients.is_empty() && stack.is_none() => {
            answer.checks.extend(host_bridges(machine));
        }
        None => {
            for bdf in clients {
                if stack.is_none() {
                    answer.checks.extend(queues(machine, bdf));
                }
                let memory = of_provider(machine, bdf).into_iter();
                // that it provides nothing is an answer here, and no failure
                answer.checks.extend(memory.map(|check| match check.id {
                    "pool" => Check {
                        state: State::Note,
                        ..check
                    },
                    _ => check,
                }));
                let alone = route(machine, bdf, bdf);
                answer.checks.extend(iommu(machine, &alone));
                answer.checks.extend(neighbourhood(machine, &alone));
            }
        }
        Some(provider) => {
            answer.pairs = clients
                .iter()
                .map(|bdf| check(machine, provider, *bdf))
                .collect();
            let worst = |verdicts: &[Verdict]| {
                let order = [
                    Verdict::NotSupported,
                    Verdict::Unknown,
                    Verdict::Either,
                    Verdict::HostBridge,
                    Verdict::BusAddress,
                ];
                order.into_iter().find(|verdict| verdicts.contains(verdict))
            };
            let pairs = answer.pairs.iter().map(|pair| pair.verdict);
            // a queue that is not known leaves it open, whatever the paths are
            let queue = stack.as_ref().and_then(|disk| match disk.takes_p2p {
                Some(true) => None,
                Some(false) => Some(Verdict::NotSupported),
                None => Some(Verdict::Unknown),
            });
            let verdicts: Vec<_> = pairs.chain(queue).collect();
            answer.verdict = worst(&verdicts).or(Some(Verdict::Unknown));
            // lists that are cut are bad, but what came of it is known here
            for check in &mut answer.checks {
                if check.id == "command-line" {
                    check.state = State::Note;
                }
            }
        }
    }
    let pairs = answer.pairs.iter().flat_map(|pair| &pair.checks);
    answer.able = able(answer.verdict, pairs.chain(&answer.checks));
    // without a pair nothing outweighs what is not known
    let is_unknown = |check: &Check| check.state == State::Unknown;
    if answer.verdict.is_none() && answer.able.is_some_and(|able| able) {
        answer.able = (!answer.checks.iter().any(is_unknown)).then_some(true);
    }
    // of a machine without PCI functions there is nothing to be told
    if machine.devices.is_empty() && answer.able == Some(true) {
        answer.able = None;
    }
    answer.stack = stack;
    answer
}

/// The outcome in words: a path that is supported is of no use if a check fails.
fn words(verdict: Verdict, checks: &[&[Check]]) -> String {
    let (style, text) = match verdict {
        Verdict::BusAddress => (GOOD, "supported, with bus addresses"),
        Verdict::HostBridge => (GOOD, "supported, through the host bridge"),
        Verdict::Either => (
            GOOD,
            "supported, with bus addresses or through the host bridge",
        ),
        Verdict::NotSupported => (BAD, "not supported"),
        Verdict::Unknown => (REFUSED, "cannot be told"),
    };
    let failed = checks.iter().flat_map(|checks| checks.iter());
    let mut failed: Vec<_> = failed
        .filter(|check| check.state == State::Fail)
        .map(|check| check.id.to_owned())
        .collect();
    failed.dedup();
    match verdict {
        Verdict::NotSupported => styled(style, text),
        _ if failed.is_empty() => styled(style, text),
        Verdict::Unknown => styled(BAD, &format!("not able: {}", list(&failed))),
        _ => {
            let able = styled(BAD, &format!("not able: {}", list(&failed)));
            format!("{able}; the path is {text}")
        }
    }
}

fn lines(checks: &[Check], out: &mut impl Write) -> io::Result<()> {
    for check in checks {
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

/// Prints what was found.
pub fn text(answer: &Answer, mut out: impl Write) -> io::Result<()> {
    let heading = |name: &str, words: String| {
        // its own width, as it has no columns
        textwrap::fill(
            &format!("{}: {words}", styled(HEADING, name)),
            textwrap::Options::new(WIDTH).subsequent_indent("    "),
        )
    };
    if let (Some(stack), Some(verdict)) = (&answer.stack, answer.verdict) {
        if answer.pairs.len() != 1 || answer.pairs[0].verdict != verdict {
            let all: Vec<_> = answer.pairs.iter().map(|pair| &pair.checks[..]).collect();
            let words = words(verdict, &[&[&answer.checks[..]], &all[..]].concat());
            writeln!(out, "{}", heading(&stack.name, words))?;
        }
    }
    if answer.pairs.is_empty() {
        return match answer.checks[..] {
            [] if answer.able.is_none() => writeln!(
                out,
                "There is nothing to be said: no PCI function was found."
            ),
            [] => writeln!(out, "There is nothing to be said."),
            _ => lines(&answer.checks, &mut out),
        };
    }
    for (number, pair) in answer.pairs.iter().enumerate() {
        let name = format!("{} - {}", pair.route.provider, pair.route.client);
        let words = words(pair.verdict, &[&answer.checks, &pair.checks]);
        writeln!(out, "{}", heading(&name, words))?;
        if number == 0 {
            lines(&answer.checks, &mut out)?;
        }
        lines(&pair.checks, &mut out)?;
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

    fn all(fake: &Fake, a: &str, b: &str) -> Answer {
        answer(&fake.read(), Some(bdf(a)), Some(Target::Function(bdf(b))))
    }

    fn of_all<'a>(answer: &'a Answer, id: &str) -> Option<&'a Check> {
        answer.checks.iter().find(|check| check.id == id)
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
            said.contains("setpci -s 0000:11:01.0 ECAP_ACS+6.w=0000:002c"),
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
        let report = all(&fake, "0e:00.0", "12:00.0");
        let line = of_all(&report, "command-line").expect("it");
        assert!(
            line.evidence.ends_with("0000:0a:00.0 and 0000:16:08.0"),
            "{line:?}"
        );
        assert_eq!(
            line.remedies,
            ["separate them by ';': \
              \"pci=disable_acs_redir=0000:0c:10.0;0000:0a:00.0;0000:16:08.0\""]
        );
        for (bad, said) in [
            (
                "x \"pci=disable_acs_redir=0000:0c:10.0,0000:0a:00.0\"",
                "a comma ends the list, so that the kernel ignores 0000:0a:00.0",
            ),
            (
                "pci=\"disable_acs_redir=00:01.0/00.0,00:01.0/01.0/02.0\"",
                "a comma ends the list, so that the kernel ignores 00:01.0/01.0/02.0",
            ),
            (
                "pci=config_acs=0x00xx@0a:00.0 pci=realloc,config_acs=0x00xx@0b:00.0",
                "of several config_acs= the kernel takes the last only, and ignores \
                 0x00xx@0a:00.0",
            ),
        ] {
            let check = command_line(bad).expect(bad);
            assert_eq!(check.evidence, format!("command line: {said}"));
        }
        let check = command_line("pci=config_acs=0x00xx@00:01.0,00:02.0,x1@00:03.0").expect("it");
        assert_eq!(
            check.remedies,
            ["separate them by ';': \
              \"pci=config_acs=0x00xx@00:01.0;0x00xx@00:02.0;x1@00:03.0\""]
        );
        for good in [
            "pci=disable_acs_redir=00:01.0;0a:00.0,realloc",
            "pci=disable_acs_redir=00:01.0;",
            "pci=config_acs=x@00:01.0 pci=disable_acs_redir=00:01.0",
            "pci=realloc,nomsi",
            "",
        ] {
            fake.write("proc/cmdline", good);
            let report = all(&fake, "0e:00.0", "12:00.0");
            assert!(of_all(&report, "command-line").is_none(), "{good}");
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
        let answer = all(&fake, "05:00.0", "04:00.0");
        assert_eq!(
            of_all(&answer, "hypervisor").map(|check| check.state),
            Some(State::Note)
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

    /// Of a patched kernel, or of one whose list is not known here.
    #[test]
    fn takes_what_is_added_to_the_list() {
        let fake = root_ports(None);
        fake.write("proc/sys/kernel/osrelease", "7.3.4\n");
        let ask = |fake: &Fake, added: &[&str]| {
            let mut machine = fake.read();
            let added = added.iter().map(|text| text.parse().expect("an entry"));
            machine.added_host_bridges = added.collect();
            let alone = answer(&machine, None, None);
            let alone = of_all(&alone, "host-bridge").expect("one").state;
            (check(&machine, bdf("01:00.0"), bdf("02:00.0")), alone)
        };
        let (report, alone) = ask(&fake, &[]);
        assert_eq!(
            (report.verdict, alone),
            (Verdict::NotSupported, State::Note)
        );
        for added in ["1b36:000c", "1b36:*", "1b36:000c=same"] {
            let (report, alone) = ask(&fake, &[added]);
            assert_eq!(
                (report.verdict, alone),
                (Verdict::HostBridge, State::Ok),
                "{added}"
            );
            let said = &find(&report, "host-bridge").evidence;
            assert!(
                said.ends_with("kernel's list (of Linux 7.3) with what --host-bridge adds to it"),
                "{said}"
            );
        }
        let (report, alone) = ask(&fake, &["8086:3420"]);
        assert_eq!(
            (report.verdict, alone),
            (Verdict::NotSupported, State::Note)
        );

        fake.write("proc/sys/kernel/osrelease", "5.10.0\n");
        let (report, alone) = ask(&fake, &["8086:3420"]);
        assert_eq!((report.verdict, alone), (Verdict::Unknown, State::Unknown));
        let (report, alone) = ask(&fake, &["8086:3420", "1b36:000c"]);
        assert_eq!((report.verdict, alone), (Verdict::HostBridge, State::Ok));
        let said = &find(&report, "host-bridge").evidence;
        let list = "in the list that --host-bridge gives (the kernel's own is not known)";
        assert!(said.ends_with(list), "{said}");
    }

    /// A machine alone is able if nothing forbids it, and nothing is open.
    #[test]
    fn a_machine_alone_is_able_or_not_or_cannot_be_told() {
        let fake = root_ports(None);
        let able = |fake: &Fake| answer(&fake.read(), None, None).able;
        fake.write("proc/sys/kernel/osrelease", "7.3.4\n");
        assert_eq!(able(&fake), Some(true));
        fake.write("proc/cmdline", "pci=disable_acs_redir=00:01.0,00:02.0\n");
        assert_eq!(able(&fake), Some(false));
        // that something fails is known, whatever is not
        fake.write("proc/sys/kernel/osrelease", "5.10.0\n");
        assert_eq!(able(&fake), Some(false));
        fake.write("proc/cmdline", "quiet\n");
        assert_eq!(able(&fake), None);
        // the processor's rule is the same in all kernels
        fake.cpu("AuthenticAMD", 0x19);
        assert_eq!(able(&fake), Some(true));
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
        let fake = nested(0x000c);
        fake.write("proc/cmdline", "pci=disable_acs_redir=1:1.0,2:2.0");
        let report = all(&fake, "0e:00.0", "12:00.0");
        let value = serde_json::to_value(&report).expect("JSON");
        let keys = |value: &serde_json::Value| -> Vec<String> {
            value
                .as_object()
                .expect("an object")
                .keys()
                .cloned()
                .collect()
        };
        assert_eq!(
            keys(&value),
            ["able", "checks", "pairs", "schema", "stack", "verdict"]
        );
        let pair = &value["pairs"][0];
        assert_eq!(keys(pair), ["able", "checks", "route", "verdict"]);
        assert_eq!(
            (&value["able"], &pair["able"]),
            (&false.into(), &false.into())
        );
        assert_eq!(
            keys(&pair["checks"][0]),
            ["evidence", "id", "remedies", "state"]
        );
        assert_eq!(keys(&value["checks"][0]), keys(&pair["checks"][0]));
        assert_eq!(
            (&value["schema"], &value["verdict"]),
            (&2.into(), &"not-supported".into())
        );
        assert_eq!(pair["verdict"], "not-supported");
        assert_eq!(pair["checks"][1]["state"], "fail");
        assert_eq!(value["stack"], serde_json::Value::Null);
        let stack = serde_json::to_value(
            crate::target::target(&crate::machine::fake::stacks().read(), false, "md0")
                .map(|target| match target {
                    Target::Disk(disk) => disk,
                    Target::Function(bdf) => panic!("{bdf}"),
                })
                .expect("an array"),
        )
        .expect("JSON");
        let expected = ["below", "function", "name", "takes_p2p", "what", "why"];
        assert_eq!(keys(&stack), expected);
    }

    /// Every id in this file has an explanation, and the other way round.
    #[test]
    fn every_check_is_explained() {
        let (code, _) = include_str!("check.rs")
            .split_once("#[cfg(test)]")
            .expect("tests");
        let mut used: Vec<_> = code
            .lines()
            .filter_map(|line| line.trim().strip_prefix("id: \"")?.split('"').next())
            .chain(["numa", "sriov", "cxl"])
            .collect();
        used.sort_unstable();
        used.dedup();
        let mut explained: Vec<_> = EXPLANATIONS.iter().map(|(id, _)| *id).collect();
        explained.sort_unstable();
        assert_eq!(used, explained);
    }

    #[test]
    fn reads_well() {
        let mut out = Vec::new();
        text(&all(&switch(), "05:00.0", "04:00.0"), &mut out).expect("output");
        let out = anstream::adapter::strip_str(&String::from_utf8_lossy(&out)).to_string();
        assert_eq!(
            out,
            "0000:05:00.0 - 0000:04:00.0: supported, with bus addresses\n  \
             ok      path         both are below 0000:01:00.0; distance 4\n  \
             ok      acs          no port in the path redirects; without ACS: 0000:02:02.0,\n  \
             \x20                    0000:01:00.0 and 0000:02:01.0\n  \
             note    link         at most 3.93 GB/s each way, by the link of 0000:05:00.0:\n  \
             \x20                    8 GT/s x4; 0000:05:00.0 itself can do 16 GT/s x16 (31.50\n  \
             \x20                    GB/s)\n  \
             ok      payload      MPS 256 and 256, MRRS 512 and 512 bytes (provider and\n  \
             \x20                    client)\n"
        );
    }

    #[test]
    fn no_command_line_makes_it_panic() {
        use rand::seq::SliceRandom as _;
        use rand::SeedableRng as _;

        let pieces = [
            "pci=",
            "disable_acs_redir=",
            "config_acs=",
            "\"",
            " ",
            ",",
            ";",
            "@",
            "/",
            ":",
            "=",
            "pci:",
            "104c:8233",
            "0000:02:01.0",
            "00:01.0",
            "00.0",
            "0x00xx",
            "x",
            "1",
            "é",
            "--",
        ];
        let mut machine = nested(0x000c).read();
        let mut random = rand_chacha::ChaCha8Rng::seed_from_u64(1);
        for round in 0..2000 {
            let line: String = (0..round % 40)
                .filter_map(|_| pieces.choose(&mut random))
                .copied()
                .collect();
            let _ = command_line_effect(&machine, &line);
            machine.command_line = Some(line.clone());
            let report = check(&machine, bdf("0e:00.0"), bdf("12:00.0"));
            assert_eq!(report.able, Some(false), "{line}");
            // quotes are taken away once
            let plain = line.replace('"', "");
            assert!(cmdline::parameters(&plain)
                .iter()
                .all(|word| !word.contains(' ')));
        }
    }

    #[test]
    fn fits() {
        // the longest outcome
        let either = switch();
        either.cpu("AuthenticAMD", 0x19);
        let cut = &config(6, Some(0))[..64];
        either.write("sys/bus/pci/devices/0000:02:02.0/config", cut);
        let fakes = [
            switch(),
            nested(0x000c),
            crate::machine::fake::stacks(),
            either,
        ];
        for fake in fakes {
            let machine = fake.read();
            for client in machine.devices.keys() {
                let provider = *machine.devices.keys().next_back().expect("a function");
                let target = Target::Function(*client);
                let mut out = Vec::new();
                text(&answer(&machine, Some(provider), Some(target)), &mut out).expect("output");
                let out = anstream::adapter::strip_str(&String::from_utf8_lossy(&out)).to_string();
                let is_command = |line: &str| line.contains('"');
                for line in out.lines().filter(|line| !is_command(line)) {
                    assert!(line.chars().count() <= crate::text::WIDTH, "{line}");
                }
            }
        }
    }
}
