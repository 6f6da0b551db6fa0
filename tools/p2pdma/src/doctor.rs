// SPDX-License-Identifier: GPL-2.0

//! `p2pdma doctor`: what the lines of a kernel log mean that are about peer-to-peer DMA, and what
//! can be done.

use std::collections::BTreeMap;
use std::io::{self, Write};

use serde::Serialize;

use crate::bdf::Bdf;
use crate::check::State;
use crate::kmsg::{message, Log};
use crate::text::{hanging, styled, BAD, GOOD, HEADING, REFUSED};

/// Version of what `--json` prints.
pub const SCHEMA: u32 = 1;

/// What one or several lines mean.
#[derive(Debug, PartialEq, Eq, Serialize)]
pub struct Finding {
    /// Its name, which stays the same.
    pub id: &'static str,
    /// How bad it is.
    pub state: State,
    /// The function that it is about, if it is about one.
    pub device: Option<Bdf>,
    /// The function at the other end, if there is one.
    pub peer: Option<Bdf>,
    /// What it means.
    pub meaning: String,
    /// What can be done.
    pub remedies: Vec<String>,
    /// Numbers of the lines, from 1; the first of them if there are very many.
    pub lines: Vec<usize>,
    /// How many lines there are.
    pub count: usize,
}

/// All that is found in a log.
#[derive(Debug, Serialize)]
pub struct Diagnosis {
    /// Version of this format.
    pub schema: u32,
    /// Number of lines that were read.
    pub lines: usize,
    /// What was found, by device.
    pub findings: Vec<Finding>,
}

impl Diagnosis {
    /// Whether something is wrong.
    pub fn is_bad(&self) -> bool {
        self.findings
            .iter()
            .any(|finding| finding.state == State::Fail)
    }
}

/// So many line numbers are kept of what is said again and again.
const LINES_MAX: usize = 8;

/// What makes two lines say the same: id, device, peer and meaning.
type Key = (&'static str, Option<Bdf>, Option<Bdf>, String);

/// Collects findings, and puts those of the same kind together.
#[derive(Default)]
struct Findings(Vec<Finding>, BTreeMap<Key, usize>);

impl Findings {
    fn add(&mut self, finding: Finding) {
        let key = (
            finding.id,
            finding.device,
            finding.peer,
            finding.meaning.clone(),
        );
        let Some(known) = self.1.get(&key).and_then(|at| self.0.get_mut(*at)) else {
            self.1.insert(key, self.0.len());
            self.0.push(finding);
            return;
        };
        known.count += finding.count;
        let room = LINES_MAX.saturating_sub(known.lines.len());
        known.lines.extend(finding.lines.iter().take(room));
    }
}

/// A rule for lines that mean the same wherever they are: what is in them, and what that means.
struct Rule {
    id: &'static str,
    state: State,
    /// What the line contains; an end of the text is what is told of it.
    text: &'static str,
    meaning: &'static str,
    remedies: &'static [&'static str],
}

const RULES: &[Rule] = &[
    Rule {
        id: "not-pci",
        state: State::Fail,
        text: "cannot be used for peer-to-peer DMA as it is not a PCI device",
        meaning: "the client has no PCI function above it, so that no device can reach \
                  peer-to-peer memory for it",
        remedies: &["use a client that is a PCI device; software such as soft RDMA cannot be one"],
    },
    Rule {
        id: "mmap-private",
        state: State::Fail,
        text: "fail, attempted private mapping",
        meaning: "a program mapped p2pmem/allocate without MAP_SHARED",
        remedies: &["map it with MAP_SHARED"],
    },
    Rule {
        id: "mmap-offset",
        state: State::Fail,
        text: "fail, attempted mapping with non-zero offset",
        meaning: "a program mapped p2pmem/allocate from an offset other than 0",
        remedies: &["map it from offset 0: every mapping is memory of its own"],
    },
    Rule {
        id: "cmb-refused",
        state: State::Fail,
        text: "failed to register the CMB",
        meaning:
            "the nvme driver could not give the Controller Memory Buffer to the kernel: it is \
                  no multiple of 2 MiB, does not begin at one, lies where the kernel maps nothing, \
                  or the kernel is built without CONFIG_PCI_P2PDMA",
        remedies: &[
            "p2pdma check DEVICE tells which of these it is",
            "grep CONFIG_PCI_P2PDMA= /boot/config-$(uname -r)",
        ],
    },
    Rule {
        id: "misaligned",
        state: State::Fail,
        text: "Misaligned __add_pages",
        meaning: "a driver gave memory to the kernel that does not begin and end at multiples of \
                  2 MiB",
        remedies: &["provide a part of the BAR that does"],
    },
    Rule {
        id: "not-a-provider",
        state: State::Fail,
        text: "PCI device has no peer-to-peer memory",
        meaning: "p2pmem of a namespace of the NVMe target names a device that provides none",
        remedies: &["p2pdma show lists all providers; bind p2pdma_provider to the device first"],
    },
    Rule {
        id: "target-none",
        state: State::Fail,
        text: "no peer-to-peer memory is available that's supported by",
        meaning: "the NVMe target found no published provider that both the client and the \
                  namespace's disk can reach, and uses system memory instead",
        remedies: &["p2pdma topo shows who can reach whom"],
    },
    Rule {
        id: "target-uses",
        state: State::Ok,
        text: "using p2pmem on",
        meaning: "the NVMe target uses peer-to-peer memory",
        remedies: &[],
    },
    Rule {
        id: "acs-parameter",
        state: State::Fail,
        text: "Can't parse ACS command line parameter",
        meaning: "pci=disable_acs_redir= or pci=config_acs= on the kernel's command line is \
                  malformed, and ignored from there on",
        remedies: &["separate the ports by ';' and quote the whole for the boot loader"],
    },
    Rule {
        id: "acs-parameter",
        state: State::Fail,
        text: "Invalid ACS flags",
        meaning: "pci=config_acs= has flags other than '0', '1' and 'x', and ignores them",
        remedies: &["write one character a bit, the highest first: config_acs=0x00xx@0000:00:01.0"],
    },
    Rule {
        id: "acs-parameter",
        state: State::Fail,
        text: "ACS Flags missing",
        meaning: "pci=config_acs= needs flags before the '@'",
        remedies: &["write one character a bit, the highest first: config_acs=0x00xx@0000:00:01.0"],
    },
    Rule {
        id: "acs-none",
        state: State::Note,
        text: "cannot disable ACS redirect for this hardware",
        meaning: "pci=disable_acs_redir= names a function without ACS: there is nothing to disable",
        remedies: &[],
    },
    Rule {
        id: "acs-configured",
        state: State::Note,
        text: "Configured ACS to",
        meaning: "ACS was set as the kernel's command line says",
        remedies: &[],
    },
    Rule {
        id: "acs-violation",
        state: State::Fail,
        text: "ACSViol",
        meaning: "a port blocked a request because of ACS: its source was not valid, or the \
                  request is not allowed to pass",
        remedies: &["p2pdma topo --tree shows the ACS bits of every port"],
    },
    Rule {
        id: "bar-unassigned",
        state: State::Fail,
        text: "can't assign; no space",
        meaning: "there was no room for a BAR, so that its memory cannot be provided",
        remedies: &[
            "boot with pci=realloc",
            "switch on \"Above 4G decoding\" in the firmware",
        ],
    },
    Rule {
        id: "iommu-translates",
        state: State::Note,
        text: "Default domain type: Translated",
        meaning: "the IOMMU translates: peer-to-peer traffic through the host bridge is mapped by \
                  it, and software that uses raw BAR addresses fails",
        remedies: &["boot with iommu=pt if such software has to be used"],
    },
    Rule {
        id: "provider",
        state: State::Fail,
        text: "cannot provide peer-to-peer memory:",
        meaning: "p2pdma_provider found no memory that the kernel can take",
        remedies: &["p2pdma check DEVICE shows the BARs; choose with bar=, offset= and size="],
    },
    Rule {
        id: "provider",
        state: State::Fail,
        text: "the kernel refuses the memory:",
        meaning: "the kernel did not take the memory that p2pdma_provider found",
        remedies: &["p2pdma check DEVICE shows the BARs; choose with bar=, offset= and size="],
    },
];

/// A word after a text: `fault addr 0xfe000000`.
fn after<'a>(text: &'a str, start: &str) -> Option<&'a str> {
    let (_, rest) = text.split_once(start)?;
    let end = rest.find(|c: char| c.is_whitespace() || matches!(c, ']' | ',' | ';'));
    Some(&rest[..end.unwrap_or(rest.len())])
}

fn hex(word: &str) -> Option<u64> {
    let digits = word.strip_prefix("0x").unwrap_or(word);
    u64::from_str_radix(digits, 16).ok()
}

/// A fault that an IOMMU reported.
struct Fault {
    device: Bdf,
    address: Option<u64>,
    /// Whether the device wanted to write, if the line says.
    write: Option<bool>,
}

/// The fault of a line, of any IOMMU.
fn fault(line: &str) -> Option<Fault> {
    // DMAR: [DMA Read NO_PASID] Request device [0000:05:00.0] fault addr 0xfe000000 [fault ...
    if let Some(device) = after(line, "Request device [").and_then(|word| word.parse().ok()) {
        return Some(Fault {
            device,
            address: after(line, "fault addr ").and_then(hex),
            write: Some(line.contains("[DMA Write")),
        });
    }
    // AMD-Vi: Event logged [IO_PAGE_FAULT device=0000:05:00.0 domain=0x000a address=0x... flags=...
    if let Some((before, event)) = line.split_once("[IO_PAGE_FAULT ") {
        let device = match after(event, "device=") {
            Some(word) => word.parse().ok()?,
            None => message(before)?.0,
        };
        let flags = after(event, "flags=").and_then(hex);
        return Some(Fault {
            device,
            address: after(event, "address=").and_then(hex),
            // AMD I/O Virtualization Technology Specification, event log: RW is bit 5
            write: flags.map(|flags| flags & 0x20 != 0),
        });
    }
    // arm-smmu-v3 ...: event: F_TRANSLATION client: 0000:05:00.0 sid: 0x500 ssid: 0x0 iova: 0x...
    if let Some((_, event)) = line.split_once("event: F_") {
        return Some(Fault {
            device: after(event, "client: ")?.parse().ok()?,
            address: after(event, "iova: ").and_then(hex),
            write: None,
        });
    }
    None
}

/// Memory that a line says was added: `added peer-to-peer DMA memory 0xfc000000-0xfdffffff`.
fn added(text: &str) -> Option<(u64, u64)> {
    let range = text.strip_prefix("added peer-to-peer DMA memory ")?;
    let (start, end) = range.split_once('-')?;
    Some((hex(start)?, hex(end.trim())?))
}

/// Ranges of a line, `[0x1000-0x1fff]` twice: what was to be mapped, and what can be.
fn ranges(text: &str) -> Option<[(u64, u64); 2]> {
    let mut parts = text.split('[').skip(1).map(|part| {
        let (start, end) = part.split_once(']')?.0.split_once('-')?;
        Some((hex(start)?, hex(end)?))
    });
    Some([parts.next()??, parts.next()??])
}

/// What the kernel said of pairs.
fn pairs(log: &Log, findings: &mut Findings) {
    for ((provider, client), verdict) in log.verdicts() {
        let redirects = match &verdict.bridges {
            Some(bridges) => format!("ACS of {} redirects", bridges.words()),
            None => "ACS redirects".to_owned(),
        };
        let (id, state, meaning) = match (verdict.acs_redirect, verdict.refused) {
            (true, true) => (
                "pair-acs",
                State::Fail,
                format!(
                    "refused: {redirects} what goes to {provider} up to the host bridge, which the \
                     kernel does not trust with it"
                ),
            ),
            (true, false) => (
                "pair-acs",
                State::Note,
                format!(
                    "allowed through the host bridge: {redirects} what goes to {provider}, and the \
                     kernel trusts the host bridge with it"
                ),
            ),
            (false, _) => (
                "pair-host-bridge",
                State::Fail,
                format!(
                    "refused: no bridge is above both this and {provider}, and the kernel does not \
                     trust the host bridge with it"
                ),
            ),
        };
        let mut remedies = Vec::new();
        if let Some(bridges) = &verdict.bridges {
            if bridges.complete {
                remedies.push(format!(
                    "boot with \"pci=disable_acs_redir={}\" (quoted, as ';' ends a command in many \
                     boot loaders; devices below are then less isolated)",
                    bridges.parameter()
                ));
                remedies.push(format!("or now, and then bind {provider} again:"));
                let ports = bridges
                    .said
                    .iter()
                    .map(|port| format!("setpci -s {port} ECAP_ACS+6.w=0000:002c"));
                remedies.extend(ports);
            } else {
                remedies.push(format!(
                    "the kernel's list of ports is cut, or damaged: as root, p2pdma check \
                     {provider} {client} names all of them, and tells how to change each"
                ));
            }
        } else if verdict.refused {
            remedies.push("put both below one PCIe switch".to_owned());
        }
        findings.add(Finding {
            id,
            state,
            device: Some(client),
            peer: Some(provider),
            meaning,
            remedies,
            count: verdict.lines.len(),
            lines: verdict.lines,
        });
    }
}

/// What is wrong with the kernel's command line, if it is in the log.
fn command_line(number: usize, line: &str, findings: &mut Findings) {
    let Some((_, options)) = line.split_once("ommand line: ") else {
        return;
    };
    if let Some(check) = crate::check::command_line(options) {
        findings.add(Finding {
            id: "command-line",
            state: check.state,
            device: None,
            peer: None,
            meaning: check.evidence,
            remedies: check.remedies,
            lines: vec![number],
            count: 1,
        });
    }
}

/// Explains a log.
pub fn diagnose(log: &Log) -> Diagnosis {
    let mut findings = Findings::default();
    let mut controllers: BTreeMap<&str, Bdf> = BTreeMap::new();
    let mut memory: BTreeMap<Bdf, (u64, u64)> = BTreeMap::new();
    pairs(log, &mut findings);
    for (number, line) in (1..).zip(log.lines()) {
        let told = message(line);
        let of = |id, state, device, meaning, remedies: Vec<String>| Finding {
            id,
            state,
            device,
            peer: None,
            meaning,
            remedies,
            lines: vec![number],
            count: 1,
        };
        // nvme nvme0: pci function 0000:01:00.0
        if let Some((before, function)) = line.split_once(": pci function ") {
            let name = before.rsplit(' ').next();
            if let Some((name, bdf)) = name.zip(function.trim().parse().ok()) {
                controllers.insert(name, bdf);
            }
            continue;
        }
        if let Some((device, range)) = told.and_then(|(bdf, text)| Some((bdf, added(text)?))) {
            memory.insert(device, range);
            let meaning = format!("provides the memory {:#x}-{:#x}", range.0, range.1);
            findings.add(of("provides", State::Ok, Some(device), meaning, Vec::new()));
            continue;
        }
        if let Some(fault) = fault(line) {
            findings.add(of_fault(&fault, &memory, number));
            continue;
        }
        if let Some((_, ids)) = line.split_once("Host bridge not in P2PDMA whitelist: ") {
            let meaning = format!(
                "this host bridge, [{}], is not in the kernel's list of those that pass \
                 peer-to-peer traffic from one root port to another",
                ids.trim()
            );
            let device = told.map(|(bdf, _)| bdf);
            let remedies = vec!["put both devices below one PCIe switch".to_owned()];
            findings.add(of("host-bridge", State::Fail, device, meaning, remedies));
            continue;
        }
        if let Some((_, text)) = line.split_once("Hotplug memory [") {
            let text = format!("[{text}");
            let side = match ranges(&text) {
                Some([memory, linear]) if memory.0 < linear.0 => "below",
                _ => "beyond",
            };
            let meaning = format!(
                "memory that a driver provides lies {side} what the linear map of this kernel \
                 covers: {text}"
            );
            let remedies = vec![
                "let the firmware place the BAR elsewhere (\"MMIO base\", \"Above 4G decoding\")"
                    .to_owned(),
            ];
            findings.add(of("linear-map", State::Fail, None, meaning, remedies));
            continue;
        }
        command_line(number, line, &mut findings);
        if let Some(rule) = RULES.iter().find(|rule| line.contains(rule.text)) {
            let named = || {
                let (before, _) = line.split_once(rule.text)?;
                let name = before.trim_end_matches([' ', ':']).rsplit(' ').next()?;
                controllers.get(name).copied()
            };
            let device = told.map(|(bdf, _)| bdf).or_else(named);
            let rest = line
                .split_once(rule.text)
                .map_or("", |(_, rest)| rest.trim());
            let meaning = match rest {
                "" => rule.meaning.to_owned(),
                rest => format!("{} ({rest})", rule.meaning),
            };
            let remedies = rule.remedies.iter().map(|text| {
                let name = device.map_or("DEVICE".to_owned(), |bdf| bdf.to_string());
                text.replace("DEVICE", &name)
            });
            findings.add(of(rule.id, rule.state, device, meaning, remedies.collect()));
        }
    }
    let mut findings = findings.0;
    findings.sort_by_key(|finding| (finding.device, finding.lines.first().copied()));
    Diagnosis {
        schema: SCHEMA,
        lines: log.lines().len(),
        findings,
    }
}

/// What a fault means, with what the log says of peer-to-peer memory.
fn of_fault(fault: &Fault, memory: &BTreeMap<Bdf, (u64, u64)>, number: usize) -> Finding {
    let what = match fault.write {
        Some(true) => "a write",
        Some(false) => "a read",
        None => "an access",
    };
    let provider = fault.address.and_then(|address| {
        let holds = |(start, end): &(u64, u64)| (*start..=*end).contains(&address);
        let found = memory.iter().find(|(_, range)| holds(range));
        found.map(|(bdf, _)| *bdf)
    });
    let (meaning, remedies) = match provider {
        Some(provider) => (
            format!(
                "the IOMMU stopped {what} by this device to memory that {provider} provides: the \
                 address of the bus went up to the IOMMU, which has no mapping for it"
            ),
            vec![
                "below one switch: p2pdma check tells whether ACS was switched on after the pair \
                 was judged; bind the provider again"
                    .to_owned(),
                "in a virtual machine: the host sends such traffic to its IOMMU; boot the guest \
                 with iommu=pt"
                    .to_owned(),
                "software that uses raw BAR addresses: boot with iommu=pt".to_owned(),
            ],
        ),
        None => (
            format!(
                "the IOMMU stopped {what} by this device, to no peer-to-peer memory of this log"
            ),
            vec![
                "if the address is one of a BAR (lspci -v): software that uses raw BAR addresses \
                 needs iommu=pt"
                    .to_owned(),
            ],
        ),
    };
    Finding {
        id: if provider.is_some() {
            "iommu-p2p-fault"
        } else {
            "iommu-fault"
        },
        state: State::Fail,
        device: Some(fault.device),
        peer: provider,
        meaning,
        remedies,
        lines: vec![number],
        count: 1,
    }
}

/// Prints what was found.
pub fn text(diagnosis: &Diagnosis, mut out: impl Write) -> io::Result<()> {
    if diagnosis.findings.is_empty() {
        let lines = diagnosis.lines;
        return writeln!(
            out,
            "Nothing about peer-to-peer DMA, ACS, IOMMU faults or CMBs in {lines} lines."
        );
    }
    let mut device = None;
    for finding in &diagnosis.findings {
        if device != Some(finding.device) {
            if device.is_some() {
                writeln!(out)?;
            }
            let name = finding
                .device
                .map_or("the machine".to_owned(), |bdf| bdf.to_string());
            writeln!(out, "{}", styled(HEADING, &name))?;
            device = Some(finding.device);
        }
        let state = match finding.state {
            State::Ok => styled(GOOD, "ok     "),
            State::Note => "note   ".to_owned(),
            State::Fail => styled(BAD, "FAIL   "),
            State::Unknown => styled(REFUSED, "unknown"),
        };
        let lines: Vec<_> = finding.lines.iter().map(usize::to_string).collect();
        let more = if finding.count > finding.lines.len() {
            ", ..."
        } else {
            ""
        };
        let plural = if finding.count == 1 { "line" } else { "lines" };
        let meaning = format!("{} ({plural} {}{more})", finding.meaning, lines.join(", "));
        writeln!(out, "{}", hanging(&format!("  {state} "), &meaning))?;
        for remedy in &finding.remedies {
            writeln!(out, "{}", hanging("          - ", remedy))?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::text::WIDTH;

    fn bdf(text: &str) -> Bdf {
        text.parse().expect("an address")
    }

    fn of(lines: &[&str]) -> Diagnosis {
        diagnose(&Log::of(&lines.join("\n")))
    }

    fn ids(diagnosis: &Diagnosis) -> Vec<(&str, State, Option<Bdf>)> {
        let findings = diagnosis.findings.iter();
        findings.map(|f| (f.id, f.state, f.device)).collect()
    }

    const XE: &str = "[   12.000001] xe 0000:07:00.0: cannot be used for peer-to-peer DMA as the \
         client and provider (0000:03:00.0) do not share an upstream bridge or whitelisted host \
         bridge";

    /// Case of users: two accelerators on a host bridge that is not in the list.
    #[test]
    fn explains_a_refusal() {
        let list = "[   12.0] pci 0000:00:00.0: Host bridge not in P2PDMA whitelist: 8086:4c43";
        let found = of(&[list, XE]);
        assert!(found.is_bad());
        assert_eq!(
            ids(&found),
            [
                ("host-bridge", State::Fail, Some(bdf("00:00.0"))),
                ("pair-host-bridge", State::Fail, Some(bdf("07:00.0")))
            ]
        );
        assert!(found.findings[0].meaning.contains("[8086:4c43]"));
        assert!(found.findings[1].remedies[0].contains("one PCIe switch"));
    }

    /// Two lines about ACS, and no refusal: the pair is allowed. Lines interleave.
    #[test]
    fn tells_allowed_from_refused() {
        let acs = |client: &str| {
            [
                format!(
                    "nvme {client}: ACS redirect is set between the client and provider \
                     (0000:01:00.0)"
                ),
                format!(
                    "nvme {client}: to disable ACS redirect for this path, add the kernel \
                     parameter: pci=disable_acs_redir=0000:00:01.0;0000:00:02.0"
                ),
                format!(
                    "nvme {client}: cannot be used for peer-to-peer DMA as the client and \
                     provider (0000:01:00.0) do not share an upstream bridge or whitelisted \
                     host bridge"
                ),
            ]
        };
        let (a, b) = (acs("0000:02:00.0"), acs("10000:02:00.0"));
        let found = of(&[&a[0], &b[0], &a[1], &b[1], &b[2]]);
        assert_eq!(
            ids(&found),
            [
                ("pair-acs", State::Note, Some(bdf("02:00.0"))),
                ("pair-acs", State::Fail, Some(bdf("10000:02:00.0")))
            ]
        );
        assert!(found.findings[0]
            .meaning
            .starts_with("allowed through the host bridge"));
        assert_eq!(found.findings[1].lines, [2, 4, 5]);
        let remedies = found.findings[1].remedies.join("\n");
        assert!(
            remedies.contains("\"pci=disable_acs_redir=0000:00:01.0;0000:00:02.0\""),
            "{remedies}"
        );
        assert!(
            remedies.contains("setpci -s 0000:00:02.0 ECAP_ACS+6.w=0000:002c"),
            "{remedies}"
        );
    }

    /// Commands are made of addresses alone, and of whole lists: what else there is in a log, and
    /// half an address, which names every function of a slot, is not for a shell.
    #[test]
    fn makes_no_commands_of_what_may_be_anything() {
        let nine: Vec<_> = (0x20..0x29)
            .map(|bus| format!("0000:{bus:02x}:00.0;"))
            .collect();
        let nine = nine.concat();
        for list in [
            "$(rm -rf /);`id`",
            "0000:00:01.0;$(rm -rf /)",
            &format!("{nine}0000:29:00"),
        ] {
            let found = of(&[
                "nvme 0000:12:00.0: ACS redirect is set between the client and provider \
                 (0000:0e:00.0)",
                &format!(
                    "nvme 0000:12:00.0: to disable ACS redirect for this path, add the kernel \
                     parameter: pci=disable_acs_redir={list}"
                ),
            ]);
            assert_eq!(
                ids(&found),
                [("pair-acs", State::Note, Some(bdf("12:00.0")))]
            );
            let said = serde_json::to_string(&found).expect("JSON");
            for text in ["setpci", "rm -rf", "`", "disable_acs_redir", "0000:29:00"] {
                assert!(!said.contains(text), "{text}: {said}");
            }
            let remedy = "p2pdma check 0000:0e:00.0 0000:12:00.0 names all of them";
            assert!(said.contains(remedy), "{said}");
        }
    }

    #[test]
    fn names_the_controller_of_a_cmb() {
        let found = of(&[
            "nvme nvme0: pci function 0000:01:00.0",
            "nvme nvme1: pci function 0000:04:00.0",
            "[    3.1] nvme nvme1: failed to register the CMB",
            "nvme 0000:05:00.0: failed to register the CMB",
        ]);
        assert_eq!(
            ids(&found),
            [
                ("cmb-refused", State::Fail, Some(bdf("04:00.0"))),
                ("cmb-refused", State::Fail, Some(bdf("05:00.0")))
            ]
        );
        assert!(found.findings[0].meaning.contains("CONFIG_PCI_P2PDMA"));
        assert_eq!(
            found.findings[0].remedies[0],
            "p2pdma check 0000:04:00.0 tells which of these it is"
        );
    }

    /// Faults of all kinds of IOMMUs, at an address of a provider and elsewhere.
    #[test]
    fn explains_faults() {
        let added =
            "p2pdma_provider 0000:05:00.0: added peer-to-peer DMA memory 0xf0000000-0xf3ffffff";
        for line in [
            "DMAR: [DMA Write NO_PASID] Request device [0000:04:00.0] fault addr 0xf0001000 \
             [fault reason 0x05] PTE Write access is not set",
            "DMAR: [DMA Write] Request device [04:00.0] fault addr f0001000 [fault reason 05] PTE \
             Write access is not set",
            "AMD-Vi: Event logged [IO_PAGE_FAULT device=0000:04:00.0 domain=0x000a \
             address=0xf0001000 flags=0x0020]",
            "nvme 0000:04:00.0: AMD-Vi: Event logged [IO_PAGE_FAULT domain=0x000a \
             address=0xf0001000 flags=0x0020]",
        ] {
            let found = of(&[added, line, line]);
            let fault = &found.findings[0];
            assert_eq!(
                (fault.id, fault.device),
                ("iommu-p2p-fault", Some(bdf("04:00.0"))),
                "{line}"
            );
            assert_eq!(
                (fault.peer, fault.count),
                (Some(bdf("05:00.0")), 2),
                "{line}"
            );
            assert!(fault.meaning.contains("stopped a write"), "{line}");
            let found = of(&[line]);
            assert_eq!(found.findings[0].id, "iommu-fault", "{line}");
        }
        let smmu = "arm-smmu-v3 arm-smmu-v3.0.auto: event: F_TRANSLATION client: 0000:04:00.0 \
                    sid: 0x400 ssid: 0x0 iova: 0xf0000040 ipa: 0x0";
        let found = of(&[added, smmu]);
        assert_eq!(found.findings[0].peer, Some(bdf("05:00.0")));
        assert!(found.findings[0].meaning.contains("an access"));
    }

    /// On arm64 the linear map may begin above a BAR.
    #[test]
    fn tells_below_from_beyond() {
        for (line, side) in [
            (
                "Hotplug memory [0x58500000-0x58900000] exceeds maximum addressable range \
                 [0x80000000-0x40007fffffff]",
                "below",
            ),
            (
                "Hotplug memory [0x800000000000-0x800003ffffff] exceeds maximum addressable range \
                 [0x0-0x3fffffffffff]",
                "beyond",
            ),
        ] {
            let found = of(&[line]);
            assert_eq!(found.findings[0].id, "linear-map");
            let said = format!("lies {side} what the linear map");
            assert!(found.findings[0].meaning.contains(&said), "{line}");
        }
    }

    #[test]
    fn notices_commas() {
        let found =
            of(&["Kernel command line: quiet pci=disable_acs_redir=0000:0c:10.0,0000:0a:00.0"]);
        assert_eq!(found.findings[0].id, "command-line");
        assert!(found.findings[0].remedies[0].contains("0000:0c:10.0;0000:0a:00.0"));
    }

    #[test]
    fn says_that_there_is_nothing() {
        let found = of(&["usb 1-1: new device", ""]);
        assert!(!found.is_bad());
        let mut out = Vec::new();
        text(&found, &mut out).expect("output");
        assert!(String::from_utf8_lossy(&out).starts_with("Nothing about"));
    }

    #[test]
    fn every_rule_is_found_and_fits() {
        for rule in RULES {
            let line = format!("[    1.0] nvme 0000:04:00.0: {} rest", rule.text);
            let found = of(&[&line]);
            assert_eq!(ids(&found), [(rule.id, rule.state, Some(bdf("04:00.0")))]);
            let mut out = Vec::new();
            text(&found, &mut out).expect("output");
            let out = anstream::adapter::strip_str(&String::from_utf8_lossy(&out)).to_string();
            assert!(out.starts_with("0000:04:00.0\n"), "{out}");
            assert!(
                out.lines().all(|line| line.chars().count() <= WIDTH),
                "{out}"
            );
        }
    }
}
