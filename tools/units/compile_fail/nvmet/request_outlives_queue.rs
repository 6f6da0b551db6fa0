// SPDX-License-Identifier: GPL-2.0

//! Requests, and the scatterlists that they own, are gone before the queue is.
//~ E0505

use kernel::{
    prelude::*,
    sync::Arc, //
};
use nvmet::{
    command::Command,
    queue::Queue,
    request::Request,
    transport::Transport, //
};

pub fn misuse<T: Transport>(queue: Arc<Queue<T>>, command: &Command) -> Result {
    let mut request = Request::new(&queue)?.init(command).map_err(|_| EIO)?;

    drop(queue);
    request.alloc_data(4096)
}
