// SPDX-License-Identifier: GPL-2.0

//! What two runs made of the same tests, result by result.

use std::collections::BTreeMap;

use serde::Serialize;

use crate::ktap::Status;
use crate::report::KERNEL_LOG;
use crate::results::Summary;

/// A result that is not the same in both runs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Difference {
    /// Topology, test and case.
    pub name: String,
    /// How it ended in the first run; absent if it was not there.
    pub first: Option<&'static str>,
    /// And in the second one.
    pub second: Option<&'static str>,
}

impl std::fmt::Display for Difference {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let [first, second] = [self.first, self.second].map(|status| status.unwrap_or("missing"));
        write!(f, "{}: {first}, then {second}", self.name)
    }
}

/// What came of a comparison.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Comparison {
    /// Results of tests that both runs have, in topologies that both have.
    pub compared: usize,
    /// Those of them that differ.
    pub different: Vec<Difference>,
    /// Tests that only the first run has, each with its topology in front.
    pub only_first: Vec<String>,
    /// And those that only the second one has.
    pub only_second: Vec<String>,
}

impl Comparison {
    /// Whether both runs have the same tests.
    pub fn same_tests(&self) -> bool {
        self.only_first.is_empty() && self.only_second.is_empty()
    }
}

/// The cases of a test, by name; of those with the same name, in their order.
type Cases = BTreeMap<(String, usize), Status>;

/// The tests of a run, by topology and name. The verdict on the kernel's messages is there whatever
/// was run, and is none of them.
fn tests(summary: &Summary) -> BTreeMap<String, Cases> {
    let mut tests: BTreeMap<String, Cases> = BTreeMap::new();
    for topology in &summary.topologies {
        for test in topology.tests.iter().filter(|test| test.name != KERNEL_LOG) {
            let cases = tests
                .entry(format!("{}: {}", topology.name, test.name))
                .or_default();
            for case in &test.cases {
                let same = cases.keys().filter(|(name, _)| *name == case.name).count();
                cases.insert((case.name.clone(), same), case.status);
            }
        }
    }
    tests
}

/// Compares two runs.
pub fn compare(first: &Summary, second: &Summary) -> Comparison {
    let (first, second) = (tests(first), tests(second));
    let only = |these: &BTreeMap<String, Cases>, others: &BTreeMap<String, Cases>| {
        let names = these.keys().filter(|name| !others.contains_key(*name));
        names.cloned().collect()
    };
    let mut compared = 0;
    let mut different = Vec::new();
    for (test, cases) in &first {
        let Some(others) = second.get(test) else {
            continue;
        };
        let added = others.keys().filter(|case| !cases.contains_key(*case));
        for case in cases.keys().chain(added) {
            compared += 1;
            let [first, second] =
                [cases, others].map(|cases| cases.get(case).map(|status| status.name()));
            if first != second {
                different.push(Difference {
                    name: format!("{test}: {}", case.0),
                    first,
                    second,
                });
            }
        }
    }
    Comparison {
        compared,
        different,
        only_first: only(&first, &second),
        only_second: only(&second, &first),
    }
}

#[cfg(test)]
mod tests {
    use p2pdma_common::Arch;

    use super::*;
    use crate::ktap::Case;
    use crate::report::{TestReport, TopologyReport};
    use crate::schedule::Part;

    fn summary(tests: &[(&str, &[(&str, Status)])]) -> Summary {
        let tests = tests.iter().map(|(name, cases)| TestReport {
            name: (*name).into(),
            cases: cases
                .iter()
                .map(|(name, status)| Case {
                    name: (*name).into(),
                    status: *status,
                    reason: String::new(),
                })
                .collect(),
            ..TestReport::default()
        });
        let topology = TopologyReport {
            name: "switch".into(),
            part: Part::WHOLE,
            tests: tests.collect(),
            accelerator: "tcg".into(),
            boots: 1,
            seconds: 1.0,
            boot_seconds: 1.0,
        };
        Summary::new("stock", "7.3.4", Arch::X86_64, None, vec![topology])
    }

    #[test]
    fn results_are_compared_one_by_one() {
        use Status::{Fail, Pass, Skip};
        let first = summary(&[
            ("a", &[("x", Pass), ("x", Fail), ("y", Pass)]),
            ("b", &[("x", Pass)]),
            (KERNEL_LOG, &[(KERNEL_LOG, Pass)]),
        ]);
        let second = summary(&[
            ("a", &[("x", Pass), ("x", Pass), ("z", Skip)]),
            ("c", &[("x", Pass)]),
            (KERNEL_LOG, &[(KERNEL_LOG, Fail)]),
        ]);
        let found = compare(&first, &second);
        let lines: Vec<String> = found.different.iter().map(Difference::to_string).collect();
        assert_eq!(
            lines,
            [
                "switch: a: x: fail, then pass",
                "switch: a: y: pass, then missing",
                "switch: a: z: missing, then skip",
            ]
        );
        assert_eq!(found.compared, 4);
        assert_eq!(found.only_first, ["switch: b"]);
        assert_eq!(found.only_second, ["switch: c"]);

        assert!(!found.same_tests());

        let same = compare(&first, &first);
        assert_eq!((same.compared, same.different.len()), (4, 0));
        assert!(same.same_tests());
    }
}
