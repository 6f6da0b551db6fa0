// SPDX-License-Identifier: GPL-2.0

//! A piece of memory is looked at through one segment at a time.
//~ E0499

use kernel::prelude::*;
use nvmet::{
    request::{
        Parsed,
        Request, //
    },
    transport::Transport, //
};

pub fn misuse<T: Transport>(request: &mut Request<'_, T, Parsed>) -> Result {
    let mut data = request.data();
    let first = data.segments().next().ok_or(EINVAL)?;
    let mut second = data.segments().next().ok_or(EINVAL)?;

    second.write64(0, first.read64(0)?)
}
