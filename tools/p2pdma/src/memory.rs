// SPDX-License-Identifier: GPL-2.0

//! Memory that transfers go to and come from.
//!
//! Peer-to-peer memory is a device's: it is read and written a word at a time, never by `memcpy`,
//! and no reference to its bytes is ever made. The vm-memory crate was written for guest memory,
//! which asks for the same.

use std::fs::File;
use std::io;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::Arc;

use p2pdma_syscalls::{read_at, write_at};
use vm_memory::mmap::MmapRegionError;
use vm_memory::{FileOffset, MmapRegion, VolatileMemory, VolatileMemoryError};

use crate::pattern::{Pattern, What, WORD};

/// A mapping.
#[derive(Debug)]
pub struct Memory {
    region: Arc<MmapRegion>,
}

fn map_error(error: MmapRegionError) -> io::Error {
    match error {
        MmapRegionError::Mmap(error) => error,
        other => io::Error::other(other.to_string()),
    }
}

fn io_error(error: VolatileMemoryError) -> io::Error {
    match error {
        VolatileMemoryError::IOError(error) => error,
        other => io::Error::other(other.to_string()),
    }
}

impl Memory {
    /// Ordinary memory.
    pub fn ordinary(len: usize) -> io::Result<Self> {
        let region = MmapRegion::new(len).map_err(map_error)?;
        Ok(Memory {
            region: Arc::new(region),
        })
    }

    /// Peer-to-peer memory, taken from the pool whose `p2pmem/allocate` this is.
    pub fn from_pool(allocate: File, len: usize) -> io::Result<Self> {
        let start = FileOffset::new(allocate, 0);
        let region = MmapRegion::from_file(start, len).map_err(map_error)?;
        Ok(Memory {
            region: Arc::new(region),
        })
    }

    /// Length in bytes.
    pub fn len(&self) -> usize {
        self.region.size()
    }

    fn at(&self, offset: usize) -> io::Result<&AtomicU64> {
        self.region.get_atomic_ref(offset).map_err(io_error)
    }

    /// Fills a part with a pattern, and reads the last word back, so that posted writes have
    /// arrived before a device is told to fetch them.
    pub fn fill(
        &self,
        offset: usize,
        len: usize,
        pattern: Pattern,
        what: What,
        at: u64,
    ) -> io::Result<()> {
        for (index, position) in (offset..offset + len)
            .step_by(WORD)
            .zip((at..).step_by(WORD))
        {
            self.at(index)?
                .store(pattern.word(what, position), Ordering::Relaxed);
        }
        if len >= WORD {
            self.at(offset + len - WORD)?.load(Ordering::Relaxed);
        }
        Ok(())
    }

    /// Copies words out.
    pub fn words(&self, offset: usize, len: usize) -> io::Result<Vec<u64>> {
        (offset..offset + len)
            .step_by(WORD)
            .map(|index| Ok(self.at(index)?.load(Ordering::Relaxed)))
            .collect()
    }

    /// What is mapped.
    pub fn region(&self) -> &Arc<MmapRegion> {
        &self.region
    }

    /// One read from a file into a part of it: the number of bytes read.
    pub fn read_from(&self, file: &File, pos: u64, offset: usize, len: usize) -> io::Result<usize> {
        read_at(file, pos, &self.region, offset, len)
    }

    /// One write from a part of it to a file: the number of bytes written.
    pub fn write_to(&self, file: &File, pos: u64, offset: usize, len: usize) -> io::Result<usize> {
        write_at(file, pos, &self.region, offset, len)
    }

    /// Copies a part of it, a word at a time, to the same offset of other memory. Both are whole
    /// words.
    pub fn copy_to(&self, other: &Memory, offset: usize, len: usize) -> io::Result<()> {
        const CHUNK: usize = 512;
        let mut chunk = [0_u64; CHUNK];
        let mut at = offset;
        while at < offset + len {
            let words = CHUNK.min((offset + len - at) / WORD);
            let from = self.region.get_array_ref::<u64>(at, words);
            let to = other.region.get_array_ref::<u64>(at, words);
            from.map_err(io_error)?.copy_to(&mut chunk[..words]);
            to.map_err(io_error)?.copy_from(&chunk[..words]);
            at += words * WORD;
        }
        Ok(())
    }

    /// Flips a bit, to show that the comparison finds it.
    pub fn flip(&self, offset: usize) -> io::Result<()> {
        let word = self.at(offset / WORD * WORD)?;
        word.store(word.load(Ordering::Relaxed) ^ 1, Ordering::Relaxed);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PATTERN: Pattern = Pattern::new(7);

    #[test]
    fn holds_what_it_is_filled_with() {
        let memory = Memory::ordinary(8192).expect("memory");
        memory
            .fill(4096, 4096, PATTERN, What::Data, 0x1000)
            .expect("a fill");
        let words = memory.words(4096, 4096).expect("words");
        assert_eq!(PATTERN.check(words.into_iter(), What::Data, 0x1000), Ok(()));
        assert!(memory
            .words(0, 4096)
            .expect("words")
            .iter()
            .all(|word| *word == 0));
    }

    #[test]
    fn moves_to_and_from_files() {
        let file = tempfile::tempfile().expect("a file");
        let memory = Memory::ordinary(8192).expect("memory");
        memory
            .fill(0, 4096, PATTERN, What::Data, 0)
            .expect("a fill");
        assert_eq!(memory.write_to(&file, 512, 0, 4096).expect("a write"), 4096);
        assert_eq!(
            memory.read_from(&file, 512, 4096, 4096).expect("a read"),
            4096
        );
        let words = memory.words(4096, 4096).expect("words");
        assert_eq!(PATTERN.check(words.into_iter(), What::Data, 0), Ok(()));
        assert_eq!(
            memory
                .read_from(&file, 512 + 4096, 0, 4096)
                .expect("the end"),
            0
        );
    }

    #[test]
    fn copies() {
        let (from, to) = (Memory::ordinary(16384), Memory::ordinary(16384));
        let (from, to) = (from.expect("memory"), to.expect("memory"));
        from.fill(0, 16384, PATTERN, What::Data, 0).expect("a fill");
        from.copy_to(&to, 4096, 8200).expect("a copy");
        let words = to.words(4096, 8200).expect("words");
        assert_eq!(PATTERN.check(words.into_iter(), What::Data, 4096), Ok(()));
        for (start, len) in [(0, 4096), (12296, 4088)] {
            let words = to.words(start, len).expect("words");
            assert!(words.iter().all(|word| *word == 0), "{start}");
        }
        assert!(from.copy_to(&to, 16384, 8).is_err());
    }

    #[test]
    fn refuses_what_is_outside() {
        let memory = Memory::ordinary(4096).expect("memory");
        assert!(memory.fill(4096, 8, PATTERN, What::Data, 0).is_err());
        assert!(memory.words(0, 4104).is_err());
        let file = tempfile::tempfile().expect("a file");
        assert!(memory.read_from(&file, 0, 4096, 1).is_err());
    }
}
