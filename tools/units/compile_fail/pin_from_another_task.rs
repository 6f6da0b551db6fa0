// SPDX-License-Identifier: GPL-2.0

//! The memory of the current process is not handed to another thread as if it were its own.
//~ E0277

use p2pdma::user::current::CurrentMm;

fn send<T: Send>(_: T) {}

pub fn misuse(mm: CurrentMm<'static>) {
    send(mm);
}
