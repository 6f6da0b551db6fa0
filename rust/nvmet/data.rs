// SPDX-License-Identifier: GPL-2.0

//! The memory of a request's data.
//!
//! C header: [`drivers/nvme/target/nvmet.h`](srctree/drivers/nvme/target/nvmet.h)
//!
//! Place: `drivers/nvme/target/rust/data.rs`, kept by NVM EXPRESS TARGET DRIVER.

use crate::bindings;
use core::{
    marker::PhantomData,
    ops::Range,
    ptr::NonNull, //
};
use kernel::{
    bindings::scatterlist,
    io::Io,
    page::{
        BorrowedPage,
        PAGE_SIZE, //
    },
    pci,
    prelude::*, //
};
use p2pdma::{
    compat::{
        mmio,
        Mmio, //
    },
    page::PageExt, //
};

/// The memory of a request's data, as the fabric's DMA sees it.
///
/// # Invariants
///
/// - `sg` is the first of `nents` entries, of memory that has a kernel address; `nents` is 0 if it
///   is [`None`].
/// - The list stays for `'a`, and nobody else accesses the memory.
pub struct Data<'a> {
    sg: Option<NonNull<scatterlist>>,
    nents: usize,
    provider: Option<&'a pci::Device>,
    request: PhantomData<&'a mut ()>,
}

impl<'a> Data<'a> {
    /// # Safety
    ///
    /// - `sg` must be NULL, or the first of `nents` entries, whose memory has a kernel address:
    ///   pages of the system that are not high memory, or peer-to-peer memory in whole pages.
    /// - The list must stay for `'a`, and nobody else may access the memory meanwhile.
    pub(crate) unsafe fn from_raw(
        sg: *mut scatterlist,
        nents: usize,
        provider: Option<&'a pci::Device>,
    ) -> Self {
        // INVARIANT: By the safety requirements; there are no entries if it is NULL.
        Self {
            sg: NonNull::new(sg),
            nents: if sg.is_null() { 0 } else { nents },
            provider,
            request: PhantomData,
        }
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.nents == 0
    }

    /// As [`Request::provider()`](crate::request::Request::provider).
    pub fn provider(&self) -> Option<&'a pci::Device> {
        self.provider
    }

    /// The pieces of memory, in the order of the data.
    pub fn segments(&mut self) -> Segments<'_> {
        // INVARIANT: By that of `self`, which is borrowed mutably.
        Segments {
            next: self.sg,
            left: self.nents,
            data: PhantomData,
        }
    }

    /// Calls `f` with each piece of the range of `len` bytes from `offset` on: the segment, the
    /// offset in it, and the part of `0..len` that it holds.
    fn for_each_part(
        &mut self,
        offset: usize,
        len: usize,
        mut f: impl FnMut(&mut Segment<'_>, usize, Range<usize>) -> Result,
    ) -> Result {
        let mut skip = offset;
        let mut done = 0;

        for mut segment in self.segments() {
            if done == len {
                break;
            }
            if skip >= segment.len() {
                skip -= segment.len();
                continue;
            }
            let part = (segment.len() - skip).min(len - done);
            f(&mut segment, skip, done..done + part)?;
            done += part;
            skip = 0;
        }

        if done < len {
            return Err(EINVAL);
        }
        Ok(())
    }

    /// Copies `from` to `offset`; [`EINVAL`] if there is no room.
    pub fn copy_from_slice(&mut self, offset: usize, from: &[u8]) -> Result {
        self.for_each_part(offset, from.len(), |segment, at, part| {
            segment.copy_from_slice(at, &from[part])
        })
    }

    /// Copies from `offset` to `to`; [`EINVAL`] if there are not as many bytes.
    pub fn copy_to_slice(&mut self, offset: usize, to: &mut [u8]) -> Result {
        self.for_each_part(offset, to.len(), |segment, at, part| {
            segment.copy_to_slice(at, &mut to[part])
        })
    }
}

/// Iterator over the pieces of a request's memory.
///
/// # Invariants
///
/// `next` is an entry of a list that stays for `'a`, whose memory nobody else accesses, and `left`
/// entries follow from it on, itself included.
pub struct Segments<'a> {
    next: Option<NonNull<scatterlist>>,
    left: usize,
    data: PhantomData<&'a mut ()>,
}

impl<'a> Iterator for Segments<'a> {
    type Item = Segment<'a>;

    fn next(&mut self) -> Option<Self::Item> {
        let sg = self.next.filter(|_| self.left > 0)?;

        // SAFETY: `sg` is a valid entry by the type invariant, of memory that has a kernel address:
        // pages of the system that were not allocated from high memory, or device memory.
        let (addr, len, next) = unsafe {
            (
                bindings::p2pdma_nvmet_helper_sg_virt(sg.as_ptr()).cast::<u8>(),
                (*sg.as_ptr()).length as usize,
                kernel::bindings::sg_next(sg.as_ptr()),
            )
        };
        // INVARIANT: `sg_next()` returns the entry after `sg`, or NULL.
        self.next = NonNull::new(next);
        self.left -= 1;

        // INVARIANT: The memory is set below.
        let mut segment = Segment {
            sg,
            len,
            memory: Memory::Ram(&mut []),
        };
        segment.memory = if segment.page(0).is_p2pdma() {
            // Peer-to-peer memory is allocated in whole pages, so rounding up stays within. Then it
            // does not fail: the memory is page aligned.
            //
            // SAFETY: `addr` is the kernel address of the entry, which the provider has mapped. It
            // stays mapped for `'a`: memory of a pool is, while it is allocated. The rounded length
            // is within the last page of the entry.
            Memory::Io(unsafe { mmio(addr.addr(), len.next_multiple_of(4)) }?)
        } else {
            // SAFETY: `addr` is valid for `len` bytes, pages of the system that the core has
            // allocated: whatever they hold is a value of `u8`. By the type invariant nobody else
            // accesses them for `'a`.
            Memory::Ram(unsafe { core::slice::from_raw_parts_mut(addr, len) })
        };
        Some(segment)
    }
}

/// What a segment is made of, and how the CPU gets at it.
///
/// Not to be had outside of this file: whoever has two of them could exchange what they hold, and
/// they would not have the length of their segment any more.
enum Memory<'a> {
    /// Peer-to-peer memory: only through io accessors. The region ends at a multiple of four bytes,
    /// which may be after the end of the data.
    Io(Mmio<'a>),
    /// Memory of the system.
    Ram(&'a mut [u8]),
}

/// A piece of a request's memory, contiguous for CPU and bus.
///
/// # Invariants
///
/// - `sg` is an entry of a list that stays for `'a`, and `len` its length.
/// - `memory` is that entry's: a slice of `len` bytes, or a region of at least as many.
pub struct Segment<'a> {
    sg: NonNull<scatterlist>,
    len: usize,
    memory: Memory<'a>,
}

impl<'a> Segment<'a> {
    /// Length in bytes.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Always `false`: entries of a list are not empty.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// The memory as a slice; [`None`] if it is peer-to-peer memory, which only the other functions
    /// of this type reach.
    pub fn as_mut_slice(&mut self) -> Option<&mut [u8]> {
        match &mut self.memory {
            Memory::Io(_) => None,
            Memory::Ram(ram) => Some(ram),
        }
    }

    /// The page that holds byte `offset`, which is below [`Self::len()`].
    fn page(&self, offset: usize) -> BorrowedPage<'a> {
        // SAFETY: The entry is valid, and the page is part of it: entries start at the start of a
        // page. Entries of more than one page are peer-to-peer memory, whose `struct page`s are
        // contiguous.
        let page = unsafe {
            bindings::p2pdma_nvmet_helper_sg_page(
                self.sg.as_ptr(),
                // CAST: Lengths of entries have 32 bits.
                (offset / PAGE_SIZE) as c_uint,
            )
        };

        // SAFETY: `sg_page()` of an entry that has memory is not NULL. The page is valid, with a
        // reference or allocated from a pool, as long as the list is: for `'a`.
        unsafe { BorrowedPage::from_raw(NonNull::new_unchecked(page)) }
    }

    /// All pages.
    pub fn pages(&self) -> impl Iterator<Item = BorrowedPage<'a>> + '_ {
        (0..self.len)
            .step_by(PAGE_SIZE)
            .map(|offset| self.page(offset))
    }

    /// The sub-region of `len` bytes from `offset` on; [`EINVAL`] if it is not inside.
    fn check(&self, offset: usize, len: usize) -> Result {
        match offset.checked_add(len) {
            Some(end) if end <= self.len => Ok(()),
            _ => Err(EINVAL),
        }
    }

    /// Writes 64 bits at `offset`, a multiple of 8.
    #[inline]
    pub fn write64(&mut self, offset: usize, value: u64) -> Result {
        self.check(offset, 8)?;
        match &mut self.memory {
            Memory::Io(io) => io.try_write64(value, offset),
            Memory::Ram(ram) => {
                ram[offset..offset + 8].copy_from_slice(&value.to_ne_bytes());
                Ok(())
            }
        }
    }

    /// Reads 64 bits at `offset`, a multiple of 8.
    #[inline]
    pub fn read64(&self, offset: usize) -> Result<u64> {
        self.check(offset, 8)?;
        match &self.memory {
            Memory::Io(io) => io.try_read64(offset),
            Memory::Ram(ram) => {
                let mut bytes = [0; 8];

                bytes.copy_from_slice(&ram[offset..offset + 8]);
                Ok(u64::from_ne_bytes(bytes))
            }
        }
    }

    fn copy_from_slice(&mut self, offset: usize, from: &[u8]) -> Result {
        self.check(offset, from.len())?;
        match &mut self.memory {
            Memory::Io(io) => {
                let words = from.chunks_exact(8).take_while(|_| offset % 8 == 0);
                let mut at = offset;

                for word in words {
                    let mut bytes = [0; 8];

                    bytes.copy_from_slice(word);
                    io.try_write64(u64::from_ne_bytes(bytes), at)?;
                    at += 8;
                }
                for byte in &from[at - offset..] {
                    io.try_write8(*byte, at)?;
                    at += 1;
                }
            }
            Memory::Ram(ram) => ram[offset..offset + from.len()].copy_from_slice(from),
        }
        Ok(())
    }

    fn copy_to_slice(&self, offset: usize, to: &mut [u8]) -> Result {
        self.check(offset, to.len())?;
        match &self.memory {
            Memory::Io(io) => {
                let words = to.chunks_exact_mut(8).take_while(|_| offset % 8 == 0);
                let mut at = offset;

                for word in words {
                    word.copy_from_slice(&io.try_read64(at)?.to_ne_bytes());
                    at += 8;
                }
                for byte in &mut to[at - offset..] {
                    *byte = io.try_read8(at)?;
                    at += 1;
                }
            }
            Memory::Ram(ram) => to.copy_from_slice(&ram[offset..offset + to.len()]),
        }
        Ok(())
    }
}
