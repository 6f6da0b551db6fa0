// SPDX-License-Identifier: GPL-2.0

//! Runs the P2PDMA tests in virtual machines, one per PCI topology.

mod cli;
mod compare;
mod elf;
mod image;
mod initramfs;
mod kernel;
mod ktap;
mod machine;
mod matrix;
mod modules;
mod monitor;
mod qemu;
mod report;
mod results;
mod run;
mod schedule;
mod selftest;
mod splat;
mod suite;
mod topology;
mod ui;

use std::process::ExitCode;

use clap::Parser;

fn main() -> ExitCode {
    let cli = cli::Cli::parse();
    match cli.run() {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::from(1),
        Err(error) if is_broken_pipe(&error) => ExitCode::from(2),
        Err(error) => {
            eprintln!("vmtest: {error:#}");
            ExitCode::from(2)
        }
    }
}

/// Whoever closed the pipe has seen enough.
fn is_broken_pipe(error: &anyhow::Error) -> bool {
    error
        .chain()
        .filter_map(|cause| cause.downcast_ref::<std::io::Error>())
        .any(|cause| cause.kind() == std::io::ErrorKind::BrokenPipe)
}
