// SPDX-License-Identifier: GPL-2.0

//! Providers whose drivers are being unbound now, or could not be bound in the end.
//!
//! An open file is told of those that begin to go, and drops what it has of them. A file that is
//! opened while one is going is not: it was not there yet. So this is kept for all files, from
//! before the first can be opened.

use crate::{
    abi,
    memory::find_function, //
};
use kernel::{
    new_mutex,
    pci,
    prelude::*,
    sync::{
        atomic::{
            Atomic,
            Full,
            Relaxed, //
        },
        Mutex, //
    }, //
};
use p2pdma::{
    orchestrator::watch::Events,
    provider, //
};

/// Drivers that are unbound at the same time, without that anything has to be allocated for it.
const MAX_GOING: usize = 16;

/// Their functions, as the ABI has them.
static GOING: [Atomic<u64>; MAX_GOING] = [const { Atomic::new(abi::NO_FUNCTION) }; MAX_GOING];
/// There were more of them at a time: nothing is kept any more.
static OVERRUN: Atomic<u32> = Atomic::new(0);

/// Keeps the list, for as long as it is watching.
#[pin_data]
pub(crate) struct List {
    /// Held to add to the list.
    #[pin]
    adding: Mutex<()>,
}

impl List {
    pub(crate) fn new() -> impl PinInit<Self> {
        pin_init!(Self {
            adding <- new_mutex!(()),
        })
    }
}

/// Adds a function, if there is room.
fn add(function: u64) -> bool {
    GOING
        .iter()
        .any(|slot| slot.cmpxchg(abi::NO_FUNCTION, function, Full).is_ok())
}

/// Takes those out that have gone. Where a `probe()` failed, nobody says that it is over until
/// another driver comes.
fn sweep() {
    for slot in &GOING {
        let function = slot.load(Relaxed);

        if function != abi::NO_FUNCTION
            && !find_function(function).is_ok_and(|dev| provider::provides(&dev))
        {
            // The error is that it was taken out. It is not added again meanwhile: see `adding`.
            let _ = slot.cmpxchg(function, abi::NO_FUNCTION, Full);
        }
    }
}

impl Events for List {
    fn going(&self, dev: &pci::Device) {
        let function = abi::function(dev);
        let _adding = self.adding.lock();

        if add(function) {
            return;
        }
        sweep();
        if !add(function) {
            OVERRUN.store(1, Relaxed);
        }
    }

    fn gone(&self, dev: &pci::Device) {
        let function = abi::function(dev);

        for slot in &GOING {
            // The error is that it is another, or none.
            let _ = slot.cmpxchg(function, abi::NO_FUNCTION, Full);
        }
    }
}

/// Whether `f` is true for one of them. If there may be more of them than are known, that is taken
/// for a yes.
pub(crate) fn any(f: impl Fn(&pci::Device) -> bool) -> bool {
    OVERRUN.load(Relaxed) != 0
        || GOING.iter().any(|slot| {
            let function = slot.load(Relaxed);

            // Where there is no such function, it went in the meantime.
            function != abi::NO_FUNCTION && find_function(function).is_ok_and(|dev| f(&dev))
        })
}
