// SPDX-License-Identifier: GPL-2.0

//! Many transfers at once, by io_uring.

use std::fs::File;
use std::io;
use std::mem;
use std::os::fd::AsRawFd as _;
use std::sync::Arc;

use io_uring::{opcode, types, IoUring};
use vm_memory::MmapRegion;

use crate::direct::address;

/// Which way data are moved.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Direction {
    /// From the file to memory.
    Read,
    /// From memory to the file.
    Write,
}

/// What is to be moved.
#[derive(Clone, Debug)]
pub struct Transfer {
    /// Which way.
    pub direction: Direction,
    /// The file.
    pub file: Arc<File>,
    /// Where in the file, in bytes.
    pub pos: u64,
    /// The memory.
    pub region: Arc<MmapRegion>,
    /// Where in the memory, in bytes.
    pub offset: usize,
    /// How much, in bytes.
    pub len: usize,
}

/// A transfer that has ended.
#[derive(Debug)]
pub struct Completion {
    /// The slot it was started in.
    pub slot: usize,
    /// The number of bytes that were moved.
    pub moved: io::Result<usize>,
}

/// What the kernel uses while a transfer is on its way.
struct Held {
    _file: Arc<File>,
    _region: Arc<MmapRegion>,
}

/// An instance of io_uring, with a number of slots in each of which one transfer can be on its
/// way.
pub struct Queue {
    ring: IoUring,
    slots: Vec<Option<Held>>,
    busy: usize,
}

impl Queue {
    /// A queue with so many slots.
    ///
    /// # Errors
    ///
    /// `ENOSYS` from a kernel without io_uring, `EPERM` where it is forbidden, and
    /// [`InvalidInput`](io::ErrorKind::InvalidInput) for no slots or more than 4096.
    pub fn new(depth: usize) -> io::Result<Self> {
        let entries = u32::try_from(depth).ok().filter(|n| (1..=4096).contains(n));
        let entries = entries.ok_or(io::ErrorKind::InvalidInput)?;
        Ok(Queue {
            ring: IoUring::new(entries)?,
            slots: (0..depth).map(|_| None).collect(),
            busy: 0,
        })
    }

    /// Prepares a transfer. It is started by the next [`wait()`](Queue::wait).
    ///
    /// # Errors
    ///
    /// [`InvalidInput`](io::ErrorKind::InvalidInput) if there is no such slot, if one is on its way
    /// in it, or if the transfer leaves the region.
    pub fn push(&mut self, slot: usize, transfer: &Transfer) -> io::Result<()> {
        let Some(free @ None) = self.slots.get_mut(slot) else {
            return Err(io::ErrorKind::InvalidInput.into());
        };
        let at = address(&transfer.region, transfer.offset, transfer.len)?;
        let len = u32::try_from(transfer.len).map_err(|_| io::ErrorKind::InvalidInput)?;
        let fd = types::Fd(transfer.file.as_raw_fd());
        let entry = match transfer.direction {
            Direction::Read => opcode::Read::new(fd, at, len).offset(transfer.pos).build(),
            Direction::Write => opcode::Write::new(fd, at, len).offset(transfer.pos).build(),
        };
        let entry = entry.user_data(slot as u64);
        // SAFETY: The file and the region are kept in `slots`, from here until `wait()` has seen
        // the completion, or for ever if that never comes: see `Drop`. `len` bytes from `at` are
        // inside of the region, which `address()` has checked, and nobody has a reference to them,
        // as `MmapRegion` gives none but to atomics.
        let pushed = unsafe { self.ring.submission().push(&entry) };
        // there are as many entries as slots, and `wait()` takes all
        pushed.map_err(|_| io::Error::from(io::ErrorKind::WouldBlock))?;
        *free = Some(Held {
            _file: transfer.file.clone(),
            _region: transfer.region.clone(),
        });
        self.busy += 1;
        Ok(())
    }

    /// How many transfers are on their way.
    pub fn busy(&self) -> usize {
        self.busy
    }

    /// Starts what was prepared, and waits for a transfer to end, if there is one. All that have
    /// ended are added to `ended`.
    ///
    /// # Errors
    ///
    /// That of `io_uring_enter()`; what is on its way stays so.
    pub fn wait(&mut self, ended: &mut Vec<Completion>) -> io::Result<()> {
        if self.busy == 0 {
            return Ok(());
        }
        loop {
            match self.ring.submit_and_wait(1) {
                Ok(_) => break,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        for entry in self.ring.completion() {
            let slot = usize::try_from(entry.user_data()).unwrap_or(usize::MAX);
            let result = entry.result();
            let moved = usize::try_from(result).map_err(|_| io::Error::from_raw_os_error(-result));
            // one that nothing is on its way in has nothing to give back
            if self.slots.get_mut(slot).and_then(Option::take).is_some() {
                self.busy -= 1;
                ended.push(Completion { slot, moved });
            }
        }
        Ok(())
    }
}

impl Drop for Queue {
    /// Waits for what is on its way: the kernel may go on with it after the instance is closed.
    fn drop(&mut self) {
        let mut ended = Vec::new();
        while self.busy > 0 {
            if self.wait(&mut ended).is_err() {
                // it cannot be known when the kernel is done, so nothing is ever unmapped
                mem::forget(mem::take(&mut self.slots));
                return;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use vm_memory::{Bytes as _, VolatileMemory as _};

    const LEN: usize = 4096;

    /// Sandboxes forbid io_uring.
    fn queue(depth: usize) -> Option<Queue> {
        match Queue::new(depth) {
            Ok(queue) => Some(queue),
            Err(error) => {
                eprintln!("skipped, no io_uring here: {error}");
                None
            }
        }
    }

    fn transfer(direction: Direction, file: &Arc<File>, region: &Arc<MmapRegion>) -> Transfer {
        Transfer {
            direction,
            file: file.clone(),
            pos: 0,
            region: region.clone(),
            offset: 0,
            len: LEN,
        }
    }

    fn drain(queue: &mut Queue) -> Vec<Completion> {
        let mut all = Vec::new();
        while queue.busy() > 0 {
            queue.wait(&mut all).expect("a wait");
        }
        all.sort_by_key(|one| one.slot);
        all
    }

    #[test]
    fn moves_many_at_once() {
        let Some(mut queue) = queue(4) else { return };
        let file = Arc::new(tempfile::tempfile().expect("a file"));
        let region = Arc::new(MmapRegion::<()>::new(8 * LEN).expect("memory"));
        for direction in [Direction::Write, Direction::Read] {
            for slot in 0..4 {
                let place = slot * LEN;
                let offset = match direction {
                    Direction::Write => place,
                    Direction::Read => 4 * LEN + place,
                };
                if direction == Direction::Write {
                    let bytes = [slot as u8 + 1; LEN];
                    let slice = region.as_volatile_slice();
                    slice.write_slice(&bytes, place).expect("room");
                }
                let pos = place as u64;
                let one = Transfer {
                    offset,
                    pos,
                    ..transfer(direction, &file, &region)
                };
                queue.push(slot, &one).expect("a free slot");
            }
            let ended = drain(&mut queue);
            assert_eq!(ended.len(), 4);
            assert!(ended.iter().all(|one| matches!(one.moved, Ok(LEN))));
        }
        for slot in 0..4 {
            let mut back = [0; LEN];
            let slice = region.get_slice((4 + slot) * LEN, LEN).expect("a slice");
            slice.read_slice(&mut back, 0).expect("room");
            assert_eq!(back, [slot as u8 + 1; LEN]);
        }
    }

    #[test]
    fn refuses_what_is_wrong() {
        let Some(mut queue) = queue(2) else { return };
        let file = Arc::new(tempfile::tempfile().expect("a file"));
        let region = Arc::new(MmapRegion::new(LEN).expect("memory"));
        let good = transfer(Direction::Write, &file, &region);
        let outside = Transfer {
            offset: 1,
            ..good.clone()
        };
        assert!(queue.push(2, &good).is_err());
        assert!(queue.push(0, &outside).is_err());
        assert_eq!(queue.busy(), 0);
        queue.push(0, &good).expect("a free slot");
        assert!(queue.push(0, &good).is_err());
        assert_eq!(drain(&mut queue).len(), 1);
        assert!(drain(&mut queue).is_empty());
        assert!(Queue::new(0).is_err());
        assert!(Queue::new(4097).is_err());
    }

    #[test]
    fn passes_errors_on() {
        let Some(mut queue) = queue(1) else { return };
        let file = Arc::new(File::open("/").expect("a directory"));
        let region = Arc::new(MmapRegion::new(LEN).expect("memory"));
        let one = transfer(Direction::Read, &file, &region);
        queue.push(0, &one).expect("a free slot");
        let ended = drain(&mut queue);
        let error = ended[0].moved.as_ref().expect_err("a directory");
        assert_eq!(error.raw_os_error(), Some(libc::EISDIR));
    }

    /// What was prepared is still done, and only then given up.
    #[test]
    fn keeps_memory_until_the_kernel_is_done() {
        let Some(mut queue) = queue(1) else { return };
        let file = Arc::new(tempfile::tempfile().expect("a file"));
        let region = Arc::new(MmapRegion::new(LEN).expect("memory"));
        let one = transfer(Direction::Write, &file, &region);
        queue.push(0, &one).expect("a free slot");
        drop(one);
        assert_eq!(Arc::strong_count(&region), 2);
        drop(queue);
        assert_eq!(Arc::strong_count(&region), 1);
        assert_eq!(file.metadata().expect("its size").len(), LEN as u64);
    }
}
