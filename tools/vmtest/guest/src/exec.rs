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

/// Takes a line of output, and whether it is known to come from standard error.
pub type Sink<'a> = dyn FnMut(String, bool) + 'a;

/// Runs `test`, hands each line of its output to `sink`, and says how it ended.
///
/// Processes that it killed may take as long as `reap` to go.
pub fn run(test: &Test, reap: Duration, sink: &mut Sink) -> Outcome {
    match start(test) {
        Ok((pid, streams)) => supervise(test, reap, pid, streams, sink),
        Err(error) => Outcome::NotStarted {
            error: format!("{}: {error}", test.argv.join(" ")),
        },
    }
}

fn start(test: &Test) -> io::Result<(Pid, Vec<Stream>)> {
    let (program, arguments) = test
        .argv
        .split_first()
        .ok_or_else(|| io::Error::other("no program given"))?;
    let (stdout, out) = Stream::new(false)?;
    let mut streams = vec![stdout];
    let err = if test.separate {
        let (stderr, err) = Stream::new(true)?;
        streams.push(stderr);
        err
    } else {
        out.try_clone()?
    };
    let mut command = Command::new(program);
    command
        .args(arguments)
        .env_clear()
        .envs(&test.env)
        .stdin(Stdio::null())
        .stdout(Stdio::from(out))
        .stderr(Stdio::from(err))
        .process_group(0);
    if let Some(directory) = std::path::Path::new(program).parent() {
        command.current_dir(directory);
    }
    let child = command.spawn()?;
    let pid = i32::try_from(child.id())
        .ok()
        .and_then(Pid::from_raw)
        .ok_or_else(|| io::Error::other("no process id"))?;
    Ok((pid, streams))
}

fn supervise(
    test: &Test,
    reap: Duration,
    pid: Pid,
    streams: Vec<Stream>,
    sink: &mut Sink,
) -> Outcome {
    let deadline = Instant::now() + Duration::from_millis(test.timeout_ms);
    let mut output = Output {
        streams,
        sink,
        limit: test.output_limit,
        taken: 0,
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

/// One pipe with output of the test.
struct Stream {
    pipe: File,
    err: bool,
    partial: Vec<u8>,
    eof: bool,
}

impl Stream {
    /// The stream, and the end of its pipe that is written to.
    fn new(err: bool) -> io::Result<(Self, OwnedFd)> {
        let (ours, theirs) = pipe_with(PipeFlags::CLOEXEC)?;
        rustix::io::ioctl_fionbio(&ours, true)?;
        let stream = Self {
            pipe: File::from(ours),
            err,
            partial: Vec::new(),
            eof: false,
        };
        Ok((stream, theirs))
    }

    /// Reads what there is, as much as fits.
    fn read(&mut self, buffer: &mut [u8]) -> usize {
        match self.pipe.read(buffer) {
            Ok(0) => self.eof = true,
            Ok(count) => return count,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(_) => self.eof = true,
        }
        0
    }

    fn flush(&mut self, sink: &mut Sink) {
        sink(
            String::from_utf8_lossy(&self.partial).into_owned(),
            self.err,
        );
        self.partial.clear();
    }
}

/// Takes lines out of the pipes.
struct Output<'a, 's> {
    streams: Vec<Stream>,
    sink: &'a mut Sink<'s>,
    limit: u64,
    taken: u64,
}

impl Output<'_, '_> {
    /// Waits for output no longer than `wait`, and passes on what there is.
    fn pump(&mut self, wait: Duration) {
        let open: Vec<usize> = (0..self.streams.len())
            .filter(|&stream| !self.streams[stream].eof)
            .collect();
        if open.is_empty() {
            std::thread::sleep(wait.min(Duration::from_millis(1)));
            return;
        }
        let timeout = Timespec::try_from(wait).ok();
        let fd = |&stream: &usize| PollFd::new(&self.streams[stream].pipe, PollFlags::IN);
        let mut fds: Vec<PollFd> = open.iter().map(fd).collect();
        let ready = poll(&mut fds, timeout.as_ref()).unwrap_or(0) > 0;
        let ready: Vec<bool> = fds
            .iter()
            .map(|fd| ready && !fd.revents().is_empty())
            .collect();
        for (stream, _) in open.into_iter().zip(ready).filter(|(_, ready)| *ready) {
            self.read(stream);
        }
    }

    fn read(&mut self, stream: usize) {
        let mut buffer = [0; 16384];
        let count = self.streams[stream].read(&mut buffer);
        self.take(stream, &buffer[..count]);
    }

    fn take(&mut self, stream: usize, bytes: &[u8]) {
        let before = self.taken;
        self.taken += bytes.len() as u64;
        if before > self.limit {
            return;
        }
        let stream = &mut self.streams[stream];
        for &byte in bytes {
            if byte != b'\n' {
                stream.partial.push(byte);
            }
            if byte == b'\n' || stream.partial.len() >= LINE_LIMIT {
                stream.flush(self.sink);
            }
        }
        if self.taken > self.limit {
            let limit = self.limit;
            (self.sink)(
                format!("vmtest: more than {limit} bytes of output, the rest is dropped"),
                stream.err,
            );
        }
    }

    /// Passes on what is left in the pipes; every writer is gone, or will never write again.
    fn close(&mut self) {
        for stream in 0..self.streams.len() {
            while !self.streams[stream].eof {
                let before = self.taken;
                self.read(stream);
                if self.taken == before {
                    break;
                }
            }
            let stream = &mut self.streams[stream];
            if !stream.partial.is_empty() {
                stream.flush(self.sink);
            }
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

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeMap;

    /// Lines that a shell script writes, marked by where they come from.
    ///
    /// Not through [`run`], which kills all processes that it can.
    fn lines(separate: bool, limit: u64, script: &str) -> Vec<(String, bool)> {
        let test = Test {
            index: 0,
            argv: ["/bin/sh", "-c", script].map(str::to_owned).to_vec(),
            env: BTreeMap::new(),
            modules: Vec::new(),
            timeout_ms: 60_000,
            output_limit: limit,
            separate,
        };
        let (pid, streams) = start(&test).expect("starts");
        let mut lines = Vec::new();
        let mut output = Output {
            streams,
            sink: &mut |line, err| lines.push((line, err)),
            limit: test.output_limit,
            taken: 0,
        };
        while output.streams.iter().any(|stream| !stream.eof) {
            output.pump(TICK);
        }
        output.close();
        waitpid(Some(pid), WaitOptions::empty()).expect("ends");
        lines
    }

    const BOTH: &str = "echo one; echo two >&2; echo three; printf four >&2";

    #[test]
    fn one_pipe_keeps_the_order() {
        let expected = ["one", "two", "three", "four"].map(|line| (line.to_owned(), false));
        assert_eq!(lines(false, 1 << 20, BOTH), expected);
    }

    #[test]
    fn two_pipes_tell_standard_error() {
        let mut found = lines(true, 1 << 20, BOTH);
        // Stable: the order in each of them is that in which they were written.
        found.sort_by_key(|(_, err)| *err);
        let expected = [
            ("one", false),
            ("three", false),
            ("two", true),
            ("four", true),
        ];
        assert_eq!(found, expected.map(|(line, err)| (line.to_owned(), err)));
        let slow = "echo one; sleep 0.2; echo two >&2; sleep 0.2; echo three";
        let expected = [("one", false), ("two", true), ("three", false)];
        assert_eq!(
            lines(true, 1 << 20, slow),
            expected.map(|(line, err)| (line.to_owned(), err))
        );
    }

    #[test]
    fn too_much_is_dropped_and_said_once() {
        for separate in [false, true] {
            let found = lines(
                separate,
                20,
                "for i in 1 2 3 4 5 6; do echo line $i; sleep 0.02; done",
            );
            let said = found.iter().filter(|(line, _)| line.contains("dropped"));
            assert_eq!(said.count(), 1, "{found:?}");
            assert!(found.iter().all(|(line, _)| line != "line 6"), "{found:?}");
        }
    }
}
