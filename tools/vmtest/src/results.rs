// SPDX-License-Identifier: GPL-2.0

//! What is left of a run: KTAP per topology, one JSON and one JUnit summary.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result};
use p2pdma_common::Arch;
use quick_junit::{NonSuccessKind, Report, TestCase, TestCaseStatus, TestSuite};
use serde::{Deserialize, Serialize};

use crate::ktap::Status;
use crate::report::{ktap_lines, TestReport, TopologyReport, Totals};
use crate::run::{create, Sink};
use crate::schedule::{self, Part};
use crate::suite::Test;
use crate::ui::Ui;

/// Where the lines of a topology go beside its file.
pub enum Live {
    /// To standard output, as they come.
    Stream(Ui),
    /// Into memory, until it is its turn.
    Buffer(Vec<String>),
}

/// Writes KTAP as kselftest's runner would, to a file and live.
pub struct KtapSink {
    collection: String,
    guest: String,
    file: File,
    path: PathBuf,
    ui: Ui,
    live: Live,
    number: usize,
}

impl KtapSink {
    /// Starts a document for `count` tests and the kernel log of a guest.
    pub fn new(
        collection: &str,
        guest: &str,
        path: PathBuf,
        count: usize,
        ui: &Ui,
        live: Live,
    ) -> Result<Self> {
        let mut sink = Self {
            collection: collection.into(),
            guest: guest.into(),
            file: create(&path)?,
            path,
            ui: ui.clone(),
            live,
            number: 0,
        };
        sink.line("KTAP version 1")?;
        sink.line(&format!("1..{}", count + 1))?;
        Ok(sink)
    }

    /// Lines that were kept back.
    pub fn buffered(self) -> Vec<String> {
        self.ui.progress_of(&self.guest, None);
        match self.live {
            Live::Stream(_) => Vec::new(),
            Live::Buffer(lines) => lines,
        }
    }

    fn line(&mut self, line: &str) -> Result<()> {
        writeln!(self.file, "{line}").with_context(|| self.path.display().to_string())?;
        // A topology is one test of the run, so its own lines are one level deeper.
        let nested = format!("  {line}");
        match &mut self.live {
            Live::Stream(ui) => ui.line(&nested),
            Live::Buffer(lines) => {
                lines.push(nested);
                Ok(())
            }
        }
    }
}

impl Sink for KtapSink {
    fn stage(&mut self, stage: &str) -> Result<()> {
        self.ui.progress_of(&self.guest, Some(stage));
        Ok(())
    }

    fn started(&mut self, test: &Test) -> Result<()> {
        self.ui.progress_of(&self.guest, Some(&test.name));
        self.line(&format!("# timeout set to {}", test.timeout()))?;
        self.line(&format!("# selftests: {}: {}", self.collection, test.name))
    }

    fn output(&mut self, line: &str, _err: bool) -> Result<()> {
        // Whatever a program prints, it shall not reach the terminal as an escape sequence.
        let clean: String = line
            .chars()
            .map(|c| {
                if c.is_control() && c != '\t' {
                    '\u{fffd}'
                } else {
                    c
                }
            })
            .collect();
        self.line(format!("# {clean}").trim_end())
    }

    fn finished(&mut self, report: &TestReport) -> Result<()> {
        self.number += 1;
        for line in ktap_lines(self.number, &self.collection, report) {
            self.line(&line)?;
        }
        Ok(())
    }
}

/// The whole run, as `summary.json` has it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Summary {
    /// Flavour of the kernel.
    pub flavour: String,
    /// Its release.
    pub release: String,
    /// Its architecture.
    pub architecture: Arch,
    /// Which shard of the run it is, if it is one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub shard: Option<Part>,
    /// Of a shard: all tests of the whole run, by topology.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub planned: Option<BTreeMap<String, Vec<String>>>,
    /// Numbers of cases.
    pub totals: Totals,
    /// All topologies.
    pub topologies: Vec<TopologyReport>,
}

impl Summary {
    /// Counts.
    pub fn new(
        flavour: &str,
        release: &str,
        architecture: Arch,
        shard: Option<Part>,
        topologies: Vec<TopologyReport>,
    ) -> Self {
        let cases = topologies.iter().flat_map(TopologyReport::cases);
        Self {
            flavour: flavour.into(),
            release: release.into(),
            architecture,
            shard,
            planned: None,
            totals: Totals::of(cases.map(|(_, case)| case)),
            topologies,
        }
    }

    /// Reads that of a directory with results.
    pub fn read(directory: &Path) -> Result<Self> {
        let path = directory.join(SUMMARIES[0]);
        let text = fs::read_to_string(&path).with_context(|| {
            format!(
                "{}: cannot be read; `vmtest run --results DIR` writes one, and `vmtest merge`",
                path.display()
            )
        })?;
        serde_json::from_str(&text)
            .with_context(|| format!("{}: not written by this version of vmtest", path.display()))
    }
}

/// What [`write_summaries()`] writes.
pub const SUMMARIES: [&str; 2] = ["summary.json", "junit.xml"];

/// Writes `summary.json` and `junit.xml` into `directory`.
pub fn write_summaries(directory: &Path, summary: &Summary) -> Result<()> {
    let path = directory.join(SUMMARIES[0]);
    let mut file = create(&path)?;
    serde_json::to_writer_pretty(&mut file, summary)
        .map_err(anyhow::Error::from)
        .and_then(|()| Ok(file.write_all(b"\n")?))
        .with_context(|| path.display().to_string())?;
    let path = directory.join(SUMMARIES[1]);
    junit(summary)
        .serialize(create(&path)?)
        .with_context(|| path.display().to_string())
}

fn junit(summary: &Summary) -> Report {
    let mut report = Report::new(format!("p2pdma on {}", summary.release));
    for topology in &summary.topologies {
        let mut suite = TestSuite::new(topology.name.as_str());
        for (test, case) in topology.cases() {
            let status = match case.status {
                Status::Pass | Status::Xpass | Status::Xfail => TestCaseStatus::success(),
                Status::Skip => {
                    let mut status = TestCaseStatus::skipped();
                    status.set_message(case.reason.as_str());
                    status
                }
                Status::Fail => {
                    let mut status = TestCaseStatus::non_success(NonSuccessKind::Failure);
                    status.set_message(case.reason.as_str());
                    status.set_description(
                        [&test.diagnostics[..], &test.output[..]]
                            .concat()
                            .join("\n"),
                    );
                    status
                }
            };
            let mut entry = TestCase::new(case.name.as_str(), status);
            entry.set_classname(format!("{}.{}", topology.name, test.name));
            if matches!(case.status, Status::Xfail | Status::Xpass) {
                entry.set_system_out(format!("{:?}: {}", case.status, case.reason));
            }
            if test.cases.len() == 1 {
                entry.set_time(Duration::from_secs_f64(test.seconds));
            }
            suite.add_test_case(entry);
        }
        suite.set_time(Duration::from_secs_f64(topology.seconds));
        report.add_test_suite(suite);
    }
    report
}

/// Topologies that are named in one line; more of them are counted.
const NAMED: usize = 3;

/// Cases of one test that share a reason.
struct Group<'a> {
    test: &'a str,
    reason: &'a str,
    topologies: BTreeSet<&'a str>,
    cases: usize,
}

/// A case that did not end the same way in all rounds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Flaky {
    /// Its topology, test and name.
    pub name: String,
    /// How often it ended how; `None` stands for not at all.
    pub outcomes: Vec<(Option<Status>, usize)>,
}

impl std::fmt::Display for Flaky {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let outcomes: Vec<String> = self
            .outcomes
            .iter()
            .map(|(status, count)| match status {
                Some(status) => format!("{} {count} times", status.name()),
                None => format!("missing {count} times"),
            })
            .collect();
        write!(f, "{}: {}", self.name, outcomes.join(", "))
    }
}

/// Compares the rounds of a run with each other, case by case.
pub fn flaky(rounds: &[Vec<TopologyReport>]) -> Vec<Flaky> {
    // Cases may have the same name; they are then told apart by their order.
    let mut seen: BTreeMap<(String, usize), Vec<Status>> = BTreeMap::new();
    for round in rounds {
        let mut count: BTreeMap<String, usize> = BTreeMap::new();
        for topology in round {
            for (test, case) in topology.cases() {
                let mut name = format!("{}: {}", topology.name, test.name);
                if case.name != test.name {
                    name += &format!(": {}", case.name);
                }
                let number = count.entry(name.clone()).or_default();
                seen.entry((name, *number)).or_default().push(case.status);
                *number += 1;
            }
        }
    }
    let differs = |statuses: &Vec<Status>| {
        statuses.len() != rounds.len() || statuses.iter().any(|status| *status != statuses[0])
    };
    seen.into_iter()
        .filter(|(_, statuses)| differs(statuses))
        .map(|((name, _), statuses)| {
            let mut outcomes: Vec<(Option<Status>, usize)> = Vec::new();
            let missing = std::iter::repeat_n(None, rounds.len() - statuses.len());
            for status in statuses.into_iter().map(Some).chain(missing) {
                match outcomes.iter_mut().find(|(known, _)| *known == status) {
                    Some((_, count)) => *count += 1,
                    None => outcomes.push((status, 1)),
                }
            }
            Flaky { name, outcomes }
        })
        .collect()
}

/// The rounds in which all guests were run to their end: the others say nothing of what is flaky.
pub fn whole_rounds(rounds: &[Vec<TopologyReport>], guests: usize) -> Vec<Vec<TopologyReport>> {
    let whole = rounds.iter().filter(|round| round.len() == guests);
    whole.cloned().map(schedule::join).collect()
}

/// The lines after the KTAP: what failed, what was skipped and why, and the totals.
pub fn closing_lines(topologies: &[TopologyReport], totals: Totals) -> Vec<String> {
    let mut lines = Vec::new();
    for (status, what) in [
        (Status::Xfail, "expected failure"),
        (Status::Xpass, "unexpected pass"),
        (Status::Skip, "skipped"),
    ] {
        lines.extend(groups(topologies, status).iter().map(|group| {
            let place = if group.topologies.len() > NAMED {
                format!("{} topologies", group.topologies.len())
            } else {
                let names: Vec<&str> = group.topologies.iter().copied().collect();
                names.join(", ")
            };
            let Group {
                test,
                cases,
                reason,
                ..
            } = group;
            format!("# {what}: {test}: {reason} ({cases} cases in {place})")
        }));
    }
    for topology in topologies {
        for (test, case) in topology.cases() {
            if case.status == Status::Fail {
                let name = if case.name == test.name {
                    String::new()
                } else {
                    format!(": {}", case.name)
                };
                lines.push(format!(
                    "# FAILED: {}: {}{name}: {}",
                    topology.name, test.name, case.reason
                ));
            }
        }
    }
    if totals.xfailed + totals.xpassed > 0 {
        lines.push(format!(
            "# not counted below: {} expected failures and {} unexpected passes (known defects)",
            totals.xfailed, totals.xpassed
        ));
    }
    lines.push(format!(
        "{} passed, {} failed, {} skipped",
        totals.passed, totals.failed, totals.skipped
    ));
    lines
}

fn groups(topologies: &[TopologyReport], status: Status) -> Vec<Group<'_>> {
    let mut groups: Vec<Group<'_>> = Vec::new();
    for topology in topologies {
        for (test, case) in topology.cases().filter(|(_, case)| case.status == status) {
            let known = groups
                .iter_mut()
                .find(|group| group.test == test.name && group.reason == case.reason);
            match known {
                Some(group) => {
                    group.topologies.insert(&topology.name);
                    group.cases += 1;
                }
                None => groups.push(Group {
                    test: &test.name,
                    reason: &case.reason,
                    topologies: BTreeSet::from([topology.name.as_str()]),
                    cases: 1,
                }),
            }
        }
    }
    groups
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ktap::Case;
    use std::fs;

    fn topology() -> TopologyReport {
        let case = |name: &str, status, reason: &str| Case {
            name: name.into(),
            status,
            reason: reason.into(),
        };
        TopologyReport {
            name: "switch".into(),
            part: Part::WHOLE,
            tests: vec![TestReport {
                name: "t".into(),
                status: Status::Fail,
                reason: "exit=1".into(),
                cases: vec![
                    case("a", Status::Pass, ""),
                    case("b", Status::Fail, "1 < 2 & \u{1b}[0m"),
                    case("c", Status::Skip, "no device"),
                    case("d", Status::Xfail, "known"),
                ],
                seconds: 1.5,
                diagnostics: vec!["x".into()],
                output: vec!["y".into()],
            }],
            accelerator: "kvm".into(),
            boots: 1,
            seconds: 9.0,
            boot_seconds: 4.0,
        }
    }

    #[test]
    fn summaries_are_written_and_readable() {
        let directory = tempfile::tempdir().expect("tempdir");
        let summary = Summary::new("stock", "7.3.4", Arch::X86_64, None, vec![topology()]);
        let inside = directory.path().join("7.3.4");
        write_summaries(&inside, &summary).expect("writes");
        assert_eq!(Summary::read(&inside).expect("reads"), summary);
        let json = fs::read_to_string(inside.join("summary.json")).expect("json");
        let json: serde_json::Value = serde_json::from_str(&json).expect("parses");
        assert_eq!(json["totals"]["failed"], 1);
        assert_eq!(
            json["topologies"][0]["tests"][0]["cases"][1]["status"],
            "fail"
        );
        let xml = fs::read_to_string(inside.join("junit.xml")).expect("xml");
        assert!(xml.contains("1 &lt; 2 &amp;"), "{xml}");
        assert!(xml.contains("failures=\"1\""), "{xml}");
        assert!(!xml.contains('\u{1b}'), "{xml}");
        // A place that cannot be written is named.
        fs::write(directory.path().join("file"), "").expect("write");
        let error = write_summaries(&directory.path().join("file"), &summary);
        assert!(format!("{:#}", error.expect_err("fails")).contains("file"));
    }

    #[test]
    fn what_differs_between_rounds_is_flaky() {
        let first = topology();
        assert_eq!(flaky(&[vec![first.clone()], vec![first.clone()]]), []);
        let mut second = first.clone();
        second.tests[0].cases[1].status = Status::Pass;
        second.tests[0].cases.pop();
        let found = flaky(&[vec![first.clone()], vec![second], vec![first]]);
        let found: Vec<String> = found.iter().map(Flaky::to_string).collect();
        assert_eq!(
            found,
            [
                "switch: t: b: fail 2 times, pass 1 times",
                "switch: t: d: xfail 2 times, missing 1 times",
            ]
        );
    }

    #[test]
    fn only_whole_rounds_are_compared() {
        let (mut first, mut part) = (topology(), topology());
        first.name = "cmb-only".into();
        part.part = Part { number: 1, of: 2 };
        let mut other = part.clone();
        other.part.number = 2;
        let round = || vec![first.clone(), part.clone(), other.clone()];
        let rounds = [round(), vec![first.clone(), part.clone()], Vec::new()];
        let whole = whole_rounds(&rounds, 3);
        assert_eq!(whole.len(), 1);
        // What was run in parts is one again.
        assert!(whole[0].iter().all(|report| report.part == Part::WHOLE));
        assert_eq!(flaky(&whole), []);
        assert_eq!(whole_rounds(&[round(), round()], 3).len(), 2);
    }

    #[test]
    fn the_last_line_counts() {
        let topologies = [topology()];
        let totals = Totals::of(topologies[0].cases().map(|(_, case)| case));
        let lines = closing_lines(&topologies, totals);
        assert_eq!(
            lines.last().map(String::as_str),
            Some("1 passed, 1 failed, 1 skipped")
        );
        assert!(lines[lines.len() - 2].contains("1 expected failures"));
        assert!(lines.contains(&"# skipped: t: no device (1 cases in switch)".into()));
        assert!(lines
            .iter()
            .any(|line| line.starts_with("# FAILED: switch: t: b: 1 < 2")));
    }

    #[test]
    fn escape_sequences_do_not_get_through() {
        let directory = tempfile::tempdir().expect("tempdir");
        let path = directory.path().join("a/b.ktap");
        let mut sink = KtapSink::new(
            "p2pdma",
            "switch",
            path.clone(),
            1,
            &Ui::new(),
            Live::Buffer(Vec::new()),
        )
        .expect("creates");
        sink.output("a\tb\u{1b}[31m", false).expect("writes");
        sink.output("", true).expect("writes");
        let lines = sink.buffered();
        assert_eq!(lines[..2], ["  KTAP version 1", "  1..2"]);
        assert_eq!(lines[2], "  # a\tb\u{fffd}[31m");
        assert_eq!(lines[3], "  #");
        let file = fs::read_to_string(path).expect("a file");
        assert!(file.starts_with("KTAP version 1\n1..2\n# a\tb"));
    }
}
