// SPDX-License-Identifier: GPL-2.0

//! Places for the kernel to read, write, pin and extract.

use std::fs::OpenOptions;
use std::marker::PhantomData;
use std::path::{Path, PathBuf};

use anyhow::{bail, Context, Result};
use rand::seq::SliceRandom;
use rand::Rng;
use vm_memory::mmap::MmapRegionBuilder;
use vm_memory::{FileOffset, MmapRegion, VolatileMemory};

/// Protection and flags of mmap(), as Linux has them everywhere.
const PROT_NONE: i32 = 0;
const PROT_READ: i32 = 1;
const PROT_WRITE: i32 = 2;
const MAP_SHARED: i32 = 1;
const MAP_PRIVATE: i32 = 2;
const MAP_ANONYMOUS: i32 = 0x20;

/// Pages of each region.
pub const PAGES: usize = 16;
/// Size of a page.
pub const PAGE: usize = 4096;

const SIZE: usize = PAGES * PAGE;

/// A place in the address space that the kernel may write to without doing harm: in one of the
/// arena's regions, which stay for `'a`, or where nothing can be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Address<'a>(usize, PhantomData<&'a Arena>);

impl Address<'_> {
    /// The null pointer.
    pub const NULL: Address<'static> = Address(0, PhantomData);

    /// The address.
    pub fn get(self) -> usize {
        self.0
    }
}

/// Consecutive pages of the arena.
#[derive(Debug, Clone, Copy)]
pub struct Region<'a>(Address<'a>, usize);

impl Region<'_> {
    /// Its first address.
    pub fn start(&self) -> usize {
        self.0.get()
    }

    /// Its length in bytes.
    pub fn len(&self) -> usize {
        self.1
    }
}

/// Memory that belongs to nothing else in this process.
///
/// The kernel writes upwards, and stops at what it cannot write to: each region has such pages
/// behind it.
pub struct Arena {
    /// Anonymous memory that can be written, first; then read-only, then without access.
    anonymous: Vec<MmapRegion>,
    /// A mapping to read and write, and one to read, of each provider.
    peer_to_peer: Vec<MmapRegion>,
    /// What is between the regions. It may be more than there are regions.
    guards: Vec<MmapRegion>,
    allocate: Vec<PathBuf>,
}

fn map(prot: i32, flags: i32, file: Option<&Path>) -> Result<MmapRegion> {
    let builder = MmapRegionBuilder::new(SIZE)
        .with_mmap_prot(prot)
        .with_mmap_flags(flags);
    let builder = match file {
        Some(path) => {
            let file = OpenOptions::new()
                .read(true)
                .write(prot & PROT_WRITE != 0)
                .open(path)
                .with_context(|| path.display().to_string())?;

            builder.with_file_offset(FileOffset::new(file, 0))
        }
        None => builder,
    };

    Ok(builder.build()?)
}

fn start(region: &MmapRegion) -> usize {
    region.as_ptr() as usize
}

/// Places that are in nobody's memory.
const NOWHERE: [usize; 8] = [
    0,
    1,
    8,
    PAGE - 1,
    1 << 47,
    (1 << 47) - PAGE,
    usize::MAX,
    usize::MAX - PAGE + 1,
];

impl Arena {
    /// Regions of all kinds, those of the providers with these `p2pmem/allocate` among them.
    pub fn new(allocate: Vec<PathBuf>) -> Result<Self> {
        let mut arena = Arena {
            anonymous: Vec::new(),
            peer_to_peer: Vec::new(),
            guards: Vec::new(),
            allocate,
        };

        for prot in [PROT_READ | PROT_WRITE, PROT_READ, PROT_NONE] {
            let region = arena.guarded(prot, MAP_PRIVATE | MAP_ANONYMOUS, None)?;
            arena.anonymous.push(region);
        }
        arena.map_providers();
        Ok(arena)
    }

    /// A region with a guard behind it. New mappings are put below the last one, or into a hole:
    /// what has no guard there is given back, and its place made one.
    fn guarded(&mut self, prot: i32, flags: i32, file: Option<&Path>) -> Result<MmapRegion> {
        for _ in 0..64 {
            let region = map(prot, flags, file)?;
            let behind = start(&region) + SIZE;

            if self.guards.iter().any(|guard| start(guard) == behind) {
                return Ok(region);
            }
            drop(region);
            self.guards
                .push(map(PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, None)?);
        }
        bail!("the kernel puts no two mappings next to each other")
    }

    /// Maps providers anew, those that have gone and come back in particular. One that is away, or
    /// whose pool is empty, is left out.
    pub fn map_providers(&mut self) {
        self.peer_to_peer.clear();
        for path in self.allocate.clone() {
            for prot in [PROT_READ | PROT_WRITE, PROT_READ] {
                if let Ok(region) = self.guarded(prot, MAP_SHARED, Some(&path)) {
                    self.peer_to_peer.push(region);
                }
            }
        }
    }

    /// Any place: mostly in a region, often at an edge, sometimes where nothing can be.
    ///
    /// Takes the same number from `rng` whatever is mapped.
    pub fn any(&self, rng: &mut impl Rng) -> Address<'_> {
        let kernel = rng.gen::<usize>() | (1 << 63);
        let nowhere = *NOWHERE.choose(rng).unwrap_or(&0);
        let which: u32 = rng.gen_range(0..100);
        let number: usize = rng.gen();
        let offset = match rng.gen_range(0..6) {
            0 => 0,
            1 => SIZE - 1 - number % 64,
            2 => number % PAGES * PAGE,
            3 => number % SIZE,
            4 => (number % SIZE) & !7,
            _ => (PAGES - 1) * PAGE,
        };
        let peer_to_peer = match self.peer_to_peer.len() {
            0 => None,
            len => Some(&self.peer_to_peer[number / SIZE % len]),
        };
        let region = match which {
            0..8 => return Address(nowhere, PhantomData),
            8..10 => return Address(kernel, PhantomData),
            10..14 => &self.anonymous[2],
            14..20 => &self.anonymous[1],
            20..60 => peer_to_peer.unwrap_or(&self.anonymous[0]),
            _ => &self.anonymous[0],
        };

        Address(start(region) + offset, PhantomData)
    }

    /// A region with the guard after it: of a provider for the most part, if there is one.
    pub fn region(&self, number: usize) -> Region<'_> {
        let region = match self.peer_to_peer.len() {
            0 => &self.anonymous[0],
            _ if number % 4 == 0 => &self.anonymous[number / 4 % 2],
            len => &self.peer_to_peer[number / 4 % len],
        };

        Region(Address(start(region), PhantomData), 2 * SIZE)
    }

    /// A place in memory that can be written, with room for `len` bytes, if it has as much.
    pub fn room(&self, rng: &mut impl Rng, len: usize) -> Address<'_> {
        let number: usize = rng.gen();
        let room = SIZE.saturating_sub(len);
        let offset = if number % 4 == 0 {
            room
        } else {
            number / 4 % (room / 8 + 1) * 8
        };

        Address(start(&self.anonymous[0]) + offset, PhantomData)
    }

    /// Puts `bytes` at a place in memory that can be written.
    pub fn store(&self, rng: &mut impl Rng, bytes: &[u8]) -> Address<'_> {
        let bytes = &bytes[..bytes.len().min(SIZE)];
        let address = self.room(rng, bytes.len());
        let region = &self.anonymous[0];

        // Does not fail: there is room. The kernel may be writing there for another thread.
        if let Ok(slice) = region.get_slice(address.get() - start(region), bytes.len()) {
            slice.copy_from(bytes);
        }
        address
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rand::SeedableRng;
    use rand_chacha::ChaCha8Rng;
    use std::sync::{Mutex, MutexGuard, PoisonError};

    /// Regions are put next to each other only if nobody else maps memory meanwhile.
    fn alone() -> MutexGuard<'static, ()> {
        static ARENAS: Mutex<()> = Mutex::new(());

        ARENAS.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether the kernel may write `len` bytes there.
    fn is_harmless(arena: &Arena, address: usize) -> bool {
        let regions = arena.anonymous.iter().chain(&arena.peer_to_peer);

        regions
            .map(start)
            .any(|start| (start..start + SIZE).contains(&address))
            || !(PAGE..(1 << 47) - PAGE).contains(&address)
    }

    #[test]
    fn addresses_do_no_harm() {
        let _alone = alone();
        let arena = Arena::new(Vec::new()).expect("arena");
        let mut rng = ChaCha8Rng::seed_from_u64(1);

        for _ in 0..100_000 {
            let address = arena.any(&mut rng).get();

            assert!(is_harmless(&arena, address), "{address:#x}");
        }
    }

    #[test]
    fn regions_are_guarded() {
        let _alone = alone();
        let arena = Arena::new(Vec::new()).expect("arena");

        for region in &arena.anonymous {
            let behind = start(region) + SIZE;

            assert!(arena.guards.iter().any(|guard| start(guard) == behind));
        }
    }

    #[test]
    fn what_is_stored_fits() {
        let _alone = alone();
        let arena = Arena::new(Vec::new()).expect("arena");
        let mut rng = ChaCha8Rng::seed_from_u64(2);
        let writable = start(&arena.anonymous[0]);

        for len in [0, 1, 16, 4096, SIZE, SIZE + 1] {
            for _ in 0..1000 {
                let at = arena.store(&mut rng, &vec![1; len]).get();

                assert!(at >= writable && at + len.min(SIZE) <= writable + SIZE);
            }
        }
    }

    #[test]
    fn numbers_drawn_do_not_depend_on_what_is_mapped() {
        let _alone = alone();
        let one = Arena::new(Vec::new()).expect("arena");
        let mut other = Arena::new(Vec::new()).expect("arena");
        let mut a = ChaCha8Rng::seed_from_u64(3);
        let mut b = a.clone();

        other
            .peer_to_peer
            .push(map(PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS, None).expect("mapping"));
        for _ in 0..1000 {
            one.any(&mut a);
            other.any(&mut b);
        }
        assert_eq!(a.gen::<u64>(), b.gen::<u64>());
    }
}
