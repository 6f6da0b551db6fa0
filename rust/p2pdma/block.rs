// SPDX-License-Identifier: GPL-2.0

//! Block I/O on peer-to-peer memory, from inside the kernel: what nvmet does for its clients.
//!
//! Memory is put into [`Bio`]s, a [`Segment`] at a time, and the bios are submitted to a [`Disk`].
//! The block layer leaves two things to whoever makes bios, and here they are checked:
//!
//! - A queue that cannot do peer-to-peer DMA (no `BLK_FEAT_PCI_P2PDMA`) is not told apart by
//!   `submit_bio()`: its driver would read the memory with the CPU. [`Bio::add()`] refuses.
//! - A bio holds memory of one range of one provider, or ordinary memory: `bio_add_page()` refuses
//!   to mix.
//!
//! C headers: [`include/linux/bio.h`](srctree/include/linux/bio.h),
//! [`include/linux/blkdev.h`](srctree/include/linux/blkdev.h)
//!
//! In the kernel's tree this would be `rust/kernel/block/bio.rs`, of the maintainers of the block
//! layer's Rust abstractions.
//!
//! # Examples
//!
//! Peer-to-peer memory written to a disk:
//!
//! ```ignore
#![doc = include_str!("examples/block.rs")]
//! ```

use crate::{
    bindings as helpers,
    client::sg::Sgl,
    compat::code::EREMOTEIO,
    pool::ProviderRef, //
};
use core::{
    marker::PhantomData,
    ptr::NonNull, //
};
use kernel::{
    bindings,
    error::to_result,
    fs::file::{
        flags,
        LocalFile, //
    },
    prelude::*,
    sync::{
        aref::ARef,
        atomic::{
            Atomic,
            Relaxed, //
        },
        Completion, //
    },
};

/// Bytes in a sector, the unit in which the block layer counts.
const SECTOR_SIZE: u64 = 1 << bindings::SECTOR_SHIFT;

/// A block device that user space has open.
///
/// # Invariants
///
/// `bdev` is the block device that `file` is open for: it stays open as long as the file.
pub struct Disk {
    file: ARef<LocalFile>,
    bdev: NonNull<bindings::block_device>,
}

impl Disk {
    /// The block device that file descriptor `fd` of the current process is open for.
    ///
    /// C: `fget()` and `file_bdev()`. May sleep.
    ///
    /// # Errors
    ///
    /// - [`EBADF`] if `fd` is no open file.
    /// - [`ENOTBLK`] if it is no block device.
    #[doc(alias = "file_bdev")]
    pub fn from_fd(fd: u32) -> Result<Self> {
        let file = LocalFile::fget(fd)?;
        // SAFETY: `file` is a valid file; the function returns NULL if it is no block device.
        let bdev = unsafe { helpers::p2pdma_helper_block_device(file.as_ptr()) };
        let bdev = NonNull::new(bdev).ok_or(ENOTBLK)?;

        // INVARIANT: Just found through the file.
        Ok(Self { file, bdev })
    }

    /// Whether it may be written to: neither the file nor the device is read-only.
    pub fn is_writable(&self) -> bool {
        // SAFETY: The file and the device are valid by the type invariant.
        unsafe { helpers::p2pdma_helper_block_writable(self.file.as_ptr(), self.bdev.as_ptr()) }
    }

    /// Whether it may be read from: the file is not open for writing only.
    pub fn is_readable(&self) -> bool {
        self.file.flags() & flags::O_ACCMODE != flags::O_WRONLY
    }

    /// Whether its queue can do peer-to-peer DMA.
    ///
    /// C: `blk_queue_pci_p2pdma()`.
    #[doc(alias = "blk_queue_pci_p2pdma")]
    #[inline]
    pub fn takes_p2pdma(&self) -> bool {
        // SAFETY: The device is valid by the type invariant, and has a queue as long as it is open.
        let features = unsafe { (*(*self.bdev.as_ptr()).bd_queue).limits.features };

        features & helpers::P2PDMA_CONST_BLK_FEAT_PCI_P2PDMA != 0
    }

    /// Size of a logical block in bytes, the unit of positions and lengths.
    ///
    /// C: `bdev_logical_block_size()`.
    #[doc(alias = "bdev_logical_block_size")]
    #[inline]
    pub fn block_size(&self) -> u32 {
        // SAFETY: The device is valid by the type invariant, and has a queue as long as it is open.
        unsafe { (*(*self.bdev.as_ptr()).bd_queue).limits.logical_block_size }
    }

    /// Size of the device in bytes.
    ///
    /// C: `bdev_nr_bytes()`.
    #[doc(alias = "bdev_nr_bytes")]
    pub fn size(&self) -> u64 {
        // SAFETY: The device is valid by the type invariant.
        unsafe { helpers::p2pdma_helper_block_bytes(self.bdev.as_ptr()) }
    }

    /// The disk, to be read or written by bios. That it may be is checked once, as when it is
    /// opened: a disk that becomes read-only later is not the caller's business any more.
    ///
    /// # Errors
    ///
    /// [`EBADF`] if [`Self::is_writable()`], or [`Self::is_readable()`], does not hold.
    pub fn target(&self, op: Op) -> Result<Target<'_>> {
        let (may, opf) = match op {
            Op::Read => (self.is_readable(), bindings::req_op_REQ_OP_READ),
            Op::Write => (self.is_writable(), bindings::req_op_REQ_OP_WRITE),
        };

        if may {
            Ok(Target { disk: self, opf })
        } else {
            Err(EBADF)
        }
    }
}

/// A disk that is open for what bios do with it; see [`Disk::target()`].
#[derive(Clone, Copy)]
pub struct Target<'a> {
    disk: &'a Disk,
    opf: u32,
}

/// Memory for a bio: consecutive bytes, a multiple of a sector.
///
/// # Invariants
///
/// For `'a`, the `len` bytes from `offset` after the start of `page` belong to this object, or to
/// somebody who accepts that a device reads and writes them (peer-to-peer memory). They have
/// `struct page`s one after the other, and `len` is a multiple of `SECTOR_SIZE`, and not 0.
pub struct Segment<'a> {
    page: NonNull<bindings::page>,
    offset: u32,
    len: u32,
    p2pdma: bool,
    memory: PhantomData<&'a mut [u8]>,
}

impl<'a> Segment<'a> {
    /// `len` bytes of entry `entry` of a scatterlist, from `offset` on.
    ///
    /// Several bios may use the same memory at the same time, as several devices may.
    ///
    /// # Errors
    ///
    /// [`EINVAL`] if the range is not within the entry, or not of whole sectors.
    pub fn of_table<D: ProviderRef>(
        table: &'a Sgl<D>,
        entry: usize,
        offset: u32,
        len: u32,
    ) -> Result<Self> {
        let (page, start, size) = table.raw_entry(entry).ok_or(EINVAL)?;
        let end = offset.checked_add(len).ok_or(EINVAL)?;

        if len == 0
            || end > size
            || u64::from(offset) % SECTOR_SIZE != 0
            || u64::from(len) % SECTOR_SIZE != 0
        {
            return Err(EINVAL);
        }

        // INVARIANT: Within the entry, as just checked, whose memory is allocated for `'a`, in one
        // run.
        Ok(Self {
            page,
            offset: start.checked_add(offset).ok_or(EINVAL)?,
            len,
            p2pdma: true,
            memory: PhantomData,
        })
    }

    /// The whole of an ordinary buffer.
    ///
    /// # Errors
    ///
    /// [`EINVAL`] if its length is 0, not of whole sectors, or 4 GiB and more.
    pub fn of_buffer(buffer: &'a mut KVec<u8>) -> Result<Self> {
        let len = u32::try_from(buffer.len())?;

        if len == 0 || u64::from(len) % SECTOR_SIZE != 0 {
            return Err(EINVAL);
        }

        let mut offset = 0;
        // SAFETY: The buffer comes from `kmalloc()`, so it is in the linear map, and `offset` is
        // valid for writing.
        let page =
            unsafe { helpers::p2pdma_helper_virt_to_page(buffer.as_mut_ptr().cast(), &mut offset) };

        // INVARIANT: The buffer is borrowed for `'a`, and physically contiguous.
        Ok(Self {
            page: NonNull::new(page).ok_or(EINVAL)?,
            offset,
            len,
            p2pdma: false,
            memory: PhantomData,
        })
    }

    /// Number of bytes.
    #[inline]
    pub fn len(&self) -> u32 {
        self.len
    }

    /// Always `false`: there is no segment without bytes.
    pub fn is_empty(&self) -> bool {
        false
    }
}

/// What a bio does, as seen from the disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Op {
    /// The disk is read, the memory is written.
    Read,
    /// The disk is written, the memory is read.
    Write,
}

/// Why a [`Segment`] does not go into a [`Bio`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// There is no room for another segment, or the bio would have 4 GiB: the next bio takes it.
    Full,
    /// What is in the bio is of another kind: ordinary memory, or memory of another provider, or of
    /// another range of the same one. The next bio takes it.
    Mixed,
    /// The queue of the disk cannot do peer-to-peer DMA.
    Queue,
}

impl From<Refusal> for Error {
    fn from(refusal: Refusal) -> Self {
        match refusal {
            Refusal::Full => ENOSPC,
            Refusal::Mixed => EXDEV,
            Refusal::Queue => EREMOTEIO,
        }
    }
}

/// Most segments that a bio takes (`BIO_MAX_VECS`).
pub const MAX_SEGMENTS: u16 = bindings::BIO_MAX_VECS as u16;

/// An I/O to consecutive blocks of a disk, not submitted.
///
/// # Invariants
///
/// `bio` was made by `bio_kmalloc()` and initialized for the block device of a disk that is open
/// for `'a`, with room for `room` segments. All memory that it refers to is memory of a
/// [`Segment<'a>`]. It is not submitted.
pub struct Bio<'a> {
    bio: NonNull<bindings::bio>,
    room: u16,
    takes_p2pdma: bool,
    disk: PhantomData<&'a Disk>,
}

impl<'a> Bio<'a> {
    /// An I/O from byte `pos` of the disk on, with room for `segments`.
    ///
    /// C: `bio_kmalloc()` and `bio_init()`. May sleep.
    ///
    /// # Errors
    ///
    /// - [`EINVAL`] if `pos` is not a multiple of [`Disk::block_size()`], or there is room for no
    ///   segment, or more than [`MAX_SEGMENTS`].
    /// - [`ENOMEM`].
    #[doc(alias = "bio_init")]
    #[inline]
    pub fn new(target: Target<'a>, pos: u64, segments: u16) -> Result<Self> {
        let disk = target.disk;

        // Sizes of blocks are powers of two.
        if pos & u64::from(disk.block_size()).wrapping_sub(1) != 0
            || segments == 0
            || segments > MAX_SEGMENTS
        {
            return Err(EINVAL);
        }

        // SAFETY: Takes any number of segments. Sleeps, which the caller is told.
        let bio = unsafe { bindings::bio_kmalloc(segments, bindings::GFP_KERNEL) };
        let bio = NonNull::new(bio).ok_or(ENOMEM)?;

        // SAFETY: `bio` was just allocated, with room for that many segments right after it; the
        // device is open for `'a`. C: `bio_init_inline()`.
        unsafe {
            bindings::bio_init(
                bio.as_ptr(),
                disk.bdev.as_ptr(),
                bio.as_ptr().add(1).cast(),
                segments,
                target.opf,
            );
            (*bio.as_ptr()).bi_iter.bi_sector = pos >> bindings::SECTOR_SHIFT;
        }

        // INVARIANT: Made just now.
        Ok(Self {
            bio,
            room: segments,
            takes_p2pdma: disk.takes_p2pdma(),
            disk: PhantomData,
        })
    }

    /// Adds a segment after those that are there already.
    ///
    /// C: `bio_add_page()`. Any context.
    ///
    /// # Errors
    ///
    /// Why it was refused; the bio is as it was.
    #[doc(alias = "bio_add_page")]
    #[inline]
    pub fn add(&mut self, segment: &Segment<'a>) -> Result<(), Refusal> {
        if segment.p2pdma && !self.takes_p2pdma {
            return Err(Refusal::Queue);
        }

        // SAFETY: The bio is valid by the type invariant, and not submitted. The segment is memory
        // that may be used for `'a`, which is longer than the bio exists, and is not empty.
        let added = unsafe {
            bindings::bio_add_page(
                self.bio.as_ptr(),
                segment.page.as_ptr(),
                segment.len,
                segment.offset,
            )
        };

        // It takes all or nothing.
        if added != 0 {
            Ok(())
        } else {
            Err(self.refusal(segment.len))
        }
    }

    /// Why a segment of `len` bytes was not taken.
    #[inline]
    fn refusal(&self, len: u32) -> Refusal {
        // What it can count, and what it has room for.
        if self.len().checked_add(len).is_none() || self.segments() >= self.room {
            Refusal::Full
        } else {
            Refusal::Mixed
        }
    }

    /// Number of segments that it refers to; fewer than were added where neighbours were merged.
    #[inline]
    pub fn segments(&self) -> u16 {
        // SAFETY: The bio is valid by the type invariant, and not submitted.
        unsafe { (*self.bio.as_ptr()).bi_vcnt }
    }

    /// Number of bytes.
    #[inline]
    pub fn len(&self) -> u32 {
        // SAFETY: The bio is valid by the type invariant, and not submitted.
        unsafe { (*self.bio.as_ptr()).bi_iter.bi_size }
    }

    /// Whether there are no bytes.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Whether the block layer will leave it alone instead of merging it with its neighbours
    /// (`REQ_NOMERGE`), as it has to where there is peer-to-peer memory in it.
    #[doc(alias = "REQ_NOMERGE")]
    pub fn is_never_merged(&self) -> bool {
        // SAFETY: The bio is valid by the type invariant, and not submitted.
        let opf = unsafe { (*self.bio.as_ptr()).bi_opf };

        opf & helpers::P2PDMA_CONST_REQ_NOMERGE != 0
    }
}

impl Drop for Bio<'_> {
    #[inline]
    fn drop(&mut self) {
        // SAFETY: By the type invariant the bio was made by `bio_kmalloc()`, and is not submitted.
        unsafe {
            bindings::bio_uninit(self.bio.as_ptr());
            bindings::kfree(self.bio.as_ptr().cast());
        }
    }
}

/// What is waited for.
#[pin_data]
struct Batch {
    /// Bios that are not complete, and one for the submitter.
    left: Atomic<i32>,
    /// The first error, as a negative number, or 0.
    error: Atomic<i32>,
    #[pin]
    done: Completion,
}

impl Batch {
    fn put(&self) {
        if self.left.fetch_add(-1, kernel::sync::atomic::Full) == 1 {
            self.done.complete_all();
        }
    }

    /// # Safety
    ///
    /// To be called by the block layer, for a bio whose `bi_private` is a `Batch` that waits for
    /// it.
    unsafe extern "C" fn end_io(bio: *mut bindings::bio) {
        // SAFETY: By the safety requirement.
        let (batch, status) = unsafe { (&*(*bio).bi_private.cast::<Batch>(), (*bio).bi_status) };
        // SAFETY: What is no status is an error for it, too: it has no precondition.
        let error = unsafe { bindings::blk_status_to_errno(status) };

        if error != 0 {
            // Only the first.
            let _ = batch.error.cmpxchg(0, error, Relaxed);
        }
        batch.put();
    }
}

/// Submits the bios, plugged together, and waits until all of them are complete.
///
/// C: `submit_bio()` within `blk_start_plug()` and `blk_finish_plug()`. May sleep.
///
/// # Errors
///
/// - [`EINVAL`] if a bio is empty, and nothing is submitted then. Nobody below refuses it: a driver
///   would ask its device for blocks, without saying where their data are.
/// - The first error that the block layer completed a bio with: [`EINVAL`] where the device cannot
///   reach the memory, [`EIO`] beyond the end of the disk, and others.
#[doc(alias = "submit_bio")]
pub fn submit(bios: KVec<Bio<'_>>) -> Result {
    if bios.iter().any(Bio::is_empty) {
        return Err(EINVAL);
    }

    pin_init::stack_pin_init!(let batch = pin_init!(Batch {
        left: Atomic::new(1),
        error: Atomic::new(0),
        done <- Completion::new(),
    }));
    let private = core::ptr::from_ref::<Batch>(&batch).cast_mut().cast();
    let mut plug = bindings::blk_plug::default();

    // SAFETY: `plug` stays where it is until it is finished below.
    unsafe { bindings::blk_start_plug(&mut plug) };
    for bio in &bios {
        let bio = bio.bio.as_ptr();

        batch.left.fetch_add(1, Relaxed);
        // SAFETY:
        // - The bio is valid, not submitted, and submitted once. It stays, as does the memory that
        //   it refers to, until it is complete, which is waited for below.
        // - `batch` is pinned, and stays until then as well.
        unsafe {
            (*bio).bi_private = private;
            (*bio).bi_end_io = Some(Batch::end_io);
            bindings::submit_bio(bio);
        }
    }
    // SAFETY: Started above.
    unsafe { bindings::blk_finish_plug(&mut plug) };

    batch.put();
    batch.done.wait_for_completion();
    // `bios` go only now.
    to_result(batch.error.load(Relaxed))
}
