// SPDX-License-Identifier: GPL-2.0

//! The memory of the data goes when the request is used again.
//~ E0505

use kernel::prelude::*;
use nvmet::{
    request::{
        Completed,
        Request, //
    },
    transport::Transport, //
};

pub fn misuse<T: Transport>(mut response: Request<'_, T, Completed>) -> Result {
    let mut data = response.data();
    let _request = response.recycle();

    data.copy_to_slice(0, &mut [0; 512])
}
