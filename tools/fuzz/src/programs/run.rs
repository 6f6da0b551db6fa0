// SPDX-License-Identifier: GPL-2.0

//! Batches: programs that run at the same time, and what has to be so after each.

use std::collections::BTreeMap;
use std::fs::{self, File, OpenOptions};
use std::os::fd::AsRawFd;
use std::path::Path;
use std::sync::mpsc::{channel, RecvTimeoutError};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{bail, ensure, Context, Result};
use rand::Rng;
use serde::Serialize;

use super::draw::{self, Machine};
use super::keep::Keep;
use super::program::{Op, Step, Tally, NO_TALLY, OPS, POSITION};
use crate::ioctl;
use crate::memory::Arena;
use crate::system::{self, Pool, System};

/// The device that runs programs.
const DEVICE: &str = "/dev/p2pdma_random";

/// The driver that becomes a provider at random.
const RANDOM_DRIVER: &str = "p2pdma_random";

/// With so many steps together, every operation must have been done.
const ENOUGH: u64 = 10_000;

/// Where the disks are written to: their second MiB.
const DISK_POSITION: u64 = 1 << 20;

/// Mappings that are leaked at most.
const LEAKS: u64 = 4;

/// What a kernel has that looks for leaks.
const KMEMLEAK: &str = "/sys/kernel/debug/kmemleak";

/// How often there is something to say.
const TELL: Duration = Duration::from_secs(10);

/// What is before the number of the batch that comes next.
pub const BATCH: &str = "# batch ";

/// How much to do.
#[derive(Debug, Clone, Serialize)]
pub struct Plan {
    /// Where the numbers come from.
    pub seed: u64,
    /// Programs of a batch.
    pub threads: u32,
    /// Steps of a program.
    pub length: u64,
    /// Number of the first batch.
    pub batch: u64,
    /// How many there are at most.
    pub batches: Option<u64>,
    /// After how many steps there are no more, if their number is not given.
    pub steps: u64,
    /// Whether drivers are taken away.
    pub remove: bool,
    /// Whether to say which batch comes next.
    #[serde(skip)]
    pub say: bool,
    /// The steps that are kept, if not all.
    #[serde(skip)]
    pub keep: Option<Keep>,
    /// How long a batch may take, and memory until it is back.
    #[serde(skip)]
    pub patience: Duration,
}

impl Plan {
    /// The programs of a batch.
    fn programs(&self, machine: &Machine, batch: u64) -> Vec<Vec<Step>> {
        let mut number = 0;

        (0..self.threads)
            .map(|thread| {
                let mut rng = draw::numbers(self.seed, batch, thread);
                // At most `MAX_STEPS`. A few more may be drawn.
                let mut steps = draw::draw(&mut rng, machine, self.length as usize);

                steps.truncate(self.length as usize);
                steps.retain(|_| {
                    number += 1;
                    self.keep.as_ref().is_none_or(|keep| keep.has(number - 1))
                });
                steps
            })
            .collect()
    }

    /// The command line that runs a batch again.
    fn replay(&self, batch: u64) -> String {
        let keep = self
            .keep
            .as_ref()
            .map_or(String::new(), |keep| format!(" --keep {keep}"));
        let remove = if self.remove { "" } else { " --no-remove" };

        format!(
            "replay: p2pdma-fuzz programs --seed {} --threads {} --length {} --batch {batch} \
             --batches 1{remove}{keep}",
            self.seed, self.threads, self.length
        )
    }
}

/// What there is in the machine that programs name.
fn machine(system: &System, pools: &[Pool]) -> Result<Machine> {
    let number = |name: &String| system::function(name).and_then(|n| u32::try_from(n).ok());
    let functions = system.functions()?;
    let providers: Vec<u32> = pools
        .iter()
        .filter_map(|pool| number(&pool.device))
        .collect();

    Ok(Machine {
        clients: functions
            .iter()
            .filter(|name| system.driver(name).is_some_and(|driver| driver == "nvme"))
            .filter_map(number)
            .collect(),
        functions: functions.iter().filter_map(number).collect(),
        providers,
    })
}

/// Prints the programs of the first batch, a line each step.
pub fn print(plan: &Plan) -> Result<()> {
    let system = System::at("/");
    let machine = machine(&system, &system.pools()?)?;

    for (thread, steps) in plan.programs(&machine, plan.batch).iter().enumerate() {
        println!("thread {thread}:");
        for step in steps {
            println!(
                "  {:<12} a {:<3} b {:<3} c {:<3} n {:#x}",
                format!("{:?}", step.op),
                step.a,
                step.b,
                step.c,
                step.n
            );
        }
    }
    Ok(())
}

#[derive(Debug, Serialize)]
struct Report<'a> {
    #[serde(flatten)]
    plan: &'a Plan,
    batches_run: u64,
    steps_run: u64,
    removals: u64,
    seconds: f64,
    /// By operation, how often it was done, refused, and wrong.
    operations: BTreeMap<String, [u64; 3]>,
    findings: Vec<String>,
}

/// What batches came to.
#[derive(Debug)]
struct Sum {
    tally: Tally,
    batches: u64,
    removals: u64,
}

impl Sum {
    fn add(&mut self, tally: &Tally) {
        for (sum, counts) in self.tally.iter_mut().zip(tally) {
            for (sum, count) in sum.iter_mut().zip(counts) {
                *sum += count;
            }
        }
    }

    fn steps(&self) -> u64 {
        self.tally.as_flattened().iter().sum()
    }
}

/// A batch in a machine.
struct Batch<'a> {
    system: &'a System,
    before: &'a [Pool],
    disks: &'a [File],
    plan: &'a Plan,
    /// Mappings that may be leaked.
    leaks: u64,
    number: u64,
}

impl Batch<'_> {
    /// Runs the programs, and takes drivers away meanwhile. Does not return if one of them hangs.
    fn run(&self, programs: &[Vec<Step>], sum: &mut Sum) -> Result<()> {
        let file = OpenOptions::new()
            .read(true)
            .write(true)
            .open(DEVICE)
            .with_context(|| {
                format!(
                    "cannot open {DEVICE}: is the module {RANDOM_DRIVER} loaded, and are you root?"
                )
            })?;
        let mut rng = draw::numbers(self.plan.seed, self.number, u32::from(u8::MAX));
        let seed: u64 = rng.gen();

        // Of an address, which is what `ioctl()` takes.
        ioctl::seed(&file, seed as usize)?;

        // Before there are threads, whose memory would be in between.
        let allocate: Vec<_> = self
            .before
            .iter()
            .map(|pool| self.system.allocate(&pool.device))
            .collect();
        let arenas = programs
            .iter()
            .map(|_| Arena::new(allocate.clone()))
            .collect::<Result<Vec<_>>>()?;

        thread::scope(|scope| {
            let (done, all) = channel();

            for ((steps, arena), thread) in programs.iter().zip(arenas).zip(0u32..) {
                let (file, done) = (&file, done.clone());

                scope.spawn(move || {
                    let mut rng = draw::numbers(self.plan.seed, self.number, 128 + thread);
                    let number: usize = rng.gen();
                    let disk = match self.disks.len() {
                        0 => None,
                        len => Some(&self.disks[number % len]),
                    };
                    let bytes: Vec<u8> = steps.iter().flat_map(|step| step.to_bytes()).collect();
                    let result = ioctl::run(
                        file,
                        &bytes,
                        &arena.region(number),
                        disk.map(|disk| disk.as_raw_fd()),
                        DISK_POSITION,
                        self.leaks,
                    );

                    // Nobody listens any more if another hangs.
                    let _ = done.send(result.map_err(anyhow::Error::from));
                });
            }
            if self.plan.remove {
                let done = done.clone();

                scope.spawn(move || {
                    let result = self.remove(&mut rng).map(|()| NO_TALLY);
                    let _ = done.send(result);
                });
            }
            drop(done);
            for _ in 0..programs.len() + usize::from(self.plan.remove) {
                match all.recv_timeout(self.plan.patience) {
                    Ok(result) => sum.add(&result?),
                    Err(RecvTimeoutError::Timeout) => self.give_up(),
                    Err(RecvTimeoutError::Disconnected) => bail!("a thread panicked"),
                }
            }
            sum.removals += u64::from(self.plan.remove);
            Ok(())
        })
    }

    /// Takes a driver away, in one of the ways that there are, and gives it back.
    fn remove(&self, rng: &mut impl Rng) -> Result<()> {
        let number: usize = rng.gen();
        let how = rng.gen_range(0..16);
        let providers: Vec<_> = self
            .before
            .iter()
            .filter(|pool| pool.driver.as_deref() == Some(system::DRIVER))
            .collect();
        let nvme: Vec<_> = self
            .system
            .functions()?
            .into_iter()
            .filter(|name| self.system.driver(name).as_deref() == Some("nvme"))
            .collect();

        if let (0, false) = (how, nvme.is_empty()) {
            return self.system.rebind(&nvme[number % nvme.len()], "nvme");
        }
        let Some(device) = providers.get(number % providers.len().max(1)) else {
            return Ok(());
        };
        match how {
            0..4 => self
                .system
                .lend(&device.device, system::DRIVER, RANDOM_DRIVER),
            4 => self.system.unplug(&device.device, system::DRIVER),
            _ => self.system.rebind(&device.device, system::DRIVER),
        }
    }

    /// Looks whether all is as it was.
    fn check(&self, taint: u64) -> Result<()> {
        // What was leaked goes with the driver; and the drivers have to let go.
        for pool in self.before {
            if pool.driver.as_deref() == Some(system::DRIVER) {
                self.system
                    .rebind(&pool.device, system::DRIVER)
                    .with_context(|| format!("{} is not bound again", pool.device))?;
            }
        }
        self.system.wait_at_rest(self.before, self.plan.patience)?;

        let now = self.system.taint()?;
        ensure!(
            now & !taint == 0,
            "the kernel warned: it is tainted by {:#x}, see its log",
            now & !taint
        );
        Ok(())
    }

    /// Says which threads do not return, and where they are.
    fn give_up(&self) -> ! {
        eprintln!(
            "p2pdma-fuzz: batch {} has not ended in {} s",
            self.number,
            self.plan.patience.as_secs()
        );
        for task in fs::read_dir("/proc/self/task")
            .into_iter()
            .flatten()
            .flatten()
        {
            let stack = fs::read_to_string(task.path().join("stack"))
                .unwrap_or_else(|error| format!("its stack cannot be read: {error}\n"));

            eprintln!("thread {}:\n{stack}", task.file_name().to_string_lossy());
        }
        eprintln!("{}", self.plan.replay(self.number));
        std::process::exit(1)
    }
}

/// What came of an operation that is not as the library says.
fn wrong(sum: &Sum) -> Vec<String> {
    OPS.iter()
        .zip(&sum.tally)
        .filter(|(_, [.., wrong])| *wrong > 0)
        .map(|(op, [.., wrong])| format!("{op:?}: {wrong} times not as the library says"))
        .collect()
}

/// What was never done, and so is not tested.
fn never_done(sum: &Sum, disks: bool) -> Vec<String> {
    if sum.steps() < ENOUGH {
        return Vec::new();
    }
    OPS.iter()
        .zip(&sum.tally)
        .filter(|(op, [done, ..])| *done == 0 && (disks || !matches!(op, Op::Io | Op::IoLoan)))
        .map(|(op, _)| format!("{op:?}: never done"))
        .collect()
}

fn print_report(report: &Report<'_>) {
    println!(
        "{:<12} {:>10} {:>10} {:>10}",
        "operation", "done", "refused", "wrong"
    );
    for (operation, [done, refused, wrong]) in &report.operations {
        println!("{operation:<12} {done:>10} {refused:>10} {wrong:>10}");
    }
    println!(
        "{} steps in {} batches, {} removals, {:.1} s: {}",
        report.steps_run,
        report.batches_run,
        report.removals,
        report.seconds,
        if report.findings.is_empty() {
            "nothing wrong"
        } else {
            "something is wrong"
        }
    );
}

/// Runs all batches. Whether nothing was found, or why it could not run.
pub fn run(plan: &Plan, scratch: &[String], json: bool) -> Result<bool> {
    let system = System::at("/");
    let before = system.pools()?;

    ensure!(
        !before.is_empty(),
        "no PCI device provides peer-to-peer memory: bind one to {}",
        system::DRIVER
    );
    ensure!(
        Path::new(DEVICE).exists(),
        "{DEVICE} does not exist: load the module {RANDOM_DRIVER}"
    );
    if scratch.is_empty() {
        eprintln!("# P2PDMA_SCRATCH names no disks: no block I/O");
    }
    eprintln!("# seed {}", plan.seed);

    let machine = machine(&system, &before)?;
    let taint = system.taint()?;
    let start = Instant::now();
    let mut told = Instant::now();
    let mut sum = Sum {
        tally: NO_TALLY,
        batches: 0,
        removals: 0,
    };
    let mut failed = None;

    for number in plan.batch.. {
        let enough = match plan.batches {
            Some(batches) => sum.batches >= batches,
            None => sum.steps() >= plan.steps,
        };

        if enough {
            break;
        }
        // So that it is known if the machine does not live to say it.
        if plan.say {
            eprintln!("{BATCH}{number}");
        }

        let disks = system.open_disks(scratch)?;
        let batch = Batch {
            system: &system,
            before: &before,
            disks: &disks,
            plan,
            // They are leaks, and found as such, where somebody looks for them.
            leaks: if Path::new(KMEMLEAK).exists() {
                0
            } else {
                LEAKS
            },
            number,
        };
        let result = batch
            .run(&plan.programs(&machine, number), &mut sum)
            .and_then(|()| batch.check(taint))
            .and_then(|()| match wrong(&sum).first() {
                Some(finding) => bail!("{finding}"),
                None => Ok(()),
            });

        sum.batches += 1;
        if let Err(error) = result {
            failed = Some((format!("batch {number}: {error:#}"), plan.replay(number)));
            break;
        }
        if told.elapsed() > TELL {
            told = Instant::now();
            eprintln!(
                "# {} batches, {} steps, {} s",
                sum.batches,
                sum.steps(),
                start.elapsed().as_secs()
            );
        }
    }

    let mut report = Report {
        plan,
        batches_run: sum.batches,
        steps_run: sum.steps(),
        removals: sum.removals,
        seconds: start.elapsed().as_secs_f64(),
        operations: OPS
            .iter()
            .zip(sum.tally)
            .map(|(op, counts)| (format!("{op:?}"), counts))
            .collect(),
        findings: never_done(&sum, !scratch.is_empty()),
    };

    if let Some((error, replay)) = failed {
        eprintln!("{replay}");
        report.findings = vec![error];
    }
    if json {
        println!("{}", serde_json::to_string_pretty(&report)?);
    } else {
        print_report(&report);
    }
    for finding in &report.findings {
        eprintln!("p2pdma-fuzz: {finding}");
    }
    Ok(report.findings.is_empty())
}

// What is written to is aligned to any block.
const _: () = assert!(DISK_POSITION % 4096 == 0 && POSITION > 0);

#[cfg(test)]
mod tests {
    use super::*;

    fn plan(keep: Option<&str>) -> Plan {
        Plan {
            seed: 7,
            threads: 2,
            length: 50,
            batch: 3,
            batches: Some(1),
            steps: 0,
            remove: false,
            say: false,
            keep: keep.map(|keep| keep.parse().expect("a list")),
            patience: Duration::from_secs(1),
        }
    }

    #[test]
    fn steps_are_kept_by_number() {
        let machine = Machine::default();
        let all = plan(None).programs(&machine, 3);
        let some = plan(Some("0,49-51,99")).programs(&machine, 3);

        assert_eq!(all.iter().map(Vec::len).collect::<Vec<_>>(), [50, 50]);
        assert_eq!(some[0], [all[0][0], all[0][49]]);
        assert_eq!(some[1], [all[1][0], all[1][1], all[1][49]]);
    }

    #[test]
    fn never_done_is_a_finding() {
        let mut sum = Sum {
            tally: [[1000, 0, 0]; OPS.len()],
            batches: 1,
            removals: 0,
        };

        assert!(never_done(&sum, true).is_empty());
        sum.tally[Op::Map as usize] = [0, 1000, 0];
        assert_eq!(never_done(&sum, true), ["Map: never done"]);
        sum.tally[Op::Io as usize] = [0, 1000, 0];
        assert_eq!(never_done(&sum, false), ["Map: never done"]);
        sum.tally = [[0, 1, 0]; OPS.len()];
        assert!(never_done(&sum, true).is_empty());
    }

    #[test]
    fn wrong_is_a_finding() {
        let mut sum = Sum {
            tally: NO_TALLY,
            batches: 1,
            removals: 0,
        };

        sum.tally[Op::Walk as usize] = [5, 0, 1];
        assert_eq!(wrong(&sum), ["Walk: 1 times not as the library says"]);
    }

    #[test]
    fn replay_names_the_batch() {
        assert_eq!(
            plan(Some("3-5")).replay(12),
            "replay: p2pdma-fuzz programs --seed 7 --threads 2 --length 50 --batch 12 \
             --batches 1 --no-remove --keep 3-5"
        );
    }
}
