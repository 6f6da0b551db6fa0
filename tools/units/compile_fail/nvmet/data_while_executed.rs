// SPDX-License-Identifier: GPL-2.0

//! Nobody looks at the data while a device may use them.
//~ E0505

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
    let mut request = Request::new(queue)?.init(command).map_err(|_| EIO)?;

    request.alloc_data(4096)?;
    let mut data = request.data();
    request.execute(&mut responses);
    data.copy_from_slice(0, &[0; 512])
}
