// SPDX-License-Identifier: GPL-2.0

//! Long steps: progress on stderr, output in a log, and a failure explained.

use std::fs::{File, OpenOptions};
use std::io::{IsTerminal, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{bail, Context, Result};
use indicatif::{MultiProgress, ProgressBar, ProgressStyle};

const TAIL_LINES: usize = 20;
const POLL: Duration = Duration::from_millis(100);
const REPORT_EVERY: Duration = Duration::from_secs(30);

/// Runs steps that share a log.
pub struct Steps {
    log: PathBuf,
    bars: MultiProgress,
}

/// Says how a step is going: a line that moves on a terminal, now and then a line elsewhere.
struct Progress {
    name: String,
    start: Instant,
    reported: Instant,
    bar: Option<ProgressBar>,
}

impl Progress {
    fn start(name: &str, bars: &MultiProgress) -> Self {
        let bar = std::io::stderr().is_terminal().then(|| {
            let bar = bars.add(ProgressBar::new_spinner());
            if let Ok(style) =
                ProgressStyle::with_template("{spinner} {prefix} {elapsed} {wide_msg}")
            {
                bar.set_style(style);
            }
            bar.set_prefix(name.to_owned());
            bar
        });
        if bar.is_none() {
            eprintln!("testbed: {name}");
        }
        let now = Instant::now();
        Self {
            name: name.to_owned(),
            start: now,
            reported: now,
            bar,
        }
    }

    fn update(&mut self, detail: impl FnOnce() -> String) {
        if let Some(bar) = &self.bar {
            bar.set_message(detail());
            bar.tick();
        } else if self.reported.elapsed() >= REPORT_EVERY {
            self.reported = Instant::now();
            eprintln!(
                "testbed: {}: {} s, {}",
                self.name,
                self.start.elapsed().as_secs(),
                detail()
            );
        }
    }

    fn finish(self, bars: &MultiProgress) {
        let seconds = self.start.elapsed().as_secs();
        let line = format!("testbed: {}: done in {seconds} s", self.name);
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
            let _ = bars.println(line);
        } else if seconds > 0 {
            eprintln!("{line}");
        }
    }
}

impl Steps {
    /// Starts a new log.
    pub fn new(log: PathBuf) -> Result<Self> {
        File::create(&log).with_context(|| format!("cannot create {}", log.display()))?;
        Ok(Self {
            log,
            bars: MultiProgress::new(),
        })
    }

    /// The log, to append to.
    fn open_log(&self) -> Result<File> {
        let log = OpenOptions::new().append(true).open(&self.log);
        log.with_context(|| format!("cannot open {}", self.log.display()))
    }

    /// Runs one command.
    pub fn run(&self, name: &str, command: &mut Command) -> Result<()> {
        let log = self.log.clone();
        self.pipe_with(name, &mut [command], move || last_line(&log))
    }

    /// Runs commands, each reading what the one before it writes.
    pub fn pipe(&self, name: &str, commands: &mut [&mut Command]) -> Result<()> {
        self.pipe_with(name, commands, String::new)
    }

    /// Runs commands, with a text of the caller's on how far they are.
    pub fn pipe_with(
        &self,
        name: &str,
        commands: &mut [&mut Command],
        detail: impl Fn() -> String,
    ) -> Result<()> {
        writeln!(self.open_log()?, "# {name}: {commands:?}").context("cannot write the log")?;
        let mut progress = Progress::start(name, &self.bars);
        let mut children = self.spawn(commands)?;
        while !children
            .iter_mut()
            .all(|child| matches!(child.try_wait(), Ok(Some(_)) | Err(_)))
        {
            thread::sleep(POLL);
            progress.update(&detail);
        }
        let mut ok = true;
        for child in &mut children {
            ok &= child.wait()?.success();
        }
        if ok {
            progress.finish(&self.bars);
            return Ok(());
        }
        if let Some(bar) = progress.bar {
            bar.finish_and_clear();
        }
        self.fail(name)
    }

    fn spawn(&self, commands: &mut [&mut Command]) -> Result<Vec<Child>> {
        let mut children: Vec<Child> = Vec::new();
        let last = commands.len().saturating_sub(1);
        for (nr, command) in commands.iter_mut().enumerate() {
            let stdin = children.last_mut().and_then(|child| child.stdout.take());
            command.stdin(stdin.map_or_else(Stdio::null, Stdio::from));
            command.stderr(self.open_log()?);
            if nr == last {
                command.stdout(self.open_log()?);
            } else {
                command.stdout(Stdio::piped());
            }
            let program = command.get_program().to_owned();
            let child = command.spawn();
            children
                .push(child.with_context(|| format!("cannot run {}", program.to_string_lossy()))?);
        }
        Ok(children)
    }

    /// Says what the end of the log means; where that is not clear, shows it.
    fn fail(&self, name: &str) -> Result<()> {
        let text = read_end(&self.log);
        let log = self.log.display();
        if let Some(cause) = diagnose(&text) {
            bail!("{name} failed: {cause}. Whole log: {log}");
        }
        eprintln!("{}", tail(&text, TAIL_LINES));
        bail!("{name} failed, see the lines above. Whole log: {log}")
    }
}

/// What a step's output says about why it failed, in so far as that is not its own doing.
fn diagnose(log: &str) -> Option<&'static str> {
    const CAUSES: [(&str, &[&str]); 3] = [
        (
            "the disk is full; free space in P2PDMA_CACHE or set it to another place",
            &["No space left on device", "not have enough free space"],
        ),
        (
            "the Debian mirror cannot be reached; check the network and proxy, or set \
             P2PDMA_MIRROR",
            &[
                "Could not resolve",
                "Temporary failure resolving",
                "Could not connect",
                "Cannot initiate the connection",
                "Network is unreachable",
                "Connection timed out",
            ],
        ),
        (
            "out of memory; close other programs",
            &["Cannot allocate memory", "Killed signal terminated program"],
        ),
    ];
    CAUSES
        .iter()
        .find(|(_, signs)| signs.iter().any(|sign| log.contains(sign)))
        .map(|(cause, _)| *cause)
}

/// The last `lines` lines of a text.
fn tail(text: &str, lines: usize) -> &str {
    let text = text.trim_end();
    let start = text.rmatch_indices('\n').nth(lines.saturating_sub(1));
    start.map_or(text, |(newline, _)| &text[newline + 1..])
}

/// The end of a log, enough of it to explain a failure.
fn read_end(log: &Path) -> String {
    const ENOUGH: u64 = 64 << 10;
    let mut bytes = Vec::new();
    let _ = File::open(log).and_then(|mut file| {
        let length = file.metadata()?.len();
        file.seek(SeekFrom::Start(length.saturating_sub(ENOUGH)))?;
        file.read_to_end(&mut bytes)
    });
    String::from_utf8_lossy(&bytes).into_owned()
}

fn last_line(log: &Path) -> String {
    tail(&read_end(log), 1).trim().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn steps() -> (tempfile::TempDir, Steps) {
        let dir = tempfile::tempdir().expect("temporary directory");
        let steps = Steps::new(dir.path().join("log")).expect("a log");
        (dir, steps)
    }

    #[test]
    fn tail_is_the_last_lines() {
        assert_eq!(tail("a\nb\nc\n", 2), "b\nc");
        assert_eq!(tail("a\nb\n", 5), "a\nb");
        assert_eq!(tail("", 5), "");
        assert_eq!(tail("a\nb", 1), "b");
    }

    #[test]
    fn disk_and_network_are_told_from_other_failures() {
        let full = "tar: write error: No space left on device";
        assert!(diagnose(full).expect("known").contains("disk is full"));
        let network = "E: Temporary failure resolving 'mirror'";
        assert!(diagnose(network)
            .expect("known")
            .contains("cannot be reached"));
        assert_eq!(diagnose("make: *** [x.o] Error 1"), None);
    }

    #[test]
    fn failed_command_names_the_step_and_the_log() {
        let (dir, steps) = steps();
        let mut command = Command::new("sh");
        command.args(["-c", "echo some reason >&2; exit 3"]);
        let error = steps
            .run("a step", &mut command)
            .expect_err("failed")
            .to_string();
        let log = dir.path().join("log");
        assert!(error.contains("a step failed"), "{error}");
        assert!(error.contains(&log.display().to_string()), "{error}");
        assert!(read_end(&log).contains("some reason"));
    }

    #[test]
    fn failure_anywhere_in_a_pipe_is_a_failure() {
        let (_dir, steps) = steps();
        assert!(steps
            .pipe(
                "first",
                &mut [&mut Command::new("false"), &mut Command::new("cat")]
            )
            .is_err());
        assert!(steps
            .pipe(
                "last",
                &mut [&mut Command::new("true"), &mut Command::new("false")]
            )
            .is_err());
        assert!(steps
            .pipe(
                "none",
                &mut [&mut Command::new("true"), &mut Command::new("cat")]
            )
            .is_ok());
    }

    #[test]
    fn output_of_a_pipe_goes_through_it() {
        let (dir, steps) = steps();
        let mut echo = Command::new("echo");
        echo.arg("word");
        let mut tr = Command::new("tr");
        tr.args(["a-z", "A-Z"]);
        steps.pipe("pipe", &mut [&mut echo, &mut tr]).expect("fine");
        assert!(read_end(&dir.path().join("log")).contains("WORD"));
    }

    #[test]
    fn program_that_is_not_there_is_named() {
        let (_dir, steps) = steps();
        let error = steps
            .run("a step", &mut Command::new("no-such-program"))
            .expect_err("missing");
        assert!(format!("{error:#}").contains("no-such-program"));
    }
}
