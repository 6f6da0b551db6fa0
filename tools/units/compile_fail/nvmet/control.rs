// SPDX-License-Identifier: GPL-2.0

//! The counterpart to all others: correct use, which compiles.
//~ OK

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

pub fn correct<T: Transport>(queue: &Queue<T>, command: &Command) -> Result<bool> {
    let mut responses = Responses::new(queue)?;
    let mut request = Request::new(queue)?.init(command).map_err(|_| EIO)?;

    request.alloc_data(4096)?;
    request.data().copy_from_slice(0, &[0; 512])?;
    request.execute(&mut responses);

    let mut response = responses.wait().ok_or(EIO)?;
    response.data().copy_to_slice(0, &mut [0; 512])?;
    let request = response.recycle();
    Ok(request.init(command).is_ok())
}
