// SPDX-License-Identifier: GPL-2.0
use kernel::prelude::*;
use nvmet::{
    command::{Command, Status},
    queue::Queue,
    request::{Request, Responses},
    transport::Transport,
};

/// Writes one block of 4 KiB, and says which provider holds its data on the way, if one does.
pub fn write<T: Transport>(
    queue: &Queue<T>,
    nsid: u32,
    slba: u64,
    data: &[u8; 4096],
) -> Result<Status> {
    let mut responses = Responses::new(queue)?;

    let mut request = match Request::new(queue)?.init(&Command::write(nsid, slba, 0)) {
        Ok(request) => request,
        Err(refused) => return Ok(refused.status()),
    };
    request.alloc_data(data.len())?;
    if let Some(provider) = request.provider() {
        dev_info!(provider, "holds the data\n");
    }

    // What the fabric's DMA would do.
    request.data().copy_from_slice(0, data)?;
    request.execute(&mut responses);

    // The memory goes back to where it came from with the response.
    responses
        .wait()
        .map(|response| response.status())
        .ok_or(EIO)
}
