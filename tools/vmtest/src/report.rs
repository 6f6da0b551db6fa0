// SPDX-License-Identifier: GPL-2.0

//! From what came out of a guest to verdicts, and to the lines that say so.

use std::collections::BTreeMap;
use std::time::Duration;

use anyhow::Result;
use serde::{Deserialize, Serialize};
use vmtest_guest::Outcome;

use crate::ktap::{Case, Parser, Report, Status};
use crate::monitor::{readable_tail, Ending, Raw};
use crate::schedule::Part;
use crate::splat::Splat;
use crate::suite::{KnownLeak, Test};

/// kselftest's exit statuses.
mod ksft {
    pub const PASS: i32 = 0;
    pub const XFAIL: i32 = 2;
    pub const SKIP: i32 = 4;
}

/// Bits of `/proc/sys/kernel/tainted` that no test may add: machine check, bad page, oops, warning,
/// soft lockup.
const BAD_TAINT: u64 = (1 << 4) | (1 << 5) | (1 << 7) | (1 << 9) | (1 << 14);

/// Name of the result that stands for the kernel log outside the tests.
pub const KERNEL_LOG: &str = "kernel-log";

/// The verdict on one test.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct TestReport {
    /// Its name.
    pub name: String,
    /// How it ended.
    pub status: Status,
    /// Why, in one line.
    pub reason: String,
    /// Its cases; a test without any is one itself.
    pub cases: Vec<Case>,
    /// How long it ran in the guest, in seconds.
    pub seconds: f64,
    /// What helps to understand it, line by line.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub diagnostics: Vec<String>,
    /// Its output, if it failed.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub output: Vec<String>,
}

/// The verdicts on everything that ran in one topology.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct TopologyReport {
    /// Its name.
    pub name: String,
    /// Which part of its tests these are.
    #[serde(default, skip_serializing_if = "is_whole")]
    pub part: Part,
    /// All verdicts; the last is that on the kernel log.
    pub tests: Vec<TestReport>,
    /// What ran the guest.
    pub accelerator: String,
    /// How often the guest was booted; more than once if it died on the way.
    pub boots: usize,
    /// Wall time from the first start of QEMU to its last exit, in seconds.
    pub seconds: f64,
    /// Wall time from the start of QEMU to the first test, in seconds.
    pub boot_seconds: f64,
}

/// Numbers of cases.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Totals {
    /// Passed.
    pub passed: usize,
    /// Failed.
    pub failed: usize,
    /// Skipped.
    pub skipped: usize,
    /// Failed because of a known defect.
    pub xfailed: usize,
    /// Passed in spite of a known defect.
    pub xpassed: usize,
}

/// What is in one piece need not say so.
fn is_whole(part: &Part) -> bool {
    *part == Part::WHOLE
}

impl Totals {
    /// Counts cases.
    pub fn of<'a>(cases: impl Iterator<Item = &'a Case>) -> Self {
        let mut totals = Self::default();
        for case in cases {
            *match case.status {
                Status::Pass => &mut totals.passed,
                Status::Fail => &mut totals.failed,
                Status::Skip => &mut totals.skipped,
                Status::Xfail => &mut totals.xfailed,
                Status::Xpass => &mut totals.xpassed,
            } += 1;
        }
        totals
    }
}

impl TopologyReport {
    /// Whether anything failed.
    pub fn failed(&self) -> bool {
        self.tests.iter().any(|test| test.status == Status::Fail)
    }

    /// All its cases, with the test they belong to.
    pub fn cases(&self) -> impl Iterator<Item = (&TestReport, &Case)> {
        self.tests
            .iter()
            .flat_map(|test| test.cases.iter().map(move |case| (test, case)))
    }
}

/// Something that makes a test fail beyond its own cases.
struct Problem {
    /// Name of the case that it becomes.
    case: &'static str,
    message: String,
    /// It only repeats what a failed case says.
    echo: bool,
}

impl Problem {
    fn new(case: &'static str, message: impl Into<String>) -> Self {
        Self {
            case,
            message: message.into(),
            echo: false,
        }
    }
}

/// The known defect that the guest was lost to, if it was lost, the kernel complained of nothing
/// else, and no case had failed.
pub fn known_crash(test: &Test, raw: &Raw) -> Result<Option<String>> {
    if !matches!(raw.ending, Ending::GuestLost { .. }) {
        return Ok(None);
    }
    let mut parser = Parser::default();
    raw.output.iter().for_each(|line| parser.line(line));
    let mut cases = parser.finish().cases.into_iter();
    if cases.any(|case| case.status == Status::Fail) {
        return Ok(None);
    }
    let allowed = test.allowed()?;
    let mut crash = None;
    for splat in raw.splats.iter().filter(|splat| splat.kind != "panic") {
        match allowed.iter().find(|allowed| allowed.is(splat)) {
            Some(allowed) if allowed.fatal => crash = Some(allowed.name.clone()),
            Some(_) => {}
            None => return Ok(None),
        }
    }
    Ok(crash)
}

/// Judges one test.
pub fn judge(test: &Test, raw: Raw) -> Result<TestReport> {
    let mut parser = Parser::default();
    raw.output.iter().for_each(|line| parser.line(line));
    let parsed = parser.finish();

    let mut diagnostics = Vec::new();
    let mut problems = Vec::new();
    let ended = ending(test, &raw, &parsed, &mut problems, &mut diagnostics);

    let allowed = test.allowed()?;
    for splat in &raw.splats {
        let known = allowed
            .iter()
            .find(|allowed| allowed.is(splat) && !allowed.fatal && splat.kind != "panic");
        if let Some(allowed) = known {
            diagnostics.push(format!(
                "expected kernel warning \"{}\": {}",
                allowed.name, splat.title
            ));
        } else {
            // That the guest is lost says it already.
            if splat.kind != "panic" || !matches!(raw.ending, Ending::GuestLost { .. }) {
                let message = format!("kernel log: {}: {}", splat.kind, splat.title);
                problems.push(Problem::new("kernel_log", message));
            }
            diagnostics.extend(splat_lines(splat));
        }
    }
    if raw.taint & BAD_TAINT != 0 && raw.splats.is_empty() {
        let message = format!(
            "kernel log: the kernel was tainted ({:#x}), but no warning was seen",
            raw.taint
        );
        problems.push(Problem::new("kernel_log", message));
    }

    let (mut status, mut reason) = ended;
    let mut cases = parsed.cases;
    let case_failed = cases.iter().any(|case| case.status == Status::Fail);
    if !problems.is_empty() {
        status = Status::Fail;
        let messages: Vec<&str> = problems.iter().map(|problem| &*problem.message).collect();
        reason = messages.join("; ");
        for problem in problems {
            if !(problem.echo && case_failed) {
                cases.push(Case {
                    name: problem.case.into(),
                    status: Status::Fail,
                    reason: problem.message,
                });
            }
        }
    }
    if cases.is_empty() {
        cases.push(Case {
            name: test.name.clone(),
            status,
            reason: reason.clone(),
        });
    }
    Ok(TestReport {
        name: test.name.clone(),
        status,
        reason,
        cases,
        seconds: raw.duration.as_secs_f64(),
        diagnostics,
        output: raw.output,
    })
}

/// The verdict on a test that has all it needs: that it was skipped is a failure.
pub fn required(mut report: TestReport) -> TestReport {
    if report.status == Status::Skip {
        report.status = Status::Fail;
        report.reason = format!(
            "it must run on this kernel, but says SKIP {}",
            report.reason
        );
        report.cases = vec![Case {
            name: report.name.clone(),
            status: Status::Fail,
            reason: report.reason.clone(),
        }];
    }
    report
}

/// The verdict on a test on a kernel without these defects, `fixed`: that they are expected is no
/// excuse for a failure.
pub fn without_excuse(mut report: TestReport, fixed: &[String]) -> TestReport {
    let is_excuse = |case: &&mut Case| {
        let name = case.reason.split(':').next().unwrap_or_default();
        case.status == Status::Xfail && fixed.iter().any(|fixed| fixed == name)
    };
    for case in report.cases.iter_mut().filter(is_excuse) {
        case.status = Status::Fail;
        case.reason = format!("this kernel should not have the defect {}", case.reason);
        report.status = Status::Fail;
        report.reason = case.reason.clone();
    }
    report
}

/// The verdict on a test that is not run, because the kernel lacks what it needs.
pub fn skipped(test: &Test, reason: String) -> TestReport {
    TestReport {
        name: test.name.clone(),
        status: Status::Skip,
        reason: reason.clone(),
        cases: vec![Case {
            name: test.name.clone(),
            status: Status::Skip,
            reason,
        }],
        seconds: 0.0,
        diagnostics: Vec::new(),
        output: Vec::new(),
    }
}

/// What the way it ended says, with what contradicts its own results.
fn ending(
    test: &Test,
    raw: &Raw,
    parsed: &Report,
    problems: &mut Vec<Problem>,
    diagnostics: &mut Vec<String>,
) -> (Status, String) {
    let failed = parsed
        .cases
        .iter()
        .filter(|case| case.status == Status::Fail);
    let failed = failed.count();
    let mut cases = parsed.cases.iter();
    let xfailed = cases.find(|case| case.status == Status::Xfail);
    // Programs that could not run end with that status, too: without a result it says nothing.
    let xfailed = xfailed.filter(|_| failed == 0);
    let mut status = (Status::Pass, String::new());
    let mut whole = true;
    match &raw.ending {
        Ending::Reported(Outcome::Exited { code: ksft::PASS }) => {
            if let Some(reason) = parsed.skip_all.as_ref().filter(|_| failed == 0) {
                status = (Status::Skip, reason.clone());
            } else if parsed.spoken && parsed.cases.is_empty() {
                problems.push(Problem::new("ktap", "it ran no test, and did not say SKIP"));
            } else if failed > 0 {
                let message = format!("exit=0 although {failed} of its cases failed");
                problems.push(Problem::new("exit_status", message));
            }
        }
        Ending::Reported(Outcome::Exited { code: ksft::SKIP }) => {
            status = (Status::Skip, skip_reason(parsed, &raw.output));
            if failed > 0 {
                let message = format!("exit=4 (SKIP) although {failed} of its cases failed");
                problems.push(Problem::new("exit_status", message));
            }
        }
        Ending::Reported(Outcome::Exited { code: ksft::XFAIL }) if xfailed.is_some() => {
            let reason = xfailed.map(|case| case.reason.clone());
            status = (Status::Xfail, reason.unwrap_or_default());
        }
        Ending::Reported(Outcome::Exited { code }) => problems.push(Problem {
            case: "exit_status",
            message: format!("exit={code}"),
            echo: true,
        }),
        Ending::Reported(Outcome::Signaled { signal }) => {
            whole = false;
            let message = format!("exit={} (killed by signal {signal})", 128 + signal);
            problems.push(Problem::new("exit_status", message));
        }
        Ending::Reported(Outcome::TimedOut { stacks }) => {
            whole = false;
            let message = format!("TIMEOUT {} seconds", test.timeout());
            problems.push(Problem::new("time_limit", message));
            diagnostics.push("where it was when its time was up:".into());
            diagnostics.extend(stacks.iter().map(|line| format!("  {line}")));
        }
        Ending::Reported(Outcome::Unkillable { stacks }) => {
            whole = false;
            let message = format!(
                "TIMEOUT {} seconds, and its processes cannot be killed",
                test.timeout()
            );
            problems.push(Problem::new("time_limit", message));
            diagnostics.push("where they are:".into());
            diagnostics.extend(stacks.iter().map(|line| format!("  {line}")));
        }
        Ending::Reported(Outcome::NotStarted { error }) => {
            whole = false;
            problems.push(Problem::new("start", format!("ERROR {error}")));
        }
        Ending::GuestLost { how, console } => {
            whole = false;
            problems.push(Problem::new("guest", format!("ERROR {how}")));
            diagnostics.push("last lines of the console:".into());
            diagnostics.extend(readable_tail(console).map(|line| format!("  {line}")));
        }
        Ending::NotRun { why } => {
            whole = false;
            problems.push(Problem::new("start", format!("ERROR not run: {why}")));
        }
    }
    if whole {
        let errors = parsed.errors.iter();
        problems.extend(errors.map(|error| Problem::new("ktap", error.clone())));
    }
    status
}

fn skip_reason(parsed: &Report, output: &[String]) -> String {
    if let Some(reason) = &parsed.skip_all {
        return reason.clone();
    }
    let case = parsed
        .cases
        .iter()
        .rev()
        .find(|case| !case.reason.is_empty());
    if let Some(case) = case {
        return case.reason.clone();
    }
    let last = output.iter().rev().find(|line| !line.trim().is_empty());
    let last = last.map_or("it gives no reason", String::as_str);
    last.trim_start_matches(['#', ' '])
        .trim_start_matches("SKIP")
        .trim()
        .into()
}

fn splat_lines(splat: &Splat) -> impl Iterator<Item = String> + '_ {
    std::iter::once(format!("the kernel's {}:", splat.kind))
        .chain(splat.lines.iter().map(|line| format!("  {line}")))
}

/// The lines of kmemleak's report about each object.
fn leaked_objects(report: &[String]) -> impl Iterator<Item = &[String]> {
    let mut starts: Vec<usize> = (0..report.len())
        .filter(|&i| i == 0 || report[i].starts_with("unreferenced object"))
        .collect();
    starts.push(report.len());
    (1..starts.len()).map(move |i| &report[starts[i - 1]..starts[i]])
}

/// Judges what happened outside the tests.
///
/// `known` is what the kernel is known to lose, and `console` what the console said last, where the
/// guest was lost outside of any test.
pub fn judge_kernel_log(
    splats: &[Splat],
    problems: &[String],
    kmemleak: &[String],
    known: &[KnownLeak],
    console: &[String],
) -> TestReport {
    let mut reasons = Vec::new();
    let mut diagnostics = Vec::new();
    for splat in splats {
        reasons.push(format!(
            "outside the tests: {}: {}",
            splat.kind, splat.title
        ));
        diagnostics.extend(splat_lines(splat));
    }
    let mut expected: BTreeMap<&str, (usize, usize)> = BTreeMap::new();
    let mut leaks = 0;
    for object in leaked_objects(kmemleak) {
        let is_it = |leak: &&KnownLeak| object.iter().any(|line| leak.pattern.is_match(line));
        if let Some(leak) = known.iter().find(is_it) {
            let (count, max) = expected.entry(&leak.name).or_default();
            *count += 1;
            *max = leak.max;
            if *count <= leak.max {
                continue;
            }
        }
        leaks += 1;
        diagnostics.extend(object.iter().map(|line| format!("kmemleak: {line}")));
    }
    if leaks > 0 {
        reasons.push(format!("kmemleak found {leaks} leaks"));
    }
    for (name, (count, max)) in expected {
        let of = if count > max {
            format!(", {max} at most")
        } else {
            String::new()
        };
        diagnostics.push(format!("known leak \"{name}\": {count} objects{of}"));
    }
    reasons.extend_from_slice(problems);
    if !console.is_empty() {
        diagnostics.push("last lines of the console:".into());
        diagnostics.extend(readable_tail(console).map(|line| format!("  {line}")));
    }
    let (status, reason) = if reasons.is_empty() {
        (Status::Pass, String::new())
    } else {
        (Status::Fail, reasons.join("; "))
    };
    TestReport {
        name: KERNEL_LOG.into(),
        status,
        reason: reason.clone(),
        cases: vec![Case {
            name: KERNEL_LOG.into(),
            status,
            reason,
        }],
        seconds: Duration::ZERO.as_secs_f64(),
        diagnostics,
        output: Vec::new(),
    }
}

/// The lines that end a test in KTAP, as kselftest's own runner writes them.
pub fn ktap_lines(number: usize, collection: &str, report: &TestReport) -> Vec<String> {
    let mut lines: Vec<String> = report
        .diagnostics
        .iter()
        .map(|line| format!("# vmtest: {line}").trim_end().to_owned())
        .collect();
    let (ok, directive) = match report.status {
        Status::Pass => ("ok", ""),
        Status::Fail => ("not ok", ""),
        Status::Skip => ("ok", "SKIP"),
        Status::Xfail => ("ok", "XFAIL"),
        Status::Xpass => ("ok", "XPASS"),
    };
    let mut line = format!("{ok} {number} selftests: {collection}: {}", report.name);
    let tail = format!("{directive} {}", report.reason.replace('\n', " "));
    let tail = tail.trim();
    if !tail.is_empty() {
        line += &format!(" # {tail}");
    }
    lines.push(line);
    lines
}

#[cfg(test)]
mod tests {
    use regex::Regex;

    use super::*;

    fn test() -> Test {
        toml::from_str(
            r#"
            name = "t"
            timeout = 7
            allow = [
                { name = "known", pattern = "memremap" },
                { name = "from there", pattern = "suspicious", within = "\\bthere\\+" },
                { name = "deadly", pattern = "^RIP: here", within = "\\bthere\\+", fatal = true },
            ]
            "#,
        )
        .expect("a test")
    }

    fn exited(code: i32, output: &str) -> Raw {
        Raw {
            test: 0,
            ending: Ending::Reported(Outcome::Exited { code }),
            output: output.lines().map(str::to_owned).collect(),
            splats: Vec::new(),
            taint: 0,
            duration: Duration::from_secs(1),
        }
    }

    fn splat(title: &str) -> Splat {
        Splat {
            kind: "WARNING",
            title: title.into(),
            lines: vec![title.into()],
        }
    }

    fn verdict(raw: Raw) -> (TestReport, Totals) {
        let report = judge(&test(), raw).expect("judged");
        let totals = Totals::of(report.cases.iter());
        (report, totals)
    }

    #[test]
    fn a_guest_that_is_lost_to_a_known_defect_is_run_again() {
        let oops = |lines: &[&str]| Splat {
            kind: "Oops",
            title: "Oops: general protection fault".into(),
            lines: lines.iter().map(|&line| line.into()).collect(),
        };
        let known = oops(&["RIP: here+0x64/0xd0", " there+0x69/0x140 [nvmet]"]);
        let panic = || Splat {
            kind: "panic",
            ..splat("Kernel panic - not syncing: Fatal exception")
        };
        let lost = |splats: &[&Splat]| Raw {
            ending: Ending::GuestLost {
                how: "the kernel panicked".into(),
                console: vec![],
            },
            splats: splats.iter().map(|&splat| splat.clone()).collect(),
            ..exited(0, "")
        };
        let crash = |raw: &Raw| known_crash(&test(), raw).expect("looked at");
        let raw = lost(&[&splat("WARNING: memremap"), &known, &panic()]);
        assert_eq!(crash(&raw).as_deref(), Some("deadly"));
        let mut failed = raw.clone();
        failed.output = vec!["1..2".into(), "not ok 1 a".into()];
        assert_eq!(crash(&failed), None);
        failed.output = vec!["1..2".into(), "ok 1 a".into()];
        assert!(crash(&failed).is_some());
        // It is no excuse: who does not run it again has a failure.
        assert_eq!(verdict(raw).0.status, Status::Fail);
        // Nor where the guest lives on.
        let mut raw = exited(0, "1..1\nok 1 a\n");
        raw.splats = vec![known.clone()];
        assert_eq!(crash(&raw), None);
        assert_eq!(verdict(raw).0.status, Status::Fail);
        for splats in [
            &[&panic()][..],
            &[&splat("WARNING: memremap"), &panic()],
            &[&oops(&["RIP: here+0x64/0xd0"]), &panic()],
            &[
                &oops(&["RIP: elsewhere+0x1/0x2", "there+0x1/0x2"]),
                &panic(),
            ],
            &[&known, &splat("WARNING: another"), &panic()],
        ] {
            assert_eq!(crash(&lost(splats)), None, "{splats:?}");
        }
    }

    #[test]
    fn the_crash_that_was_seen_is_the_one_that_is_known() {
        let path = std::path::Path::new(env!("CARGO_MANIFEST_DIR"))
            .join("../testing/selftests/p2pdma/tests.toml");
        let suite = crate::suite::Suite::read(&path).expect("reads");
        let of = |name: &str| suite.tests.iter().find(|test| test.name == name);
        let crash = |test: &str, what: &str, function: &str| {
            let console = format!(
                "[   65.229015] {what}\n\
                 [   65.231876] CPU: 0 UID: 0 PID: 462 Comm: p2pdma_nvmet_re Tainted: G OE\n\
                 [   65.232822] RIP: 0010:{function}+0x64/0xd0\n\
                 [   65.239719] Call Trace:\n\
                 [   65.240671]  <TASK>\n\
                 [   65.240879]  pci_p2pmem_alloc_sgl+0x50/0xd0\n\
                 [   65.242918]  nvmet_req_alloc_sgls+0x69/0x140 [nvmet]\n\
                 [   65.250267]  </TASK>\n\
                 [   65.255022] ---[ end trace 0000000000000000 ]---\n\
                 [   65.307509] RIP: 0010:{function}+0x64/0xd0\n\
                 [   65.309582] Kernel panic - not syncing: Fatal exception\n"
            );
            let mut detector = crate::splat::Detector::default();
            let mut splats: Vec<Splat> = console
                .lines()
                .filter_map(|line| detector.line(line))
                .collect();
            splats.extend(detector.flush());
            let raw = Raw {
                ending: Ending::GuestLost {
                    how: "the guest ended unexpectedly".into(),
                    console: vec![],
                },
                splats,
                ..exited(0, "")
            };
            known_crash(of(test).expect("is there"), &raw).expect("looked at")
        };
        let seen = "Oops: general protection fault, probably for non-canonical address \
                    0xffff1100bf84af40: 0000 [#1] SMP NOPTI";
        let (test, function) = ("p2pdma_nvmet_surprise", "pci_alloc_p2pmem");
        let name = Some("range-going-use-after-free".to_owned());
        assert_eq!(crash(test, seen, function), name);
        // Another function, another test, another defect: alloc-without-pool.
        assert_eq!(crash(test, seen, "pci_free_p2pmem"), None);
        assert_eq!(crash("p2pdma_pool", seen, function), None);
        let other = "BUG: kernel NULL pointer dereference, address: 0000000000000000";
        assert_eq!(crash(test, other, function), None);
    }

    #[test]
    fn passing_counts_cases() {
        let (report, totals) = verdict(exited(0, "1..2\nok 1 a\nok 2 b # XFAIL known\n"));
        assert_eq!(report.status, Status::Pass);
        assert_eq!((totals.passed, totals.xfailed, totals.failed), (1, 1, 0));
        // A program without KTAP is one case.
        let (report, totals) = verdict(exited(0, "hello\n"));
        assert_eq!((report.status, totals.passed), (Status::Pass, 1));
    }

    #[test]
    fn failing_counts_once() {
        let (report, totals) = verdict(exited(1, "1..2\nok 1 a\nnot ok 2 b\n"));
        assert_eq!(report.status, Status::Fail);
        assert_eq!((totals.passed, totals.failed), (1, 1));
        assert_eq!(report.reason, "exit=1");
        // No case says so, but the status does.
        let (report, totals) = verdict(exited(1, "1..1\nok 1 a\n"));
        assert_eq!((report.status, totals.failed), (Status::Fail, 1));
    }

    #[test]
    fn contradictions_fail() {
        for (code, output, says) in [
            (0, "1..1\nnot ok 1 a\n", "exit=0 although 1"),
            (4, "1..1\nnot ok 1 a\n", "exit=4 (SKIP) although 1"),
            (0, "1..3\nok 1 a\n", "3 results were planned"),
            (0, "1..0\n", "ran no test"),
            (0, "1..1\n  1..1\n  not ok 1 a\nok 1 s\n", "although"),
        ] {
            let (report, totals) = verdict(exited(code, output));
            assert_eq!(report.status, Status::Fail, "{output}");
            assert!(totals.failed > 0, "{output}");
            assert!(report.reason.contains(says), "{}", report.reason);
        }
    }

    #[test]
    fn an_expected_failure_needs_a_result() {
        let (report, totals) = verdict(exited(2, "1..2\nok 1 a\nnot ok 2 b # XFAIL known\n"));
        assert_eq!((report.status, &*report.reason), (Status::Xfail, "known"));
        assert_eq!((totals.passed, totals.xfailed, totals.failed), (1, 1, 0));
        // Programs that could not run, and results that say otherwise.
        for output in [
            "",
            "error: unexpected argument '--x' found\n",
            "1..1\nok 1 a\n",
            "1..2\nnot ok 1 a\nnot ok 2 b # XFAIL known\n",
        ] {
            let (report, totals) = verdict(exited(2, output));
            assert_eq!((report.status, &*report.reason), (Status::Fail, "exit=2"));
            assert_eq!(totals.failed, 1, "{output}");
        }
    }

    #[test]
    fn skipping_needs_a_reason() {
        let reason = |code, output| {
            let (report, totals) = verdict(exited(code, output));
            assert_eq!(
                (report.status, totals.skipped),
                (Status::Skip, 1),
                "{output}"
            );
            report.reason
        };
        assert_eq!(reason(4, "1..0 # SKIP no device\n"), "no device");
        assert_eq!(reason(0, "1..0 # SKIP no device\n"), "no device");
        assert_eq!(reason(4, "# SKIP no device\n\n"), "no device");
        assert_eq!(reason(4, ""), "it gives no reason");
        assert_eq!(reason(4, "1..1\nok 1 a # SKIP no device\n"), "no device");
    }

    #[test]
    fn what_is_not_run_is_one_skipped_case() {
        let report = skipped(&test(), "no module".into());
        assert_eq!(Totals::of(report.cases.iter()).skipped, 1);
        let line = ktap_lines(1, "p2pdma", &report).pop().expect("a line");
        assert_eq!(line, "ok 1 selftests: p2pdma: t # SKIP no module");
    }

    #[test]
    fn endings_are_named() {
        for (ending, says) in [
            (
                Ending::Reported(Outcome::TimedOut { stacks: vec![] }),
                "TIMEOUT 7 seconds",
            ),
            (
                Ending::Reported(Outcome::Unkillable { stacks: vec![] }),
                "cannot be killed",
            ),
            (
                Ending::Reported(Outcome::Signaled { signal: 11 }),
                "exit=139 (killed by signal 11)",
            ),
            (
                Ending::Reported(Outcome::NotStarted {
                    error: "gone".into(),
                }),
                "ERROR gone",
            ),
            (
                Ending::GuestLost {
                    how: "the guest hangs".into(),
                    console: vec![],
                },
                "ERROR the guest hangs",
            ),
            (Ending::NotRun { why: "x".into() }, "ERROR not run: x"),
        ] {
            let mut raw = exited(0, "1..5\nok 1 a\n");
            raw.ending = ending;
            let (report, totals) = verdict(raw);
            assert_eq!(report.status, Status::Fail);
            assert_eq!((totals.passed, totals.failed), (1, 1), "{says}");
            assert!(report.reason.contains(says), "{}", report.reason);
            let line = ktap_lines(3, "p2pdma", &report).pop().expect("a line");
            assert!(
                line.starts_with("not ok 3 selftests: p2pdma: t # "),
                "{line}"
            );
        }
    }

    #[test]
    fn kernel_warnings_fail_the_test_unless_expected() {
        let mut raw = exited(0, "1..1\nok 1 a\n");
        raw.splats = vec![splat("WARNING: memremap_pages")];
        raw.taint = 1 << 9;
        let (report, totals) = verdict(raw.clone());
        assert_eq!((report.status, totals.failed), (Status::Pass, 0));
        assert!(report.diagnostics[0].contains("expected kernel warning \"known\""));
        let mut from = |place: &str| {
            raw.splats[0] = Splat {
                lines: vec!["suspicious".into(), format!(" {place}+0x1/0x2")],
                ..splat("WARNING: suspicious")
            };
            verdict(raw.clone()).0.status
        };
        assert_eq!(from("there"), Status::Pass);
        assert_eq!(from("elsewhere"), Status::Fail);
        raw.splats = vec![splat("WARNING: memremap"), splat("WARNING: another")];
        let (report, totals) = verdict(raw.clone());
        assert_eq!((report.status, totals.failed), (Status::Fail, 1));
        assert!(report.reason.contains("WARNING: another"));
        raw.splats.clear();
        let (report, _) = verdict(raw.clone());
        assert!(report.reason.contains("tainted"), "{}", report.reason);
        // Out-of-tree and unsigned modules taint as well, and may.
        raw.taint = (1 << 12) | (1 << 13);
        assert_eq!(verdict(raw).0.status, Status::Pass);
    }

    #[test]
    fn a_panic_is_never_expected() {
        let mut raw = exited(0, "");
        raw.splats = vec![Splat {
            kind: "panic",
            ..splat("Kernel panic - not syncing: memremap")
        }];
        assert_eq!(verdict(raw).0.status, Status::Fail);
    }

    #[test]
    fn the_kernel_log_outside_tests_counts() {
        let good = judge_kernel_log(&[], &[], &[], &[], &[]);
        assert_eq!(good.status, Status::Pass);
        let splats = [splat("WARNING: at boot")];
        for bad in [
            judge_kernel_log(&splats, &[], &[], &[], &[]),
            judge_kernel_log(&[], &["no power-off".into()], &[], &[], &["x".into()]),
            judge_kernel_log(&[], &[], &["unreferenced object".into()], &[], &[]),
        ] {
            assert_eq!(bad.status, Status::Fail);
            assert_eq!(Totals::of(bad.cases.iter()).failed, 1);
        }
    }

    #[test]
    fn leaks_are_known_one_by_one() {
        let report: Vec<String> = [
            "unreferenced object 0xff11 (size 576):",
            "    radix_tree_node_alloc+0x49/0x2e0",
            "    nvmet_p2pmem_ns_add_p2p+0x2e7/0x410",
            "unreferenced object 0xff12 (size 64):",
            "    other+0x1/0x2",
        ]
        .map(str::to_owned)
        .to_vec();
        let known = [KnownLeak {
            name: "map".to_owned(),
            pattern: Regex::new(r"nvmet_p2pmem_ns_add_p2p\+").expect("regex"),
            max: 1,
        }];
        let good = judge_kernel_log(&[], &[], &report[..3], &known, &[]);
        assert_eq!(good.status, Status::Pass);
        assert_eq!(good.diagnostics, ["known leak \"map\": 1 objects"]);
        let bad = judge_kernel_log(&[], &[], &report, &known, &[]);
        assert_eq!(bad.reason, "kmemleak found 1 leaks");
        assert!(
            bad.diagnostics[1].contains("other+0x1"),
            "{:?}",
            bad.diagnostics
        );
        // One more than are known.
        let twice = [&report[..3], &report[..3]].concat();
        let bad = judge_kernel_log(&[], &[], &twice, &known, &[]);
        assert_eq!(bad.reason, "kmemleak found 1 leaks");
        assert_eq!(
            bad.diagnostics.last().map(String::as_str),
            Some("known leak \"map\": 2 objects, 1 at most")
        );
    }

    #[test]
    fn what_must_run_is_not_skipped() {
        let (report, _) = verdict(exited(4, "1..0 # SKIP no faults\n"));
        let report = required(report);
        assert_eq!(report.status, Status::Fail);
        assert_eq!(
            report.reason,
            "it must run on this kernel, but says SKIP no faults"
        );
        assert_eq!(Totals::of(report.cases.iter()).failed, 1);
        // A case that is skipped is none of its business.
        let (report, _) = verdict(exited(0, "1..2\nok 1 a\nok 2 b # SKIP no disk\n"));
        let report = required(report);
        assert_eq!((report.status, report.cases.len()), (Status::Pass, 2));
    }

    #[test]
    fn a_defect_that_is_mended_is_no_excuse() {
        let known = || verdict(exited(0, "1..2\nok 1 a\nok 2 b # XFAIL leak: 2 pages\n")).0;
        let report = without_excuse(known(), &["other".into()]);
        assert_eq!(report.status, Status::Pass);
        let report = without_excuse(known(), &["leak".into()]);
        assert_eq!(report.status, Status::Fail);
        assert_eq!(
            report.reason,
            "this kernel should not have the defect leak: 2 pages"
        );
        let totals = Totals::of(report.cases.iter());
        assert_eq!((totals.passed, totals.xfailed, totals.failed), (1, 0, 1));
    }

    #[test]
    fn result_lines_are_kselftests() {
        let line = |code, output| {
            let (report, _) = verdict(exited(code, output));
            ktap_lines(1, "p2pdma", &report).pop().expect("a line")
        };
        assert_eq!(line(0, ""), "ok 1 selftests: p2pdma: t");
        assert_eq!(line(1, ""), "not ok 1 selftests: p2pdma: t # exit=1");
        assert_eq!(line(2, ""), "not ok 1 selftests: p2pdma: t # exit=2");
        assert_eq!(
            line(2, "1..1\nnot ok 1 a # XFAIL why\n"),
            "ok 1 selftests: p2pdma: t # XFAIL why"
        );
        assert_eq!(
            line(4, "1..0 # SKIP why\n"),
            "ok 1 selftests: p2pdma: t # SKIP why"
        );
    }
}
