// SPDX-License-Identifier: GPL-2.0

//! `p2pdma-packages`: fills in what Debian packages are built from, and tests the packages as a
//! stranger would use them, in a virtual machine.

#![forbid(unsafe_code)]

mod agent;
mod check;
mod guest;
mod plan;
mod source;

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Result;
use clap::{Args, Parser, Subcommand};

/// Exit status: a step of the check failed.
const FAILED: u8 = 1;
/// Exit status: it could not be found out.
const COULD_NOT_RUN: u8 = 2;

const EXAMPLES: &str = "\
Run by `make deb` and `make check-packages`, in the testbed.

Examples:
  p2pdma-packages source --kernel build/kernel/stock/kernel.json --out /tmp/p2pdma
  p2pdma-packages check --plan packaging/check.toml --disk disk.img --repository build/repository
      --image vmlinuz --initrd initrd.img --results build/results/packages

Exit status: 0 all well, 1 a step of the check failed, 2 could not run.";

#[derive(Debug, Parser)]
#[command(name = "p2pdma-packages", version, about, after_help = EXAMPLES)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Copy the tracked files of a checkout, and add a debian/ that is filled in for a kernel.
    Source(SourceArgs),
    /// Boot a plain Debian and do there what a plan says, step by step.
    Check(CheckArgs),
}

#[derive(Debug, Args)]
struct SourceArgs {
    /// The checkout.
    #[arg(long, default_value = ".")]
    checkout: PathBuf,
    /// What the testbed says of the kernel: kernel.json.
    #[arg(long)]
    kernel: PathBuf,
    /// Add this to the version, such as +next.
    #[arg(long, value_name = "SUFFIX", default_value = "")]
    version_suffix: String,
    /// Where to write; what is there is deleted.
    #[arg(long)]
    out: PathBuf,
}

#[derive(Debug, Args)]
struct CheckArgs {
    /// Devices, and steps.
    #[arg(long)]
    plan: PathBuf,
    /// A disk with a plain Debian on it, in one file system. It is not changed.
    #[arg(long)]
    disk: PathBuf,
    /// The kernel on it.
    #[arg(long)]
    image: PathBuf,
    /// The initial RAM disk on it.
    #[arg(long)]
    initrd: PathBuf,
    /// What to show to the guest: an apt repository, and other files.
    #[arg(long)]
    repository: PathBuf,
    /// Where to write consoles and results.
    #[arg(long)]
    results: PathBuf,
    /// These steps only, and those that they need: up to the one of this name.
    #[arg(long)]
    until: Option<String>,
    /// Replace @NAME@ in the plan.
    #[arg(long = "define", value_name = "NAME=VALUE")]
    defines: Vec<String>,
}

fn run() -> Result<ExitCode> {
    match Cli::parse().command {
        Command::Source(args) => {
            source::write(
                &args.checkout,
                &args.kernel,
                &args.version_suffix,
                &args.out,
            )?;
            Ok(ExitCode::SUCCESS)
        }
        Command::Check(args) => {
            let machine = guest::Machine {
                disk: args.disk,
                image: args.image,
                initrd: args.initrd,
                repository: args.repository,
                results: args.results,
            };
            let plan = plan::Plan::load(&args.plan, &args.defines)?;
            let well = check::run(&plan, &machine, args.until.as_deref())?;
            Ok(if well {
                ExitCode::SUCCESS
            } else {
                ExitCode::from(FAILED)
            })
        }
    }
}

fn main() -> ExitCode {
    run().unwrap_or_else(|error| {
        eprintln!("p2pdma-packages: {error:#}");
        ExitCode::from(COULD_NOT_RUN)
    })
}
