// SPDX-License-Identifier: GPL-2.0

//! Memory that transfers go to and come from.
//!
//! Peer-to-peer memory is a device's: it is read and written a word at a time, never by `memcpy`,
//! and no reference to its bytes is ever made. The vm-memory crate was written for guest memory,
//! which asks for the same.

use std::fs::File;
use std::io::{self, Seek, SeekFrom};
use std::os::fd::AsFd;
use std::sync::atomic::{AtomicU64, Ordering};

use vm_memory::mmap::MmapRegionError;
use vm_memory::{
    FileOffset, MmapRegion, ReadVolatile, VolatileMemory, VolatileMemoryError, WriteVolatile,
};

use crate::pattern::{Pattern, What, WORD};

/// A mapping.
#[derive(Debug)]
pub struct Memory {
    region: MmapRegion,
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
        Ok(Memory { region })
    }

    /// Peer-to-peer memory, taken from the pool whose `p2pmem/allocate` this is.
    pub fn from_pool(allocate: File, len: usize) -> io::Result<Self> {
        let start = FileOffset::new(allocate, 0);
        let region = MmapRegion::from_file(start, len).map_err(map_error)?;
        Ok(Memory { region })
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

    /// One read from a file into a part of it: the number of bytes read.
    pub fn read_from(
        &self,
        mut file: &File,
        pos: u64,
        offset: usize,
        len: usize,
    ) -> io::Result<usize> {
        file.seek(SeekFrom::Start(pos))?;
        let mut slice = self.region.get_slice(offset, len).map_err(io_error)?;
        file.as_fd().read_volatile(&mut slice).map_err(io_error)
    }

    /// One write from a part of it to a file: the number of bytes written.
    pub fn write_to(
        &self,
        mut file: &File,
        pos: u64,
        offset: usize,
        len: usize,
    ) -> io::Result<usize> {
        file.seek(SeekFrom::Start(pos))?;
        let slice = self.region.get_slice(offset, len).map_err(io_error)?;
        file.as_fd().write_volatile(&slice).map_err(io_error)
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
    fn refuses_what_is_outside() {
        let memory = Memory::ordinary(4096).expect("memory");
        assert!(memory.fill(4096, 8, PATTERN, What::Data, 0).is_err());
        assert!(memory.words(0, 4104).is_err());
        let file = tempfile::tempfile().expect("a file");
        assert!(memory.read_from(&file, 0, 4096, 1).is_err());
    }
}
