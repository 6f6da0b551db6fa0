// SPDX-License-Identifier: GPL-2.0

//! Changes the kernel's P2PDMA code in many ways, each for itself, and looks whether the tests
//! notice: what they do not notice, they do not test.

#![forbid(unsafe_code)]

mod assertions;
mod derive;
mod judge;
mod list;
mod report;
mod select;
mod weave;

use std::fs::{self, OpenOptions};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::Mutex;

use anyhow::{anyhow, bail, Context, Result};
use clap::{Args, Parser, Subcommand};
use p2pdma_common::Manifest;
use serde::de::DeserializeOwned;

use assertions::Noticed;
use judge::{Judge, Judgement, Stages, Verdict};
use list::{Mutant, Targets};
use report::{Known, Report};
use select::Selection;

const EXAMPLES: &str = "\
Examples:
  make mutants                               all of it: derive, compile, run, report
  make mutants SHARD=2/3                     a third of the mutants
  make mutants FILE=drivers/pci/p2pdma.c     those of one file
  p2pdma-mutants derive -k kernel.json       write build/mutants/mutants.json and mutants.patch
  p2pdma-mutants run -k kernel.json --only 'pci_bridge_has_acs_redir'
  make mutants AGAIN=survived                those that survived once more, and the rest
  p2pdma-mutants report                      what is known so far
  p2pdma-mutants report --record 2026-12-31  for the table of assertions
  p2pdma-mutants assertions                  write that table
  p2pdma-mutants assertions --record         after a break was put into testing.rst
  p2pdma-mutants show 17                     what number 17 changes, and what became of it

Exit status: 0 all that were run were noticed, 1 some survived, 2 could not run.";

/// Programs that check nothing: one that tells what the others have run.
const NOT_A_TEST: &[&str] = &["p2pdma_gcov"];

/// Changes the kernel's P2PDMA code in many ways, and looks whether the tests notice.
#[derive(Parser)]
#[command(name = "p2pdma-mutants", version, after_help = EXAMPLES)]
struct Cli {
    #[command(subcommand)]
    command: Action,
    /// Where the list, the patch and the results are
    #[arg(
        long,
        value_name = "DIR",
        default_value = "build/mutants",
        global = true
    )]
    dir: PathBuf,
}

#[derive(Subcommand)]
enum Action {
    /// Derive mutants from a kernel's source, and write the list and a patch that has them all.
    Derive {
        /// The kernel that they are derived from, and tried on: its kernel.json
        #[arg(short, long, value_name = "PATH")]
        kernel: PathBuf,
    },
    /// Run the tests on mutants; goes on where an earlier run ended.
    Run(RunArgs),
    /// Tell what became of them.
    Report {
        /// Print JSON
        #[arg(long)]
        json: bool,
        /// Also write how many each test noticed first to noticed.toml of this program's source,
        /// with this day
        #[arg(long, value_name = "DATE")]
        record: Option<String>,
        /// The kernel that was run, for --record
        #[arg(
            short,
            long,
            value_name = "PATH",
            default_value = "build/kernel/mutants"
        )]
        kernel: PathBuf,
    },
    /// Write Documentation/p2pdma/assertions.rst: how many assertions each test program makes,
    /// what it was seen to find, and when
    Assertions {
        /// First ask git when each row of testing.rst was written, and write that to
        /// recorded.toml of this program's source
        #[arg(long)]
        record: bool,
    },
    /// Show mutants: what is changed, and what became of it.
    Show {
        /// Numbers, or parts of names
        #[arg(required = true, value_name = "MUTANT")]
        which: Vec<String>,
    },
}

#[derive(Args)]
struct RunArgs {
    /// The kernel with the patch: its kernel.json
    #[arg(short, long, value_name = "PATH")]
    kernel: PathBuf,
    #[command(flatten)]
    which: Selection,
    /// How mutants are judged [default: stages.toml of this program's source]
    #[arg(long, value_name = "FILE")]
    stages: Option<PathBuf>,
    /// Guests to run side by side
    #[arg(short, long, value_name = "N", default_value_t = 1)]
    #[arg(value_parser = clap::value_parser!(u8).range(1..=64))]
    jobs: u8,
    /// End after so many minutes, the mutants under way included
    #[arg(long, value_name = "MINUTES")]
    minutes: Option<u64>,
    /// For vmtest: directories of modules and programs
    #[arg(last = true, value_name = "VMTEST-ARGUMENT")]
    vmtest: Vec<String>,
}

fn main() -> ExitCode {
    match run(&Cli::parse()) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::from(1),
        Err(error) => {
            eprintln!("mutants: {error:#}");
            ExitCode::from(2)
        }
    }
}

fn read_toml<T: DeserializeOwned>(path: &Path) -> Result<T> {
    let text =
        fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))?;
    toml::from_str(&text).with_context(|| path.display().to_string())
}

fn read_kernel(path: &Path) -> Result<Manifest> {
    let path = if path.is_dir() {
        path.join("kernel.json")
    } else {
        path.to_owned()
    };
    let text =
        fs::read_to_string(&path).with_context(|| format!("cannot read {}", path.display()))?;
    serde_json::from_str(&text).with_context(|| path.display().to_string())
}

/// A data file of this program's.
fn data(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("data")
        .join(name)
}

/// What is known of mutants without running them.
fn read_known(mutants: &[Mutant]) -> Result<Known> {
    let known = Known {
        equivalent: read_toml(&data("equivalent.toml"))?,
        elsewhere: read_toml(&data("elsewhere.toml"))?,
    };
    known.check(mutants)?;
    Ok(known)
}

/// The files in the directory of the results.
struct Files<'a>(&'a Path);

impl Files<'_> {
    fn list(&self) -> PathBuf {
        self.0.join("mutants.json")
    }

    fn patch(&self) -> PathBuf {
        self.0.join("mutants.patch")
    }

    fn results(&self) -> PathBuf {
        self.0.join("results.jsonl")
    }

    fn mutants(&self) -> Result<Vec<Mutant>> {
        let path = self.list();
        let text = fs::read_to_string(&path).with_context(|| {
            format!(
                "cannot read {}; `p2pdma-mutants derive` writes it",
                path.display()
            )
        })?;
        serde_json::from_str(&text).with_context(|| path.display().to_string())
    }

    fn judgements(&self) -> Result<Vec<Judgement>> {
        let path = self.results();
        if !path.exists() {
            return Ok(Vec::new());
        }
        let text = fs::read_to_string(&path)?;
        let lines = text.lines().filter(|line| !line.is_empty());
        lines
            .map(|line| serde_json::from_str(line).with_context(|| path.display().to_string()))
            .collect()
    }
}

/// Does what was asked for. `false` means that mutants survived.
fn run(cli: &Cli) -> Result<bool> {
    let files = Files(&cli.dir);
    match &cli.command {
        Action::Derive { kernel } => {
            fs::create_dir_all(&cli.dir)
                .with_context(|| format!("cannot create {}", cli.dir.display()))?;
            let targets: Targets = read_toml(&data("targets.toml"))?;
            let work = cli.dir.canonicalize()?.join("trial");
            let (mutants, patch) = list::derive(&targets, &read_kernel(kernel)?, &work)?;
            fs::write(files.list(), serde_json::to_vec_pretty(&mutants)?)?;
            // The kernel is compiled anew if it changes; it does not if it is the same.
            fs::write(files.patch(), patch)?;
            let broken = mutants
                .iter()
                .filter(|mutant| mutant.error.is_some())
                .count();
            eprintln!(
                "mutants: {} mutants, {broken} of which do not compile",
                mutants.len()
            );
            Ok(true)
        }
        Action::Run(args) => args.run(&files),
        Action::Assertions { record } => {
            let documentation = Path::new("Documentation/p2pdma");
            let testing = documentation.join("testing.rst");
            if *record {
                let head = "# SPDX-License-Identifier: GPL-2.0\n#\n# Written by `p2pdma-mutants \
                            assertions --record`: the newest break of each test.\n\n";
                let recorded = toml::to_string(&assertions::recorded(&testing)?)?;
                fs::write(data("recorded.toml"), head.to_owned() + &recorded)?;
            }
            let table = assertions::table(
                Path::new("tools/testing/selftests/p2pdma"),
                &testing,
                &read_toml(&data("noticed.toml"))?,
                &read_toml(&data("recorded.toml"))?,
                NOT_A_TEST,
            )?;
            fs::write(documentation.join("assertions.rst"), table)?;
            Ok(true)
        }
        Action::Report {
            json,
            record,
            kernel,
        } => {
            let (mutants, judgements) = (files.mutants()?, files.judgements()?);
            let known = read_known(&mutants)?;
            let report = Report::new(&mutants, &judgements, &known);
            if let Some(date) = record {
                let noticed = Noticed {
                    date: date.clone(),
                    kernel: read_kernel(kernel)?.release,
                    tests: report.noticed(),
                };
                let head = "# SPDX-License-Identifier: GPL-2.0\n#\n# Written by `p2pdma-mutants \
                            report --record`: the mutants that each test noticed first.\n\n";
                fs::write(
                    data("noticed.toml"),
                    head.to_owned() + &toml::to_string(&noticed)?,
                )?;
            }
            let text = if *json {
                serde_json::to_string_pretty(&report)?
            } else {
                report.text()
            };
            writeln!(std::io::stdout(), "{}", text.trim_end())?;
            Ok(report.is_good())
        }
        Action::Show { which } => show(&files, which),
    }
}

fn show(files: &Files<'_>, which: &[String]) -> Result<bool> {
    let (mutants, judgements) = (files.mutants()?, files.judgements()?);
    let mut out = std::io::stdout().lock();
    let mut shown = 0;
    for mutant in &mutants {
        let number = mutant.number.to_string();
        if !which
            .iter()
            .any(|which| *which == number || mutant.name.contains(&**which))
        {
            continue;
        }
        shown += 1;
        writeln!(
            out,
            "{number}: {}:{}: {}\n{}",
            mutant.file.display(),
            mutant.line,
            mutant.name,
            mutant.diff
        )?;
        if let Some(error) = &mutant.error {
            writeln!(out, "does not build: {error}")?;
        }
        for judgement in judgements.iter().filter(|one| one.name == mutant.name) {
            writeln!(
                out,
                "{:?} after {:.0} s: {}",
                judgement.verdict,
                judgement.seconds,
                judgement.by.join(", ")
            )?;
        }
    }
    if shown == 0 {
        bail!("no mutant is called that; `p2pdma-mutants report --json` lists them");
    }
    Ok(true)
}

/// Mutants that wait for a guest; the first error ends all.
struct Queue<'a> {
    mutants: Vec<&'a Mutant>,
    next: AtomicUsize,
    stop: AtomicBool,
}

impl<'a> Queue<'a> {
    fn next(&self) -> Option<(usize, &'a Mutant)> {
        if self.stop.load(Ordering::Relaxed) {
            return None;
        }
        let index = self.next.fetch_add(1, Ordering::Relaxed);
        Some((index, *self.mutants.get(index)?))
    }
}

impl RunArgs {
    fn run(&self, files: &Files<'_>) -> Result<bool> {
        let start = std::time::Instant::now();
        let mutants = files.mutants()?;
        let kernel = read_kernel(&self.kernel)?;
        let stages: Stages =
            read_toml(&self.stages.clone().unwrap_or_else(|| data("stages.toml")))?;
        let reasons = read_known(&mutants)?;
        let judgements = files.judgements()?;
        let queue = Queue {
            mutants: self.which.select(&mutants, &judgements, &reasons),
            next: AtomicUsize::new(0),
            stop: AtomicBool::new(false),
        };
        let vmtest = std::env::current_exe()?.with_file_name("vmtest");
        let judge = Judge::new(&kernel, &stages.stage, vmtest, &self.vmtest);
        eprintln!("mutants: {} to be run", queue.mutants.len());
        if queue.mutants.is_empty() {
            return Ok(true);
        }
        for index in 0..stages.stage.len() {
            let taken = judge.baseline(index)?;
            eprintln!(
                "mutants: stage {} of {}, {}: {:.1} s without a mutant",
                index + 1,
                stages.stage.len(),
                stages.stage[index].topology,
                taken.as_secs_f64()
            );
        }
        let results = OpenOptions::new()
            .create(true)
            .append(true)
            .open(files.results());
        let results = Mutex::new((results.context("cannot write results")?, judgements));
        let judged = AtomicUsize::new(0);
        let work = || -> Result<bool> {
            let mut all = true;
            while let Some((index, mutant)) = queue.next() {
                if self
                    .minutes
                    .is_some_and(|most| start.elapsed().as_secs() >= most * 60)
                {
                    return Ok(all);
                }
                let known = || results.lock().unwrap_or_else(|error| error.into_inner());
                let others = known().1.clone();
                let judgement = judge.judge(&mutant.name, mutant.number, &others)?;
                all &= judgement.verdict != Verdict::Survived;
                let mut line = serde_json::to_string(&judgement)?;
                line.push('\n');
                known().0.write_all(line.as_bytes())?;
                eprintln!(
                    "mutants: {} of {}: {:?} after {:.0} s: {}{}",
                    index + 1,
                    queue.mutants.len(),
                    judgement.verdict,
                    judgement.seconds,
                    mutant.name,
                    judgement
                        .by
                        .first()
                        .map_or(String::new(), |by| format!(": {by}"))
                );
                known().1.push(judgement);
                judged.fetch_add(1, Ordering::Relaxed);
            }
            Ok(all)
        };
        let all = std::thread::scope(|scope| -> Result<bool> {
            let spawn = || {
                scope.spawn(|| {
                    let done = work();
                    if done.is_err() {
                        queue.stop.store(true, Ordering::Relaxed);
                    }
                    done
                })
            };
            let threads: Vec<_> = (0..self.jobs).map(|_| spawn()).collect();
            let mut all = true;
            for thread in threads {
                all &= thread.join().map_err(|_| anyhow!("a thread panicked"))??;
            }
            Ok(all)
        })?;
        let left = queue.mutants.len() - judged.load(Ordering::Relaxed);
        if left > 0 {
            eprintln!("mutants: {left} are still to be run: the next run goes on from here");
        }
        Ok(all)
    }
}
