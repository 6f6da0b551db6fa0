// SPDX-License-Identifier: GPL-2.0

//! What the kernel's log says about pairs that it judges.
//!
//! The kernel judges a pair once and remembers, so the message may be older than the transfer that
//! was refused. The lines are those of `calc_map_type_and_dist()` in drivers/pci/p2pdma.c. Lines
//! of several devices may interleave.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, Read};

use rustix::fs::{Mode, OFlags};

use crate::bdf::Bdf;
use crate::text::printable;

/// Why the kernel refuses a pair.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Reason {
    /// Bridges on the way send the traffic up to the host bridge.
    AcsRedirect {
        /// The bridges, as far as the kernel has said them.
        bridges: Bridges,
    },
    /// The two meet in the host bridge only, and the kernel does not trust it with this.
    NoSharedBridge,
}

/// Bridges that the kernel proposes as a value of `pci=disable_acs_redir=`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Bridges {
    /// Those that are said, in their order.
    pub said: Vec<Bdf>,
    /// There are no others: the list was not cut, and has nothing else in it.
    pub complete: bool,
}

impl Bridges {
    /// A list of the log, of which anything that is no address, and what follows, is left out: the
    /// text may come from anywhere.
    fn of(list: &str) -> Self {
        // the kernel has room for so many characters, and cuts what has more
        const ROOM: usize = 127;

        let address = |word: &str| {
            let bdf: Bdf = word.parse().ok()?;
            (bdf.to_string() == word).then_some(bdf)
        };
        let said: Vec<_> = list.split(';').map_while(address).collect();
        Bridges {
            complete: list.len() < ROOM && said.len() == list.split(';').count(),
            said,
        }
    }

    /// As a value of the kernel's parameter.
    pub fn parameter(&self) -> String {
        self.joined(";")
    }

    /// In words.
    pub fn words(&self) -> String {
        match (self.said.is_empty(), self.complete) {
            (true, _) => "ports that the log does not name".to_owned(),
            (false, true) => self.joined(", "),
            (false, false) => format!("{} and perhaps others", self.joined(", ")),
        }
    }

    fn joined(&self, separator: &str) -> String {
        let said: Vec<_> = self.said.iter().map(Bdf::to_string).collect();
        said.join(separator)
    }
}

/// What the kernel said of a pair, the last time that it judged it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Verdict {
    /// ACS sends the traffic to the host bridge.
    pub acs_redirect: bool,
    /// The bridges that do, if that line is there.
    pub bridges: Option<Bridges>,
    /// The pair is refused. If not, and ACS redirects, the host bridge is trusted with it.
    pub refused: bool,
    /// Numbers of the lines, from 1.
    pub lines: Vec<usize>,
}

/// The lines that the kernel has logged, and still has.
#[derive(Clone, Debug, Default)]
pub struct Log {
    lines: Vec<String>,
    /// The kernel's number of each, or that of a line in a text.
    numbers: Vec<u64>,
}

/// A PCI address with its domain, as the kernel writes it before a message: `0000:01:00.0:`.
fn device(word: &str) -> Option<Bdf> {
    let address = word.strip_suffix(':')?;
    (address.matches(':').count() == 2).then(|| address.parse().ok())?
}

/// The device that a line is about, and what it says.
pub fn message(line: &str) -> Option<(Bdf, &str)> {
    let mut rest = line;
    loop {
        rest = rest.trim_start();
        let end = rest.find(char::is_whitespace).unwrap_or(rest.len());
        let (word, after) = rest.split_at(end);
        if word.is_empty() {
            return None;
        }
        if let Some(bdf) = device(word) {
            return Some((bdf, after.trim()));
        }
        rest = after;
    }
}

/// The address in parentheses: `provider (0000:01:00.0)`.
fn in_parentheses(text: &str) -> Option<Bdf> {
    let (_, rest) = text.split_once("provider (")?;
    rest.split_once(')')?.0.parse().ok()
}

impl Log {
    /// Reads what the kernel still has of its log. Without permission that is nothing.
    pub fn read() -> Self {
        Self::of_this_machine().unwrap_or_default()
    }

    /// Reads what the kernel still has of its log.
    pub fn of_this_machine() -> io::Result<Self> {
        let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::CLOEXEC;
        let mut file = File::from(rustix::fs::open("/dev/kmsg", flags, Mode::empty())?);
        let mut log = Log::default();
        let mut record = [0; 8192];
        loop {
            match file.read(&mut record) {
                Ok(0) => break,
                // one record a read: "6,339,5140900,-;text", and then lines of properties
                Ok(n) => {
                    let text = String::from_utf8_lossy(&record[..n]);
                    log.take(&text);
                }
                // the record was overwritten before it could be read: go on with the next
                Err(error) if error.kind() == io::ErrorKind::BrokenPipe => (),
                Err(_) => break,
            }
        }
        Ok(log)
    }

    /// Adds a record of /dev/kmsg.
    fn take(&mut self, record: &str) {
        let line = record.lines().next().and_then(|line| line.split_once(';'));
        let Some((prefix, message)) = line else {
            return;
        };
        let number = prefix.split(',').nth(1).and_then(|n| n.parse().ok());

        self.lines.push(printable(message));
        self.numbers.push(number.unwrap_or_else(|| self.end()));
    }

    /// The log in a text, as dmesg, journalctl or a console gives it. Colours are taken away, and
    /// what else is not safe to print is replaced.
    pub fn of(text: &str) -> Self {
        let plain = |line: &str| printable(&anstream::adapter::strip_str(line).to_string());
        let lines: Vec<_> = text.lines().map(plain).collect();
        let numbers = (0..).take(lines.len()).collect();

        Log { lines, numbers }
    }

    /// The number of the line that comes next.
    pub fn end(&self) -> u64 {
        self.numbers.last().map_or(0, |last| last + 1)
    }

    /// The lines from a number on. The log has room for so much, and forgets the oldest.
    pub fn since(&self, number: u64) -> &[String] {
        let from = self.numbers.partition_point(|n| *n < number);

        self.lines.get(from..).unwrap_or_default()
    }

    /// Its lines.
    pub fn lines(&self) -> &[String] {
        &self.lines
    }

    /// What the kernel said of pairs, by provider and client.
    ///
    /// Two lines about ACS alone mean that the pair is allowed, through the host bridge. What was
    /// said before the provider was bound again does not count any more.
    pub fn verdicts(&self) -> BTreeMap<(Bdf, Bdf), Verdict> {
        let mut verdicts: BTreeMap<(Bdf, Bdf), Verdict> = BTreeMap::new();
        // of each client: the provider that the line about ACS was about
        let mut current: BTreeMap<Bdf, Bdf> = BTreeMap::new();
        let messages = (1..).zip(&self.lines);
        for (number, (device, text)) in
            messages.filter_map(|(number, line)| Some((number, message(line)?)))
        {
            if text.starts_with("ACS redirect is set between the client and provider") {
                let Some(provider) = in_parentheses(text) else {
                    continue;
                };
                current.insert(device, provider);
                let verdict = Verdict {
                    acs_redirect: true,
                    lines: vec![number],
                    ..Verdict::default()
                };
                verdicts.insert((provider, device), verdict);
            } else if let Some((_, list)) =
                text.split_once("kernel parameter: pci=disable_acs_redir=")
            {
                let pair = current.get(&device).map(|provider| (*provider, device));
                if let Some(verdict) = pair.and_then(|pair| verdicts.get_mut(&pair)) {
                    verdict.bridges = Some(Bridges::of(list.trim()));
                    verdict.lines.push(number);
                }
            } else if text.starts_with("cannot be used for peer-to-peer DMA as the client") {
                let Some(provider) = in_parentheses(text) else {
                    continue;
                };
                let verdict = verdicts.entry((provider, device)).or_default();
                // judged again, without a word about ACS this time
                if verdict.refused && current.get(&device) != Some(&provider) {
                    *verdict = Verdict::default();
                }
                verdict.refused = true;
                verdict.lines.push(number);
                current.remove(&device);
            } else if text.starts_with("added peer-to-peer DMA memory") {
                verdicts.retain(|(provider, _), _| *provider != device);
            }
        }
        verdicts
    }

    /// Why the kernel refuses the pair, if it has said so.
    pub fn reason(&self, provider: Bdf, client: Bdf) -> Option<Reason> {
        let verdicts = self.verdicts();
        let verdict = verdicts.get(&(provider, client))?;
        if !verdict.refused {
            return None;
        }
        Some(match &verdict.bridges {
            Some(bridges) => Reason::AcsRedirect {
                bridges: bridges.clone(),
            },
            None => Reason::NoSharedBridge,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn log(lines: &[&str]) -> Log {
        Log::of(&lines.join("\n"))
    }

    /// What is new is told by the kernel's numbers: the oldest lines may be gone by then.
    #[test]
    fn new_lines_of_a_full_log() {
        let mut before = Log::default();
        let mut after = Log::default();

        for record in ["4,7,1,-;a\n SUBSYSTEM=pci\n", "4,8,2,-;b\n", "6,9,3,-;c\n"] {
            before.take(record);
        }
        for record in ["4,9,3,-;c\n", "4,10,4,c;d\n", "4,12,4,-;e;f\n", "nonsense"] {
            after.take(record);
        }
        assert_eq!(before.end(), 10);
        assert_eq!(after.lines(), ["c", "d", "e;f"]);
        assert_eq!(after.since(before.end()), ["d", "e;f"]);
        assert_eq!(after.since(0), ["c", "d", "e;f"]);
        assert_eq!(after.since(13), [""; 0]);
        assert_eq!(Log::default().end(), 0);
        assert_eq!(Log::of("x\ny").since(1), ["y"]);
    }

    /// A log may hold what others wrote, and dmesg colours it.
    #[test]
    fn lines_are_safe_to_print() {
        let log = log(&[
            "\x1b[33mnvme 0000:02:00.0: \x1b[0mtext",
            "a\x1b]0;title\x07b\rc\x08",
        ]);
        assert_eq!(log.lines()[0], "nvme 0000:02:00.0: text");
        assert!(log.lines()[1].starts_with('a'));
        assert!(!log.lines()[1].contains(char::is_control));
        let mut live = Log::default();
        live.take("4,9,3,-;a\x1b[2Jb\n");
        assert_eq!(live.lines(), ["a\u{fffd}[2Jb"]);
    }

    fn reason(log: &Log, provider: &str, client: &str) -> Option<Reason> {
        let bdf = |text: &str| text.parse().expect("an address");
        log.reason(bdf(provider), bdf(client))
    }

    const REFUSED: &str =
        "nvme 0000:02:00.0: cannot be used for peer-to-peer DMA as the client and \
         provider (0000:01:00.0) do not share an upstream bridge or whitelisted host bridge";
    const ACS: &str =
        "nvme 0000:02:00.0: ACS redirect is set between the client and provider (0000:01:00.0)";
    const DISABLE: &str = "nvme 0000:02:00.0: to disable ACS redirect for this path, add the \
         kernel parameter: pci=disable_acs_redir=0000:00:01.0;0000:00:02.0";

    fn acs() -> Option<Reason> {
        Some(Reason::AcsRedirect {
            bridges: Bridges::of("0000:00:01.0;0000:00:02.0"),
        })
    }

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
        assert_eq!(
            reason(&log(&[ACS, DISABLE, REFUSED]), "01:00.0", "02:00.0"),
            acs()
        );
    }

    /// Without the last line the pair is allowed, through the host bridge.
    #[test]
    fn acs_alone_is_no_refusal() {
        let log = log(&[ACS, DISABLE]);
        assert_eq!(reason(&log, "01:00.0", "02:00.0"), None);
        let verdicts = log.verdicts();
        let verdict = verdicts.values().next().expect("a verdict");
        assert!(verdict.acs_redirect && !verdict.refused);
        assert_eq!(verdict.lines, [1, 2]);
    }

    #[test]
    fn lines_interleave() {
        let other = |line: &str| {
            let line = line.replace("0000:02:00.0", "0000:05:00.0");
            line.replace("0000:00:02.0", "0000:00:05.0")
        };
        // the first pair is allowed, the second is not
        let (acs2, disable2, refused2) = (other(ACS), other(DISABLE), other(REFUSED));
        let log = log(&[ACS, &acs2, DISABLE, &disable2, &refused2]);
        assert_eq!(reason(&log, "01:00.0", "02:00.0"), None);
        let bridges = Bridges::of("0000:00:01.0;0000:00:05.0");
        assert!(bridges.complete);
        assert_eq!(
            reason(&log, "01:00.0", "05:00.0"),
            Some(Reason::AcsRedirect { bridges })
        );
    }

    /// What is no address is left out, with all after it, and what has no more room may be cut.
    #[test]
    fn takes_addresses_only() {
        let bridges = |list: &str| {
            let found = Bridges::of(list);
            (found.parameter(), found.complete)
        };
        assert_eq!(bridges("0000:00:01.0"), ("0000:00:01.0".to_owned(), true));
        for list in [
            "$(reboot);0000:00:01.0",
            "`id`",
            "",
            "0000:00:01",
            "00:01.0",
            "0000:0:1.0",
            "-s",
        ] {
            assert_eq!(bridges(list), (String::new(), false), "{list}");
        }
        for list in [
            "0000:00:01.0;",
            "0000:00:01.0;0000:29:00",
            "0000:00:01.0;0000:29:00.0 ;",
            "0000:00:01.0;$(reboot);0000:00:02.0",
        ] {
            assert_eq!(bridges(list), ("0000:00:01.0".to_owned(), false), "{list}");
        }
        // nine of 12 characters and a ';' each, and the tenth after 10 characters; or whole, in
        // a domain with 5 digits
        let nine: Vec<_> = (0x20..0x29)
            .map(|bus| format!("0000:{bus:02x}:00.0;"))
            .collect();
        let nine = nine.concat();
        let (said, complete) = bridges(&format!("{nine}0000:29:00"));
        assert_eq!((said + ";", complete), (nine.clone(), false));
        assert!(bridges(nine.trim_end_matches(';')).1);
        let wide: Vec<_> = (0..9).map(|bus| format!("10000:{bus:02x}:00.0;")).collect();
        let wide = wide.concat();
        assert_eq!(wide.len() + 1, 127);
        assert!(!bridges(&format!("{wide}1")).1);
        // what fills the room to its end may have been cut there, though all of it are addresses
        let wider: Vec<_> = (0..5)
            .map(|bus| format!("100000:{bus:02x}:00.0;"))
            .collect();
        let full = wider.concat() + "10000:01:00.0;0000:01:00.0;0000:02:00.0;0000:03:00.0";
        assert_eq!(full.len(), 127);
        assert_eq!(bridges(&full), (full.clone(), false));
        let less = full.replacen("10000:01:00.0", "0000:01:00.0", 1);
        assert_eq!(bridges(&less), (less.clone(), true));
    }

    /// `0000:01:00.0: ` is also the end of `10000:01:00.0: `.
    #[test]
    fn domains_are_part_of_the_address() {
        let line = REFUSED.replace("nvme 0000:02:00.0", "nvme 10000:02:00.0");
        let log = log(&[&line]);
        assert_eq!(reason(&log, "01:00.0", "02:00.0"), None);
        assert_eq!(
            reason(&log, "01:00.0", "10000:02:00.0"),
            Some(Reason::NoSharedBridge)
        );
    }

    /// ACS was changed, and the provider bound again: the old lines are history.
    #[test]
    fn binding_again_makes_it_history() {
        let added =
            "p2pdma_provider 0000:01:00.0: added peer-to-peer DMA memory 0xfc000000-0xfdffffff";
        let log = log(&[ACS, DISABLE, REFUSED, added]);
        assert_eq!(reason(&log, "01:00.0", "02:00.0"), None);
        // judged again, without ACS
        let log = self::log(&[ACS, DISABLE, REFUSED, REFUSED]);
        assert_eq!(
            reason(&log, "01:00.0", "02:00.0"),
            Some(Reason::NoSharedBridge)
        );
    }

    #[test]
    fn finds_the_device_of_a_line() {
        let bdf = |text: &str| text.parse::<Bdf>().expect("an address");
        for (line, device, text) in [
            (
                "[    1.234567] nvme 0000:02:00.0: text here",
                "02:00.0",
                "text here",
            ),
            ("<4>pci 10000:01:00.0: x", "10000:01:00.0", "x"),
            (
                "Nov 28 10:00:00 host kernel: xe 0000:07:00.0: a: b",
                "07:00.0",
                "a: b",
            ),
        ] {
            assert_eq!(message(line), Some((bdf(device), text)));
        }
        assert_eq!(message("10:00.0: no domain"), None);
        assert_eq!(message("nvme nvme0: text"), None);
        assert_eq!(message(""), None);
    }
}
