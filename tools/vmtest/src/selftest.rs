// SPDX-License-Identifier: GPL-2.0

//! Boots guests that misbehave, and checks that the runner says so.

use std::collections::BTreeMap;
use std::path::Path;

use anyhow::{anyhow, bail, Context, Result};
use regex::Regex;

use crate::report::{TestReport, KERNEL_LOG};
use crate::run::{Extra, Setup, Sink};
use crate::suite::{Outcome, Test};
use crate::topology::Topology;
use crate::ui::Ui;

/// Only shows progress: what counts is the report at the end.
struct Quiet(Ui);

impl Sink for Quiet {
    fn stage(&mut self, stage: &str) -> Result<()> {
        self.0.progress(stage.into());
        Ok(())
    }

    fn started(&mut self, test: &Test) -> Result<()> {
        self.0.progress(test.name.clone());
        Ok(())
    }

    fn output(&mut self, _line: &str, _err: bool) -> Result<()> {
        Ok(())
    }

    fn finished(&mut self, _report: &TestReport) -> Result<()> {
        Ok(())
    }
}

/// Runs every test of the suite, and compares each report with what the test's row says must come.
pub fn run(
    setup: &Setup,
    topologies: &BTreeMap<String, Topology>,
    directory: &Path,
    ui: &Ui,
) -> Result<bool> {
    let (mut number, mut failed) = (0, 0);
    if topologies.is_empty() {
        bail!("no guest that misbehaves is for this architecture: the self-test says nothing");
    }
    ui.line("KTAP version 1")?;
    for topology in topologies.values() {
        let tests = setup.suite.select(topology, &[]);
        let log = directory.join(format!("{}.console.log", topology.name));
        let mut sink = Quiet(ui.clone());
        let report = setup.run(topology, &tests, &Extra::default(), &log, &mut sink);
        ui.clear();
        let report = report?;
        let mut checks: Vec<(String, Option<&Outcome>, &TestReport)> = tests
            .iter()
            .zip(&report.tests)
            .map(|(test, report)| (test.name.clone(), test.outcome.as_ref(), report))
            .collect();
        if let Some(kernel_log) = report.tests.last() {
            let name = format!("{}: {KERNEL_LOG}", topology.name);
            let outcome = setup.suite.kernel_log.get(&topology.name);
            checks.push((name, outcome, kernel_log));
        }
        for (name, outcome, report) in checks {
            let outcome = outcome.ok_or_else(|| anyhow!("{name}: no outcome is given"))?;
            number += 1;
            match compare(outcome, report)? {
                Ok(()) => {
                    let said = match report.reason.as_str() {
                        "" => "passed",
                        reason => reason,
                    };
                    ui.line(&format!("# reported: {said}"))?;
                    ui.line(&format!("ok {number} {name}"))?;
                }
                Err(message) => {
                    failed += 1;
                    for line in &report.diagnostics {
                        ui.line(&format!("# {line}"))?;
                    }
                    ui.line(&format!("not ok {number} {name} # {message}"))?;
                }
            }
        }
    }
    ui.line(&format!("1..{number}"))?;
    ui.line(&format!(
        "{} passed, {failed} failed, 0 skipped",
        number - failed
    ))?;
    Ok(failed == 0)
}

/// Compares a report with what must be reported.
fn compare(outcome: &Outcome, report: &TestReport) -> Result<Result<(), String>> {
    let says = Regex::new(&outcome.says).with_context(|| report.name.clone())?;
    let status = report.status.name();
    let cases = report.cases.iter().map(|case| &case.reason);
    let said = std::iter::once(&report.reason)
        .chain(&report.diagnostics)
        .chain(cases);
    Ok(if status != outcome.status {
        let expected = &outcome.status;
        Err(format!(
            "reported {status}, not {expected}: {}",
            report.reason
        ))
    } else if !said.clone().any(|line| says.is_match(line)) {
        Err(format!(
            "nothing reported matches \"{says}\": {}",
            report.reason
        ))
    } else {
        Ok(())
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ktap::Status;
    use crate::suite::Suite;

    #[test]
    fn reports_are_compared() {
        let outcome = Outcome {
            status: "fail".into(),
            says: "TIMEOUT \\d+".into(),
        };
        let report = |status, reason: &str| TestReport {
            name: "t".into(),
            status,
            reason: reason.into(),
            cases: Vec::new(),
            seconds: 0.0,
            diagnostics: Vec::new(),
            output: Vec::new(),
        };
        let result = |report| compare(&outcome, &report).expect("compares");
        assert_eq!(result(report(Status::Fail, "TIMEOUT 3 seconds")), Ok(()));
        assert!(result(report(Status::Fail, "exit=1")).is_err());
        assert!(result(report(Status::Pass, "TIMEOUT 3 seconds")).is_err());
    }

    #[test]
    fn the_misbehaving_suite_is_right() {
        let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("selftest");
        let suite = Suite::read(&directory.join("tests.toml")).expect("reads");
        let topologies = crate::topology::read_all(&directory.join("topologies")).expect("reads");
        for test in &suite.tests {
            let outcome = test.outcome.as_ref().expect("every test has an outcome");
            Regex::new(&outcome.says).expect("a regular expression");
        }
        for name in topologies.keys() {
            assert!(suite.kernel_log.contains_key(name), "{name}");
        }
    }
}
