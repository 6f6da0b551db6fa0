// SPDX-License-Identifier: GPL-2.0

//! `p2pdma bench`: how fast data move between NVMe disks and peer-to-peer memory, against ordinary
//! memory, and against a copy by the processor.
//!
//! What is compared takes turns in one run, so that it meets the same conditions. Nothing is
//! written to a disk that was not named for it.

mod evidence;
mod html;
mod job;
mod print;
mod safety;

use std::cell::Cell;
use std::collections::BTreeSet;
use std::path::Path as FilePath;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{bail, ensure, Context as _, Result};
use hdrhistogram::Histogram;
use indicatif::{ProgressBar, ProgressStyle};
use rand::seq::SliceRandom as _;
use rand::SeedableRng as _;
use rustix::fs::OFlags;
use rustix::io::Errno;
use serde::{Deserialize, Serialize};

use crate::bdf::Bdf;
use crate::kmsg::Log;
use crate::machine::{Client, Machine, Namespace, Provider};
use crate::memory::Memory;
use crate::pattern::Pattern;
use crate::route::{route, Via};
use crate::show::describe;
use crate::size::Size;
use crate::text::{list, printable_line};
use crate::users::Files;
use crate::verify::{explain, names, open_disk, open_pool, plain};

use evidence::{Mappings, Pages, Range, Trace};
use job::{Area, Job, Slice, Stop};

pub use job::Budget;
pub use print::{text, Printer};

/// Version of what `--json` prints.
const SCHEMA: u32 = 1;
/// The first MiB of a disk is left alone.
const START: u64 = 1 << 20;

/// What is done.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, clap::ValueEnum,
)]
#[serde(rename_all = "kebab-case")]
pub enum Operation {
    /// From a disk to memory.
    Read,
    /// From memory to a disk.
    Write,
    /// From a disk to memory, and from there to another disk.
    Copy,
}

impl Operation {
    /// As it is written.
    pub fn name(self) -> &'static str {
        match self {
            Operation::Read => "read",
            Operation::Write => "write",
            Operation::Copy => "copy",
        }
    }
}

/// How transfers are handed to the kernel.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, clap::ValueEnum,
)]
#[serde(rename_all = "kebab-case")]
pub enum Engine {
    /// One after the other, by pread() and pwrite().
    Sync,
    /// Many at once, by io_uring.
    IoUring,
}

/// Which memory is used.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, clap::ValueEnum,
)]
#[serde(rename_all = "kebab-case")]
pub enum Path {
    /// Peer-to-peer memory.
    P2p,
    /// Ordinary memory.
    Host,
    /// Ordinary memory, from and to which the processor copies peer-to-peer memory.
    Bounce,
}

impl Path {
    /// As it is written.
    pub fn name(self) -> &'static str {
        match self {
            Path::P2p => "P2P",
            Path::Host => "host",
            Path::Bounce => "bounce",
        }
    }
}

/// In which order blocks of a disk are used.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "kebab-case")]
pub enum Access {
    /// In no order, each once before any is used again.
    Random,
    /// One after the other.
    Sequential,
}

/// What to measure.
#[derive(Debug)]
pub struct Options {
    /// These providers only; all if empty.
    pub providers: Vec<Bdf>,
    /// These disks only, named as in `p2pdma verify`; all if empty.
    pub clients: Vec<String>,
    /// Disks whose content may be destroyed.
    pub scratch: Vec<String>,
    /// What to do; to read, and to write where that is allowed, if empty.
    pub operations: Vec<Operation>,
    /// How.
    pub engines: Vec<Engine>,
    /// With which memory.
    pub paths: Vec<Path>,
    /// Sizes of transfers in bytes.
    pub sizes: Vec<u64>,
    /// How many are on their way at once, with io_uring.
    pub depth: usize,
    /// Transfers of each line, or its time.
    pub budget: Budget,
    /// How often what is compared takes turns.
    pub rounds: u32,
    /// How much of a disk is used, in bytes.
    pub span: u64,
    /// In which order.
    pub access: Access,
    /// Seed of the data, and of the order.
    pub seed: u16,
    /// Flip a bit before data are compared.
    pub corrupt: bool,
}

/// Latencies in nanoseconds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Latency {
    /// The shortest.
    pub min: u64,
    /// The arithmetic mean.
    pub mean: u64,
    /// Half of them are not longer.
    pub p50: u64,
    /// 90 % of them are not longer.
    pub p90: u64,
    /// 99 % of them are not longer.
    pub p99: u64,
    /// 99.9 % of them are not longer.
    pub p999: u64,
    /// The longest.
    pub max: u64,
}

impl Latency {
    fn of(histogram: &Histogram<u64>) -> Self {
        Latency {
            min: histogram.min(),
            mean: histogram.mean() as u64,
            p50: histogram.value_at_quantile(0.5),
            p90: histogram.value_at_quantile(0.9),
            p99: histogram.value_at_quantile(0.99),
            p999: histogram.value_at_quantile(0.999),
            max: histogram.max(),
        }
    }
}

/// What was measured.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Figures {
    /// Transfers.
    pub ios: u64,
    /// Time that they took.
    pub seconds: f64,
    /// Bytes for each second; what is copied counts once.
    pub bytes_per_second: f64,
    /// Transfers for each second.
    pub iops: f64,
    /// The same as the throughput, for each round.
    pub rounds: Vec<f64>,
    /// How long each transfer took.
    pub latency: Latency,
    /// Time of the processor in this process, for each GiB.
    pub cpu_seconds_per_gib: f64,
    /// Bytes that were compared, and right.
    pub verified: u64,
    /// The data would have shown a wrong place.
    pub position_proven: bool,
}

/// Which path the data took, as far as it was seen.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Took {
    /// From device to device, by the bus address.
    BusAddress,
    /// From device to device, through the host bridge.
    HostBridge,
    /// To and from the host's memory.
    HostMemory,
    /// It was not seen.
    Unknown,
}

/// What shows which path the data took.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Evidence {
    /// What is concluded.
    pub took: Took,
    /// Pages of the buffer that the disk reads or writes.
    pub pages: Pages,
    /// Bytes that were asked of the disks.
    pub asked: u64,
    /// Bytes that the queues of the disks have counted meanwhile.
    pub counted: Option<u64>,
    /// DMA mappings that were traced, in transfers that were not measured.
    pub mappings: Option<Mappings>,
}

impl Evidence {
    /// The queues have seen less than was asked for: something answered instead.
    pub fn is_short(&self) -> bool {
        self.counted.is_some_and(|counted| counted < self.asked)
    }
}

/// How it ended.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "outcome", rename_all = "kebab-case")]
pub enum Outcome {
    /// It was measured, and the data are right.
    Measured(Box<Figures>),
    /// The kernel refused the pair.
    Refused {
        /// Why, in words.
        why: String,
    },
    /// It was reported as done, and data are wrong.
    Wrong {
        /// What was found.
        why: String,
    },
    /// Anything else.
    Failed {
        /// What happened.
        why: String,
    },
}

/// A line: one kind of memory in one case.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Line {
    /// The memory.
    pub path: Path,
    /// How it ended.
    #[serde(flatten)]
    pub outcome: Outcome,
    /// What shows which path the data took.
    pub evidence: Evidence,
}

impl Line {
    /// What was measured, if it was.
    pub fn figures(&self) -> Option<&Figures> {
        match &self.outcome {
            Outcome::Measured(figures) => Some(figures),
            _ => None,
        }
    }
}

/// What was compared in one run.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Case {
    /// Whose memory it is.
    pub provider: Bdf,
    /// Its driver.
    pub provider_driver: Option<String>,
    /// The disk that is read.
    pub source: Option<Disk>,
    /// The disk that is written.
    pub target: Option<Disk>,
    /// The path that is expected, in words.
    pub route: String,
    /// What was done.
    pub operation: Operation,
    /// How transfers were handed to the kernel.
    pub engine: Engine,
    /// Transfers that are on their way at once.
    pub depth: usize,
    /// Size of a transfer in bytes.
    pub size: u64,
    /// What was compared.
    pub lines: Vec<Line>,
    /// Where what was seen is not what was expected.
    pub contradictions: Vec<String>,
}

/// A disk, and the function that moves its data.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Disk {
    /// Its name.
    pub name: String,
    /// The function.
    pub function: Bdf,
}

/// What `--json` prints.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Report {
    /// Version of the format.
    pub schema: u32,
    /// The kernel's release.
    pub kernel: Option<String>,
    /// Seed of the data, and of the order.
    pub seed: u16,
    /// In which order blocks were used.
    pub access: Access,
    /// How much of a disk was used at most, in bytes.
    pub span: u64,
    /// How often what is compared took turns.
    pub rounds: u32,
    /// What evidence could not be had, and why.
    pub without: Vec<String>,
    pub cases: Vec<Case>,
}

impl Report {
    /// Whether all was measured, and nothing was found that should not be.
    pub fn is_good(&self) -> bool {
        self.cases.iter().all(|case| {
            let lines = case.lines.iter();
            case.contradictions.is_empty() && lines.into_iter().all(|line| line.figures().is_some())
        })
    }

    /// Reads what `--json` printed. The file may be of others: its texts are made safe to print.
    pub fn parse(text: &str) -> Result<Self> {
        let mut value = serde_json::from_str(text)?;
        make_printable(&mut value);
        let report: Self = serde_json::from_value(value)?;
        ensure!(
            report.schema == SCHEMA,
            "it is of version {}, this program knows {SCHEMA}",
            report.schema
        );
        Ok(report)
    }
}

/// Replaces what a terminal would act upon in all texts of a value.
fn make_printable(value: &mut serde_json::Value) {
    match value {
        serde_json::Value::String(text) => *text = printable_line(text),
        serde_json::Value::Array(values) => values.iter_mut().for_each(make_printable),
        serde_json::Value::Object(values) => values.values_mut().for_each(make_printable),
        _ => (),
    }
}

/// A disk, and what may be done with it.
#[derive(Clone, Copy)]
struct Candidate<'a> {
    client: &'a Client,
    disk: &'a Namespace,
    scratch: bool,
}

impl Candidate<'_> {
    fn describe(&self) -> Disk {
        Disk {
            name: self.disk.name.clone(),
            function: self.client.bdf,
        }
    }
}

/// A case that is to be run.
struct Plan<'a> {
    provider: &'a Provider,
    source: Option<Candidate<'a>>,
    target: Option<Candidate<'a>>,
    operation: Operation,
    engine: Engine,
    size: u64,
}

impl<'a> Plan<'a> {
    fn disks(&self) -> impl Iterator<Item = &Candidate<'a>> {
        self.source.iter().chain(&self.target)
    }
}

/// The disks that were asked for.
fn candidates<'a>(machine: &'a Machine, options: &Options) -> Result<Vec<Candidate<'a>>> {
    let all: Vec<(&Client, &Namespace)> = machine
        .clients
        .iter()
        .flat_map(|client| client.namespaces.iter().map(move |disk| (client, disk)))
        .collect();
    ensure!(
        !all.is_empty(),
        "no NVMe namespace to move data with\n  is the nvme driver loaded?"
    );
    for name in options.clients.iter().chain(&options.scratch) {
        let known: Vec<_> = all.iter().map(|(_, disk)| disk.name.clone()).collect();
        ensure!(
            all.iter().any(|(client, disk)| names(name, client, disk)),
            "no NVMe namespace is called '{name}'\n  there is {}",
            list(&known)
        );
    }
    let mut candidates = Vec::new();
    for (client, disk) in all {
        let is_in = |list: &[String]| list.iter().any(|name| names(name, client, disk));
        let scratch = is_in(&options.scratch);
        if options.clients.is_empty() || is_in(&options.clients) || scratch {
            candidates.push(Candidate {
                client,
                disk,
                scratch,
            });
        }
    }
    Ok(candidates)
}

/// The cases that were asked for.
fn plan<'a>(machine: &'a Machine, options: &Options) -> Result<Vec<Plan<'a>>> {
    ensure!(
        !machine.providers.is_empty(),
        "no device provides peer-to-peer memory\n  p2pdma bind DEVICE makes one of a device with a \
         memory BAR or a CMB"
    );
    for bdf in &options.providers {
        ensure!(
            machine.providers.iter().any(|one| one.bdf == *bdf),
            "{bdf} provides no peer-to-peer memory\n  p2pdma list shows what does"
        );
    }
    let disks = candidates(machine, options)?;
    let writable = disks.iter().any(|disk| disk.scratch);
    let operations = match options.operations[..] {
        [] if writable => vec![Operation::Read, Operation::Write],
        [] => vec![Operation::Read],
        ref named => named.to_vec(),
    };
    ensure!(
        writable || operations == [Operation::Read],
        "to write and to copy destroys what is on a disk\n  name one: --scratch DEV"
    );
    let mut cases = Vec::new();
    let providers = machine
        .providers
        .iter()
        .filter(|one| options.providers.is_empty() || options.providers.contains(&one.bdf));
    for provider in providers {
        for operation in &operations {
            let pairs: Vec<(Option<Candidate>, Option<Candidate>)> = match operation {
                Operation::Read => disks.iter().map(|disk| (Some(*disk), None)).collect(),
                Operation::Write => {
                    let targets = disks.iter().filter(|disk| disk.scratch);
                    targets.map(|disk| (None, Some(*disk))).collect()
                }
                Operation::Copy => {
                    let targets = disks.iter().filter(|disk| disk.scratch);
                    let pairs = targets.flat_map(|to| disks.iter().map(move |from| (from, to)));
                    pairs
                        .filter(|(from, to)| from.disk.name != to.disk.name)
                        .map(|(from, to)| (Some(*from), Some(*to)))
                        .collect()
                }
            };
            ensure!(
                !pairs.is_empty(),
                "a copy takes two disks, and there is one only"
            );
            for (source, target) in pairs {
                for engine in &options.engines {
                    for size in &options.sizes {
                        cases.push(Plan {
                            provider,
                            source,
                            target,
                            operation: *operation,
                            engine: *engine,
                            size: *size,
                        });
                    }
                }
            }
        }
    }
    for case in &cases {
        for disk in case.disks() {
            let Namespace {
                name,
                size,
                block_size,
            } = disk.disk;
            ensure!(
                case.size % block_size == 0,
                "{} is not a multiple of the block size of {name}, {block_size}",
                Size(case.size)
            );
            let blocks = options.span.min(size.saturating_sub(2 * START)) / case.size;
            ensure!(
                blocks >= 2 * options.depth as u64,
                "{name} has no room for {} transfers of {}\n  take a larger --span, a smaller \
                 --size or --depth",
                2 * options.depth,
                Size(case.size)
            );
        }
    }
    Ok(cases)
}

/// What a run has in common.
struct Bench<'a> {
    machine: &'a Machine,
    options: &'a Options,
    trace: Option<Trace>,
    progress: ProgressBar,
    /// Scratch disks that hold the pattern.
    filled: BTreeSet<String>,
    /// Number of the next slice.
    slice: Cell<usize>,
}

/// What was gathered of a line.
struct Gathered {
    path: Path,
    latency: Histogram<u64>,
    slices: Vec<Slice>,
    stop: Option<Stop>,
    asked: u64,
    counted: Option<u64>,
    mappings: Option<Mappings>,
}

fn rate(amount: f64, time: Duration) -> f64 {
    amount / time.as_secs_f64().max(1e-9)
}

impl Gathered {
    fn figures(&self, size: u64) -> Figures {
        let ios: u64 = self.slices.iter().map(|slice| slice.ios).sum();
        let elapsed: Duration = self.slices.iter().map(|slice| slice.elapsed).sum();
        let cpu: Duration = self.slices.iter().map(|slice| slice.cpu).sum();
        let bytes = ios as f64 * size as f64;
        let of_slice = |slice: &Slice| rate(slice.ios as f64 * size as f64, slice.elapsed);
        Figures {
            ios,
            seconds: elapsed.as_secs_f64(),
            bytes_per_second: rate(bytes, elapsed),
            iops: rate(ios as f64, elapsed),
            rounds: self.slices.iter().map(of_slice).collect(),
            latency: Latency::of(&self.latency),
            cpu_seconds_per_gib: cpu.as_secs_f64() / (bytes / f64::from(1 << 30)),
            verified: self.slices.iter().map(|slice| slice.verified).sum(),
            position_proven: self.slices.iter().all(|slice| slice.position_proven),
        }
    }
}

/// Which path it was: of the transfers with ordinary memory it is known whether they are traced.
fn took(path: Path, mappings: Option<Mappings>, host: Option<Mappings>) -> Took {
    match (path, mappings) {
        (Path::Host | Path::Bounce, Some(seen)) if seen.of_provider > 0 => Took::Unknown,
        (Path::Host | Path::Bounce, _) => Took::HostMemory,
        (Path::P2p, Some(seen)) if seen.of_provider > 0 => Took::HostBridge,
        (Path::P2p, Some(seen)) if seen.of_others == 0 => match host {
            Some(host) if host.of_others > 0 => Took::BusAddress,
            _ => Took::Unknown,
        },
        (Path::P2p, _) => Took::Unknown,
    }
}

/// What was seen and is not as it should be.
fn contradictions(lines: &[Line], routes: &[Via]) -> Vec<String> {
    let mut found = Vec::new();
    for line in lines {
        let evidence = &line.evidence;
        let name = line.path.name();
        if line.figures().is_none() {
            continue;
        }
        if evidence.is_short() {
            found.push(format!(
                "{name}: {} were asked for, and the disks have moved {} only",
                Size(evidence.asked),
                Size(evidence.counted.unwrap_or(0))
            ));
        }
        let pages = &evidence.pages;
        match line.path {
            Path::P2p if pages.elsewhere > 0 => found.push(format!(
                "{name}: {} pages of the buffer are not in the provider",
                pages.elsewhere
            )),
            Path::Host | Path::Bounce if pages.in_provider > 0 => found.push(format!(
                "{name}: {} pages of the buffer are in the provider",
                pages.in_provider
            )),
            _ => {}
        }
        let direct = |via: &Via| matches!(via, Via::SameFunction | Via::Bridge { .. });
        if evidence.took == Took::HostBridge && routes.iter().all(direct) {
            found.push(format!(
                "{name}: it went through the host bridge, where it should not"
            ));
        }
        let through = |via: &Via| matches!(via, Via::HostBridge { .. });
        if evidence.took == Took::BusAddress && routes.iter().all(through) {
            found.push(format!(
                "{name}: it did not go through the host bridge, where it should"
            ));
        }
    }
    found
}

impl Bench<'_> {
    fn area(&self, candidate: &Candidate<'_>, writes: bool) -> Result<Area> {
        let flags = match writes {
            true => OFlags::RDWR | OFlags::EXCL,
            false => OFlags::RDONLY,
        };
        Ok(Area {
            file: Arc::new(open_disk(&candidate.disk.path(), flags)?),
            start: START,
            is_known: candidate.scratch,
        })
    }

    /// The blocks in their order.
    fn blocks(&self, plan: &Plan<'_>) -> Vec<u64> {
        let room = plan.disks().map(|one| one.disk.size - 2 * START).min();
        let room = room.unwrap_or(0).min(self.options.span);
        let mut blocks: Vec<u64> = (0..room / plan.size).collect();
        if self.options.access == Access::Random {
            let seed = u64::from(self.options.seed);
            blocks.shuffle(&mut rand_chacha::ChaCha8Rng::seed_from_u64(seed));
        }
        blocks
    }

    /// Gets all together that a case needs.
    fn job(&mut self, plan: &Plan<'_>) -> Result<Job> {
        let depth = self.options.depth;
        let size = usize::try_from(plan.size)?;
        let len = size.checked_mul(depth).context("too much at once")?;
        let peer = Memory::from_pool(open_pool(plan.provider)?, len).map_err(|error| {
            let bdf = plan.provider.bdf;
            match Errno::from_io_error(&error) {
                Some(Errno::NOMEM) => anyhow::anyhow!(
                    "{bdf} has no {} free in one piece\n  take a smaller --depth or --size, or end \
                     what uses the pool: p2pdma list",
                    Size(len as u64)
                ),
                _ => anyhow::anyhow!("cannot map memory of {bdf}: {}", plain(&error)),
            }
        })?;
        let target = plan.target.as_ref().map(|disk| self.area(disk, true));
        let source = plan.source.as_ref().map(|disk| self.area(disk, false));
        let (target, source) = (target.transpose()?, source.transpose()?);
        let job = Job {
            operation: plan.operation,
            engine: plan.engine,
            size,
            depth,
            source,
            target,
            peer,
            host: Memory::ordinary(len)?,
            blocks: self.blocks(plan),
            pattern: Pattern::new(self.options.seed),
            corrupt: self.options.corrupt,
        };
        // pages of it exist once they are touched
        job.host.copy_to(&job.host, 0, len)?;
        for one in plan.target.iter() {
            self.filled.remove(&one.disk.name);
        }
        for one in plan.source.iter().filter(|one| one.scratch) {
            if self.filled.insert(one.disk.name.clone()) {
                let area = self.area(one, true)?;
                let span = self.options.span.min(one.disk.size - 2 * START);
                job.fill(&area, span).map_err(|error| {
                    let path = one.disk.path();
                    anyhow::anyhow!("cannot fill {}: {}", path.display(), plain(&error))
                })?;
            }
        }
        Ok(job)
    }

    fn number(&self) -> usize {
        self.slice.replace(self.slice.get() + 1)
    }

    /// A few transfers that are not measured, so that all is warm, and what they map.
    fn traced(&self, job: &Job, plan: &Plan<'_>, ranges: &[Range], gathered: &mut Gathered) {
        let mut unused = latencies();
        let budget = Budget::Ios(2 * job.depth as u64);
        // the disk that is written to, or read if none is
        let device = plan.target.or(plan.source).map(|one| one.client.bdf);
        let trace = self.trace.as_ref().zip(device);
        let (started, seen) = (Cell::new(false), Cell::new(None));
        // called before and after the transfers: what compares the data is not traced
        let around = || {
            if let Some((trace, device)) = trace {
                if started.get() {
                    seen.set(trace.stop(device, ranges).ok());
                } else {
                    started.set(trace.start().is_ok());
                }
            }
            None
        };
        let result = job.slice(gathered.path, budget, self.number(), &mut unused, around);
        gathered.mappings = seen.get();
        gathered.stop = result.err();
    }

    fn counted(&self, plan: &Plan<'_>) -> Option<u64> {
        let root = FilePath::new("/");
        let counts = plan
            .disks()
            .map(|one| evidence::moved(root, &one.disk.name));
        counts.sum()
    }

    fn round(&self, job: &Job, plan: &Plan<'_>, gathered: &mut Gathered) {
        let rounds = self.options.rounds;
        let budget = match self.options.budget {
            Budget::Ios(ios) => Budget::Ios(ios.div_ceil(u64::from(rounds))),
            Budget::Time(time) => Budget::Time(time / rounds),
        };
        let (path, number) = (gathered.path, self.number());
        let count = || self.counted(plan);
        match job.slice(path, budget, number, &mut gathered.latency, count) {
            Ok(slice) => {
                gathered.asked += slice.ios * job.moved();
                gathered.counted = gathered.counted.zip(slice.counted).map(|(a, b)| a + b);
                gathered.slices.push(slice);
            }
            Err(stop) => gathered.stop = Some(stop),
        }
    }

    fn outcome(&self, plan: &Plan<'_>, gathered: &Gathered) -> Outcome {
        let error = match &gathered.stop {
            None => return Outcome::Measured(Box::new(gathered.figures(plan.size))),
            Some(Stop::Wrong(mismatch)) => {
                // what is read back for comparison is a little younger
                let others_write = plan.source.is_some_and(|one| !one.scratch);
                let or = match others_write {
                    true => ", unless something writes to the disk",
                    false => "",
                };
                return Outcome::Wrong {
                    why: format!("{mismatch}{or}"),
                };
            }
            Some(Stop::Short(moved)) => {
                return Outcome::Failed {
                    why: format!("a transfer ended after {}", Size(*moved as u64)),
                }
            }
            Some(Stop::Transfer(error) | Stop::Io(error)) => error,
        };
        let is_transfer = matches!(gathered.stop, Some(Stop::Transfer(_)));
        match Errno::from_io_error(error) {
            Some(Errno::INVAL) if is_transfer && gathered.path == Path::P2p => {
                let log = Log::read();
                let reasons = plan.disks().filter_map(|one| {
                    let client = one.client.bdf;
                    let via = route(self.machine, plan.provider.bdf, client).via;
                    let (why, what) = explain(self.machine, &log, plan.provider.bdf, client);
                    (via.works() != Some(true)).then(|| format!("{why}; {what}"))
                });
                let reasons: Vec<_> = reasons.collect();
                let why = match reasons.is_empty() {
                    true => "the kernel refuses the pair, see p2pdma check".to_owned(),
                    false => reasons.join("; "),
                };
                Outcome::Refused { why }
            }
            Some(Errno::REMOTEIO) if is_transfer && gathered.path == Path::P2p => {
                Outcome::Refused {
                    why: "a disk's queue does not take peer-to-peer memory".to_owned(),
                }
            }
            _ => Outcome::Failed { why: plain(error) },
        }
    }

    fn case(&mut self, plan: &Plan<'_>) -> Result<Case> {
        let job = self.job(plan)?;
        let ranges = evidence::bars(self.machine, plan.provider.bdf);
        let mut all: Vec<_> = self
            .options
            .paths
            .iter()
            .map(|path| Gathered {
                path: *path,
                latency: latencies(),
                slices: Vec::new(),
                stop: None,
                asked: 0,
                counted: Some(0),
                mappings: None,
            })
            .collect();
        for gathered in &mut all {
            self.traced(&job, plan, &ranges, gathered);
        }
        for round in 0..self.options.rounds as usize {
            let count = all.len();
            // each is the first in turn
            for index in 0..count {
                let gathered = &mut all[(round + index) % count];
                if gathered.stop.is_none() {
                    self.round(&job, plan, gathered);
                }
                self.progress.inc(1);
            }
        }
        let host = all.iter().find(|one| one.path == Path::Host);
        let host = host.and_then(|one| one.mappings);
        let lines: Vec<_> = all
            .iter()
            .map(|gathered| {
                let memory = match gathered.path {
                    Path::P2p => &job.peer,
                    Path::Host | Path::Bounce => &job.host,
                };
                Line {
                    path: gathered.path,
                    outcome: self.outcome(plan, gathered),
                    evidence: Evidence {
                        took: took(gathered.path, gathered.mappings, host),
                        pages: Pages::of(memory.region(), &ranges),
                        asked: gathered.asked,
                        counted: gathered.counted,
                        mappings: gathered.mappings,
                    },
                }
            })
            .collect();
        let routes: Vec<_> = plan
            .disks()
            .map(|one| route(self.machine, plan.provider.bdf, one.client.bdf).via)
            .collect();
        let mut words: Vec<_> = routes.iter().map(describe).collect();
        words.dedup();
        Ok(Case {
            provider: plan.provider.bdf,
            provider_driver: plan.provider.driver.clone(),
            source: plan.source.as_ref().map(Candidate::describe),
            target: plan.target.as_ref().map(Candidate::describe),
            route: words.join("; then "),
            operation: plan.operation,
            engine: plan.engine,
            depth: match plan.engine {
                Engine::Sync => 1,
                Engine::IoUring => self.options.depth,
            },
            size: plan.size,
            contradictions: contradictions(&lines, &routes),
            lines,
        })
    }
}

/// The longest latency that is told from longer ones: an hour.
const LATENCY_MAX: u64 = 3_600_000_000_000;

/// Three digits of nanoseconds.
fn latencies() -> Histogram<u64> {
    Histogram::new_with_bounds(1, LATENCY_MAX, 3)
        .unwrap_or_else(|_| unreachable!("these are bounds that it has"))
}

/// Measures what was asked for. What is done is shown on standard error meanwhile, if that is a
/// terminal.
///
/// # Errors
///
/// What could not be run. What a disk, the kernel or the data do wrong is in the report.
pub fn bench(
    machine: &Machine,
    options: &Options,
    mut done: impl FnMut(&Case) -> Result<()>,
) -> Result<Report> {
    let plans = plan(machine, options)?;
    let files = Files::below(FilePath::new("/"));
    let targets = candidates(machine, options)?;
    for one in targets.iter().filter(|one| one.scratch) {
        safety::may_write(&files, one.client, one.disk)?;
        // nobody else may begin to use it, either
        drop(open_disk(&one.disk.path(), OFlags::RDWR | OFlags::EXCL)?);
    }
    if options.engines.contains(&Engine::IoUring) {
        if let Err(error) = p2pdma_syscalls::Queue::new(options.depth) {
            bail!(
                "this kernel or a sandbox forbids io_uring: {}\n  see \
                 /proc/sys/kernel/io_uring_disabled, or take --engine sync",
                plain(&error)
            );
        }
    }
    let mut without = Vec::new();
    let trace = match Trace::new() {
        Ok(trace) => Some(trace),
        Err(why) => {
            without.push(why);
            None
        }
    };
    let slices = plans.len() * options.rounds as usize * options.paths.len();
    let progress = ProgressBar::new(slices as u64);
    if let Ok(style) = ProgressStyle::with_template("{wide_bar} {percent:>3} %  {eta} left  {msg}")
    {
        progress.set_style(style);
    }
    let mut bench = Bench {
        machine,
        options,
        trace,
        progress,
        filled: BTreeSet::new(),
        slice: Cell::new(0),
    };
    let mut cases = Vec::new();
    for plan in &plans {
        let what = format!("{} {}", plan.operation.name(), Size(plan.size));
        bench.progress.set_message(what);
        let case = bench.case(plan)?;
        bench.progress.suspend(|| done(&case))?;
        cases.push(case);
    }
    bench.progress.finish_and_clear();
    Ok(Report {
        schema: SCHEMA,
        kernel: machine.kernel.clone(),
        seed: options.seed,
        access: options.access,
        span: options.span,
        rounds: options.rounds,
        without,
        cases,
    })
}

/// A report as a file of this name has it: HTML, or one picture if the name ends in .svg.
///
/// # Errors
///
/// What cannot be drawn.
pub fn drawn(report: &Report, path: &FilePath) -> Result<String> {
    match path.extension().and_then(|end| end.to_str()) {
        Some("svg") => html::picture(report),
        _ => html::report(report),
    }
}

/// Results for tests.
#[cfg(test)]
pub mod fake {
    use super::*;

    fn line(path: Path, size: u64, mebibytes: u32) -> Line {
        let bytes_per_second = f64::from(mebibytes) * f64::from(1 << 20);
        let took = match path {
            Path::P2p => Took::BusAddress,
            Path::Host | Path::Bounce => Took::HostMemory,
        };
        Line {
            path,
            outcome: Outcome::Measured(Box::new(Figures {
                ios: 100,
                seconds: 1.0,
                bytes_per_second,
                iops: bytes_per_second / size as f64,
                rounds: vec![bytes_per_second],
                latency: Latency {
                    min: 50_000,
                    mean: 90_000,
                    p50: 80_000,
                    p90: 100_000,
                    p99: 120_000,
                    p999: 130_000,
                    max: 140_000,
                },
                cpu_seconds_per_gib: 2.0,
                verified: 4096,
                position_proven: true,
            })),
            evidence: Evidence {
                took,
                pages: Pages::default(),
                asked: 100,
                counted: Some(100),
                mappings: None,
            },
        }
    }

    /// Two cases of one pair.
    pub fn report() -> Report {
        let case = |size: u64| Case {
            provider: "05:00.0".parse().expect("an address"),
            provider_driver: Some("p2pdma_provider".into()),
            source: Some(Disk {
                name: "nvme1n1".into(),
                function: "04:00.0".parse().expect("an address"),
            }),
            target: None,
            route: "direct, below 0000:01:00.0".into(),
            operation: Operation::Read,
            engine: Engine::IoUring,
            depth: 8,
            size,
            lines: vec![
                line(Path::P2p, size, 40),
                line(Path::Host, size, 20),
                line(Path::Bounce, size, 10),
            ],
            contradictions: Vec::new(),
        };
        Report {
            schema: SCHEMA,
            kernel: Some("7.3.4".into()),
            seed: 1,
            access: Access::Random,
            span: 64 << 20,
            rounds: 1,
            without: Vec::new(),
            cases: vec![case(4096), case(65536)],
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::machine::fake as machine;

    fn options() -> Options {
        Options {
            providers: Vec::new(),
            clients: Vec::new(),
            scratch: Vec::new(),
            operations: Vec::new(),
            engines: vec![Engine::Sync],
            paths: vec![Path::P2p, Path::Host, Path::Bounce],
            sizes: vec![4096],
            depth: 8,
            budget: Budget::Ios(1),
            rounds: 1,
            span: 16 << 20,
            access: Access::Random,
            seed: 1,
            corrupt: false,
        }
    }

    fn planned(options: &Options) -> Vec<(String, Option<String>, Option<String>)> {
        let machine = machine::switch().read();
        let name = |one: &Option<Candidate>| one.as_ref().map(|one| one.disk.name.clone());
        let plans = plan(&machine, options).expect("a plan");
        plans
            .iter()
            .map(|plan| {
                let operation = plan.operation.name().to_owned();
                (operation, name(&plan.source), name(&plan.target))
            })
            .collect()
    }

    fn refused(options: &Options) -> String {
        let machine = machine::switch().read();
        plan(&machine, options)
            .err()
            .expect("a refusal")
            .to_string()
    }

    #[test]
    fn writes_to_nothing_that_is_not_named() {
        let all = planned(&options());
        assert_eq!(all.len(), 4);
        assert!(all
            .iter()
            .all(|(operation, _, target)| { operation == "read" && target.is_none() }));
        for operation in [Operation::Write, Operation::Copy] {
            let options = Options {
                operations: vec![operation],
                ..options()
            };
            assert!(refused(&options).contains("--scratch DEV"));
        }
        let options = Options {
            providers: vec!["05:00.0".parse().expect("an address")],
            scratch: vec!["nvme1n1".into()],
            operations: vec![Operation::Write, Operation::Copy],
            ..options()
        };
        let data = || Some("nvme1n1".to_owned());
        let expected = [
            ("write".to_owned(), None, data()),
            ("copy".to_owned(), Some("nvme0n1".to_owned()), data()),
        ];
        assert_eq!(planned(&options), expected);
    }

    #[test]
    fn refuses_what_makes_no_sense() {
        let with = |change: fn(&mut Options)| {
            let mut options = options();
            change(&mut options);
            refused(&options)
        };
        assert!(with(|o| o.sizes = vec![4608, 512 + 1]).contains("block size"));
        assert!(with(|o| o.sizes = vec![32 << 20]).contains("no room for 16 transfers"));
        assert!(with(|o| o.clients = vec!["nvme9n1".into()]).contains("is called 'nvme9n1'"));
        assert!(with(|o| o.scratch = vec!["nvme9n1".into()]).contains("is called 'nvme9n1'"));
        assert!(
            with(|o| o.providers = vec!["01:00.0".parse().expect("an address")])
                .contains("provides no")
        );
        assert!(with(|o| {
            o.clients = vec!["nvme1n1".into()];
            o.scratch = vec!["nvme1n1".into()];
            o.operations = vec![Operation::Copy];
        })
        .contains("takes two disks"));
    }

    #[test]
    fn concludes_which_path_it_was() {
        let seen = |of_provider, of_others| {
            Some(Mappings {
                of_provider,
                of_others,
            })
        };
        let host = seen(0, 8);
        assert_eq!(took(Path::P2p, seen(0, 0), host), Took::BusAddress);
        assert_eq!(took(Path::P2p, seen(8, 0), host), Took::HostBridge);
        // nothing is known if those of ordinary memory are not seen either
        assert_eq!(took(Path::P2p, seen(0, 0), seen(0, 0)), Took::Unknown);
        assert_eq!(took(Path::P2p, seen(0, 0), None), Took::Unknown);
        assert_eq!(took(Path::P2p, seen(0, 8), host), Took::Unknown);
        assert_eq!(took(Path::P2p, None, host), Took::Unknown);
        assert_eq!(took(Path::Host, host, host), Took::HostMemory);
    }

    #[test]
    fn finds_contradictions() {
        let bridge = Via::Bridge {
            bridge: "01:00.0".parse().expect("an address"),
        };
        let host = Via::HostBridge {
            allowed: Some(true),
            acs_redirect: Vec::new(),
        };
        let lines = |change: fn(&mut Evidence)| {
            let mut lines = fake::report().cases.remove(0).lines;
            change(&mut lines[0].evidence);
            lines
        };
        let count = |change, via: &Via| contradictions(&lines(change), &[via.clone()]).len();
        assert_eq!(count(|_| {}, &bridge), 0);
        assert_eq!(count(|_| {}, &host), 1);
        assert_eq!(count(|one| one.took = Took::HostBridge, &bridge), 1);
        assert_eq!(count(|one| one.took = Took::HostBridge, &host), 0);
        assert_eq!(count(|one| one.counted = Some(99), &bridge), 1);
        assert_eq!(count(|one| one.counted = None, &bridge), 0);
        assert_eq!(count(|one| one.pages.elsewhere = 1, &bridge), 1);
        assert_eq!(count(|one| one.pages.in_provider = 1, &bridge), 0);
    }

    #[test]
    fn results_of_others_are_safe_to_print() {
        let mut report = fake::report();
        report.kernel = Some("7.3\u{1b}[2J\n".to_owned());
        report.cases[0].provider_driver = Some("\u{9b}31mx".to_owned());
        let text = serde_json::to_string(&report).expect("JSON");
        let found = Report::parse(&text).expect("a report");
        assert_eq!(found.kernel.as_deref(), Some("7.3\u{fffd}[2J\u{fffd}"));
        let driver = found.cases[0].provider_driver.as_deref();
        assert_eq!(driver, Some("\u{fffd}31mx"));
    }

    #[test]
    fn json_comes_back() {
        let report = fake::report();
        let text = serde_json::to_string(&report).expect("JSON");
        assert_eq!(Report::parse(&text).expect("a report"), report);
        for broken in [
            "",
            "{}",
            "[]",
            &text.replace("\"schema\":1", "\"schema\":2"),
        ] {
            assert!(Report::parse(broken).is_err(), "{broken}");
        }
        let value: serde_json::Value = serde_json::from_str(&text).expect("JSON");
        let line = &value["cases"][0]["lines"][0];
        assert_eq!(value["cases"][0]["operation"], "read");
        assert_eq!(value["cases"][0]["engine"], "io-uring");
        assert_eq!(
            (&line["path"], &line["outcome"]),
            (&"p2p".into(), &"measured".into())
        );
        assert_eq!(line["evidence"]["took"], "bus-address");
        assert_eq!(line["latency"]["p999"], 130_000);
    }
}
