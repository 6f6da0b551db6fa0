// SPDX-License-Identifier: GPL-2.0

//! Boots a kernel as one of its mutants, and looks whether a test fails.

use std::cmp::Reverse;
use std::collections::BTreeMap;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::Mutex;
use std::time::{Duration, Instant};

use anyhow::{bail, Context, Result};
use p2pdma_common::Manifest;
use rustix::process::{kill_process, Pid, Signal};
use serde::{Deserialize, Serialize};

use crate::weave::PARAMETER;

/// How many times as long as without a mutant a stage may take, and how much longer at least.
const PATIENCE: u32 = 4;
const PATIENCE_AT_LEAST: Duration = Duration::from_secs(30);

/// How long a stage may take whose baseline is not known yet.
const BASELINE: Duration = Duration::from_secs(900);

/// How long a runner is given to end its guest.
const GRACE: Duration = Duration::from_secs(20);

/// How many of the failures of a mutant are kept.
const FAILURES: usize = 5;

/// Tests in one boot.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Stage {
    /// Where.
    pub topology: String,
    /// Which.
    pub tests: Vec<String>,
}

/// All stages, in their order.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Stages {
    /// The stages.
    pub stage: Vec<Stage>,
}

/// What became of a mutant.
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Verdict {
    /// A test failed, the kernel warned or died.
    Killed,
    /// Nothing came to an end within the limit.
    Hung,
    /// All tests passed.
    Survived,
}

/// The verdict on a mutant, and how it came about.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub struct Judgement {
    /// Name of the mutant.
    pub name: String,
    /// The verdict.
    pub verdict: Verdict,
    /// What failed first, as `topology/test/case`.
    #[serde(default)]
    pub by: Vec<String>,
    /// How long it took, over all stages.
    pub seconds: f64,
    /// What failed once, and passed when it was run again.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub flaky: Vec<String>,
}

/// How one stage ended.
enum Ending {
    Passed,
    Failed(Vec<String>),
    TimedOut,
}

/// What runs the tests.
pub struct Judge<'a> {
    /// The kernel with all mutants.
    pub kernel: &'a Manifest,
    /// What is run, in this order.
    pub stages: &'a [Stage],
    /// The runner.
    pub vmtest: PathBuf,
    /// What else it is told.
    pub args: &'a [String],
    /// How long each stage takes without a mutant.
    baselines: Mutex<BTreeMap<usize, Duration>>,
}

impl<'a> Judge<'a> {
    /// A judge who has not seen anything yet.
    pub fn new(
        kernel: &'a Manifest,
        stages: &'a [Stage],
        vmtest: PathBuf,
        args: &'a [String],
    ) -> Self {
        Self {
            kernel,
            stages,
            vmtest,
            args,
            baselines: Mutex::default(),
        }
    }

    /// Runs a stage of the kernel as it is: it has to pass, the second time if the first one was
    /// bad luck. What that takes is kept.
    pub fn baseline(&self, index: usize) -> Result<Duration> {
        let mut start = Instant::now();
        let mut ending = self.stage(index, 0, BASELINE)?;
        if matches!(&ending, Ending::Failed(by) if may_be_chance(by)) {
            start = Instant::now();
            ending = self.stage(index, 0, BASELINE)?;
        }
        match ending {
            Ending::Passed => (),
            Ending::TimedOut => bail!("{}: no end in sight without any mutant", self.label(index)),
            Ending::Failed(by) => {
                bail!("tests fail without any mutant: {}", by.join(", "))
            }
        }
        let taken = start.elapsed();
        self.lock().insert(index, taken);
        Ok(taken)
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, BTreeMap<usize, Duration>> {
        // Nothing is done with the lock held that could leave it half-changed.
        self.baselines
            .lock()
            .unwrap_or_else(|error| error.into_inner())
    }

    fn label(&self, index: usize) -> String {
        format!("stage {}, {}", index + 1, self.stages[index].topology)
    }

    fn limit(&self, index: usize) -> Result<Duration> {
        let known = self.lock().get(&index).copied();
        let baseline = match known {
            Some(baseline) => baseline,
            None => self.baseline(index)?,
        };
        Ok((baseline * PATIENCE).max(baseline + PATIENCE_AT_LEAST))
    }

    /// Judges a mutant, knowing what became of others.
    pub fn judge(&self, name: &str, number: u32, others: &[Judgement]) -> Result<Judgement> {
        let start = Instant::now();
        let mut flaky = Vec::new();
        let mut verdict = Verdict::Survived;
        let mut by = Vec::new();
        for index in order(self.stages, name, others) {
            match self.confirmed(index, number, &mut flaky)? {
                Ending::Passed => continue,
                Ending::Failed(failures) => {
                    verdict = Verdict::Killed;
                    by = failures;
                }
                Ending::TimedOut => {
                    verdict = Verdict::Hung;
                    by = vec![self.label(index)];
                }
            }
            break;
        }
        Ok(Judgement {
            name: name.to_owned(),
            verdict,
            by,
            seconds: start.elapsed().as_secs_f64(),
            flaky,
        })
    }

    /// Runs a stage; what looks like chance is run again.
    fn confirmed(&self, index: usize, number: u32, flaky: &mut Vec<String>) -> Result<Ending> {
        let ending = self.stage(index, number, self.limit(index)?)?;
        match &ending {
            // The machine may have become slower.
            Ending::TimedOut => {
                let limit = self.limit(index)?;
                let now = self.baseline(index)?;
                if now * 2 < limit {
                    return Ok(ending);
                }
                self.stage(index, number, self.limit(index)?)
            }
            Ending::Failed(by) if may_be_chance(by) => {
                let again = self.stage(index, number, self.limit(index)?)?;
                if matches!(again, Ending::Passed) {
                    flaky.extend(by.iter().cloned());
                }
                Ok(again)
            }
            _ => Ok(ending),
        }
    }

    /// Runs a stage as the mutant `number`, zero being none.
    fn stage(&self, index: usize, number: u32, limit: Duration) -> Result<Ending> {
        let stage = &self.stages[index];
        let directory = tempfile::Builder::new()
            .prefix("mutant-")
            .tempdir()
            .context("no temporary directory")?;
        let mut kernel = self.kernel.clone();
        kernel.check.cmdline += &format!(" {PARAMETER}={number}");
        let description = directory.path().join("kernel.json");
        fs::write(&description, serde_json::to_vec(&kernel)?)?;
        let log = directory.path().join("log");
        let results = directory.path().join("results");
        let mut command = Command::new(&self.vmtest);
        command
            .args(["run", "--jobs", "1", "--topology", &stage.topology])
            .args(stage.tests.iter().flat_map(|test| ["--test", test]))
            .arg("--kernel")
            .arg(&description)
            .arg("--results")
            .arg(&results)
            .args(self.args)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(File::create(&log)?);
        let child = command
            .spawn()
            .with_context(|| format!("cannot run {}", self.vmtest.display()))?;
        match wait(child, limit)? {
            None => Ok(Ending::TimedOut),
            Some(status) => match status.code() {
                Some(0) => Ok(Ending::Passed),
                Some(1) => Ok(Ending::Failed(failures(&results.join("summary.json"))?)),
                _ => bail!(
                    "vmtest could not run {}: {}",
                    self.label(index),
                    fs::read_to_string(&log).unwrap_or_default().trim()
                ),
            },
        }
    }
}

/// The stages for a mutant: first those that have killed most of the same function, the others in
/// their own order.
fn order(stages: &[Stage], name: &str, others: &[Judgement]) -> Vec<usize> {
    let function = function_of(name);
    let same = others
        .iter()
        .filter(|other| other.verdict == Verdict::Killed && function_of(&other.name) == function);
    let mut kills = vec![0_usize; stages.len()];
    for first in same.filter_map(|other| other.by.first()) {
        let mut parts = first.split('/');
        let (topology, test) = (parts.next(), parts.next());
        let by = stages.iter().position(|stage| {
            Some(&*stage.topology) == topology && stage.tests.iter().any(|one| Some(&**one) == test)
        });
        if let Some(by) = by {
            kills[by] += 1;
        }
    }
    let mut order: Vec<usize> = (0..stages.len()).collect();
    order.sort_by_key(|&index| Reverse(kills[index]));
    order
}

/// The function that a mutant changes.
pub fn function_of(name: &str) -> &str {
    name.split(':').next().unwrap_or(name)
}

/// Whether a failure may be no mutant's fault: a single case, or a guest that was lost, as emulated
/// machines are now and then where the processor is busy.
fn may_be_chance(by: &[String]) -> bool {
    let is_lost = |case: &str| matches!(case, "start" | "guest");
    by.len() == 1
        || by
            .iter()
            .any(|name| name.rsplit('/').next().is_some_and(is_lost))
}

/// Waits until a program ends, or ends it itself after `limit`.
fn wait(mut child: Child, limit: Duration) -> Result<Option<ExitStatus>> {
    let ends_within = |child: &mut Child, limit: Duration| -> Result<Option<ExitStatus>> {
        let start = Instant::now();
        loop {
            if let Some(status) = child.try_wait()? {
                return Ok(Some(status));
            }
            if start.elapsed() >= limit {
                return Ok(None);
            }
            std::thread::sleep(Duration::from_millis(50));
        }
    };
    if let Some(status) = ends_within(&mut child, limit)? {
        return Ok(Some(status));
    }
    if let Some(pid) = i32::try_from(child.id()).ok().and_then(Pid::from_raw) {
        // It may just have ended.
        let _ = kill_process(pid, Signal::TERM);
    }
    if ends_within(&mut child, GRACE)?.is_none() {
        let _ = child.kill();
        child.wait()?;
    }
    Ok(None)
}

/// The parts of `summary.json` that matter here.
#[derive(Deserialize)]
struct Summary {
    topologies: Vec<TopologyResult>,
}

#[derive(Deserialize)]
struct TopologyResult {
    name: String,
    tests: Vec<TestResult>,
}

#[derive(Deserialize)]
struct TestResult {
    name: String,
    status: String,
    #[serde(default)]
    cases: Vec<CaseResult>,
}

#[derive(Deserialize)]
struct CaseResult {
    name: String,
    status: String,
}

/// What failed first: cases, or tests as a whole where no case did.
fn failures(path: &Path) -> Result<Vec<String>> {
    let text =
        fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))?;
    let summary: Summary =
        serde_json::from_str(&text).with_context(|| path.display().to_string())?;
    let mut failed = Vec::new();
    for topology in &summary.topologies {
        for test in topology.tests.iter().filter(|test| test.status == "fail") {
            let whole = format!("{}/{}", topology.name, test.name);
            let cases = test.cases.iter().filter(|case| case.status == "fail");
            let before = failed.len();
            failed.extend(cases.map(|case| format!("{whole}/{}", case.name)));
            if failed.len() == before {
                failed.push(whole);
            }
        }
    }
    failed.truncate(FAILURES);
    Ok(failed)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn failures_are_named_by_case_and_else_by_test() {
        let dir = tempfile::tempdir().expect("temporary directory");
        let path = dir.path().join("summary.json");
        let text = r#"{"flavour": "x", "topologies": [{"name": "t", "boots": 1, "tests": [
            {"name": "a", "status": "pass", "cases": [{"name": "c", "status": "pass"}]},
            {"name": "b", "status": "fail", "cases": [
                {"name": "c", "status": "pass"}, {"name": "d", "status": "fail"}]},
            {"name": "kernel_log", "status": "fail"}]}]}"#;
        fs::write(&path, text).expect("written");
        assert_eq!(failures(&path).expect("read"), ["t/b/d", "t/kernel_log"]);
    }

    #[test]
    fn what_has_killed_others_of_a_function_comes_first() {
        let stage = |topology: &str, test: &str| Stage {
            topology: topology.into(),
            tests: vec![test.into()],
        };
        let stages = [stage("t", "a"), stage("t", "b"), stage("u", "b")];
        let killed = |name: &str, by: &str| Judgement {
            name: name.into(),
            verdict: Verdict::Killed,
            by: vec![by.into()],
            seconds: 1.0,
            flaky: Vec::new(),
        };
        let others = [
            killed("f: x", "u/b/case"),
            killed("f: y", "u/b/case"),
            killed("f: z", "t/b/case"),
            killed("f: gone", "t/old/case"),
            killed("g: x", "t/a/case"),
        ];
        assert_eq!(order(&stages, "f: new", &others), [2, 1, 0]);
        assert_eq!(order(&stages, "h: new", &others), [0, 1, 2]);
    }

    #[test]
    fn what_may_be_chance_is_run_again() {
        let chance = |by: &[&str]| {
            let by: Vec<String> = by.iter().map(|&name| name.into()).collect();
            may_be_chance(&by)
        };
        assert!(chance(&["switch/p2pdma_map/one"]));
        assert!(!chance(&["switch/p2pdma_map/one", "switch/p2pdma_map/two"]));
        assert!(chance(&[
            "switch/p2pdma_pool/start",
            "switch/p2pdma_map/start"
        ]));
        assert!(chance(&[
            "switch/p2pdma_map/guest",
            "switch/p2pdma_map/kernel_log"
        ]));
    }

    #[test]
    fn what_does_not_end_is_ended() {
        let sleep = |seconds: &str| Command::new("sleep").arg(seconds).spawn().expect("runs");
        let start = Instant::now();
        assert!(wait(sleep("60"), Duration::from_millis(100))
            .expect("waited")
            .is_none());
        assert!(start.elapsed() < Duration::from_secs(30));
        let status = wait(sleep("0"), Duration::from_secs(30)).expect("waited");
        assert!(status.is_some_and(|status| status.success()));
    }
}
