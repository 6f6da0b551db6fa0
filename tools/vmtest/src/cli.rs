// SPDX-License-Identifier: GPL-2.0

//! The command line, and what each command does.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io::{IsTerminal, Write};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{anyhow, bail, Context, Result};
use clap::{Args, Parser, Subcommand};
use glob::Pattern;
use p2pdma_common::{parse_scale, Arch};
use rustix::fs::FlockOperation;
use rustix::io::Errno;
use serde::Serialize;
use vmtest_guest::Mode;

use crate::compare::compare;
use crate::elf::Root;
use crate::image;
use crate::kernel::Kernel;
use crate::ktap::Status;
use crate::matrix;
use crate::qemu::{self, Wiring};
use crate::report::{TestReport, TopologyReport, Totals, KERNEL_LOG};
use crate::results::{
    self, closing_lines, flaky, whole_rounds, write_summaries, Flaky, KtapSink, Live, Summary,
};
use crate::run::{create, Extra, Setup, Sink, BUSYBOX};
use crate::schedule::{self, Costs, Part, Room, Unit};
use crate::selftest;
use crate::suite::{scaled, Suite, Test};
use crate::topology::{self, Topology};
use crate::ui::Ui;

const EXAMPLES: &str = "\
Examples:
  vmtest list                                  what there is
  vmtest run -k kernel.json                    all tests in all topologies
  vmtest run -k kernel.json -t switch          one topology
  vmtest run -k ~/linux -t switch --test '*odirect*'
  vmtest demo -k kernel.json                   see P2PDMA at work
  vmtest shell -k kernel.json -t switch        look around in a guest
  vmtest exec -k kernel.json -t switch -- p2pdma show

Exit status: 0 all passed, 1 something failed, 2 could not run.";

const RUN_EXAMPLES: &str = "\
Examples:
  vmtest run -k kernel.json
  vmtest run -k kernel.json -t switch -t root-ports-intel
  vmtest run -k ~/linux --module-dir build/7.3.4 --test 'p2pdma_*'
  vmtest run -k kernel.json --jobs 1 --timeout-scale 4
  vmtest run -k kernel.json --repeat 10 --stress 4     what is flaky?
  vmtest run -k kernel.json --shard 2/3                a third of it, see `vmtest merge`

Standard output is KTAP, the topologies in the order in which they end, and then the line
\"N passed, N failed, N skipped\". The results directory gets <topology>.ktap,
<topology>.console.log, summary.json, junit.xml and costs.toml.

Ctrl-C ends the guests. That line then counts what was over, another one after it says how much
that is, and there is no summary.json.

Exit status: 0 all passed, 1 something failed or was flaky, 2 could not run, or not to its end.";

const MERGE_EXAMPLES: &str = "\
Examples:
  vmtest run -k kernel.json --results r --shard 1/2    on one machine
  vmtest run -k kernel.json --results r --shard 2/2    on another
  vmtest merge -o r r/shard-1-of-2 r/shard-2-of-2

Exit status: 0 all passed, 1 something failed, 2 there is no whole run in it.";

const COMPARE_EXAMPLES: &str = "\
Examples:
  vmtest compare build/results/7.3.4+deb13-amd64 build/results/7.3.4+deb13-amd64/whole
  vmtest compare --json before after | jq .different

Only tests that both runs have are compared; the others are named. Exit status: 0 all results are
the same, 1 some differ, 2 the runs have no test in common.";

const MATRIX_EXAMPLES: &str = "\
Examples:
  vmtest matrix build/results/* >Documentation/p2pdma/matrix.rst
  vmtest matrix --json build/results/7.3.4+deb13-amd64 | jq

Exit status: 0 the table was written, 2 there are no verdicts in the results.";

const DEVICES_EXAMPLES: &str = "\
Examples:
  mkdir media && vmtest devices -t switch --media media
  qemu-system-x86_64 $(vmtest devices -t switch --media media) -kernel bzImage -append console=ttyS0
  vng --qemu-opts=\"$(vmtest devices -t switch --media media)\" ...
  env $(vmtest devices -t switch --environment) ./p2pdma_odirect

Exit status: 0 if they were printed, 2 if there is no such topology.";

const EXEC_EXAMPLES: &str = "\
Examples:
  vmtest exec -k kernel.json -t switch -- p2pdma show --json | jq
  vmtest exec -k kernel.json -t root-ports-intel --timeout 60 -- p2pdma verify --only read

The program comes from the program directories. Exit status: 0 if its own is, 1 if not or if the
kernel warned, 2 could not run.";

const SHELL_EXAMPLES: &str = "\
Examples:
  vmtest shell -k kernel.json -t switch

`exit` powers the guest off, Ctrl-A X kills it.";

const DEMO_EXAMPLES: &str = "\
Examples:
  vmtest demo -k kernel.json
  vmtest demo -k kernel.json -t root-ports-intel

Exit status: 0 if all commands succeeded, 1 if not or if the kernel warned, 2 could not run.";

const LIST_EXAMPLES: &str = "\
Examples:
  vmtest list
  vmtest list --json | jq
  vmtest list --names --program p2pdma_odirect    the tests that run this program";

const SELFTEST_EXAMPLES: &str = "\
Examples:
  vmtest selftest -k kernel.json

Exit status: 0 if all that went wrong was reported, 1 if not, 2 could not run.";

/// Runs the P2PDMA tests in virtual machines, one per PCI topology.
#[derive(Debug, Parser)]
#[command(name = "vmtest", version, after_help = EXAMPLES)]
pub struct Cli {
    #[command(subcommand)]
    command: Action,
}

#[derive(Debug, Subcommand)]
enum Action {
    /// Run tests, KTAP on standard output.
    #[command(after_help = RUN_EXAMPLES)]
    Run(RunArgs),
    /// Make the results of one run from those of its shards.
    #[command(after_help = MERGE_EXAMPLES)]
    Merge(MergeArgs),
    /// Compare the results of two runs, one by one.
    #[command(after_help = COMPARE_EXAMPLES)]
    Compare(CompareArgs),
    /// Make a table of what P2PDMA made of all pairs of devices, from the results of runs.
    #[command(after_help = MATRIX_EXAMPLES)]
    Matrix(MatrixArgs),
    /// Boot one topology and show P2PDMA at work.
    #[command(after_help = DEMO_EXAMPLES)]
    Demo(DemoArgs),
    /// Boot one topology and run one command in it, with its output and nothing else, on standard
    /// output and standard error as the command has it.
    #[command(after_help = EXEC_EXAMPLES)]
    Exec(ExecArgs),
    /// Boot one topology and give a shell in it.
    #[command(after_help = SHELL_EXAMPLES)]
    Shell(ShellArgs),
    /// Print QEMU's options for the devices of a topology, for other runners of virtual machines.
    #[command(after_help = DEVICES_EXAMPLES)]
    Devices(DevicesArgs),
    /// List topologies and tests.
    #[command(after_help = LIST_EXAMPLES)]
    List(ListArgs),
    /// Check that the runner reports what goes wrong: boots guests that misbehave.
    #[command(after_help = SELFTEST_EXAMPLES)]
    Selftest(SelftestArgs),
}

#[derive(Debug, Args)]
struct SuiteArgs {
    /// Directory with tests.toml and topologies/
    #[arg(
        long,
        value_name = "DIR",
        default_value = "tools/testing/selftests/p2pdma"
    )]
    suite: PathBuf,
}

#[derive(Debug, Args)]
struct GuestArgs {
    /// Kernel: a kernel.json, a built kernel tree, or /lib/modules/<release>
    #[arg(short, long, value_name = "PATH", env = "P2PDMA_KERNEL")]
    kernel: PathBuf,
    /// The project's kernel modules, searched below it [default: build/<release>]
    #[arg(long, value_name = "DIR")]
    module_dir: Option<PathBuf>,
    /// Programs for the guest; may be repeated [default: build/<release>/kselftest/p2pdma, and
    /// always where this program is, if it runs on the architecture of the kernel]
    #[arg(long, value_name = "DIR")]
    bin_dir: Vec<PathBuf>,
    /// QEMU to run [default: qemu-system-<architecture of the kernel>]
    #[arg(long, value_name = "PROGRAM")]
    qemu: Option<PathBuf>,
    /// Multiply all time limits, for slow kernels or machines; where the kernel.json names a larger
    /// factor, that one counts [default: 1]
    #[arg(long, value_name = "FACTOR", env = "P2PDMA_TIMEOUT_SCALE", value_parser = parse_scale)]
    timeout_scale: Option<f64>,
}

#[derive(Debug, Args)]
struct RunArgs {
    /// Topology to run in; may be repeated [default: those that the kernel.json names, or all]
    #[arg(short, long, value_name = "NAME")]
    topology: Vec<String>,
    /// Tests to run, as a glob; may be repeated [default: all]
    #[arg(long, value_name = "GLOB")]
    test: Vec<String>,
    /// Where results go [default: build/results/<release>]
    #[arg(long, value_name = "DIR")]
    results: Option<PathBuf>,
    /// Guests to run side by side, as far as there is memory for them [default: three for
    /// two processors]
    #[arg(short, long, value_name = "N", value_parser = clap::value_parser!(u8).range(1..=64))]
    jobs: Option<u8>,
    /// Run everything N times, and name what did not end the same way each time
    #[arg(
        long,
        value_name = "N",
        default_value_t = 1,
        value_parser = clap::value_parser!(u8).range(1..=100)
    )]
    repeat: u8,
    /// Keep M threads of this machine busy meanwhile
    #[arg(
        long,
        value_name = "M",
        default_value_t = 0,
        value_parser = clap::value_parser!(u8).range(0..=64)
    )]
    stress: u8,
    /// Run the I-th of N parts of the whole, which take about as long as each other; results go to
    /// shard-I-of-N in the results directory
    #[arg(long, value_name = "I/N", value_parser = Part::parse)]
    shard: Option<Part>,
    #[command(flatten)]
    suite: SuiteArgs,
    #[command(flatten)]
    guest: GuestArgs,
}

#[derive(Debug, Args)]
struct MergeArgs {
    /// Where summary.json and junit.xml go
    #[arg(short, long, value_name = "DIR")]
    output: PathBuf,
    /// The results of all shards
    #[arg(required = true, value_name = "DIR")]
    shards: Vec<PathBuf>,
}

#[derive(Debug, Args)]
struct CompareArgs {
    /// Print JSON
    #[arg(long)]
    json: bool,
    /// A test that only one of them has is a difference as well
    #[arg(long)]
    same_tests: bool,
    /// The results of a run
    #[arg(value_name = "DIR")]
    first: PathBuf,
    /// Those of another one
    #[arg(value_name = "DIR")]
    second: PathBuf,
}

#[derive(Debug, Args)]
struct MatrixArgs {
    /// Print JSON, not a document for Sphinx
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    suite: SuiteArgs,
    /// The results of runs; those of one kernel in a topology are taken from the last of them
    #[arg(required = true, value_name = "DIR")]
    results: Vec<PathBuf>,
}

#[derive(Debug, Args)]
struct DemoArgs {
    /// Topology to boot [default: the one that tests.toml names]
    #[arg(short, long, value_name = "NAME")]
    topology: Option<String>,
    /// Where the console log goes [default: build/results/<release>]
    #[arg(long, value_name = "DIR")]
    results: Option<PathBuf>,
    #[command(flatten)]
    suite: SuiteArgs,
    #[command(flatten)]
    guest: GuestArgs,
}

#[derive(Debug, Args)]
struct ExecArgs {
    /// Topology to boot
    #[arg(short, long, value_name = "NAME")]
    topology: String,
    /// Further modules to load, as "name param=value"; may be repeated
    #[arg(long, value_name = "MODULE")]
    module: Vec<String>,
    /// Files of the root that the program needs; may be repeated
    #[arg(long, value_name = "PATH")]
    file: Vec<String>,
    /// Time limit in seconds, before it is multiplied
    #[arg(long, value_name = "SECONDS", default_value_t = 300)]
    #[arg(value_parser = clap::value_parser!(u64).range(1..=1_000_000))]
    timeout: u64,
    /// Where the console log goes [default: build/results/<release>]
    #[arg(long, value_name = "DIR")]
    results: Option<PathBuf>,
    #[command(flatten)]
    suite: SuiteArgs,
    #[command(flatten)]
    guest: GuestArgs,
    /// Program and its arguments
    #[arg(required = true, last = true, value_name = "COMMAND")]
    command: Vec<String>,
}

#[derive(Debug, Args)]
struct ShellArgs {
    /// Topology to boot [default: that of the demo]
    #[arg(short, long, value_name = "NAME")]
    topology: Option<String>,
    #[command(flatten)]
    suite: SuiteArgs,
    #[command(flatten)]
    guest: GuestArgs,
}

#[derive(Debug, Args)]
struct DevicesArgs {
    /// The topology
    #[arg(short, long, value_name = "NAME")]
    topology: String,
    /// Make blank media for the devices there
    #[arg(long, value_name = "DIR", required_unless_present = "environment")]
    media: Option<PathBuf>,
    /// Print what the tests are told of the topology instead: variables of the environment
    #[arg(long, conflicts_with = "media")]
    environment: bool,
    #[command(flatten)]
    suite: SuiteArgs,
}

#[derive(Debug, Args)]
struct ListArgs {
    /// Print JSON
    #[arg(long)]
    json: bool,
    /// Print names of tests only
    #[arg(long, conflicts_with = "json")]
    names: bool,
    /// Only tests that run this program; may be repeated
    #[arg(long, value_name = "NAME")]
    program: Vec<String>,
    #[command(flatten)]
    suite: SuiteArgs,
}

#[derive(Debug, Args)]
struct SelftestArgs {
    /// Where console logs go [default: build/results/<release>/selftest]
    #[arg(long, value_name = "DIR")]
    results: Option<PathBuf>,
    /// Directory with the misbehaving tests
    #[arg(long, value_name = "DIR", default_value = "tools/vmtest/selftest")]
    suite: PathBuf,
    #[command(flatten)]
    guest: GuestArgs,
}

/// What time limits are multiplied by: the user knows how slow the machine is, and the flavour how
/// slow the kernel; neither is to make a limit too short for the other.
fn scale(user: Option<f64>, kernel: Option<f64>) -> f64 {
    match (user, kernel) {
        (Some(user), Some(kernel)) => user.max(kernel),
        (user, kernel) => user.or(kernel).unwrap_or(1.0),
    }
}

/// Set by SIGINT and SIGTERM.
static INTERRUPTED: AtomicBool = AtomicBool::new(false);

impl SuiteArgs {
    fn read(directory: &Path) -> Result<(Suite, BTreeMap<String, Topology>)> {
        let suite = Suite::read(&directory.join("tests.toml")).with_context(|| {
            "no test suite; run in the top directory of the project, or say --suite"
        })?;
        let topologies = topology::read_all(&directory.join("topologies"))?;
        Ok((suite, topologies))
    }
}

impl GuestArgs {
    /// Where `load` threads want each processor.
    fn setup(&self, mut suite: Suite, load: f64) -> Result<Setup> {
        let kernel = Kernel::open(&self.kernel).with_context(|| "kernel")?;
        let scale = scale(self.timeout_scale, kernel.check.timeout_scale);
        suite.scale(scale * load);
        suite.mend(&kernel.check.fixed);
        let own = Path::new("build").join(&kernel.release);
        let module_dir = match &self.module_dir {
            Some(directory) if !directory.is_dir() => {
                bail!(
                    "{}: no such module directory; `make modules` builds the modules",
                    directory.display()
                )
            }
            Some(directory) => Some(directory.clone()),
            None => Some(own.clone()).filter(|directory| directory.is_dir()),
        };
        let mut bin_dirs = self.bin_dir.clone();
        if bin_dirs.is_empty() {
            bin_dirs.push(own.join("kselftest").join(&suite.collection));
        }
        let arch = kernel.arch;
        let qemu = self.qemu.clone();
        let qemu = qemu.unwrap_or_else(|| arch.names().qemu.into());
        let here = std::env::current_exe()?;
        // What runs here does not run there.
        if let Some(directory) = here.parent().filter(|_| arch.is_host()) {
            bin_dirs.push(directory.into());
        }
        use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
        for signal in [SIGINT, SIGTERM] {
            watch_signal(signal)?;
        }
        // Under nohup it is ignored, and stays so.
        let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
        if !ignores(&status, SIGHUP) {
            watch_signal(SIGHUP)?;
        }
        Ok(Setup {
            unpacked: image::unpacked(&kernel.image)?,
            kernel,
            suite,
            module_dir,
            bin_dirs,
            root: Root::of(arch),
            qemu,
            scale,
            load,
            interrupted: &INTERRUPTED,
            has_run: AtomicBool::new(false),
        })
    }
}

/// Whether a process ignores a signal, according to its /proc/PID/status.
fn ignores(status: &str, signal: i32) -> bool {
    let mask = status
        .lines()
        .find_map(|line| line.strip_prefix("SigIgn:"))
        .and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok());
    mask.is_some_and(|mask| (mask >> (signal - 1)) & 1 != 0)
}

/// The first signal ends the guests in good order, one that comes later than a moment after it ends
/// the runner at once: make sends SIGTERM on to a group that has been sent it already.
fn watch_signal(signal: i32) -> Result<()> {
    let (first, later) = (
        Arc::new(AtomicBool::new(false)),
        Arc::new(AtomicBool::new(false)),
    );
    signal_hook::flag::register_conditional_shutdown(signal, 2, Arc::clone(&later))?;
    signal_hook::flag::register(signal, Arc::clone(&first))?;
    std::thread::Builder::new()
        .name("signals".into())
        .spawn(move || {
            while !first.load(Ordering::Relaxed) {
                std::thread::sleep(Duration::from_millis(50));
            }
            INTERRUPTED.store(true, Ordering::Relaxed);
            std::thread::sleep(Duration::from_secs(1));
            later.store(true, Ordering::Relaxed);
        })?;
    Ok(())
}

/// Where results go.
fn results(given: Option<&PathBuf>, setup: &Setup) -> PathBuf {
    given
        .cloned()
        .unwrap_or_else(|| Path::new("build/results").join(&setup.kernel.release))
}

impl Cli {
    /// Does what was asked for. `false` means that something failed.
    pub fn run(&self) -> Result<bool> {
        match &self.command {
            Action::Run(args) => args.run(),
            Action::Merge(args) => args.run(),
            Action::Compare(args) => args.run(),
            Action::Matrix(args) => args.run(),
            Action::Demo(args) => args.run(),
            Action::Exec(args) => args.run(),
            Action::Shell(args) => args.run(),
            Action::Devices(args) => args.run(),
            Action::List(args) => args.run(),
            Action::Selftest(args) => args.run(),
        }
    }
}

impl RunArgs {
    fn run(&self) -> Result<bool> {
        let (suite, topologies) = SuiteArgs::read(&self.suite.suite)?;
        let globs = self
            .test
            .iter()
            .map(|glob| Pattern::new(glob).with_context(|| format!("--test {glob}")))
            .collect::<Result<Vec<_>>>()?;
        let room = Room::of_machine(self.jobs.map(usize::from));
        let load = room.load(usize::from(self.stress));
        let setup = self.guest.setup(suite, load)?;
        for (glob, text) in globs.iter().zip(&self.test) {
            if !setup
                .suite
                .tests
                .iter()
                .any(|test| glob.matches(&test.name))
            {
                bail!("--test {text}: there is no such test; `vmtest list` names them");
            }
        }
        let topologies = topology::on(&topologies, setup.kernel.arch);
        let names = match self.topology.as_slice() {
            [] => &setup.kernel.check.topologies,
            names => names,
        };
        let picked = topology::pick(&topologies, names)?;
        let work: Vec<(&Topology, Vec<&Test>)> = picked
            .into_iter()
            .map(|topology| (topology, setup.suite.select(topology, &globs)))
            .map(|(topology, mut tests)| {
                tests.retain(|test| test.is_for(&setup.kernel.flavour));
                (topology, tests)
            })
            .filter(|(_, tests)| !tests.is_empty())
            .collect();
        if work.is_empty() {
            let names: Vec<&str> = setup.suite.tests.iter().map(|test| &*test.name).collect();
            bail!("no test is selected; there are: {}", names.join(", "));
        }
        let mut directory = results(self.results.as_ref(), &setup);
        if let Some(Part { number, of }) = self.shard {
            directory.push(format!("shard-{number}-of-{of}"));
        }
        // Whatever ends this run, what an earlier one has left is not taken for it.
        let _lock = lock_results(&directory)?;
        remove_results(&directory, topologies.keys())?;
        setup.check(&work)?;
        let costs = Costs::read(&self.suite.suite)?;
        let shard = self.shard.unwrap_or(Part::WHOLE);
        let rounds = usize::from(self.repeat);
        let units = schedule::plan(&work, &costs, shard, rounds, room.jobs);
        let planned = self.shard.map(|_| schedule::tests(&work));
        let ui = Ui::new();
        ui.note(&format!(
            "vmtest: kernel {} ({}), {} guests{}, {} at a time; time limits are multiplied by \
             {:.1}",
            setup.kernel.release,
            setup.kernel.flavour,
            units.len(),
            self.shard.map_or(String::new(), |shard| {
                format!(" of shard {}", String::from(shard))
            }),
            room.jobs.min(units.len()),
            setup.scale * setup.load,
        ));
        ui.line("KTAP version 1")?;
        ui.line(&format!("1..{}", units.len()))?;
        let stress = Stress::start(usize::from(self.stress));
        let mut rounds = vec![Vec::new(); rounds];
        let whole = self.run_all(&setup, &units, room, &directory, &ui, &mut rounds);
        drop(stress);
        ui.clear();
        if let Err(error) = whole {
            // What ended it counts, not that nobody reads the rest.
            let _ = conclude_early(&rounds, units.len(), &directory, &ui);
            return Err(error);
        }
        let rounds: Vec<_> = rounds.into_iter().map(schedule::join).collect();

        let flaky = flaky(&rounds);
        for (number, topologies) in rounds.iter().enumerate() {
            let summary = Summary {
                planned: planned.clone(),
                ..Summary::new(
                    &setup.kernel.flavour,
                    &setup.kernel.release,
                    setup.kernel.arch,
                    self.shard,
                    topologies.clone(),
                )
            };
            write_summaries(&in_round(&directory, number + 1), &summary)?;
        }
        let mut costs = costs;
        costs.update(&rounds[0]);
        let tests = &setup.suite.tests;
        costs.retain(|topology, test| {
            topologies.contains_key(topology) && tests.iter().any(|known| known.name == test)
        });
        let path = directory.join(schedule::COSTS);
        create(&path)?
            .write_all(costs.to_toml()?.as_bytes())
            .with_context(|| path.display().to_string())?;
        ui.note(&format!("vmtest: results are in {}", directory.display()));
        let all = rounds.concat();
        conclude(&all, &flaky, rounds.len(), &ui)
    }

    /// Runs all guests, and puts what came of each into its round; what is there is true even if an
    /// error ends it.
    fn run_all(
        &self,
        setup: &Setup,
        units: &[Unit<'_>],
        room: Room,
        directory: &Path,
        ui: &Ui,
        rounds: &mut [Vec<TopologyReport>],
    ) -> Result<()> {
        let side_by_side = room.jobs > 1 && units.len() > 1;
        let one = |unit: &Unit<'_>| -> Result<(TopologyReport, Vec<String>)> {
            let name = unit.name();
            let directory = in_round(directory, unit.round);
            let file = |suffix: &str| directory.join(format!("{name}.{suffix}"));
            let live = if side_by_side {
                Live::Buffer(Vec::new())
            } else {
                Live::Stream(ui.clone())
            };
            let mut sink = KtapSink::new(
                &setup.suite.collection,
                &name,
                file("ktap"),
                unit.tests.len(),
                ui,
                live,
            )?;
            let mut report = setup.run(
                unit.topology,
                &unit.tests,
                &Extra::default(),
                &file("console.log"),
                &mut sink,
            )?;
            report.part = unit.part;
            ui.note(&format!(
                "vmtest: {name}: {:.1} s, of which {:.1} s to the first test{}{}",
                report.seconds,
                report.boot_seconds,
                if report.boots > 1 {
                    format!("; booted {} times", report.boots)
                } else {
                    String::new()
                },
                if report.failed() { "; FAILED" } else { "" }
            ));
            Ok((report, sink.buffered()))
        };
        let mut number = 0;
        // Whichever is over is printed, as a whole.
        let done = |unit: &Unit<'_>, (report, lines): (TopologyReport, Vec<String>)| {
            for line in lines {
                ui.line(&line)?;
            }
            number += 1;
            let ok = if report.failed() { "not ok" } else { "ok" };
            ui.line(&format!("{ok} {number} {}", unit.name()))?;
            rounds[unit.round - 1].push(report);
            Ok(())
        };
        schedule::side_by_side(units, room, &one, done)
    }
}

/// Keeps other runs from writing to the same place until it is dropped.
fn lock_results(directory: &Path) -> Result<fs::File> {
    let path = directory.join("lock");
    let file = create(&path)?;
    match rustix::fs::flock(&file, FlockOperation::NonBlockingLockExclusive) {
        Ok(()) => Ok(file),
        Err(Errno::WOULDBLOCK) => bail!(
            "another run writes its results to {}; wait for it, or name another directory with \
             --results",
            directory.display()
        ),
        Err(error) => Err(error).with_context(|| path.display().to_string()),
    }
}

/// Removes what an earlier run has written there, of any of these topologies and of the whole.
fn remove_results<'a>(
    directory: &Path,
    topologies: impl Iterator<Item = &'a String>,
) -> Result<()> {
    let topologies: BTreeSet<&str> = topologies.map(String::as_str).collect();
    let mine = |name: &str| {
        let of_topology = [".ktap", ".console.log"]
            .iter()
            .find_map(|suffix| name.strip_suffix(suffix))
            .and_then(|unit| unit.split('.').next());
        of_topology.is_some_and(|topology| topologies.contains(topology))
            || results::SUMMARIES.contains(&name)
    };
    for round in 1..=100 {
        let directory = in_round(directory, round);
        let Ok(entries) = fs::read_dir(&directory) else {
            continue;
        };
        for entry in entries {
            let entry = entry.with_context(|| directory.display().to_string())?;
            if entry.file_name().to_str().is_some_and(mine) {
                fs::remove_file(entry.path())
                    .with_context(|| entry.path().display().to_string())?;
            }
        }
    }
    Ok(())
}

/// Where the results of a round go.
fn in_round(directory: &Path, round: usize) -> PathBuf {
    match round {
        1 => directory.into(),
        _ => directory.join(format!("round-{round}")),
    }
}

/// Says what came of it. `true` if nothing failed, and nothing was flaky.
fn conclude(
    topologies: &[TopologyReport],
    flaky: &[Flaky],
    rounds: usize,
    ui: &Ui,
) -> Result<bool> {
    let cases = topologies.iter().flat_map(TopologyReport::cases);
    let totals = Totals::of(cases.map(|(_, case)| case));
    let mut lines = closing_lines(topologies, totals);
    let at = lines.len().saturating_sub(1);
    let found = flaky.iter().map(|flaky| format!("# FLAKY: {flaky}"));
    let count = (rounds > 1).then(|| format!("# {rounds} rounds, {} flaky", flaky.len()));
    lines.splice(at..at, found.chain(count));
    for line in lines {
        ui.line(&line)?;
    }
    Ok(flaky.is_empty() && !topologies.iter().any(TopologyReport::failed))
}

/// Says what came of the guests that were over when an error, or a signal, ended the run: hours may
/// be in them.
fn conclude_early(
    rounds: &[Vec<TopologyReport>],
    planned: usize,
    directory: &Path,
    ui: &Ui,
) -> Result<()> {
    let over: usize = rounds.iter().map(Vec::len).sum();
    if over == 0 {
        return Ok(());
    }
    ui.note(&format!(
        "vmtest: what the guests have shown that had to end is in {}",
        directory.display()
    ));
    let whole = whole_rounds(rounds, planned / rounds.len());
    let all: Vec<_> = rounds.iter().cloned().flat_map(schedule::join).collect();
    conclude(&all, &flaky(&whole), whole.len(), ui)?;
    ui.line(&format!(
        "# only {over} of {planned} guests were run to their end, {} of {} rounds",
        whole.len(),
        rounds.len()
    ))
}

/// Threads that keep processors busy.
struct Stress {
    over: Arc<AtomicBool>,
    threads: Vec<std::thread::JoinHandle<()>>,
}

impl Stress {
    fn start(threads: usize) -> Self {
        let over = Arc::new(AtomicBool::new(false));
        let busy = |_| {
            let over = Arc::clone(&over);
            std::thread::spawn(move || {
                while !over.load(Ordering::Relaxed) {
                    std::hint::spin_loop();
                }
            })
        };
        Self {
            threads: (0..threads).map(busy).collect(),
            over,
        }
    }
}

impl Drop for Stress {
    fn drop(&mut self) {
        self.over.store(true, Ordering::Relaxed);
        for thread in self.threads.drain(..) {
            // It does nothing that could fail.
            let _ = thread.join();
        }
    }
}

impl DevicesArgs {
    fn run(&self) -> Result<bool> {
        let (_, topologies) = SuiteArgs::read(&self.suite.suite)?;
        let topologies = topology::on(&topologies, Arch::HOST);
        let topology = topology::pick(&topologies, std::slice::from_ref(&self.topology))?[0];
        let words = match &self.media {
            Some(media) => {
                let mut words = vec!["-machine".to_owned(), topology.machine.clone()];
                words.extend(qemu::devices(topology, media)?);
                words
            }
            None => {
                let variables = topology.environment().into_iter();
                variables
                    .map(|(name, value)| format!("{name}={value}"))
                    .collect()
            }
        };
        writeln!(std::io::stdout(), "{}", qemu::quoted(words.iter()))
            .context("cannot write the options")?;
        let ui = Ui::new();
        for need in topology.needs() {
            ui.note(&format!("vmtest: {} also needs {need}", topology.name));
        }
        Ok(true)
    }
}

impl CompareArgs {
    fn run(&self) -> Result<bool> {
        let found = compare(&Summary::read(&self.first)?, &Summary::read(&self.second)?);
        if found.compared == 0 {
            bail!(
                "{} and {} have no test in common",
                self.first.display(),
                self.second.display()
            );
        }
        let mut text = String::new();
        if self.json {
            text = serde_json::to_string_pretty(&found)? + "\n";
        } else {
            for difference in &found.different {
                text += &format!("{difference}\n");
            }
            for (dir, tests) in [
                (&self.first, &found.only_first),
                (&self.second, &found.only_second),
            ] {
                for test in tests {
                    text += &format!("only in {}: {test}\n", dir.display());
                }
            }
            let (compared, different) = (found.compared, found.different.len());
            text += &format!("{compared} results compared, {different} differ\n");
        }
        std::io::stdout()
            .write_all(text.as_bytes())
            .context("cannot write what differs")?;
        Ok(found.different.is_empty() && (found.same_tests() || !self.same_tests))
    }
}

impl MatrixArgs {
    fn run(&self) -> Result<bool> {
        let (_, topologies) = SuiteArgs::read(&self.suite.suite)?;
        let summaries = self
            .results
            .iter()
            .map(|directory| Summary::read(directory))
            .collect::<Result<Vec<_>>>()?;
        let rows = matrix::rows(&summaries, &topologies)?;
        let text = match self.json {
            true => serde_json::to_string_pretty(&rows)? + "\n",
            false => matrix::to_rst(&rows, &summaries),
        };
        std::io::stdout()
            .write_all(text.as_bytes())
            .context("cannot write the table")?;
        Ok(true)
    }
}

impl MergeArgs {
    fn run(&self) -> Result<bool> {
        // Whatever is wrong with these, what was merged before is not taken for them.
        for name in results::SUMMARIES {
            let old = self.output.join(name);
            if !self.shards.contains(&self.output) && old.exists() {
                fs::remove_file(&old).with_context(|| old.display().to_string())?;
            }
        }
        let summaries = self
            .shards
            .iter()
            .map(|directory| Summary::read(directory))
            .collect::<Result<Vec<_>>>()?;
        let first = &summaries[0];
        let of = first.shard.map_or(0, |shard| shard.of);
        let mut missing: Vec<usize> = (1..=of).collect();
        for (directory, summary) in self.shards.iter().zip(&summaries) {
            let name = directory.display();
            if (&summary.flavour, &summary.release) != (&first.flavour, &first.release) {
                bail!(
                    "{name}: of kernel {}, not {}",
                    summary.release,
                    first.release
                );
            }
            let shard = summary
                .shard
                .filter(|shard| shard.of == of)
                .ok_or_else(|| match of {
                    0 => anyhow!("{name}: no shard; `vmtest run --shard I/N` writes one"),
                    _ => anyhow!("{name}: no shard of {of}, as {}", self.shards[0].display()),
                })?;
            if in_round(directory, 2).join(results::SUMMARIES[0]).is_file() {
                bail!(
                    "{name}: of a run with --repeat, whose rounds are not merged; its own last \
                     line counts them"
                );
            }
            if !missing.contains(&shard.number) {
                bail!("{name}: shard {} is there twice", String::from(shard));
            }
            missing.retain(|&number| number != shard.number);
        }
        if !missing.is_empty() {
            let numbers: Vec<String> = missing.iter().map(|n| format!("{n}/{of}")).collect();
            bail!("shards are missing: {}", numbers.join(", "));
        }
        let planned = first.planned.clone();
        for (directory, summary) in self.shards.iter().zip(&summaries) {
            if summary.planned != planned {
                bail!(
                    "{}: of a run with other tests than {}; make all shards from the same checkout",
                    directory.display(),
                    self.shards[0].display()
                );
            }
        }
        let (flavour, release) = (first.flavour.clone(), first.release.clone());
        let architecture = first.architecture;
        let reports = summaries.into_iter().flat_map(|summary| summary.topologies);
        let topologies = schedule::join(reports.collect());
        schedule::is_whole(&topologies, planned.unwrap_or_default())?;
        let summary = Summary::new(&flavour, &release, architecture, None, topologies);
        write_summaries(&self.output, &summary)?;
        let ui = Ui::new();
        ui.note(&format!("vmtest: results are in {}", self.output.display()));
        conclude(&summary.topologies, &[], 1, &ui)
    }
}

/// Prints what commands print, and nothing else.
struct PlainSink<'a> {
    ui: Ui,
    /// What stands above the output of each command, if anything.
    titles: Vec<&'a str>,
    commands: Vec<String>,
    next: usize,
    failed: Vec<String>,
}

impl Sink for PlainSink<'_> {
    fn stage(&mut self, stage: &str) -> Result<()> {
        self.ui.progress(stage.into());
        Ok(())
    }

    fn started(&mut self, _test: &Test) -> Result<()> {
        let command = &self.commands[self.next];
        self.ui.progress(command.clone());
        if let Some(title) = self.titles.get(self.next) {
            if self.next > 0 {
                self.ui.line("")?;
            }
            self.ui.line(&format!("# {title}"))?;
            self.ui.line(&format!("$ {command}"))?;
        }
        self.next += 1;
        Ok(())
    }

    fn output(&mut self, line: &str, err: bool) -> Result<()> {
        if err {
            self.ui.note(line);
            return Ok(());
        }
        self.ui.line(line)
    }

    fn finished(&mut self, report: &TestReport) -> Result<()> {
        if report.status == Status::Pass {
            return Ok(());
        }
        let name = if report.name == KERNEL_LOG {
            "the kernel's log"
        } else {
            &self.commands[self.next - 1]
        };
        for line in &report.diagnostics {
            self.ui.note(line);
        }
        // A command that is no kselftest has statuses of its own.
        let reason = match report.status {
            Status::Xfail => "exit=2",
            Status::Skip => "exit=4",
            _ => &report.reason,
        };
        self.failed.push(format!("{name}: {reason}"));
        Ok(())
    }
}

impl PlainSink<'_> {
    /// Says what failed. `true` if nothing did.
    fn conclude(&self) -> bool {
        for failed in &self.failed {
            self.ui.note(&format!("vmtest: FAILED: {failed}"));
        }
        self.failed.is_empty()
    }
}

impl ExecArgs {
    fn run(&self) -> Result<bool> {
        let (suite, topologies) = SuiteArgs::read(&self.suite.suite)?;
        let setup = self.guest.setup(suite, Room::of_machine(Some(1)).load(0))?;
        let topologies = topology::on(&topologies, setup.kernel.arch);
        let topology = topology::pick(&topologies, &[self.topology.clone()])?[0];
        let test = Test {
            name: self.command[0].clone(),
            args: self.command[1..].to_vec(),
            timeout: Some(scaled(self.timeout, setup.scale * setup.load)),
            files: self.file.clone(),
            separate: true,
            // It is what somebody wants to have, whole.
            output: Some(u32::MAX),
            ..Test::default()
        };
        let ui = Ui::new();
        let mut sink = PlainSink {
            ui: ui.clone(),
            titles: Vec::new(),
            commands: vec![self.command.join(" ")],
            next: 0,
            failed: Vec::new(),
        };
        let extra = Extra {
            modules: self.module.clone(),
            ..Extra::default()
        };
        let log = results(self.results.as_ref(), &setup).join("exec.console.log");
        let report = setup.run(topology, &[&test], &extra, &log, &mut sink);
        ui.clear();
        report?;
        Ok(sink.conclude())
    }
}

impl DemoArgs {
    fn run(&self) -> Result<bool> {
        let (suite, topologies) = SuiteArgs::read(&self.suite.suite)?;
        let setup = self.guest.setup(suite, Room::of_machine(Some(1)).load(0))?;
        let topologies = topology::on(&topologies, setup.kernel.arch);
        let demo = setup
            .suite
            .demo
            .as_ref()
            .ok_or_else(|| anyhow!("tests.toml has no [demo]"))?;
        let name = self.topology.as_ref().unwrap_or(&demo.topology).clone();
        let topology = topology::pick(&topologies, &[name])?[0];
        let tests =
            demo.commands
                .iter()
                .enumerate()
                .map(|(number, command)| {
                    let (program, args) = command.run.split_first().ok_or_else(|| {
                        anyhow!("tests.toml: [demo]: a command without a program")
                    })?;
                    Ok(Test {
                        name: format!("demo-{number}"),
                        program: Some(program.clone()),
                        args: args.to_vec(),
                        timeout: command.timeout,
                        ..Test::default()
                    })
                })
                .collect::<Result<Vec<_>>>()?;
        let ui = Ui::new();
        let mut sink = PlainSink {
            ui: ui.clone(),
            titles: demo
                .commands
                .iter()
                .map(|command| &*command.title)
                .collect(),
            commands: demo
                .commands
                .iter()
                .map(|command| command.run.join(" "))
                .collect(),
            next: 0,
            failed: Vec::new(),
        };
        let log = results(self.results.as_ref(), &setup).join("demo.console.log");
        let start = Instant::now();
        let report = setup.run(
            topology,
            &tests.iter().collect::<Vec<_>>(),
            &Extra {
                files: demo.files.clone(),
                ..Extra::default()
            },
            &log,
            &mut sink,
        );
        ui.clear();
        let report = report?;
        ui.note(&format!(
            "vmtest: {} on kernel {}: {:.1} s in all, {:.1} s to the first command; console log: \
             {}",
            topology.name,
            setup.kernel.release,
            start.elapsed().as_secs_f64(),
            report.boot_seconds,
            log.display()
        ));
        Ok(sink.conclude())
    }
}

impl ShellArgs {
    fn run(&self) -> Result<bool> {
        // QEMU would go on at the end of its input, and nobody could end the guest.
        if !std::io::stdin().is_terminal() {
            bail!("a shell needs a terminal as its input; `vmtest exec` runs one command instead");
        }
        let (suite, topologies) = SuiteArgs::read(&self.suite.suite)?;
        let demo = suite.demo.as_ref().map(|demo| &demo.topology);
        let name = self
            .topology
            .as_ref()
            .or(demo)
            .ok_or_else(|| anyhow!("which topology? --topology says it"))?
            .clone();
        let setup = self.guest.setup(suite, Room::of_machine(Some(1)).load(0))?;
        let topologies = topology::on(&topologies, setup.kernel.arch);
        let topology = topology::pick(&topologies, &[name])?[0];
        let mut tests = setup.suite.select(topology, &[]);
        // Whoever wants to look around is not stopped by what is not there.
        tests.retain(|test| {
            let missing = setup.check(&[(topology, vec![test])]).err();
            if let Some(error) = &missing {
                eprintln!("vmtest: without {}: {error:#}", test.name);
            }
            missing.is_none()
        });
        let mut files = setup.suite.shell.files.clone();
        files.push(BUSYBOX.into());
        let extra = Extra {
            programs: setup.suite.shell.programs.clone(),
            files,
            modules: Vec::new(),
        };
        let guest = setup.guest(topology, &tests, &extra)?;
        let size = rustix::termios::tcgetwinsize(std::io::stdout());
        let (rows, columns) = size.map_or((0, 0), |size| (size.ws_row, size.ws_col));
        let mut env = setup.environment(topology);
        if let Ok(term) = std::env::var("TERM") {
            env.insert("TERM".into(), term);
        }
        env.insert("PS1".into(), format!("{}:\\w# ", topology.name));
        let mode = Mode::Shell { rows, columns, env };
        let plan = setup.plan(&guest, topology, mode);
        let directory = tempfile::Builder::new().prefix("vmtest-").tempdir()?;
        let initramfs = directory.path().join("initramfs");
        setup.write_initramfs(&guest, &plan, &initramfs)?;
        let mut command: Command = qemu::command(
            &setup.qemu,
            topology,
            &setup.kernel,
            setup.image(topology),
            &initramfs,
            directory.path(),
            &Wiring::Terminal,
        )?;
        eprintln!(
            "vmtest: {} on kernel {}; `exit` powers off, Ctrl-A X kills",
            topology.name, setup.kernel.release
        );
        let status = command
            .status()
            .with_context(|| format!("{} does not start", setup.qemu.display()))?;
        if !status.success() {
            bail!("QEMU ended with {status}");
        }
        Ok(true)
    }
}

#[derive(Serialize)]
struct Listing<'a> {
    topologies: Vec<&'a Topology>,
    tests: &'a [Test],
}

impl ListArgs {
    fn run(&self) -> Result<bool> {
        let (mut suite, topologies) = SuiteArgs::read(&self.suite.suite)?;
        let ui = Ui::new();
        for program in &self.program {
            if !suite.tests.iter().any(|test| test.program() == program) {
                bail!("no test runs the program {program}");
            }
        }
        suite.tests.retain(|test| {
            self.program.is_empty() || self.program.iter().any(|name| name == test.program())
        });
        if self.names {
            return suite
                .tests
                .iter()
                .try_for_each(|test| ui.line(&test.name))
                .map(|()| true);
        }
        if self.json {
            let listing = Listing {
                topologies: topologies.values().collect(),
                tests: &suite.tests,
            };
            ui.line(&serde_json::to_string_pretty(&listing)?)?;
            return Ok(true);
        }
        ui.line("Topologies")?;
        let rows = topologies.values().map(|topology| {
            let mut notes: Vec<&str> = match &*topology.architectures {
                [Arch::X86_64] => Vec::new(),
                others => others.iter().map(|arch| arch.names().kernel).collect(),
            };
            if topology.on_request {
                notes.push("on request");
            }
            let mut text = topology.description.clone();
            if !notes.is_empty() {
                text += &format!(" ({})", notes.join(", "));
            }
            (&*topology.name, text)
        });
        table(&ui, rows.collect())?;
        ui.line("")?;
        ui.line("Tests")?;
        let rows = suite.tests.iter().map(|test| {
            let everywhere = test.topologies == ["*"];
            let place = if everywhere {
                "all topologies".into()
            } else {
                test.topologies.join(" ")
            };
            let limit = format!("{} s, {place}", test.timeout());
            (&*test.name, format!("{} ({limit})", test.description))
        });
        table(&ui, rows.collect())?;
        Ok(true)
    }
}

fn table(ui: &Ui, rows: Vec<(&str, String)>) -> Result<()> {
    let width = rows.iter().map(|(name, _)| name.len()).max().unwrap_or(0);
    for (name, text) in rows {
        ui.line(format!("  {name:width$}  {text}").trim_end())?;
    }
    Ok(())
}

impl SelftestArgs {
    fn run(&self) -> Result<bool> {
        let (suite, topologies) = SuiteArgs::read(&self.suite)?;
        let setup = self.guest.setup(suite, Room::of_machine(Some(1)).load(0))?;
        let topologies = topology::on(&topologies, setup.kernel.arch);
        let directory = match &self.results {
            Some(directory) => directory.clone(),
            None => results(None, &setup).join("selftest"),
        };
        selftest::run(&setup, &topologies, &directory, &Ui::new())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    #[test]
    fn the_command_line_is_sound() {
        Cli::command().debug_assert();
    }

    #[test]
    fn ignored_signals_are_known() {
        let status = "Name:\tvmtest\nSigIgn:\t0000000000001001\nSigCgt:\t0000000000000002\n";
        assert!(ignores(status, 1) && ignores(status, 13));
        assert!(!ignores(status, 2) && !ignores("", 1));
    }

    #[test]
    fn the_larger_scale_counts() {
        assert_eq!(scale(None, None), 1.0);
        assert_eq!(scale(Some(0.5), None), 0.5);
        assert_eq!(scale(None, Some(10.0)), 10.0);
        assert_eq!(scale(Some(4.0), Some(10.0)), 10.0);
        assert_eq!(scale(Some(20.0), Some(10.0)), 20.0);
    }
}
