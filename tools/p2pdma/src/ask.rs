// SPDX-License-Identifier: GPL-2.0

//! Asks the kernel about pairs, where there is a way to.

use std::collections::BTreeMap;

use p2pdma_syscalls::Harness;
use rustix::fs::OFlags;
use rustix::io::Errno;
use serde::Serialize;

use crate::bdf::Bdf;
use crate::machine::{Client, Machine, Provider};
use crate::memory::Memory;
use crate::verify::{open_disk, open_pool};

/// What the kernel says of a pair.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Answer {
    /// It lets the pair do it.
    pub allowed: bool,
    /// The distance, if the answer has one.
    pub distance: Option<u64>,
    /// How it was asked: `p2pdma_test`, or `read`.
    pub by: &'static str,
}

/// Answers, by provider and client.
pub type Answers = BTreeMap<(Bdf, Bdf), Answer>;

/// Asks about all pairs of these functions, by the module of the tests. Without it, nothing.
///
/// The kernel judges each pair anew for it, and remembers that for providers that have a pool.
pub fn harness(functions: &[Bdf]) -> Answers {
    let Ok(harness) = Harness::open() else {
        return Answers::new();
    };
    let pairs = functions
        .iter()
        .flat_map(|provider| functions.iter().map(move |client| (*provider, *client)));
    let answer = |(provider, client): (Bdf, Bdf)| {
        let distance = harness.distance(provider.number(), client.number()).ok()?;
        let answer = Answer {
            allowed: distance.is_some(),
            distance,
            by: "p2pdma_test",
        };
        Some(((provider, client), answer))
    };
    pairs.filter_map(answer).collect()
}

/// Reads the first block of a disk into a provider's memory: whether the kernel lets it.
fn read(provider: &Provider, client: &Client) -> Option<bool> {
    let disk = client.namespaces.first()?;
    let len = usize::try_from(disk.block_size.max(4096)).ok()?;
    let memory = Memory::from_pool(open_pool(provider).ok()?, len).ok()?;
    let file = open_disk(&disk.path(), OFlags::RDONLY).ok()?;
    match memory.read_from(&file, 0, 0, len) {
        Ok(_) => Some(true),
        Err(error) if Errno::from_io_error(&error) == Some(Errno::INVAL) => Some(false),
        Err(_) => None,
    }
}

/// Asks about all pairs of a pool and an NVMe controller, by a read. This is what the kernel
/// remembers of the pair, if it was judged before.
pub fn reads(machine: &Machine) -> Answers {
    let mut answers = Answers::new();
    for provider in &machine.providers {
        for client in &machine.clients {
            let answer = read(provider, client).map(|allowed| Answer {
                allowed,
                distance: None,
                by: "read",
            });
            let pair = (provider.bdf, client.bdf);
            answers.extend(answer.map(|answer| (pair, answer)));
        }
    }
    answers
}
