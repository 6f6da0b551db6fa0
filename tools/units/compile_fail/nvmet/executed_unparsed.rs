// SPDX-License-Identifier: GPL-2.0

//! A request that the core has not parsed cannot be executed.
//~ E0599

use kernel::prelude::*;
use nvmet::{
    queue::Queue,
    request::{
        Request,
        Responses, //
    },
    transport::Transport, //
};

pub fn misuse<T: Transport>(queue: &Queue<T>) -> Result {
    let mut responses = Responses::new(queue)?;
    let request = Request::new(queue)?;

    request.execute(&mut responses);
    Ok(())
}
