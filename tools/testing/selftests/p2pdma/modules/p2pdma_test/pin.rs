// SPDX-License-Identifier: GPL-2.0

//! The command that pins, or gets, user pages.

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
    mm::MmWithUser,
    prelude::*,
    sync::aref::ARef, //
};
use p2pdma::{
    page::PageExt,
    user::{
        current::CurrentMm,
        pages::{
            Get,
            Hold,
            PageArray,
            Pin,
            UserPages,
            MAX_PAGES, //
        },
        pin::{
            self,
            Access,
            Flags,
            ShortTerm,
            Term,
            UserRange, //
        }, //
    }, //
};

impl Args for abi::p2pdma_test_pin {
    const FIRST: usize = 56;
    const FLAGS: u32 = abi::P2PDMA_TEST_PIN_WRITE
        | abi::P2PDMA_TEST_PIN_LONGTERM
        | abi::P2PDMA_TEST_PIN_P2PDMA
        | abi::P2PDMA_TEST_PIN_HOLD
        | abi::P2PDMA_TEST_PIN_COUNT_BEFORE;

    fn flags(&self) -> u32 {
        self.flags
    }
}

/// What is asked for, checked.
struct Request<'a> {
    /// The caller's memory.
    current: CurrentMm<'a>,
    api: u32,
    access: Access,
    long_term: bool,
    p2pdma: bool,
    range: UserRange,
    /// Whose memory it is, if not the caller's.
    remote: Option<ARef<MmWithUser>>,
}

impl<'a> Request<'a> {
    fn new(current: CurrentMm<'a>, args: &abi::p2pdma_test_pin) -> Result<Self> {
        let set = |flag| args.flags & flag != 0;
        let long_term = set(abi::P2PDMA_TEST_PIN_LONGTERM);
        let p2pdma = set(abi::P2PDMA_TEST_PIN_P2PDMA);

        if args.api >= abi::P2PDMA_TEST_NR_APIS {
            return Err(refuse!(EINVAL, "no api {}", args.api));
        }
        if args.pid != 0 && args.api != abi::P2PDMA_TEST_PIN_REMOTE {
            return Err(refuse!(
                EINVAL,
                "a process is for pin_user_pages_remote() only"
            ));
        }
        if long_term && (p2pdma || !pins(args.api)) {
            return Err(refuse!(
                EINVAL,
                "the library has no call with these flags, which contradict each other"
            ));
        }

        // CAST: 64 bits, as PCI_P2PDMA depends on 64BIT.
        let range = UserRange::new(args.addr as usize, args.length as usize).map_err(|error| {
            refuse!(
                error,
                "{:#x} bytes from {:#x}: no range of pages",
                args.length,
                args.addr
            )
        })?;
        if range.pages() > MAX_PAGES {
            return Err(refuse!(
                E2BIG,
                "{} pages: at most {MAX_PAGES}",
                range.pages()
            ));
        }
        let remote = if args.api == abi::P2PDMA_TEST_PIN_REMOTE {
            Some(pin::memory_of(args.pid)?)
        } else {
            None
        };

        Ok(Self {
            current,
            api: args.api,
            access: if set(abi::P2PDMA_TEST_PIN_WRITE) {
                Access::Write
            } else {
                Access::Read
            },
            long_term,
            p2pdma,
            range,
            remote,
        })
    }

    fn short_term(&self) -> Flags<ShortTerm> {
        let flags = Flags::short_term(self.access);

        if self.p2pdma {
            flags.allow_p2pdma()
        } else {
            flags
        }
    }

    /// Room for all pages.
    fn room(&self) -> Result<PageArray> {
        PageArray::new(self.range.pages())
    }

    /// Calls the function under test, one that pins.
    fn pin<T: Term>(&self, flags: Flags<T>) -> Result<UserPages<PageArray, Pin>> {
        let room = self.room()?;

        match (self.api, &self.remote) {
            (_, Some(mm)) => pin::pin_remote(mm, self.range, flags, room),
            (abi::P2PDMA_TEST_PIN_FAST, _) => pin::pin_fast(self.current, self.range, flags, room),
            _ => pin::pin(self.current, self.range, flags, room),
        }
    }

    /// Calls the function under test, one that takes references.
    fn get(&self) -> Result<UserPages<PageArray, Get>> {
        let (current, range) = (self.current, self.range);
        let flags = self.short_term();
        let room = self.room()?;

        match self.api {
            abi::P2PDMA_TEST_GET_FAST => pin::get_fast(current, range, flags, room),
            abi::P2PDMA_TEST_GET_FAST_ONLY => pin::get_fast_only(current, range, flags, room),
            _ => pin::get(current, range, flags, room),
        }
    }

    /// Reference counts of what is mapped in the range, before anything is taken.
    fn counts(&self) -> Result<KVVec<i32>> {
        let flags = Flags::short_term(Access::Read).allow_p2pdma();
        let room = self.room()?;
        let pages = match &self.remote {
            Some(mm) => pin::get_remote(mm, self.range, flags, room),
            None => pin::get(self.current, self.range, flags, room),
        };
        let mut counts = KVVec::new();

        // Where nothing is mapped, there is nothing to count.
        if let Ok(pages) = pages {
            for page in pages.iter() {
                // Without the reference that was taken to look at it.
                counts.push(page.ref_count() - 1, GFP_KERNEL)?;
            }
        }
        Ok(counts)
    }
}

/// Whether the function pins pages, as opposed to taking references.
fn pins(api: u32) -> bool {
    matches!(
        api,
        abi::P2PDMA_TEST_PIN_FAST | abi::P2PDMA_TEST_PIN_SLOW | abi::P2PDMA_TEST_PIN_REMOTE
    )
}

/// Runs the command.
pub(crate) fn run(
    session: &Session,
    args: &mut abi::p2pdma_test_pin,
    reply: Reply,
) -> Result<Sent> {
    let task = kernel::current!();
    let request = Request::new(CurrentMm::new(task)?, args)?;
    let counts = if args.flags & abi::P2PDMA_TEST_PIN_COUNT_BEFORE != 0 {
        request.counts()?
    } else {
        KVVec::new()
    };

    if !pins(request.api) {
        answer(
            session,
            args,
            reply,
            &counts,
            request.get(),
            Object::Referenced,
        )
    } else if request.long_term {
        let pinned = request.pin(Flags::long_term(request.access));

        answer(session, args, reply, &counts, pinned, Object::Pinned)
    } else {
        let pinned = request.pin(request.short_term());

        answer(session, args, reply, &counts, pinned, Object::Pinned)
    }
}

/// Says what the call did; what it took is kept, as `object`, or released.
fn answer<H: Hold>(
    session: &Session,
    args: &mut abi::p2pdma_test_pin,
    reply: Reply,
    counts: &[i32],
    held: Result<UserPages<PageArray, H>>,
    object: fn(UserPages<PageArray, H>) -> Object,
) -> Result<Sent> {
    args.id = 0;
    let held = match held {
        Ok(held) => held,
        Err(error) => {
            args.ret = error.to_errno().into();
            args.nr_pages = 0;
            return reply.send(args);
        }
    };
    // CAST: At most `MAX_PAGES`.
    args.ret = held.len() as i64;

    // References of our own, so that there still is a page to look at after the others went.
    let own = held.reference(PageArray::new(held.len().max(1))?)?;
    let mut facts = Facts::default();
    let mut pages = KVVec::new();

    for (i, page) in own.iter().take(args.nr_pages as usize).enumerate() {
        let mut fact = facts.of(&page);

        fact.before = counts.get(i).copied().unwrap_or(abi::P2PDMA_TEST_UNKNOWN);
        fact.during -= 1;
        pages.push(fact, GFP_KERNEL)?;
    }

    let mut new = None;

    if args.flags & abi::P2PDMA_TEST_PIN_HOLD != 0 {
        drop(own);
        if !held.is_empty() {
            new = Some(session.insert(object(held))?);
        }
    } else {
        drop(held);
        for (fact, page) in pages.iter_mut().zip(own.iter()) {
            fact.after = page.ref_count() - 1;
        }
    }

    abi::write_array(args.pages, &mut args.nr_pages, pages.into_iter())?;
    args.id = new.as_ref().map_or(0, New::id);

    let sent = reply.send(args)?;
    if let Some(new) = new {
        new.keep();
    }
    Ok(sent)
}
