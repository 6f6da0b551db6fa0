// SPDX-License-Identifier: GPL-2.0

//! Moves data for some time, measures it, and says whether they are where they belong.
//!
//! Memory has as many slots as transfers can be on their way. A transfer takes a slot and a block
//! of the disk, in the order of a list that has each block once: no two that are on their way have
//! the same block. Every word in a slot or a block says where it belongs, see [`Pattern`].

use std::collections::VecDeque;
use std::fs::File;
use std::io;
use std::sync::Arc;
use std::time::{Duration, Instant};

use hdrhistogram::Histogram;
use p2pdma_syscalls::{read_at, write_at, Completion, Direction, Queue, Transfer};
use rustix::time::{clock_gettime, ClockId};

use super::{Engine, Operation, Path};
use crate::memory::Memory;
use crate::pattern::{Mismatch, Pattern, What, WORD};

/// How much of a slice is compared, at least one transfer.
const COMPARED_MAX: usize = 1 << 20;

/// When a slice ends.
#[derive(Clone, Copy, Debug)]
pub enum Budget {
    /// After so many transfers.
    Ios(u64),
    /// After so much time.
    Time(Duration),
}

/// What was measured in a slice.
#[derive(Debug)]
pub struct Slice {
    /// Transfers that were done.
    pub ios: u64,
    /// Time from the first to the last.
    pub elapsed: Duration,
    /// Time of the processor, in all threads of this process.
    pub cpu: Duration,
    /// By how much the counters of the disks went on, if there are any.
    pub counted: Option<u64>,
    /// Bytes that were compared and are right.
    pub verified: u64,
    /// The data could show a wrong place, they are not the same everywhere.
    pub position_proven: bool,
}

/// Why a slice ended early.
#[derive(Debug)]
pub enum Stop {
    /// A transfer failed.
    Transfer(io::Error),
    /// A transfer ended early, after so many bytes.
    Short(usize),
    /// It was reported as done, and data are wrong.
    Wrong(Mismatch),
    /// Something that is not the transfer failed.
    Io(io::Error),
}

impl From<io::Error> for Stop {
    fn from(error: io::Error) -> Self {
        Stop::Io(error)
    }
}

impl From<io::ErrorKind> for Stop {
    fn from(kind: io::ErrorKind) -> Self {
        Stop::Io(kind.into())
    }
}

/// A disk, or the part of it that is used.
#[derive(Clone, Debug)]
pub struct Area {
    /// It, open for direct I/O.
    pub file: Arc<File>,
    /// Where its blocks begin, in bytes.
    pub start: u64,
    /// It holds the pattern of the run.
    pub is_known: bool,
}

/// All that a case works with.
pub struct Job {
    /// What is done.
    pub operation: Operation,
    /// How.
    pub engine: Engine,
    /// Size of a transfer in bytes.
    pub size: usize,
    /// Number of slots, and of transfers that are on their way at most with io_uring.
    pub depth: usize,
    /// What is read from.
    pub source: Option<Area>,
    /// What is written to.
    pub target: Option<Area>,
    /// Peer-to-peer memory.
    pub peer: Memory,
    /// Ordinary memory of the same size.
    pub host: Memory,
    /// The blocks, in the order in which they are used.
    pub blocks: Vec<u64>,
    /// The pattern of the run.
    pub pattern: Pattern,
    /// Flip a bit before the comparison, to show that it is noticed.
    pub corrupt: bool,
}

/// Does transfers one after the other, or hands them to the kernel.
enum Backend {
    Sync(Vec<Completion>),
    IoUring(Box<Queue>),
}

impl Backend {
    fn push(&mut self, slot: usize, transfer: &Transfer) -> io::Result<()> {
        match self {
            Backend::Sync(ended) => {
                let Transfer {
                    direction,
                    file,
                    pos,
                    region,
                    offset,
                    len,
                } = transfer;
                let moved = match direction {
                    Direction::Read => read_at(file, *pos, region, *offset, *len),
                    Direction::Write => write_at(file, *pos, region, *offset, *len),
                };
                ended.push(Completion { slot, moved });
                Ok(())
            }
            Backend::IoUring(queue) => queue.push(slot, transfer),
        }
    }

    fn wait(&mut self, ended: &mut Vec<Completion>) -> io::Result<()> {
        match self {
            Backend::Sync(done) => {
                ended.append(done);
                Ok(())
            }
            Backend::IoUring(queue) => queue.wait(ended),
        }
    }
}

/// What is on its way in a slot.
#[derive(Clone, Copy)]
struct Flight {
    /// What it reads and what it writes, as indices of blocks.
    from: u64,
    to: u64,
    /// How many were started before it in this run of slices.
    index: usize,
    /// Which of the two it is at.
    at: Direction,
    since: Instant,
}

/// A transfer that is done.
#[derive(Clone, Copy)]
struct Done {
    from: u64,
    to: u64,
    index: usize,
}

/// A slice while it goes on.
struct Run<'a> {
    job: &'a Job,
    path: Path,
    backend: Backend,
    /// Number of the slice in the run, which no two share.
    number: usize,
    flights: Vec<Option<Flight>>,
    next: usize,
    /// The last of each slot that is done.
    done: Vec<Option<Done>>,
}

impl Run<'_> {
    fn block(&self, index: usize) -> u64 {
        self.job.blocks[index % self.job.blocks.len()]
    }

    /// The memory that the disk reads or writes.
    fn memory(&self) -> &Memory {
        match self.path {
            Path::P2p => &self.job.peer,
            Path::Host | Path::Bounce => &self.job.host,
        }
    }

    fn push(&mut self, slot: usize, flight: Flight) -> Result<(), Stop> {
        let job = self.job;
        let (area, block) = match flight.at {
            Direction::Read => (&job.source, flight.from),
            Direction::Write => (&job.target, flight.to),
        };
        let area = area.as_ref().ok_or(io::ErrorKind::InvalidInput)?;
        let transfer = Transfer {
            direction: flight.at,
            file: area.file.clone(),
            pos: area.start + block * job.size as u64,
            region: self.memory().region().clone(),
            offset: slot * job.size,
            len: job.size,
        };
        self.backend.push(slot, &transfer)?;
        self.flights[slot] = Some(flight);
        Ok(())
    }

    /// Begins with the next block.
    fn start(&mut self, slot: usize) -> Result<(), Stop> {
        let job = self.job;
        let from = self.block(self.next);
        // where a copy goes is moved on with each slice, so that data of the last are no good
        let to = match job.operation {
            Operation::Copy => self.block(self.next + self.number + 1),
            _ => from,
        };
        let index = self.next;
        self.next += 1;
        let since = Instant::now();
        let at = match job.operation {
            Operation::Read | Operation::Copy => Direction::Read,
            Operation::Write => {
                if self.path == Path::Bounce {
                    job.peer.copy_to(&job.host, slot * job.size, job.size)?;
                }
                Direction::Write
            }
        };
        let flight = Flight {
            from,
            to,
            index,
            at,
            since,
        };
        self.push(slot, flight)
    }

    /// Goes on with what has ended: the time that it took, if it is done.
    fn go_on(&mut self, ended: Completion) -> Result<Option<Duration>, Stop> {
        let job = self.job;
        let slot = ended.slot;
        let Some(flight) = self.flights.get_mut(slot).and_then(Option::take) else {
            return Ok(None);
        };
        match ended.moved {
            Ok(moved) if moved == job.size => {}
            Ok(moved) => return Err(Stop::Short(moved)),
            Err(error) => return Err(Stop::Transfer(error)),
        }
        if flight.at == Direction::Read {
            let offset = slot * job.size;
            if self.path == Path::Bounce {
                job.host.copy_to(&job.peer, offset, job.size)?;
            }
            if job.operation == Operation::Copy {
                if self.path == Path::Bounce {
                    job.peer.copy_to(&job.host, offset, job.size)?;
                }
                let at = Direction::Write;
                self.push(slot, Flight { at, ..flight })?;
                return Ok(None);
            }
        }
        self.done[slot] = Some(Done {
            from: flight.from,
            to: flight.to,
            index: flight.index,
        });
        Ok(Some(flight.since.elapsed()))
    }

    fn run(
        &mut self,
        budget: Budget,
        latency: &mut Histogram<u64>,
    ) -> Result<(u64, Duration), Stop> {
        let at_once = match self.job.engine {
            Engine::Sync => 1,
            Engine::IoUring => self.job.depth,
        };
        let mut idle: VecDeque<usize> = (0..self.job.depth).collect();
        let mut ended = Vec::new();
        let (mut started, mut ios) = (0, 0);
        let begin = Instant::now();
        loop {
            while self.job.depth - idle.len() < at_once {
                let goes_on = match budget {
                    Budget::Ios(ios) => started < ios,
                    // once at least
                    Budget::Time(time) => started == 0 || begin.elapsed() < time,
                };
                let Some(slot) = idle.pop_front().filter(|_| goes_on) else {
                    break;
                };
                self.start(slot)?;
                started += 1;
            }
            if idle.len() == self.job.depth || started == ios {
                break;
            }
            self.backend.wait(&mut ended)?;
            for one in ended.drain(..) {
                let slot = one.slot;
                if let Some(time) = self.go_on(one)? {
                    let nanoseconds = u64::try_from(time.as_nanos()).unwrap_or(u64::MAX);
                    latency.saturating_record(nanoseconds.max(1));
                    ios += 1;
                    idle.push_back(slot);
                }
            }
        }
        Ok((ios, begin.elapsed()))
    }
}

fn processor_time() -> Duration {
    let time = clock_gettime(ClockId::ProcessCPUTime);
    let seconds = u64::try_from(time.tv_sec).unwrap_or(0);
    Duration::new(seconds, u32::try_from(time.tv_nsec).unwrap_or(0))
}

fn differ(words: &[u64]) -> bool {
    words.iter().any(|word| *word != words[0])
}

impl Job {
    /// Number of slots that are compared after a slice.
    fn compared(&self) -> usize {
        (COMPARED_MAX / self.size).clamp(1, self.depth)
    }

    /// Bytes that the disks move for a transfer: a copy is read and written.
    pub fn moved(&self) -> u64 {
        let disks = u64::from(self.source.is_some()) + u64::from(self.target.is_some());
        self.size as u64 * disks
    }

    /// Fills what is read from with the pattern of the run, if that is allowed.
    pub fn fill(&self, area: &Area, bytes: u64) -> io::Result<()> {
        let room = self.size * self.depth;
        let mut pos = area.start;
        while pos < area.start + bytes {
            let left = area.start + bytes - pos;
            let len = room.min(usize::try_from(left).unwrap_or(room));
            self.host.fill(0, len, self.pattern, What::Data, pos)?;
            let written = self.host.write_to(&area.file, pos, 0, len)?;
            if written != len {
                return Err(io::ErrorKind::WriteZero.into());
            }
            pos += len as u64;
        }
        Ok(())
    }

    /// Which memory the data come from, or end in.
    fn end(&self, path: Path) -> &Memory {
        match path {
            Path::Host => &self.host,
            Path::P2p | Path::Bounce => &self.peer,
        }
    }

    /// A pattern of a slice's own, so that data of the last are no good.
    fn pattern_of(&self, number: usize) -> Pattern {
        self.pattern.of_slice(number)
    }

    /// Moves data until the budget is used up, and compares. `count` reads the counters of the
    /// disks, before and after.
    pub fn slice(
        &self,
        path: Path,
        budget: Budget,
        number: usize,
        latency: &mut Histogram<u64>,
        count: impl Fn() -> Option<u64>,
    ) -> Result<Slice, Stop> {
        let own = self.pattern_of(number);
        for slot in 0..self.compared() {
            let at = slot * self.size;
            let (pattern, what) = match self.operation {
                Operation::Read | Operation::Copy => (self.pattern, What::Preset),
                Operation::Write => (own, What::Data),
            };
            let memory = self.end(path);
            memory.fill(at, self.size, pattern, what, at as u64)?;
        }
        let backend = match self.engine {
            Engine::Sync => Backend::Sync(Vec::new()),
            Engine::IoUring => Backend::IoUring(Box::new(Queue::new(self.depth)?)),
        };
        let mut run = Run {
            job: self,
            path,
            backend,
            number,
            flights: vec![None; self.depth],
            next: number * self.depth,
            done: vec![None; self.depth],
        };
        let counted = count();
        let before = processor_time();
        let (ios, elapsed) = run.run(budget, latency)?;
        let cpu = processor_time().saturating_sub(before);
        let counted = count().zip(counted);
        let counted = counted.map(|(after, before)| after.saturating_sub(before));
        let (verified, position_proven) = self.compare(path, own, &run.done, run.next)?;
        Ok(Slice {
            ios,
            elapsed,
            cpu,
            counted,
            verified,
            position_proven,
        })
    }

    /// What a block of an area holds now.
    fn block_words(&self, area: Option<&Area>, block: u64, room: &Memory) -> Result<Words, Stop> {
        let area = area.ok_or(io::ErrorKind::InvalidInput)?;
        let pos = area.start + block * self.size as u64;
        let read = room.read_from(&area.file, pos, 0, self.size)?;
        if read != self.size {
            return Err(Stop::Io(io::ErrorKind::UnexpectedEof.into()));
        }
        let mut words = room.words(0, self.size)?;
        if self.corrupt {
            words[self.size / WORD / 2] ^= 1;
        }
        Ok(Words { words, pos })
    }

    /// Compares what the last transfers moved: bytes, and whether a wrong place would have shown.
    /// `next` is the index of the transfer that would have come next.
    fn compare(
        &self,
        path: Path,
        own: Pattern,
        done: &[Option<Done>],
        next: usize,
    ) -> Result<(u64, bool), Stop> {
        let room = Memory::ordinary(self.size)?;
        let (mut verified, mut proven) = (0, true);
        for (slot, one) in done.iter().enumerate().take(self.compared()) {
            let Some(one) = one else { continue };
            // after each block was used once more, another slot has overwritten it
            if self.operation != Operation::Read && next - one.index >= self.blocks.len() {
                continue;
            }
            let at = slot * self.size;
            let result = match self.operation {
                Operation::Read => {
                    let found = self.end(path).words(at, self.size)?;
                    let right = self.block_words(self.source.as_ref(), one.from, &room)?;
                    let known = self.source.as_ref().is_some_and(|area| area.is_known);
                    proven &= known || differ(&right.words);
                    self.pattern
                        .check_against(found.into_iter(), right.words.iter().copied())
                        .and_then(|()| self.is_known(known, right))
                }
                Operation::Write => {
                    let found = self.block_words(self.target.as_ref(), one.to, &room)?;
                    own.check(found.words.into_iter(), What::Data, at as u64)
                }
                Operation::Copy => {
                    let right = self.block_words(self.source.as_ref(), one.from, &room)?;
                    proven &= differ(&right.words);
                    let found = self.block_words(self.target.as_ref(), one.to, &room)?;
                    let right = right.words.into_iter();
                    self.pattern.check_against(found.words.into_iter(), right)
                }
            };
            result.map_err(Stop::Wrong)?;
            verified += self.size as u64;
        }
        Ok((verified, proven))
    }

    /// What an ordinary read found is the pattern of the run as well.
    fn is_known(&self, known: bool, found: Words) -> Result<(), Mismatch> {
        if !known {
            return Ok(());
        }
        self.pattern
            .check(found.words.into_iter(), What::Data, found.pos)
    }
}

/// Content of a block, and where it is.
struct Words {
    words: Vec<u64>,
    pos: u64,
}

#[cfg(test)]
mod tests {
    use super::*;

    const SIZE: usize = 4096;
    const BLOCKS: u64 = 32;
    const PATTERN: Pattern = Pattern::new(9);

    fn area(is_known: bool) -> Area {
        let file = tempfile::tempfile().expect("a file");
        file.set_len(SIZE as u64 * (BLOCKS + 1)).expect("room");
        Area {
            file: Arc::new(file),
            start: SIZE as u64,
            is_known,
        }
    }

    /// Files instead of disks, ordinary memory instead of a device's.
    fn job(operation: Operation, engine: Engine) -> Job {
        let reads = operation != Operation::Write;
        let writes = operation != Operation::Read;
        let job = Job {
            operation,
            engine,
            size: SIZE,
            depth: 4,
            source: reads.then(|| area(true)),
            target: writes.then(|| area(false)),
            peer: Memory::ordinary(4 * SIZE).expect("memory"),
            host: Memory::ordinary(4 * SIZE).expect("memory"),
            blocks: (0..BLOCKS).rev().collect(),
            pattern: PATTERN,
            corrupt: false,
        };
        if let Some(source) = &job.source {
            job.fill(source, SIZE as u64 * BLOCKS).expect("a fill");
        }
        job
    }

    fn latency() -> Histogram<u64> {
        crate::bench::latencies()
    }

    /// Sandboxes forbid io_uring.
    fn engines() -> Vec<Engine> {
        match Queue::new(1) {
            Ok(_) => vec![Engine::Sync, Engine::IoUring],
            Err(_) => vec![Engine::Sync],
        }
    }

    #[test]
    fn moves_and_compares() {
        for engine in engines() {
            for operation in [Operation::Read, Operation::Write, Operation::Copy] {
                let job = job(operation, engine);
                let mut latency = latency();
                let mut number = 0;
                for budget in [Budget::Ios(100), Budget::Time(Duration::ZERO)] {
                    for path in [Path::P2p, Path::Host, Path::Bounce] {
                        let slice =
                            job.slice(path, budget, number, &mut latency, || Some(number as u64));
                        let slice = slice.expect("a slice");
                        match budget {
                            Budget::Ios(ios) => {
                                assert_eq!(slice.ios, ios);
                                assert_eq!(slice.verified, 4 * SIZE as u64);
                            }
                            Budget::Time(_) => assert!(slice.ios >= 1),
                        }
                        assert!(slice.position_proven);
                        assert_eq!(slice.counted, Some(0));
                        number += 1;
                    }
                }
                assert!(latency.len() >= 303);
                assert!(latency.max() > 2 && latency.value_at_quantile(0.5) > 2);
            }
        }
    }

    #[test]
    fn finds_what_is_wrong() {
        for operation in [Operation::Read, Operation::Write, Operation::Copy] {
            let mut job = job(operation, Engine::Sync);
            job.corrupt = true;
            if operation == Operation::Copy {
                // both would be changed
                job.corrupt = false;
                let target = job.target.as_mut().expect("a target");
                target.file = Arc::new(File::options().write(true).open("/dev/null").expect("it"));
                let stop = job.slice(Path::P2p, Budget::Ios(8), 0, &mut latency(), || None);
                assert!(matches!(stop, Err(Stop::Io(_))), "{stop:?}");
                continue;
            }
            let stop = job.slice(Path::P2p, Budget::Ios(8), 0, &mut latency(), || None);
            assert!(matches!(stop, Err(Stop::Wrong(_))), "{stop:?}");
        }
    }

    /// Whoever writes nothing leaves what was there.
    #[test]
    fn finds_what_did_not_arrive() {
        let writer = job(Operation::Write, Engine::Sync);
        writer
            .slice(Path::P2p, Budget::Ios(8), 0, &mut latency(), || None)
            .expect("a slice");
        let done = [Some(Done {
            from: 31,
            to: 31,
            index: 0,
        })];
        let stop = writer.compare(Path::P2p, writer.pattern_of(1), &done, 1);
        assert!(matches!(stop, Err(Stop::Wrong(_))), "{stop:?}");

        let reader = job(Operation::Read, Engine::Sync);
        let filled = reader.peer.fill(0, SIZE, PATTERN, What::Preset, 0);
        filled.expect("a fill");
        let stop = reader.compare(Path::P2p, PATTERN, &done, 1);
        assert!(matches!(stop, Err(Stop::Wrong(_))), "{stop:?}");
    }

    /// Of large transfers not all are compared, but some of every slice.
    #[test]
    fn compares_a_part() {
        for engine in engines() {
            for operation in [Operation::Read, Operation::Write, Operation::Copy] {
                let small = job(operation, engine);
                let size = COMPARED_MAX / 2;
                let job = Job {
                    size,
                    peer: Memory::ordinary(4 * size).expect("memory"),
                    host: Memory::ordinary(4 * size).expect("memory"),
                    blocks: (0..8).collect(),
                    ..small
                };
                for area in [&job.source, &job.target].into_iter().flatten() {
                    area.file.set_len(9 * size as u64).expect("room");
                }
                if let Some(source) = &job.source {
                    job.fill(source, 8 * size as u64).expect("a fill");
                }
                for (number, ios) in [9, 10, 11, 12].into_iter().enumerate() {
                    let budget = Budget::Ios(ios);
                    let slice = job.slice(Path::P2p, budget, number, &mut latency(), || None);
                    assert_eq!(slice.expect("a slice").verified, 2 * size as u64);
                }
            }
        }
    }

    #[test]
    fn says_why_it_ended() {
        let mut reader = job(Operation::Read, Engine::Sync);
        let short = tempfile::tempfile().expect("a file");
        short.set_len(SIZE as u64 + 100).expect("room");
        let source = reader.source.as_mut().expect("a source");
        source.file = Arc::new(short);
        reader.blocks = vec![0];
        let stop = reader.slice(Path::Host, Budget::Ios(1), 0, &mut latency(), || None);
        assert!(matches!(stop, Err(Stop::Short(100))), "{stop:?}");
        let source = reader.source.as_mut().expect("a source");
        source.file = Arc::new(File::open("/").expect("a directory"));
        for engine in engines() {
            reader.engine = engine;
            let stop = reader.slice(Path::Host, Budget::Ios(1), 0, &mut latency(), || None);
            assert!(matches!(stop, Err(Stop::Transfer(_))), "{stop:?}");
        }
    }

    #[test]
    fn blank_media_prove_no_position() {
        let mut reader = job(Operation::Read, Engine::Sync);
        reader.source = Some(area(false));
        let slice = reader.slice(Path::P2p, Budget::Ios(8), 0, &mut latency(), || None);
        assert!(!slice.expect("a slice").position_proven);
    }
}
