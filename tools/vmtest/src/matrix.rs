// SPDX-License-Identifier: GPL-2.0

//! What P2PDMA makes of all pairs in all topologies, on all kernels that were tested: a table for
//! the documentation, made from the results of runs.
//!
//! Each verdict has three sides. Predicted is what the topology's file expects. The kernel's own is
//! what `p2pdma_map` saw: the type that mapping a scatterlist chose, or that it was refused.
//! Verified is what `p2pdma_odirect` saw: whether the data are those that were sent.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write;

use anyhow::{bail, Result};
use p2pdma_common::Arch;
use serde::Serialize;

use crate::ktap::{Case, Status};
use crate::report::TopologyReport;
use crate::results::Summary;
use crate::topology::{Topology, Verdict};

/// The two sides that were measured on one kernel.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Seen {
    /// Whether the kernel's verdict is as predicted; absent if it was not looked at.
    pub kernel: Option<Outcome>,
    /// Whether the data, or the refusal, are as predicted; absent likewise.
    pub verified: Option<Outcome>,
}

/// What came of several cases of a test.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Outcome {
    /// All as predicted.
    Good,
    /// Not, because of a known defect.
    Defect(String),
    /// None of them ran.
    Skipped,
    /// Something else.
    Wrong,
}

/// One row: pairs of a topology, on one architecture, of which the same is predicted and seen.
#[derive(Debug, Serialize)]
pub struct Row {
    /// The topology.
    pub topology: String,
    /// The architecture of its machine.
    pub architecture: Arch,
    /// Kind of the provider, and serial of the client.
    pub pairs: Vec<(String, String)>,
    /// What the topology's file expects.
    pub predicted: Verdict,
    /// What was seen, by series of the kernel.
    pub seen: BTreeMap<String, Seen>,
}

/// What a kernel is called in the table: its series, and its flavour where that is not the
/// distribution's.
fn column(summary: &Summary) -> String {
    let mut numbers = summary.release.split(|c: char| !c.is_ascii_digit());
    let (major, minor) = (numbers.next(), numbers.next());
    let series = format!("{}.{}", major.unwrap_or("?"), minor.unwrap_or("?"));
    if summary.flavour.starts_with("stock") {
        series
    } else {
        format!("{series} {}", summary.flavour)
    }
}

/// The pair in the name of a case: kind of the provider, and serial of the client; with what
/// follows.
///
/// `pair.cmb@0000:03:00.0>data.map` and `odirect.cmb@0000:03:00.0>data/4K.read` are such names.
fn pair<'a>(case: &'a Case, prefix: &str, end: char) -> Option<((String, String), &'a str)> {
    let (provider, rest) = case.name.strip_prefix(prefix)?.split_once('>')?;
    let (kind, _) = provider.split_once('@')?;
    let (client, rest) = rest.split_once(end)?;
    Some(((kind.to_owned(), client.to_owned()), rest))
}

fn outcome<'a>(cases: impl Iterator<Item = &'a Case>) -> Option<Outcome> {
    let mut found: Option<Outcome> = None;
    for case in cases {
        let this = match case.status {
            Status::Pass => Outcome::Good,
            Status::Xfail => Outcome::Defect(case.reason.clone()),
            Status::Skip => Outcome::Skipped,
            Status::Fail | Status::Xpass => Outcome::Wrong,
        };
        // The worst counts: a defect may show in some transfers only.
        let rank = |outcome: &Outcome| match outcome {
            Outcome::Skipped => 0,
            Outcome::Good => 1,
            Outcome::Defect(_) => 2,
            Outcome::Wrong => 3,
        };
        if found.as_ref().is_none_or(|found| rank(&this) > rank(found)) {
            found = Some(this);
        }
    }
    found
}

/// What was seen of each pair in a topology.
fn seen(report: &TopologyReport) -> BTreeMap<(String, String), Seen> {
    let mut map: BTreeMap<_, Vec<&Case>> = BTreeMap::new();
    let mut data: BTreeMap<_, Vec<&Case>> = BTreeMap::new();
    for (_, case) in report.cases() {
        if let Some((pair, "map")) = pair(case, "pair.", '.') {
            map.entry(pair).or_default().push(case);
        } else if let Some((pair, _)) = pair(case, "odirect.", '/') {
            data.entry(pair).or_default().push(case);
        }
    }
    let pairs: BTreeSet<_> = map.keys().chain(data.keys()).cloned().collect();
    let of = |cases: &BTreeMap<_, Vec<&Case>>, pair: &_| {
        outcome(cases.get(pair).into_iter().flatten().copied())
    };
    pairs
        .into_iter()
        .map(|pair| {
            let seen = Seen {
                kernel: of(&map, &pair),
                verified: of(&data, &pair),
            };
            (pair, seen)
        })
        .collect()
}

/// The rows for the results of several runs, by topology and architecture.
pub fn rows(summaries: &[Summary], topologies: &BTreeMap<String, Topology>) -> Result<Vec<Row>> {
    // By pair, and then by kernel.
    type Pairs = BTreeMap<(String, String), BTreeMap<String, Seen>>;
    let mut all: BTreeMap<(&str, Arch), Pairs> = BTreeMap::new();
    for summary in summaries {
        for report in &summary.topologies {
            let pairs = all.entry((&report.name, summary.architecture)).or_default();
            for (pair, seen) in seen(report) {
                pairs.entry(pair).or_default().insert(column(summary), seen);
            }
        }
    }
    let mut rows: Vec<Row> = Vec::new();
    for ((name, architecture), pairs) in all {
        let topology = topologies.get(name).and_then(|one| one.on(architecture));
        let Some(topology) = topology.filter(|topology| !topology.expect.is_empty()) else {
            continue;
        };
        for (pair, seen) in pairs {
            // No rule may be there for what a test has made up.
            let Some(expect) = topology.expects(&pair.0, &pair.1) else {
                continue;
            };
            let same = rows.iter_mut().find(|row| {
                (row.topology.as_str(), row.architecture) == (name, architecture)
                    && row.predicted == expect.verdict
                    && row.seen == seen
            });
            match same {
                Some(row) => row.pairs.push(pair),
                None => rows.push(Row {
                    topology: name.to_owned(),
                    architecture,
                    pairs: vec![pair],
                    predicted: expect.verdict,
                    seen,
                }),
            }
        }
    }
    if rows.is_empty() {
        bail!(
            "these results have no verdicts: `vmtest run --test p2pdma_map --test p2pdma_odirect` \
             looks for them"
        );
    }
    Ok(rows)
}

impl Outcome {
    /// What stands in the table, where `good` is as predicted.
    fn text(found: Option<&Self>, good: &str) -> String {
        match found {
            None => "--".into(),
            Some(Self::Good) => good.into(),
            Some(Self::Defect(name)) => format!("wrong ({name})"),
            Some(Self::Skipped) => "skipped".into(),
            Some(Self::Wrong) => "**not as predicted**".into(),
        }
    }
}

/// The table, for Sphinx.
pub fn to_rst(rows: &[Row], summaries: &[Summary]) -> String {
    let columns: BTreeSet<&String> = rows.iter().flat_map(|row| row.seen.keys()).collect();
    let releases: BTreeSet<&str> = summaries.iter().map(|one| one.release.as_str()).collect();
    let releases: Vec<&str> = releases.into_iter().collect();
    let mut text = format!(
        ".. SPDX-License-Identifier: GPL-2.0\n\
         .. Written by `make matrix` from the results of the last runs.\n\n\
         ==============================\n\
         Verdicts, in all the topologies\n\
         ==============================\n\n\
         Written by ``make matrix`` from the results of ``make check`` on {}.\n\n\
         Predicted is what the topology's file expects. For each kernel there are its own\n\
         verdict, which is the type that it chose when it mapped memory for the client, and\n\
         what became of the data of direct I/O, compared word by word. The first name of a\n\
         pair is the kind of the provider, the second the serial of the NVMe controller that\n\
         is the client.\n\n\
         .. list-table::\n   :header-rows: 1\n\n",
        releases.join(", ")
    )
    .replace(
        "==============================\n",
        "===============================\n",
    );
    let mut line = |first: bool, cell: &str| {
        let start = if first { "   * - " } else { "     - " };
        // Writing to a string does not fail.
        let _ = writeln!(text, "{start}{cell}");
    };
    line(true, "topology");
    for head in ["machine", "pairs", "predicted"] {
        line(false, head);
    }
    for column in &columns {
        line(false, column);
    }
    for row in rows {
        let predicted = crate::topology::word(&row.predicted);
        let pairs: Vec<String> = row
            .pairs
            .iter()
            .map(|(kind, client)| format!("{kind} > {client}"))
            .collect();
        line(true, &row.topology);
        line(false, row.architecture.names().kernel);
        line(false, &pairs.join(", "));
        line(false, &predicted);
        for &column in &columns {
            let seen = row.seen.get(column);
            let good = match row.predicted {
                Verdict::NotSupported => "refused",
                _ => "data right",
            };
            let cell = seen.map_or("--".into(), |seen| {
                format!(
                    "{}, {}",
                    Outcome::text(seen.kernel.as_ref(), &predicted),
                    Outcome::text(seen.verified.as_ref(), good)
                )
            });
            line(false, &cell);
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::TestReport;

    const TOPOLOGY: &str = r#"
name = "x"
description = "x"
devices = [
    { driver = "nvme", bus = "pcie.0", serial = "a" },
    { driver = "nvme", bus = "pcie.0", serial = "b" },
]
[[expect]]
provider = "cmb"
client = "a"
verdict = "bus-addr"
[[expect]]
provider = "*"
client = "*"
verdict = "not-supported"
"#;

    fn case(name: &str, status: Status, reason: &str) -> Case {
        Case {
            name: name.into(),
            status,
            reason: reason.into(),
        }
    }

    fn summary(release: &str, cases: Vec<Case>) -> Summary {
        let test = TestReport {
            name: "t".into(),
            cases,
            ..TestReport::default()
        };
        let report = TopologyReport {
            name: "x".into(),
            part: crate::schedule::Part::WHOLE,
            tests: vec![test],
            accelerator: String::new(),
            boots: 1,
            seconds: 1.0,
            boot_seconds: 1.0,
        };
        Summary::new("stock", release, Arch::X86_64, None, vec![report])
    }

    fn topologies() -> BTreeMap<String, Topology> {
        let topology = Topology::parse(TOPOLOGY).expect("valid");
        [("x".to_owned(), topology)].into()
    }

    #[test]
    fn three_sides_of_a_verdict() {
        let old = summary(
            "7.2.12+deb13-amd64",
            vec![case("pair.cmb@0000:00:01.0>a.map", Status::Pass, "")],
        );
        let new = summary(
            "7.3.4+deb13-amd64",
            vec![
                case("pair.cmb@0000:00:01.0>a.map", Status::Pass, ""),
                case("pair.cmb@0000:00:01.0>a.distance", Status::Fail, ""),
                case("odirect.cmb@0000:00:01.0>a/4K.read", Status::Pass, ""),
                case("odirect.cmb@0000:00:01.0>a/4K.write", Status::Xfail, "bug"),
                case("pair.cmb@0000:00:01.0>b.map", Status::Pass, ""),
                case("odirect.cmb@0000:00:01.0>b/4K.read", Status::Pass, ""),
                case("pair.testdev@0000:00:02.0>b.map", Status::Pass, ""),
                case("odirect.testdev@0000:00:02.0>b/4K.read", Status::Pass, ""),
                case("odirect.testdev@0000:00:02.0>a/4K.read", Status::Fail, ""),
            ],
        );
        let summaries = [old, new];
        let rows = rows(&summaries, &topologies()).expect("verdicts");
        assert_eq!(rows.len(), 3, "{rows:#?}");
        assert_eq!(rows[0].predicted, Verdict::BusAddr);
        assert_eq!(rows[0].seen["7.2"].verified, None);
        let defect = Outcome::Defect("bug".into());
        assert_eq!(rows[0].seen["7.3"].verified, Some(defect));
        // Two pairs of which the same is known are one row.
        assert_eq!(rows[1].pairs.len(), 2);
        assert_eq!(rows[1].predicted, Verdict::NotSupported);
        assert_eq!(rows[2].seen["7.3"].kernel, None);
        let text = to_rst(&rows, &summaries);
        assert!(text.contains("     - bus-addr, wrong (bug)\n"), "{text}");
        assert!(text.contains("     - not-supported, refused\n"), "{text}");
        assert!(text.contains("     - --, **not as predicted**\n"), "{text}");
        assert!(text.contains("     - cmb > b, testdev > b\n"), "{text}");
        assert!(text.contains("     - bus-addr, --\n"), "{text}");
    }

    #[test]
    fn results_without_verdicts_are_refused() {
        let summary = summary("7.3.4", vec![case("global.pattern", Status::Pass, "")]);
        let error = rows(&[summary], &topologies()).expect_err("nothing in it");
        assert!(error.to_string().contains("p2pdma_map"), "{error}");
    }
}
