// SPDX-License-Identifier: GPL-2.0

//! Runs one test program under its time limit, and leaves no process of it behind.

use std::fs::File;
use std::io::{self, Read};
use std::os::fd::OwnedFd;
use std::os::unix::process::CommandExt;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use rustix::event::{poll, PollFd, PollFlags, Timespec};
use rustix::io::Errno;
use rustix::pipe::{pipe_with, PipeFlags};
use rustix::process::{kill_process_group, wait, waitpid, Pid, Signal, WaitOptions};
use vmtest_guest::{Outcome, Test, LINE_LIMIT};

/// How often the state of the processes is looked at while the pipe is silent.
const TICK: Duration = Duration::from_millis(20);

/// Runs `test`, hands each line of its output to `sink`, and says how it ended.
///
/// Processes that it killed may take as long as `reap` to go.
pub fn run(test: &Test, reap: Duration, sink: &mut dyn FnMut(String)) -> Outcome {
    match start(test) {
        Ok((pid, pipe)) => supervise(test, reap, pid, pipe, sink),
        Err(error) => Outcome::NotStarted {
            error: format!("{}: {error}", test.argv.join(" ")),
        },
    }
}

fn start(test: &Test) -> io::Result<(Pid, File)> {
    let (program, arguments) = test
        .argv
        .split_first()
        .ok_or_else(|| io::Error::other("no program given"))?;
    let (ours, theirs) = pipe_with(PipeFlags::CLOEXEC)?;
    rustix::io::ioctl_fionbio(&ours, true)?;
    let mut command = Command::new(program);
    command
        .args(arguments)
        .env_clear()
        .envs(&test.env)
        .stdin(Stdio::null())
        .stdout(Stdio::from(OwnedFd::try_clone(&theirs)?))
        .stderr(Stdio::from(theirs))
        .process_group(0);
    if let Some(directory) = std::path::Path::new(program).parent() {
        command.current_dir(directory);
    }
    let child = command.spawn()?;
    let pid = i32::try_from(child.id())
        .ok()
        .and_then(Pid::from_raw)
        .ok_or_else(|| io::Error::other("no process id"))?;
    Ok((pid, File::from(ours)))
}

fn supervise(
    test: &Test,
    reap: Duration,
    pid: Pid,
    pipe: File,
    sink: &mut dyn FnMut(String),
) -> Outcome {
    let deadline = Instant::now() + Duration::from_millis(test.timeout_ms);
    let mut output = Output {
        pipe,
        sink,
        limit: test.output_limit,
        partial: Vec::new(),
        taken: 0,
        eof: false,
    };
    let ended = loop {
        output.pump(TICK);
        match waitpid(Some(pid), WaitOptions::NOHANG) {
            Ok(Some((_, status))) => {
                break match (status.exit_status(), status.terminating_signal()) {
                    (Some(code), _) => Outcome::Exited { code },
                    (None, Some(signal)) => Outcome::Signaled { signal },
                    (None, None) => continue,
                }
            }
            Ok(None) if Instant::now() < deadline => {}
            Ok(None) => {
                break Outcome::TimedOut {
                    stacks: kernel_stacks(),
                }
            }
            Err(Errno::INTR) => {}
            Err(error) => {
                break Outcome::NotStarted {
                    error: format!("lost track of the process: {error}"),
                }
            }
        }
    };
    // Nothing of a test may outlive it, whatever it forked and wherever that has moved to. This is
    // kill(-1): every process but this one.
    let _ = kill_process_group(Pid::INIT, Signal::KILL);
    let deadline = Instant::now() + reap;
    loop {
        output.pump(TICK);
        match wait(WaitOptions::NOHANG) {
            Err(Errno::CHILD) => break,
            Ok(None) if Instant::now() >= deadline => {
                output.close();
                return Outcome::Unkillable {
                    stacks: kernel_stacks(),
                };
            }
            _ => {}
        }
    }
    output.close();
    ended
}

/// Takes lines out of the pipe.
struct Output<'a> {
    pipe: File,
    sink: &'a mut dyn FnMut(String),
    limit: u64,
    partial: Vec<u8>,
    taken: u64,
    eof: bool,
}

impl Output<'_> {
    /// Waits for output no longer than `wait`, and passes on what there is.
    fn pump(&mut self, wait: Duration) {
        if self.eof {
            std::thread::sleep(wait.min(Duration::from_millis(1)));
            return;
        }
        let timeout = Timespec::try_from(wait).ok();
        let mut fds = [PollFd::new(&self.pipe, PollFlags::IN)];
        if matches!(poll(&mut fds, timeout.as_ref()), Ok(n) if n > 0) {
            self.read();
        }
    }

    fn read(&mut self) {
        let mut buffer = [0; 16384];
        match self.pipe.read(&mut buffer) {
            Ok(0) => self.eof = true,
            Ok(n) => self.take(&buffer[..n]),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(_) => self.eof = true,
        }
    }

    fn take(&mut self, bytes: &[u8]) {
        let before = self.taken;
        self.taken += bytes.len() as u64;
        if before > self.limit {
            return;
        }
        for &byte in bytes {
            if byte != b'\n' {
                self.partial.push(byte);
            }
            if byte == b'\n' || self.partial.len() >= LINE_LIMIT {
                self.flush();
            }
        }
        if self.taken > self.limit {
            (self.sink)(format!(
                "vmtest: more than {} bytes of output, the rest is dropped",
                self.limit
            ));
        }
    }

    fn flush(&mut self) {
        (self.sink)(String::from_utf8_lossy(&self.partial).into_owned());
        self.partial.clear();
    }

    /// Passes on what is left in the pipe; every writer is gone, or will never write again.
    fn close(&mut self) {
        while !self.eof {
            let before = self.taken;
            self.read();
            if self.taken == before {
                break;
            }
        }
        if !self.partial.is_empty() {
            self.flush();
        }
    }
}

/// Where each process but init is in the kernel, for a person to read.
fn kernel_stacks() -> Vec<String> {
    let mut lines = Vec::new();
    let read = |path: String| std::fs::read_to_string(path).unwrap_or_default();
    let mut pids: Vec<u32> = std::fs::read_dir("/proc")
        .into_iter()
        .flatten()
        .flatten()
        .filter_map(|entry| entry.file_name().to_str()?.parse().ok())
        .filter(|&pid| pid != 1)
        .collect();
    pids.sort_unstable();
    for pid in pids {
        // Kernel threads have no memory of their own, and an empty command line.
        if read(format!("/proc/{pid}/cmdline")).is_empty() {
            continue;
        }
        for task in std::fs::read_dir(format!("/proc/{pid}/task"))
            .into_iter()
            .flatten()
            .flatten()
        {
            let task = task.path();
            let task = task.display();
            let status = read(format!("{task}/status"));
            let field = |key: &str| {
                status
                    .lines()
                    .find_map(|line| line.strip_prefix(key)?.strip_prefix(':'))
                    .map_or("?", str::trim)
            };
            lines.push(format!(
                "process {pid} {} thread {}: state {}",
                field("Name"),
                field("Pid"),
                field("State")
            ));
            lines.extend(
                read(format!("{task}/stack"))
                    .lines()
                    .map(|line| format!("  {line}")),
            );
        }
    }
    lines
}
