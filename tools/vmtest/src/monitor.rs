// SPDX-License-Identifier: GPL-2.0

//! Watches one boot: knows its stage, what runs and until when, and what the kernel complains
//! about.
//!
//! Nothing here reads a clock or a file: time comes in with each call, which is how it is tested.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::{Duration, Instant};

use vmtest_guest::{parse_marker, Edge, Event, Message, Outcome};

use crate::splat::{strip_stamp, Detector, Splat};

/// Lines of the console that are shown when a guest dies.
const CONSOLE_TAIL: usize = 25;

/// How long things may take on the host's side.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// From the start of QEMU to the first test.
    pub boot: Duration,
    /// From one line of the console to the next, before there is init.
    pub silence: Duration,
    /// From one test's end to the next one's begin, and from the last event to the power-off.
    pub idle: Duration,
    /// Added to a test's own limit, which the guest enforces: killing and reaping takes time.
    pub grace: Duration,
}

impl Limits {
    /// The limits for a machine that is `scale` times slower than usual.
    pub fn scaled(scale: f64) -> Self {
        Self {
            boot: Duration::from_secs(120).mul_f64(scale),
            silence: Duration::from_secs(20).mul_f64(scale),
            idle: Duration::from_secs(60).mul_f64(scale),
            grace: Duration::from_secs(15).mul_f64(scale),
        }
    }
}

/// How a test ended, as far as the runner can tell.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Ending {
    /// The guest reported it.
    Reported(Outcome),
    /// The guest died or fell silent while it ran.
    GuestLost {
        /// How.
        how: String,
        /// The last lines of the console.
        console: Vec<String>,
    },
    /// It was never started.
    NotRun {
        /// Why.
        why: String,
    },
}

/// One test, as it came out of the guest.
#[derive(Debug, Clone)]
pub struct Raw {
    /// Its index in the topology.
    pub test: usize,
    /// How it ended.
    pub ending: Ending,
    /// Its output.
    pub output: Vec<String>,
    /// What the kernel complained about while it ran.
    pub splats: Vec<Splat>,
    /// Bits it added to the kernel's taint.
    pub taint: u64,
    /// How long it ran in the guest.
    pub duration: Duration,
}

/// What has happened that others want to know at once.
#[derive(Debug)]
pub enum Notice {
    /// Another stage of the boot.
    Stage(String),
    /// A test has begun.
    Started(usize),
    /// A line of its output, and whether it is known to come from standard error.
    Output(String, bool),
    /// A test is over.
    Finished(Box<Raw>),
}

/// Whether to go on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Step {
    /// Go on.
    Continue,
    /// Kill the guest.
    Kill,
}

#[derive(Debug)]
struct Running {
    raw: Raw,
    since: Instant,
    limit: Duration,
    /// Reported as finished; only the end of it in the kernel log is still missing.
    finished: Option<Instant>,
}

/// The watcher of one boot.
#[derive(Debug)]
pub struct Monitor {
    token: String,
    limits: Limits,
    /// Tests that are still to come in this boot, with their time limits.
    pending: VecDeque<(usize, Duration)>,
    stage: String,
    /// Since when the stage lasts, for the limits.
    since: Instant,
    booted: bool,
    running: Option<Running>,
    detector: Detector,
    console: VecDeque<String>,
    seq: u64,
    /// Events that came after the end of a test whose end in the kernel log is still missing: the
    /// two streams are read one beside the other, and either may be ahead.
    deferred: VecDeque<Event>,
    /// The test that is running according to the kernel log.
    in_log: Option<usize>,
    /// Tests whose end stands in the kernel log.
    ended_in_log: BTreeSet<usize>,
    /// What the kernel complained about, by test.
    test_splats: BTreeMap<usize, Vec<Splat>>,
    /// What the kernel complained about outside any test.
    pub splats: Vec<Splat>,
    /// What else went wrong outside any test.
    pub problems: Vec<String>,
    /// What kmemleak reported, once it was asked.
    pub kmemleak: Option<Vec<String>>,
    /// Whether the guest said that it is done.
    pub done: bool,
    /// Why the boot ended before it was done.
    pub lost: Option<String>,
    /// Whether a test is to blame for that, and has failed for it.
    pub lost_by_test: bool,
    /// Whether that was because the kernel said nothing more before it came to init.
    pub silent: bool,
    /// Release of the kernel that runs.
    pub release: Option<String>,
    spoke: bool,
    /// Whether the console has spoken since it was last looked at, and when that was so.
    speaks: bool,
    spoken: Instant,
}

impl Monitor {
    /// Watches a boot in which `tests` (index and time limit) are to run.
    pub fn new(
        token: &str,
        limits: Limits,
        tests: impl IntoIterator<Item = (usize, Duration)>,
        now: Instant,
    ) -> Self {
        Self {
            token: token.into(),
            limits,
            pending: tests.into_iter().collect(),
            stage: "starting the machine".into(),
            since: now,
            booted: false,
            running: None,
            detector: Detector::default(),
            console: VecDeque::new(),
            seq: 0,
            deferred: VecDeque::new(),
            in_log: None,
            ended_in_log: BTreeSet::new(),
            test_splats: BTreeMap::new(),
            splats: Vec::new(),
            problems: Vec::new(),
            kmemleak: None,
            done: false,
            lost: None,
            lost_by_test: false,
            silent: false,
            release: None,
            spoke: false,
            speaks: false,
            spoken: now,
        }
    }

    /// Whether the guest's console has said anything at all.
    pub fn console_spoke(&self) -> bool {
        self.spoke
    }

    /// Tests that were not started in this boot.
    #[cfg(test)]
    pub fn not_started(&self) -> impl Iterator<Item = usize> + '_ {
        self.pending.iter().map(|(test, _)| *test)
    }

    /// Moves all limits by a time in which nobody looked at the guest: that is not the guest's.
    /// None of them begins later than `now`.
    pub fn postpone(&mut self, gap: Duration, now: Instant) {
        let later = |at: &mut Instant| *at = (*at + gap).min(now);
        later(&mut self.since);
        later(&mut self.spoken);
        if let Some(running) = &mut self.running {
            later(&mut running.since);
            running.finished.iter_mut().for_each(later);
        }
    }

    /// The last lines of the console.
    pub fn console_tail(&self) -> Vec<String> {
        self.console.iter().cloned().collect()
    }

    /// Takes a line of the console.
    pub fn console(&mut self, line: &str) -> Vec<Notice> {
        let mut notices = Vec::new();
        self.speaks = true;
        if !self.spoke {
            self.spoke = true;
            notices.push(self.enter("booting the kernel"));
        }
        if self.console.len() == CONSOLE_TAIL {
            self.console.pop_front();
        }
        self.console.push_back(line.trim_end().into());
        if line.contains(" printk messages dropped **") {
            let what = strip_stamp(line);
            self.problems
                .push(format!("lines of the kernel log are lost: {what}"));
        }
        if let Some((edge, test)) = parse_marker(&self.token, line) {
            // A splat has no place in two tests.
            let splat = self.detector.flush();
            self.attribute(splat);
            match edge {
                Edge::Begin => self.in_log = Some(test),
                Edge::End => {
                    self.in_log = None;
                    self.ended_in_log.insert(test);
                    notices.extend(self.settle());
                }
            }
        } else {
            let splat = self.detector.line(line);
            self.attribute(splat);
        }
        notices
    }

    /// A splat belongs to the test that is running where it stands in the kernel log.
    fn attribute(&mut self, splat: Option<Splat>) {
        let Some(splat) = splat else { return };
        match self.in_log {
            Some(test) => self.test_splats.entry(test).or_default().push(splat),
            None => self.splats.push(splat),
        }
    }

    /// Takes a line of the port.
    pub fn port(&mut self, line: &str, now: Instant) -> Vec<Notice> {
        if line.trim().is_empty() {
            return Vec::new();
        }
        match serde_json::from_str::<Message>(line) {
            Ok(message) => {
                if message.seq != self.seq {
                    self.problems.push(format!(
                        "the guest's port lost messages {} to {}",
                        self.seq,
                        message.seq.wrapping_sub(1)
                    ));
                }
                self.seq = message.seq.wrapping_add(1);
                self.event(message.event, now)
            }
            Err(error) => {
                self.problems
                    .push(format!("unreadable message of the guest ({error}): {line}"));
                Vec::new()
            }
        }
    }

    fn event(&mut self, event: Event, now: Instant) -> Vec<Notice> {
        if self
            .running
            .as_ref()
            .is_some_and(|running| running.finished.is_some())
        {
            self.deferred.push_back(event);
            return Vec::new();
        }
        // The boot has one limit for all its stages together; from then on any event will do.
        if self.booted {
            self.since = now;
        }
        match event {
            Event::Hello { release } => {
                self.release = Some(release);
                vec![self.enter("starting init")]
            }
            Event::Stage { name } => vec![self.enter(&name)],
            Event::Started { test } => {
                let mut notices = Vec::new();
                match self.pending.pop_front() {
                    Some((expected, limit)) if expected == test && self.running.is_none() => {
                        self.booted = true;
                        self.since = now;
                        self.running = Some(Running {
                            raw: Raw {
                                test,
                                ending: Ending::NotRun { why: String::new() },
                                output: Vec::new(),
                                splats: Vec::new(),
                                taint: 0,
                                duration: Duration::ZERO,
                            },
                            since: now,
                            limit,
                            finished: None,
                        });
                        notices.push(Notice::Started(test));
                    }
                    other => {
                        if let Some(other) = other {
                            self.pending.push_front(other);
                        }
                        self.problems
                            .push(format!("the guest started test {test} out of turn"));
                    }
                }
                notices
            }
            Event::Output { test, line, err } => match &mut self.running {
                Some(running) if running.raw.test == test => {
                    running.raw.output.push(line.clone());
                    vec![Notice::Output(line, err)]
                }
                _ => {
                    self.problems
                        .push(format!("output of test {test}, which does not run: {line}"));
                    Vec::new()
                }
            },
            Event::Finished {
                test,
                outcome,
                duration_ms,
                taint,
            } => {
                match &mut self.running {
                    Some(running) if running.raw.test == test => {
                        self.lost_by_test |= matches!(outcome, Outcome::Unkillable { .. });
                        running.raw.ending = Ending::Reported(outcome);
                        running.raw.duration = Duration::from_millis(duration_ms);
                        running.raw.taint = taint;
                        running.finished = Some(now);
                    }
                    _ => self
                        .problems
                        .push(format!("end of test {test}, which does not run")),
                }
                self.settle()
            }
            Event::Kmemleak { report } => {
                self.kmemleak.get_or_insert_default().extend(report);
                Vec::new()
            }
            Event::Fatal { message } => {
                self.lost = Some(message);
                self.since = now;
                Vec::new()
            }
            Event::Bye => {
                self.done = true;
                self.since = now;
                vec![self.enter("powering off")]
            }
        }
    }

    fn enter(&mut self, stage: &str) -> Notice {
        self.stage = stage.into();
        Notice::Stage(stage.into())
    }

    /// Hands out the running test once both ends of it have been seen.
    fn settle(&mut self) -> Vec<Notice> {
        match &self.running {
            Some(running)
                if running.finished.is_some() && self.ended_in_log.contains(&running.raw.test) =>
            {
                self.conclude()
            }
            _ => Vec::new(),
        }
    }

    /// Hands out the running test as it is, and catches up with what came after it.
    fn conclude(&mut self) -> Vec<Notice> {
        let Some(mut running) = self.running.take() else {
            return Vec::new();
        };
        let test = running.raw.test;
        if !self.ended_in_log.contains(&test) {
            self.problems.push(format!(
                "the end of test {test} never came on the console; warnings may be missed"
            ));
        }
        running.raw.splats = self.test_splats.remove(&test).unwrap_or_default();
        let since = running.finished.unwrap_or(running.since);
        let mut notices = vec![Notice::Finished(Box::new(running.raw))];
        // Each of them may be the end of another test, which defers the rest again.
        for event in std::mem::take(&mut self.deferred) {
            notices.extend(self.event(event, since));
        }
        notices
    }

    /// Whether the kernel came to nothing before init as those do whose processors are emulated, on
    /// a busy machine: they hang where the second one is brought up, or meet a breakpoint that was
    /// there only while the kernel patched its code.
    pub fn emulation_failed(&self) -> bool {
        let patched = |splat: &Splat| splat.title.contains("int3: 0000");
        match self.splats.first() {
            None => self.silent,
            Some(first) => self.release.is_none() && patched(first),
        }
    }

    /// Looks at the limits.
    pub fn tick(&mut self, now: Instant) -> (Step, Vec<Notice>) {
        if std::mem::take(&mut self.speaks) {
            self.spoken = now;
        }
        let quiet = now.saturating_duration_since(self.spoken);
        if self.spoke && self.release.is_none() && quiet >= self.limits.silence {
            self.silent = true;
            self.lost.get_or_insert(format!(
                "the kernel said nothing more in {} s, in the stage \"{}\"",
                self.limits.silence.as_secs(),
                self.stage
            ));
            return (Step::Kill, Vec::new());
        }
        let Some(running) = &self.running else {
            let (limit, what) = if self.booted || self.done || self.lost.is_some() {
                (self.limits.idle, "nothing more came")
            } else {
                (self.limits.boot, "the boot did not get any further")
            };
            if now.saturating_duration_since(self.since) < limit {
                return (Step::Continue, Vec::new());
            }
            let message = format!(
                "{what} in {} s, in the stage \"{}\"",
                limit.as_secs(),
                self.stage
            );
            if self.done {
                self.problems.push(format!("no power-off: {message}"));
            } else {
                self.lost.get_or_insert(message);
            }
            return (Step::Kill, Vec::new());
        };
        if let Some(finished) = running.finished {
            if now.saturating_duration_since(finished) >= self.limits.grace {
                return (Step::Continue, self.conclude());
            }
            return (Step::Continue, Vec::new());
        }
        let limit = running.limit + self.limits.grace;
        if now.saturating_duration_since(running.since) < limit {
            return (Step::Continue, Vec::new());
        }
        let how = format!(
            "the whole guest hangs: no answer {} s after the test's limit of {} s",
            self.limits.grace.as_secs(),
            running.limit.as_secs()
        );
        (Step::Kill, self.lose(&how))
    }

    /// The guest is gone, and both streams have been read to their ends. `how` says in which way it
    /// went, if it should not have.
    pub fn gone(&mut self, how: &str) -> Vec<Notice> {
        let splat = self.detector.flush();
        self.attribute(splat);
        let mut notices = Vec::new();
        while self
            .running
            .as_ref()
            .is_some_and(|running| running.finished.is_some())
        {
            notices.extend(self.conclude());
        }
        if self.running.is_some() {
            notices.extend(self.lose(how));
        } else if !self.done {
            let message = format!("{how}, in the stage \"{}\"", self.stage);
            self.lost.get_or_insert(message);
        }
        // That kmemleak has a report. It was asked for it, and what is still in it is what counts.
        if self.kmemleak.is_some() {
            self.splats.retain(|splat| !splat.announces_leaks());
        }
        // Warnings of a test that the port never spoke of.
        for splats in std::mem::take(&mut self.test_splats).into_values() {
            self.splats.extend(splats);
        }
        notices
    }

    /// The guest is lost while a test runs.
    fn lose(&mut self, how: &str) -> Vec<Notice> {
        let splat = self.detector.flush();
        self.attribute(splat);
        let console = self.console_tail();
        self.lost.get_or_insert(how.into());
        self.lost_by_test = true;
        let Some(mut running) = self.running.take() else {
            return Vec::new();
        };
        running.raw.splats = self
            .test_splats
            .remove(&running.raw.test)
            .unwrap_or_default();
        let panic = running
            .raw
            .splats
            .iter()
            .find(|splat| splat.kind == "panic");
        let how = match panic {
            Some(panic) => format!("the kernel panicked: {}", panic.title),
            None => how.into(),
        };
        running.raw.ending = Ending::GuestLost { how, console };
        vec![Notice::Finished(Box::new(running.raw))]
    }
}

/// The last words of a kernel that died, without time stamps.
pub fn readable_tail(console: &[String]) -> impl Iterator<Item = &str> {
    console.iter().map(|line| strip_stamp(line))
}

#[cfg(test)]
mod tests {
    use super::*;
    use vmtest_guest::marker;

    const TOKEN: &str = "cafe";

    struct Bench {
        monitor: Monitor,
        now: Instant,
        seq: u64,
        finished: Vec<Raw>,
        notices: usize,
    }

    impl Bench {
        fn new(tests: usize) -> Self {
            let now = Instant::now();
            let limits = Limits {
                boot: Duration::from_secs(60),
                silence: Duration::from_secs(20),
                idle: Duration::from_secs(30),
                grace: Duration::from_secs(10),
            };
            let tests = (0..tests).map(|test| (test, Duration::from_secs(5)));
            Self {
                monitor: Monitor::new(TOKEN, limits, tests, now),
                now,
                seq: 0,
                finished: Vec::new(),
                notices: 0,
            }
        }

        fn keep(&mut self, notices: Vec<Notice>) {
            self.notices += notices.len();
            for notice in notices {
                if let Notice::Finished(raw) = notice {
                    self.finished.push(*raw);
                }
            }
        }

        fn console(&mut self, line: &str) {
            let notices = self.monitor.console(line);
            self.keep(notices);
        }

        fn event(&mut self, event: Event) {
            let line = serde_json::to_string(&Message {
                seq: self.seq,
                event,
            })
            .expect("serializes");
            self.seq += 1;
            let notices = self.monitor.port(&line, self.now);
            self.keep(notices);
        }

        fn start(&mut self, test: usize) {
            self.event(Event::Started { test });
            self.console(&format!("[ 1.0] {}", marker(TOKEN, Edge::Begin, test)));
        }

        fn end(&mut self, test: usize) {
            self.console(&format!("[ 1.0] {}", marker(TOKEN, Edge::End, test)));
        }

        fn finish(&mut self, test: usize) {
            self.event(Event::Finished {
                test,
                outcome: Outcome::Exited { code: 0 },
                duration_ms: 5,
                taint: 0,
            });
        }

        fn wait(&mut self, seconds: u64) -> Step {
            self.now += Duration::from_secs(seconds);
            let (step, notices) = self.monitor.tick(self.now);
            self.keep(notices);
            step
        }
    }

    #[test]
    fn a_good_boot_is_uneventful() {
        let mut bench = Bench::new(2);
        bench.console("[ 0.0] Linux version");
        bench.event(Event::Hello {
            release: "7.3.4".into(),
        });
        for test in 0..2 {
            bench.start(test);
            bench.event(Event::Output {
                test,
                line: "hello".into(),
                err: false,
            });
            bench.end(test);
            bench.finish(test);
        }
        bench.event(Event::Bye);
        let notices = bench.monitor.gone("QEMU exited");
        bench.keep(notices);
        assert_eq!(bench.finished.len(), 2);
        assert_eq!(bench.finished[1].output, ["hello"]);
        assert!(bench.monitor.done && bench.monitor.lost.is_none());
        assert_eq!(bench.monitor.problems, [""; 0]);
        assert_eq!(bench.monitor.splats, []);
        assert_eq!(bench.monitor.release.as_deref(), Some("7.3.4"));
    }

    #[test]
    fn a_warning_belongs_to_the_test_between_whose_markers_it_stands() {
        let mut bench = Bench::new(2);
        bench.console("[ 0.5] WARNING: a.c:1 at boot+0x1, CPU#0: swapper/1");
        bench.start(0);
        // The port is faster than the console here: the warning comes after the report.
        bench.finish(0);
        bench.console("[ 1.0] WARNING: a.c:1 at first+0x1, CPU#0: a/1");
        assert!(bench.finished.is_empty(), "waits for the end in the log");
        bench.end(0);
        assert_eq!(bench.finished.len(), 1);
        assert!(bench.finished[0].splats[0].title.contains("first"));
        // And slower here.
        bench.start(1);
        bench.end(1);
        bench.console("[ 1.0] WARNING: a.c:1 at after+0x1, CPU#0: a/1");
        bench.finish(1);
        bench.event(Event::Bye);
        bench.monitor.gone("QEMU exited");
        assert_eq!(bench.finished[1].splats, []);
        let titles: Vec<_> = bench.monitor.splats.iter().map(|s| &s.title).collect();
        assert_eq!(titles.len(), 2);
        assert!(titles[0].contains("boot") && titles[1].contains("after"));
    }

    #[test]
    fn the_console_may_be_far_ahead_or_behind() {
        let mut bench = Bench::new(2);
        for test in 0..2 {
            bench.console(&format!("[ 1.0] {}", marker(TOKEN, Edge::Begin, test)));
            bench.console(&format!("[ 1.0] WARNING: a.c:1 at f{test}+0x1, CPU#0: a/1"));
            bench.end(test);
        }
        for test in 0..2 {
            bench.event(Event::Started { test });
            bench.finish(test);
        }
        bench.event(Event::Bye);
        for test in 0..2 {
            assert!(bench.finished[test].splats[0]
                .title
                .contains(&format!("f{test}")));
        }
        assert!(bench.monitor.done);

        let mut bench = Bench::new(2);
        for test in 0..2 {
            bench.event(Event::Started { test });
            bench.finish(test);
        }
        bench.event(Event::Bye);
        assert!(bench.finished.is_empty() && !bench.monitor.done);
        for test in 0..2 {
            bench.console(&format!("[ 1.0] {}", marker(TOKEN, Edge::Begin, test)));
            bench.console(&format!("[ 1.0] WARNING: a.c:1 at f{test}+0x1, CPU#0: a/1"));
            bench.end(test);
        }
        bench.monitor.gone("QEMU exited");
        assert!(bench.monitor.done && bench.monitor.lost.is_none());
        assert_eq!(bench.finished.len(), 2);
        assert!(bench.finished[1].splats[0].title.contains("f1"));
        assert_eq!(bench.monitor.problems, [""; 0]);
        assert_eq!(bench.monitor.splats, []);
    }

    #[test]
    fn a_boot_that_hangs_is_killed_and_its_stage_named() {
        let mut bench = Bench::new(1);
        bench.console("[ 0.0] Linux version");
        assert_eq!(bench.wait(59), Step::Continue);
        bench.event(Event::Stage {
            name: "loading modules".into(),
        });
        assert_eq!(bench.wait(2), Step::Kill);
        let lost = bench.monitor.lost.clone().expect("lost");
        assert!(lost.contains("\"loading modules\""), "{lost}");
        assert_eq!(bench.monitor.not_started().collect::<Vec<_>>(), [0]);
    }

    #[test]
    fn time_in_which_nobody_looked_is_not_the_guests() {
        let mut bench = Bench::new(1);
        bench.start(0);
        bench.now += Duration::from_secs(3600);
        bench.monitor.postpone(Duration::from_secs(3600), bench.now);
        assert_eq!(bench.wait(4), Step::Continue);
        assert_eq!(bench.wait(3600), Step::Kill);
    }

    #[test]
    fn a_log_with_a_hole_is_a_problem() {
        let mut bench = Bench::new(1);
        bench.console("[ 1.1] ** 412 printk messages dropped **");
        let problems = &bench.monitor.problems;
        assert!(
            problems.len() == 1 && problems[0].contains("412"),
            "{problems:?}"
        );
    }

    #[test]
    fn a_guest_that_hangs_is_killed_and_the_test_named() {
        let mut bench = Bench::new(2);
        bench.start(0);
        bench.console("[ 1.1] reboot: System halted");
        assert_eq!(bench.wait(14), Step::Continue);
        assert_eq!(bench.wait(2), Step::Kill);
        assert_eq!(bench.finished.len(), 1);
        let Ending::GuestLost { how, console } = &bench.finished[0].ending else {
            panic!("{:?}", bench.finished[0].ending);
        };
        assert!(how.contains("hangs"), "{how}");
        assert!(console.iter().any(|line| line.contains("System halted")));
        assert_eq!(bench.monitor.not_started().collect::<Vec<_>>(), [1]);
    }

    #[test]
    fn a_guest_that_dies_fails_the_test_that_ran() {
        let mut bench = Bench::new(2);
        bench.start(0);
        bench.console("[ 1.1] Kernel panic - not syncing: sysrq triggered crash");
        let notices = bench.monitor.gone("QEMU exited");
        bench.keep(notices);
        let Ending::GuestLost { how, .. } = &bench.finished[0].ending else {
            panic!("{:?}", bench.finished[0].ending);
        };
        assert!(how.contains("sysrq triggered crash"), "{how}");
        assert_eq!(bench.finished[0].splats[0].kind, "panic");
        assert!(bench.monitor.lost.is_some());
    }

    #[test]
    fn a_guest_that_dies_between_tests_is_noticed() {
        let mut bench = Bench::new(1);
        bench.console("[ 0.0] Linux version");
        bench.monitor.gone("QEMU exited with status 1");
        let lost = bench.monitor.lost.clone().expect("lost");
        assert!(lost.contains("status 1"), "{lost}");
        assert!(lost.contains("booting the kernel"), "{lost}");
    }

    #[test]
    fn a_guest_that_does_not_power_off_is_killed() {
        let mut bench = Bench::new(0);
        bench.event(Event::Bye);
        assert_eq!(bench.wait(29), Step::Continue);
        assert_eq!(bench.wait(2), Step::Kill);
        assert!(bench.monitor.problems[0].contains("no power-off"));
        assert!(bench.monitor.lost.is_none());
    }

    #[test]
    fn a_kernel_that_falls_silent_does_not_have_all_the_time_of_a_boot() {
        let mut bench = Bench::new(1);
        // Of a machine that has not begun nobody expects anything yet.
        assert_eq!(bench.wait(21), Step::Continue);
        bench.console("[ 0.0] one");
        assert_eq!(bench.wait(5), Step::Continue);
        assert_eq!(bench.wait(15), Step::Continue);
        bench.console("[ 0.0] two");
        assert_eq!(bench.wait(6), Step::Continue);
        assert_eq!(bench.wait(12), Step::Continue);
        bench.monitor.limits.boot *= 2;
        assert_eq!(bench.wait(8), Step::Kill);
        assert!(bench.monitor.silent && !bench.monitor.lost_by_test);
        let lost = bench.monitor.lost.as_deref().unwrap_or_default();
        assert!(lost.contains("said nothing more in 20 s"), "{lost}");
        // Init may be silent.
        let mut bench = Bench::new(1);
        bench.console("[ 0.0] one");
        bench.event(Event::Hello {
            release: "1".into(),
        });
        assert_eq!(bench.wait(40), Step::Continue);
        assert!(!bench.monitor.silent);
    }

    #[test]
    fn a_breakpoint_before_init_is_the_emulations_fault() {
        let oops = |bench: &mut Bench| {
            bench.console("[ 8.2] Oops: int3: 0000 [#1] SMP NOPTI");
            bench.console("[ 8.3] Kernel panic - not syncing: Fatal exception in interrupt");
            let notices = bench.monitor.gone("killed");
            bench.keep(notices);
        };
        let mut bench = Bench::new(1);
        bench.console("[ 0.0] one");
        oops(&mut bench);
        assert!(bench.monitor.emulation_failed());
        // Another death is not, and this one is not when the tests have begun.
        let mut bench = Bench::new(1);
        bench.console("[ 8.3] Kernel panic - not syncing: Fatal exception in interrupt");
        oops(&mut bench);
        assert!(!bench.monitor.emulation_failed());
        let mut bench = Bench::new(1);
        bench.event(Event::Hello {
            release: "1".into(),
        });
        oops(&mut bench);
        assert!(!bench.monitor.emulation_failed());
    }

    #[test]
    fn silence_between_tests_has_its_limit() {
        let mut bench = Bench::new(2);
        bench.start(0);
        bench.end(0);
        bench.finish(0);
        bench.event(Event::Stage {
            name: "nothing".into(),
        });
        assert_eq!(bench.wait(31), Step::Kill);
        assert!(bench.monitor.lost.is_some());
    }

    #[test]
    fn a_console_that_loses_the_end_of_a_test_is_a_problem() {
        let mut bench = Bench::new(1);
        bench.start(0);
        bench.finish(0);
        assert!(bench.finished.is_empty());
        assert_eq!(bench.wait(11), Step::Continue);
        assert_eq!(bench.finished.len(), 1);
        assert!(bench.monitor.problems[0].contains("never came on the console"));
    }

    #[test]
    fn lost_and_garbled_messages_are_problems() {
        let mut bench = Bench::new(1);
        bench.seq = 2;
        bench.start(0);
        assert!(bench.monitor.problems[0].contains("lost messages 0 to 1"));
        bench.monitor.port("{ garbage", bench.now);
        bench.monitor.port("\u{fffd}\u{fffd}", bench.now);
        bench.monitor.port("", bench.now);
        bench.event(Event::Output {
            test: 9,
            line: "x".into(),
            err: false,
        });
        bench.event(Event::Finished {
            test: 9,
            outcome: Outcome::TimedOut { stacks: vec![] },
            duration_ms: 0,
            taint: 0,
        });
        bench.event(Event::Started { test: 7 });
        assert_eq!(bench.monitor.problems.len(), 6);
    }

    #[test]
    fn of_what_kmemleak_suspects_only_the_report_counts() {
        let found = |report: Option<Vec<String>>| {
            let mut bench = Bench::new(0);
            bench.console("[ 9.0] kmemleak: 2 new suspected memory leaks (see /sys)");
            if let Some(report) = report {
                bench.event(Event::Kmemleak { report });
            }
            bench.event(Event::Bye);
            bench.monitor.gone("QEMU exited");
            (bench.monitor.splats.len(), bench.monitor.kmemleak)
        };
        assert_eq!(found(Some(vec![])), (0, Some(vec![])));
        let report = vec!["unreferenced object".into()];
        assert_eq!(found(Some(report.clone())), (0, Some(report)));
        assert_eq!(found(None), (1, None));
    }

    #[test]
    fn only_the_right_token_is_a_marker() {
        let mut bench = Bench::new(1);
        bench.start(0);
        bench.finish(0);
        bench.console("[ 1.0] vmtest[0000]: end 0");
        assert!(bench.finished.is_empty());
        bench.end(0);
        assert_eq!(bench.finished.len(), 1);
    }
}
