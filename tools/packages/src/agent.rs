// SPDX-License-Identifier: GPL-2.0

//! The guest's own agent, qemu-guest-agent: runs programs there, and says what they printed.

use std::io::{BufRead, BufReader, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::thread::sleep;
use std::time::{Duration, Instant};

use anyhow::{bail, Context, Result};
use base64::prelude::{Engine as _, BASE64_STANDARD};
use serde_json::{json, Value};

/// How long an answer to a question may take that takes the agent no time.
const ANSWER: Duration = Duration::from_secs(120);
/// How often is looked whether a program has ended.
const POLL: Duration = Duration::from_millis(300);

/// A connection to the agent.
pub struct Agent {
    reader: BufReader<UnixStream>,
}

/// What a program did.
pub struct Outcome {
    /// Exit status, or 128 and the signal that ended it.
    pub status: i64,
    /// What it printed, errors after the rest.
    pub output: String,
}

/// The lines of what was printed: dpkg prints to a terminal of apt's, which ends them in its own
/// fashion.
fn plain_lines(printed: &str) -> String {
    printed.replace("\r\n", "\n").replace('\r', "\n")
}

impl Agent {
    /// Waits until the agent answers, while `alive` says that the guest is.
    pub fn connect(
        socket: &Path,
        limit: Duration,
        alive: &mut dyn FnMut() -> Result<()>,
    ) -> Result<Self> {
        let end = Instant::now() + limit;
        let mut id = 0u64;
        loop {
            id += 1;
            alive()?;
            if let Ok(agent) = Self::try_connect(socket, id) {
                return Ok(agent);
            }
            if Instant::now() > end {
                bail!(
                    "the guest's agent does not answer after {} s",
                    limit.as_secs()
                );
            }
            sleep(Duration::from_secs(1));
        }
    }

    fn try_connect(socket: &Path, id: u64) -> Result<Self> {
        let stream = UnixStream::connect(socket)?;
        stream.set_read_timeout(Some(Duration::from_secs(5)))?;
        let reader = BufReader::new(stream.try_clone()?);
        let mut agent = Self { reader };
        // Questions of earlier attempts are answered first.
        let mut answer = agent.ask("guest-sync", json!({ "id": id }))?;
        while answer != json!(id) {
            answer = agent.answer("guest-sync")?;
        }
        stream.set_read_timeout(Some(ANSWER))?;
        Ok(agent)
    }

    fn ask(&mut self, name: &str, arguments: Value) -> Result<Value> {
        let question = json!({ "execute": name, "arguments": arguments });
        writeln!(self.reader.get_mut(), "{question}")?;
        self.answer(name)
    }

    fn answer(&mut self, name: &str) -> Result<Value> {
        let mut line = String::new();
        self.reader.read_line(&mut line).context(name.to_owned())?;
        let answer: Value =
            serde_json::from_str(&line).with_context(|| format!("{name}: {line}"))?;
        if let Some(error) = answer.get("error") {
            bail!("{name}: {error}");
        }
        Ok(answer["return"].clone())
    }

    /// Runs lines of shell as root, with an environment of their own.
    pub fn run(
        &mut self,
        lines: &str,
        limit: Duration,
        alive: &mut dyn FnMut() -> Result<()>,
    ) -> Result<Outcome> {
        let script = format!("exec 2>&1\n{lines}");
        let started = self.ask(
            "guest-exec",
            json!({
                "path": "/bin/sh", "arg": ["-eu", "-c", script], "capture-output": true,
                "env": ["PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
                        "HOME=/root", "LANG=C.UTF-8", "DEBIAN_FRONTEND=noninteractive"],
            }),
        )?;
        let end = Instant::now() + limit;
        loop {
            alive()?;
            let now = self.ask("guest-exec-status", json!({ "pid": started["pid"] }))?;
            if now["exited"] == json!(true) {
                let status = now["exitcode"]
                    .as_i64()
                    .or_else(|| Some(128 + now["signal"].as_i64()?))
                    .context("the agent does not say how it ended")?;
                let output =
                    BASE64_STANDARD.decode(now["out-data"].as_str().unwrap_or_default())?;
                let output = plain_lines(&String::from_utf8_lossy(&output));
                return Ok(Outcome { status, output });
            }
            if Instant::now() > end {
                bail!("has not ended after {} s", limit.as_secs());
            }
            sleep(POLL);
        }
    }

    /// Asks the guest to power off. There is no answer.
    pub fn power_off(&mut self) -> Result<()> {
        let question = json!({ "execute": "guest-shutdown", "arguments": { "mode": "powerdown" } });
        Ok(writeln!(self.reader.get_mut(), "{question}")?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_end_in_one_fashion() {
        assert_eq!(plain_lines("a\r\nb\n5%\r10%\n"), "a\nb\n5%\n10%\n");
    }
}
