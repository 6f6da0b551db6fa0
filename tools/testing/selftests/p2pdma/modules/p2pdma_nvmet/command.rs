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
        Parsed,
        Request,
        Responses, //
    }, //
};
use p2pdma::{
    page::PageExt,
    provider::PageOwner, //
};

/// The bit of an opcode that says that its data, if it has any, are the host's.
const HOST_TO_CONTROLLER: u8 = 0x01;

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

/// Pages that are not where the core says: not the provider's, or peer-to-peer memory without one,
/// or not there at all.
pub(crate) fn wrong_pages(request: &mut Request<'_, TestTransport, Parsed>) -> u64 {
    let len = request.data_len();
    let mut data = request.data();
    let provider = data.provider();
    let (mut wrong, mut found) = (0, 0);

    for segment in data.segments() {
        found += segment.len();
        for page in segment.pages() {
            wrong += u64::from(match provider {
                Some(provider) => !page.is_of(provider),
                None => page.is_p2pdma(),
            });
        }
    }
    // CAST: `usize` has 64 bits.
    wrong + len.abs_diff(found).div_ceil(PAGE_SIZE) as u64
}

/// Sends one command, and waits for its completion.
pub(crate) fn send(ctrl: &Controller, args: &mut abi::p2pdma_nvmet_command) -> Result {
    if args.leak > abi::P2PDMA_NVMET_LEAK_COMPLETED || args.data_len > abi::P2PDMA_NVMET_MAX_DATA {
        return Err(EINVAL);
    }

    let command = Command::from_bytes(args.sqe);

    // CAST: 32 bits to 64, and an address of the caller, which has 64 bits.
    let len = args.data_len as usize;
    let user = UserSlice::new(UserPtr::from_addr(args.data as usize), len);
    let (mut reader, mut writer) = user.reader_writer();
    // User memory may take its time, and who removes what the command uses waits for it: so it is
    // accessed before and after.
    let mut buffer = KVVec::from_elem(0, len, GFP_KERNEL)?;
    if command.opcode() & HOST_TO_CONTROLLER != 0 {
        reader.read_slice(&mut buffer)?;
    }

    args.place = abi::P2PDMA_NVMET_NOWHERE as u16;
    args.provider = abi::NO_FUNCTION;
    args.wrong_pages = 0;

    let call = ctrl.enter(args.qid)?;
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
                args.wrong_pages = wrong_pages(&mut request);
                // What comes back must not be what was there before, which may be anybody's.
                request.data().copy_from_slice(0, &buffer)?;
            }
            if args.leak == abi::P2PDMA_NVMET_LEAK_PARSED {
                core::mem::forget(request);
                return Ok(());
            }
            request.execute(&mut responses);
            if args.leak == abi::P2PDMA_NVMET_LEAK_EXECUTED {
                core::mem::forget(responses);
                return Ok(());
            }
            responses.wait().ok_or(EIO)?
        }
        Err(response) => response,
    };

    let is_read = len > 0 && !is_write && response.status().is_success();
    if is_read {
        response.data().copy_to_slice(0, &mut buffer)?;
    }
    args.status = response.status().raw();
    args.result = response.result();
    args.sq_head = response.sq_head();
    if args.leak == abi::P2PDMA_NVMET_LEAK_COMPLETED {
        core::mem::forget(response);
        return Ok(());
    }
    drop((response, responses));
    drop(call);

    if is_read {
        writer.write_slice(&buffer)?;
    }
    Ok(())
}
