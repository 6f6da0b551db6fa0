// SPDX-License-Identifier: GPL-2.0

//! What the kernel's log says about pairs that it refuses.
//!
//! The kernel judges a pair once and remembers, so the message may be older than the transfer that
//! was refused. The lines are those of `calc_map_type_and_dist()` in drivers/pci/p2pdma.c.

use std::fs::File;
use std::io::{self, Read};

use rustix::fs::{Mode, OFlags};

use crate::bdf::Bdf;

/// Why the kernel refuses a pair.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Reason {
    /// Bridges on the way send the traffic up to the host bridge.
    AcsRedirect {
        /// Value of the kernel parameter that the kernel proposes: the bridges.
        disable: String,
    },
    /// The two meet in the host bridge only, and the kernel does not trust it with this.
    NoSharedBridge,
}

/// The lines that the kernel has logged.
#[derive(Clone, Debug, Default)]
pub struct Log(Vec<String>);

impl Log {
    /// Reads what the kernel still has of its log. Without permission that is nothing.
    pub fn read() -> Self {
        Self::read_kmsg().unwrap_or_default()
    }

    fn read_kmsg() -> io::Result<Self> {
        let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::CLOEXEC;
        let mut file = File::from(rustix::fs::open("/dev/kmsg", flags, Mode::empty())?);
        let mut lines = Vec::new();
        let mut record = [0; 8192];
        loop {
            match file.read(&mut record) {
                Ok(0) => break,
                // one record a read: "6,339,5140900,-;text", and then lines of properties
                Ok(n) => {
                    let text = String::from_utf8_lossy(&record[..n]);
                    let line = text.lines().next().and_then(|line| line.split_once(';'));
                    lines.extend(line.map(|(_, message)| message.to_owned()));
                }
                // the record was overwritten before it could be read: go on with the next
                Err(error) if error.kind() == io::ErrorKind::BrokenPipe => (),
                Err(_) => break,
            }
        }
        Ok(Log(lines))
    }

    /// Why the kernel refuses the pair, if it has said so.
    pub fn reason(&self, provider: Bdf, client: Bdf) -> Option<Reason> {
        let client = format!("{client}: ");
        let provider = format!("({provider})");
        let of_client = |line: &'_ String| {
            let at = line.find(&client)?;
            Some(line[at + client.len()..].to_owned())
        };
        let said = self.0.iter().filter_map(of_client).collect::<Vec<_>>();

        let acs = said.windows(2).rev().find_map(|pair| {
            let [first, second] = pair else { return None };
            let this =
                first.starts_with("ACS redirect is set between") && first.contains(&provider);
            let (_, disable) = second.split_once("pci=disable_acs_redir=")?;
            this.then(|| Reason::AcsRedirect {
                disable: disable.trim().to_owned(),
            })
        });
        acs.or_else(|| {
            let refused = |text: &String| {
                text.starts_with("cannot be used for peer-to-peer DMA") && text.contains(&provider)
            };
            said.iter().any(refused).then_some(Reason::NoSharedBridge)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn log(lines: &[&str]) -> Log {
        Log(lines.iter().map(|line| (*line).to_owned()).collect())
    }

    fn reason(log: &Log, provider: &str, client: &str) -> Option<Reason> {
        let bdf = |text: &str| text.parse().expect("an address");
        log.reason(bdf(provider), bdf(client))
    }

    const REFUSED: &str =
        "nvme 0000:02:00.0: cannot be used for peer-to-peer DMA as the client and \
         provider (0000:01:00.0) do not share an upstream bridge or whitelisted host bridge";

    #[test]
    fn finds_a_missing_bridge() {
        let log = log(&["nvme nvme0: 2/0/0 default/read/poll queues", REFUSED]);
        let found = reason(&log, "01:00.0", "02:00.0");
        assert_eq!(found, Some(Reason::NoSharedBridge));
    }

    #[test]
    fn keeps_pairs_apart() {
        let log = log(&[REFUSED]);
        assert_eq!(reason(&log, "03:00.0", "02:00.0"), None);
        assert_eq!(reason(&log, "02:00.0", "01:00.0"), None);
        assert_eq!(reason(&Log::default(), "01:00.0", "02:00.0"), None);
    }

    #[test]
    fn finds_acs_redirection_first() {
        let log = log(&[
            "nvme 0000:02:00.0: ACS redirect is set between the client and provider (0000:01:00.0)",
            "nvme 0000:02:00.0: to disable ACS redirect for this path, add the kernel parameter: \
             pci=disable_acs_redir=0000:00:01.0;0000:00:02.0",
            REFUSED,
        ]);
        let disable = "0000:00:01.0;0000:00:02.0".to_owned();
        assert_eq!(
            reason(&log, "01:00.0", "02:00.0"),
            Some(Reason::AcsRedirect { disable })
        );
    }
}
