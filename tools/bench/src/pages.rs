// SPDX-License-Identifier: GPL-2.0

//! What it costs to pin and to extract user pages, peer-to-peer memory against anonymous memory.

use std::fs::{self, OpenOptions};
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};

use anyhow::{Context, Result};
use serde::Serialize;
use vm_memory::{FileOffset, MmapRegion, VolatileMemory};

/// Calls in one reading of an attribute, as in the drivers.
const ITERATIONS: u64 = 20;

/// The attributes that the drivers have, and what they measure.
const CALLS: [(&str, &str); 2] = [("pin", "pin + unpin"), ("extract", "extract + unpin")];

/// Pages in a call.
const PAGES: [usize; 3] = [1, 16, 512];

const PAGE_SIZE: usize = 4096;

/// The smallest times of one driver: of each call, number of pages and kind of memory, in the order
/// of [`places()`].
pub struct Costs {
    anonymous: Vec<u64>,
    peer_to_peer: Vec<u64>,
}

/// Nanoseconds for one call.
#[derive(Serialize)]
pub struct Cost {
    /// In C.
    pub c: f64,
    /// In Rust.
    pub rust: f64,
}

/// What a call costs.
#[derive(Serialize)]
pub struct PageRow {
    /// The call.
    pub call: &'static str,
    /// Pages that it takes.
    pub pages: usize,
    /// On anonymous memory.
    pub anonymous: Cost,
    /// On peer-to-peer memory.
    pub peer_to_peer: Cost,
    /// Peer-to-peer memory against anonymous memory, in Rust.
    pub ratio: f64,
}

/// All attributes, with all numbers of pages.
fn places() -> impl Iterator<Item = ((&'static str, &'static str), usize)> {
    CALLS
        .into_iter()
        .flat_map(|call| PAGES.into_iter().map(move |pages| (call, pages)))
}

/// Has each page written to once, so that it is there, and writable without a fault.
fn touch(region: &MmapRegion) -> Result<()> {
    for offset in (0..region.size()).step_by(PAGE_SIZE) {
        region
            .get_atomic_ref::<AtomicU64>(offset)?
            .store(1, Ordering::Relaxed);
    }
    Ok(())
}

impl Costs {
    /// Nothing measured yet.
    pub fn new() -> Self {
        Costs {
            anonymous: vec![u64::MAX; places().count()],
            peer_to_peer: vec![u64::MAX; places().count()],
        }
    }

    /// Measures all calls with the driver that is bound to the device in this directory, which has
    /// its attributes in `group`.
    pub fn measure(&mut self, device: &Path, group: &Path) -> Result<()> {
        let allocate = device.join("p2pmem/allocate");

        for (i, ((attribute, _), pages)) in places().enumerate() {
            let file = OpenOptions::new()
                .read(true)
                .write(true)
                .open(&allocate)
                .with_context(|| format!("cannot open {}", allocate.display()))?;
            let kinds = [
                (&mut self.anonymous[i], MmapRegion::new(pages * PAGE_SIZE)?),
                (
                    &mut self.peer_to_peer[i],
                    MmapRegion::from_file(FileOffset::new(file, 0), pages * PAGE_SIZE)?,
                ),
            ];

            for (smallest, region) in kinds {
                let range = format!("{} {}", region.as_ptr() as usize, region.size());

                touch(&region)?;
                fs::write(group.join("range"), &range)
                    .with_context(|| format!("cannot write to {}/range", group.display()))?;
                *smallest = (*smallest).min(crate::read_number(&group.join(attribute))?);
            }
        }
        Ok(())
    }
}

/// The table, from what was measured of both drivers.
pub fn rows(c: &Costs, rust: &Costs) -> Vec<PageRow> {
    let each = |time: u64| time as f64 / ITERATIONS as f64;

    places()
        .enumerate()
        .map(|(i, ((_, call), pages))| PageRow {
            call,
            pages,
            anonymous: Cost {
                c: each(c.anonymous[i]),
                rust: each(rust.anonymous[i]),
            },
            peer_to_peer: Cost {
                c: each(c.peer_to_peer[i]),
                rust: each(rust.peer_to_peer[i]),
            },
            ratio: rust.peer_to_peer[i] as f64 / rust.anonymous[i] as f64,
        })
        .collect()
}

/// Does something while the kernel makes no huge pages, if it can make any.
pub fn without_huge_pages<T>(root: &Path, f: impl FnOnce() -> Result<T>) -> Result<T> {
    let file = root.join("sys/kernel/mm/transparent_hugepage/enabled");
    let Ok(text) = fs::read_to_string(&file) else {
        return f();
    };
    let before = text
        .split(['[', ']'])
        .nth(1)
        .with_context(|| format!("{}: {text:?}", file.display()))?;
    let set = |value: &str| {
        fs::write(&file, value)
            .with_context(|| format!("cannot write {value} to {}", file.display()))
    };

    set("never")?;
    let result = f();
    set(before)?;
    result
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_are_in_order() {
        let mut c = Costs::new();
        let mut rust = Costs::new();

        c.anonymous = (20..26).map(|i| i * 20).collect();
        c.peer_to_peer = c.anonymous.clone();
        rust.anonymous = c.anonymous.clone();
        rust.peer_to_peer = c.anonymous.iter().map(|time| time * 2).collect();
        let rows = rows(&c, &rust);

        assert_eq!(rows.len(), 6);
        assert_eq!((rows[0].call, rows[0].pages), ("pin + unpin", 1));
        assert_eq!((rows[5].call, rows[5].pages), ("extract + unpin", 512));
        assert_eq!(rows[5].anonymous.c, 25.0);
        assert_eq!(rows[5].ratio, 2.0);
    }

    #[test]
    fn huge_pages_are_put_back() {
        let root = tempfile::tempdir().expect("directory");
        let dir = root.path().join("sys/kernel/mm/transparent_hugepage");
        let file = dir.join("enabled");

        fs::create_dir_all(&dir).expect("directory");
        fs::write(&file, "always [madvise] never\n").expect("file");
        let during = without_huge_pages(root.path(), || Ok(fs::read_to_string(&file)?));

        assert_eq!(during.expect("text"), "never");
        assert_eq!(fs::read_to_string(&file).expect("text"), "madvise");
    }
}
