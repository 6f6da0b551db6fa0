// SPDX-License-Identifier: GPL-2.0

//! `p2pdma`: shows who provides PCI peer-to-peer memory and who can reach it, and verifies
//! transfers between NVMe namespaces and such memory.

#![forbid(unsafe_code)]

mod ask;
mod bdf;
mod bench;
mod bind;
mod block;
mod capture;
#[cfg(test)]
mod cases;
mod check;
mod cmdline;
mod config_space;
mod doctor;
mod expect;
mod facts;
#[cfg(test)]
mod fuzz;
mod host_bridge;
mod kmsg;
mod list;
mod machine;
mod manual;
mod memory;
mod pattern;
mod route;
mod show;
mod size;
mod source;
mod system;
mod target;
mod text;
mod topo;
mod tree;
mod users;
mod verify;

use std::fs::File;
use std::io::{self, Read as _, Write as _};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{ensure, Context, Result};
use clap::{Args, CommandFactory as _, Parser, Subcommand};
use clap_complete::Shell;

use crate::bdf::Bdf;
use crate::expect::Rule;
use crate::kmsg::Log;
use crate::machine::Reader;
use crate::verify::Options;

/// Exit status: something is not as expected.
const UNEXPECTED: u8 = 1;
/// Exit status: it could not be found out.
const COULD_NOT_RUN: u8 = 2;
/// No log is longer than this; what follows is not read.
const LOG_MAX: u64 = 256 << 20;

const EXAMPLES: &str = "\
Examples:
  p2pdma check 03:00.0 nvme1n1           whether these two can, and why or why not
  p2pdma topo                            a matrix of all devices that matter
  p2pdma doctor                          what the kernel's log says, and what to do
  p2pdma capture machine.tar.gz          take it to another machine, and use --from there
  p2pdma show                            the PCI tree, who provides, who consumes
  p2pdma bind nvme0                      make a provider of a device
  p2pdma list                            providers, what of them is free, and who uses it
  p2pdma verify                          read with every pair, and compare
  p2pdma verify --scratch /dev/nvme1n1   write as well, destroying what is on that disk
  p2pdma bench                           how fast, against ordinary memory

Exit status: 0 all as expected, 1 something is wrong, 2 could not run.";

const SHOW_EXAMPLES: &str = "\
Examples:
  p2pdma show
  p2pdma show --all                      also devices that have no part in it
  p2pdma show --json | jq '.providers[].bdf'";

const CHECK_EXAMPLES: &str = "\
Examples:
  p2pdma check 03:00.0 nvme1n1
  p2pdma check 0000:03:00.0 0000:07:00.0 --json
  p2pdma check 03:00.0 /mnt/data/file    all disks that the file system is on
  p2pdma check nvme0                     why it provides nothing
  p2pdma check                           the kernel, its command line, the host bridges
  p2pdma check 03:00.0 07:00.0 --from lspci.txt   made by: lspci -D -nn -xxxx >lspci.txt
  p2pdma check 03:00.0 07:00.0 --from machine.tar.gz   made by: p2pdma capture machine.tar.gz
  p2pdma check --host-bridge 8086:3420   of a kernel whose list was patched
  p2pdma check --explain acs

Exit status: 0 able, 1 not able, 2 cannot be told, or could not run. Without a pair: 0 nothing that
was looked at forbids it, 1 something does, 2 something could not be told.";

const TOPO_EXAMPLES: &str = "\
Examples:
  p2pdma topo
  p2pdma topo --from lspci.txt           made by: lspci -D -nn -xxxx >lspci.txt
  p2pdma topo --ask                      compare with what the kernel decides
  p2pdma topo --tree                     links, and ports that redirect
  p2pdma topo --dot | dot -Tsvg >tree.svg
  p2pdma topo --svg matrix.svg
  p2pdma topo --all --list | grep not-supported
  p2pdma topo --json | jq '.pairs[] | select(.via == \"bridge\")'

Exit status: 0 done, 1 the kernel, or its log, contradicts it, 2 could not run.";

const VERIFY_EXAMPLES: &str = "\
Without --scratch nothing is written to any disk: the same blocks are read into peer-to-peer
memory and into ordinary memory, and compared. That is one direction of the bus, in which the
controller writes to its peer. For the other, the controller compares peer-to-peer memory with its
medium; if it has no such command, that direction is said not to have been tested.

Examples:
  p2pdma verify --only read              one direction, without a word of the other
  p2pdma verify --provider 03:00.0 --client nvme1n1 --size 4K --size 1M
  p2pdma verify --scratch /dev/nvme1n1   write as well, destroying what is on that disk
  p2pdma verify --expect 'cmb>*=not-supported' --expect '*>*=bus-addr'

Exit status: 0 all as expected, 1 something refused, wrong or failed, 2 a direction was not tested,
a transfer proves nothing, or could not run.";

const BENCH_EXAMPLES: &str = "\
Three kinds of memory take turns: peer-to-peer memory (P2P), ordinary memory (host), and ordinary
memory from and to which the processor copies peer-to-peer memory (bounce). After each turn, up to
1 MiB of what was moved is compared. Without --scratch nothing is written to any disk; disks that
are in use, or hold a file system or anything else that is known, are refused.

Which path the data took is taken from the kernel's trace of DMA mappings (this takes tracefs), from
the physical addresses of the buffers, and from the counters of the disks.

Examples:
  p2pdma bench                           read, from all disks, with all providers
  p2pdma bench --provider 03:00.0 --client nvme1n1 --size 4K --engine io-uring --depth 32
  p2pdma bench --scratch /dev/nvme1n1    write as well, destroying what is on that disk
  p2pdma bench --op copy --client nvme0n1 --scratch nvme1n1
  p2pdma bench --json >results.json
  p2pdma bench --results results.json --report report.html

Exit status: 0 measured, 1 something refused, wrong, failed or not as expected, 2 could not run.";

const CAPTURE_EXAMPLES: &str = "\
It takes root, or ACS settings are missing. Serial numbers, what is made of them, names of volumes
and mount points, and all of the kernel's command line that has nothing to do with it are left out.

Examples:
  p2pdma capture machine.tar.gz
  p2pdma topo --from machine.tar.gz";

const DOCTOR_EXAMPLES: &str = "\
It knows lines about pairs, host bridges, ACS, faults of IOMMUs, memory buffers of NVMe controllers
and the command line, of one device or of many at once.

Examples:
  p2pdma doctor
  dmesg | p2pdma doctor -
  journalctl -k -b -1 >log && p2pdma doctor log --json

Exit status: 0 nothing is wrong, 1 something is, 2 could not run.";

const LIST_EXAMPLES: &str = "\
Who has mapped memory is known of all processes to root only.

Examples:
  p2pdma list
  p2pdma list --from machine.tar.gz      without who uses it, which is not captured
  p2pdma list --json | jq '.providers[] | select(.published) | .bdf'";

const BIND_EXAMPLES: &str = "\
The device is taken away from its driver, and bound to p2pdma_provider by driver_override. What it
had before is kept in /run/p2pdma. A device that is in use is left alone. Options about memory are
parameters of the module, which is loaded again for them, if no device is bound to it.

Examples:
  p2pdma bind nvme0                      the memory buffer of an NVMe controller
  p2pdma bind 05:00.0 --bar 2 --size 16M
  p2pdma bind 05:00.0 --dry-run          print the commands that would do it

Exit status: 0 bound, or was already; 1 refused; 2 could not run.";

const UNBIND_EXAMPLES: &str = "\
Memory that is mapped, or held by other drivers, is in use: the kernel would wait for the latter,
without a way to interrupt it.

Examples:
  p2pdma unbind 05:00.0

Exit status: 0 given back, 1 refused, 2 could not run.";

const PUBLISH_EXAMPLES: &str = "\
It does not take memory back, nor does it prevent that the memory is mapped.

Examples:
  p2pdma publish 05:00.0
  p2pdma unpublish 05:00.0 06:00.0

Exit status: 0 done, 2 could not run.";

const MAN_EXAMPLES: &str = "\
Examples:
  p2pdma man /usr/local/share/man/man1
  p2pdma man . && man ./p2pdma-check.1";

const COMPLETIONS_EXAMPLES: &str = "\
Examples:
  p2pdma completions bash >/usr/share/bash-completion/completions/p2pdma
  p2pdma completions zsh >/usr/share/zsh/vendor-completions/_p2pdma
  p2pdma completions fish >/usr/share/fish/vendor_completions.d/p2pdma.fish";

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
    /// Tell whether two functions can do peer-to-peer DMA, and why, or why not.
    #[command(after_help = CHECK_EXAMPLES)]
    Check(CheckArgs),
    /// Show who can reach whom, of all devices that do peer-to-peer DMA, in a matrix.
    #[command(after_help = TOPO_EXAMPLES)]
    Topo(TopoArgs),
    /// Move data between NVMe namespaces and peer-to-peer memory, and compare.
    #[command(after_help = VERIFY_EXAMPLES)]
    Verify(VerifyArgs),
    /// Measure how fast data move to and from peer-to-peer memory, against ordinary memory.
    #[command(after_help = BENCH_EXAMPLES)]
    Bench(BenchArgs),
    /// List providers of peer-to-peer memory, what of it is free, and who uses it.
    #[command(after_help = LIST_EXAMPLES)]
    List(ListArgs),
    /// Make providers of devices, by binding them to p2pdma_provider.
    #[command(after_help = BIND_EXAMPLES)]
    Bind(BindArgs),
    /// Give devices back to the drivers that they had before p2pdma_provider.
    #[command(after_help = UNBIND_EXAMPLES)]
    Unbind(ActArgs),
    /// Let other drivers find the memory of providers.
    #[command(after_help = PUBLISH_EXAMPLES)]
    Publish(PublishArgs),
    /// Hide the memory of providers from other drivers.
    #[command(after_help = PUBLISH_EXAMPLES)]
    Unpublish(PublishArgs),
    /// Write all that this program reads of a machine into a file, for others to look at.
    #[command(after_help = CAPTURE_EXAMPLES)]
    Capture(CaptureArgs),
    /// Explain what a kernel log says about peer-to-peer DMA, and what can be done.
    #[command(after_help = DOCTOR_EXAMPLES)]
    Doctor(DoctorArgs),
    /// Write the manual pages of all commands.
    #[command(after_help = MAN_EXAMPLES)]
    Man(ManArgs),
    /// Print completions for a shell.
    #[command(after_help = COMPLETIONS_EXAMPLES)]
    Completions(CompletionsArgs),
}

#[derive(Debug, Args)]
struct FromArgs {
    /// Look at another machine: what p2pdma capture wrote, a copy of its /sys and /proc, or what
    /// lspci -D -nn -xxxx printed.
    #[arg(long, value_name = "FILE|DIR")]
    from: Option<PathBuf>,
}

impl FromArgs {
    fn path(&self) -> Option<&Path> {
        self.from.as_deref()
    }
}

#[derive(Debug, Args)]
struct MachineArgs {
    #[command(flatten)]
    from: FromArgs,
    /// A host bridge that the kernel there trusts beside those in the list of Linux that is known
    /// here, as a patched one may: VENDOR:DEVICE of its first device, with '=same' after it if only
    /// for pairs below it.
    #[arg(
        long = "host-bridge",
        value_name = "ID",
        env = "P2PDMA_HOST_BRIDGES",
        value_delimiter = ',',
        value_parser = parse_bridge
    )]
    host_bridges: Vec<Option<host_bridge::Entry>>,
}

/// An entry, or none: what is empty names none, also where it takes the place of the environment.
fn parse_bridge(text: &str) -> Result<Option<host_bridge::Entry>, String> {
    match text {
        "" => Ok(None),
        text => text.parse().map(Some),
    }
}

impl MachineArgs {
    fn read(&self) -> Result<machine::Machine> {
        let mut machine = source::read(self.from.path())?;
        machine.added_host_bridges = self.host_bridges.iter().flatten().copied().collect();
        Ok(machine)
    }
}

#[derive(Debug, Args)]
struct ShowArgs {
    /// Show devices that have no part in it, too.
    #[arg(long)]
    all: bool,
    #[command(flatten)]
    machine: MachineArgs,
    /// Print JSON.
    #[arg(long)]
    json: bool,
}

#[derive(Debug, Args)]
struct CheckArgs {
    /// The provider: a PCI address, or an NVMe controller or disk. It needs no pool. Without a
    /// client, what it could provide and take; without both, what concerns the whole machine.
    provider: Option<String>,
    /// The client: the same, or an array, a device of the device mapper, a mount point or a file.
    client: Option<String>,
    #[command(flatten)]
    machine: MachineArgs,
    /// Say what is behind a check, instead.
    #[arg(long, value_name = "ID", conflicts_with_all = ["provider", "client", "from", "json"])]
    explain: Option<String>,
    /// Print JSON.
    #[arg(long)]
    json: bool,
}

#[derive(Debug, Args)]
struct TopoArgs {
    /// Take all functions that are no bridges.
    #[arg(long)]
    all: bool,
    /// Ask the kernel about each provider and NVMe disk, by reading a block into its memory.
    #[arg(long, conflicts_with = "from")]
    ask: bool,
    #[command(flatten)]
    machine: MachineArgs,
    /// Print a line for each pair instead: provider, client, verdict, distance, how near.
    #[arg(long, group = "form")]
    list: bool,
    /// Print the tree instead, with links and the ACS settings of all ports.
    #[arg(long, group = "form")]
    tree: bool,
    /// Print the tree for dot of Graphviz instead.
    #[arg(long, group = "form")]
    dot: bool,
    /// Draw the matrix into a file instead.
    #[arg(long, group = "form", value_name = "FILE")]
    svg: Option<PathBuf>,
    /// Print JSON.
    #[arg(long, group = "form")]
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
    #[arg(
        long = "size",
        value_name = "SIZE",
        default_values = ["4K", "64K", "1M"],
        value_parser = size::parse
    )]
    sizes: Vec<u64>,
    /// Move data in this direction only [default: both]
    #[arg(long, value_name = "DIRECTION")]
    only: Option<verify::Direction>,
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
    #[arg(
        long,
        hide = true,
        env = "P2PDMA_TEST_CORRUPT",
        value_parser = clap::builder::FalseyValueParser::new()
    )]
    test_corrupt: bool,
}

#[derive(Debug, Args)]
struct BenchArgs {
    /// Use this provider only, a PCI address; can be repeated.
    #[arg(long = "provider", value_name = "BDF")]
    providers: Vec<Bdf>,
    /// Use this disk only, by name, controller, serial number or PCI address; can be repeated.
    #[arg(long = "client", value_name = "DEV")]
    clients: Vec<String>,
    /// DESTROY the content of this disk, to write to it as well; can be repeated.
    #[arg(long, visible_alias = "destroy", value_name = "DEV")]
    scratch: Vec<String>,
    /// Do this only; can be repeated [default: read, and write with --scratch]
    #[arg(long = "op", value_name = "OPERATION")]
    operations: Vec<bench::Operation>,
    /// Hand transfers to the kernel like this; can be repeated.
    #[arg(long = "engine", value_name = "ENGINE", default_values = ["sync", "io-uring"])]
    engines: Vec<bench::Engine>,
    /// Use this memory; can be repeated.
    #[arg(long = "path", value_name = "PATH", default_values = ["p2p", "host", "bounce"])]
    paths: Vec<bench::Path>,
    /// Move this much at once; can be repeated.
    #[arg(
        long = "size",
        value_name = "SIZE",
        default_values = ["4K", "64K", "1M"],
        value_parser = size::parse
    )]
    sizes: Vec<u64>,
    /// So many transfers are on their way at once with io_uring.
    #[arg(
        long,
        value_name = "NUMBER",
        default_value_t = 8,
        value_parser = clap::value_parser!(u16).range(1..=4096)
    )]
    depth: u16,
    /// Measure each kind of memory in each case for so long.
    #[arg(long, value_name = "SECONDS", default_value = "3", value_parser = parse_seconds)]
    time: Duration,
    /// Measure so many transfers instead.
    #[arg(
        long,
        value_name = "NUMBER",
        conflicts_with = "time",
        value_parser = clap::value_parser!(u64).range(1..)
    )]
    ios: Option<u64>,
    /// Take turns so often in that time.
    #[arg(
        long,
        value_name = "NUMBER",
        default_value_t = 5,
        value_parser = clap::value_parser!(u32).range(1..=1000)
    )]
    rounds: u32,
    /// Use so much of each disk, from 1 MiB on.
    #[arg(long, value_name = "SIZE", default_value = "64M", value_parser = size::parse)]
    span: u64,
    /// Use its blocks in this order.
    #[arg(long, value_name = "ORDER", default_value = "random")]
    access: bench::Access,
    /// Repeat the data and the order of an earlier run.
    #[arg(long, value_name = "NUMBER", value_parser = parse_seed)]
    seed: Option<u16>,
    /// Show these results of --json again, and measure nothing.
    #[arg(long, value_name = "FILE", conflicts_with_all = ["providers", "clients", "scratch"])]
    results: Option<PathBuf>,
    /// Write a report with plots: HTML, or one picture if the name ends in .svg.
    #[arg(long, value_name = "FILE")]
    report: Option<PathBuf>,
    /// Print JSON, when all is done.
    #[arg(long)]
    json: bool,
    /// Flip a bit before data are compared, to show that it is noticed.
    #[arg(long, hide = true)]
    test_corrupt: bool,
}

#[derive(Debug, Args)]
struct ListArgs {
    #[command(flatten)]
    from: FromArgs,
    /// Print JSON.
    #[arg(long)]
    json: bool,
}

#[derive(Debug, Args)]
struct PublishArgs {
    /// PCI addresses, or NVMe controllers.
    #[arg(required = true, value_name = "DEVICE")]
    devices: Vec<String>,
    /// Only print what would be written.
    #[arg(long)]
    dry_run: bool,
    /// Print JSON.
    #[arg(long)]
    json: bool,
}

#[derive(Debug, Args)]
struct ActArgs {
    #[command(flatten)]
    which: PublishArgs,
    /// Do it although the device is in use: data can be lost, and processes killed.
    #[arg(long)]
    force: bool,
}

#[derive(Debug, Args)]
struct BindArgs {
    #[command(flatten)]
    act: ActArgs,
    /// Provide this BAR [default: the memory buffer of an NVMe controller, or the largest
    /// prefetchable BAR]
    #[arg(long, value_name = "NUMBER", value_parser = clap::value_parser!(u8).range(0..=5))]
    bar: Option<u8>,
    /// Start so far into the BAR or memory buffer, such as 2M.
    #[arg(long, value_name = "SIZE", value_parser = parse_offset)]
    offset: Option<u64>,
    /// Provide so much, such as 64M [default: up to the end]
    #[arg(long, value_name = "SIZE", value_parser = size::parse)]
    size: Option<u64>,
    /// Register it as so many ranges of one size.
    #[arg(long, value_name = "NUMBER", value_parser = clap::value_parser!(u32).range(1..=64))]
    split: Option<u32>,
    /// Publish it or not [default: if it takes reads and writes]
    #[arg(long, value_name = "YES|NO", value_parser = clap::builder::BoolishValueParser::new())]
    publish: Option<bool>,
    /// Load the module from this file, instead of that of the running kernel's.
    #[arg(long, value_name = "FILE")]
    module: Option<PathBuf>,
}

#[derive(Debug, Args)]
struct CaptureArgs {
    /// The file to write, an archive as of tar and gzip.
    #[arg(value_name = "FILE")]
    file: PathBuf,
    #[command(flatten)]
    from: FromArgs,
}

#[derive(Debug, Args)]
struct DoctorArgs {
    /// A log, - for standard input; without, that of the running kernel.
    file: Option<PathBuf>,
    /// Print JSON.
    #[arg(long)]
    json: bool,
}

#[derive(Debug, Args)]
struct ManArgs {
    /// Where to write them; it is made if it is not there.
    #[arg(value_name = "DIR")]
    dir: PathBuf,
}

#[derive(Debug, Args)]
struct CompletionsArgs {
    /// The shell.
    shell: Shell,
}

fn parse_offset(text: &str) -> Result<u64, String> {
    match text {
        "0" => Ok(0),
        text => size::parse(text),
    }
}

fn parse_seed(text: &str) -> Result<u16, String> {
    let parsed = match text.strip_prefix("0x") {
        Some(hex) => u16::from_str_radix(hex, 16),
        None => text.parse(),
    };
    parsed.map_err(|_| "not a number from 0 to 0xffff".to_owned())
}

fn parse_seconds(text: &str) -> Result<Duration, String> {
    let seconds = text.parse::<f64>().ok();
    seconds
        .filter(|seconds| (0.001..=86400.0).contains(seconds))
        .map(Duration::from_secs_f64)
        .ok_or_else(|| "not a number of seconds from 0.001 to 86400".to_owned())
}

fn draw_seed() -> Result<u16> {
    let mut seed = [0; 2];
    rustix::rand::getrandom(&mut seed, rustix::rand::GetRandomFlags::empty())
        .context("cannot draw a seed")?;
    Ok(u16::from_ne_bytes(seed))
}

fn show(args: &ShowArgs) -> Result<ExitCode> {
    let machine = args.machine.read()?;
    let out = anstream::stdout().lock();
    if args.json {
        show::json(&machine, out)?;
    } else {
        show::text(&machine, args.all, out)?;
    }
    Ok(ExitCode::SUCCESS)
}

fn list(args: &ListArgs) -> Result<ExitCode> {
    let machine = source::read(args.from.path())?;
    let root = args.from.path().is_none().then_some(Path::new("/"));
    let list = list::list(&machine, root);
    let mut out = anstream::stdout().lock();
    if args.json {
        serde_json::to_writer_pretty(&mut out, &list)?;
        writeln!(out)?;
    } else {
        list::text(&list, out)?;
    }
    Ok(ExitCode::SUCCESS)
}

type Binder<'a> = bind::Binder<'a, bind::ThisKernel>;

fn act(
    which: &PublishArgs,
    options: bind::Options,
    module: Option<PathBuf>,
    what: impl FnOnce(&mut Binder<'_>, &machine::Machine, &[Bdf]) -> Result<bind::Report>,
) -> Result<ExitCode> {
    let machine = source::read(None)?;
    let devices: Result<Vec<_>> = which
        .devices
        .iter()
        .map(|word| target::function(&machine, true, word))
        .collect();
    let options = bind::Options {
        dry_run: which.dry_run,
        ..options
    };
    let kernel = bind::ThisKernel { module };
    let mut binder = Binder::new(Path::new("/"), kernel, &options);
    let report = what(&mut binder, &machine, &devices?)?;
    let mut out = anstream::stdout().lock();
    if which.json {
        serde_json::to_writer_pretty(&mut out, &report)?;
        writeln!(out)?;
    } else {
        bind::text(&report, out)?;
    }
    Ok(ExitCode::SUCCESS)
}

fn bind(args: BindArgs) -> Result<ExitCode> {
    let options = bind::Options {
        parameters: bind::Parameters {
            bar: args.bar,
            offset: args.offset,
            size: args.size,
            split: args.split,
            publish: args.publish,
        },
        force: args.act.force,
        dry_run: false,
    };
    act(
        &args.act.which,
        options,
        args.module,
        |binder, machine, devices| binder.bind(machine, devices),
    )
}

fn unbind(args: &ActArgs) -> Result<ExitCode> {
    let options = bind::Options {
        force: args.force,
        ..bind::Options::default()
    };
    act(&args.which, options, None, |binder, machine, devices| {
        binder.unbind(machine, devices)
    })
}

fn publish(args: &PublishArgs, publish: bool) -> Result<ExitCode> {
    act(
        args,
        bind::Options::default(),
        None,
        |binder, _, devices| binder.publish(devices, publish),
    )
}

/// The exit status of what is able, is not, or cannot be told.
fn status(able: Option<bool>) -> u8 {
    match able {
        Some(true) => 0,
        Some(false) => UNEXPECTED,
        None => COULD_NOT_RUN,
    }
}

fn check(args: &CheckArgs) -> Result<ExitCode> {
    let mut out = anstream::stdout().lock();
    if let Some(id) = &args.explain {
        let known = check::EXPLANATIONS.iter().find(|(known, _)| known == id);
        let (_, text) = known.with_context(|| {
            let ids: Vec<_> = check::EXPLANATIONS.iter().map(|(id, _)| *id).collect();
            format!("there is no check '{id}'; there are {}", ids.join(", "))
        })?;
        writeln!(out, "{}", textwrap::fill(text, 80))?;
        return Ok(ExitCode::SUCCESS);
    }
    let machine = args.machine.read()?;
    let live = args.machine.from.path().is_none();
    let answer = match (&args.provider, &args.client) {
        (None, _) => check::answer(&machine, None, None),
        (Some(one), None) => {
            let one = target::target(&machine, live, one)?;
            check::answer(&machine, None, Some(one))
        }
        (Some(provider), Some(client)) => {
            let provider = target::function(&machine, live, provider)?;
            let client = target::target(&machine, live, client)?;
            check::answer(&machine, Some(provider), Some(client))
        }
    };
    if args.json {
        serde_json::to_writer_pretty(&mut out, &answer)?;
        writeln!(out)?;
    } else {
        check::text(&answer, out)?;
    }
    Ok(ExitCode::from(status(answer.able)))
}

fn topo(args: &TopoArgs) -> Result<ExitCode> {
    let machine = args.machine.read()?;
    // what the kernel of this machine said is of no use for another
    let log = match args.machine.from.path() {
        None => Log::read(),
        Some(_) => Log::default(),
    };
    let mut answers = ask::Answers::new();
    if args.machine.from.path().is_none() {
        if args.ask {
            answers = ask::reads(&machine);
        }
        let devices = topo::devices(&machine, args.all);
        let functions: Vec<_> = devices.iter().map(|device| device.bdf).collect();
        answers.extend(ask::harness(&functions));
    }
    let topology = topo::topology(&machine, &log, &answers, args.all);
    let mut out = anstream::stdout().lock();
    if let Some(path) = &args.svg {
        let written = svg::save(path, &topo::svg(&topology));
        written.with_context(|| format!("cannot write {}", path.display()))?;
    } else if args.json {
        serde_json::to_writer_pretty(&mut out, &topology)?;
        writeln!(out)?;
    } else if args.list {
        topo::list(&topology, out)?;
    } else if args.tree {
        topo::tree(&machine, &topology, out)?;
    } else if args.dot {
        topo::dot(&machine, &topology, out)?;
    } else {
        topo::text(&topology, out)?;
    }
    Ok(if topology.pairs.iter().any(topo::Pair::is_contradicted) {
        ExitCode::from(UNEXPECTED)
    } else {
        ExitCode::SUCCESS
    })
}

fn write_capture(args: &CaptureArgs) -> Result<ExitCode> {
    let (machine, record) = capture::capture(source::tree(args.from.path())?)?;
    let cannot = || format!("cannot write {}", args.file.display());
    let file = File::create(&args.file).with_context(cannot)?;
    let mut file = io::BufWriter::new(file);
    record
        .write(&mut file)
        .and_then(|()| file.flush())
        .with_context(cannot)?;
    let cut = machine
        .devices
        .values()
        .filter(|device| device.acs_redirect.is_none());
    let cut = match cut.count() {
        0 => String::new(),
        cut => format!(", of {cut} of which ACS settings could not be read (that takes root)"),
    };
    eprintln!(
        "{}: {} PCI functions{cut}; serial numbers and names are replaced",
        args.file.display(),
        machine.devices.len()
    );
    Ok(ExitCode::SUCCESS)
}

/// Reads a log from where it was said to be.
fn log(file: Option<&Path>) -> Result<Log> {
    let Some(path) = file else {
        return Log::of_this_machine().context(
            "cannot read /dev/kmsg, which takes root; or name a file that dmesg was saved to",
        );
    };
    let mut bytes = Vec::new();
    let read = if path == Path::new("-") {
        io::stdin().take(LOG_MAX).read_to_end(&mut bytes)
    } else {
        File::open(path).and_then(|file| file.take(LOG_MAX).read_to_end(&mut bytes))
    };
    read.with_context(|| format!("cannot read {}", path.display()))?;
    ensure!(
        !bytes.trim_ascii().is_empty() && !bytes.contains(&0),
        "{} is no log: it {}",
        path.display(),
        if bytes.contains(&0) {
            "is no text"
        } else {
            "is empty"
        }
    );
    Ok(Log::of(&String::from_utf8_lossy(&bytes)))
}

fn doctor(args: &DoctorArgs) -> Result<ExitCode> {
    let diagnosis = doctor::diagnose(&log(args.file.as_deref())?);
    let mut out = anstream::stdout().lock();
    if args.json {
        serde_json::to_writer_pretty(&mut out, &diagnosis)?;
        writeln!(out)?;
    } else {
        doctor::text(&diagnosis, out)?;
    }
    Ok(if diagnosis.is_bad() {
        ExitCode::from(UNEXPECTED)
    } else {
        ExitCode::SUCCESS
    })
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
        only: args.only,
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
    Ok(ExitCode::from(status(report.able())))
}

fn bench(args: BenchArgs) -> Result<ExitCode> {
    // what cannot be written in the end is better known at the beginning
    let file = args.report.as_deref().map(|path| {
        let file = File::create(path);
        file.with_context(|| format!("cannot write {}", path.display()))
    });
    let file = file.transpose()?;
    let mut printer = bench::Printer::new(anstream::stdout());
    let report = if let Some(path) = &args.results {
        let cannot = || format!("cannot read {}", path.display());
        let text = std::fs::read_to_string(path).with_context(cannot)?;
        let report = bench::Report::parse(&text).with_context(cannot)?;
        if !args.json {
            bench::text(&report, anstream::stdout())?;
        }
        report
    } else {
        let options = bench::Options {
            providers: args.providers,
            clients: args.clients,
            scratch: args.scratch,
            operations: args.operations,
            engines: args.engines,
            paths: args.paths,
            sizes: args.sizes,
            depth: usize::from(args.depth),
            budget: match args.ios {
                Some(ios) => bench::Budget::Ios(ios),
                None => bench::Budget::Time(args.time),
            },
            rounds: args.rounds,
            span: args.span,
            access: args.access,
            seed: args.seed.map_or_else(draw_seed, Ok)?,
            corrupt: args.test_corrupt,
        };
        let machine = source::read(None)?;
        let report = bench::bench(&machine, &options, |case| {
            if !args.json {
                printer.case(case)?;
            }
            Ok(())
        })?;
        if !args.json {
            printer.conclude(&report)?;
        }
        report
    };
    if args.json {
        let mut out = io::stdout().lock();
        serde_json::to_writer_pretty(&mut out, &report)?;
        writeln!(out)?;
    }
    if let (Some(mut file), Some(path)) = (file, &args.report) {
        let text = bench::drawn(&report, path)?;
        file.write_all(text.as_bytes())
            .with_context(|| format!("cannot write {}", path.display()))?;
    }
    Ok(if report.is_good() {
        ExitCode::SUCCESS
    } else {
        ExitCode::from(UNEXPECTED)
    })
}

/// Whether the reader of the output has gone away, as `head` does.
fn reader_is_gone(error: &anyhow::Error) -> bool {
    let kind = |cause: &(dyn std::error::Error + 'static)| {
        // the cause of an error of serde_json is not that of input and output, but what is in it
        let of_json = cause.downcast_ref::<serde_json::Error>();
        let of_io = cause.downcast_ref::<io::Error>();
        of_json
            .and_then(serde_json::Error::io_error_kind)
            .or(of_io.map(io::Error::kind))
    };
    error
        .chain()
        .any(|cause| kind(cause) == Some(io::ErrorKind::BrokenPipe))
}

fn main() -> ExitCode {
    let result = match Cli::parse().command {
        Command::Show(args) => show(&args),
        Command::List(args) => list(&args),
        Command::Bind(args) => bind(args),
        Command::Unbind(args) => unbind(&args),
        Command::Publish(args) => publish(&args, true),
        Command::Unpublish(args) => publish(&args, false),
        Command::Check(args) => check(&args),
        Command::Topo(args) => topo(&args),
        Command::Verify(args) => verify(args),
        Command::Bench(args) => bench(args),
        Command::Capture(args) => write_capture(&args),
        Command::Doctor(args) => doctor(&args),
        Command::Man(args) => manual::pages(Cli::command(), &args.dir).map(|()| ExitCode::SUCCESS),
        Command::Completions(args) => {
            let printed = manual::completions(Cli::command(), args.shell, &mut io::stdout());
            printed.map(|()| ExitCode::SUCCESS).map_err(Into::into)
        }
    };
    result.unwrap_or_else(|error| {
        if !reader_is_gone(&error) {
            // names of files and mounts may be part of it
            eprintln!("p2pdma: {}", text::printable(&format!("{error:#}")));
        }
        let refused = error.is::<bind::Refused>();
        ExitCode::from(if refused { UNEXPECTED } else { COULD_NOT_RUN })
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_line_is_sound() {
        Cli::command().debug_assert();
    }

    /// As the help of check and verify says.
    #[test]
    fn what_cannot_be_told_has_a_status_of_its_own() {
        assert_eq!([Some(true), Some(false), None].map(status), [0, 1, 2]);
    }

    #[test]
    fn reads_seconds() {
        assert_eq!(parse_seconds("0.5"), Ok(Duration::from_millis(500)));
        for text in ["", "0", "-1", "nan", "inf", "1e9"] {
            assert!(parse_seconds(text).is_err(), "{text}");
        }
    }

    #[test]
    fn reads_seeds() {
        assert_eq!(parse_seed("0x1f"), Ok(0x1f));
        assert_eq!(parse_seed("31"), Ok(31));
        assert!(parse_seed("65536").is_err());
        assert!(parse_seed("seed").is_err());
    }
}
