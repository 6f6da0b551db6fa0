// SPDX-License-Identifier: GPL-2.0

//! What the calls are made of.
//!
//! The numbers for a call are determined by the seed, its thread and its number: each has a stream
//! of random numbers of its own, and takes as many whatever the kernel answered to those before.
//! Which object a number means depends on the objects that there are by then. What is asked for is
//! plausible for the most part, or it would be refused before it gets anywhere; the rest is at the
//! edges of types and limits, and anywhere.

use rand::seq::SliceRandom;
use rand::Rng;
use rand_chacha::rand_core::SeedableRng;
use rand_chacha::ChaCha8Rng;

use crate::abi::{Abi, Command, Member};
use crate::ioctl::Structure;
use crate::memory::{Address, Arena, PAGE, PAGES};

/// What there is to name in a call.
pub struct World {
    /// All PCI functions.
    pub functions: Vec<u64>,
    /// Those that provide memory.
    pub providers: Vec<u64>,
    /// The same by name, with other values that an attribute takes.
    pub values: Vec<String>,
    /// File descriptors of disks, and some that are none.
    pub disks: Vec<u32>,
    /// This process.
    pub pid: u32,
}

/// What a thread does next.
pub enum Call<'a, 'p> {
    /// A command with a structure.
    Command(&'a Command, Structure<'p>),
    /// A command with a place that need not be one.
    Place(u8, u8, Address<'p>),
    /// Close a file, and open another.
    Close,
}

/// Where a call goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Target {
    /// The thread's own file.
    Own,
    /// That of the thread so many further on.
    Other(usize),
    /// Any number of a file.
    Number(i32),
}

/// The numbers for one call.
pub fn numbers(seed: u64, thread: u32, call: u64) -> ChaCha8Rng {
    let mut rng = ChaCha8Rng::seed_from_u64(seed);

    rng.set_stream((u64::from(thread) << 48) | call);
    rng
}

/// Values where something changes.
fn boundary(rng: &mut impl Rng, bits: usize) -> u64 {
    let any: u64 = rng.gen();
    let near = rng.gen_range(0..=8);
    let value = match rng.gen_range(0..6) {
        0 => near,
        1 => u64::MAX - near,
        2 => (1u64 << (any % 64)).wrapping_add(near).wrapping_sub(4),
        3 => (any % 64 * PAGE as u64).wrapping_add(near).wrapping_sub(4),
        4 => any,
        _ => any % 4096,
    };

    if bits < 64 {
        value & ((1 << bits) - 1)
    } else {
        value
    }
}

/// One of the values of an enumeration, or seldom the one behind the last.
fn one_of(number: u64, values: u64) -> u64 {
    if number % 32 == 0 {
        values
    } else {
        number / 32 % values.max(1)
    }
}

/// Number of elements of an array that is at most `max` long.
fn elements(rng: &mut impl Rng, max: u64) -> u64 {
    let few = rng.gen_range(1..=4);
    let some = rng.gen_range(1..=max);
    let edge = *[0, 1, max, max + 1, u64::from(u32::MAX)]
        .choose(rng)
        .unwrap_or(&0);

    match rng.gen_range(0..100) {
        0..88 => few,
        88..96 => some.min(64),
        96..98 => some,
        _ => edge,
    }
}

/// A number of bytes of memory.
fn length(rng: &mut impl Rng) -> u64 {
    let pages = rng.gen_range(1..=PAGES as u64);
    let bytes = rng.gen_range(1..=(PAGES * PAGE) as u64);
    let edge = boundary(rng, 64);

    match rng.gen_range(0..20) {
        0..11 => pages * PAGE as u64,
        11..16 => bytes,
        16..18 => bytes & !511,
        18 => bytes % 16 * 4,
        _ => edge,
    }
}

/// Makes calls.
pub struct Generator<'a> {
    abi: &'a Abi,
    world: &'a World,
    commands: Vec<&'a Command>,
}

impl<'a> Generator<'a> {
    /// For this ABI, in this world.
    pub fn new(abi: &'a Abi, world: &'a World) -> Self {
        // What makes objects and what moves data more often than the rest.
        let commands = abi
            .commands
            .iter()
            .flat_map(|command| {
                let weight = match &*command.name {
                    "alloc" | "pin" | "extract" => 4,
                    "bio" | "map" | "release" => 3,
                    "peek" | "fill" | "check" => 2,
                    _ => 1,
                };
                std::iter::repeat_n(command, weight)
            })
            .collect();

        Generator {
            abi,
            world,
            commands,
        }
    }

    /// A call, and where it goes. `ids` are objects that there are.
    pub fn call<'p>(
        &self,
        rng: &mut ChaCha8Rng,
        arena: &'p Arena,
        ids: &[u32],
    ) -> (Call<'a, 'p>, Target) {
        let number = rng.gen_range(-1..32);
        let target = match rng.gen_range(0..200) {
            0..180 => Target::Own,
            180..199 => Target::Other(rng.gen_range(1..8)),
            _ => Target::Number(number),
        };
        let command = *self.commands.choose(rng).unwrap_or(&&self.abi.commands[0]);

        match rng.gen_range(0..1000) {
            0..4 => return (Call::Close, target),
            4..20 => {
                let number = if rng.gen() { command.number } else { rng.gen() };
                // Types that nobody else has, or anybody.
                let kind = *[self.abi.kind, self.abi.kind - 1, self.abi.kind + 1]
                    .choose(rng)
                    .unwrap_or(&self.abi.kind);

                return (Call::Place(kind, number, arena.any(rng)), target);
            }
            _ => (),
        }
        (
            Call::Command(command, self.structure(rng, command, arena, ids)),
            target,
        )
    }

    /// The release of an object, as it should be.
    pub fn release(&self, id: u32) -> Option<Call<'a, 'static>> {
        let command = self.abi.command("release")?;
        let mut structure = Structure::new();

        for (name, value) in [
            ("size", command.structure.size as u64),
            ("id", u64::from(id)),
        ] {
            structure.set(command.structure.member(name)?, 0, value);
        }
        Some(Call::Command(command, structure))
    }

    fn structure<'p>(
        &self,
        rng: &mut ChaCha8Rng,
        command: &Command,
        arena: &'p Arena,
        ids: &[u32],
    ) -> Structure<'p> {
        let mut structure = Structure::new();
        // One in five has something unlikely in each of some members.
        let wild = rng.gen_ratio(1, 5);

        for member in &command.structure.members {
            let unlikely = rng.gen_ratio(1, 4);

            if wild && unlikely {
                self.wild(rng, member, arena, &mut structure);
            } else {
                self.plausible(rng, command, member, arena, ids, &mut structure);
            }
        }
        self.arrays(rng, command, arena, ids, &mut structure);
        self.size(rng, command, &mut structure);
        structure
    }

    /// What a member could be by its type alone.
    fn wild<'p>(
        &self,
        rng: &mut ChaCha8Rng,
        member: &Member,
        arena: &'p Arena,
        structure: &mut Structure<'p>,
    ) {
        structure.point(member, arena.any(rng));
        for i in 0..member.count {
            structure.set(member, i, boundary(rng, 8 * member.width));
        }
    }

    /// What a member could be by its name.
    fn plausible<'p>(
        &self,
        rng: &mut ChaCha8Rng,
        command: &Command,
        member: &Member,
        arena: &'p Arena,
        ids: &[u32],
        structure: &mut Structure<'p>,
    ) {
        if member.pointer {
            // Where the kernel writes to; what it reads is put there by `arrays()`.
            let absent = rng.gen_ratio(1, 3);
            let address = if member.name == "addr" {
                arena.any(rng)
            } else {
                arena.room(rng, 16 * 48)
            };

            structure.point(member, if absent { Address::NULL } else { address });
            return;
        }
        if member.name == "value" {
            let value = self.world.values.choose(rng).map_or("", |value| value);

            for (i, byte) in value.bytes().take(member.count - 1).enumerate() {
                structure.set(member, i, byte.into());
            }
            return;
        }

        let number: u64 = rng.gen();
        let edge = boundary(rng, 64);
        let length = length(rng);
        let value = match (&*command.name, &*member.name) {
            (_, "flags") => self.flags(rng, command),
            (_, "id") => any_id(rng, ids),
            (_, "api") => one_of(number, self.abi.constant("P2PDMA_TEST_NR_APIS")),
            (_, "op") => one_of(number, self.abi.constant("P2PDMA_TEST_NR_OPS")),
            (_, "direction") => one_of(number, self.abi.constant("P2PDMA_TEST_NR_DIRECTIONS")),
            (_, "pid") => match number % 16 {
                0..12 => 0,
                12..14 => self.world.pid.into(),
                14 => 1,
                _ => edge,
            },
            (_, "provider") => self.function(rng, &self.world.providers),
            (_, "client") => self.function(rng, &self.world.functions),
            (_, "fd") => match self.world.disks.choose(rng) {
                Some(disk) if number % 16 != 0 => u64::from(*disk),
                _ => number % 64,
            },
            ("alloc", "nr_entries") => elements(rng, self.abi.constant("P2PDMA_TEST_MAX_ENTRIES")),
            ("alloc", "length") => length & !3,
            // The CMB of a virtual machine is slow to the processor.
            ("fill" | "check", "length") => match number % 4 {
                0 => (length % (4 * PAGE as u64)) & !7,
                _ => length % 512 * 8,
            },
            (_, "length") => length,
            ("fill" | "check", "offset") if number % 4 != 0 => 0,
            ("fill" | "check", "offset") => (number % (PAGES * PAGE) as u64) & !7,
            (_, "tag" | "ordinary_tag") => number << 44,
            (_, "position") => (number % (1 << 26)) & !4095,
            // As many as the segments have, or more, now and then.
            (_, "max_pages") if number % 4 == 0 => {
                one_of(number / 4, self.abi.constant("P2PDMA_TEST_MAX_PAGES")) + 1
            }
            (_, "max_pages") => number / 4 % 32,
            (_, "nr_pages" | "nr_calls") => number % 17,
            ("map", "nr_entries") => number % 17,
            // Set by the command, or along with their arrays.
            _ => 0,
        };
        structure.set(member, 0, value);
    }

    /// Flags that have a name, expensive ones seldom.
    fn flags(&self, rng: &mut impl Rng, command: &Command) -> u64 {
        let long_term = self.abi.constant("P2PDMA_TEST_PIN_LONGTERM");
        let mut flags = 0;

        for flag in &command.flags {
            let one_in = match &*command.name {
                "pool" | "distance" => 64,
                // Long-term: what else is asked for along with it is refused, mostly.
                "pin" if u64::from(*flag) == long_term => 8,
                _ => 2,
            };

            if rng.gen_ratio(1, one_in) {
                flags |= u64::from(*flag);
            }
        }
        flags
    }

    /// A PCI function, of these for the most part.
    fn function(&self, rng: &mut ChaCha8Rng, those: &[u64]) -> u64 {
        let edge = boundary(rng, 64);
        let any = self.world.functions.choose(rng).copied().unwrap_or(edge);
        let one = those.choose(rng).copied().unwrap_or(any);

        match rng.gen_range(0..32) {
            0..28 => one,
            28..30 => any,
            30 => self.abi.constant("P2PDMA_TEST_SELF"),
            _ => edge,
        }
    }

    /// Arrays that the kernel reads.
    fn arrays<'p>(
        &self,
        rng: &mut ChaCha8Rng,
        command: &Command,
        arena: &'p Arena,
        ids: &[u32],
        structure: &mut Structure<'p>,
    ) {
        for (array, max) in [
            ("segments", "P2PDMA_TEST_MAX_SEGMENTS"),
            ("pieces", "P2PDMA_TEST_MAX_PIECES"),
            ("clients", "P2PDMA_TEST_MAX_CLIENTS"),
        ] {
            let (Some(pointer), Some(count)) = (
                command.structure.member(array),
                command.structure.member(&format!("nr_{array}")),
            ) else {
                continue;
            };
            let n = elements(rng, self.abi.constant(max));
            let mut bytes = Vec::new();

            // The same memory in all segments, and in as many as there can be.
            if array == "segments" && rng.gen_ratio(1, 4) {
                let address = arena.any(rng).get() as u64;
                let length = length(rng);

                for _ in 0..n.min(self.abi.constant(max)) {
                    bytes.extend(address.to_ne_bytes());
                    bytes.extend(length.to_ne_bytes());
                }
            }
            // Of more than that, the rest is what happens to be there.
            for _ in bytes.len() / 16..n.min(64) as usize {
                match array {
                    "segments" => {
                        bytes.extend((arena.any(rng).get() as u64).to_ne_bytes());
                        bytes.extend(length(rng).to_ne_bytes());
                    }
                    "pieces" => {
                        let ordinary = rng.gen_ratio(1, 5);
                        let id = any_id(rng, ids);
                        // Most objects have one entry, of a few pages.
                        let entry = rng.gen_range(0u64..12).saturating_sub(8);
                        let offset = rng.gen_range(0..8) * PAGE as u64;
                        let small = rng.gen_range(1..=8) * 512;
                        let large = length(rng) & !511;
                        let (offset, length) = match rng.gen_range(0..8) {
                            0..5 => (0, small),
                            5 => (offset, small),
                            6 => (0, large),
                            _ => (offset, large),
                        };

                        for value in [if ordinary { 0 } else { id }, entry, offset, length] {
                            bytes.extend(&value.to_ne_bytes()[..4]);
                        }
                    }
                    _ => bytes.extend(self.function(rng, &self.world.functions).to_ne_bytes()),
                }
            }

            let address = arena.store(rng, &bytes);
            // Otherwise they are what they were.
            if rng.gen_ratio(19, 20) {
                structure.point(pointer, address);
                structure.set(count, 0, n);
            }
        }
    }

    /// The size that the structure says it has, and what is behind what is known.
    fn size(&self, rng: &mut ChaCha8Rng, command: &Command, structure: &mut Structure<'_>) {
        let known = command.structure.size as u64;
        let longer = rng.gen_range(1..128);
        let shorter = rng.gen_range(0..known);
        let edge = boundary(rng, 32);
        let size = match rng.gen_range(0..64) {
            0..56 => known,
            56..59 => known + longer,
            59..61 => shorter,
            61 => PAGE as u64,
            62 => PAGE as u64 + 1,
            _ => edge,
        };

        if let Some(member) = command.structure.member("size") {
            structure.set(member, 0, size);
        }
        if rng.gen_ratio(1, 4) {
            structure.set_unknown(command.structure.size, rng.gen_range(0..128), 1);
        }
    }
}

/// An object, or none.
fn any_id(rng: &mut impl Rng, ids: &[u32]) -> u64 {
    let edge = boundary(rng, 32);
    let number: usize = rng.gen();
    let unlikely = rng.gen_ratio(1, 24);

    if unlikely || ids.is_empty() {
        edge
    } else {
        u64::from(ids[number % ids.len()])
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::abi::HEADER;

    fn world() -> World {
        World {
            functions: vec![0x100, 0x200, 0x300],
            providers: vec![0x100],
            values: vec!["1".into(), "off".into()],
            disks: vec![7, 8],
            pid: 1,
        }
    }

    /// What a call is, but for its arguments.
    fn kind(call: &Call<'_, '_>) -> (String, Option<(u8, u8)>) {
        match call {
            Call::Command(command, _) => (command.name.clone(), None),
            Call::Place(kind, number, _) => ("place".into(), Some((*kind, *number))),
            Call::Close => ("close".into(), None),
        }
    }

    #[test]
    fn numbers_drawn_do_not_depend_on_ids() {
        let abi = Abi::parse(HEADER).expect("the header");
        let world = world();
        let generator = Generator::new(&abi, &world);
        let arena = Arena::new(Vec::new()).expect("arena");
        let many: Vec<u32> = (1..=crate::worker::MAX_IDS as u32).collect();

        for ids in [&many[..1], &many[..7], &many[..]] {
            for call in 0..5000 {
                let mut a = numbers(5, 0, call);
                let mut b = a.clone();
                let (one, to) = generator.call(&mut a, &arena, &[]);
                let (other, also_to) = generator.call(&mut b, &arena, ids);

                assert_eq!(kind(&one), kind(&other), "call {call}");
                assert_eq!(to, also_to, "call {call}");
                assert_eq!(a.gen::<u64>(), b.gen::<u64>(), "call {call}");
            }
        }
    }
}
