// SPDX-License-Identifier: GPL-2.0

//! Arguments that more than one command takes.

use std::time::Duration;

use clap::Args;
use p2pdma_common::parse_scale;
use rand::Rng;

/// Most seconds that a call or a batch may take, unless one says otherwise.
pub const MAX_PATIENCE: u64 = 86_400;

/// Threads, unless one says otherwise.
pub const THREADS: u32 = 4;

/// See [`Seed::get()`].
#[derive(Debug, Args)]
pub struct Seed {
    /// Where the random numbers come from [default: drawn, and said]
    #[arg(long, value_name = "N")]
    seed: Option<u64>,
}

impl Seed {
    /// The seed that was given, or one that is drawn.
    pub fn get(&self) -> u64 {
        self.seed.unwrap_or_else(|| rand::rngs::OsRng.gen())
    }
}

/// How what was drawn is run.
#[derive(Debug, Args)]
pub struct Running {
    /// Threads: of calls, each on a file of its own for the most part, or of programs
    #[arg(
        long,
        value_name = "N",
        default_value_t = THREADS,
        value_parser = clap::value_parser!(u32).range(1..=64)
    )]
    pub threads: u32,
    /// How much longer than usual calls may take, on slow kernels
    #[arg(
        long,
        env = "P2PDMA_TIMEOUT_SCALE",
        value_name = "FACTOR",
        default_value_t = 1.0,
        value_parser = parse_scale,
        hide = true
    )]
    pub timeout_scale: f64,
    /// How many threads want each processor: as many times longer may things take
    #[arg(
        long,
        env = "P2PDMA_LOAD",
        value_name = "FACTOR",
        default_value_t = 1.0,
        value_parser = parse_scale,
        hide = true
    )]
    pub load: f64,
    /// Disks whose content may be destroyed
    #[arg(
        long,
        env = "P2PDMA_SCRATCH",
        value_delimiter = ' ',
        value_name = "DISKS",
        hide = true
    )]
    pub scratch: Vec<String>,
    /// Print one JSON object instead of a table
    #[arg(long)]
    pub json: bool,
}

impl Running {
    /// So many seconds, on this machine.
    pub fn patience(&self, seconds: u64) -> Duration {
        Duration::from_secs(seconds).mul_f64(self.timeout_scale * self.load)
    }
}
