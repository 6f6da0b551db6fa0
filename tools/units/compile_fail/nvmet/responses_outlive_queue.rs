// SPDX-License-Identifier: GPL-2.0

//! What waits for responses of a queue is gone before the queue is.
//~ E0505

use kernel::{
    prelude::*,
    sync::Arc, //
};
use nvmet::{
    queue::Queue,
    request::Responses,
    transport::Transport, //
};

pub fn misuse<T: Transport>(queue: Arc<Queue<T>>) -> Result<usize> {
    let responses = Responses::new(&queue)?;

    drop(queue);
    Ok(responses.in_flight())
}
