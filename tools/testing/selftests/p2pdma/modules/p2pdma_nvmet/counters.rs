// SPDX-License-Identifier: GPL-2.0

//! What each controller counts, by queue and namespace: where the data of commands were.
//!
//! `p2pdma_nvmet/<controller>` in debugfs shows it, one line for each queue and namespace that was
//! used.

use kernel::{
    debugfs::{
        Dir,
        File, //
    },
    fmt,
    new_mutex,
    prelude::*,
    sync::Mutex, //
};

/// Where the data of a command are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Where {
    /// In memory of the system: no provider is meant.
    Ram,
    /// The same, though there is a provider: its pool is exhausted, or it is going.
    Fallback,
    /// In a provider's memory.
    P2p,
}

/// Commands, and bytes of their data.
#[derive(Clone, Copy, Default)]
struct Amount {
    commands: u64,
    bytes: u64,
}

struct Row {
    qid: u16,
    nsid: u32,
    ram: Amount,
    fallback: Amount,
    p2p: Amount,
    no_memory: u64,
}

/// The counters of a controller.
#[pin_data]
pub(crate) struct Counters {
    #[pin]
    rows: Mutex<KVec<Row>>,
}

impl Counters {
    /// The file in debugfs that shows them, and holds them.
    pub(crate) fn file<'a>(dir: &'a Dir, name: &'a CStr) -> impl PinInit<File<Self>, Error> + 'a {
        dir.read_callback_file(
            name,
            pin_init!(Self {
                rows <- new_mutex!(KVec::new()),
            }? Error),
            &show,
        )
    }

    /// The row of a queue and a namespace.
    pub(crate) fn row(&self, qid: u16, nsid: u32) -> Result<Counter<'_>> {
        let mut rows = self.rows.lock();
        let index = match rows
            .iter()
            .position(|row| (row.qid, row.nsid) == (qid, nsid))
        {
            Some(index) => index,
            None => {
                rows.push(
                    Row {
                        qid,
                        nsid,
                        ram: Amount::default(),
                        fallback: Amount::default(),
                        p2p: Amount::default(),
                        no_memory: 0,
                    },
                    GFP_KERNEL,
                )?;
                rows.len() - 1
            }
        };

        Ok(Counter {
            counters: self,
            index,
        })
    }
}

/// A row of the counters. Rows stay.
pub(crate) struct Counter<'a> {
    counters: &'a Counters,
    index: usize,
}

impl Counter<'_> {
    /// Counts a command with data.
    pub(crate) fn data(&self, place: Where, bytes: usize) {
        let mut rows = self.counters.rows.lock();
        let row = &mut rows[self.index];
        let amount = match place {
            Where::Ram => &mut row.ram,
            Where::Fallback => &mut row.fallback,
            Where::P2p => &mut row.p2p,
        };

        amount.commands += 1;
        // CAST: `usize` has 64 bits.
        amount.bytes += bytes as u64;
    }

    /// Counts a command for which there was no memory.
    pub(crate) fn no_memory(&self) {
        self.counters.rows.lock()[self.index].no_memory += 1;
    }
}

fn show(counters: &Counters, f: &mut fmt::Formatter<'_>) -> fmt::Result {
    writeln!(
        f,
        "queue nsid p2p-commands p2p-bytes fallback-commands fallback-bytes ram-commands ram-bytes \
         no-memory"
    )?;
    for row in counters.rows.lock().iter() {
        writeln!(
            f,
            "{} {} {} {} {} {} {} {} {}",
            row.qid,
            row.nsid,
            row.p2p.commands,
            row.p2p.bytes,
            row.fallback.commands,
            row.fallback.bytes,
            row.ram.commands,
            row.ram.bytes,
            row.no_memory
        )?;
    }
    Ok(())
}
