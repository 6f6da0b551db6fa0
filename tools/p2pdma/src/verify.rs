// SPDX-License-Identifier: GPL-2.0

//! `p2pdma verify`: moves data between NVMe namespaces and peer-to-peer memory, and compares.
//!
//! Reading needs no permission: the same blocks are read into peer-to-peer memory and into
//! ordinary memory, and must be the same. Writing destroys data and is done on namespaces only
//! that were named for it; there, every word says where it belongs. On others, the controller
//! compares peer-to-peer memory with its medium, if it knows that command: it reads its peer as it
//! does for a write, and nothing is written.

use std::fs::File;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::Arc;
use std::thread;

use anyhow::{bail, ensure, Context, Result};
use p2pdma_syscalls::{Compared, Queue};
use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;
use serde::Serialize;

use crate::bdf::Bdf;
use crate::check::{GUEST, IN_THE_HOST};
use crate::expect::{self, Expected, Rule};
use crate::kmsg::{Log, Reason};
use crate::machine::{Client, Machine, Namespace, Provider};
use crate::memory::Memory;
use crate::pattern::{Mismatch, Pattern, What, WORD};
use crate::route::{route, Via};
use crate::show::describe;
use crate::size::Size;
use crate::text::{hanging, list, styled, BAD, GOOD, HEADING, REFUSED};

/// Kept free on both sides of a transfer, in the mapping and on the medium.
const GUARD: usize = 4096;
/// A controller compares this much with one command, which all can; and this much where it takes
/// no list of what is in its own memory.
const COMPARE_MAX: usize = 64 << 10;
const COMPARE_MIN: usize = 4 << 10;
/// Status of NVMe: invalid use of the controller's memory buffer. QEMU's controller answers so if
/// the list of segments is not in that memory as well.
const INVALID_USE_OF_CMB: u16 = 0x12;
/// Transfers up to this size are watched by the owner of the memory, so often.
const WATCHED_MAX: usize = 64 << 10;
const WATCHED: usize = 4;

/// What to verify.
#[derive(Debug, Default)]
pub struct Options {
    /// These providers only; all if empty.
    pub providers: Vec<Bdf>,
    /// These clients only, by disk, controller, serial number or address; all if empty.
    pub clients: Vec<String>,
    /// Sizes of the transfers, in bytes.
    pub sizes: Vec<u64>,
    /// This direction only; both if not given.
    pub only: Option<Direction>,
    /// Disks whose content may be destroyed, named as clients are.
    pub scratch: Vec<String>,
    /// What should come out.
    pub rules: Vec<Rule>,
    /// Flip a bit after each transfer, to show that it is noticed.
    pub corrupt: bool,
    /// Seed of the pattern.
    pub seed: u16,
}

/// Which way data are moved.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, clap::ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum Direction {
    /// From the medium into peer-to-peer memory: the controller writes to its peer on the bus.
    Read,
    /// From peer-to-peer memory to the medium: the controller reads from its peer on the bus.
    Write,
}

impl Direction {
    /// What the controller, which is the bus master, does on the bus.
    fn on_the_bus(self) -> &'static str {
        match self {
            Direction::Read => "peer-write",
            Direction::Write => "peer-read",
        }
    }

    fn other(self) -> Self {
        match self {
            Direction::Read => Direction::Write,
            Direction::Write => Direction::Read,
        }
    }

    /// The same, as what the controller does to its peer.
    fn to_its_peer(self) -> &'static str {
        match self {
            Direction::Read => "writing to",
            Direction::Write => "reading from",
        }
    }
}

/// A direction of a pair in which nothing was moved.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct NotTested {
    provider: Bdf,
    /// The bus master.
    client: Bdf,
    disk: String,
    direction: Direction,
    bus: &'static str,
    why: &'static str,
}

/// How a transfer ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Verdict {
    /// All data are where they belong.
    Ok,
    /// The kernel refused the pair.
    Refused,
    /// The transfer was reported as done, and the data are wrong.
    Wrong,
    /// It failed in another way.
    Failed,
    /// What came out proves nothing.
    Inconclusive,
}

/// A verdict, and what there is to say about it.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Outcome {
    verdict: Verdict,
    /// What happened, for the line of the transfer.
    detail: String,
    /// What to do about it.
    remedy: Option<String>,
    /// The data could not show a wrong place: the medium holds the same everywhere.
    uniform: bool,
}

impl Outcome {
    fn new(verdict: Verdict, detail: impl Into<String>) -> Self {
        Outcome {
            verdict,
            detail: detail.into(),
            remedy: None,
            uniform: false,
        }
    }

    fn failed(what: &str, error: &io::Error) -> Self {
        Outcome::new(Verdict::Failed, format!("{what}: {}", plain(error)))
    }
}

/// An error without Rust's number behind it.
pub fn plain(error: &io::Error) -> String {
    let text = error.to_string();
    match text.split_once(" (os error ") {
        Some((text, _)) => text.to_owned(),
        None => text,
    }
}

/// One transfer.
#[derive(Clone, Debug, Serialize)]
pub struct Transfer {
    provider: Bdf,
    client: Bdf,
    disk: String,
    direction: Direction,
    /// The command that the client was given: read, write or compare.
    by: &'static str,
    /// What the client, which is the bus master, does to the provider.
    bus: &'static str,
    size: u64,
    verdict: Verdict,
    as_expected: bool,
    verified: u64,
    position_proven: bool,
    detail: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    remedy: Option<String>,
}

/// Numbers of transfers.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Summary {
    transfers: usize,
    ok: usize,
    refused: usize,
    wrong: usize,
    failed: usize,
    inconclusive: usize,
    /// Neither as expected nor, where nothing was expected, right.
    unexpected: usize,
    /// Bytes compared and found right.
    verified: u64,
    /// Transfers that were right and could not have shown a wrong place.
    position_unproven: usize,
}

/// Version of what `--json` prints: it changes when something is renamed, removed or redefined.
const SCHEMA: u32 = 1;

/// What `--json` prints.
#[derive(Debug, Serialize)]
pub struct Report {
    /// Version of this format.
    schema: u32,
    seed: u16,
    transfers: Vec<Transfer>,
    /// Directions in which nothing was moved.
    not_tested: Vec<NotTested>,
    /// Pools that did not get all their memory back.
    leaks: Vec<String>,
    summary: Summary,
}

impl Report {
    /// Whether all came out as expected.
    fn as_expected(&self) -> bool {
        self.summary.unexpected == 0 && self.leaks.is_empty()
    }

    /// Whether there is something that was to be tested and was not.
    fn is_inconclusive(&self) -> bool {
        !self.not_tested.is_empty() || self.summary.inconclusive > 0
    }

    /// Whether it can be done: not if anything is wrong, whatever else was not tested; `None` if
    /// something that was to be tested was not, or proves nothing.
    pub fn able(&self) -> Option<bool> {
        match (self.as_expected(), self.is_inconclusive()) {
            (false, _) => Some(false),
            (true, true) => None,
            (true, false) => Some(true),
        }
    }

    fn summarize(transfers: &[Transfer]) -> Summary {
        let count = |verdict| transfers.iter().filter(|t| t.verdict == verdict).count();
        Summary {
            transfers: transfers.len(),
            ok: count(Verdict::Ok),
            refused: count(Verdict::Refused),
            wrong: count(Verdict::Wrong),
            failed: count(Verdict::Failed),
            inconclusive: count(Verdict::Inconclusive),
            unexpected: transfers.iter().filter(|t| !t.as_expected).count(),
            verified: transfers.iter().map(|t| t.verified).sum(),
            position_unproven: transfers
                .iter()
                .filter(|t| t.verdict == Verdict::Ok && !t.position_proven)
                .count(),
        }
    }
}

/// A provider and a namespace.
#[derive(Clone, Copy)]
struct Pair<'a> {
    provider: &'a Provider,
    client: &'a Client,
    disk: &'a Namespace,
    scratch: bool,
}

impl Pair<'_> {
    /// How the disk is opened; for writing, only if nobody else uses it.
    fn flags(&self) -> OFlags {
        match self.scratch {
            true => OFlags::RDWR | OFlags::EXCL,
            false => OFlags::RDONLY,
        }
    }
}

/// Whether a name that a user gave means this disk.
pub fn names(name: &str, client: &Client, disk: &Namespace) -> bool {
    let bare = name.strip_prefix("/dev/").unwrap_or(name);
    bare == disk.name
        || bare == client.controller
        || name == client.serial
        || name.parse() == Ok(client.bdf)
}

/// The pairs that were asked for.
fn plan<'a>(machine: &'a Machine, options: &Options) -> Result<Vec<Pair<'a>>> {
    ensure!(
        !machine.providers.is_empty(),
        "no device provides peer-to-peer memory\n  \
         load p2pdma_provider for a device with a memory BAR, or use an NVMe controller with a CMB"
    );
    let disks: Vec<(&Client, &Namespace)> = machine
        .clients
        .iter()
        .flat_map(|client| client.namespaces.iter().map(move |disk| (client, disk)))
        .collect();
    ensure!(
        !disks.is_empty(),
        "no NVMe namespace to move data with\n  is the nvme driver loaded?"
    );

    for bdf in &options.providers {
        let known: Vec<_> = machine
            .providers
            .iter()
            .map(|p| p.bdf.to_string())
            .collect();
        ensure!(
            machine
                .providers
                .iter()
                .any(|provider| provider.bdf == *bdf),
            "{bdf} provides no peer-to-peer memory\n  there is {}",
            list(&known)
        );
    }
    for name in options.clients.iter().chain(&options.scratch) {
        let known: Vec<_> = disks.iter().map(|(_, disk)| disk.name.clone()).collect();
        ensure!(
            disks.iter().any(|(client, disk)| names(name, client, disk)),
            "no NVMe namespace is called '{name}'\n  there is {}; controllers, serial numbers and \
             PCI addresses will do as well",
            list(&known)
        );
    }

    let wanted = |list: &[String], client: &Client, disk: &Namespace| {
        list.iter().any(|name| names(name, client, disk))
    };
    let mut pairs = Vec::new();
    for provider in &machine.providers {
        if !options.providers.is_empty() && !options.providers.contains(&provider.bdf) {
            continue;
        }
        for &(client, disk) in &disks {
            if options.clients.is_empty() || wanted(&options.clients, client, disk) {
                pairs.push(Pair {
                    provider,
                    client,
                    disk,
                    scratch: wanted(&options.scratch, client, disk),
                });
            }
        }
    }
    Ok(pairs)
}

/// Opens a disk for direct I/O.
pub fn open_disk(path: &Path, flags: OFlags) -> Result<File> {
    let flags = flags | OFlags::DIRECT | OFlags::CLOEXEC;
    match rustix::fs::open(path, flags, Mode::empty()) {
        Ok(fd) => Ok(File::from(fd)),
        Err(Errno::BUSY) => bail!(
            "{} is in use, its content cannot be destroyed",
            path.display()
        ),
        Err(error @ (Errno::ACCESS | Errno::PERM)) => {
            Err(error).with_context(|| format!("cannot open {}: this takes root", path.display()))
        }
        Err(error) => Err(error).with_context(|| format!("cannot open {}", path.display())),
    }
}

/// Opens the pool of a provider, to map memory of it.
pub fn open_pool(provider: &Provider) -> Result<File> {
    let path = PathBuf::from(format!(
        "/sys/bus/pci/devices/{}/p2pmem/allocate",
        provider.bdf
    ));
    File::options()
        .read(true)
        .write(true)
        .open(&path)
        .map_err(|error| match error.kind() {
            io::ErrorKind::PermissionDenied => {
                anyhow::anyhow!("cannot open {}: this takes root", path.display())
            }
            _ => anyhow::anyhow!("cannot open {}: {}", path.display(), plain(&error)),
        })
}

/// The middle of a medium, at a whole MiB.
fn middle(size: u64) -> u64 {
    const MIB: u64 = 1 << 20;
    size / 2 / MIB * MIB
}

/// All that a transfer works with.
struct Bench<'a> {
    pair: Pair<'a>,
    disk: Arc<File>,
    /// Peer-to-peer memory: the transfer's, with a guard on either side.
    peer: Memory,
    /// Ordinary memory of the same length.
    host: Memory,
    len: usize,
    pattern: Pattern,
    corrupt: bool,
}

/// Why a transfer ended early.
enum Stop {
    /// With this outcome.
    Outcome(Outcome),
    /// Something that is not the transfer failed.
    Io(io::Error),
}

impl From<io::Error> for Stop {
    fn from(error: io::Error) -> Self {
        Stop::Io(error)
    }
}

impl Bench<'_> {
    /// Ordinary I/O, which has to work.
    fn expect_all(&self, moved: io::Result<usize>, len: usize, what: &str) -> Result<(), Stop> {
        match moved {
            Ok(moved) if moved == len => Ok(()),
            Ok(moved) => Err(Stop::Outcome(Outcome::new(
                Verdict::Failed,
                format!("{what} stopped after {}", Size(moved as u64)),
            ))),
            Err(error) => Err(Stop::Outcome(Outcome::failed(what, &error))),
        }
    }

    /// The transfer itself: done whole, or refused, or failed.
    fn judge(&self, moved: io::Result<usize>) -> Result<(), Stop> {
        let outcome = match moved {
            Ok(moved) if moved == self.len => return Ok(()),
            Ok(moved) => Outcome::new(
                Verdict::Failed,
                format!("stopped after {}", Size(moved as u64)),
            ),
            Err(error) => match Errno::from_io_error(&error) {
                Some(Errno::INVAL) => Outcome::new(Verdict::Refused, ""),
                Some(Errno::REMOTEIO) => Outcome {
                    remedy: Some(
                        "only queues of the nvme driver and a few that stack on it do".into(),
                    ),
                    ..Outcome::new(
                        Verdict::Refused,
                        "the disk's queue does not take peer-to-peer memory",
                    )
                },
                _ => Outcome::failed("transfer", &error),
            },
        };
        Err(Stop::Outcome(outcome))
    }

    fn compared(&self, result: Result<(), Mismatch>, where_: &str) -> Result<(), Stop> {
        let Err(mismatch) = result else {
            return Ok(());
        };
        Err(Stop::Outcome(Outcome::new(
            Verdict::Wrong,
            format!("{where_}: {mismatch}"),
        )))
    }

    /// The guards on both sides of the transfer in peer-to-peer memory are as they were.
    fn check_guards(&self) -> Result<(), Stop> {
        for start in [0, GUARD + self.len] {
            let words = self.peer.words(start, GUARD)?.into_iter();
            let result = self.pattern.check(words, What::Preset, start as u64);
            self.compared(result, "memory beside the transfer was overwritten")?;
        }
        Ok(())
    }

    fn preset(&self) -> io::Result<()> {
        self.peer
            .fill(0, self.peer.len(), self.pattern, What::Preset, 0)
    }

    fn peer_words(&self) -> io::Result<Vec<u64>> {
        self.peer.words(GUARD, self.len)
    }

    fn host_words(&self) -> io::Result<Vec<u64>> {
        self.host.words(GUARD, self.len)
    }

    fn ordinary_read(&self, pos: u64) -> Result<(), Stop> {
        let moved = self.host.read_from(&self.disk, pos, GUARD, self.len);
        self.expect_all(moved, self.len, "ordinary read")
    }

    fn peer_read(&self, pos: u64) -> Result<(), Stop> {
        self.preset()?;
        self.judge(self.peer.read_from(&self.disk, pos, GUARD, self.len))?;
        if self.corrupt {
            self.peer.flip(GUARD + self.len / 2)?;
        }
        Ok(())
    }

    /// Where to work on a medium whose content counts: some place where it is not all the same.
    fn telling_place(&self) -> Result<(u64, bool), Stop> {
        let size = self.pair.disk.size;
        let places = [0, 1 << 20, middle(size)];
        let fits = |pos: &u64| pos + self.len as u64 <= size;
        for pos in places.into_iter().filter(fits) {
            self.ordinary_read(pos)?;
            let words = self.host_words()?;
            if words.iter().any(|word| *word != words[0]) {
                return Ok((pos, false));
            }
        }
        Ok((0, true))
    }

    /// The same blocks into peer-to-peer and into ordinary memory.
    fn read_and_compare(&self) -> Result<Outcome, Stop> {
        let (pos, uniform) = self.telling_place()?;
        self.peer_read(pos)?;
        self.ordinary_read(pos)?;
        let reference = self.host_words()?;
        let found = self.peer_words()?;
        let result = self
            .pattern
            .check_against(found.into_iter(), reference.iter().copied());
        if result.is_err() {
            self.expect_same_medium(pos, &reference)?;
        }
        self.compared(result, "memory")?;
        self.check_guards()?;
        self.watch(pos, &reference)?;
        Ok(Outcome {
            uniform,
            ..Outcome::new(Verdict::Ok, "")
        })
    }

    /// What is on the medium is what it was when it was read into ordinary memory.
    fn expect_same_medium(&self, pos: u64, reference: &[u64]) -> Result<(), Stop> {
        self.ordinary_read(pos)?;
        if self.host_words()? == reference {
            return Ok(());
        }
        Err(Stop::Outcome(Outcome {
            remedy: Some("stop what writes to the disk, or use another".into()),
            ..Outcome::new(
                Verdict::Failed,
                "the disk is being written to, nothing can be compared",
            )
        }))
    }

    /// The owner of the memory polls it while the controller writes. As soon as the owner knows
    /// that the controller is done, all data have to be there.
    fn watch(&self, pos: u64, right: &[u64]) -> Result<(), Stop> {
        if self.len > WATCHED_MAX {
            return Ok(());
        }
        // forbidden in sandboxes; the other comparisons hold all the same
        let Ok(mut queue) = Queue::new(1) else {
            return Ok(());
        };
        let transfer = p2pdma_syscalls::Transfer {
            direction: p2pdma_syscalls::Direction::Read,
            file: self.disk.clone(),
            pos,
            region: self.peer.region().clone(),
            offset: GUARD,
            len: self.len,
        };
        for _ in 0..WATCHED {
            self.preset()?;
            let done = AtomicBool::new(false);
            let mut ended = Vec::new();
            let found = thread::scope(|scope| {
                // it shares the bus with the controller, whatever it sees
                scope.spawn(|| {
                    while !done.load(Ordering::Acquire) {
                        let _ = self.peer.words(GUARD + self.len - WORD, WORD);
                    }
                });
                let started = queue.push(0, &transfer);
                let waited = started.and_then(|()| queue.wait(&mut ended));
                let found = waited.and_then(|()| self.peer_words());
                done.store(true, Ordering::Release);
                found
            })?;
            for one in ended {
                self.judge(one.moved)?;
            }
            let result = self
                .pattern
                .check_against(found.into_iter(), right.iter().copied());
            if result.is_err() {
                self.expect_same_medium(pos, right)?;
            }
            self.compared(result, "memory, when it was reported as done")?;
        }
        Ok(())
    }

    /// What is on the medium, copied to peer-to-peer memory, and compared by the controller; and
    /// then with one wrong bit, which it has to notice.
    fn compare_in_place(&self) -> Result<Outcome, Stop> {
        let (pos, uniform) = self.telling_place()?;
        self.ordinary_read(pos)?;
        let reference = self.host_words()?;
        self.preset()?;
        self.host.copy_to(&self.peer, GUARD, self.len)?;
        if self.corrupt {
            self.peer.flip(GUARD + self.len / 2)?;
        }
        // what was posted has arrived when this is read
        self.peer.words(GUARD + self.len - WORD, WORD)?;
        let compare = |at: usize, step: usize| {
            let len = step.min(self.len - at);
            let region = self.peer.region();
            p2pdma_syscalls::compare(&self.disk, pos + at as u64, region, GUARD + at, len)
        };
        let least = COMPARE_MIN.max(usize::try_from(self.pair.disk.block_size).unwrap_or(0));
        let (mut at, mut step) = (0, COMPARE_MAX);
        while at < self.len {
            match compare(at, step) {
                Ok(Compared::Equal) => at += step,
                Ok(Compared::Status(INVALID_USE_OF_CMB)) if step > least => step = least,
                Ok(Compared::Different) => {
                    self.expect_same_medium(pos, &reference)?;
                    return Ok(Outcome::new(
                        Verdict::Wrong,
                        format!(
                            "the controller did not find in memory what is there, in the {} at {}",
                            Size(step.min(self.len - at) as u64),
                            Size(at as u64)
                        ),
                    ));
                }
                Ok(Compared::Status(status)) => {
                    let what = format!("Compare ended with status {status:#x}");
                    return Ok(Outcome::new(Verdict::Failed, what));
                }
                Err(error) => self.judge(Err(error))?,
            }
        }
        let middle = self.len / 2;
        self.peer.flip(GUARD + middle)?;
        self.peer.words(GUARD + self.len - WORD, WORD)?;
        let wrong = compare(middle / step * step, step)?;
        self.peer.flip(GUARD + middle)?;
        if wrong != Compared::Different {
            return Ok(Outcome::new(
                Verdict::Inconclusive,
                "the controller takes a wrong bit for the same: it does not compare",
            ));
        }
        self.check_guards()?;
        let detail = match step < COMPARE_MAX.min(self.len) {
            true => format!("verified, in commands of {}", Size(step as u64)),
            false => String::new(),
        };
        Ok(Outcome {
            uniform,
            ..Outcome::new(Verdict::Ok, detail)
        })
    }

    /// Where to work on a medium that may be destroyed.
    fn scratch_place(&self) -> Result<u64, Stop> {
        let size = self.pair.disk.size;
        let pos = middle(size);
        if pos < GUARD as u64 || pos + (self.len + GUARD) as u64 > size {
            let detail = format!("the disk has {} only", Size(size));
            return Err(Stop::Outcome(Outcome::new(Verdict::Failed, detail)));
        }
        Ok(pos)
    }

    /// Fills a place of the medium and its surroundings through ordinary memory.
    fn ordinary_write(&self, pos: u64, what: What) -> Result<(), Stop> {
        let (start, len) = (pos - GUARD as u64, self.len + 2 * GUARD);
        self.host.fill(0, len, self.pattern, What::Around, start)?;
        self.host.fill(GUARD, self.len, self.pattern, what, pos)?;
        let moved = self.host.write_to(&self.disk, start, 0, len);
        self.expect_all(moved, len, "ordinary write")
    }

    /// A pattern on the medium, read into peer-to-peer memory.
    fn read_pattern(&self) -> Result<Outcome, Stop> {
        let pos = self.scratch_place()?;
        self.ordinary_write(pos, What::Data)?;
        self.peer_read(pos)?;
        let found = self.peer_words()?.into_iter();
        self.compared(self.pattern.check(found, What::Data, pos), "memory")?;
        self.check_guards()?;
        self.ordinary_read(pos)?;
        self.watch(pos, &self.host_words()?)?;
        Ok(Outcome::new(Verdict::Ok, ""))
    }

    /// A pattern in peer-to-peer memory, written to the medium.
    fn write_pattern(&self) -> Result<Outcome, Stop> {
        let pos = self.scratch_place()?;
        let (start, len) = (pos - GUARD as u64, self.len + 2 * GUARD);
        self.ordinary_write(pos, What::Preset)?;
        self.preset()?;
        self.peer
            .fill(GUARD, self.len, self.pattern, What::Data, pos)?;

        self.judge(self.peer.write_to(&self.disk, pos, GUARD, self.len))?;

        let moved = self.host.read_from(&self.disk, start, 0, len);
        self.expect_all(moved, len, "ordinary read")?;
        if self.corrupt {
            self.host.flip(GUARD + self.len / 2)?;
        }
        let found = self.host_words()?.into_iter();
        self.compared(self.pattern.check(found, What::Data, pos), "medium")?;
        for (at, pos) in [(0, start), (GUARD + self.len, pos + self.len as u64)] {
            let words = self.host.words(at, GUARD)?.into_iter();
            let result = self.pattern.check(words, What::Around, pos);
            self.compared(result, "medium beside the transfer was overwritten")?;
        }
        Ok(Outcome::new(Verdict::Ok, ""))
    }

    fn run(&self, direction: Direction) -> io::Result<Outcome> {
        let result = match (direction, self.pair.scratch) {
            (Direction::Read, false) => self.read_and_compare(),
            (Direction::Read, true) => self.read_pattern(),
            (Direction::Write, true) => self.write_pattern(),
            (Direction::Write, false) => self.compare_in_place(),
        };
        match result {
            Ok(outcome) | Err(Stop::Outcome(outcome)) => Ok(outcome),
            Err(Stop::Io(error)) => Err(error),
        }
    }
}

/// Why a pair was refused, and what can be done.
///
/// What the bridges are set to now counts. The kernel's log tells of the time when the kernel
/// judged the pair, which it does once: it is asked only where the settings cannot be read.
pub fn explain(machine: &Machine, log: &Log, provider: Bdf, client: Bdf) -> (String, String) {
    let acs = |bridges: Option<String>| {
        let why =
            "ACS redirect sends this traffic to the host bridge, which the kernel does not trust \
             with it";
        let what = match bridges {
            Some(bridges) => format!(
                "boot with pci=disable_acs_redir={bridges} (devices below are then less isolated)"
            ),
            None => format!("p2pdma check {provider} {client} tells which ports redirect"),
        };
        (why.to_owned(), what)
    };
    let via = route(machine, provider, client).via;
    match (&via, log.reason(provider, client)) {
        (Via::HostBridge { acs_redirect, .. }, _) if !acs_redirect.is_empty() => {
            let bridges: Vec<_> = acs_redirect.iter().map(Bdf::to_string).collect();
            acs(Some(bridges.join(";")))
        }
        (Via::Bridge { .. } | Via::SameFunction, _) => (
            "nothing between the two forbids it now; the kernel keeps what it found when it was \
             first asked, before ACS settings were changed"
                .to_owned(),
            format!("unbind the provider {provider} from its driver and bind it again"),
        ),
        (Via::Unknown { .. }, Some(Reason::AcsRedirect { bridges })) => {
            acs(bridges.complete.then(|| bridges.parameter()))
        }
        _ => (
            "the two meet in the host bridge only, which the kernel does not trust with it"
                .to_owned(),
            "move both below one PCIe switch, or use a machine whose host bridge the kernel trusts"
                .to_owned(),
        ),
    }
}

/// What to consider when data are wrong. In a virtual machine, the host decides where they go.
fn wrong_remedy(machine: &Machine, via: &Via) -> String {
    let what = match via {
        Via::Bridge { bridge } => format!(
            "do not use this pair; what passes {bridge} does not arrive, a translating IOMMU in a \
             virtual machine can be the reason (boot with iommu=pt)"
        ),
        Via::HostBridge { .. } => {
            "do not use this pair; what goes through the host bridge does not arrive".to_owned()
        }
        Via::SameFunction | Via::Unknown { .. } => "do not use this pair".to_owned(),
    };
    match machine.hypervisor {
        true => format!("{what}; {GUEST}: {IN_THE_HOST}"),
        false => format!("{what}; report it with the seed and this output"),
    }
}

/// Whether an outcome is the expected one, and what to add to its line.
fn weigh(rule: Option<&Rule>, verdict: Verdict) -> (bool, Option<String>) {
    if verdict == Verdict::Inconclusive {
        return (true, None);
    }
    let Some(rule) = rule else {
        return (verdict == Verdict::Ok, None);
    };
    match (rule.expected, verdict, &rule.defect) {
        (Expected::Refused, Verdict::Refused, _) => (true, Some("as expected".into())),
        (Expected::Refused, Verdict::Ok, _) => (false, Some("expected to be refused".into())),
        (Expected::Works, Verdict::Wrong, Some(defect)) => {
            (true, Some(format!("known defect {defect}")))
        }
        (_, verdict, _) => (
            verdict == Verdict::Ok && rule.expected == Expected::Works,
            None,
        ),
    }
}

/// Prints as things happen, unless the output is for a program.
struct Voice<W> {
    out: W,
    quiet: bool,
}

impl<W: Write> Voice<W> {
    fn say(&mut self, line: &str) -> io::Result<()> {
        if !self.quiet {
            writeln!(self.out, "{line}")?;
            self.out.flush()?;
        }
        Ok(())
    }
}

fn heading(pair: &Pair<'_>, via: &Via) -> String {
    let provider = format!(
        "{} ({}) - {}",
        pair.provider.bdf,
        pair.provider.driver.as_deref().unwrap_or("no driver"),
        pair.disk.name
    );
    let client = if pair.client.bdf == pair.provider.bdf {
        String::new()
    } else {
        format!(" at {}", pair.client.bdf)
    };
    let start = styled(HEADING, &format!("{provider}{client}")) + ": ";
    hanging(&start, &describe(via))
}

fn transfer_line(transfer: &Transfer) -> String {
    let (style, verdict) = match transfer.verdict {
        Verdict::Ok => (GOOD, "ok"),
        Verdict::Refused => (REFUSED, "refused"),
        Verdict::Wrong => (BAD, "DATA WRONG"),
        Verdict::Failed => (BAD, "failed"),
        Verdict::Inconclusive => (REFUSED, "INCONCLUSIVE"),
    };
    let size = Size(transfer.size).to_string();
    let verdict = styled(style, &format!("{verdict:<10}"));
    let by = match transfer.by {
        "compare" => "cmp",
        by => by,
    };
    let start = format!("  {by:<5}  {size:>8}  {verdict}  ");
    hanging(&start, &transfer.detail)
}

/// What can be done, below the detail of the transfer.
fn remedy_line(remedy: &str) -> String {
    hanging(&" ".repeat(31), remedy)
}

fn one_transfer(
    machine: &Machine,
    options: &Options,
    pair: &Pair<'_>,
    size: u64,
    direction: Direction,
) -> Result<Transfer> {
    let len = usize::try_from(size)?;
    let outcome = if size % pair.disk.block_size == 0 {
        match Memory::from_pool(open_pool(pair.provider)?, len + 2 * GUARD) {
            Ok(peer) => {
                let bench = Bench {
                    pair: *pair,
                    disk: Arc::new(open_disk(&pair.disk.path(), pair.flags())?),
                    host: Memory::ordinary(peer.len())?,
                    peer,
                    len,
                    pattern: Pattern::new(options.seed),
                    corrupt: options.corrupt,
                };
                bench.run(direction)?
            }
            Err(error) if Errno::from_io_error(&error) == Some(Errno::NOMEM) => Outcome {
                remedy: Some("verify smaller sizes, or end what uses the pool".into()),
                ..Outcome::new(Verdict::Failed, "the pool has no such run of free memory")
            },
            Err(error) => Outcome::failed("mapping peer-to-peer memory", &error),
        }
    } else {
        let detail = format!("not a multiple of the block size, {}", pair.disk.block_size);
        Outcome::new(Verdict::Failed, detail)
    };

    let rule = expect::find(&options.rules, pair.provider, pair.client);
    let (as_expected, note) = weigh(rule, outcome.verdict);
    let via = route(machine, pair.provider.bdf, pair.client.bdf).via;
    let (mut detail, mut remedy) = (outcome.detail, outcome.remedy);
    if outcome.verdict == Verdict::Refused && detail.is_empty() {
        let log = Log::read();
        let (why, what) = explain(machine, &log, pair.provider.bdf, pair.client.bdf);
        (detail, remedy) = (why, Some(what));
    }
    if outcome.verdict == Verdict::Wrong {
        remedy = Some(wrong_remedy(machine, &via));
    }
    if as_expected {
        remedy = None;
    }
    if let Some(note) = note {
        detail = if detail.is_empty() {
            note
        } else {
            format!("{note}: {detail}")
        };
    }
    let right = outcome.verdict == Verdict::Ok;
    if right && detail.is_empty() {
        "verified".clone_into(&mut detail);
    }
    if right && outcome.uniform {
        detail += ", but the medium is blank";
    }
    Ok(Transfer {
        provider: pair.provider.bdf,
        client: pair.client.bdf,
        disk: pair.disk.name.clone(),
        direction,
        by: match (direction, pair.scratch) {
            (Direction::Read, _) => "read",
            (Direction::Write, true) => "write",
            (Direction::Write, false) => "compare",
        },
        bus: direction.on_the_bus(),
        size,
        verdict: outcome.verdict,
        as_expected,
        verified: if right { size } else { 0 },
        position_proven: right && !outcome.uniform,
        detail,
        remedy,
    })
}

/// Verifies what was asked for, and says what happens while it does.
pub fn verify(
    machine: &Machine,
    options: &Options,
    quiet: bool,
    reread: impl Fn() -> Result<Machine>,
    out: impl Write,
) -> Result<Report> {
    let pairs = plan(machine, options)?;
    let mut voice = Voice { out, quiet };
    let mut transfers = Vec::new();
    let mut not_tested = Vec::new();

    for (index, pair) in pairs.iter().enumerate() {
        let via = route(machine, pair.provider.bdf, pair.client.bdf).via;
        if index > 0 {
            voice.say("")?;
        }
        voice.say(&heading(pair, &via))?;
        let compares = || {
            let disk = open_disk(&pair.disk.path(), OFlags::RDONLY);
            disk.is_ok_and(|disk| p2pdma_syscalls::knows_compare(&disk).unwrap_or(false))
        };
        let (directions, left): (Vec<_>, Vec<_>) = [Direction::Read, Direction::Write]
            .into_iter()
            .filter(|direction| options.only.is_none_or(|only| only == *direction))
            .partition(|direction| *direction == Direction::Read || pair.scratch || compares());
        not_tested.extend(left.into_iter().map(|direction| NotTested {
            provider: pair.provider.bdf,
            client: pair.client.bdf,
            disk: pair.disk.name.clone(),
            direction,
            bus: direction.on_the_bus(),
            why:
                "the controller has no Compare command, and a write destroys what is on the disk, \
                  which --scratch does not name",
        }));
        let mut said: Option<(String, Option<String>)> = None;
        for &size in &options.sizes {
            for &direction in &directions {
                let transfer = one_transfer(machine, options, pair, size, direction)?;
                // the same trouble is explained once for a pair
                let mut line = transfer.clone();
                if let Some((detail, remedy)) = &said {
                    if transfer.verdict == Verdict::Refused && transfer.detail == *detail {
                        line.detail = "for the same reason".to_owned();
                    }
                    if transfer.remedy == *remedy {
                        line.remedy = None;
                    }
                }
                voice.say(&transfer_line(&line))?;
                if let Some(remedy) = &line.remedy {
                    voice.say(&remedy_line(remedy))?;
                }
                if transfer.remedy.is_some() {
                    said = Some((transfer.detail.clone(), transfer.remedy.clone()));
                }
                transfers.push(transfer);
            }
        }
    }

    let after = reread()?;
    let leaks = machine.providers.iter().filter_map(|before| {
        let after = after
            .providers
            .iter()
            .find(|after| after.bdf == before.bdf)?;
        (after.available < before.available).then(|| {
            let gone = Size(before.available - after.available);
            format!("{}: {gone} of the pool did not come back", before.bdf)
        })
    });
    let report = Report {
        schema: SCHEMA,
        seed: options.seed,
        leaks: leaks.collect(),
        summary: Report::summarize(&transfers),
        transfers,
        not_tested,
    };
    conclude(&report, &mut voice)?;
    Ok(report)
}

/// What is said of pairs whose data arrive in one direction of the bus, and never in the other.
fn one_way(transfers: &[Transfer]) -> Vec<String> {
    let same = |a: &Transfer, b: &Transfer| {
        (a.provider, a.client, &a.disk) == (b.provider, b.client, &b.disk)
    };
    let mut said: Vec<&Transfer> = Vec::new();
    let mut lines = Vec::new();
    for works in transfers {
        let of = |direction| {
            transfers
                .iter()
                .filter(move |t| same(works, t) && t.direction == direction)
        };
        let broken = |t: &Transfer| matches!(t.verdict, Verdict::Wrong | Verdict::Failed);
        let fails = works.direction.other();
        if said.iter().any(|before| same(before, works))
            || !of(works.direction).all(|t| t.verdict == Verdict::Ok)
            || of(fails).next().is_none()
            || !of(fails).all(broken)
        {
            continue;
        }
        said.push(works);
        let (only, why) = match works.direction {
            Direction::Read => (
                "what the disk reads",
                "; some host bridges carry peer writes and never complete peer reads, a switch \
                 above the two carries both",
            ),
            Direction::Write => ("what is written to the disk", ""),
        };
        lines.push(format!(
            "{} ({}) {} {peer} on the bus works, {} it does not: use {peer} for {only} only{why}",
            works.client,
            works.disk,
            works.direction.to_its_peer(),
            fails.to_its_peer(),
            peer = works.provider,
        ));
    }
    lines
}

fn conclude(report: &Report, voice: &mut Voice<impl Write>) -> io::Result<()> {
    let Summary {
        transfers,
        ok,
        refused,
        wrong,
        failed,
        inconclusive,
        unexpected,
        verified,
        position_unproven,
    } = report.summary.clone();

    voice.say("")?;
    for leak in &report.leaks {
        voice.say(&styled(BAD, leak))?;
    }
    if position_unproven > 0 {
        voice.say(&format!(
            "{position_unproven} read blank media, where data in a wrong place look right: \
             --scratch proves the place"
        ))?;
    }
    for left in &report.not_tested {
        let (master, peer) = (left.client, left.provider);
        let does = left.direction.to_its_peer();
        voice.say(&hanging(
            "Not tested: ",
            &format!(
                "{master} ({}) {does} {peer} on the bus: {}",
                left.disk, left.why
            ),
        ))?;
    }
    for line in one_way(&report.transfers) {
        voice.say(&hanging("One direction: ", &line))?;
    }
    if inconclusive > 0 {
        voice.say(&format!("{inconclusive} transfers prove nothing"))?;
    }
    if !report.not_tested.is_empty() {
        voice.say("Inconclusive: --scratch DEV tests both directions, --only read asks for one")?;
    }
    if wrong > 0 {
        voice.say(&format!("Seed of the data: {:#x}", report.seed))?;
    }
    let verdict = if report.as_expected() {
        styled(GOOD, "as expected")
    } else {
        styled(BAD, &format!("{unexpected} not as expected"))
    };
    let verified = Size(verified);
    voice.say(&format!(
        "{transfers} transfers, {verdict}: {ok} ok, {refused} refused, {wrong} wrong, \
         {failed} failed; {verified} verified"
    ))
}

#[cfg(test)]
mod tests {
    use textwrap::core::display_width;

    use super::*;
    use crate::machine::fake;
    use crate::text::WIDTH;

    fn options() -> Options {
        Options {
            sizes: vec![4096],
            ..Options::default()
        }
    }

    fn transfer(verdict: Verdict, verified: u64, position_proven: bool) -> Transfer {
        Transfer {
            provider: "03:00.0".parse().expect("an address"),
            client: "04:00.0".parse().expect("an address"),
            disk: "nvme1n1".into(),
            direction: Direction::Read,
            by: "read",
            bus: "peer-write",
            size: 4096,
            verdict,
            as_expected: verdict == Verdict::Ok,
            verified,
            position_proven,
            detail: String::new(),
            remedy: None,
        }
    }

    fn planned(machine: &Machine, options: &Options) -> Vec<(String, String, bool)> {
        let pairs = plan(machine, options).expect("a plan");
        pairs
            .iter()
            .map(|pair| {
                (
                    pair.provider.bdf.to_string(),
                    pair.disk.name.clone(),
                    pair.scratch,
                )
            })
            .collect()
    }

    fn refusal(machine: &Machine, options: &Options) -> String {
        plan(machine, options).err().expect("a refusal").to_string()
    }

    #[test]
    fn takes_all_pairs_and_writes_to_none() {
        let machine = fake::switch().read();
        let pairs = planned(&machine, &options());
        assert_eq!(pairs.len(), 4);
        assert!(pairs.iter().all(|(_, _, scratch)| !scratch));
    }

    #[test]
    fn takes_names_of_every_kind() {
        let machine = fake::switch().read();
        for name in [
            "nvme1n1",
            "/dev/nvme1n1",
            "nvme1",
            "plain",
            "04:00.0",
            "0000:04:00.0",
        ] {
            let options = Options {
                clients: vec![name.to_owned()],
                providers: vec!["05:00.0".parse().expect("an address")],
                scratch: vec![name.to_owned()],
                ..options()
            };
            let expected = ("0000:05:00.0".to_owned(), "nvme1n1".to_owned(), true);
            assert_eq!(planned(&machine, &options), [expected], "{name}");
        }
    }

    #[test]
    fn scratch_is_for_the_disk_named_only() {
        let machine = fake::switch().read();
        let options = Options {
            scratch: vec!["plain".to_owned()],
            ..options()
        };
        for (_, disk, scratch) in planned(&machine, &options) {
            assert_eq!(scratch, disk == "nvme1n1", "{disk}");
        }
    }

    #[test]
    fn says_what_there_is_when_a_name_is_wrong() {
        let machine = fake::switch().read();
        let text = refusal(
            &machine,
            &Options {
                clients: vec!["nvme7n1".to_owned()],
                ..options()
            },
        );
        assert!(
            text.starts_with("no NVMe namespace is called 'nvme7n1'"),
            "{text}"
        );
        assert!(text.contains("there is nvme0n1 and nvme1n1"), "{text}");

        let text = refusal(
            &machine,
            &Options {
                scratch: vec!["/dev/sda".to_owned()],
                ..options()
            },
        );
        assert!(text.contains("'/dev/sda'"), "{text}");

        let text = refusal(
            &machine,
            &Options {
                providers: vec!["04:00.0".parse().expect("an address")],
                ..options()
            },
        );
        assert!(
            text.contains("there is 0000:03:00.0 and 0000:05:00.0"),
            "{text}"
        );
    }

    #[test]
    fn says_so_when_there_is_nothing_to_verify() {
        let fake = fake::Fake::new();
        assert!(refusal(&fake.read(), &options()).starts_with("no device provides"));
        let dir = fake.function(
            &["0000:00:05.0"],
            (0x1b36, 0x0005, 0x00_ff00),
            "p2pdma_provider",
        );
        fake.pool(&dir, 67_108_864);
        assert!(refusal(&fake.read(), &options()).starts_with("no NVMe namespace to move"));
    }

    #[test]
    fn lines_fit() {
        let mut transfer = transfer(Verdict::Wrong, 0, false);
        transfer.detail =
            "medium beside the transfer was overwritten: 512 of 512 words are wrong, \
            the first at byte 0: 0x0123456789abcdef instead of 0xfedcba9876543210"
                .to_owned();
        let line = transfer_line(&transfer);
        assert!(line.contains("read      4 KiB"), "{line}");
        assert!(
            line.lines().all(|line| display_width(line) <= WIDTH),
            "{line}"
        );
        let machine = fake::root_ports(None).read();
        let provider = "03:00.0".parse().expect("an address");
        let client = "02:00.0".parse().expect("an address");
        let (_, what) = explain(&machine, &Log::default(), provider, client);
        let line = remedy_line(&what);
        assert!(
            line.lines().all(|line| display_width(line) <= WIDTH),
            "{line}"
        );
    }

    #[test]
    fn weighs_outcomes() {
        let rule = |text: &str| text.parse::<Rule>().expect("a rule");
        let weighed = |rule: Option<&Rule>, verdict| weigh(rule, verdict).0;
        assert!(weighed(None, Verdict::Ok));
        assert!(!weighed(None, Verdict::Refused));
        let refused = rule("*>*=not-supported");
        assert!(weighed(Some(&refused), Verdict::Refused));
        for verdict in [Verdict::Ok, Verdict::Wrong, Verdict::Failed] {
            assert!(!weighed(Some(&refused), verdict));
        }
        let works = rule("*>*=bus-addr");
        for verdict in [Verdict::Refused, Verdict::Wrong, Verdict::Failed] {
            assert!(!weighed(Some(&works), verdict));
        }
        let defect = rule("*>*=bus-addr!qemu-viommu-p2p");
        assert!(weighed(Some(&defect), Verdict::Wrong));
        assert!(weighed(Some(&defect), Verdict::Ok));
        assert!(!weighed(Some(&defect), Verdict::Refused));
    }

    #[test]
    fn explains_refusals() {
        let bdf = |text: &str| text.parse::<Bdf>().expect("an address");
        let machine = fake::root_ports(None).read();
        let (why, _) = explain(&machine, &Log::default(), bdf("03:00.0"), bdf("02:00.0"));
        assert!(why.starts_with("the two meet in the host bridge"), "{why}");

        let fake = fake::switch();
        let port = "sys/bus/pci/devices/0000:02:01.0/config";
        fake.write(port, crate::config_space::fake::config(6, Some(0x1d)));
        let (_, what) = explain(
            &fake.read(),
            &Log::default(),
            bdf("05:00.0"),
            bdf("04:00.0"),
        );
        assert!(
            what.contains("pci=disable_acs_redir=0000:02:01.0 "),
            "{what}"
        );
    }

    #[test]
    fn old_lines_of_the_log_do_not_explain_what_was_changed_since() {
        let bdf = |text: &str| text.parse::<Bdf>().expect("an address");
        let log = Log::of(
            "nvme 0000:04:00.0: ACS redirect is set between the client and provider \
             (0000:05:00.0)\n\
             nvme 0000:04:00.0: to disable ACS redirect for this path, add the kernel parameter: \
             pci=disable_acs_redir=0000:02:01.0\n\
             nvme 0000:04:00.0: cannot be used for peer-to-peer DMA as the client and provider \
             (0000:05:00.0) do not share an upstream bridge or whitelisted host bridge\n",
        );
        for log in [log, Log::default()] {
            let (why, what) = explain(&fake::switch().read(), &log, bdf("05:00.0"), bdf("04:00.0"));
            assert!(why.contains("the kernel keeps what it found"), "{why}");
            assert!(what.contains("bind it again"), "{what}");
        }
    }

    /// Where only the log names ports, and not all of them, no parameter is made of it.
    #[test]
    fn half_a_list_is_no_parameter() {
        let bdf = |text: &str| text.parse::<Bdf>().expect("an address");
        let fake = fake::switch();
        let port = "sys/bus/pci/devices/0000:02:01.0/config";
        let config = crate::config_space::fake::config(6, Some(0x1d));
        fake.write(port, &config[..64]);
        let what = |list: &str| {
            let log = Log::of(&format!(
                "nvme 0000:04:00.0: ACS redirect is set between the client and provider \
                 (0000:05:00.0)\n\
                 nvme 0000:04:00.0: to disable ACS redirect for this path, add the kernel \
                 parameter: pci=disable_acs_redir={list}\n\
                 nvme 0000:04:00.0: cannot be used for peer-to-peer DMA as the client and provider \
                 (0000:05:00.0) do not share an upstream bridge or whitelisted host bridge\n"
            ));
            explain(&fake.read(), &log, bdf("05:00.0"), bdf("04:00.0")).1
        };
        let whole = what("0000:02:01.0");
        assert!(
            whole.contains("pci=disable_acs_redir=0000:02:01.0 "),
            "{whole}"
        );
        let cut = what("0000:02:01.0;$(reboot)");
        assert_eq!(
            cut,
            "p2pdma check 0000:05:00.0 0000:04:00.0 tells which ports redirect"
        );
    }

    /// An Intel host bridge that carries peer writes, and never completes peer reads.
    #[test]
    fn one_direction_of_the_bus() {
        let written = |verdict, detail: &str| Transfer {
            direction: Direction::Write,
            by: "compare",
            bus: "peer-read",
            detail: detail.to_owned(),
            ..transfer(verdict, 0, false)
        };
        let said = |transfers: Vec<Transfer>| {
            let report = reported(transfers, Vec::new());
            let mut voice = Voice {
                out: Vec::new(),
                quiet: false,
            };
            conclude(&report, &mut voice).expect("a vector takes all");
            let value = serde_json::to_value(&report).expect("JSON");
            assert_eq!(value["schema"], 1);
            let out = String::from_utf8(voice.out).expect("text");
            let out = out.split_whitespace().collect::<Vec<_>>().join(" ");
            (out, report.as_expected())
        };
        let aborted = "comparing: input/output error";
        let (out, as_expected) = said(vec![
            transfer(Verdict::Ok, 4096, true),
            written(Verdict::Failed, aborted),
            transfer(Verdict::Ok, 65536, true),
            written(Verdict::Failed, aborted),
        ]);
        assert!(!as_expected);
        let once = "One direction: 0000:04:00.0 (nvme1n1) writing to 0000:03:00.0 on the bus \
                    works, reading from it does not: use 0000:03:00.0 for what the disk reads only";
        assert_eq!(out.matches(once).count(), 1, "{out}");
        assert_eq!(out.matches("One direction").count(), 1, "{out}");

        for others in [
            vec![transfer(Verdict::Ok, 4096, true)],
            vec![transfer(Verdict::Ok, 4096, true), written(Verdict::Ok, "")],
            vec![
                transfer(Verdict::Ok, 4096, true),
                written(Verdict::Refused, ""),
            ],
            vec![
                transfer(Verdict::Ok, 4096, true),
                written(Verdict::Ok, ""),
                written(Verdict::Failed, aborted),
            ],
        ] {
            let (out, _) = said(others);
            assert!(!out.contains("One direction"), "{out}");
        }
    }

    /// Through the host bridge, or below a bridge, in a virtual machine and on a real one.
    #[test]
    fn wrong_data_in_a_guest_are_for_the_host_to_explain() {
        let bridge = "01:00.0".parse().expect("an address");
        let vias = [
            (Via::Bridge { bridge }, "what passes 0000:01:00.0"),
            (
                Via::HostBridge {
                    allowed: Some(true),
                    acs_redirect: Vec::new(),
                },
                "what goes through the host bridge",
            ),
            (Via::SameFunction, "do not use this pair"),
        ];
        for fake in [fake::switch(), fake::root_ports(None)] {
            let real = fake.read();
            fake.write(
                "proc/cpuinfo",
                "vendor_id\t: AuthenticAMD\nflags\t\t: fpu hypervisor\n",
            );
            let guest = fake.read();
            for (via, said) in &vias {
                let (here, there) = (wrong_remedy(&guest, via), wrong_remedy(&real, via));
                assert!(
                    here.contains(said) && there.contains(said),
                    "{here} {there}"
                );
                let host = "this is a virtual machine: where the traffic really goes is the \
                            host's to decide: look at the ACS settings and the IOMMU of the host";
                assert!(here.contains(host), "{here}");
                assert!(!there.contains("the host's to decide"), "{there}");
                assert!(there.contains("with the seed"), "{there}");
            }
        }
    }

    fn reported(transfers: Vec<Transfer>, not_tested: Vec<NotTested>) -> Report {
        Report {
            schema: SCHEMA,
            seed: 1,
            summary: Report::summarize(&transfers),
            transfers,
            not_tested,
            leaks: Vec::new(),
        }
    }

    /// A disk that is not there knows no Compare, so that the direction that would need it is not
    /// tested: that is no failure, nor is it all right.
    #[test]
    fn what_is_not_tested_is_not_as_expected() {
        let mut machine = fake::switch().read();
        for disk in machine.clients.iter_mut().flat_map(|c| &mut c.namespaces) {
            disk.name = format!("no-{}", disk.name);
        }
        let options = Options {
            only: Some(Direction::Write),
            providers: vec!["05:00.0".parse().expect("an address")],
            clients: vec!["plain".to_owned()],
            ..options()
        };
        let mut out = Vec::new();
        let again = || Ok(machine.clone());
        let report = verify(&machine, &options, false, again, &mut out).expect("a report");
        let left: Vec<_> = report.not_tested.iter().map(|left| left.bus).collect();
        assert_eq!(left, ["peer-read"]);
        assert_eq!((report.as_expected(), report.able()), (true, None));
        let out = String::from_utf8(out).expect("text");
        assert!(
            out.contains("Not tested: 0000:04:00.0 (no-nvme1n1) reading from"),
            "{out}"
        );
        assert!(
            out.contains("Inconclusive: --scratch DEV tests both directions"),
            "{out}"
        );

        // with what was tested beside it
        let left = report.not_tested;
        let able = |verdict, left| reported(vec![transfer(verdict, 0, true)], left).able();
        for (verdict, alone, beside) in [
            (Verdict::Ok, Some(true), None),
            (Verdict::Inconclusive, Some(false), Some(false)),
            (Verdict::Wrong, Some(false), Some(false)),
        ] {
            assert_eq!(able(verdict, Vec::new()), alone, "{verdict:?}");
            assert_eq!(able(verdict, left.clone()), beside, "{verdict:?}");
        }
        // a transfer that proves nothing is as expected, whatever is expected
        let nothing = Transfer {
            as_expected: weigh(None, Verdict::Inconclusive).0,
            ..transfer(Verdict::Inconclusive, 0, false)
        };
        assert_eq!(reported(vec![nothing], Vec::new()).able(), None);
        let mut leaking = reported(vec![transfer(Verdict::Ok, 0, true)], left);
        leaking.leaks.push("some".to_owned());
        assert_eq!(leaking.able(), Some(false));
    }

    #[test]
    fn counts() {
        let summary = Report::summarize(&[
            transfer(Verdict::Ok, 4096, true),
            transfer(Verdict::Ok, 4096, false),
            transfer(Verdict::Refused, 0, false),
            transfer(Verdict::Wrong, 0, false),
            transfer(Verdict::Failed, 0, false),
            transfer(Verdict::Inconclusive, 0, false),
        ]);
        let expected = Summary {
            transfers: 6,
            ok: 2,
            refused: 1,
            wrong: 1,
            failed: 1,
            inconclusive: 1,
            unexpected: 4,
            verified: 8192,
            position_unproven: 1,
        };
        assert_eq!(summary, expected);
    }
}
