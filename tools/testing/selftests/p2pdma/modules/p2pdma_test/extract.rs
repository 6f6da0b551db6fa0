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
use kernel::prelude::*;
use p2pdma::{
    system,
    user::pin::{
        Access,
        Segment,
        UserIter,
        MAX_PAGES, //
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

/// Runs the command.
pub(crate) fn run(
    session: &Session,
    args: &mut abi::p2pdma_test_extract,
    reply: Reply,
) -> Result<Sent> {
    let set = |flag| args.flags & flag != 0;
    let hold = set(abi::P2PDMA_TEST_EXTRACT_HOLD);
    let allow = set(abi::P2PDMA_TEST_EXTRACT_P2PDMA);
    let access = if set(abi::P2PDMA_TEST_EXTRACT_WRITE) {
        Access::Write
    } else {
        Access::Read
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
            Segment {
                addr: segment.addr as usize,
                len: segment.length as usize,
            },
            GFP_KERNEL,
        )?;
    }

    let mut iter = UserIter::new(&segments, access)
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
    while !iter.is_empty() {
        system::go_on()?;

        let piece = match iter.extract(max, allow) {
            Ok(piece) => piece,
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
        if piece.len == 0 {
            break;
        }
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
