// SPDX-License-Identifier: GPL-2.0

//! The command that extracts the pages of an `iov_iter`.

use crate::{
    abi::{
        self,
        Args,
        Reply,
        Sent, //
    },
    page::Facts,
    refuse,
    session::{
        New,
        Object,
        Session, //
    }, //
};
use kernel::{
    iov::{
        IovIterDest,
        IovIterSource, //
    },
    prelude::*, //
};
use p2pdma::{
    system,
    user::{
        current::CurrentMm,
        extract::{
            ExtractPages,
            Extracted,
            PeerMemory,
            Segment,
            UserIter, //
        },
        pages::{
            PageArray,
            MAX_PAGES, //
        }, //
    }, //
};

// CAST: 32 bits to 64.
const _: () = assert!(MAX_PAGES == abi::P2PDMA_TEST_MAX_PAGES as usize);

impl Args for abi::p2pdma_test_extract {
    const FIRST: usize = 72;
    const FLAGS: u32 = abi::P2PDMA_TEST_EXTRACT_WRITE
        | abi::P2PDMA_TEST_EXTRACT_P2PDMA
        | abi::P2PDMA_TEST_EXTRACT_HOLD;

    fn flags(&self) -> u32 {
        self.flags
    }

    fn reserved_is_zero(&self) -> bool {
        self.reserved == 0
    }
}

/// An iterator of either direction.
enum Iter<'a> {
    /// Over memory that is going to be written.
    Dest(UserIter<IovIterDest<'a>>),
    /// Over memory that is going to be read.
    Source(UserIter<IovIterSource<'a>>),
}

impl<'a> Iter<'a> {
    fn new(segments: &'a [Segment], write: bool) -> Result<Self> {
        // A single one goes without an array, as in the kernel.
        Ok(match (segments, write) {
            ([segment], true) => Self::Dest(UserIter::one(segment.clone())),
            ([segment], false) => Self::Source(UserIter::one(segment.clone())),
            (segments, true) => Self::Dest(UserIter::new(segments)?),
            (segments, false) => Self::Source(UserIter::new(segments)?),
        })
    }

    /// Number of bytes left.
    fn len(&mut self) -> usize {
        match self {
            Self::Dest(iter) => iter.as_iter().len(),
            Self::Source(iter) => iter.as_iter().len(),
        }
    }

    fn extract(
        &mut self,
        mm: CurrentMm<'_>,
        max: usize,
        peer: PeerMemory,
    ) -> Result<Option<Extracted<PageArray>>> {
        let room = PageArray::new(max)?;

        match self {
            Self::Dest(iter) => iter.as_iter().extract_pages(mm, room, peer),
            Self::Source(iter) => iter.as_iter().extract_pages(mm, room, peer),
        }
    }
}

/// Pages of the segment that byte `done` is in, from that byte on.
fn pages_at(segments: &[Segment], mut done: usize) -> usize {
    for segment in segments {
        if done < segment.len() {
            return Segment::new(segment.addr().wrapping_add(done), segment.len() - done).pages();
        }
        done -= segment.len();
    }
    0
}

/// Runs the command.
pub(crate) fn run(
    session: &Session,
    args: &mut abi::p2pdma_test_extract,
    reply: Reply,
) -> Result<Sent> {
    let task = kernel::current!();
    let mm = CurrentMm::new(task)?;
    let set = |flag| args.flags & flag != 0;
    let hold = set(abi::P2PDMA_TEST_EXTRACT_HOLD);
    let peer = if set(abi::P2PDMA_TEST_EXTRACT_P2PDMA) {
        PeerMemory::Allow
    } else {
        PeerMemory::Refuse
    };
    // CAST: 32 bits to 64.
    let max = args.max_pages as usize;

    if max == 0 || max > MAX_PAGES {
        return Err(refuse!(EINVAL, "{max} pages a call: 1 to {MAX_PAGES}"));
    }
    if args.nr_segments == 0 {
        return Err(refuse!(EINVAL, "no segments"));
    }

    let mut segments = KVVec::new();
    for segment in abi::read_array::<abi::p2pdma_test_segment>(
        args.segments,
        args.nr_segments,
        abi::P2PDMA_TEST_MAX_SEGMENTS,
    )? {
        // CAST: 64 bits, as PCI_P2PDMA depends on 64BIT.
        segments.push(
            Segment::new(segment.addr as usize, segment.length as usize),
            GFP_KERNEL,
        )?;
    }

    let mut iter = Iter::new(&segments, set(abi::P2PDMA_TEST_EXTRACT_WRITE))
        .inspect_err(|error| refuse!((), "{} segments: {error:?}", segments.len()))?;
    // A call takes a page at least: this is also a limit of their number, and that of the pieces.
    let all = segments
        .iter()
        .map(Segment::pages)
        .fold(0, usize::saturating_add);
    if all > MAX_PAGES {
        return Err(refuse!(E2BIG, "{all} pages: at most {MAX_PAGES}"));
    }

    let mut pieces = KVVec::new();
    let mut calls = KVVec::new();
    let mut facts = Facts::default();
    let mut pages = KVVec::new();
    // CAST: 32 bits to 64.
    let room = args.nr_calls as usize;
    let mut note = |call| {
        if calls.len() < room {
            calls.push(call, GFP_KERNEL)?;
        }
        Ok::<_, Error>(())
    };

    args.ret = 0;
    while iter.len() > 0 {
        system::resched_or_signal()?;

        // CAST: Not negative: a loop that went on has counted bytes.
        let done = args.ret as usize;
        let piece = match iter.extract(mm, pages_at(&segments, done).min(max), peer) {
            Ok(Some(piece)) => piece,
            Ok(None) => {
                note(abi::p2pdma_test_extraction {
                    ret: 0,
                    offset: 0,
                    nr_pages: 0,
                })?;
                break;
            }
            Err(error) => {
                let ret = error.to_errno().into();

                if args.ret == 0 {
                    args.ret = ret;
                }
                note(abi::p2pdma_test_extraction {
                    ret,
                    offset: 0,
                    nr_pages: 0,
                })?;
                break;
            }
        };

        // CAST: At most `MAX_PAGES` pages, and less than a page.
        note(abi::p2pdma_test_extraction {
            ret: piece.len as i64,
            offset: piece.offset as u32,
            nr_pages: piece.pages.len() as u32,
        })?;
        args.ret += piece.len as i64;

        let left = (args.nr_pages as usize).saturating_sub(pages.len());
        for page in piece.pages.iter().take(left) {
            pages.push(facts.of(&page), GFP_KERNEL)?;
        }
        if hold {
            pieces.push(piece, GFP_KERNEL)?;
        }
    }
    // CAST: 64 bits.
    args.left = iter.len() as u64;

    let new = if pieces.is_empty() {
        None
    } else {
        Some(session.insert(Object::Extracted(pieces))?)
    };

    args.id = new.as_ref().map_or(0, New::id);
    abi::write_array(args.calls, &mut args.nr_calls, calls.into_iter())?;
    abi::write_array(args.pages, &mut args.nr_pages, pages.into_iter())?;

    let sent = reply.send(args)?;
    if let Some(new) = new {
        new.keep();
    }
    Ok(sent)
}
