// SPDX-License-Identifier: GPL-2.0

//! A request is executed once: then the core has it.
//~ E0382

use kernel::prelude::*;
use nvmet::{
    command::Command,
    queue::Queue,
    request::{
        Request,
        Responses, //
    },
    transport::Transport, //
};

pub fn misuse<T: Transport>(queue: &Queue<T>, command: &Command) -> Result {
    let mut responses = Responses::new(queue)?;
    let request = Request::new(queue)?.init(command).map_err(|_| EIO)?;

    request.execute(&mut responses);
    request.execute(&mut responses);
    Ok(())
}
