// SPDX-License-Identifier: GPL-2.0

//! One command.

use crate::{
    abi,
    controller::Controller,
    counters::Where,
    TestTransport, //
};
use kernel::{
    page::PAGE_SIZE,
    prelude::*,
    uaccess::UserSlice, //
};
use nvmet::{
    command::Command,
    request::{
        Data,
        Parsed,
        Request,
        Responses, //
    }, //
};

/// Asynchronous Event Request: completed when there is an event, and that may be never.
const ASYNC_EVENT_REQUEST: u8 = 0x0c;

/// Where the data of a request are, which has some.
pub(crate) fn place(request: &Request<'_, TestTransport, Parsed>) -> Where {
    if request.provider().is_some() {
        Where::P2p
    } else if request.has_provider() {
        Where::Fallback
    } else {
        Where::Ram
    }
}

/// Pages that are not where the core says: not the provider's, or peer-to-peer memory without one.
pub(crate) fn wrong_pages(data: &mut Data<'_>) -> u64 {
    let provider = data.provider();
    let mut wrong = 0;

    for segment in data.segments() {
        for page in segment.pages() {
            wrong += u64::from(match provider {
                Some(provider) => !page.is_of(provider),
                None => page.is_p2pdma(),
            });
        }
    }
    wrong
}

/// Sends one command, and waits for its completion.
pub(crate) fn send(ctrl: &Controller, args: &mut abi::p2pdma_nvmet_command) -> Result {
    if args.reserved != 0 || args.data_len > abi::P2PDMA_NVMET_MAX_DATA {
        return Err(EINVAL);
    }

    let call = ctrl.enter(args.qid)?;
    let command = Command::from_bytes(args.sqe);
    if args.qid == 0 && command.opcode() == ASYNC_EVENT_REQUEST {
        return Err(EINVAL);
    }

    // CAST: 32 bits to 64, and an address of the caller, which has 64 bits.
    let len = args.data_len as usize;
    let user = UserSlice::new(UserPtr::from_addr(args.data as usize), len);
    let (mut reader, mut writer) = user.reader_writer();
    let mut buffer = KVec::from_elem(0, PAGE_SIZE, GFP_KERNEL)?;

    args.place = abi::P2PDMA_NVMET_NOWHERE as u16;
    args.provider = abi::NO_FUNCTION;
    args.wrong_pages = 0;

    let mut responses = Responses::new(call.queue())?;
    let mut is_write = true;
    let mut response = match Request::new(call.queue())?.init(&command) {
        Ok(mut request) => {
            is_write = request.is_write();
            if len > 0 {
                let counter = call.counters().row(args.qid, command.nsid())?;

                request.alloc_data(len).inspect_err(|&e| {
                    if e == ENOMEM {
                        counter.no_memory();
                    }
                })?;
                let place = place(&request);

                counter.data(place, len);
                args.place = match place {
                    Where::Ram => abi::P2PDMA_NVMET_RAM,
                    Where::Fallback => abi::P2PDMA_NVMET_FALLBACK,
                    Where::P2p => abi::P2PDMA_NVMET_P2P,
                } as u16;
                args.provider = request.provider().map_or(abi::NO_FUNCTION, abi::function);
                args.wrong_pages = wrong_pages(&mut request.data());
            }
            for offset in (0..if is_write { len } else { 0 }).step_by(PAGE_SIZE) {
                let part = &mut buffer[..PAGE_SIZE.min(len - offset)];

                reader.read_slice(part)?;
                request.data().copy_from_slice(offset, part)?;
            }
            request.execute(&mut responses);
            responses.wait().ok_or(EIO)?
        }
        Err(response) => response,
    };

    if !is_write && response.status().is_success() {
        for offset in (0..len).step_by(PAGE_SIZE) {
            let part = &mut buffer[..PAGE_SIZE.min(len - offset)];

            response.data().copy_to_slice(offset, part)?;
            writer.write_slice(part)?;
        }
    }
    args.status = response.status().raw();
    args.result = response.result();
    args.sq_head = response.sq_head();
    Ok(())
}
