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
use p2pdma::user::pin::{
    self,
    Access,
    Flags,
    GetTerm,
    Term,
    UserPages,
    UserRange, //
};

impl Args for abi::p2pdma_test_pin {
    const FIRST: usize = 56;
    const FLAGS: u32 = abi::P2PDMA_TEST_PIN_WRITE
        | abi::P2PDMA_TEST_PIN_LONGTERM
        | abi::P2PDMA_TEST_PIN_P2PDMA
        | abi::P2PDMA_TEST_PIN_HOLD
        | abi::P2PDMA_TEST_PIN_COUNT_BEFORE
        | abi::P2PDMA_TEST_PIN_MAY_WARN;

    fn flags(&self) -> u32 {
        self.flags
    }
}

/// What is asked for, checked.
struct Request {
    api: u32,
    access: Access,
    long_term: bool,
    p2pdma: bool,
    range: UserRange,
    /// Whose memory it is, if not the caller's.
    remote: Option<ARef<MmWithUser>>,
}

impl Request {
    fn new(args: &abi::p2pdma_test_pin) -> Result<Self> {
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
        if long_term && (p2pdma || !pins(args.api)) && !set(abi::P2PDMA_TEST_PIN_MAY_WARN) {
            return Err(refuse!(
                EINVAL,
                "the kernel warns of these flags: MAY_WARN is not set"
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
        let remote = if args.api == abi::P2PDMA_TEST_PIN_REMOTE {
            Some(pin::memory_of(args.pid)?)
        } else {
            None
        };

        Ok(Self {
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

    /// Calls the function under test.
    fn call(&self) -> Result<UserPages> {
        if pins(self.api) {
            match (self.long_term, self.p2pdma) {
                (false, false) => self.pin(Flags::short_term(self.access)),
                (false, true) => self.pin(Flags::short_term(self.access).allow_p2pdma()),
                (true, false) => self.pin(Flags::long_term(self.access)),
                (true, true) => self.pin(Flags::test_only_long_term_p2pdma(self.access)),
            }
        } else {
            match (self.long_term, self.p2pdma) {
                (false, false) => self.get(Flags::short_term(self.access)),
                (false, true) => self.get(Flags::short_term(self.access).allow_p2pdma()),
                (true, false) => self.get(Flags::test_only_long_term_get(self.access)),
                (true, true) => self.get(Flags::test_only_long_term_p2pdma(self.access)),
            }
        }
    }

    fn pin<T: Term>(&self, flags: Flags<T>) -> Result<UserPages> {
        match (self.api, &self.remote) {
            (_, Some(mm)) => pin::pin_remote(mm, self.range, flags),
            (abi::P2PDMA_TEST_PIN_FAST, _) => pin::pin_fast(self.range, flags),
            _ => pin::pin(self.range, flags),
        }
    }

    fn get<T: GetTerm>(&self, flags: Flags<T>) -> Result<UserPages> {
        match self.api {
            abi::P2PDMA_TEST_GET_FAST => pin::get_fast(self.range, flags),
            abi::P2PDMA_TEST_GET_FAST_ONLY => pin::get_fast_only(self.range, flags),
            _ => pin::get(self.range, flags),
        }
    }

    /// Reference counts of what is mapped in the range, before anything is taken.
    fn counts(&self) -> Result<KVVec<i32>> {
        let flags = Flags::short_term(Access::Read).allow_p2pdma();
        let pages = match &self.remote {
            Some(mm) => pin::get_remote(mm, self.range, flags),
            None => pin::get(self.range, flags),
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
    let request = Request::new(args)?;
    let hold = args.flags & abi::P2PDMA_TEST_PIN_HOLD != 0;
    let counts = if args.flags & abi::P2PDMA_TEST_PIN_COUNT_BEFORE != 0 {
        request.counts()?
    } else {
        KVVec::new()
    };

    args.id = 0;
    let held = match request.call() {
        Ok(held) => held,
        Err(error) => {
            args.ret = error.to_errno().into();
            args.nr_pages = 0;
            return reply.send(args);
        }
    };
    // CAST: At most `pin::MAX_PAGES`.
    args.ret = held.len() as i64;

    // References of our own, so that there still is a page to look at after the others went.
    let own = held.reference()?;
    let mut facts = Facts::default();
    let mut pages = KVVec::new();

    for (i, page) in own.iter().take(args.nr_pages as usize).enumerate() {
        let mut fact = facts.of(&page);

        fact.before = counts.get(i).copied().unwrap_or(abi::P2PDMA_TEST_UNKNOWN);
        fact.during -= 1;
        pages.push(fact, GFP_KERNEL)?;
    }

    let mut new = None;

    if hold {
        drop(own);
        if !held.is_empty() {
            new = Some(session.insert(Object::Pages(held))?);
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
