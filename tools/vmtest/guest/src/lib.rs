// SPDX-License-Identifier: GPL-2.0

//! The protocol between the host side of the VM runner and its guest init.
//!
//! The host puts a [`Plan`] into the initramfs. The guest does what it says and reports
//! [`Message`]s, one JSON object a line, on a serial port of their own, so that they never mix with
//! the kernel's console. Where a test begins and ends is also written to the kernel log (see
//! [`marker`]): a kernel warning is thus attributed by its place in the log, not by the time at
//! which the host reads it.

use std::collections::BTreeMap;
use std::time::Duration;

use serde::{Deserialize, Serialize};

/// Where the host puts the plan in the initramfs.
pub const PLAN_PATH: &str = "/vmtest/plan.json";

/// The serial port that is the kernel's console.
#[cfg(not(target_arch = "aarch64"))]
pub const CONSOLE: &str = "/dev/ttyS0";
/// The serial port that carries the messages.
#[cfg(not(target_arch = "aarch64"))]
pub const PORT: &str = "/dev/ttyS1";

/// The serial port that is the kernel's console.
#[cfg(target_arch = "aarch64")]
pub const CONSOLE: &str = "/dev/ttyAMA0";
/// The serial port that carries the messages.
#[cfg(target_arch = "aarch64")]
pub const PORT: &str = "/dev/ttyAMA1";

/// Longest line that is passed on in one piece.
pub const LINE_LIMIT: usize = 4096;

/// What the guest shall do.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Plan {
    /// Random word in the markers, so that nothing else in the kernel log is taken for one.
    pub token: String,
    /// Run tests, or give the console to a person.
    pub mode: Mode,
    /// Modules to load before anything else, in this order.
    pub modules: Vec<Module>,
    /// NVMe controllers that must be up before the first test.
    pub nvme: Vec<NvmeController>,
    /// The driver of each device with this vendor and device id (`"1af4:1110"`), which does not
    /// find it by itself.
    pub driver_override: BTreeMap<String, String>,
    /// What `/bin/sh` does when all of that is there, and before the first test.
    pub prepare: Option<String>,
    /// The tests, in order.
    pub tests: Vec<Test>,
    /// Ask kmemleak for a report after the last test, where the kernel has it.
    pub kmemleak: bool,
    /// What the time limits of the guest's own are multiplied by, in percent.
    pub patience: u32,
}

impl Plan {
    /// A time limit of the guest's own, for a machine or kernel as slow as this one.
    pub fn limit(&self, usual: Duration) -> Duration {
        usual * self.patience / 100
    }
}

/// What the guest is for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Mode {
    /// Run [`Plan::tests`], report, power off.
    Tests,
    /// A shell on the console; power off when it exits.
    Shell {
        /// Lines of the person's terminal.
        rows: u16,
        /// Columns of the person's terminal.
        columns: u16,
        /// Environment of the shell.
        env: BTreeMap<String, String>,
    },
}

/// A kernel module in the initramfs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Module {
    /// Name, as `lsmod` shows it.
    pub name: String,
    /// Path in the initramfs.
    pub path: String,
    /// Parameters, as `insmod` takes them.
    pub params: String,
}

/// An NVMe controller the topology has; probing is asynchronous, so the guest waits for it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NvmeController {
    /// Its serial number.
    pub serial: String,
    /// Whether it has a namespace.
    pub namespace: bool,
}

/// One test program.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Test {
    /// Index among all tests of the topology; it survives a second boot.
    pub index: usize,
    /// Program and arguments.
    pub argv: Vec<String>,
    /// Its whole environment.
    pub env: BTreeMap<String, String>,
    /// Modules to load before it, beyond [`Plan::modules`].
    pub modules: Vec<Module>,
    /// Time limit.
    pub timeout_ms: u64,
    /// Bytes of output that are passed on. What comes after them is dropped, and that is said.
    pub output_limit: u64,
    /// Tell standard error from standard output. Which of two lines was written first is then only
    /// known roughly.
    pub separate: bool,
}

/// A numbered event. A gap in the numbers means that the port lost something.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Message {
    /// Counts from 0 in each boot.
    pub seq: u64,
    /// What happened.
    pub event: Event,
}

/// What the guest reports.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Event {
    /// Init runs.
    Hello {
        /// Release of the running kernel.
        release: String,
    },
    /// Init goes on to another stage of the boot.
    Stage {
        /// Its name, for people.
        name: String,
    },
    /// A test begins.
    Started {
        /// [`Test::index`].
        test: usize,
    },
    /// One line that a test wrote on standard output or standard error.
    Output {
        /// [`Test::index`].
        test: usize,
        /// The line, without its end.
        line: String,
        /// It is known to come from standard error.
        err: bool,
    },
    /// A test is over, and nothing of it is left running.
    Finished {
        /// [`Test::index`].
        test: usize,
        /// How it ended.
        outcome: Outcome,
        /// How long it ran.
        duration_ms: u64,
        /// Bits of `/proc/sys/kernel/tainted` that it added.
        taint: u64,
    },
    /// What kmemleak has to say; empty if nothing leaked.
    Kmemleak {
        /// Its report, line by line; more may follow.
        report: Vec<String>,
    },
    /// The guest cannot go on. It powers off next.
    Fatal {
        /// Why.
        message: String,
    },
    /// Everything is done. The guest powers off next.
    Bye,
}

/// How a test ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Outcome {
    /// It exited.
    Exited {
        /// With this status.
        code: i32,
    },
    /// A signal ended it.
    Signaled {
        /// This one.
        signal: i32,
    },
    /// It was still running at its time limit, and was killed.
    TimedOut {
        /// Where its processes were in the kernel.
        stacks: Vec<String>,
    },
    /// It was still running at its time limit, and could not be killed.
    Unkillable {
        /// Where its processes are in the kernel.
        stacks: Vec<String>,
    },
    /// It could not be started.
    NotStarted {
        /// Why.
        error: String,
    },
}

/// Which end of a test a marker stands for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Edge {
    /// Before its first instruction.
    Begin,
    /// After its last process is gone.
    End,
}

/// The line that stands in the kernel log where a test begins or ends.
pub fn marker(token: &str, edge: Edge, test: usize) -> String {
    let edge = match edge {
        Edge::Begin => "begin",
        Edge::End => "end",
    };
    format!("vmtest[{token}]: {edge} {test}")
}

/// Finds a marker in a line of the kernel log.
pub fn parse_marker(token: &str, line: &str) -> Option<(Edge, usize)> {
    let mut words = line
        .split_once(&format!("vmtest[{token}]: "))?
        .1
        .split_ascii_whitespace();
    let edge = match words.next()? {
        "begin" => Edge::Begin,
        "end" => Edge::End,
        _ => return None,
    };
    Some((edge, words.next()?.parse().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn markers_survive_the_kernel_log() {
        for edge in [Edge::Begin, Edge::End] {
            let line = format!("[   12.345678] {}", marker("a1b2", edge, 7));
            assert_eq!(parse_marker("a1b2", &line), Some((edge, 7)));
            assert_eq!(parse_marker("ffff", &line), None);
        }
        assert_eq!(parse_marker("a1b2", "vmtest[a1b2]: middle 7"), None);
        assert_eq!(parse_marker("a1b2", "vmtest[a1b2]: begin x"), None);
        assert_eq!(parse_marker("a1b2", ""), None);
    }

    #[test]
    fn limits_grow_with_patience() {
        let plan = |patience| Plan {
            token: String::new(),
            mode: Mode::Tests,
            modules: Vec::new(),
            nvme: Vec::new(),
            driver_override: BTreeMap::new(),
            prepare: None,
            tests: Vec::new(),
            kmemleak: false,
            patience,
        };
        let limit = |patience| plan(patience).limit(Duration::from_secs(5));
        assert_eq!(limit(100), Duration::from_secs(5));
        assert_eq!(limit(250), Duration::from_millis(12_500));
    }

    #[test]
    fn messages_are_one_line_each() {
        let message = Message {
            seq: 3,
            event: Event::Output {
                test: 1,
                line: "a\tb\u{1b}[0m\r".into(),
                err: false,
            },
        };
        let json = serde_json::to_string(&message).expect("serializes");
        assert!(!json.contains('\n'));
        assert_eq!(
            serde_json::from_str::<Message>(&json).expect("parses"),
            message
        );
    }
}
