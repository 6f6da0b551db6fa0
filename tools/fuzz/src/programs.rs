// SPDX-License-Identifier: GPL-2.0

//! Random programs over the library's whole API, run by the module `p2pdma_random`.

mod draw;
mod keep;
#[path = "../../testing/selftests/p2pdma/modules/p2pdma_random/program.rs"]
pub mod program;
mod reduce;
mod run;

use anyhow::{ensure, Result};
use clap::{Args, Subcommand};

use crate::arguments::{Running, Seed, MAX_PATIENCE};

pub use keep::Keep;
pub use run::Plan;

/// Steps of a program, unless one says otherwise.
const LENGTH: u64 = 250;

const EXAMPLES: &str = "\
Examples:
  p2pdma-fuzz programs                        100,000 steps, with a seed that is drawn
  p2pdma-fuzz programs --seed 7 --steps 1000000
  p2pdma-fuzz programs --seed 7 --batch 12 --batches 1
                                              that batch again
  p2pdma-fuzz programs --seed 7 --batch 12 --batches 1 --keep 3,17-19
                                              only these steps of it
  p2pdma-fuzz programs --seed 7 --batch 12 --batches 1 --keep 3,17-19 --print
                                              say what they are, and run nothing

A batch is a program for each thread, which run at the same time, while drivers are taken away.
After each batch all memory has to be back, the kernel must not have warned, and a provider is
unbound and bound again. The programs depend on the seed and the number of the batch; in which
order their steps come, with several threads, does not.

Exit status: 0 nothing wrong, 1 memory was not given back, the kernel warned, a program hung, or a
step was never done, 2 could not run.";

/// What else there is to be done.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Run random programs over the API of the Rust library
    ///
    /// To be run as root in a virtual machine, with the module p2pdma_random. Takes drivers away
    /// from providers and NVMe controllers, and writes to the disks in P2PDMA_SCRATCH.
    #[command(after_help = EXAMPLES)]
    Programs(Programs),
    /// Find the shortest program that fails
    ///
    /// Runs COMMAND over and over, with --keep LIST at its end, where LIST are numbers of steps.
    /// It fails if its exit status is neither 0 nor 2: an attempt may crash the machine that it is
    /// made in, so COMMAND should boot one.
    #[command(after_help = "\
Example:
  p2pdma-fuzz reduce --steps 1024 -- vmtest exec -k kernel.json -t switch --module p2pdma_random \\
      -- p2pdma-fuzz programs --seed 7 --batch 12 --batches 1")]
    Reduce(Reduce),
    /// Run random programs until one fails, and reduce that
    ///
    /// Runs COMMAND with the arguments of "p2pdma-fuzz programs" at its end. It should boot a
    /// machine, which may crash.
    #[command(after_help = "\
Example:
  p2pdma-fuzz hunt --steps 1000000 -- vmtest exec -k kernel.json -t switch --module p2pdma_random \\
      -- p2pdma-fuzz programs

Exit status: 0 nothing wrong, 1 something, with the shortest program that shows it, 2 could not
run.")]
    Hunt(Hunt),
}

/// See [`Steps`].
const MAX_ALL_STEPS: u64 = 1 << 40;

/// What is drawn.
#[derive(Debug, Args)]
struct Steps {
    /// Steps, of all programs together
    #[arg(
        long,
        value_name = "N",
        default_value_t = 100_000,
        value_parser = clap::value_parser!(u64).range(1..MAX_ALL_STEPS)
    )]
    steps: u64,
    #[command(flatten)]
    seed: Seed,
}

/// See [`Command::Programs`].
#[derive(Debug, Args)]
pub struct Programs {
    #[command(flatten)]
    steps: Steps,
    #[command(flatten)]
    running: Running,
    /// Steps of each program
    #[arg(
        long,
        value_name = "N",
        default_value_t = LENGTH,
        value_parser = clap::value_parser!(u64).range(1..program::MAX_STEPS)
    )]
    length: u64,
    /// The first batch
    #[arg(
        long,
        value_name = "N",
        default_value_t = 0,
        value_parser = clap::value_parser!(u64).range(0..1 << 48)
    )]
    batch: u64,
    /// Batches, instead of a number of steps
    #[arg(long, value_name = "N", conflicts_with = "steps")]
    batches: Option<u64>,
    /// Keep these steps only, of those of all programs of a batch
    #[arg(long, value_name = "LIST")]
    keep: Option<Keep>,
    /// Print the programs of the first batch, and run nothing
    #[arg(long)]
    print: bool,
    /// Say which batch comes next, before each
    #[arg(long, hide = true)]
    say_batches: bool,
    /// Leave drivers alone
    #[arg(long)]
    no_remove: bool,
    /// A batch that takes longer, in seconds, hangs
    #[arg(
        long,
        value_name = "SECONDS",
        default_value_t = 240,
        value_parser = clap::value_parser!(u64).range(1..=MAX_PATIENCE)
    )]
    patience: u64,
}

/// See [`Command::Reduce`].
#[derive(Debug, Args)]
pub struct Reduce {
    /// Steps of all programs of the batch together
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..1 << 20))]
    steps: u64,
    /// What boots a machine and runs the batch
    #[arg(last = true, required = true, value_name = "COMMAND")]
    command: Vec<String>,
}

/// See [`Command::Hunt`].
#[derive(Debug, Args)]
pub struct Hunt {
    #[command(flatten)]
    steps: Steps,
    /// What boots a machine and runs programs
    #[arg(last = true, required = true, value_name = "COMMAND")]
    command: Vec<String>,
}

impl Programs {
    fn plan(&self) -> Plan {
        Plan {
            seed: self.steps.seed.get(),
            threads: self.running.threads,
            length: self.length,
            batch: self.batch,
            batches: self.batches,
            steps: self.steps.steps,
            remove: !self.no_remove,
            say: self.say_batches,
            keep: self.keep.clone(),
            patience: self.running.patience(self.patience),
        }
    }
}

impl Command {
    /// Whether nothing was found, or why it could not run.
    pub fn run(&self) -> Result<bool> {
        match self {
            Command::Programs(arguments) if arguments.print => {
                run::print(&arguments.plan())?;
                Ok(true)
            }
            Command::Programs(arguments) => {
                let running = &arguments.running;

                run::run(&arguments.plan(), &running.scratch, running.json)
            }
            Command::Hunt(arguments) => {
                let steps = &arguments.steps;

                reduce::hunt(&arguments.command, steps.seed.get(), steps.steps)
            }
            Command::Reduce(arguments) => {
                ensure!(
                    !arguments.command.iter().any(|word| word == "--keep"),
                    "COMMAND has --keep already, which is added here"
                );
                // Less than 32 bits.
                let keep = reduce::with_command(&arguments.command, arguments.steps as usize)?;

                println!("{} --keep {keep}", arguments.command.join(" "));
                Ok(true)
            }
        }
    }
}
