// SPDX-License-Identifier: GPL-2.0

//! The memory of one segment cannot be put into another, which has another length.
//~ E0599

use kernel::prelude::*;
use nvmet::{
    request::{
        Parsed,
        Request, //
    },
    transport::Transport, //
};

pub fn misuse<T: Transport>(
    one: &mut Request<'_, T, Parsed>,
    other: &mut Request<'_, T, Parsed>,
) -> Result {
    let (mut one, mut other) = (one.data(), other.data());
    let mut first = one.segments().next().ok_or(EINVAL)?;
    let mut second = other.segments().next().ok_or(EINVAL)?;

    core::mem::swap(first.memory(), second.memory());
    Ok(())
}
