// SPDX-License-Identifier: GPL-2.0

//! Drives the test module with arguments that are random, at the edge, or nonsense, from several
//! threads, while files are closed and drivers are taken away.

mod abi;
mod arguments;
mod generate;
mod ioctl;
mod judge;
mod memory;
mod programs;
mod system;
mod worker;

use std::collections::BTreeMap;
use std::os::fd::AsRawFd;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Instant;

use anyhow::{bail, ensure, Context, Result};
use clap::Parser;
use serde::Serialize;

use crate::abi::{Abi, HEADER};
use crate::arguments::{Running, Seed, MAX_PATIENCE};
use crate::generate::World;
use crate::judge::Equipment;
use crate::system::{Pool, System};
use crate::worker::{Outcomes, Plan, Run, DONE};

const EXAMPLES: &str = "\
Examples:
  p2pdma-fuzz                                 100,000 calls, with a seed that is drawn
  p2pdma-fuzz --seed 7 --calls 1000000        as many as one likes, from the same numbers each time
  p2pdma-fuzz --seed 7 --threads 1 --no-remove
                                              one call after the other, and the same each time
  p2pdma-fuzz --seed 7 --json                 the outcome as JSON

P2PDMA_SCRATCH has to name disks for it to do block I/O: serial numbers or device nodes of NVMe
namespaces whose content may be destroyed. Without, there is none, which is no error unless
P2PDMA_TOPOLOGY is set: the machine was made for the test then.

The numbers for a call depend on the seed, its thread and its number alone. What they come to does
not: which objects there are, and what the kernel says, depends on the order in which the calls of
several threads come, and on drivers being taken away. With one thread and --no-remove, in a machine
that was just booted, the same seed makes the same calls, but for where memory is mapped.

Exit status: 0 nothing wrong, 1 memory was not given back, the kernel warned, a call hung, a command
never succeeded or ended with an error that the header does not list, 2 could not run.";

/// Drive /dev/p2pdma_test with random and boundary arguments.
///
/// To be run as root in a virtual machine. Unbinds devices of the driver p2pdma_provider and binds
/// them again, and writes to the disks in P2PDMA_SCRATCH.
#[derive(Debug, Parser)]
#[command(version, after_help = EXAMPLES, args_conflicts_with_subcommands = true)]
struct Arguments {
    #[command(subcommand)]
    command: Option<programs::Command>,
    /// Calls, of all threads together
    #[arg(long, value_name = "N", default_value_t = 100_000)]
    calls: u64,
    #[command(flatten)]
    seed: Seed,
    #[command(flatten)]
    running: Running,
    /// Number of the first call, to begin later in the same sequence
    #[arg(long, value_name = "N", default_value_t = 0)]
    first: u64,
    /// Take the driver from a device after so many calls, over and over
    #[arg(
        long,
        value_name = "CALLS",
        default_value_t = 2_000,
        value_parser = clap::value_parser!(u64).range(1..)
    )]
    remove_every: u64,
    /// Leave drivers alone
    #[arg(long, conflicts_with = "remove_every")]
    no_remove: bool,
    /// A call that takes longer, in seconds, hangs
    #[arg(
        long,
        value_name = "SECONDS",
        default_value_t = 120,
        value_parser = clap::value_parser!(u64).range(1..=MAX_PATIENCE)
    )]
    patience: u64,
    /// The machine was made for this test
    #[arg(long, env = "P2PDMA_TOPOLOGY", value_name = "NAME", hide = true)]
    topology: Option<String>,
}

impl Arguments {
    fn plan(&self) -> Plan {
        Plan {
            seed: self.seed.get(),
            calls: self.calls,
            first: self.first,
            threads: self.running.threads,
            remove_every: (!self.no_remove).then_some(self.remove_every),
            patience: self.running.patience(self.patience),
        }
    }
}

/// The command line that draws the same numbers.
fn replay(plan: &Plan) -> String {
    let remove = match plan.remove_every {
        Some(every) => format!("--remove-every {every}"),
        None => "--no-remove".into(),
    };

    format!(
        "replay: p2pdma-fuzz --seed {} --calls {} --first {} --threads {} {remove}",
        plan.seed, plan.calls, plan.first, plan.threads
    )
}

#[derive(Serialize)]
struct Report {
    #[serde(flatten)]
    plan: Plan,
    made: u64,
    removals: u64,
    seconds: f64,
    outcomes: BTreeMap<String, Outcomes>,
    pools: Vec<Pool>,
    findings: Vec<String>,
}

fn world(system: &System, pools: &[Pool], disks: Vec<u32>) -> Result<World> {
    let functions = system.functions()?;
    let numbers = |names: &mut dyn Iterator<Item = &String>| -> Vec<u64> {
        names.filter_map(|name| system::function(name)).collect()
    };
    let mut values: Vec<String> = pools.iter().map(|pool| pool.device.clone()).collect();

    values.extend(
        [
            "0",
            "1",
            "auto",
            "on",
            "y",
            "n",
            "off",
            "",
            " ",
            "\n",
            "05:00.0",
            "ffff:ff:1f.7",
        ]
        .map(String::from),
    );
    values.extend(pools.iter().map(|pool| format!("{}\n", pool.device)));
    values.push("0000:00:00.0 and more that is long enough not to fit in there, so".into());

    Ok(World {
        providers: numbers(&mut pools.iter().map(|pool| &pool.device)),
        functions: numbers(&mut functions.iter()),
        values,
        disks,
        pid: std::process::id(),
    })
}

fn print(report: &Report) {
    println!("{:<14} {:>9} {:>9}  refused", "command", "calls", "done");
    for (command, outcomes) in &report.outcomes {
        let all: u64 = outcomes.values().sum();
        let refused: Vec<_> = outcomes
            .iter()
            .filter(|(outcome, _)| *outcome != DONE)
            .map(|(outcome, number)| format!("{outcome} {number}"))
            .collect();

        println!(
            "{command:<14} {all:>9} {:>9}  {}",
            outcomes.get(DONE).unwrap_or(&0),
            refused.join(", ")
        );
    }
    for pool in &report.pools {
        println!(
            "{}: {} of {} bytes available",
            pool.device, pool.available, pool.size
        );
    }
    println!(
        "{} calls, {} removals, {:.1} s: {}",
        report.made,
        report.removals,
        report.seconds,
        if report.findings.is_empty() {
            "nothing wrong"
        } else {
            "something is wrong"
        }
    );
}

/// What makes it impossible to run, as opposed to what is found.
fn prepare(arguments: &Arguments, system: &System) -> Result<(Abi, Vec<Pool>, Vec<std::fs::File>)> {
    let abi = Abi::parse(HEADER).context("the header of the test device")?;
    let pools = system.pools()?;
    let disks = system.open_disks(&arguments.running.scratch)?;

    ensure!(
        !pools.is_empty(),
        "no PCI device provides peer-to-peer memory: bind one to {}",
        system::DRIVER
    );
    ensure!(
        arguments.calls < 1 << 48 && arguments.first < 1 << 47,
        "more calls than there are numbers for"
    );
    if disks.is_empty() {
        eprintln!("# P2PDMA_SCRATCH names no disks: no block I/O");
    }
    Ok((abi, pools, disks))
}

/// Whether nothing was found, or why it could not run.
fn run(arguments: &Arguments) -> Result<bool> {
    let system = System::at("/");
    let plan = arguments.plan();
    let (abi, before, disks) = prepare(arguments, &system)?;
    let numbers: Vec<u32> = disks
        .iter()
        .filter_map(|disk| disk.as_raw_fd().try_into().ok())
        .collect();
    let taint = system.taint()?;

    let world = world(&system, &before, numbers)?;
    let allocate = before
        .iter()
        .map(|pool| system.allocate(&pool.device))
        .collect();
    let device = PathBuf::from("/dev/p2pdma_test");

    ensure!(
        device.exists(),
        "{} does not exist: load the module p2pdma_test",
        device.display()
    );
    eprintln!("# seed {}", plan.seed);

    let start = Instant::now();
    let found = || -> Result<Report> {
        // Closes all files, and unmaps all memory.
        let tally = Run::new(&plan, &abi, &world, &system, device, allocate).all()?;
        let patience = arguments.running.patience(system::PATIENCE);
        let pools = system.wait_at_rest(&before, patience)?;
        let now = system.taint()?;

        if now & !taint != 0 {
            bail!(
                "the kernel warned: it is tainted by {:#x}, see its log",
                now & !taint
            );
        }
        let equipment = Equipment {
            disks: !disks.is_empty(),
            made: arguments.topology.is_some(),
        };

        Ok(Report {
            findings: judge::findings(&abi, equipment, tally.calls, &tally.outcomes),
            made: tally.calls,
            removals: tally.removals,
            seconds: start.elapsed().as_secs_f64(),
            outcomes: tally.outcomes,
            pools,
            plan: plan.clone(),
        })
    };

    let findings = match found() {
        Ok(report) => {
            if arguments.running.json {
                println!("{}", serde_json::to_string_pretty(&report)?);
            } else {
                print(&report);
            }
            report.findings
        }
        Err(error) => {
            let error = format!("{error:#}");
            if arguments.running.json {
                let report = serde_json::json!({ "findings": [error], "replay": replay(&plan) });
                println!("{}", serde_json::to_string_pretty(&report)?);
            }
            vec![error]
        }
    };

    for finding in &findings {
        eprintln!("p2pdma-fuzz: {finding}");
    }
    if !findings.is_empty() {
        eprintln!("{}", replay(&plan));
    }
    Ok(findings.is_empty())
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let result = match &arguments.command {
        Some(command) => command.run(),
        None => run(&arguments),
    };

    match result {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::from(1),
        Err(error) => {
            eprintln!("p2pdma-fuzz: {error:#}");
            ExitCode::from(2)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn arguments() {
        use clap::CommandFactory as _;

        Arguments::command().debug_assert();
        for bad in [
            ["--threads", "0"],
            ["--threads", "65"],
            ["--remove-every", "0"],
            ["--patience", "0"],
            ["--calls", "-1"],
            ["--timeout-scale", "0"],
        ] {
            assert!(Arguments::try_parse_from(["p2pdma-fuzz"].iter().chain(&bad)).is_err());
        }
    }

    #[test]
    fn replay_is_the_same_plan() {
        for line in [
            "p2pdma-fuzz --seed 7 --calls 10 --first 3 --threads 2 --remove-every 9",
            "p2pdma-fuzz --seed 8 --calls 10 --first 0 --threads 1 --no-remove",
        ] {
            let plan = Arguments::parse_from(line.split(' ')).plan();

            assert_eq!(replay(&plan), format!("replay: {line}"));
        }
    }
}
