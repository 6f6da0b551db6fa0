// SPDX-License-Identifier: GPL-2.0
use kernel::{new_mutex, prelude::*, sync::Arc, sync::Mutex};
use nvmet::{
    ctrl::Ctrl,
    registration::Registration,
    transport::{Port, Slot, Transport, Type},
};

/// A transport that knows its ports, and has no hosts yet.
#[pin_data]
pub struct Example {
    #[pin]
    ports: Mutex<KVec<Arc<Port<Example>>>>,
}

static SLOT: Slot<Example> = Slot::new();

impl Transport for Example {
    const TYPE: Type = Type::Loop;

    fn slot() -> &'static Slot<Self> {
        &SLOT
    }

    fn add_port(&self, port: &Arc<Port<Self>>) -> Result {
        Ok(self.ports.lock().push(port.clone(), GFP_KERNEL)?)
    }

    fn remove_port(&self, port: &Port<Self>) {
        self.ports.lock().retain(|other| other.id() != port.id());
    }

    fn delete_ctrl(&self, _ctrl: &Ctrl<'_>) {
        // Finds the controller by its ID, and puts an item on `transport::queue()` that drops its
        // queues; here there are none.
    }
}

pub fn register(module: &'static ThisModule) -> Result<Registration<Example>> {
    Registration::new(
        module,
        pin_init!(Example {
            ports <- new_mutex!(KVec::new()),
        }),
    )
}
