// SPDX-License-Identifier: GPL-2.0

//! Measures the library's calls against their C twins.
//!
//! Both drivers of `tools/bench/modules` are bound to the same device in turn. The smallest of all
//! rounds counts: whatever disturbs a round makes it longer, never shorter.
//!
//! What is done to user pages is measured on peer-to-peer memory and on anonymous memory.

mod pages;

use std::{
    fs::{self, File},
    os::fd::AsRawFd,
    path::{Path, PathBuf},
    process::ExitCode,
    time::Instant,
};

use anyhow::{bail, ensure, Context, Result};
use clap::Parser;
use serde::Serialize;

use crate::pages::{Costs, PageRow};

/// Calls in one reading of an attribute, as in the drivers.
const ITERATIONS: u64 = 200;

/// The attributes that the drivers have, and what they measure.
const CALLS: [(&str, &str); 8] = [
    ("alloc", "alloc + free, 64 KiB"),
    ("alloc_sgl", "alloc_sgl + free_sgl, 64 KiB"),
    ("distance", "distance, 1 client"),
    ("distance_many", "distance_many, 4 clients"),
    ("map", "map + unmap, 64 KiB"),
    ("bio_1", "bio of 1 page"),
    ("bio_16", "bio of 16 pages, one segment"),
    ("bio_segments", "bio of 16 pages, 16 segments"),
];

/// Measure the library's calls against the same calls in C.
///
/// To be run as root in a virtual machine: binds two drivers to a device in turn. Under QEMU's
/// -icount shift=0 the nanoseconds shown are instructions.
#[derive(Parser)]
#[command(after_help = "Examples:\n  \
    p2pdma-bench\n  \
    p2pdma-bench --device 0000:05:00.0 --rounds 50 --json\n\n\
    Exit status: 0 measured, 2 could not be measured.")]
struct Arguments {
    /// PCI function to bind, with a memory BAR 2 [default: the first QEMU pci-testdev]
    #[arg(long, value_name = "BDF")]
    device: Option<String>,
    /// Disk whose driver takes peer-to-peer memory, for bios that are not submitted
    #[arg(long, value_name = "PATH", default_value = "/dev/nvme0n1")]
    disk: PathBuf,
    /// How often each call is measured
    #[arg(long, default_value_t = 25, value_parser = clap::value_parser!(u32).range(1..=10_000))]
    rounds: u32,
    /// Print one JSON object instead of a table
    #[arg(long)]
    json: bool,
}

/// Nanoseconds for one call.
#[derive(Serialize)]
struct Row {
    call: &'static str,
    c: f64,
    rust: f64,
    ratio: f64,
}

#[derive(Serialize)]
struct Report {
    device: String,
    rounds: u32,
    unit: &'static str,
    rows: Vec<Row>,
    pages: Vec<PageRow>,
}

/// A PCI function in sysfs.
struct Device {
    bus: PathBuf,
    name: String,
}

impl Device {
    fn path(&self) -> PathBuf {
        self.bus.join("devices").join(&self.name)
    }

    /// The driver it is bound to.
    fn driver(&self) -> Option<String> {
        let link = fs::read_link(self.path().join("driver")).ok()?;

        Some(link.file_name()?.to_string_lossy().into_owned())
    }

    fn write(&self, file: &Path, value: &str) -> Result<()> {
        fs::write(file, value)
            .with_context(|| format!("cannot write {value:?} to {}", file.display()))
    }

    fn unbind(&self) -> Result<()> {
        match self.driver() {
            Some(driver) => self.write(
                &self.bus.join("drivers").join(driver).join("unbind"),
                &self.name,
            ),
            None => Ok(()),
        }
    }

    fn bind(&self, driver: &str) -> Result<()> {
        self.write(
            &self.bus.join("drivers").join(driver).join("bind"),
            &self.name,
        )
    }

    /// Which driver may be bound; none in particular if empty.
    fn allow(&self, driver: &str) -> Result<()> {
        self.write(&self.path().join("driver_override"), &format!("{driver}\n"))
    }
}

fn first_testdev(bus: &Path) -> Result<String> {
    let id =
        |dir: &Path, file| fs::read_to_string(dir.join(file)).map(|text| text.trim().to_owned());
    let devices = bus.join("devices");
    let mut names: Vec<_> = fs::read_dir(&devices)
        .with_context(|| format!("cannot list {}", devices.display()))?
        .filter_map(|entry| entry.ok())
        .filter(|entry| {
            let dir = entry.path();

            matches!(
                (id(&dir, "vendor").as_deref(), id(&dir, "device").as_deref()),
                (Ok("0x1b36"), Ok("0x0005"))
            )
        })
        .map(|entry| entry.file_name().to_string_lossy().into_owned())
        .collect();

    names.sort();
    match names.into_iter().next() {
        Some(name) => Ok(name),
        None => bail!("no QEMU pci-testdev here: name another device with --device"),
    }
}

/// A number in a file.
fn read_number(file: &Path) -> Result<u64> {
    let text =
        fs::read_to_string(file).with_context(|| format!("cannot read {}", file.display()))?;

    text.trim()
        .parse()
        .with_context(|| format!("{} is not a number: {text:?}", file.display()))
}

/// Keeps the smallest of the values for each of its places.
fn keep_smallest(smallest: &mut [u64], values: &[u64]) {
    for (smallest, value) in smallest.iter_mut().zip(values) {
        *smallest = (*smallest).min(*value);
    }
}

/// One round with `driver`: the calls' times, then that of unbinding and binding; and what pages
/// cost.
fn round(
    device: &Device,
    disk: &File,
    driver: &str,
    costs: &mut Costs,
) -> Result<[u64; CALLS.len() + 1]> {
    let mut times = [0; CALLS.len() + 1];

    device.allow(driver)?;
    device.bind(driver)?;
    // Named as the driver.
    let group = device.path().join(driver);

    device.write(&group.join("disk"), &disk.as_raw_fd().to_string())?;
    for (time, (attribute, _)) in times.iter_mut().zip(CALLS) {
        *time = read_number(&group.join(attribute))?;
    }
    costs.measure(&device.path(), &group)?;

    let start = Instant::now();
    device.unbind()?;
    device.bind(driver)?;
    times[CALLS.len()] = start.elapsed().as_nanos().try_into()?;
    device.unbind()?;
    Ok(times)
}

fn measure(device: &Device, disk: &File, rounds: u32) -> Result<(Vec<Row>, Vec<PageRow>)> {
    let mut c = [u64::MAX; CALLS.len() + 1];
    let mut rust = c;
    let mut c_pages = Costs::new();
    let mut rust_pages = Costs::new();

    for _ in 0..rounds {
        keep_smallest(
            &mut c,
            &round(device, disk, "p2pdma_bench_c", &mut c_pages)?,
        );
        keep_smallest(
            &mut rust,
            &round(device, disk, "p2pdma_bench_rust", &mut rust_pages)?,
        );
    }

    let calls = CALLS.map(|(_, call)| (call, ITERATIONS));
    let all = calls.into_iter().chain([("bind + unbind", 1)]);
    let rows = all
        .zip(c.into_iter().zip(rust))
        .map(|((call, iterations), (c, rust))| Row {
            call,
            c: c as f64 / iterations as f64,
            rust: rust as f64 / iterations as f64,
            ratio: rust as f64 / c as f64,
        })
        .collect();
    Ok((rows, pages::rows(&c_pages, &rust_pages)))
}

fn run(arguments: &Arguments) -> Result<()> {
    let bus = PathBuf::from("/sys/bus/pci");
    let name = match &arguments.device {
        Some(name) => name.clone(),
        None => first_testdev(&bus)?,
    };
    let device = Device { bus, name };

    ensure!(
        device.path().exists(),
        "no PCI device {}: `ls /sys/bus/pci/devices` lists those that are there",
        device.name
    );
    for driver in ["p2pdma_bench_c", "p2pdma_bench_rust"] {
        ensure!(
            device.bus.join("drivers").join(driver).exists(),
            "the module {driver} is not loaded"
        );
    }

    let disk = File::open(&arguments.disk)
        .with_context(|| format!("cannot open {}: see --disk", arguments.disk.display()))?;
    let before = device.driver();
    device.unbind()?;
    // Of small pages, as peer-to-peer memory is.
    let measured =
        pages::without_huge_pages(Path::new("/"), || measure(&device, &disk, arguments.rounds));
    device.unbind()?;
    device.allow("")?;
    if let Some(before) = before {
        device.bind(&before)?;
    }

    let (rows, pages) = measured?;
    let report = Report {
        device: device.name,
        rounds: arguments.rounds,
        unit: "ns per call, the smallest of all rounds; instructions under -icount shift=0",
        rows,
        pages,
    };
    if arguments.json {
        println!("{}", serde_json::to_string_pretty(&report)?);
    } else {
        println!("{:<30} {:>12} {:>12} {:>8}", "call", "C", "Rust", "ratio");
        for row in &report.rows {
            println!(
                "{:<30} {:>12.1} {:>12.1} {:>8.3}",
                row.call, row.c, row.rust, row.ratio
            );
        }
        println!(
            "\n{:<30} {:>25} {:>25} {:>8}",
            "", "anonymous", "peer-to-peer", ""
        );
        println!(
            "{:<30} {:>12} {:>12} {:>12} {:>12} {:>8}",
            "call", "C", "Rust", "C", "Rust", "ratio"
        );
        for row in &report.pages {
            println!(
                "{:<30} {:>12.1} {:>12.1} {:>12.1} {:>12.1} {:>8.3}",
                format!("{}, pages: {}", row.call, row.pages),
                row.anonymous.c,
                row.anonymous.rust,
                row.peer_to_peer.c,
                row.peer_to_peer.rust,
                row.ratio
            );
        }
        println!("# {}", report.unit);
    }
    Ok(())
}

fn main() -> ExitCode {
    match run(&Arguments::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(e) => {
            eprintln!("p2pdma-bench: {e:#}");
            ExitCode::from(2)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn smallest_of_each() {
        let mut smallest = [u64::MAX; 3];

        keep_smallest(&mut smallest, &[3, 2, 9]);
        keep_smallest(&mut smallest, &[4, 1, 9]);
        assert_eq!(smallest, [3, 1, 9]);
    }

    #[test]
    fn arguments() {
        use clap::CommandFactory as _;

        Arguments::command().debug_assert();
        assert!(Arguments::try_parse_from(["p2pdma-bench", "--rounds", "0"]).is_err());
    }
}
