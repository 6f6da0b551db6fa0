// SPDX-License-Identifier: GPL-2.0

//! What programs hold, and how it goes when a provider does.

use kernel::{
    devres::Devres,
    new_mutex,
    page::Page,
    pci,
    prelude::*,
    sync::{
        aref::ARef,
        atomic::{
            Atomic,
            Relaxed, //
        },
        Arc,
        Mutex, //
    }, //
};
use p2pdma::{
    client::sg::{
        ManagedSgl,
        Sgl, //
    },
    orchestrator::watch::{
        Events,
        Watch, //
    },
    pool::Memory,
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

/// Watches that may be leaked, as long as the module is loaded: each is told until then.
const MAX_WATCHES: u64 = 8;

/// Watches that were leaked.
static WATCHES: Atomic<u64> = Atomic::new(0);

/// Mappings that were leaked.
static MAPPINGS: Atomic<u64> = Atomic::new(0);

/// Something that is held.
pub(crate) enum Object {
    Memory(Memory<ARef<pci::Device>>),
    Table(Sgl<ARef<pci::Device>>),
    /// A mapping; and whether it is the provider's own, which ends with it.
    Managed(Devres<ManagedSgl>, bool),
    Pinned(UserPages<PageArray, Pin>),
    Referenced(UserPages<PageArray, Get>),
    Extracted(Extracted<PageArray>),
    Watch(AnyWatch),
}

impl Object {
    /// The pages of user memory.
    pub(crate) fn each_user_page(&self, mut f: impl FnMut(&Page) -> bool) -> bool {
        match self {
            Self::Pinned(pages) => pages.iter().any(|page| f(&page)),
            Self::Referenced(pages) => pages.iter().any(|page| f(&page)),
            Self::Extracted(extracted) => extracted.pages.iter().any(|page| f(&page)),
            _ => false,
        }
    }

    /// Whether it holds memory of `dev`.
    fn holds(&self, dev: &pci::Device) -> bool {
        match self {
            Self::Memory(memory) => core::ptr::eq(memory.device(), dev),
            Self::Table(table) => core::ptr::eq(table.device(), dev),
            Self::Managed(mapped, _) => mapped
                .try_access()
                .is_some_and(|mapped| core::ptr::eq(mapped.table().device(), dev)),
            _ => self.each_user_page(|page| page.is_of(dev)),
        }
    }

    /// Leaks it, if that has an end: what is leaked of other kinds, or mapped for others, holds up
    /// the unbinding of its provider for ever. At most so many `mappings` are leaked.
    pub(crate) fn leak(self, mappings: u64) -> Result {
        let (leaked, most) = match &self {
            // One that drops itself would leave its place behind.
            Self::Watch(AnyWatch::Quiet(_) | AnyWatch::Spawns(_)) => (&WATCHES, MAX_WATCHES),
            Self::Managed(_, true) => (&MAPPINGS, mappings),
            _ => return Err(EPERM),
        };

        if leaked.load(Relaxed) >= most || leaked.fetch_add(1, Relaxed) >= most {
            return Err(EPERM);
        }
        core::mem::forget(self);
        Ok(())
    }
}

/// A watch of one of the kinds.
pub(crate) enum AnyWatch {
    Quiet(#[expect(dead_code, reason = "kept, to be dropped")] Watch<Quiet>),
    Quits(Arc<Place>),
    Spawns(#[expect(dead_code, reason = "kept, to be dropped")] Watch<Spawns>),
}

impl AnyWatch {
    pub(crate) fn new(kind: u8) -> Result<Self> {
        Ok(match kind % 3 {
            0 => Self::Quiet(quiet()?),
            1 => {
                let place = Arc::pin_init(
                    pin_init!(Place {
                        watch <- new_mutex!(None),
                    }),
                    GFP_KERNEL,
                )?;
                let watch = Watch::new::<Error>(Ok(Quits(place.clone())))?;

                *place.watch.lock() = Some(watch);
                Self::Quits(place)
            }
            _ => Self::Spawns(Watch::new::<Error>(Ok(Spawns))?),
        })
    }
}

impl Drop for AnyWatch {
    fn drop(&mut self) {
        if let Self::Quits(place) = self {
            // It holds its own place.
            let watch = place.watch.lock().take();

            drop(watch);
        }
    }
}

fn quiet() -> Result<Watch<Quiet>> {
    Watch::new::<Error>(Ok(Quiet))
}

/// Does nothing.
pub(crate) struct Quiet;

impl Events for Quiet {
    fn going(&self, _dev: &pci::Device) {}

    fn gone(&self, _dev: &pci::Device) {}
}

/// Where a watch is that drops itself.
#[pin_data]
pub(crate) struct Place {
    #[pin]
    watch: Mutex<Option<Watch<Quits>>>,
}

/// Drops the watch that calls it.
pub(crate) struct Quits(Arc<Place>);

impl Events for Quits {
    fn going(&self, _dev: &pci::Device) {
        let watch = self.0.watch.lock().take();

        drop(watch);
    }

    fn gone(&self, _dev: &pci::Device) {}
}

/// Makes others while it is told.
pub(crate) struct Spawns;

impl Events for Spawns {
    fn going(&self, _dev: &pci::Device) {
        drop(quiet());
    }

    fn gone(&self, _dev: &pci::Device) {
        drop(quiet());
    }
}

/// Places for objects, each for one.
const SLOTS: usize = 16;

/// Providers that go at the same time and are remembered.
const MAX_GOING: usize = 16;

/// What is in the slots, and of which providers nothing may be put there.
struct Table {
    slots: [Option<Object>; SLOTS],
    /// Those that go; with more of them than there is room for, nothing is kept.
    going: [Option<ARef<pci::Device>>; MAX_GOING],
    overrun: bool,
}

/// What a program holds, or what several have in common, a slot each. What is of a provider that
/// goes is dropped.
#[pin_data]
pub(crate) struct Held {
    #[pin]
    table: Mutex<Table>,
}

impl Held {
    pub(crate) fn new() -> impl PinInit<Self> {
        pin_init!(Self {
            table <- new_mutex!(Table {
                slots: [const { None }; SLOTS],
                going: [const { None }; MAX_GOING],
                overrun: false,
            }),
        })
    }

    /// Takes out what is in a slot, for a step that works on it.
    pub(crate) fn take(&self, slot: u8) -> Option<Object> {
        // CAST: 8 bits to 64.
        self.table.lock().slots[slot as usize % SLOTS].take()
    }

    /// Puts something into a slot; what was there is dropped. So is what is of a provider that
    /// goes: it would wait for it.
    pub(crate) fn put(&self, slot: u8, object: Object) {
        let dropped = {
            let mut table = self.table.lock();

            if table.overrun || table.going.iter().flatten().any(|dev| object.holds(dev)) {
                Some(object)
            } else {
                // CAST: 8 bits to 64.
                table.slots[slot as usize % SLOTS].replace(object)
            }
        };

        // Not within the lock.
        drop(dropped);
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.table.lock().slots.iter().all(Option::is_none)
    }
}

impl Events for Held {
    fn going(&self, dev: &pci::Device) {
        {
            let mut table = self.table.lock();

            match table.going.iter_mut().find(|going| going.is_none()) {
                Some(going) => *going = Some(dev.into()),
                None => table.overrun = true,
            }
        }
        for slot in 0..SLOTS {
            let object = {
                let mut table = self.table.lock();

                table.slots[slot].take_if(|object| object.holds(dev))
            };

            drop(object);
        }
    }

    fn gone(&self, dev: &pci::Device) {
        let mut table = self.table.lock();

        for going in &mut table.going {
            going.take_if(|going| core::ptr::eq(&**going, dev));
        }
    }
}
