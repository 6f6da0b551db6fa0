// SPDX-License-Identifier: GPL-2.0

//! What runs where, and when: topologies in parts, shards, guests side by side.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::panic::{catch_unwind, AssertUnwindSafe};
use std::path::Path;
use std::sync::{Condvar, Mutex, PoisonError};

use anyhow::{anyhow, bail, Context, Result};
use serde::{Deserialize, Serialize};

use crate::qemu::parse_size;
use crate::report::{TopologyReport, KERNEL_LOG};
use crate::suite::Test;
use crate::topology::Topology;

/// File with the costs, beside `tests.toml` and in the results of a run.
pub const COSTS: &str = "costs.toml";

/// Seconds that a test takes that nothing is known of.
const UNKNOWN: f64 = 10.0;

/// Seconds that a guest takes beside its tests, where nothing is known of it.
const UNKNOWN_BOOT: f64 = 12.0;

/// What QEMU needs beside the memory of its guest.
const OVERHEAD: u64 = 384 << 20;

/// More is no load, but a machine on which nothing can be told: it has less of a host than the
/// host's load speaks of.
const MOST: f64 = 20.0;

/// What is left to others of the memory that is available.
const RESERVE: u64 = 512 << 20;

/// How long topologies and tests have taken, in seconds of one machine: only the ratios count.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Costs(BTreeMap<String, TopologyCosts>);

#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct TopologyCosts {
    /// From the start of QEMU to the first test, and from the last test to the end.
    boot: f64,
    tests: BTreeMap<String, f64>,
}

impl Costs {
    /// Reads the table of a suite. Without one, all tests cost the same.
    pub fn read(suite: &Path) -> Result<Self> {
        let path = suite.join(COSTS);
        match fs::read_to_string(&path) {
            Ok(text) => toml::from_str(&text).with_context(|| path.display().to_string()),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(Self::default()),
            Err(error) => Err(error).with_context(|| path.display().to_string()),
        }
    }

    /// Takes over what a run has measured.
    pub fn update(&mut self, topologies: &[TopologyReport]) {
        for report in topologies {
            let tests = report.tests.iter().filter(|test| test.seconds > 0.0);
            let inside: f64 = tests.clone().map(|test| test.seconds).sum();
            let row = self.0.entry(report.name.clone()).or_default();
            // A guest that was booted again, or in parts, says nothing of what one boot costs.
            if report.boots == 1 {
                row.boot = tenth((report.seconds - inside).max(0.0));
            }
            let costs = tests.map(|test| (test.name.clone(), tenth(test.seconds)));
            row.tests.extend(costs);
        }
    }

    /// Forgets what is not in the suite any more: `known` says where a test runs.
    pub fn retain(&mut self, known: impl Fn(&str, &str) -> bool) {
        for (topology, row) in &mut self.0 {
            row.tests.retain(|test, _| known(topology, test));
        }
        self.0.retain(|_, row| !row.tests.is_empty());
    }

    /// The file.
    pub fn to_toml(&self) -> Result<String> {
        let head = "# SPDX-License-Identifier: GPL-2.0\n\
                    #\n\
                    # How long tests took, in seconds; only the ratios count. `vmtest run` writes \
                    this file into its\n# results; it plans with that beside tests.toml.\n\n";
        Ok(head.to_owned() + &toml::to_string(&self.0)?)
    }

    fn boot(&self, topology: &str) -> f64 {
        self.0.get(topology).map_or(UNKNOWN_BOOT, |row| row.boot)
    }

    /// What the test costs in the topology, or in others.
    fn test(&self, topology: &str, test: &str) -> f64 {
        let in_it = self.0.get(topology).and_then(|row| row.tests.get(test));
        if let Some(&cost) = in_it {
            return cost;
        }
        let elsewhere: Vec<f64> = self
            .0
            .values()
            .filter_map(|row| row.tests.get(test).copied())
            .collect();
        if elsewhere.is_empty() {
            UNKNOWN
        } else {
            elsewhere.iter().sum::<f64>() / elsewhere.len() as f64
        }
    }
}

fn tenth(seconds: f64) -> f64 {
    (seconds * 10.0).round() / 10.0
}

/// Which of several parts something is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Part {
    /// Which, from 1 on.
    pub number: usize,
    /// Of how many.
    pub of: usize,
}

impl Default for Part {
    fn default() -> Self {
        Self::WHOLE
    }
}

impl Part {
    /// Something that is in one piece.
    pub const WHOLE: Self = Self { number: 1, of: 1 };

    /// As `I/N`.
    pub fn parse(text: &str) -> Result<Self, String> {
        let part = text.split_once('/').and_then(|(number, of)| {
            let (number, of) = (number.parse().ok()?, of.parse().ok()?);
            (1..=64).contains(&of).then_some(Self { number, of })
        });
        part.filter(|part| (1..=part.of).contains(&part.number))
            .ok_or_else(|| "it is I/N, from 1/N to N/N, and N is 64 at most, as in 2/3".into())
    }
}

impl TryFrom<String> for Part {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        Self::parse(&text)
    }
}

impl From<Part> for String {
    fn from(part: Part) -> Self {
        format!("{}/{}", part.number, part.of)
    }
}

/// What one guest does.
#[derive(Debug, Clone)]
pub struct Unit<'a> {
    /// What it is.
    pub topology: &'a Topology,
    /// Its tests, in the order of the suite.
    pub tests: Vec<&'a Test>,
    /// Which part of the topology's tests that is.
    pub part: Part,
    /// Which repetition, from 1 on.
    pub round: usize,
    /// How long it is expected to take.
    pub cost: f64,
}

impl<'a> Unit<'a> {
    fn new(topology: &'a Topology, tests: Vec<&'a Test>, part: Part, costs: &Costs) -> Self {
        let tests_cost: f64 = tests
            .iter()
            .map(|test| costs.test(&topology.name, &test.name))
            .sum();
        Self {
            topology,
            tests,
            part,
            round: 1,
            cost: costs.boot(&topology.name) + tests_cost,
        }
    }

    /// What it is called, and its files are.
    pub fn name(&self) -> String {
        match self.part {
            Part { number: 1, .. } => self.topology.name.clone(),
            Part { number, .. } => format!("{}.{number}", self.topology.name),
        }
    }

    /// Cuts it into parts of about the same cost, none much more than `most`.
    fn split(self, most: f64, costs: &Costs) -> Vec<Self> {
        let parts = ((self.cost / most).ceil() as usize).clamp(1, self.tests.len().max(1));
        if parts == 1 {
            return vec![self];
        }
        let cost = |test: &Test| costs.test(&self.topology.name, &test.name);
        let total: f64 = self.tests.iter().map(|test| cost(test)).sum();
        let mut cut: Vec<(usize, Vec<&Test>)> = Vec::new();
        let mut before = 0.0;
        for &test in &self.tests {
            // Where the middle of the test lies.
            let at = (before + cost(test) / 2.0) / total.max(f64::MIN_POSITIVE);
            let index = ((at * parts as f64) as usize).min(parts - 1);
            before += cost(test);
            match cut.last_mut() {
                Some((last, tests)) if *last == index => tests.push(test),
                _ => cut.push((index, vec![test])),
            }
        }
        let of = cut.len();
        cut.into_iter()
            .enumerate()
            .map(|(index, (_, tests))| {
                let number = index + 1;
                Self::new(self.topology, tests, Part { number, of }, costs)
            })
            .collect()
    }
}

/// Guests that a shard is cut for, whatever machine runs it: all of them have to cut alike.
const SHARD_JOBS: usize = 3;

/// The names of all tests, by topology.
pub fn tests(work: &[(&Topology, Vec<&Test>)]) -> BTreeMap<String, Vec<String>> {
    work.iter()
        .map(|(topology, tests)| {
            let names = tests.iter().map(|test| test.name.clone());
            (topology.name.clone(), names.collect())
        })
        .collect()
}

/// What is to be run, the longest first.
///
/// A topology that would take longer than its share of the whole is run in parts, by several
/// guests.
pub fn plan<'a>(
    work: &[(&'a Topology, Vec<&'a Test>)],
    costs: &Costs,
    shard: Part,
    rounds: usize,
    jobs: usize,
) -> Vec<Unit<'a>> {
    let whole = work
        .iter()
        .map(|(topology, tests)| Unit::new(topology, tests.clone(), Part::WHOLE, costs))
        .collect::<Vec<_>>();
    let total: f64 = whole.iter().map(|unit| unit.cost).sum();
    // What is repeated fills the machine by itself.
    let pieces = match (shard.of, rounds) {
        (1, 1) => jobs,
        (1, _) => 1,
        (of, _) => of * SHARD_JOBS,
    };
    let mut units: Vec<Unit<'_>> = whole
        .into_iter()
        .flat_map(|unit| unit.split(total / pieces as f64, costs))
        .collect();
    units.sort_by(|a, b| b.cost.total_cmp(&a.cost));

    let mut load = vec![0.0_f64; shard.of];
    units.retain(|unit| {
        let least = (0..load.len())
            .min_by(|&a, &b| load[a].total_cmp(&load[b]))
            .unwrap_or(0);
        load[least] += unit.cost;
        least + 1 == shard.number
    });
    let mut all = Vec::new();
    for round in 1..=rounds {
        all.extend(units.iter().cloned().map(|unit| Unit { round, ..unit }));
    }
    all
}

/// How many guests fit side by side, and how much memory they may take together.
#[derive(Debug, Clone, Copy)]
pub struct Room {
    /// Guests.
    pub jobs: usize,
    /// Bytes.
    pub memory: u64,
}

impl Room {
    /// That of this machine.
    pub fn of_machine(jobs: Option<usize>) -> Self {
        let text = fs::read_to_string("/proc/meminfo").unwrap_or_default();
        Self {
            jobs: jobs.unwrap_or_else(|| jobs_for(processors())).max(1),
            memory: available_memory(&text)
                .unwrap_or(u64::MAX)
                .saturating_sub(RESERVE),
        }
    }

    /// How many threads want each processor while `jobs` guests run and `stress` threads are busy;
    /// 1 where there are more processors, and never more than 20.
    pub fn load(&self, stress: usize) -> f64 {
        let text = fs::read_to_string("/proc/loadavg").unwrap_or_default();
        let others = text
            .split_whitespace()
            .next()
            .and_then(|load| load.parse::<f64>().ok())
            .unwrap_or(0.0);
        let wanted = (2 * self.jobs + stress) as f64 + others;
        (wanted / processors() as f64).clamp(1.0, MOST)
    }
}

/// Guests that keep this many processors busy. A guest has one or two, and rarely work for both;
/// and for a good part of the time it waits, for grace periods of RCU above all.
fn jobs_for(processors: usize) -> usize {
    processors + processors / 2
}

/// Processors of this machine.
pub fn processors() -> usize {
    std::thread::available_parallelism().map_or(1, |count| count.get())
}

fn available_memory(meminfo: &str) -> Option<u64> {
    let line = meminfo
        .lines()
        .find_map(|line| line.strip_prefix("MemAvailable:"))?;
    let kib: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    Some(kib << 10)
}

/// Runs `one` for all units, as many at a time as there is room for, in their order. What is over
/// is handed to `done` in the order in which it ends, and once something is an error, nothing is
/// begun.
pub fn side_by_side<T: Send>(
    units: &[Unit<'_>],
    room: Room,
    one: &(dyn Fn(&Unit<'_>) -> Result<T> + Sync),
    mut done: impl FnMut(&Unit<'_>, T) -> Result<()> + Send,
) -> Result<()> {
    struct State {
        pending: Vec<usize>,
        running: usize,
        memory: u64,
        result: Result<()>,
    }
    let need = |index: usize| {
        let memory = &units[index].topology.memory;
        parse_size(memory).unwrap_or(0).saturating_add(OVERHEAD)
    };
    let state = Mutex::new(State {
        pending: (0..units.len()).rev().collect(),
        running: 0,
        memory: room.memory,
        result: Ok(()),
    });
    let changed = Condvar::new();
    let done = Mutex::new(&mut done);
    let lock = || state.lock().unwrap_or_else(PoisonError::into_inner);
    // What there is room for; if there is room for nothing, one at a time is run all the same.
    let next = || {
        let mut state = lock();
        while state.result.is_ok() && !state.pending.is_empty() {
            let fits = |&index: &usize| state.running == 0 || need(index) <= state.memory;
            let Some(at) = state.pending.iter().rposition(fits) else {
                state = changed.wait(state).unwrap_or_else(PoisonError::into_inner);
                continue;
            };
            let index = state.pending.remove(at);
            state.running += 1;
            state.memory = state.memory.saturating_sub(need(index));
            return Some(index);
        }
        None
    };
    // Each worker outlives the guests that it starts, which QEMU ends with their parent thread.
    std::thread::scope(|scope| {
        for _ in 0..room.jobs.min(units.len()) {
            scope.spawn(|| {
                while let Some(index) = next() {
                    let run = || {
                        let value = one(&units[index])?;
                        let mut done = done.lock().unwrap_or_else(PoisonError::into_inner);
                        done(&units[index], value)
                    };
                    // Others wait for what this one has taken, whatever becomes of it.
                    let result = catch_unwind(AssertUnwindSafe(run))
                        .unwrap_or_else(|_| Err(anyhow!("a worker failed")));
                    let mut state = lock();
                    state.running -= 1;
                    state.memory = state.memory.saturating_add(need(index)).min(room.memory);
                    if state.result.is_ok() {
                        state.result = result;
                    }
                    changed.notify_all();
                }
            });
        }
    });
    state
        .into_inner()
        .map_err(|_| anyhow!("a worker failed"))?
        .result
}

/// Puts parts of topologies together, where all parts of one are there, and the topologies in
/// order.
pub fn join(mut reports: Vec<TopologyReport>) -> Vec<TopologyReport> {
    reports.sort_by(|a, b| (&a.name, a.part.number).cmp(&(&b.name, b.part.number)));
    let mut joined: Vec<TopologyReport> = Vec::new();
    let mut rest = reports.into_iter().peekable();
    while let Some(first) = rest.next() {
        let mut others = Vec::new();
        while rest.peek().is_some_and(|next| next.name == first.name) {
            others.extend(rest.next());
        }
        if others.len() + 1 == first.part.of && !others.is_empty() {
            joined.push(whole(first, others));
        } else {
            joined.push(first);
            joined.append(&mut others);
        }
    }
    joined
}

/// Checks that what was put together is all that was planned, and nothing twice: shards that were
/// cut by other costs may not fit together.
pub fn is_whole(
    topologies: &[TopologyReport],
    mut planned: BTreeMap<String, Vec<String>>,
) -> Result<()> {
    for report in topologies {
        let name = &report.name;
        let tests = planned.remove(name).ok_or_else(|| {
            anyhow!("topology {name} is there twice: the shards were cut by different costs")
        })?;
        let found: BTreeSet<&str> = report.tests.iter().map(|test| &*test.name).collect();
        if let Some(test) = tests.iter().find(|test| !found.contains(test.as_str())) {
            bail!("{test} was not run in {name}: the shards were cut by different costs");
        }
    }
    match planned.keys().next() {
        Some(name) => bail!("nothing was run in {name}: the shards were cut by different costs"),
        None => Ok(()),
    }
}

/// One report of all parts, with one verdict on the kernel log.
fn whole(mut all: TopologyReport, others: Vec<TopologyReport>) -> TopologyReport {
    all.part = Part::WHOLE;
    for part in others {
        all.boots += part.boots;
        all.seconds += part.seconds;
        all.boot_seconds += part.boot_seconds;
        all.tests.extend(part.tests);
    }
    let (mut logs, mut tests): (Vec<_>, Vec<_>) = std::mem::take(&mut all.tests)
        .into_iter()
        .partition(|test| test.name == KERNEL_LOG);
    // A failure is what there is to see; what is known of others stays.
    logs.sort_by_key(|log| log.status != crate::ktap::Status::Fail);
    let mut logs = logs.into_iter();
    if let Some(mut log) = logs.next() {
        for other in logs {
            log.diagnostics.extend(other.diagnostics);
            if !other.reason.is_empty() {
                log.reason = format!("{}; {}", log.reason, other.reason);
            }
        }
        for case in &mut log.cases {
            case.reason.clone_from(&log.reason);
        }
        tests.push(log);
    }
    all.tests = tests;
    all
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::*;
    use crate::ktap::{Case, Status};
    use crate::report::TestReport;

    fn topology(name: &str, memory: &str) -> Topology {
        let text =
            format!("name = \"{name}\"\ndescription = \"\"\nmemory = \"{memory}\"\ndevices = []");
        Topology::parse(&text).expect("parses")
    }

    fn tests(names: &[&str]) -> Vec<Test> {
        let test = |name: &&str| Test {
            name: (*name).into(),
            ..Test::default()
        };
        names.iter().map(test).collect()
    }

    fn costs() -> Costs {
        toml::from_str(
            "[large]\nboot = 10.0\n[large.tests]\na = 30.0\nb = 30.0\nc = 30.0\nd = 30.0\n\
             [small]\nboot = 10.0\n[small.tests]\na = 5.0\nb = 15.0\n",
        )
        .expect("parses")
    }

    fn names(units: &[Unit<'_>]) -> Vec<(String, Vec<String>)> {
        let tests = |unit: &Unit<'_>| unit.tests.iter().map(|test| test.name.clone()).collect();
        units
            .iter()
            .map(|unit| (unit.name(), tests(unit)))
            .collect()
    }

    #[test]
    fn parts_are_read() {
        assert_eq!(Part::parse("2/3"), Ok(Part { number: 2, of: 3 }));
        assert_eq!(Part::parse("1/1"), Ok(Part::WHOLE));
        for wrong in ["0/3", "4/3", "1/0", "1", "a/b", "1/65", "", "-1/2"] {
            assert!(Part::parse(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn what_is_not_known_costs_as_much_as_elsewhere() {
        let costs = costs();
        assert_eq!(costs.test("large", "a"), 30.0);
        assert_eq!(costs.test("other", "a"), 17.5);
        assert_eq!(costs.test("small", "d"), 30.0);
        assert_eq!(costs.test("small", "x"), UNKNOWN);
        assert_eq!(costs.boot("other"), UNKNOWN_BOOT);
    }

    #[test]
    fn the_longest_is_first_and_what_is_too_long_is_cut() {
        let (small, large) = (topology("small", "1G"), topology("large", "1G"));
        let all = tests(&["a", "b", "c", "d"]);
        let work = [
            (&small, all[..2].iter().collect::<Vec<_>>()),
            (&large, all.iter().collect()),
        ];
        let one = plan(&work, &costs(), Part::WHOLE, 1, 1);
        assert_eq!(one.len(), 2);
        assert_eq!((one[0].name().as_str(), one[0].cost), ("large", 130.0));
        assert_eq!((one[1].name().as_str(), one[1].cost), ("small", 30.0));
        // 160 by two: 130 is too much.
        let two = names(&plan(&work, &costs(), Part::WHOLE, 1, 2));
        let words = |words: &[&str]| words.iter().map(|&word| word.into()).collect::<Vec<_>>();
        assert_eq!(
            two,
            [
                ("large".into(), words(&["a", "b"])),
                ("large.2".into(), words(&["c", "d"])),
                ("small".into(), words(&["a", "b"])),
            ]
        );
        // Of what is repeated there is enough.
        let rounds = plan(&work, &costs(), Part::WHOLE, 3, 2);
        assert_eq!(rounds.len(), 6);
        assert_eq!(rounds[5].round, 3);
    }

    #[test]
    fn shards_are_all_there_is_and_nothing_twice() {
        let (small, large) = (topology("small", "1G"), topology("large", "1G"));
        let all = tests(&["a", "b", "c", "d"]);
        let work = [
            (&small, all[..2].iter().collect::<Vec<_>>()),
            (&large, all.iter().collect()),
        ];
        for of in 1..8 {
            let mut found = Vec::new();
            for number in 1..=of {
                // Each on a machine of its own.
                for unit in plan(&work, &costs(), Part { number, of }, 1, number) {
                    let name = unit.topology.name.clone();
                    found.extend(unit.tests.iter().map(|test| (name.clone(), &test.name)));
                }
            }
            found.sort();
            assert_eq!(found.len(), 6, "{of}: {found:?}");
            found.dedup();
            assert_eq!(found.len(), 6, "{of}: {found:?}");
        }
    }

    #[test]
    fn guests_run_where_there_is_memory_for_them() {
        let (small, large) = (topology("small", "1G"), topology("large", "9G"));
        let unit = |topology| Unit::new(topology, Vec::new(), Part::WHOLE, &Costs::default());
        let units = [unit(&large), unit(&small), unit(&small), unit(&large)];
        let (now, most) = (AtomicUsize::new(0), AtomicUsize::new(0));
        let room = Room {
            jobs: 4,
            memory: 12 << 30,
        };
        let one = |unit: &Unit<'_>| {
            let gib = parse_size(&unit.topology.memory).expect("a size") as usize >> 30;
            most.fetch_max(now.fetch_add(gib, Ordering::SeqCst) + gib, Ordering::SeqCst);
            std::thread::sleep(std::time::Duration::from_millis(20));
            now.fetch_sub(gib, Ordering::SeqCst);
            Ok(())
        };
        let mut count = 0;
        side_by_side(&units, room, &one, |_, ()| {
            count += 1;
            Ok(())
        })
        .expect("runs");
        assert_eq!(count, 4);
        assert!(most.load(Ordering::SeqCst) < 12);
        // One that does not fit is run alone, and an error is the end of it.
        let room = Room { jobs: 4, memory: 0 };
        side_by_side(&units, room, &one, |_, ()| Ok(())).expect("runs");
        let tried = AtomicUsize::new(0);
        let wrong = |_: &Unit<'_>| -> Result<()> {
            tried.fetch_add(1, Ordering::SeqCst);
            Err(anyhow!("no such thing"))
        };
        let error = side_by_side(&units, room, &wrong, |_, ()| Ok(())).expect_err("fails");
        assert_eq!(error.to_string(), "no such thing");
        assert_eq!(tried.load(Ordering::SeqCst), 1);
    }

    #[test]
    fn who_waits_for_memory_is_told_that_a_worker_failed() {
        let large = topology("large", "9G");
        let unit = || Unit::new(&large, Vec::new(), Part::WHOLE, &Costs::default());
        let units = [unit(), unit()];
        let room = Room {
            jobs: 2,
            memory: 12 << 30,
        };
        let wrong = |_: &Unit<'_>| -> Result<()> {
            std::thread::sleep(std::time::Duration::from_millis(20));
            panic!("on purpose")
        };
        let error = side_by_side(&units, room, &wrong, |_, ()| Ok(())).expect_err("fails");
        assert_eq!(error.to_string(), "a worker failed");
    }

    #[test]
    fn guests_are_more_than_processors() {
        for (processors, jobs) in [(1, 1), (2, 3), (3, 4), (16, 24)] {
            assert_eq!(jobs_for(processors), jobs);
        }
    }

    fn report(name: &str, part: Part, test: &str, log: Status) -> TopologyReport {
        let verdict = |name: &str, status| TestReport {
            name: name.into(),
            status,
            reason: if status == Status::Fail {
                format!("wrong in {test}")
            } else {
                String::new()
            },
            cases: vec![Case {
                name: name.into(),
                status,
                reason: String::new(),
            }],
            seconds: 1.0,
            ..TestReport::default()
        };
        TopologyReport {
            name: name.into(),
            part,
            accelerator: "kvm".into(),
            tests: vec![verdict(test, Status::Pass), verdict(KERNEL_LOG, log)],
            boots: 1,
            seconds: 5.0,
            boot_seconds: 2.0,
        }
    }

    #[test]
    fn parts_become_what_the_whole_would_be() {
        let part = |number| Part { number, of: 2 };
        let joined = join(vec![
            report("b", part(2), "late", Status::Fail),
            report("c", part(1), "half", Status::Pass),
            report("a", Part::WHOLE, "t", Status::Pass),
            report("b", part(1), "early", Status::Pass),
        ]);
        let found: Vec<(&str, Part)> = joined
            .iter()
            .map(|report| (report.name.as_str(), report.part))
            .collect();
        assert_eq!(
            found,
            [("a", Part::WHOLE), ("b", Part::WHOLE), ("c", part(1))]
        );
        let tests: Vec<&str> = joined[1].tests.iter().map(|test| &*test.name).collect();
        assert_eq!(tests, ["early", "late", KERNEL_LOG]);
        let log = &joined[1].tests[2];
        assert_eq!((log.status, log.cases.len()), (Status::Fail, 1));
        assert_eq!(log.reason, "wrong in late");
        assert_eq!(joined[1].boots, 2);
    }

    #[test]
    fn shards_that_do_not_fit_are_not_put_together() {
        let part = |number| Part { number, of: 2 };
        let planned = BTreeMap::from([
            ("a".to_owned(), vec!["t".to_owned()]),
            ("b".to_owned(), vec!["early".to_owned(), "late".to_owned()]),
        ]);
        let a = || report("a", Part::WHOLE, "t", Status::Pass);
        let early = || report("b", part(1), "early", Status::Pass);
        let late = || report("b", part(2), "late", Status::Pass);
        let says = |reports| match is_whole(&join(reports), planned.clone()) {
            Ok(()) => String::new(),
            Err(error) => error.to_string(),
        };
        assert_eq!(says(vec![a(), early(), late()]), "");
        assert!(says(vec![a(), early()]).starts_with("late was not run in b:"));
        assert!(says(vec![early(), late()]).starts_with("nothing was run in a:"));
        assert!(says(vec![a(), a(), early(), late()]).starts_with("topology a is there twice:"));
    }

    #[test]
    fn what_a_run_measures_is_kept() {
        let mut costs = costs();
        costs.update(&[report("small", Part::WHOLE, "a", Status::Pass)]);
        assert_eq!(costs.test("small", "a"), 1.0);
        assert_eq!(costs.test("small", "b"), 15.0);
        assert_eq!(costs.boot("small"), 3.0);
        costs.retain(|topology, test| topology == "small" && test != "b");
        let text = costs.to_toml().expect("serializes");
        assert!(text.contains("[small.tests]\na = 1.0\n"), "{text}");
        assert!(!text.contains("large") && !text.contains("b ="), "{text}");
        assert_eq!(toml::from_str::<Costs>(&text).expect("parses"), costs);
        assert_eq!(
            available_memory("MemFree: 1 kB\nMemAvailable:  2 kB\n"),
            Some(2048)
        );
        assert_eq!(available_memory(""), None);
    }
}
