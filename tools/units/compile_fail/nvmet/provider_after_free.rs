// SPDX-License-Identifier: GPL-2.0

//! The provider is known to stay only while the request has memory of it.
//~ E0505

use kernel::pci;
use nvmet::{
    request::{
        Completed,
        Request, //
    },
    transport::Transport, //
};

pub fn misuse<T: Transport>(response: Request<'_, T, Completed>) -> Option<u16> {
    let provider: Option<&pci::Device> = response.provider();

    drop(response);
    provider.map(|provider| provider.device_id())
}
