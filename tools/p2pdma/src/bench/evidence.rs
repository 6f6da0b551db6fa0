// SPDX-License-Identifier: GPL-2.0

//! What shows which path transfers took.
//!
//! - The pages of the buffers, by `/proc/self/pagemap`: physical addresses inside of a BAR of the
//!   provider, or not.
//! - The counters of the disk, `/sys/class/block/DISK/stat`: bytes that its queue has moved,
//!   against those that were asked for. What a cache answers does not count there.
//! - The kernel's trace of DMA mappings, for a few transfers that are not measured. Ordinary memory
//!   and memory that is reached through the host bridge is mapped, and traced with its physical
//!   address; memory that is reached by its bus address is not.

use std::fs::{self, File};
use std::io;
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};

use p2pdma_syscalls::MmapRegion;
use serde::{Deserialize, Serialize};

use crate::bdf::Bdf;
use crate::machine::Machine;

/// Physical addresses: the first, and the one after the last.
pub type Range = (u64, u64);

/// The BARs of a function.
pub fn bars(machine: &Machine, bdf: Bdf) -> Vec<Range> {
    let device = machine.devices.get(&bdf);
    let bars = device.into_iter().flat_map(|device| &device.facts.bars);
    bars.filter_map(|bar| {
        let end = bar.address.checked_add(bar.size?)?;
        (bar.address != 0).then_some((bar.address, end))
    })
    .collect()
}

fn is_in(ranges: &[Range], address: u64) -> bool {
    ranges
        .iter()
        .any(|(start, end)| (*start..*end).contains(&address))
}

/// Where the pages of a buffer are.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Pages {
    /// In a BAR of the provider.
    pub in_provider: u64,
    /// Anywhere else.
    pub elsewhere: u64,
    /// Not known: this takes root.
    pub unknown: u64,
}

impl Pages {
    fn count(&mut self, entry: u64, page: u64, ranges: &[Range]) {
        // bit 63: present; bits 0 to 54: number of the page, 0 without CAP_SYS_ADMIN
        let number = entry & ((1 << 55) - 1);
        if entry >> 63 == 0 || number == 0 {
            self.unknown += 1;
        } else if is_in(ranges, number * page) {
            self.in_provider += 1;
        } else {
            self.elsewhere += 1;
        }
    }

    /// Those of mapped memory. What was never touched is not known.
    pub fn of(region: &MmapRegion, ranges: &[Range]) -> Self {
        let page = rustix::param::page_size();
        let mut pages = Pages::default();
        let map = File::open("/proc/self/pagemap");
        let start = region.as_ptr() as usize / page;
        for index in 0..region.size().div_ceil(page) {
            let mut entry = [0; 8];
            let read = map.as_ref().map(|map| {
                let at = (start + index) as u64 * 8;
                map.read_exact_at(&mut entry, at)
            });
            let entry = match read {
                Ok(Ok(())) => u64::from_ne_bytes(entry),
                _ => 0,
            };
            pages.count(entry, page as u64, ranges);
        }
        pages
    }
}

/// Bytes that the queue of a disk has moved, as it counts them: read and written. None if it does
/// not.
pub fn moved(root: &Path, disk: &str) -> Option<u64> {
    let dir = root.join("sys/class/block").join(disk);
    let counts = fs::read_to_string(dir.join("queue/iostats")).ok();
    if counts.is_some_and(|text| text.trim() == "0") {
        return None;
    }
    sectors(&fs::read_to_string(dir.join("stat")).ok()?).map(|sectors| sectors * 512)
}

/// Sectors that were read and written, by the text of a disk's `stat`.
fn sectors(stat: &str) -> Option<u64> {
    let fields: Vec<u64> = stat
        .split_whitespace()
        .map_while(|field| field.parse().ok())
        .collect();
    fields.get(2)?.checked_add(*fields.get(6)?)
}

/// DMA mappings that were traced for one device.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Mappings {
    /// Of memory in a BAR of the provider.
    pub of_provider: u64,
    /// Of other memory.
    pub of_others: u64,
}

impl Mappings {
    /// Counts those in a trace.
    fn of(trace: &str, device: Bdf, ranges: &[Range]) -> Self {
        let name = format!("{device} ");
        let mut mappings = Mappings::default();
        for line in trace.lines().filter(|line| !line.starts_with('#')) {
            // ...: dma_map_phys: 0000:04:00.0 dir=FROM_DEVICE dma_addr=1 size=4096 phys_addr=1 ...
            let event = EVENTS
                .iter()
                .find_map(|event| line.split_once(&format!(" {event}: ")));
            let Some((_, rest)) = event.filter(|(_, rest)| rest.starts_with(&name)) else {
                continue;
            };
            let mut words = rest.split(' ');
            let address = words.find_map(|word| word.strip_prefix("phys_addr="));
            let address = address.and_then(|hex| u64::from_str_radix(hex, 16).ok());
            match address {
                Some(address) if is_in(ranges, address) => mappings.of_provider += 1,
                Some(_) => mappings.of_others += 1,
                None => {}
            }
        }
        mappings
    }
}

/// Events of DMA mappings, as different kernels call them.
const EVENTS: [&str; 2] = ["dma_map_phys", "dma_map_page"];

/// Removes what runs have left behind that were killed.
fn remove_stale(instances: &Path) {
    for entry in fs::read_dir(instances).into_iter().flatten().flatten() {
        let name = entry.file_name();
        let owner = name.to_str().and_then(|name| name.strip_prefix("p2pdma-"));
        let owner = owner.and_then(|owner| owner.parse::<u32>().ok());
        if owner.is_some_and(|owner| !Path::new(&format!("/proc/{owner}")).exists()) {
            // events that are on keep it busy
            let _ = fs::write(entry.path().join("events/enable"), "0");
            let _ = fs::remove_dir(entry.path());
        }
    }
}

/// An instance of the kernel's tracing of its own, which is removed in the end.
pub struct Trace {
    dir: PathBuf,
}

impl Trace {
    /// One that has DMA mappings on.
    ///
    /// # Errors
    ///
    /// Why there is none, in words.
    pub fn new() -> Result<Self, String> {
        let tracing = ["/sys/kernel/tracing", "/sys/kernel/debug/tracing"]
            .map(Path::new)
            .into_iter()
            .find(|dir| dir.join("instances").is_dir())
            .ok_or("tracefs is not there (mount -t tracefs tracefs /sys/kernel/tracing)")?;
        let instances = tracing.join("instances");
        remove_stale(&instances);
        let dir = instances.join(format!("p2pdma-{}", std::process::id()));
        fs::create_dir(&dir).map_err(|error| format!("cannot trace: {error}"))?;
        let trace = Trace { dir };
        let _ = trace.set("tracing_on", "0");
        let events = trace.dir.join("events/dma");
        let is_on = EVENTS
            .iter()
            .map(|event| fs::write(events.join(event).join("enable"), "1"))
            .any(|result| result.is_ok());
        match is_on {
            true => Ok(trace),
            false => Err("this kernel does not trace DMA mappings".to_owned()),
        }
    }

    fn set(&self, file: &str, value: &str) -> io::Result<()> {
        fs::write(self.dir.join(file), value)
    }

    /// Begins anew.
    pub fn start(&self) -> io::Result<()> {
        self.set("trace", "")?;
        self.set("tracing_on", "1")
    }

    /// Ends it: what a device was mapped since it began.
    pub fn stop(&self, device: Bdf, ranges: &[Range]) -> io::Result<Mappings> {
        self.set("tracing_on", "0")?;
        let trace = fs::read(self.dir.join("trace"))?;
        let text = String::from_utf8_lossy(&trace);
        Ok(Mappings::of(&text, device, ranges))
    }
}

impl Drop for Trace {
    fn drop(&mut self) {
        // events that are on keep it busy
        for event in EVENTS {
            let _ = self.set(&format!("events/dma/{event}/enable"), "0");
        }
        let _ = fs::remove_dir(&self.dir);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::memory::Memory;

    const BARS: [Range; 2] = [(0x1000_0000, 0x1400_0000), (0xfe00_0000, 0xfe00_1000)];

    #[test]
    fn knows_pages() {
        let mut pages = Pages::default();
        for entry in [
            (1 << 63) | 0x10000,
            (1 << 63) | 0x13fff,
            (1 << 63) | 0x14000,
            1 << 63,
            0x10000,
        ] {
            pages.count(entry, 4096, &BARS);
        }
        let expected = Pages {
            in_provider: 2,
            elsewhere: 1,
            unknown: 2,
        };
        assert_eq!(pages, expected);
        let memory = Memory::ordinary(65536).expect("memory");
        let all = Pages::of(memory.region(), &BARS);
        let page = rustix::param::page_size() as u64;
        assert_eq!(all.in_provider, 0);
        assert_eq!(all.elsewhere + all.unknown, 65536 / page);
    }

    #[test]
    fn reads_counters() {
        let stat = "    2191        0   137434     1043      100        0     8000        0\n";
        assert_eq!(sectors(stat), Some(145_434));
        for broken in ["", "1 2 3", "1 2 x 4 5 6 7", "-1"] {
            assert_eq!(sectors(broken), None, "{broken}");
        }
        let root = tempfile::tempdir().expect("a directory");
        let disk = root.path().join("sys/class/block/nvme0n1");
        fs::create_dir_all(disk.join("queue")).expect("a directory");
        fs::write(disk.join("stat"), "1 0 8 0 1 0 16 0").expect("a file");
        assert_eq!(moved(root.path(), "nvme0n1"), Some(24 * 512));
        fs::write(disk.join("queue/iostats"), "0\n").expect("a file");
        assert_eq!(moved(root.path(), "nvme0n1"), None);
    }

    #[test]
    fn reads_traces() {
        let trace = "\
# tracer: nop
 p2pdma-80 [001] ..... 12.3: dma_map_phys: 0000:04:00.0 dir=FROM_DEVICE dma_addr=10001000 \
size=4096 phys_addr=10001000 attrs=MMIO
 p2pdma-80 [001] ..... 12.4: dma_map_phys: 0000:04:00.0 dir=FROM_DEVICE dma_addr=2000 size=4096 \
phys_addr=2000 attrs=
 p2pdma-80 [001] ..... 12.4: dma_map_phys: 0000:05:00.0 dir=FROM_DEVICE dma_addr=2000 size=4096 \
phys_addr=10001000 attrs=
 p2pdma-80 [001] ..... 12.5: dma_unmap_phys: 0000:04:00.0 addr=2000 size=4096
 p2pdma-80 [001] ..... 12.5: dma_map_phys: 0000:04:00.0 phys_addr=zz
";
        let device = "04:00.0".parse().expect("an address");
        let mappings = Mappings {
            of_provider: 1,
            of_others: 1,
        };
        assert_eq!(Mappings::of(trace, device, &BARS), mappings);
    }
}
