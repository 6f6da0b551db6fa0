// SPDX-License-Identifier: GPL-2.0

//! Threads that make calls, one that takes drivers away, and one that sees whether calls return.

use std::collections::BTreeMap;
use std::fs::{self, File, OpenOptions};
use std::os::fd::{AsRawFd, RawFd};
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicI32, AtomicU32, AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{bail, Context, Result};
use rustix::io::Errno;
use serde::Serialize;

use crate::abi::Abi;
use crate::generate::{numbers, Call, Generator, Target, World};
use crate::ioctl::{self, Argument};
use crate::memory::Arena;
use crate::system::System;

/// Objects of a file that are remembered; before there are more, the oldest is released.
pub const MAX_IDS: usize = 48;

/// How often threads look whether there is something for them to do.
const TICK: Duration = Duration::from_millis(100);

/// How a call ended that did what it was told.
pub const DONE: &str = "ok";

/// What stands for the command where any number was taken for a file, which need not be the device.
pub const ANY_FILE: &str = "(any file)";

/// How much to do.
#[derive(Debug, Clone, Serialize)]
pub struct Plan {
    /// Where the numbers come from.
    pub seed: u64,
    /// Calls of all threads together.
    pub calls: u64,
    /// Number of the first call of each thread.
    pub first: u64,
    /// Threads that make calls.
    pub threads: u32,
    /// After how many calls a driver is taken away, if at all.
    pub remove_every: Option<u64>,
    /// How long a call may take.
    #[serde(skip)]
    pub patience: Duration,
}

/// How calls of one kind ended: their number, by error.
pub type Outcomes = BTreeMap<String, u64>;

/// What came of it all.
#[derive(Debug, Default, Serialize)]
pub struct Tally {
    /// Calls made.
    pub calls: u64,
    /// Times that a driver was taken away and given back.
    pub removals: u64,
    /// How calls ended, by command.
    pub outcomes: BTreeMap<String, Outcomes>,
}

impl Tally {
    fn count(&mut self, command: &str, result: Result<(), Errno>) {
        self.calls += 1;
        self.record(command, result);
    }

    /// The same for what is not among the calls that were asked for.
    fn record(&mut self, command: &str, result: Result<(), Errno>) {
        let outcome = match result {
            Ok(()) => DONE.to_owned(),
            Err(errno) => errno_name(errno),
        };

        *self
            .outcomes
            .entry(command.to_owned())
            .or_default()
            .entry(outcome)
            .or_default() += 1;
    }

    fn add(&mut self, other: Tally) {
        self.calls += other.calls;
        for (command, outcomes) in other.outcomes {
            let sum = self.outcomes.entry(command).or_default();

            for (outcome, number) in outcomes {
                *sum.entry(outcome).or_default() += number;
            }
        }
    }
}

/// The errors that the header promises.
const NAMES: &[(Errno, &str)] = &[
    (Errno::INVAL, "EINVAL"),
    (Errno::TOOBIG, "E2BIG"),
    (Errno::FAULT, "EFAULT"),
    (Errno::NOTTY, "ENOTTY"),
    (Errno::NOENT, "ENOENT"),
    (Errno::BUSY, "EBUSY"),
    (Errno::MEDIUMTYPE, "EMEDIUMTYPE"),
    (Errno::NODATA, "ENODATA"),
    (Errno::NODEV, "ENODEV"),
    (Errno::SRCH, "ESRCH"),
    (Errno::BADF, "EBADF"),
    (Errno::NOTBLK, "ENOTBLK"),
    (Errno::NOSPC, "ENOSPC"),
    (Errno::INTR, "EINTR"),
    (Errno::NOMEM, "ENOMEM"),
];

/// `EINVAL` and so on, for the errors that the header promises; others have a number.
fn errno_name(errno: Errno) -> String {
    match NAMES.iter().find(|(named, _)| *named == errno) {
        Some((_, name)) => (*name).to_owned(),
        None => format!("errno {}", errno.raw_os_error()),
    }
}

/// The error behind one of the standard library.
fn errno(error: &std::io::Error) -> Errno {
    Errno::from_io_error(error).unwrap_or(Errno::IO)
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // Whoever panicked ends the run. What is in there is still good for the end of it.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The device, open, for one thread above all.
struct Slot {
    file: Mutex<Option<File>>,
    /// Its number, which others use without asking whether it is still open.
    number: AtomicI32,
    ids: Mutex<Vec<u32>>,
    /// Number of the call that is under way, or `u64::MAX`.
    call: AtomicU64,
    /// When it began, in milliseconds since the start.
    since: AtomicU64,
    /// The thread.
    tid: AtomicI32,
    /// What was asked for, for a message.
    asked: Mutex<String>,
}

impl Slot {
    fn new() -> Self {
        Slot {
            file: Mutex::new(None),
            number: AtomicI32::new(-1),
            ids: Mutex::new(Vec::new()),
            call: AtomicU64::new(u64::MAX),
            since: AtomicU64::new(0),
            tid: AtomicI32::new(0),
            asked: Mutex::new(String::new()),
        }
    }
}

/// A run.
pub struct Run<'a> {
    plan: &'a Plan,
    abi: &'a Abi,
    world: &'a World,
    system: &'a System,
    device: PathBuf,
    allocate: Vec<PathBuf>,
    slots: Vec<Slot>,
    start: Instant,
    done: AtomicU64,
    /// Counts removals, so that threads map anew what was taken from them.
    removals: AtomicU64,
    stop: AtomicBool,
    /// Threads that have not ended, but for the one that watches them.
    working: AtomicU32,
    /// When the removal that is under way began, in milliseconds since the start, or `u64::MAX`.
    removing: AtomicU64,
    /// The thread that removes.
    remover: AtomicI32,
}

impl<'a> Run<'a> {
    /// A run of `plan`, with memory of these `p2pmem/allocate`.
    pub fn new(
        plan: &'a Plan,
        abi: &'a Abi,
        world: &'a World,
        system: &'a System,
        device: PathBuf,
        allocate: Vec<PathBuf>,
    ) -> Self {
        Run {
            plan,
            abi,
            world,
            system,
            device,
            allocate,
            slots: (0..plan.threads).map(|_| Slot::new()).collect(),
            start: Instant::now(),
            done: AtomicU64::new(0),
            removals: AtomicU64::new(0),
            stop: AtomicBool::new(false),
            working: AtomicU32::new(plan.threads + 1),
            removing: AtomicU64::new(u64::MAX),
            remover: AtomicI32::new(0),
        }
    }

    fn open(&self) -> Result<File> {
        OpenOptions::new()
            .read(true)
            .write(true)
            .open(&self.device)
            .with_context(|| {
                format!(
                    "cannot open {}: is the module p2pdma_test loaded, and are you root?",
                    self.device.display()
                )
            })
    }

    /// Closes the file of a slot, while others may be in a call on it, and opens another.
    fn reopen(&self, slot: &Slot) -> Result<()> {
        let mut file = lock(&slot.file);

        drop(file.take());
        lock(&slot.ids).clear();
        let new = self.open()?;
        slot.number.store(new.as_raw_fd(), Ordering::Relaxed);
        *file = Some(new);
        Ok(())
    }

    /// Makes all calls. Fails if something is wrong other than that a call was refused.
    pub fn all(&self) -> Result<Tally> {
        for slot in &self.slots {
            self.reopen(slot)?;
        }

        // Before there are threads, whose memory would be in between.
        let arenas = self
            .slots
            .iter()
            .map(|_| Arena::new(self.allocate.clone()))
            .collect::<Result<Vec<_>>>()?;
        let mut tally = Tally::default();

        thread::scope(|scope| {
            let workers: Vec<_> = arenas
                .into_iter()
                .zip(0..)
                .map(|(arena, thread)| {
                    scope.spawn(move || self.thread(|| self.work(thread, arena)))
                })
                .collect();
            let remover = scope.spawn(|| self.thread(|| self.remove()));

            // Does not return if a call does not: see there.
            self.watch();

            let mut failed = None;
            for worker in workers {
                match worker.join() {
                    Ok(Ok(part)) => tally.add(part),
                    Ok(Err(error)) => failed = failed.or(Some(error)),
                    Err(_) => failed = Some(anyhow::anyhow!("a thread panicked")),
                }
            }
            match remover.join() {
                Ok(Ok(())) => (),
                Ok(Err(error)) => failed = failed.or(Some(error)),
                Err(_) => failed = Some(anyhow::anyhow!("a thread panicked")),
            }
            match failed {
                Some(error) => Err(error),
                None => Ok(()),
            }
        })?;

        tally.removals = self.removals.load(Ordering::Relaxed);
        Ok(tally)
    }

    /// What a thread does. If it fails, or panics, all others stop.
    fn thread<T>(&self, what: impl FnOnce() -> Result<T>) -> Result<T> {
        let mut working = Working {
            run: self,
            failed: true,
        };
        let result = what();

        working.failed = result.is_err();
        result
    }

    /// Which calls a thread makes: as many as the others, or one more.
    fn share(&self, thread: u32) -> u64 {
        let threads = u64::from(self.plan.threads);

        self.plan.calls / threads + u64::from(u64::from(thread) < self.plan.calls % threads)
    }

    fn work(&self, thread: u32, mut arena: Arena) -> Result<Tally> {
        let generator = Generator::new(self.abi, self.world);
        let own = &self.slots[thread as usize];
        let mut mapped_at = 0;
        let mut tally = Tally::default();

        own.tid.store(this_thread(), Ordering::Relaxed);
        for call in self.plan.first..self.plan.first + self.share(thread) {
            if self.stop.load(Ordering::Relaxed) {
                break;
            }

            let removals = self.removals.load(Ordering::Relaxed);
            if removals != mapped_at {
                mapped_at = removals;
                arena.map_providers();
            }

            let mut ids = lock(&own.ids).clone();

            // A call more: the numbers stay with the calls that they are for.
            if ids.len() >= MAX_IDS {
                if let Some(release) = generator.release(ids.remove(0)) {
                    let fd = own.number.load(Ordering::Relaxed);

                    self.begin(own, call, &release);
                    let (_, result) = self.make(own, fd, release)?;
                    own.call.store(u64::MAX, Ordering::Release);
                    tally.record("(one too many)", result);
                }
            }

            let mut rng = numbers(self.plan.seed, thread, call);
            let (what, target) = generator.call(&mut rng, &arena, &ids);
            let slot = match target {
                Target::Other(further) => {
                    &self.slots[(thread as usize + further) % self.slots.len()]
                }
                _ => own,
            };
            let fd = match target {
                Target::Number(number) => number,
                _ => slot.number.load(Ordering::Relaxed),
            };

            self.begin(own, call, &what);
            let (name, result) = self.make(slot, fd, what)?;
            own.call.store(u64::MAX, Ordering::Release);
            match target {
                Target::Number(_) => tally.count(ANY_FILE, result),
                _ => tally.count(name, result),
            }
            self.done.fetch_add(1, Ordering::Relaxed);
        }
        Ok(tally)
    }

    fn begin(&self, own: &Slot, call: u64, what: &Call<'_, '_>) {
        let mut asked = lock(&own.asked);

        asked.clear();
        if let Call::Command(command, structure) = what {
            asked.push_str(&command.name);
            for member in &command.structure.members {
                if member.count == 1 {
                    asked.push_str(&format!(" {}={:#x}", member.name, structure.get(member)));
                }
            }
        }
        drop(asked);
        own.since.store(self.now(), Ordering::Relaxed);
        own.call.store(call, Ordering::Release);
    }

    /// Makes one call: its name, and how it ended.
    fn make<'c>(
        &self,
        slot: &Slot,
        fd: RawFd,
        what: Call<'c, '_>,
    ) -> Result<(&'c str, Result<(), Errno>)> {
        match what {
            Call::Close => {
                self.reopen(slot)?;
                Ok(("close", Ok(())))
            }
            Call::Place(kind, number, place) => {
                let result = ioctl::command(fd, kind, number, Argument::Place(place));

                Ok(("(bad address)", result.map_err(|error| errno(&error))))
            }
            Call::Command(command, mut structure) => {
                let asked = command.structure.member("id").map(|id| structure.get(id));
                let result = ioctl::command(
                    fd,
                    self.abi.kind,
                    command.number,
                    Argument::Structure(&mut structure),
                )
                .map_err(|error| errno(&error));
                let mut ids = lock(&slot.ids);

                match (command.structure.member("id"), result) {
                    (Some(id), Ok(())) if command.name == "release" => {
                        let id = structure.get(id);
                        ids.retain(|held| u64::from(*held) != id);
                    }
                    // What it had before is what was asked for.
                    (Some(id), Ok(())) if command.makes_objects() => {
                        let id = structure.get(id);

                        if id != 0 && Some(id) != asked {
                            if ids.len() >= MAX_IDS {
                                ids.remove(0);
                            }
                            // CAST: The member has 32 bits.
                            ids.push(id as u32);
                        }
                    }
                    (Some(id), Err(Errno::NOENT)) => {
                        let id = structure.get(id);
                        ids.retain(|held| u64::from(*held) != id);
                    }
                    _ => (),
                }
                Ok((&command.name, result))
            }
        }
    }

    fn now(&self) -> u64 {
        u64::try_from(self.start.elapsed().as_millis()).unwrap_or(u64::MAX)
    }

    /// Takes a driver from each of its devices in turn, and gives it back.
    fn remove(&self) -> Result<()> {
        let Some(every) = self.plan.remove_every else {
            return Ok(());
        };
        let devices = self.system.removable()?;
        if devices.is_empty() {
            bail!(
                "no device is bound to {}: there is nothing to remove; see --no-remove",
                crate::system::DRIVER
            );
        }

        self.remover.store(this_thread(), Ordering::Relaxed);
        for (device, turn) in devices.iter().cycle().zip(1u64..) {
            while self.done.load(Ordering::Relaxed) < turn * every {
                // The others are done.
                if self.working.load(Ordering::Relaxed) == 1 || self.stop.load(Ordering::Relaxed) {
                    return Ok(());
                }
                thread::sleep(TICK / 10);
            }
            self.removing.store(self.now(), Ordering::Relaxed);
            self.system.rebind(device, crate::system::DRIVER)?;
            self.removing.store(u64::MAX, Ordering::Relaxed);
            self.removals.fetch_add(1, Ordering::Relaxed);
        }
        Ok(())
    }

    /// Waits for the end, tells of progress, and ends the program if a call does not return.
    fn watch(&self) {
        let patience = u64::try_from(self.plan.patience.as_millis()).unwrap_or(u64::MAX);
        let mut told = 0;

        while self.working.load(Ordering::Relaxed) > 0 {
            thread::sleep(TICK);

            let now = self.now();
            if now / 10_000 > told {
                told = now / 10_000;
                eprintln!(
                    "# {} of {} calls, {} removals, {} s",
                    self.done.load(Ordering::Relaxed),
                    self.plan.calls,
                    self.removals.load(Ordering::Relaxed),
                    now / 1000
                );
            }
            for (slot, thread) in self.slots.iter().zip(0u32..) {
                let call = slot.call.load(Ordering::Acquire);

                if call != u64::MAX
                    && now.saturating_sub(slot.since.load(Ordering::Relaxed)) > patience
                    && slot.call.load(Ordering::Acquire) == call
                {
                    let what = format!("call {call} of thread {thread}: {}", lock(&slot.asked));

                    self.give_up(&what, slot.tid.load(Ordering::Relaxed));
                }
            }
            // What is under way since `u64::MAX` is not.
            if now.saturating_sub(self.removing.load(Ordering::Relaxed)) > patience {
                self.give_up(
                    &format!("unbinding a device from {}", crate::system::DRIVER),
                    self.remover.load(Ordering::Relaxed),
                );
            }
        }
    }

    /// Says what does not return, and where it is.
    fn give_up(&self, what: &str, tid: i32) -> ! {
        let stack = fs::read_to_string(format!("/proc/self/task/{tid}/stack"))
            .unwrap_or_else(|error| format!("its stack cannot be read: {error}\n"));

        eprintln!(
            "p2pdma-fuzz: this has not returned in {} s: {what}\n{stack}{}",
            self.plan.patience.as_secs(),
            crate::replay(self.plan),
        );
        std::process::exit(1)
    }
}

/// A thread that has not ended. It ends with a result or by a panic.
struct Working<'r, 'a> {
    run: &'r Run<'a>,
    failed: bool,
}

impl Drop for Working<'_, '_> {
    fn drop(&mut self) {
        if self.failed {
            self.run.stop.store(true, Ordering::Relaxed);
        }
        self.run.working.fetch_sub(1, Ordering::Relaxed);
    }
}

/// The number of the thread that asks.
fn this_thread() -> i32 {
    rustix::thread::gettid().as_raw_nonzero().get()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn outcomes_add_up() {
        let mut sum = Tally::default();
        let mut part = Tally::default();

        part.count("pin", Ok(()));
        part.count("pin", Err(Errno::INVAL));
        part.count("pin", Err(Errno::from_raw_os_error(1)));
        sum.count("pin", Ok(()));
        sum.add(part);

        assert_eq!(sum.calls, 4);
        assert_eq!(sum.outcomes["pin"]["ok"], 2);
        assert_eq!(sum.outcomes["pin"]["EINVAL"], 1);
        assert_eq!(sum.outcomes["pin"]["errno 1"], 1);
    }

    #[test]
    fn errors_of_the_header_have_names() {
        let abi = Abi::parse(crate::abi::HEADER).expect("parses");
        let names: std::collections::BTreeSet<_> =
            NAMES.iter().map(|(_, name)| (*name).to_owned()).collect();

        assert_eq!(names, abi.errors);
    }

    #[test]
    fn threads_end_one_way_or_another() {
        let plan = Plan {
            seed: 1,
            calls: 0,
            first: 0,
            threads: 2,
            remove_every: None,
            patience: Duration::from_secs(60),
        };
        let abi = Abi::parse(crate::abi::HEADER).expect("parses");
        let world = World {
            providers: Vec::new(),
            functions: Vec::new(),
            values: Vec::new(),
            disks: Vec::new(),
            pid: 1,
        };
        let system = System::at("/nowhere");

        for (failed, end) in [
            (false, (|| Ok(())) as fn() -> Result<()>),
            (true, || bail!("failed")),
            (true, || panic!("panicked")),
        ] {
            let run = Run::new(&plan, &abi, &world, &system, PathBuf::new(), Vec::new());
            let working = run.working.load(Ordering::Relaxed);
            let joined = thread::scope(|scope| scope.spawn(|| run.thread(end)).join());

            assert_eq!(matches!(joined, Ok(Ok(()))), !failed);
            assert_eq!(run.working.load(Ordering::Relaxed), working - 1);
            assert_eq!(run.stop.load(Ordering::Relaxed), failed);
        }
    }
}
