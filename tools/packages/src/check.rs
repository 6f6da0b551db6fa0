// SPDX-License-Identifier: GPL-2.0

//! Goes through a plan, and says in KTAP how that went.

use std::fs;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use anyhow::{bail, Context, Result};

use crate::guest::{Guest, Machine};
use crate::plan::Plan;

/// The first thing that is done, and the last.
const BOOTS: &str = "a plain Debian boots";
const ENDS: &str = "the guest powers off, its kernel has not complained";
/// How much of what a step has printed is shown when it failed.
const SHOWN: usize = 60;

/// The boots of one guest.
struct Session<'a> {
    plan: &'a Plan,
    machine: &'a Machine,
    boots: usize,
    guest: Option<Guest>,
}

impl Session<'_> {
    fn console(&self) -> PathBuf {
        let name = format!("console{}", self.boots);
        self.machine.results.join(name)
    }

    fn boot(&mut self) -> Result<()> {
        self.boots += 1;
        self.guest = Some(self.machine.boot(self.plan, &self.console())?);
        Ok(())
    }

    /// Powers it off, and tells what its kernel has complained about since it was booted.
    fn power_off(&mut self) -> Result<Vec<String>> {
        let guest = self
            .guest
            .take()
            .context("the guest is not there any more")?;
        let status = guest.power_off()?;
        if !status.success() {
            bail!("QEMU ended with {status}");
        }
        let console = fs::read(self.console())?;
        let console = String::from_utf8_lossy(&console);
        let problems = self.plan.problems(&console)?;
        Ok(problems
            .into_iter()
            .map(|line| format!("kernel: {line}"))
            .collect())
    }

    /// What went wrong in a step, and what it printed.
    fn step(&mut self, step: &crate::plan::Step) -> Result<(Vec<String>, String)> {
        let Some(lines) = &step.run else {
            let problems = self.power_off()?;
            self.boot()?;
            return Ok((problems, String::new()));
        };
        let guest = self
            .guest
            .as_mut()
            .context("the guest is not there any more")?;
        let outcome = guest.run(lines, Duration::from_secs(self.plan.limit))?;
        Ok((step.judge(outcome.status, &outcome.output)?, outcome.output))
    }
}

/// Goes through the plan. A step that fails does not end it: what comes later may fail after it.
pub fn run(plan: &Plan, machine: &Machine, until: Option<&str>) -> Result<bool> {
    let steps = match until {
        None => &plan.steps[..],
        Some(name) => {
            let last = plan.steps.iter().position(|step| step.name == name);
            &plan.steps[..=last.with_context(|| format!("no step is called '{name}'"))?]
        }
    };
    machine.prepare(plan)?;
    let mut session = Session {
        plan,
        machine,
        boots: 0,
        guest: None,
    };
    println!("TAP version 14\n1..{}", steps.len() + 2);
    let (mut passed, mut failed) = (0, 0);
    let mut report = |number: usize, name: &str, start: Instant, wrong: &[String], output: &str| {
        let seconds = start.elapsed().as_secs();
        let verdict = if wrong.is_empty() { "ok" } else { "not ok" };
        for line in wrong {
            println!("# {line}");
        }
        if !wrong.is_empty() {
            let lines: Vec<&str> = output.lines().collect();
            for line in &lines[lines.len().saturating_sub(SHOWN)..] {
                println!("#   {line}");
            }
        }
        println!("{verdict} {number} {name} # {seconds} s");
        if wrong.is_empty() {
            passed += 1;
        } else {
            failed += 1;
        }
    };
    let begin = Instant::now();
    let total = steps.len() + 2;
    let say = |number: usize, name: &str| {
        let seconds = begin.elapsed().as_secs();
        eprintln!("packages: {seconds:5} s  {number} of {total}: {name}");
    };
    let start = Instant::now();
    say(1, BOOTS);
    session.boot()?;
    report(1, BOOTS, start, &[], "");
    for (number, step) in steps.iter().enumerate() {
        let start = Instant::now();
        say(number + 2, &step.name);
        let (wrong, output) = session
            .step(step)
            .unwrap_or_else(|error| (vec![format!("{error:#}")], String::new()));
        let log = machine.results.join(format!("step{:02}", number + 2));
        fs::write(log, &output)?;
        report(number + 2, &step.name, start, &wrong, &output);
        if session.guest.is_none() {
            // What comes next has nowhere to run.
            session.boot()?;
        }
    }
    let start = Instant::now();
    say(total, ENDS);
    let wrong = session
        .power_off()
        .unwrap_or_else(|error| vec![format!("{error:#}")]);
    report(total, ENDS, start, &wrong, "");
    println!("{passed} passed, {failed} failed, 0 skipped");
    machine.clean(plan);
    Ok(failed == 0)
}
