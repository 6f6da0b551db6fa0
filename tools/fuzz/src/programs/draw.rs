// SPDX-License-Identifier: GPL-2.0

//! Programs over the library's API, drawn at random.
//!
//! A program is determined by the seed, its batch and its thread. Steps are plausible for the most
//! part: devices that provide memory or use it, few slots, so that objects meet, and sizes at the
//! edges.

use rand::seq::SliceRandom;
use rand::Rng;
use rand_chacha::rand_core::SeedableRng;
use rand_chacha::ChaCha8Rng;

use super::program::{Op, Step};

/// The machine, as far as programs name parts of it.
#[derive(Debug, Clone, Default)]
pub struct Machine {
    /// All PCI functions, by number.
    pub functions: Vec<u32>,
    /// Those that provide memory.
    pub providers: Vec<u32>,
    /// Those with another driver.
    pub clients: Vec<u32>,
}

/// The numbers for one program.
pub fn numbers(seed: u64, batch: u64, thread: u32) -> ChaCha8Rng {
    let mut rng = ChaCha8Rng::seed_from_u64(seed);

    // Not the streams of the calls.
    rng.set_stream((1 << 63) | (batch << 8) | u64::from(thread));
    rng
}

/// What is done outside of scopes, and how often.
const OUTSIDE: &[(Op, u32)] = &[
    (Op::Bound, 16),
    (Op::Both, 16),
    (Op::Drop, 8),
    (Op::Leak, 2),
    (Op::Exchange, 4),
    (Op::Distance, 2),
    (Op::Find, 2),
    (Op::Enable, 2),
    (Op::Watch, 4),
    (Op::Pin, 10),
    (Op::Reference, 4),
    (Op::Extract, 8),
    (Op::Look, 8),
    (Op::Gather, 3),
    (Op::Io, 2),
    (Op::Walk, 2),
];

/// What is done in scopes besides.
const INSIDE: &[(Op, u32)] = &[
    (Op::Bound, 6),
    (Op::End, 16),
    (Op::Drop, 4),
    (Op::Exchange, 2),
    (Op::Watch, 1),
    (Op::Pin, 2),
    (Op::Look, 6),
    (Op::Gather, 3),
    (Op::Io, 1),
    (Op::Alloc, 10),
    (Op::AllocSgl, 16),
    (Op::Map, 24),
    (Op::Unmap, 14),
    (Op::MapManaged, 3),
    (Op::IntoManaged, 3),
    (Op::Probe, 3),
    (Op::Return, 4),
    (Op::GatherLoan, 3),
    (Op::IoLoan, 6),
];

fn function(rng: &mut impl Rng, machine: &Machine) -> u32 {
    let number = rng.gen();
    let of = |list: &[u32]| match list.len() {
        0 => number,
        len => list[number as usize % len],
    };

    match rng.gen_range(0..20) {
        0 => number,
        1 => of(&machine.functions),
        2..11 => of(&machine.providers),
        _ => of(&machine.clients),
    }
}

fn size(rng: &mut impl Rng) -> u32 {
    const EDGES: &[u32] = &[
        0,
        1,
        2,
        4,
        4095,
        4096,
        4097,
        65532,
        65536,
        1 << 20,
        u32::MAX,
        1 << 31,
    ];

    match rng.gen_range(0..8) {
        0 => *EDGES.choose(rng).unwrap_or(&4096),
        1 => rng.gen_range(0..1 << 24),
        2 => rng.gen_range(0..1 << 18) & !3,
        _ => rng.gen_range(1..9) * 4096,
    }
}

fn step(rng: &mut impl Rng, machine: &Machine, op: Op) -> Step {
    let function = function(rng, machine);
    let size = size(rng);
    let number = rng.gen();

    Step {
        op,
        a: rng.gen_range(0..4),
        b: match op {
            Op::Pin | Op::Extract | Op::Watch => rng.gen(),
            _ => rng.gen_range(0..4),
        },
        c: rng.gen(),
        n: match op {
            Op::Bound | Op::Both | Op::Distance | Op::Find => function,
            Op::Alloc | Op::AllocSgl => size,
            _ => number,
        },
    }
}

/// What makes sense of a step, for which others have to come first, every other time.
fn before(rng: &mut impl Rng, machine: &Machine, next: Step) -> Vec<Step> {
    let page = |op, b| Step {
        op,
        a: next.a,
        b,
        c: 15,
        n: 4096,
    };
    let steps = match next.op {
        Op::GatherLoan => vec![page(Op::Alloc, 1), page(Op::Alloc, 1)],
        Op::IntoManaged => vec![page(Op::AllocSgl, 0), page(Op::Map, 0)],
        Op::MapManaged | Op::Io => vec![page(Op::AllocSgl, 0)],
        Op::IoLoan => vec![page(Op::AllocSgl, 1)],
        Op::Leak => vec![step(rng, machine, Op::Watch)],
        Op::Gather => vec![
            page(Op::Alloc, 0),
            Step {
                a: next.b,
                ..page(Op::Alloc, 0)
            },
        ],
        _ => Vec::new(),
    };

    // Drawn always, so that it does not matter for what follows whether there are some.
    if rng.gen() {
        steps
    } else {
        Vec::new()
    }
}

/// What often comes after a step, with the same object.
fn after(rng: &mut impl Rng, machine: &Machine, last: Step) -> Vec<Step> {
    let (often, c) = (rng.gen_range(0..4), rng.gen());
    let op = match last.op {
        Op::AllocSgl if often != 0 => Op::Map,
        Op::Map if often == 0 => Op::Unmap,
        Op::Unmap if often == 0 => Op::Map,
        Op::Alloc | Op::Pin | Op::Extract if often == 0 => Op::Look,
        _ => return Vec::new(),
    };
    let next = step(rng, machine, op);

    vec![Step {
        a: last.a,
        b: last.b,
        c,
        ..next
    }]
}

/// A program of `length` steps, or a few more.
pub fn draw(rng: &mut impl Rng, machine: &Machine, length: usize) -> Vec<Step> {
    let mut steps: Vec<Step> = Vec::with_capacity(length + 1);
    let mut depth = 0u32;

    while steps.len() < length {
        let table = if depth == 0 { OUTSIDE } else { INSIDE };
        let op = table
            .choose_weighted(rng, |(_, weight)| *weight)
            .map_or(Op::Walk, |(op, _)| *op);

        let next = step(rng, machine, op);

        steps.extend(before(rng, machine, next));
        steps.push(next);
        steps.extend(after(rng, machine, next));
        match op {
            Op::Bound => depth += 1,
            Op::Both => {
                depth += 1;
                // No step, but the number of the client.
                let carrier = step(rng, machine, Op::Find);

                steps.push(carrier);
            }
            Op::End => depth -= 1,
            _ => (),
        }
    }
    steps
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::programs::program::OPS;
    use std::collections::BTreeSet;

    fn machine() -> Machine {
        Machine {
            functions: (0..32).map(|device| device << 3).collect(),
            providers: vec![0x300],
            clients: vec![0x400, 0x500],
        }
    }

    #[test]
    fn the_same_numbers_make_the_same_program() {
        let program =
            |seed, batch, thread| draw(&mut numbers(seed, batch, thread), &machine(), 300);

        assert_eq!(program(7, 3, 1), program(7, 3, 1));
        assert_ne!(program(7, 3, 1), program(8, 3, 1));
        assert_ne!(program(7, 3, 1), program(7, 4, 1));
        assert_ne!(program(7, 3, 1), program(7, 3, 2));
    }

    #[test]
    fn everything_is_drawn() {
        let steps = draw(&mut numbers(1, 0, 0), &machine(), 5000);
        let drawn: BTreeSet<Op> = steps.iter().map(|step| step.op).collect();

        assert_eq!(drawn.len(), OPS.len());
        assert!((5000..5010).contains(&steps.len()));
    }

    #[test]
    fn a_machine_without_devices_is_no_problem() {
        draw(&mut numbers(1, 0, 0), &Machine::default(), 5000);
    }
}
