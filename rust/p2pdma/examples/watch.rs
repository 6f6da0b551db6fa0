// SPDX-License-Identifier: GPL-2.0
use kernel::{
    new_mutex, pci,
    prelude::*,
    sync::{aref::ARef, Mutex},
};
use p2pdma::{
    orchestrator::watch::{
        Events,
        Watch, //
    },
    pool::Memory, //
};

/// Memory that an orchestrator keeps at hand, until its provider goes.
#[pin_data]
pub struct Cache {
    #[pin]
    kept: Mutex<KVec<Memory<ARef<pci::Device>>>>,
}

impl Events for Cache {
    fn going(&self, dev: &pci::Device) {
        // Given back to the pool. A cache that is filled at any time would have to remember `dev`,
        // too, until it is gone.
        self.kept
            .lock()
            .retain(|memory| !core::ptr::eq(memory.device(), dev));
    }

    fn gone(&self, _dev: &pci::Device) {}
}

/// To be kept in what lasts as long as the orchestrator, such as its module's data.
pub fn watch() -> Result<Watch<Cache>> {
    Watch::new(pin_init!(Cache {
        kept <- new_mutex!(KVec::new()),
    }))
}
