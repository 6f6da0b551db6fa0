// SPDX-License-Identifier: GPL-2.0

//! The commands on a provider's memory: allocate, fill and check, map for a client.

use crate::{
    abi::{
        self,
        Args,
        Reply,
        Sent, //
    },
    pattern,
    refuse,
    session::{
        Memory,
        Object,
        Session, //
    }, //
};
use kernel::{
    dma::DataDirection,
    io::Io,
    page::PAGE_SIZE,
    pci,
    prelude::*,
    scatterlist::SGTable,
    sync::aref::ARef, //
};
use p2pdma::{
    client::{
        sg::{
            EntryExt,
            Sgl, //
        },
        Client, //
    },
    compat::Mmio,
    pci::{
        bound::BoundDevice,
        devices::Address, //
    },
    pool::Pool,
    system, //
};

/// The PCI function that the ABI names.
pub(crate) fn find_function(function: u64) -> Result<ARef<pci::Device>> {
    Address::from_number(function)
        .and_then(Address::find)
        .ok_or_else(|| refuse!(ENODEV, "no PCI function {function:#x}"))
}

/// Calls `f` with the pool of the PCI function that the ABI names, which stays bound meanwhile.
pub(crate) fn with_pool<T>(function: u64, f: impl FnOnce(Pool<'_>) -> Result<T>) -> Result<T> {
    let dev = find_function(function)?;

    with_bound(&dev, |bound| {
        let pool =
            Pool::of(bound).inspect_err(|_| refuse!((), "{}: no pool", Address::of(&dev)))?;

        f(pool)
    })
}

/// Calls `f` with `dev` kept bound.
fn with_bound<T>(dev: &pci::Device, f: impl FnOnce(&BoundDevice) -> Result<T>) -> Result<T> {
    let mut was_bound = false;

    BoundDevice::with(dev.as_ref(), |bound| {
        was_bound = true;
        f(bound)
    })
    .inspect_err(|error| {
        if !was_bound {
            refuse!((), "{}: not to be kept bound: {error:?}", Address::of(dev));
        }
    })
}

impl Args for abi::p2pdma_test_alloc {
    const FIRST: usize = 32;
    const FLAGS: u32 = 0;

    fn flags(&self) -> u32 {
        self.flags
    }
}

/// Allocates memory.
pub(crate) fn alloc(
    session: &Session,
    args: &mut abi::p2pdma_test_alloc,
    reply: Reply,
) -> Result<Sent> {
    if args.nr_entries == 0 || args.nr_entries > abi::P2PDMA_TEST_MAX_ENTRIES {
        return Err(refuse!(EINVAL, "{} entries", args.nr_entries));
    }
    if args.length == 0 || args.length % 4 != 0 || u32::try_from(args.length).is_err() {
        return Err(refuse!(EINVAL, "{} bytes an entry", args.length));
    }

    // The provider's lock is held until the memory is in the table, so there is no unbinding that
    // could have passed it by.
    let new = with_pool(args.provider, |pool| {
        let table = if args.nr_entries == 1 {
            // CAST: Checked above.
            pool.alloc_sgl_owned(args.length as u32)?
        } else {
            let mut pieces = KVVec::new();

            for _ in 0..args.nr_entries {
                // CAST: 64 bits, as PCI_P2PDMA depends on 64BIT.
                pieces.push(pool.alloc_owned(args.length as usize)?, GFP_KERNEL)?;
            }
            Sgl::gather(pieces)?
        };

        session.insert(Object::Memory(table))
    })?;

    args.id = new.id();
    let sent = reply.send(args)?;
    new.keep();
    Ok(sent)
}

impl Args for abi::p2pdma_test_pattern {
    const FIRST: usize = 72;
    const FLAGS: u32 = 0;

    fn flags(&self) -> u32 {
        self.flags
    }

    fn reserved_is_zero(&self) -> bool {
        self.reserved == 0
    }
}

/// Words after which is seen whether somebody still waits for the end.
const WORDS: usize = 4096;

/// Calls `f` for each word of `length` bytes from `offset` on: with the accessors of its entry, its
/// offset there, and its offset in the memory. Ends with EINTR if there is a signal.
fn each_word(
    memory: &Memory,
    offset: u64,
    length: u64,
    mut f: impl FnMut(&Mmio<'_>, usize, u64) -> Result,
) -> Result {
    let end = offset.checked_add(length).ok_or(EINVAL)?;
    let (mut start, mut words) = (0, 0);

    for io in memory.segments() {
        // CAST: 64 bits.
        let size = io.size() as u64;
        // CAST: Within the entry.
        let from = offset.saturating_sub(start).min(size) as usize;
        let to = end.saturating_sub(start).min(size) as usize;

        for at in (from..to).step_by(8) {
            if words % WORDS == 0 {
                system::resched_or_signal()?;
            }
            words += 1;
            f(&io, at, start + at as u64)?;
        }
        start += size;
    }
    Ok(())
}

/// The memory that a pattern is for, checked.
fn check_pattern(memory: &Memory, args: &abi::p2pdma_test_pattern) -> Result {
    let size: u64 = memory.segments().map(|io| io.size() as u64).sum();

    if (args.offset | args.length | args.position) % 8 != 0
        || pattern::position(args.tag) != 0
        || args
            .offset
            .checked_add(args.length)
            .is_none_or(|end| end > size)
    {
        return Err(refuse!(
            EINVAL,
            "pattern {:#x} from {} on, {} bytes at {} of {size}",
            args.tag,
            args.position,
            args.length,
            args.offset
        ));
    }
    Ok(())
}

/// Fills memory.
pub(crate) fn fill(session: &Session, args: &mut abi::p2pdma_test_pattern) -> Result {
    let taken = session.take(args.id)?;
    let memory = taken.memory()?;
    let mut last = 0;

    check_pattern(memory, args)?;
    each_word(memory, args.offset, args.length, |io, at, offset| {
        let position = args.position.wrapping_add(offset - args.offset);

        io.try_write64(pattern::word(args.tag, position), at)
    })?;
    // So that what was posted has arrived before a device is told to fetch it.
    each_word(
        memory,
        (args.offset + args.length).saturating_sub(8),
        args.length.min(8),
        |io, at, _| {
            last = io.try_read64(at)?;
            Ok(())
        },
    )?;
    (args.wrong, args.first, args.found) = (0, 0, last);
    Ok(())
}

/// Compares what memory holds.
pub(crate) fn check(session: &Session, args: &mut abi::p2pdma_test_pattern) -> Result {
    let taken = session.take(args.id)?;
    let memory = taken.memory()?;

    check_pattern(memory, args)?;
    (args.wrong, args.first, args.found) = (0, 0, 0);
    let (start, tag, position) = (args.offset, args.tag, args.position);
    each_word(memory, start, args.length, |io, at, offset| {
        let found = io.try_read64(at)?;

        if found != pattern::word(tag, position.wrapping_add(offset - start)) {
            if args.wrong == 0 {
                (args.first, args.found) = (offset, found);
            }
            args.wrong += 1;
        }
        Ok(())
    })
}

impl Args for abi::p2pdma_test_map {
    const FIRST: usize = 56;
    const FLAGS: u32 = abi::P2PDMA_TEST_MAP_HOLD;

    fn flags(&self) -> u32 {
        self.flags
    }
}

/// What a mapping looks like to the client.
fn describe(
    args: &mut abi::p2pdma_test_map,
    memory: &Memory,
    mapped: &SGTable,
) -> Result<KVVec<abi::p2pdma_test_dma>> {
    let mut entries = KVVec::new();
    // CAST: 64 bits.
    let sizes = memory.segments().map(|io| io.size() as u64);
    let mut originals = memory.bus_addresses().zip(sizes);

    for entry in mapped.iter() {
        let (bus_address, mut covered) = originals.next().unwrap_or((0, 0));

        // An IOMMU may make one piece of several entries.
        while covered < entry.dma_len() {
            match originals.next() {
                Some((_, size)) => covered += size,
                None => break,
            }
        }
        entries.push(
            abi::p2pdma_test_dma {
                dma_address: entry.dma_address(),
                dma_length: entry.dma_len(),
                bus_address,
                is_bus_address: entry.is_bus_address().into(),
                reserved: 0,
            },
            GFP_KERNEL,
        )?;
    }

    let with_bus_address = entries
        .iter()
        .filter(|entry| entry.is_bus_address != 0)
        .count();
    args.type_ = if with_bus_address == 0 {
        abi::P2PDMA_TEST_MAP_HOST_BRIDGE
    } else if with_bus_address == entries.len() {
        abi::P2PDMA_TEST_MAP_BUS_ADDR
    } else {
        abi::P2PDMA_TEST_MAP_MIXED
    };
    // CAST: 64 bits.
    args.mapped = entries.len() as u64;
    Ok(entries)
}

/// Maps memory.
pub(crate) fn map(
    session: &Session,
    args: &mut abi::p2pdma_test_map,
    reply: Reply,
) -> Result<Sent> {
    let dir = match args.direction {
        abi::P2PDMA_TEST_BIDIRECTIONAL => DataDirection::Bidirectional,
        abi::P2PDMA_TEST_TO_DEVICE => DataDirection::ToDevice,
        abi::P2PDMA_TEST_FROM_DEVICE => DataDirection::FromDevice,
        _ => return Err(refuse!(EINVAL, "no direction {}", args.direction)),
    };
    let dev = find_function(args.client)?;

    // First: nothing of a provider may be held while waiting for a device's lock.
    with_bound(&dev, |bound| {
        map_for(session, args, reply, bound.client()?, dir)
    })
}

/// The same, for a client that is kept bound.
fn map_for(
    session: &Session,
    args: &mut abi::p2pdma_test_map,
    reply: Reply,
    client: Client<'_>,
    dir: DataDirection,
) -> Result<Sent> {
    let mut taken = session.take(args.id)?;

    args.type_ = abi::P2PDMA_TEST_MAP_NONE;
    args.mapped = 0;

    let mapped = match taken.give_memory()?.try_map(client, dir) {
        Ok(mapped) => mapped,
        Err(not_mapped) => {
            args.ret = not_mapped.error.to_errno().into();
            args.nr_entries = 0;
            taken.take_back(Object::Memory(not_mapped.table));
            return reply.send(args);
        }
    };

    args.ret = 0;
    let told = describe(args, mapped.table(), &mapped)
        .and_then(|entries| {
            abi::write_array(args.entries, &mut args.nr_entries, entries.into_iter())
        })
        .and_then(|()| reply.send(args));

    // The caller knows of this mapping, and it is this one that stays.
    if told.is_ok() && args.flags & abi::P2PDMA_TEST_MAP_HOLD != 0 {
        match mapped.into_devres() {
            Ok(managed) => taken.take_back(Object::Mapped(managed)),
            Err(not_managed) => {
                if let Some(mapped) = not_managed.mapped {
                    taken.take_back(Object::Memory(mapped.unmap()));
                }
                return Err(not_managed.error);
            }
        }
    } else {
        taken.take_back(Object::Memory(mapped.unmap()));
    }
    told
}

impl Args for abi::p2pdma_test_pool {
    const FIRST: usize = 32;
    const FLAGS: u32 = abi::P2PDMA_TEST_POOL_LARGEST | abi::P2PDMA_TEST_POOL_COUNT;

    fn flags(&self) -> u32 {
        self.flags
    }
}

/// Size of the largest piece that can be allocated.
pub(crate) fn largest(pool: Pool<'_>) -> Result<u64> {
    // CAST: 64 bits.
    let (mut fits, mut too_large) = (0, pool.measure_free()? as usize / PAGE_SIZE + 1);

    while too_large - fits > 1 {
        system::resched_or_signal()?;

        let pages = fits + (too_large - fits) / 2;

        match pool.alloc(pages * PAGE_SIZE) {
            Ok(_) => fits = pages,
            Err(_) => too_large = pages,
        }
    }
    Ok((fits * PAGE_SIZE) as u64)
}

/// Number of pages that can be allocated one by one.
pub(crate) fn count(pool: Pool<'_>) -> Result<u64> {
    // CAST: 64 bits.
    let mut pages = KVVec::with_capacity(pool.measure_free()? as usize / PAGE_SIZE, GFP_KERNEL)?;

    while let Ok(page) = pool.alloc(PAGE_SIZE) {
        system::resched_or_signal()?;
        pages.push(page, GFP_KERNEL)?;
    }
    // CAST: 64 bits.
    Ok(pages.len() as u64)
}

/// Tells about a pool.
pub(crate) fn pool(args: &mut abi::p2pdma_test_pool) -> Result {
    with_pool(args.provider, |pool| {
        args.largest = if args.flags & abi::P2PDMA_TEST_POOL_LARGEST != 0 {
            largest(pool)?
        } else {
            0
        };
        args.pages = if args.flags & abi::P2PDMA_TEST_POOL_COUNT != 0 {
            count(pool)?
        } else {
            0
        };
        Ok(())
    })
}
