// SPDX-License-Identifier: GPL-2.0

//! Runs the steps of a program, but for those that need a device that is kept bound: see `scope`.

use crate::{
    held::{
        AnyWatch,
        Held,
        Object, //
    },
    program::{
        Op,
        Step,
        Tally, //
    }, //
};
use kernel::{
    io::Io,
    iov::{
        IovIterDest,
        IovIterSource, //
    },
    page::{
        Page,
        PAGE_SIZE, //
    },
    pci,
    prelude::*,
    str::CString,
    sync::aref::ARef, //
};
use p2pdma::{
    block::{
        self,
        Bio,
        Disk,
        Segment, //
    },
    client::sg::{
        EntryExt,
        Sgl, //
    },
    compat::code::{
        ENODATA,
        EOPNOTSUPP, //
    },
    orchestrator::{
        distance::{
            self,
            ClientDevice,
            Reach,
            Report, //
        },
        enable::Enable, //
    },
    page::PageExt,
    pci::devices::{
        self,
        Address, //
    },
    pool::ProviderRef,
    provider::{
        self,
        PageOwner, //
    },
    user::{
        current::CurrentMm,
        extract::{
            self,
            ExtractPages,
            PeerMemory,
            UserIter, //
        },
        pages::{
            PageArray,
            Slot, //
        },
        pin::{
            self,
            Access,
            Flags,
            UserRange, //
        }, //
    }, //
};

/// Size of a sector, in bytes.
const SECTOR: u32 = 512;

/// Most pages that a step pins.
const MAX_PAGES: usize = 64;

/// What is not as the library says. No part of the kernel that is called here has this error.
pub(crate) const WRONG: Error = EDOM;

/// A program that runs.
pub(crate) struct Machine<'m> {
    pub(crate) steps: &'m [Step],
    pub(crate) at: usize,
    /// What it holds.
    pub(crate) held: &'m Held,
    /// What all programs of a file have in common.
    pub(crate) shared: &'m Held,
    pub(crate) current: CurrentMm<'m>,
    /// User memory to be pinned: where it starts, and its length.
    pub(crate) memory: (usize, usize),
    pub(crate) disk: Option<&'m Disk>,
    /// Where the disk may be written to.
    pub(crate) position: u64,
    /// Mappings that may be leaked.
    pub(crate) leaks: u64,
    pub(crate) tally: KBox<Tally>,
}

/// The function with a number.
pub(crate) fn function(number: u32) -> Result<ARef<pci::Device>> {
    Address::from_number(number.into())
        .and_then(Address::find)
        .ok_or(ENODEV)
}

/// Whether bit `bit` of `bits` is set.
fn is_set(bits: u8, bit: u32) -> bool {
    bits & (1 << bit) != 0
}

impl Machine<'_> {
    /// The next step.
    pub(crate) fn next(&mut self) -> Option<Step> {
        let step = self.steps.get(self.at).copied()?;

        self.at += 1;
        Some(step)
    }

    pub(crate) fn count(&mut self, op: Op, result: Result) {
        let outcome = match result {
            Ok(()) => 0,
            Err(error) if error == WRONG => 2,
            Err(_) => 1,
        };

        // CAST: The number of an operation.
        self.tally[op as usize][outcome] += 1;
    }

    /// Runs all steps.
    pub(crate) fn run(&mut self) {
        while let Some(step) = self.next() {
            let result = match step.op {
                Op::Bound | Op::Both => self.enter(step, None, 0),
                _ => self.step(step),
            };

            self.count(step.op, result);
        }
    }

    /// Runs a step that needs no scope.
    pub(crate) fn step(&mut self, step: Step) -> Result {
        match step.op {
            Op::Drop => {
                drop(self.held.take(step.a).ok_or(ENOENT)?);
                Ok(())
            }
            Op::Leak => self.held.take(step.a).ok_or(ENOENT)?.leak(self.leaks),
            Op::Exchange => self.exchange(step),
            Op::Distance => distance(step),
            Op::Find => {
                let dev = function(step.n)?;
                let found = distance::find(&dev)?;
                let found: ARef<pci::Device> = found.into();

                // Published when it was found, and maybe gone since.
                let _ = provider::provides(&found);
                Ok(())
            }
            Op::Enable => enable(step),
            Op::Watch => {
                self.held.put(step.a, Object::Watch(AnyWatch::new(step.b)?));
                Ok(())
            }
            Op::Pin => self.pin(step),
            Op::Reference => self.reference(step),
            Op::Extract => self.extract(step),
            Op::Look => {
                let object = self.held.take(step.a).ok_or(ENOENT)?;
                let result = look(&object, step.c);

                self.held.put(step.a, object);
                result
            }
            Op::Gather => self.gather(step),
            Op::Io => self.io(step),
            Op::Walk => {
                let mut all = devices::all();
                // CAST: 32 bits to 64. There is one device at least, or nobody would be here.
                let some = all.by_ref().take(step.n as usize % 64 + 1).count() > 0;

                if step.a == 0 {
                    all.by_ref().for_each(drop);
                    // Nor does it start over.
                    if all.next().is_some() {
                        return Err(WRONG);
                    }
                }

                // There may be none of that number.
                if let Ok(dev) = function(step.n) {
                    let _ = devices::numa_node(dev.as_ref());
                }
                if some {
                    Ok(())
                } else {
                    Err(WRONG)
                }
            }
            // No such scope.
            _ => Err(EINVAL),
        }
    }

    fn exchange(&mut self, step: Step) -> Result {
        let (mine, other) = (self.held.take(step.a), self.shared.take(step.b));

        if mine.is_none() && other.is_none() {
            return Err(ENOENT);
        }
        if let Some(mine) = mine {
            self.shared.put(step.b, mine);
        }
        if let Some(other) = other {
            self.held.put(step.a, other);
        }
        Ok(())
    }

    /// `c` pages, from page `n` on, as far as there is memory; and which.
    fn range(&self, step: Step) -> (usize, usize) {
        let (start, len) = self.memory;
        // CAST: 32 bits to 64.
        let from = (step.n as usize % (len / PAGE_SIZE)) * PAGE_SIZE;
        let pages = usize::from(step.c) % MAX_PAGES + 1;

        (start + from, (pages * PAGE_SIZE).min(len - from))
    }

    /// How is in `b`: the function, whether to write, whether peer-to-peer memory is taken, and
    /// whether it is for a long term.
    fn pin(&mut self, step: Step) -> Result {
        let (addr, len) = self.range(step);
        let range = UserRange::new(addr, len)?;
        let mut room = PageArray::new(range.pages())?;
        let access = if is_set(step.b, 4) {
            Access::Write
        } else {
            Access::Read
        };
        let mut short = Flags::short_term(access);

        if is_set(step.b, 5) {
            short = short.allow_p2pdma();
        }
        let long = Flags::long_term(access);
        let long_term = is_set(step.b, 6);
        let current = self.current;

        self.held.put(
            step.a,
            match step.b % 8 {
                0 if long_term => Object::Pinned(pin::pin_fast(current, range, long, room)?),
                0 => Object::Pinned(pin::pin_fast(current, range, short, room)?),
                1 if long_term => Object::Pinned(pin::pin(current, range, long, room)?),
                1 => Object::Pinned(pin::pin(current, range, short, room)?),
                2 => Object::Pinned(pin::pin_remote(&*pin::memory_of(0)?, range, short, room)?),
                3 => Object::Referenced(pin::get_fast(current, range, short, room)?),
                4 => Object::Referenced(pin::get_fast_only(current, range, short, room)?),
                5 => Object::Referenced(pin::get(current, range, short, room)?),
                6 => Object::Referenced(pin::get_remote(&*pin::memory_of(0)?, range, short, room)?),
                _ => {
                    // Not kept, in room that is on loan, of another size.
                    drop(pin::pin_fast(current, range, short, &mut room)?);
                    drop(pin::get_fast(current, range, short, [Slot::EMPTY; 4])?);
                    return Ok(());
                }
            },
        );
        Ok(())
    }

    fn reference(&mut self, step: Step) -> Result {
        let object = self.held.take(step.a).ok_or(ENOENT)?;
        let room = PageArray::new(usize::from(step.c) % MAX_PAGES + 1)?;
        let taken = match &object {
            Object::Pinned(pages) => pages.reference(room),
            Object::Referenced(pages) => pages.reference(room),
            Object::Extracted(extracted) => extracted.pages.reference(room),
            _ => Err(EINVAL),
        };

        self.held.put(step.a, object);
        self.held.put(step.b, Object::Referenced(taken?));
        Ok(())
    }

    /// How is in `b`: whether peer-to-peer memory is taken, whether the memory is going to be
    /// written, and whether it is one segment without an array.
    fn extract(&mut self, step: Step) -> Result {
        let (addr, len) = self.range(step);
        let peer = if is_set(step.b, 0) {
            PeerMemory::Allow
        } else {
            PeerMemory::Refuse
        };
        // Segments that start and end within a page.
        let segment = |i: usize| {
            extract::Segment::new(
                addr + i * SECTOR as usize,
                len.saturating_sub(2 * i * SECTOR as usize),
            )
        };
        let segments = [segment(0), segment(1), segment(2)];
        let segments = &segments[..usize::from(step.c) % 3 + 1];
        let room = PageArray::new(MAX_PAGES)?;
        let current = self.current;

        let extracted = match (is_set(step.b, 1), is_set(step.b, 2)) {
            (true, true) => UserIter::<IovIterDest<'_>>::one(segment(0))
                .as_iter()
                .extract_pages(current, room, peer),
            (false, true) => UserIter::<IovIterSource<'_>>::one(segment(0))
                .as_iter()
                .extract_pages(current, room, peer),
            (true, false) => UserIter::<IovIterDest<'_>>::new(segments)?
                .as_iter()
                .extract_pages(current, room, peer),
            (false, false) => UserIter::<IovIterSource<'_>>::new(segments)?
                .as_iter()
                .extract_pages(current, room, peer),
        }?;

        self.held
            .put(step.a, Object::Extracted(extracted.ok_or(ENODATA)?));
        Ok(())
    }

    fn gather(&mut self, step: Step) -> Result {
        let mut memory = KVec::with_capacity(2, GFP_KERNEL)?;

        for slot in [step.a, step.b] {
            match self.held.take(slot) {
                Some(Object::Memory(piece)) => memory.push(piece, GFP_KERNEL)?,
                Some(other) => self.held.put(slot, other),
                None => (),
            }
        }
        self.held.put(step.a, Object::Table(Sgl::gather(memory)?));
        Ok(())
    }

    fn io(&mut self, step: Step) -> Result {
        let objects = [self.held.take(step.a), self.held.take(step.b)];
        let tables = objects.iter().filter_map(|object| match object {
            Some(Object::Table(table)) => Some(table),
            _ => None,
        });
        let result = transfer(self.disk, self.position, step, tables);

        for (slot, object) in [step.a, step.b].into_iter().zip(objects) {
            if let Some(object) = object {
                self.held.put(slot, object);
            }
        }
        result
    }
}

/// Reads or writes the disk: `n` sectors of the first entry of each list, one after the other.
pub(crate) fn transfer<'t, D: ProviderRef + 't>(
    disk: Option<&Disk>,
    position: u64,
    step: Step,
    tables: impl Iterator<Item = &'t Sgl<D>>,
) -> Result {
    let disk = disk.ok_or(ENXIO)?;
    let op = if is_set(step.c, 0) {
        block::Op::Write
    } else {
        block::Op::Read
    };
    let len = (step.n % 64 + 1) * SECTOR;
    let mut buffer = KVec::from_elem(0u8, PAGE_SIZE, GFP_KERNEL)?;
    let mut bios = KVec::new();
    let mut bio = Bio::new(disk.target(op)?, position, u16::from(step.c >> 4) + 1)?;

    for table in tables {
        bio.add(&Segment::of_table(table, 0, 0, len)?)?;
        // Each of two lists a bio, or both one.
        if is_set(step.c, 1) && !bio.is_empty() {
            let next = Bio::new(disk.target(op)?, position, 1)?;

            bios.push(core::mem::replace(&mut bio, next), GFP_KERNEL)?;
        }
    }
    if is_set(step.c, 2) {
        // Mixed with other memory, which is refused where there is some of a provider already.
        bio.add(&Segment::of_buffer(&mut buffer)?)?;
    }
    if !bio.is_empty() || bios.is_empty() {
        let _ = (bio.len(), bio.segments(), bio.is_never_merged());
        bios.push(bio, GFP_KERNEL)?;
    }
    block::submit(bios)
}

fn distance(step: Step) -> Result {
    let provider = function(step.n)?;
    let report = if is_set(step.a, 0) {
        Report::Verbose
    } else {
        Report::Quiet
    };
    let mut devices = KVec::new();
    let mut clients: KVec<ClientDevice<'_>> = KVec::new();

    for dev in devices::all().take(usize::from(step.c) % 4) {
        devices.push(dev, GFP_KERNEL)?;
    }
    clients.push((&*provider).into(), GFP_KERNEL)?;
    for dev in &devices {
        clients.push((&**dev).into(), GFP_KERNEL)?;
    }
    match distance::distance_many(&provider, &clients, report)? {
        Reach::Ports(_) => Ok(()),
        Reach::NotSupported => Err(EOPNOTSUPP),
    }
}

fn enable(step: Step) -> Result {
    let value = match step.n % 8 {
        0 => CString::try_from_fmt(fmt!("auto"))?,
        1 => CString::try_from_fmt(fmt!("1"))?,
        2 => CString::try_from_fmt(fmt!("0\n"))?,
        3 => CString::try_from_fmt(fmt!(""))?,
        _ => {
            let dev = devices::all().nth(usize::from(step.a) % 64).ok_or(ENODEV)?;

            CString::try_from_fmt(fmt!("{}", Address::of(&dev)))?
        }
    };
    let enable = Enable::parse(&value)?;
    let mut page = KVec::from_elem(0u8, PAGE_SIZE, GFP_KERNEL)?;
    let page: &mut [u8; PAGE_SIZE] = page.as_mut_slice().try_into().map_err(|_| EINVAL)?;

    enable.show(page);
    Ok(())
}

/// Facts about a page.
fn facts(page: &Page) -> bool {
    let location = page.location();

    // Both are told from the page alone.
    location.is_some() != page.is_p2pdma() || page.ref_count() < 0 || page.phys() == 0
}

/// Looks at all there is to know of an object, and uses its memory with the CPU.
fn look(object: &Object, bits: u8) -> Result {
    match object {
        Object::Memory(memory) => {
            let io = memory.io();
            let last = memory.size() - 8;

            io.try_write64(u64::from(bits), last)?;
            io.try_read64(last)?;
            // Past the end.
            if io.try_read64(last + 8).is_ok() || memory.bus_address() == 0 {
                return Err(WRONG);
            }
        }
        Object::Table(table) => look_at_table(table)?,
        Object::Managed(mapped, _) => {
            let mapped = mapped.try_access().ok_or(ENODEV)?;
            let bus = mapped.iter().filter(|entry| entry.is_bus_address()).count();

            if bus > mapped.table().len() {
                return Err(WRONG);
            }
        }
        Object::Watch(_) => (),
        pages => {
            if pages.each_user_page(facts) {
                return Err(WRONG);
            }
            if is_set(bits, 0) {
                pages.each_user_page(|page| page.is_p2pdma() && page.provider().is_none());
            }
        }
    }
    Ok(())
}

/// The same for a list.
pub(crate) fn look_at_table<D: ProviderRef>(table: &Sgl<D>) -> Result {
    for io in table.segments() {
        io.try_read32(0)?;
        io.try_write32(1, io.size() - 4)?;
    }
    if table.bus_addresses().count() != table.len()
        || table
            .pages()
            .any(|page| facts(&page) || !page.is_of(table.device()))
    {
        return Err(WRONG);
    }
    Ok(())
}
