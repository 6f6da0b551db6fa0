// SPDX-License-Identifier: GPL-2.0

//! The way out of the guest: messages to the host, and lines into the kernel log.

use std::fs::{File, OpenOptions};
use std::io::{self, Write};

use rustix::termios::{tcgetattr, tcsetattr, OptionalActions};
use vmtest_guest::{Event, Message, PORT};

/// Sends messages to the host, and writes to the kernel log.
pub struct Reporter {
    port: Option<File>,
    kmsg: Option<File>,
    seq: u64,
}

impl Reporter {
    /// Opens the port and the kernel log. A shell has no host listening, hence `port`.
    pub fn open(port: bool) -> io::Result<Self> {
        let port = if port { Some(open_port()?) } else { None };
        Ok(Self {
            port,
            kmsg: OpenOptions::new().write(true).open("/dev/kmsg").ok(),
            seq: 0,
        })
    }

    /// Sends one event.
    pub fn send(&mut self, event: Event) {
        if let Event::Fatal { message } = &event {
            self.log(&format!("vmtest: {message}"));
        }
        let Some(port) = &mut self.port else { return };
        let message = Message {
            seq: self.seq,
            event,
        };
        self.seq += 1;
        // Nobody is left to tell if this fails: the host notices the gap in the numbers.
        if let Ok(mut line) = serde_json::to_vec(&message) {
            line.push(b'\n');
            let _ = port.write_all(&line);
        }
    }

    /// Writes one line to the kernel log, and thereby to the console.
    pub fn log(&mut self, line: &str) {
        if let Some(kmsg) = &mut self.kmsg {
            let _ = kmsg.write_all(format!("<5>{line}\n").as_bytes());
        }
    }
}

fn open_port() -> io::Result<File> {
    let port = OpenOptions::new().read(true).write(true).open(PORT)?;
    let mut attributes = tcgetattr(&port)?;
    attributes.make_raw();
    tcsetattr(&port, OptionalActions::Now, &attributes)?;
    Ok(port)
}
