// SPDX-License-Identifier: GPL-2.0

//! The command that does block I/O on memory, the way nvmet does.

use crate::{
    abi::{
        self,
        Args, //
    },
    pattern,
    refuse,
    session::{
        Session,
        Taken, //
    }, //
};
use kernel::prelude::*;
use p2pdma::block::{
    self,
    Bio,
    Disk,
    Op,
    Refusal,
    Segment,
    Target, //
};

impl Args for abi::p2pdma_test_bio {
    const FIRST: usize = 80;
    const FLAGS: u32 = abi::P2PDMA_TEST_BIO_SPLIT | abi::P2PDMA_TEST_BIO_EACH;

    fn flags(&self) -> u32 {
        self.flags
    }

    fn reserved_is_zero(&self) -> bool {
        self.reserved == 0
    }
}

/// Ordinary memory, as words at positions on the disk.
fn fill(buffer: &mut [u8], tag: u64, position: u64) {
    for (i, word) in buffer.chunks_exact_mut(8).enumerate() {
        // CAST: 64 bits.
        let at = position.wrapping_add(8 * i as u64);

        word.copy_from_slice(&pattern::word(tag, at).to_ne_bytes());
    }
}

/// Number of words that are not as they should be.
fn wrong(buffer: &[u8], tag: u64, position: u64) -> u64 {
    let mut expected = [0; 8];

    // CAST: 64 bits.
    buffer
        .chunks_exact(8)
        .enumerate()
        .filter(|(i, word)| {
            fill(&mut expected, tag, position.wrapping_add(8 * *i as u64));
            *word != &expected[..]
        })
        .count() as u64
}

/// What goes into the bios, in order.
struct Plan<'a> {
    target: Target<'a>,
    split: bool,
    each: bool,
    bios: KVec<Bio<'a>>,
    /// Where the next segment belongs on the disk.
    position: u64,
}

impl<'a> Plan<'a> {
    /// Adds a segment, to the last bio or a new one for `room` segments; or says why it was
    /// refused.
    fn add(&mut self, segment: &Segment<'a>, room: u16) -> Result<Option<Refusal>> {
        if !self.each {
            if let Some(bio) = self.bios.last_mut() {
                match bio.add(segment) {
                    Ok(()) => {
                        self.position += u64::from(segment.len());
                        return Ok(None);
                    }
                    Err(Refusal::Full | Refusal::Mixed) if self.split => (),
                    Err(refusal) => return Ok(Some(refusal)),
                }
            }
        }

        let mut bio = Bio::new(self.target, self.position, room)?;

        if let Err(refusal) = bio.add(segment) {
            return Ok(Some(refusal));
        }
        self.bios.push(bio, GFP_KERNEL)?;
        self.position += u64::from(segment.len());
        Ok(None)
    }
}

/// Runs the command.
pub(crate) fn run(session: &Session, args: &mut abi::p2pdma_test_bio) -> Result {
    let op = match args.op {
        abi::P2PDMA_TEST_READ => Op::Read,
        abi::P2PDMA_TEST_WRITE => Op::Write,
        _ => return Err(refuse!(EINVAL, "no operation {}", args.op)),
    };
    let tag = args.ordinary_tag;

    if args.nr_pieces == 0 {
        return Err(refuse!(EINVAL, "no pieces"));
    }
    if pattern::position(tag) != 0 {
        return Err(refuse!(EINVAL, "pattern {tag:#x} has a position"));
    }

    let pieces = abi::read_array::<abi::p2pdma_test_piece>(
        args.pieces,
        args.nr_pieces,
        abi::P2PDMA_TEST_MAX_PIECES,
    )?;
    // Contiguous memory, of which the kernel does not have much in one piece.
    if pieces
        .iter()
        .any(|piece| piece.id == 0 && piece.length > abi::P2PDMA_TEST_MAX_ORDINARY)
    {
        return Err(refuse!(
            EINVAL,
            "a piece of ordinary memory has at most {} bytes",
            abi::P2PDMA_TEST_MAX_ORDINARY
        ));
    }

    let disk = Disk::from_fd(args.fd)
        .inspect_err(|error| refuse!((), "file descriptor {}: {error:?}", args.fd))?;
    if op == Op::Write && !disk.is_writable() {
        return Err(refuse!(EBADF, "not open for writing, or read-only"));
    }

    let end = pieces.iter().try_fold(args.position, |at, piece| {
        at.checked_add(piece.length.into())
    });
    let block = u64::from(disk.block_size());
    if args.position & (block - 1) != 0
        || pieces
            .iter()
            .any(|piece| u64::from(piece.length) & (block - 1) != 0)
        || end.is_none_or(|end| end > disk.size())
    {
        return Err(refuse!(
            EINVAL,
            "no whole blocks of {block} bytes on the disk"
        ));
    }

    // All memory first, as bios borrow from it.
    let mut taken: KVec<(u32, Taken<'_>)> = KVec::new();
    let mut ordinary = KVec::new();
    let mut position = args.position;

    for piece in &pieces {
        if piece.id == 0 {
            // CAST: 32 bits to 64.
            let mut buffer = KVec::from_elem(0u8, piece.length as usize, GFP_KERNEL)?;

            if op == Op::Write {
                fill(&mut buffer, tag, position);
            }
            ordinary.push((position, buffer), GFP_KERNEL)?;
        } else if !taken.iter().any(|(id, _)| *id == piece.id) {
            let object = session.take(piece.id)?;

            object.memory()?;
            taken.push((piece.id, object), GFP_KERNEL)?;
        }
        position += u64::from(piece.length);
    }

    args.refused = args.nr_pieces;
    args.ret = 0;
    let bios = make_bios(args, disk.target(op)?, &pieces, &taken, &mut ordinary)?;

    // CAST: At most as many as there are pieces.
    args.nr_bios = bios.len() as u32;
    args.nr_vecs = bios.iter().map(|bio| u32::from(bio.segments())).sum();
    args.never_merged = bios.iter().filter(|bio| bio.is_never_merged()).count() as u32;
    args.ordinary_wrong = 0;

    if args.ret == 0 {
        args.ret = match block::submit(bios) {
            Ok(()) => 0,
            Err(error) => error.to_errno().into(),
        };
        if op == Op::Read {
            args.ordinary_wrong = ordinary
                .iter()
                .map(|(position, buffer)| wrong(buffer, tag, *position))
                .sum();
        }
    }
    Ok(())
}

/// Puts the pieces into bios; what refuses one is in `args`.
fn make_bios<'a>(
    args: &mut abi::p2pdma_test_bio,
    target: Target<'a>,
    pieces: &[abi::p2pdma_test_piece],
    taken: &'a [(u32, Taken<'_>)],
    ordinary: &'a mut [(u64, KVec<u8>)],
) -> Result<KVec<Bio<'a>>> {
    let mut plan = Plan {
        target,
        split: args.flags & abi::P2PDMA_TEST_BIO_SPLIT != 0,
        each: args.flags & abi::P2PDMA_TEST_BIO_EACH != 0,
        bios: KVec::with_capacity(pieces.len(), GFP_KERNEL)?,
        position: args.position,
    };
    let mut ordinary = ordinary.iter_mut();

    for (i, asked) in pieces.iter().enumerate() {
        let segment = if asked.id == 0 {
            Segment::of_buffer(&mut ordinary.next().ok_or(EINVAL)?.1)
        } else {
            let (_, memory) = taken.iter().find(|(id, _)| *id == asked.id).ok_or(ENOENT)?;

            // CAST: 32 bits to 64.
            Segment::of_table(
                memory.memory()?,
                asked.entry as usize,
                asked.offset,
                asked.length,
            )
        }
        .inspect_err(|_| refuse!((), "piece {i} is not within its entry"))?;

        // CAST: At most `P2PDMA_TEST_MAX_PIECES`.
        if let Some(refusal) = plan.add(&segment, (pieces.len() - i) as u16)? {
            args.refused = i as u32;
            args.ret = Error::from(refusal).to_errno().into();
            break;
        }
    }
    Ok(plan.bios)
}
