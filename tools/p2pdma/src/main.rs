// SPDX-License-Identifier: GPL-2.0

//! `p2pdma`: shows who provides PCI peer-to-peer memory and who can reach it, and verifies
//! transfers between NVMe namespaces and such memory.

#![forbid(unsafe_code)]

mod bdf;
mod config_space;
mod expect;
mod kmsg;
mod machine;
mod memory;
mod pattern;
mod route;
mod show;
mod size;
mod text;
mod verify;

use std::io;
use std::process::ExitCode;

use anyhow::{Context, Result};
use clap::{Args, Parser, Subcommand};

use crate::bdf::Bdf;
use crate::expect::Rule;
use crate::machine::Reader;
use crate::verify::Options;

/// Exit status: something is not as expected.
const UNEXPECTED: u8 = 1;
/// Exit status: it could not be found out.
const COULD_NOT_RUN: u8 = 2;

const EXAMPLES: &str = "\
Examples:
  p2pdma show                            the PCI tree, who provides, who consumes
  p2pdma verify                          read with every pair, and compare
  p2pdma verify --scratch /dev/nvme1n1   write as well, destroying what is on that disk

Exit status: 0 all as expected, 1 something is wrong, 2 could not run.";

const SHOW_EXAMPLES: &str = "\
Examples:
  p2pdma show
  p2pdma show --all                      also devices that have no part in it
  p2pdma show --json | jq '.providers[].bdf'";

const VERIFY_EXAMPLES: &str = "\
Without --scratch nothing is written to any disk: the same blocks are read into peer-to-peer
memory and into ordinary memory, and compared.

Examples:
  p2pdma verify
  p2pdma verify --provider 03:00.0 --client nvme1n1 --size 4K --size 1M
  p2pdma verify --scratch /dev/nvme1n1   write as well, destroying what is on that disk
  p2pdma verify --expect 'cmb>*=not-supported' --expect '*>*=bus-addr'

Exit status: 0 all as expected, 1 something refused, wrong or failed, 2 could not run.";

/// Looks at PCI peer-to-peer DMA: who provides memory, who can reach it, and whether data arrive.
#[derive(Debug, Parser)]
#[command(name = "p2pdma", version, after_help = EXAMPLES)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Show the PCI tree, who provides peer-to-peer memory, who consumes, and the ways between.
    #[command(after_help = SHOW_EXAMPLES)]
    Show(ShowArgs),
    /// Move data between NVMe namespaces and peer-to-peer memory, and compare.
    #[command(after_help = VERIFY_EXAMPLES)]
    Verify(VerifyArgs),
}

#[derive(Debug, Args)]
struct ShowArgs {
    /// Show devices that have no part in it, too.
    #[arg(long)]
    all: bool,
    /// Print JSON.
    #[arg(long)]
    json: bool,
}

#[derive(Debug, Args)]
struct VerifyArgs {
    /// Use this provider only, a PCI address; can be repeated.
    #[arg(long = "provider", value_name = "BDF")]
    providers: Vec<Bdf>,
    /// Use this client only: a disk, controller, serial number or PCI address; can be repeated.
    #[arg(long = "client", value_name = "DEV")]
    clients: Vec<String>,
    /// Move this much at once, such as 4K or 1M; can be repeated.
    #[arg(long = "size", value_name = "SIZE", default_values = ["4K", "64K", "1M"], value_parser = size::parse)]
    sizes: Vec<u64>,
    /// DESTROY the content of this disk, to verify writes as well; can be repeated.
    #[arg(
        long,
        visible_alias = "destroy",
        value_name = "DEV",
        env = "P2PDMA_SCRATCH",
        value_delimiter = ' ',
        hide_env_values = true
    )]
    scratch: Vec<String>,
    /// What should come out, as PROVIDER>CLIENT=VERDICT[!DEFECT]; the first that fits counts.
    ///
    /// PROVIDER is testdev, cmb, ivshmem, pci, a PCI address or *; CLIENT a serial number, a PCI
    /// address or *; VERDICT bus-addr, host-bridge or not-supported; DEFECT the name of what is
    /// known to make the data wrong. Without, every transfer should work.
    #[arg(
        long = "expect",
        value_name = "RULE",
        env = "P2PDMA_EXPECT",
        value_delimiter = ' ',
        hide_env_values = true
    )]
    rules: Vec<String>,
    /// Repeat the data of an earlier run.
    #[arg(long, value_name = "NUMBER", value_parser = parse_seed)]
    seed: Option<u16>,
    /// Print JSON, when all is done.
    #[arg(long)]
    json: bool,
    /// Flip a bit after each transfer, to show that it is noticed.
    #[arg(long, hide = true, env = "P2PDMA_TEST_CORRUPT", value_parser = clap::builder::FalseyValueParser::new())]
    test_corrupt: bool,
}

fn parse_seed(text: &str) -> Result<u16, String> {
    let parsed = match text.strip_prefix("0x") {
        Some(hex) => u16::from_str_radix(hex, 16),
        None => text.parse(),
    };
    parsed.map_err(|_| "not a number from 0 to 0xffff".to_owned())
}

fn draw_seed() -> Result<u16> {
    let mut seed = [0; 2];
    rustix::rand::getrandom(&mut seed, rustix::rand::GetRandomFlags::empty())
        .context("cannot draw a seed")?;
    Ok(u16::from_ne_bytes(seed))
}

fn show(args: &ShowArgs) -> Result<ExitCode> {
    let machine = Reader::of_this_machine().read()?;
    let out = anstream::stdout().lock();
    if args.json {
        show::json(&machine, out)?;
    } else {
        show::text(&machine, args.all, out)?;
    }
    Ok(ExitCode::SUCCESS)
}

fn verify(args: VerifyArgs) -> Result<ExitCode> {
    let reader = Reader::of_this_machine();
    let machine = reader.read()?;
    let given = |list: Vec<String>| list.into_iter().filter(|word| !word.is_empty());
    let rules: Result<Vec<Rule>> = given(args.rules)
        .map(|text| {
            let rule = text.parse::<Rule>().map_err(anyhow::Error::msg);
            rule.with_context(|| format!("--expect '{text}'"))
        })
        .collect();
    let options = Options {
        providers: args.providers,
        clients: args.clients,
        sizes: args.sizes,
        scratch: given(args.scratch).collect(),
        rules: rules?,
        corrupt: args.test_corrupt,
        seed: args.seed.map_or_else(draw_seed, Ok)?,
    };
    let reread = || reader.read();
    let report = verify::verify(&machine, &options, args.json, reread, anstream::stdout())?;
    if args.json {
        serde_json::to_writer_pretty(io::stdout().lock(), &report)?;
        println!();
    }
    Ok(if report.as_expected() {
        ExitCode::SUCCESS
    } else {
        ExitCode::from(UNEXPECTED)
    })
}

/// Whether the reader of the output has gone away, as `head` does.
fn reader_is_gone(error: &anyhow::Error) -> bool {
    error
        .chain()
        .filter_map(|cause| cause.downcast_ref::<io::Error>())
        .any(|error| error.kind() == io::ErrorKind::BrokenPipe)
}

fn main() -> ExitCode {
    let result = match Cli::parse().command {
        Command::Show(args) => show(&args),
        Command::Verify(args) => verify(args),
    };
    result.unwrap_or_else(|error| {
        if !reader_is_gone(&error) {
            eprintln!("p2pdma: {error:#}");
        }
        ExitCode::from(COULD_NOT_RUN)
    })
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    use super::*;

    #[test]
    fn the_command_line_is_sound() {
        Cli::command().debug_assert();
    }

    #[test]
    fn reads_seeds() {
        assert_eq!(parse_seed("0x1f"), Ok(0x1f));
        assert_eq!(parse_seed("31"), Ok(31));
        assert!(parse_seed("65536").is_err());
        assert!(parse_seed("seed").is_err());
    }
}
