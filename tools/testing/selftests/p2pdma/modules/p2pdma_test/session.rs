// SPDX-License-Identifier: GPL-2.0

//! What an open file holds, and how it goes.
//!
//! Objects are in a table under an id. They are dropped when told, when the file is closed (also by
//! the death of the process), and when the driver of a provider that they hold memory of is being
//! unbound: it would wait for them.
//!
//! A command that works on an object takes it out of the table and puts it back, so that no lock is
//! held meanwhile. What comes back too late, its provider being on its way, is dropped instead.

use crate::{
    abi::{
        self,
        Args,
        Reply,
        Sent, //
    },
    going,
    page,
    refuse, //
};
use kernel::{
    device::Device,
    devres::Devres,
    new_mutex,
    page::BorrowedPage,
    pci,
    prelude::*,
    sync::{
        aref::ARef,
        Mutex, //
    }, //
};
use p2pdma::{
    client::sg::{
        ManagedSgl,
        Sgl, //
    },
    compat::code::{
        EMEDIUMTYPE,
        ENODATA, //
    },
    orchestrator::watch::{
        Events,
        Watch, //
    },
    provider::PageOwner,
    user::{
        extract::Extracted,
        pages::{
            Get,
            PageArray,
            Pin,
            UserPages, //
        }, //
    }, //
};

/// An open file of the device.
#[pin_data]
pub(crate) struct Session {
    device: ARef<Device>,
    watch: Watch<Objects>,
}

impl Session {
    /// `device` is the device that is open.
    pub(crate) fn new(device: ARef<Device>) -> impl PinInit<Self, Error> {
        try_pin_init!(Self {
            device,
            watch: Watch::new(pin_init!(Objects {
                table <- new_mutex!(Table::default()),
            }))?,
        })
    }

    /// The device that is open.
    pub(crate) fn device(&self) -> &Device {
        &self.device
    }

    fn table(&self) -> &Mutex<Table> {
        &self.watch.events().table
    }

    /// Has `object` under an id, until it is [kept](New::keep) or what is returned is dropped.
    pub(crate) fn insert(&self, object: Object) -> Result<New<'_>> {
        let id = self.table().lock().insert(object)?;

        Ok(New { session: self, id })
    }

    /// Takes the object out, until what is returned is dropped.
    pub(crate) fn take(&self, id: u32) -> Result<Taken<'_>> {
        let object = self.table().lock().take(id)?;

        Ok(Taken {
            session: self,
            id,
            object: Some(object),
        })
    }
}

/// Something that is kept.
pub(crate) enum Object {
    /// Pages of user memory, pinned.
    Pinned(UserPages<PageArray, Pin>),
    /// The same, referenced.
    Referenced(UserPages<PageArray, Get>),
    /// The same, pinned, in several pieces.
    Extracted(KVVec<Extracted<PageArray>>),
    /// Memory of a provider.
    Memory(Memory),
    /// The same, mapped for a client until that is unbound.
    Mapped(Devres<ManagedSgl>),
}

/// Memory of a provider, allocated.
pub(crate) type Memory = Sgl<ARef<pci::Device>>;

impl Object {
    /// Calls `f` for each page of the object, in order, until it returns an error.
    pub(crate) fn each_page(&self, mut f: impl FnMut(BorrowedPage<'_>) -> Result) -> Result {
        match self {
            Self::Pinned(pages) => pages.iter().try_for_each(f),
            Self::Referenced(pages) => pages.iter().try_for_each(f),
            Self::Extracted(pieces) => pieces
                .iter()
                .try_for_each(|piece| piece.pages.iter().try_for_each(&mut f)),
            Self::Memory(memory) => memory.pages().try_for_each(f),
            // No facts while nobody is to sleep.
            Self::Mapped(_) => Err(self.is_no_memory()),
        }
    }

    /// Whether it holds memory of `dev`.
    fn holds(&self, dev: &pci::Device) -> bool {
        match self {
            Self::Memory(memory) => core::ptr::eq(memory.device(), dev),
            Self::Mapped(mapped) => mapped
                .try_access()
                .is_some_and(|mapped| core::ptr::eq(mapped.table().device(), dev)),
            // The error ends the search.
            _ => self
                .each_page(|page| if page.is_of(dev) { Err(EEXIST) } else { Ok(()) })
                .is_err(),
        }
    }

    /// Why it is no memory that could be worked on.
    fn is_no_memory(&self) -> Error {
        match self {
            Self::Mapped(mapped) if mapped.try_access().is_none() => {
                refuse!(ENODATA, "the client that the memory was mapped for is gone")
            }
            _ => refuse!(EMEDIUMTYPE, "the object is no memory, or is mapped"),
        }
    }
}

/// An object whose id the caller does not know yet. It goes with this, unless it is to be kept.
pub(crate) struct New<'a> {
    session: &'a Session,
    id: u32,
}

impl New<'_> {
    /// The id that it will have.
    pub(crate) fn id(&self) -> u32 {
        self.id
    }

    /// Keeps the object: the caller knows its id.
    pub(crate) fn keep(self) {
        core::mem::forget(self);
    }
}

impl Drop for New<'_> {
    fn drop(&mut self) {
        // Its provider may have taken it meanwhile, or who guessed the id. An object is dropped
        // without the lock of the table.
        let object = self.session.take(self.id);

        if let Ok(mut taken) = object {
            taken.discard();
        }
    }
}

/// An object that a command works on.
pub(crate) struct Taken<'a> {
    session: &'a Session,
    id: u32,
    /// `None` once it was given away.
    object: Option<Object>,
}

impl Taken<'_> {
    /// The object, which there is as long as it was not given away.
    pub(crate) fn object(&self) -> Result<&Object> {
        self.object.as_ref().ok_or(ENOENT)
    }

    /// The object as memory.
    pub(crate) fn memory(&self) -> Result<&Memory> {
        match self.object()? {
            Object::Memory(memory) => Ok(memory),
            other => Err(other.is_no_memory()),
        }
    }

    /// Gives the memory away. If nothing is [taken back](Self::take_back), the object is gone.
    pub(crate) fn give_memory(&mut self) -> Result<Memory> {
        self.memory()?;
        match self.object.take() {
            Some(Object::Memory(memory)) => Ok(memory),
            _ => Err(ENOENT),
        }
    }

    /// Drops the object.
    pub(crate) fn discard(&mut self) {
        self.object = None;
    }

    /// Has an object again, under the same id.
    pub(crate) fn take_back(&mut self, object: Object) {
        self.object = Some(object);
    }
}

impl Drop for Taken<'_> {
    fn drop(&mut self) {
        self.session
            .table()
            .lock()
            .put_back(self.id, self.object.take());
    }
}

// CAST: 32 bits to 64.
/// Most objects of a file.
const MAX_OBJECTS: usize = abi::P2PDMA_TEST_MAX_OBJECTS as usize;
/// An id is the number of its slot plus one, and above that, the generation of the slot.
const SLOT_BITS: u32 = 18;

#[derive(Default)]
enum State {
    #[default]
    Free,
    Taken,
    Held(Object),
}

#[derive(Default)]
struct Slot {
    generation: u32,
    state: State,
}

#[derive(Default)]
struct Table {
    slots: KVVec<Slot>,
    free: KVVec<u32>,
}

impl Table {
    /// Why `object` cannot be kept.
    fn check(object: &Object) -> Result {
        if going::any(|dev| object.holds(dev)) {
            return Err(refuse!(
                ENODEV,
                "the provider is being unbound from its driver"
            ));
        }
        Ok(())
    }

    fn insert(&mut self, object: Object) -> Result<u32> {
        Self::check(&object)?;

        let index = match self.free.pop() {
            Some(index) => index,
            None => {
                let index = self.slots.len();

                if index == MAX_OBJECTS {
                    return Err(refuse!(ENOSPC, "{MAX_OBJECTS} objects are held already"));
                }
                // So that freeing needs no memory.
                self.free.reserve(index + 1, GFP_KERNEL)?;
                self.slots.push(Slot::default(), GFP_KERNEL)?;
                // CAST: At most `MAX_OBJECTS`.
                index as u32
            }
        };
        let slot = &mut self.slots[index as usize];

        slot.state = State::Held(object);
        Ok(slot.generation << SLOT_BITS | (index + 1))
    }

    fn slot(&mut self, id: u32) -> Result<&mut Slot> {
        let index = (id & ((1 << SLOT_BITS) - 1)).wrapping_sub(1);

        // CAST: 32 bits to 64.
        self.slots
            .get_mut(index as usize)
            .filter(|slot| slot.generation == id >> SLOT_BITS)
            .ok_or(ENOENT)
    }

    fn take(&mut self, id: u32) -> Result<Object> {
        let slot = self.slot(id)?;

        match core::mem::replace(&mut slot.state, State::Taken) {
            State::Held(object) => Ok(object),
            State::Taken => Err(EBUSY),
            State::Free => {
                slot.state = State::Free;
                Err(ENOENT)
            }
        }
    }

    fn put_back(&mut self, id: u32, object: Option<Object>) {
        let object = object.filter(|object| Self::check(object).is_ok());

        if let Ok(slot) = self.slot(id) {
            match object {
                Some(object) => slot.state = State::Held(object),
                None => self.free(id),
            }
        }
    }

    /// Frees the slot of an object that is gone.
    fn free(&mut self, id: u32) {
        if let Ok(slot) = self.slot(id) {
            slot.state = State::Free;
            // Wraps, so that it fits above the number of the slot.
            slot.generation = (slot.generation + 1) & (u32::MAX >> SLOT_BITS);
            // There is room for all.
            let _ = self
                .free
                .push((id & ((1 << SLOT_BITS) - 1)) - 1, GFP_ATOMIC);
        }
    }

    /// Drops all that holds memory of `dev`.
    fn drop_all_of(&mut self, dev: &pci::Device) {
        for index in 0..self.slots.len() {
            let slot = &self.slots[index];

            if matches!(&slot.state, State::Held(object) if object.holds(dev)) {
                // CAST: At most `MAX_OBJECTS`.
                self.free(slot.generation << SLOT_BITS | (index as u32 + 1));
            }
        }
    }
}

#[pin_data]
struct Objects {
    #[pin]
    table: Mutex<Table>,
}

impl Events for Objects {
    fn going(&self, dev: &pci::Device) {
        self.table.lock().drop_all_of(dev);
    }

    fn gone(&self, _dev: &pci::Device) {}
}

impl Args for abi::p2pdma_test_peek {
    const FIRST: usize = 32;
    const FLAGS: u32 = 0;

    fn flags(&self) -> u32 {
        self.flags
    }
}

/// Facts about the pages of an object.
pub(crate) fn peek(session: &Session, args: &mut abi::p2pdma_test_peek) -> Result {
    let taken = session.take(args.id)?;
    let object = taken.object()?;
    let mut facts = page::Facts::default();
    let mut pages = KVVec::new();
    let room = args.nr_pages as usize;

    args.total = 0;
    object.each_page(|page| {
        args.total += 1;
        if pages.len() < room {
            pages.push(facts.of(&page), GFP_KERNEL)?;
        }
        Ok(())
    })?;
    abi::write_array(args.pages, &mut args.nr_pages, pages.into_iter())
}

impl Args for abi::p2pdma_test_release {
    const FIRST: usize = 16;
    const FLAGS: u32 = 0;

    fn flags(&self) -> u32 {
        self.flags
    }

    fn reserved_is_zero(&self) -> bool {
        self.reserved == 0
    }
}

/// Drops an object.
pub(crate) fn release(
    session: &Session,
    args: &mut abi::p2pdma_test_release,
    reply: Reply,
) -> Result<Sent> {
    let mut taken = session.take(args.id)?;
    let sent = reply.send(args)?;

    taken.discard();
    Ok(sent)
}
