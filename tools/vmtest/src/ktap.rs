// SPDX-License-Identifier: GPL-2.0

//! Reads KTAP, nested as deep as it comes, as test programs and in-kernel suites print it.

use serde::{Deserialize, Serialize};

/// How a test case ended.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Status {
    /// It passed.
    #[default]
    Pass,
    /// It failed.
    Fail,
    /// The environment lacks what it needs.
    Skip,
    /// It failed because of a known defect.
    Xfail,
    /// It passed in spite of a known defect: the defect seems to be gone.
    Xpass,
}

impl Status {
    /// As it is written in results.
    pub fn name(self) -> &'static str {
        match self {
            Self::Pass => "pass",
            Self::Fail => "fail",
            Self::Skip => "skip",
            Self::Xfail => "xfail",
            Self::Xpass => "xpass",
        }
    }
}

/// One result that has no results below it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Case {
    /// Its name, with those of the suites above it.
    pub name: String,
    /// How it ended.
    pub status: Status,
    /// What the result line says after `#`, and for failures the diagnostics before it.
    pub reason: String,
}

/// What a whole output says.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Report {
    /// All cases, in order.
    pub cases: Vec<Case>,
    /// The reason of a `1..0 # SKIP reason` plan.
    pub skip_all: Option<String>,
    /// What contradicts itself: plans that do not hold, parents that hide a failure.
    pub errors: Vec<String>,
    /// Whether there was any plan or result at all.
    pub spoken: bool,
}

#[derive(Debug, Default)]
struct Level {
    indent: usize,
    plan: Option<usize>,
    results: usize,
    /// Cases found below since the last result of this level.
    first_child: usize,
}

/// Diagnostics that are kept for a failure.
const DIAGNOSTICS: usize = 4;

/// Parses an output, a line at a time.
#[derive(Debug, Default)]
pub struct Parser {
    report: Report,
    levels: Vec<Level>,
    diagnostics: Vec<String>,
}

impl Parser {
    /// Takes one line.
    pub fn line(&mut self, line: &str) {
        let text = line.trim_start_matches(' ');
        let indent = line.len() - text.len();
        let text = text.trim_end();
        if text.starts_with("KTAP version") || text.starts_with("TAP version") {
            self.report.spoken = true;
            self.open(indent);
        } else if let Some(plan) = text.strip_prefix("1..") {
            self.plan(indent, plan);
        } else if let Some(result) = parse_result(text) {
            self.result(indent, &result);
        } else if let Some(diagnostic) = text.strip_prefix('#') {
            let diagnostic = diagnostic.trim();
            if !diagnostic.is_empty() {
                self.diagnostics.push(diagnostic.into());
            }
        }
    }

    /// What the output said.
    pub fn finish(mut self) -> Report {
        while let Some(level) = self.levels.pop() {
            self.close(&level);
        }
        self.report
    }

    /// The level at `indent`, opened if there is none, with deeper ones closed.
    fn open(&mut self, indent: usize) {
        while self
            .levels
            .last()
            .is_some_and(|level| level.indent > indent)
        {
            if let Some(level) = self.levels.pop() {
                self.close(&level);
            }
        }
        if self.levels.last().is_none_or(|level| level.indent < indent) {
            self.levels.push(Level {
                indent,
                first_child: self.report.cases.len(),
                ..Level::default()
            });
        }
    }

    fn close(&mut self, level: &Level) {
        if let Some(plan) = level.plan {
            if plan != level.results {
                self.report.errors.push(format!(
                    "{plan} results were planned, {} were given",
                    level.results
                ));
            }
        }
    }

    fn plan(&mut self, indent: usize, plan: &str) {
        let (count, rest) = plan.split_once('#').unwrap_or((plan, ""));
        let Ok(count) = count.trim().parse::<usize>() else {
            return;
        };
        self.report.spoken = true;
        self.open(indent);
        // Of a list below another one it says nothing about the whole.
        if count == 0 && self.levels.len() == 1 {
            let rest = rest.trim();
            if let Some(reason) = strip_keyword(rest, "SKIP") {
                self.report.skip_all = Some(reason.into());
            }
        }
        if let Some(level) = self.levels.last_mut() {
            level.plan = Some(count);
        }
    }

    fn result(&mut self, indent: usize, result: &Case) {
        self.report.spoken = true;
        self.open(indent);
        let Some(level) = self.levels.last_mut() else {
            return;
        };
        level.results += 1;
        let children = level.first_child.min(self.report.cases.len())..self.report.cases.len();
        let parent = !children.is_empty();
        level.first_child = self.report.cases.len();
        let diagnostics = std::mem::take(&mut self.diagnostics);
        if parent {
            let mut failed = false;
            for case in &mut self.report.cases[children] {
                case.name = format!("{}.{}", result.name, case.name);
                failed |= case.status == Status::Fail;
            }
            if failed && matches!(result.status, Status::Pass | Status::Skip) {
                self.report.errors.push(format!(
                    "{} is ok although a part of it failed",
                    result.name
                ));
            }
            if result.status == Status::Fail && !failed {
                let mut case = result.clone();
                case.reason = explain(&case.reason, &diagnostics);
                self.report.cases.push(case);
                self.forget_children();
            }
            return;
        }
        let mut case = result.clone();
        if case.status == Status::Fail {
            case.reason = explain(&case.reason, &diagnostics);
        }
        self.report.cases.push(case);
        self.forget_children();
    }

    /// A result of this level is no child of it.
    fn forget_children(&mut self) {
        let cases = self.report.cases.len();
        if let Some(level) = self.levels.last_mut() {
            level.first_child = cases;
        }
    }
}

fn explain(reason: &str, diagnostics: &[String]) -> String {
    let skipped = diagnostics
        .iter()
        .filter(|line| !line.starts_with("RUN ") && !line.starts_with("FAIL "))
        .collect::<Vec<_>>();
    let from = skipped.len().saturating_sub(DIAGNOSTICS);
    let mut lines: Vec<&str> = skipped[from..].iter().map(|line| line.as_str()).collect();
    if !reason.is_empty() {
        lines.push(reason);
    }
    lines.join("; ")
}

/// `SKIP`, `SKIP reason` and `SKIP: reason`, whatever the case.
fn strip_keyword<'a>(text: &'a str, keyword: &str) -> Option<&'a str> {
    let head = text.get(..keyword.len())?;
    let tail = &text[keyword.len()..];
    (head.eq_ignore_ascii_case(keyword)
        && !tail.starts_with(|next: char| next.is_ascii_alphanumeric() || next == '='))
    .then(|| tail.trim_start_matches([' ', ':', '\t']))
}

/// Parses `ok 1 name # DIRECTIVE reason`.
fn parse_result(text: &str) -> Option<Case> {
    let (ok, rest) = if let Some(rest) = text.strip_prefix("ok ") {
        (true, rest)
    } else {
        (false, text.strip_prefix("not ok ")?)
    };
    let rest = rest.trim_start();
    let (number, rest) = rest.split_once(' ').unwrap_or((rest, ""));
    number.parse::<u64>().ok()?;
    let (name, directive) = rest.split_once('#').unwrap_or((rest, ""));
    let name = name.trim().trim_start_matches("- ");
    let directive = directive.trim();
    let (status, reason) = if let Some(reason) = strip_keyword(directive, "SKIP") {
        (Status::Skip, reason)
    } else if let Some(reason) = strip_keyword(directive, "XFAIL") {
        (Status::Xfail, reason)
    } else if let Some(reason) = strip_keyword(directive, "TODO") {
        (Status::Xfail, reason)
    } else if let (true, Some(reason)) = (ok, strip_keyword(directive, "XPASS")) {
        (Status::Xpass, reason)
    } else if ok {
        (Status::Pass, directive)
    } else {
        (Status::Fail, directive)
    };
    Some(Case {
        name: if name.is_empty() { number } else { name }.into(),
        status,
        reason: reason.into(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Report {
        let mut parser = Parser::default();
        text.lines().for_each(|line| parser.line(line));
        parser.finish()
    }

    fn brief(report: &Report) -> Vec<(&str, Status)> {
        let cases = report.cases.iter();
        cases
            .map(|case| (case.name.as_str(), case.status))
            .collect()
    }

    #[test]
    fn the_kernels_harness_is_read() {
        let report = parse(
            "TAP version 13\n\
             1..4\n\
             # Starting 4 tests from 1 test cases.\n\
             #  RUN           p2p.read ...\n\
             #            OK  p2p.read\n\
             ok 1 p2p.read\n\
             #  RUN           p2p.write ...\n\
             # odirect.c:99:write:Expected 0 (0) == ret (-1)\n\
             # write: Test terminated by assertion\n\
             #          FAIL  p2p.write\n\
             not ok 2 p2p.write\n\
             ok 3 p2p.none # SKIP no provider\n\
             ok 4 p2p.iommu # XFAIL qemu-viommu-p2p\n\
             # FAILED: 3 / 4 tests passed.\n\
             # Totals: pass:1 fail:1 xfail:1 xpass:0 skip:1 error:0\n",
        );
        assert_eq!(
            brief(&report),
            [
                ("p2p.read", Status::Pass),
                ("p2p.write", Status::Fail),
                ("p2p.none", Status::Skip),
                ("p2p.iommu", Status::Xfail),
            ]
        );
        assert!(report.cases[1]
            .reason
            .contains("Expected 0 (0) == ret (-1)"));
        assert!(!report.cases[1].reason.contains("RUN"));
        assert_eq!(report.cases[2].reason, "no provider");
        assert_eq!(report.cases[3].reason, "qemu-viommu-p2p");
        assert_eq!(report.errors, [""; 0]);
        assert!(report.spoken);
    }

    #[test]
    fn nesting_gives_cases_with_whole_names() {
        let report = parse(
            "KTAP version 1\n\
             1..2\n\
             \x20 KTAP version 1\n\
             \x20 1..2\n\
             \x20   KTAP version 1\n\
             \x20   1..2\n\
             \x20   not ok 1 test_1\n\
             \x20   ok 2 test_2\n\
             \x20 not ok 1 test_3\n\
             \x20 ok 2 test_4 # SKIP\n\
             not ok 1 example_test_1\n\
             ok 2 example_test_2\n",
        );
        assert_eq!(
            brief(&report),
            [
                ("example_test_1.test_3.test_1", Status::Fail),
                ("example_test_1.test_3.test_2", Status::Pass),
                ("example_test_1.test_4", Status::Skip),
                ("example_test_2", Status::Pass),
            ]
        );
        assert_eq!(report.errors, [""; 0]);
    }

    #[test]
    fn a_plan_that_does_not_hold_is_an_error() {
        let report = parse("TAP version 13\n1..3\nok 1 a\n");
        assert_eq!(report.errors, ["3 results were planned, 1 were given"]);
        let report = parse("KTAP version 1\n1..1\n  1..2\n  ok 1 a\nok 1 b\n");
        assert_eq!(report.errors, ["2 results were planned, 1 were given"]);
    }

    #[test]
    fn a_parent_cannot_hide_a_failure() {
        let report = parse("1..1\n  1..1\n  not ok 1 a\nok 1 suite\n");
        assert_eq!(report.errors, ["suite is ok although a part of it failed"]);
        // The other way round the parent's own failure counts.
        let report = parse("1..1\n  1..1\n  ok 1 a\nnot ok 1 suite # init failed\n");
        assert_eq!(
            brief(&report),
            [("suite.a", Status::Pass), ("suite", Status::Fail)]
        );
        assert_eq!(report.cases[1].reason, "init failed");
    }

    #[test]
    fn skipping_everything_gives_the_reason() {
        let report = parse("TAP version 13\n1..0 # SKIP set P2PDMA_SCRATCH=…\n");
        assert_eq!(report.skip_all.as_deref(), Some("set P2PDMA_SCRATCH=…"));
        assert!(report.cases.is_empty());
        assert!(parse("1..0\n").skip_all.is_none());
    }

    #[test]
    fn a_list_below_another_that_is_empty_says_nothing_of_the_whole() {
        let report = parse(
            "KTAP version 1\n\
             1..2\n\
             \x20 KTAP version 1\n\
             \x20 1..0 # SKIP no device\n\
             ok 1 a # SKIP\n\
             \x20 KTAP version 1\n\
             \x20 1..1\n\
             \x20 not ok 1 x\n\
             not ok 2 b\n",
        );
        assert_eq!(report.skip_all, None);
        assert_eq!(report.errors, [""; 0]);
        assert!(report.cases.iter().any(|case| case.status == Status::Fail));
    }

    #[test]
    fn a_head_alone_promises_results() {
        let report = parse("TAP version 13\n");
        assert!(report.spoken && report.cases.is_empty());
    }

    #[test]
    fn odd_lines_mean_nothing() {
        for line in [
            "ok", "ok x", "not ok", "okay 1 x", "1..x", "not okay", "", "   ", "ok  ",
        ] {
            let report = parse(line);
            assert!(report.cases.is_empty() && !report.spoken, "{line}");
        }
        let report = parse("ok 1\nok 2 - dash\nok 3 a # rcode=0\nok 4 b # SKIPPED=0\n");
        assert_eq!(
            brief(&report),
            [
                ("1", Status::Pass),
                ("dash", Status::Pass),
                ("a", Status::Pass),
                ("b", Status::Pass)
            ]
        );
        // Multi-byte characters where a keyword may stand.
        parse("ok 1 a # ÄÖÜ\nok 2 b # ≥\n1..0 # ≥≥\n");
    }

    #[test]
    fn directives_are_read_whatever_their_case() {
        let status = |line: &str| parse(line).cases[0].status;
        assert_eq!(status("not ok 1 a # SKIP b"), Status::Skip);
        assert_eq!(status("ok 1 a # skip: b"), Status::Skip);
        assert_eq!(status("not ok 1 a # TIMEOUT 9 seconds"), Status::Fail);
        assert_eq!(status("not ok 1 a # ERROR x"), Status::Fail);
        assert_eq!(status("ok 1 a # XPASS x"), Status::Xpass);
        assert_eq!(status("not ok 1 a # XPASS x"), Status::Fail);
        assert_eq!(status("not ok 1 a # TODO x"), Status::Xfail);
    }
}
