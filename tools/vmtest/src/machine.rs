// SPDX-License-Identifier: GPL-2.0

//! A running machine: its process, its console and its port, and the loop that watches them.

use std::fs::File;
use std::io::{BufRead, BufReader, Read, Write};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{channel, RecvTimeoutError, Sender};
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{bail, Context, Result};

use crate::monitor::{Monitor, Notice, Step};

/// How often limits and signals are looked at while nothing comes from the guest.
const TICK: Duration = Duration::from_millis(50);

/// How long a look at the guest may take; what is more, the guest is not told to have waited.
const HELD_UP: Duration = Duration::from_secs(1);

/// How often a file is looked at for more.
const POLL: Duration = Duration::from_millis(5);

/// How long a machine whose streams have ended may take to exit.
const EXIT_LIMIT: Duration = Duration::from_secs(10);

/// Longest line of a console that is kept in one piece.
const LINE_LIMIT: u64 = 64 << 10;

/// A process that is killed when nobody looks after it any more.
#[derive(Debug)]
pub struct Guarded(pub Child);

impl Drop for Guarded {
    fn drop(&mut self) {
        // Already gone is fine; there is nobody to tell about anything else.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// A machine, as the watcher sees it.
pub struct Machine {
    child: Guarded,
    console: Box<dyn Read + Send>,
    port: Box<dyn Read + Send>,
    messages: Box<dyn Read + Send>,
    /// Set when the process is gone, and its files are complete.
    complete: Arc<AtomicBool>,
}

/// How a machine ended.
#[derive(Debug)]
pub struct Exit {
    /// Status of the process; none if it had to be killed.
    pub status: Option<ExitStatus>,
    /// What QEMU itself had to say.
    pub messages: Vec<String>,
}

enum Line {
    Console(Vec<u8>),
    Port(Vec<u8>),
    Message(Vec<u8>),
}

/// Reads a file that QEMU is still writing. A socket or a pipe would not do: when one is full,
/// QEMU's serial port drops what the guest writes.
struct Tail {
    file: File,
    complete: Arc<AtomicBool>,
}

impl Read for Tail {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        loop {
            // Asked before reading: what was written before the end is read after it.
            let complete = self.complete.load(Ordering::Acquire);
            let count = self.file.read(buffer)?;
            if count > 0 || complete {
                return Ok(count);
            }
            std::thread::sleep(POLL);
        }
    }
}

/// Ends the threads that follow files, however the watching ends.
struct Complete(Arc<AtomicBool>);

impl Drop for Complete {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Release);
    }
}

impl Machine {
    /// Starts QEMU, whose command line names the files for console and port.
    pub fn start(mut command: Command, console: &Path, port: &Path) -> Result<Self> {
        let complete = Arc::new(AtomicBool::new(false));
        let tail = |path: &Path| -> Result<Box<dyn Read + Send>> {
            let file = File::options()
                .read(true)
                .write(true)
                .create(true)
                .truncate(true)
                .open(path)
                .with_context(|| path.display().to_string())?;
            let complete = Arc::clone(&complete);
            Ok(Box::new(Tail { file, complete }))
        };
        let (console, port) = (tail(console)?, tail(port)?);
        let program = command.get_program().to_string_lossy().into_owned();
        // A group of its own: Ctrl-C is for the runner, which then ends the machine in good order.
        let child = command
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .process_group(0)
            .spawn()
            .with_context(|| format!("{program} does not start; is QEMU installed?"))?;
        let mut child = Guarded(child);
        let messages = child.0.stderr.take().context("no standard error")?;
        Ok(Self {
            child,
            console,
            port,
            messages: Box::new(messages),
            complete,
        })
    }

    /// Watches the machine until it is gone, one way or another.
    pub fn watch(
        mut self,
        monitor: &mut Monitor,
        log: &mut File,
        interrupted: &AtomicBool,
        notify: &mut dyn FnMut(Notice) -> Result<()>,
    ) -> Result<Exit> {
        let complete = Complete(self.complete);
        let (sender, lines) = channel();
        read_lines(self.console, Line::Console, sender.clone());
        read_lines(self.port, Line::Port, sender.clone());
        read_lines(self.messages, Line::Message, sender);
        let mut messages = String::new();
        let mut killed = false;
        let mut next_tick = Instant::now();
        let mut looked = Instant::now();
        loop {
            if interrupted.load(Ordering::Relaxed) {
                bail!("interrupted");
            }
            let notices = match lines.recv_timeout(TICK) {
                Ok(Line::Console(line)) => {
                    log.write_all(&line)
                        .and_then(|()| log.write_all(b"\n"))
                        .context("the console log cannot be written")?;
                    monitor.console(&String::from_utf8_lossy(&line))
                }
                Ok(Line::Port(line)) => {
                    monitor.port(&String::from_utf8_lossy(&line), Instant::now())
                }
                Ok(Line::Message(line)) => {
                    messages += &String::from_utf8_lossy(&line);
                    messages.push('\n');
                    Vec::new()
                }
                Err(RecvTimeoutError::Timeout) => Vec::new(),
                Err(RecvTimeoutError::Disconnected) => break,
            };
            for notice in notices {
                notify(notice)?;
            }
            // A reader of the output who waits, and a runner that was stopped, hold this loop up.
            let now = Instant::now();
            monitor.postpone((now - looked).saturating_sub(HELD_UP), now);
            looked = now;
            if now < next_tick {
                continue;
            }
            next_tick = now + TICK;
            if self.child.0.try_wait()?.is_some() {
                complete.0.store(true, Ordering::Release);
            }
            let (step, notices) = monitor.tick(Instant::now());
            for notice in notices {
                notify(notice)?;
            }
            if step == Step::Kill && !killed {
                killed = true;
                self.child.0.kill().context("QEMU cannot be killed")?;
            }
        }
        let status = if killed {
            self.child.0.wait()?;
            None
        } else {
            wait(&mut self.child.0, EXIT_LIMIT)?
        };
        let how = match status {
            Some(status) if status.success() => "the guest ended unexpectedly".into(),
            Some(status) => match meaningful(&messages).join("; ") {
                said if said.is_empty() => format!("QEMU ended with {status}"),
                said => format!("QEMU ended with {status}: {said}"),
            },
            None => "the guest was killed".into(),
        };
        for notice in monitor.gone(&how) {
            notify(notice)?;
        }
        // The results are complete, and QEMU has a defect, or the guest made it have one.
        if monitor.done && status.is_some_and(|status| !status.success()) {
            monitor
                .problems
                .push(format!("after the guest was done, {how}"));
        }
        Ok(Exit {
            status,
            messages: meaningful(&messages),
        })
    }
}

/// What QEMU says, without what software emulation always says.
fn meaningful(messages: &str) -> Vec<String> {
    messages
        .lines()
        .filter(|line| !line.contains("TCG doesn't support requested feature"))
        .map(str::to_owned)
        .collect()
}

fn wait(child: &mut Child, limit: Duration) -> Result<Option<ExitStatus>> {
    let deadline = Instant::now() + limit;
    while Instant::now() < deadline {
        if let Some(status) = child.try_wait()? {
            return Ok(Some(status));
        }
        std::thread::sleep(Duration::from_millis(5));
    }
    child.kill()?;
    child.wait()?;
    Ok(None)
}

/// Reads lines in a thread of its own until the stream ends. Nothing is dropped: whoever writes
/// faster than lines are taken only fills memory, and a guest is bounded in what it writes.
fn read_lines(stream: Box<dyn Read + Send>, wrap: fn(Vec<u8>) -> Line, sender: Sender<Line>) {
    std::thread::spawn(move || {
        let mut reader = BufReader::new(stream);
        loop {
            let mut line = Vec::new();
            match reader
                .by_ref()
                .take(LINE_LIMIT)
                .read_until(b'\n', &mut line)
            {
                Ok(0) | Err(_) => break,
                Ok(_) => {
                    while matches!(line.last(), Some(b'\n' | b'\r')) {
                        line.pop();
                    }
                    if sender.send(wrap(line)).is_err() {
                        break;
                    }
                }
            }
        }
    });
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::monitor::{Ending, Limits, Raw};

    /// A machine made of a shell script: console on standard output, port on standard error.
    fn fake(script: &str) -> Machine {
        let mut child = Command::new("sh")
            .args(["-c", script])
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .process_group(0)
            .spawn()
            .expect("sh starts");
        let console = child.stdout.take().expect("piped");
        let port = child.stderr.take().expect("piped");
        Machine {
            child: Guarded(child),
            console: Box::new(console),
            port: Box::new(port),
            messages: Box::new(std::io::empty()),
            complete: Arc::new(AtomicBool::new(false)),
        }
    }

    fn watch(script: &str, limits: Limits) -> (Monitor, Vec<Raw>, Exit, String) {
        let tests = [(0, Duration::from_millis(50)), (1, Duration::from_secs(60))];
        let mut monitor = Monitor::new("cafe", limits, tests, Instant::now());
        let mut finished = Vec::new();
        let directory = tempfile::tempdir().expect("tempdir");
        let path = directory.path().join("log");
        let mut log = File::create(&path).expect("create");
        let exit = fake(script)
            .watch(
                &mut monitor,
                &mut log,
                &AtomicBool::new(false),
                &mut |notice| {
                    if let Notice::Finished(raw) = notice {
                        finished.push(*raw);
                    }
                    Ok(())
                },
            )
            .expect("watched");
        let log = std::fs::read_to_string(path).expect("a log");
        (monitor, finished, exit, log)
    }

    const PATIENT: Limits = Limits {
        boot: Duration::from_secs(600),
        silence: Duration::from_secs(600),
        idle: Duration::from_secs(600),
        grace: Duration::from_secs(600),
    };

    /// Short where the test waits for it, and not where the machine may be slow.
    const HURRIED: Limits = Limits {
        boot: Duration::from_secs(10),
        silence: Duration::from_secs(600),
        idle: Duration::from_secs(10),
        grace: Duration::from_millis(200),
    };

    const START: &str = r#"
        echo '[ 0.0] Linux version'
        echo '{"seq":0,"event":{"started":{"test":0}}}' >&2
        echo '[ 1.0] vmtest[cafe]: begin 0'
    "#;

    #[test]
    fn a_good_machine_is_watched_to_its_end() {
        let (monitor, finished, exit, log) = watch(
            &format!(
                r#"{START}
                echo '{{"seq":1,"event":{{"output":{{"test":0,"line":"hi","err":false}}}}}}' >&2
                printf '[ 1.0] vmtest[cafe]: end 0\r\n'
                printf '%s' '{{"seq":2,"event":{{"finished":{{"test":0,' >&2
                echo '"outcome":{{"exited":{{"code":0}}}},"duration_ms":1,"taint":0}}}}}}' >&2
                echo '{{"seq":3,"event":"bye"}}' >&2
                "#
            ),
            PATIENT,
        );
        assert!(monitor.done, "{monitor:?}");
        assert_eq!(monitor.problems, [""; 0]);
        assert_eq!(finished.len(), 1);
        assert_eq!(finished[0].output, ["hi"]);
        assert!(exit.status.is_some_and(|status| status.success()));
        assert!(log.ends_with("end 0\n"), "{log}");
    }

    #[test]
    fn a_hanging_machine_is_killed() {
        let (monitor, finished, exit, _) = watch(&format!("{START} exec sleep 600"), HURRIED);
        assert!(exit.status.is_none(), "was killed");
        assert!(
            matches!(&finished[0].ending, Ending::GuestLost { how, .. } if how.contains("hangs"))
        );
        assert_eq!(monitor.not_started().collect::<Vec<_>>(), [1]);
    }

    #[test]
    fn a_machine_that_never_boots_is_killed() {
        let limits = Limits {
            boot: Duration::from_millis(200),
            silence: Duration::from_secs(600),
            ..PATIENT
        };
        let (monitor, finished, exit, _) = watch("exec sleep 600", limits);
        assert!(exit.status.is_none(), "was killed");
        assert!(finished.is_empty());
        let lost = monitor.lost.expect("lost");
        assert!(lost.contains("starting the machine"), "{lost}");
    }

    #[test]
    fn a_machine_that_dies_is_no_hang() {
        let (monitor, finished, exit, _) = watch(&format!("{START} exit 3"), PATIENT);
        assert_eq!(exit.status.and_then(|status| status.code()), Some(3));
        assert!(matches!(&finished[0].ending, Ending::GuestLost { how, .. } if how.contains("3")));
        assert!(!monitor.done);
    }

    #[test]
    fn a_machine_that_dies_after_its_guest_is_a_problem() {
        let bye = r#"echo '{"seq":0,"event":"bye"}' >&2;"#;
        let (monitor, ..) = watch(&format!("{bye} exit 0"), PATIENT);
        assert!(monitor.done, "{monitor:?}");
        assert_eq!(monitor.problems, [""; 0]);
        for (end, how) in [
            ("exit 3", "exit status: 3"),
            ("kill -SEGV $$", "signal: 11"),
        ] {
            let (monitor, ..) = watch(&format!("{bye} {end}"), PATIENT);
            assert!(monitor.done, "{monitor:?}");
            assert_eq!(monitor.lost, None);
            let [problem] = &monitor.problems[..] else {
                panic!("{monitor:?}");
            };
            assert!(problem.contains("after the guest was done"), "{problem}");
            assert!(problem.contains(how), "{problem}");
            assert!(!problem.ends_with(": "), "{problem}");
        }
    }

    #[test]
    fn an_interrupt_ends_the_machine() {
        let mut monitor = Monitor::new("cafe", PATIENT, [], Instant::now());
        let machine = fake("exec sleep 600");
        let pid = machine.child.0.id();
        let mut log = tempfile::tempfile().expect("tempfile");
        let error = machine
            .watch(&mut monitor, &mut log, &AtomicBool::new(true), &mut |_| {
                Ok(())
            })
            .expect_err("interrupted");
        assert_eq!(error.to_string(), "interrupted");
        assert!(!Path::new(&format!("/proc/{pid}")).exists(), "no orphan");
    }

    #[test]
    fn a_log_that_cannot_be_written_is_said() {
        let mut monitor = Monitor::new("cafe", PATIENT, [], Instant::now());
        let mut full = File::options()
            .write(true)
            .open("/dev/full")
            .expect("opens");
        let error = fake("echo hello; exec sleep 600")
            .watch(
                &mut monitor,
                &mut full,
                &AtomicBool::new(false),
                &mut |_| Ok(()),
            )
            .expect_err("disk full");
        let message = format!("{error:#}");
        assert!(message.contains("console log"), "{message}");
        assert!(message.contains("No space left"), "{message}");
    }

    #[test]
    fn files_are_followed_to_their_end() {
        let directory = tempfile::tempdir().expect("tempdir");
        let (console, port) = (directory.path().join("c"), directory.path().join("p"));
        let mut command = Command::new("sh");
        command
            .args([
                "-c",
                "echo one >>c; sleep 0.1; echo two >>c; echo three >>p",
            ])
            .current_dir(directory.path());
        let machine = Machine::start(command, &console, &port).expect("starts");
        let mut monitor = Monitor::new("cafe", PATIENT, [], Instant::now());
        let mut log = File::create(directory.path().join("log")).expect("create");
        let running = AtomicBool::new(false);
        let exit = machine
            .watch(&mut monitor, &mut log, &running, &mut |_| Ok(()))
            .expect("watched");
        assert!(exit.status.is_some_and(|status| status.success()));
        assert_eq!(monitor.console_tail(), ["one", "two"]);
        assert!(monitor.problems[0].contains("three"));
        let error = Machine::start(Command::new("/no/such/qemu"), &console, &port);
        let message = format!("{:#}", error.err().expect("no such program"));
        assert!(message.contains("is QEMU installed?"), "{message}");
    }

    #[test]
    fn emulation_warnings_mean_nothing() {
        let text = "qemu: warning: TCG doesn't support requested feature: x\nqemu: bad property\n";
        assert_eq!(meaningful(text), ["qemu: bad property"]);
    }
}
