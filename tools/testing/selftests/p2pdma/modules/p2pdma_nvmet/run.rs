// SPDX-License-Identifier: GPL-2.0

//! Many Reads or Writes, with data whose position shows.

use crate::{
    abi,
    command,
    controller::{
        Call,
        Controller, //
    },
    counters::{
        Counter,
        Where, //
    },
    TestTransport, //
};
use kernel::{
    current,
    prelude::*,
    time::{
        Instant,
        Monotonic, //
    }, //
};
use nvmet::{
    command::Command,
    data::Data,
    request::{
        Completed,
        Idle,
        Parsed,
        Request,
        Responses, //
    }, //
};
use zerocopy::FromZeros;

/// Most blocks of a command: its field for their number has 16 bits.
const MAX_BLOCKS: u32 = 1 << 16;

/// The finalizer of splitmix64: a bijection that changes every bit from word to word.
#[inline]
fn mix(z: u64) -> u64 {
    let z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);

    z ^ (z >> 31)
}

/// What to do, checked.
struct Job {
    write: bool,
    with_data: bool,
    nsid: u32,
    /// Blocks of each command.
    blocks: u64,
    block_size: u64,
    slba: u64,
    span: u64,
    count: u64,
    depth: usize,
    pattern: u64,
}

impl Job {
    fn new(args: &abi::p2pdma_nvmet_run, queue_size: u16) -> Result<Self> {
        // CAST: Small constants.
        let write = match u32::from(args.op) {
            abi::P2PDMA_NVMET_WRITE => true,
            abi::P2PDMA_NVMET_READ => false,
            _ => return Err(EINVAL),
        };
        let flags = u32::from(args.flags);
        let sane = flags & !abi::P2PDMA_NVMET_NO_DATA == 0
            && args.block_size.is_power_of_two()
            && args.block_size >= 512
            && (1..=MAX_BLOCKS).contains(&args.blocks)
            && args.span > 0
            && args.span % u64::from(args.blocks) == 0
            && args.count > 0
            && (1..u32::from(queue_size)).contains(&args.depth);
        // The last byte, as the pattern has it.
        let end = args
            .slba
            .checked_add(args.span)
            .and_then(|end| end.checked_mul(args.block_size.into()));
        let len = u64::from(args.blocks) * u64::from(args.block_size);

        if !sane || len > abi::P2PDMA_NVMET_MAX_DATA.into() {
            return Err(EINVAL);
        }
        if end.is_none_or(|end| args.pattern & (u64::MAX >> end.leading_zeros()) != 0) {
            return Err(EINVAL);
        }

        Ok(Self {
            write,
            with_data: flags & abi::P2PDMA_NVMET_NO_DATA == 0,
            nsid: args.nsid,
            blocks: args.blocks.into(),
            block_size: args.block_size.into(),
            slba: args.slba,
            span: args.span,
            count: args.count,
            // CAST: Below `queue_size`.
            depth: args.depth as usize,
            pattern: args.pattern,
        })
    }

    /// First block of the command with that number.
    fn slba(&self, nth: u64) -> u64 {
        self.slba + nth * self.blocks % self.span
    }

    fn command(&self, nth: u64) -> Command {
        // CAST: At most `MAX_BLOCKS`.
        let blocks = (self.blocks - 1) as u16;

        if self.write {
            Command::write(self.nsid, self.slba(nth), blocks)
        } else {
            Command::read(self.nsid, self.slba(nth), blocks)
        }
    }

    /// The word at byte `at` of the medium.
    #[inline]
    fn word(&self, at: u64) -> u64 {
        mix(self.pattern | at)
    }

    /// Does what the fabric's DMA would do before the command is executed: brings the data for a
    /// Write. For a Read, makes sure that what is found afterwards was not there before.
    fn fill(&self, data: &mut Data<'_>, slba: u64) -> Result {
        let invert = if self.write { 0 } else { u64::MAX };
        let start = slba * self.block_size;
        let mut at = start;

        for mut segment in data.segments() {
            for offset in (0..segment.len()).step_by(8) {
                segment.write64(offset, self.word(at) ^ invert)?;
                at += 8;
            }
        }
        self.expect_all(at - start)
    }

    /// That many bytes were seen: they have to be all.
    fn expect_all(&self, bytes: u64) -> Result {
        if bytes == self.blocks * self.block_size {
            Ok(())
        } else {
            Err(EIO)
        }
    }

    /// Does what the fabric's DMA would do after a Read: looks at the data.
    fn compare(&self, data: &mut Data<'_>, slba: u64, args: &mut abi::p2pdma_nvmet_run) -> Result {
        let start = slba * self.block_size;
        let mut at = start;

        for segment in data.segments() {
            for offset in (0..segment.len()).step_by(8) {
                let found = segment.read64(offset)?;

                if found != self.word(at) {
                    if args.bad_words == 0 {
                        args.bad_at = at;
                        args.bad_found = found;
                    }
                    args.bad_words += 1;
                }
                at += 8;
            }
        }
        self.expect_all(at - start)
    }
}

/// What came of the attempt to send a command.
enum Sent<'q> {
    /// It is being executed.
    Executing,
    /// It was completed at once, with an error.
    Refused(Request<'q, TestTransport, Completed>),
    /// There is no memory for its data. It was not sent.
    NoMemory,
}

/// Counts where the data of a request are, and looks whether that is so.
fn account(
    request: &mut Request<'_, TestTransport, Parsed>,
    counter: &Counter<'_>,
    args: &mut abi::p2pdma_nvmet_run,
) {
    let place = command::place(request);
    let len = request.data_len();
    // CAST: `usize` has 64 bits.
    let bytes = len as u64;

    counter.data(place, len);
    match place {
        Where::P2p => {
            args.p2p_commands += 1;
            args.p2p_bytes += bytes;
        }
        Where::Fallback => {
            args.fallback_commands += 1;
            args.fallback_bytes += bytes;
        }
        Where::Ram => {
            args.ram_commands += 1;
            args.ram_bytes += bytes;
        }
    }

    if let Some(provider) = request.provider() {
        let address = abi::function(provider);

        if args.provider != address {
            args.provider = address;
            args.providers += 1;
        }
    }
    args.wrong_pages += command::wrong_pages(request);
}

/// Sends the command with that number.
fn send<'q>(
    job: &Job,
    nth: u64,
    request: Request<'q, TestTransport, Idle>,
    responses: &mut Responses<'q, TestTransport>,
    counter: &Counter<'_>,
    args: &mut abi::p2pdma_nvmet_run,
) -> Result<Sent<'q>> {
    let mut request = match request.init(&job.command(nth)) {
        Ok(request) => request,
        Err(response) => return Ok(Sent::Refused(response)),
    };

    match request.alloc_data(request.transfer_len()) {
        Ok(()) => (),
        Err(e) if e == ENOMEM => {
            counter.no_memory();
            args.no_memory += 1;
            return Ok(Sent::NoMemory);
        }
        Err(e) => return Err(e),
    }
    account(&mut request, counter, args);
    if job.with_data {
        job.fill(&mut request.data(), job.slba(nth))?;
    }
    request.execute(responses);
    Ok(Sent::Executing)
}

/// Sends many Reads or Writes, and waits for their completion.
pub(crate) fn run(ctrl: &Controller, args: &mut abi::p2pdma_nvmet_run) -> Result {
    let call = ctrl.enter(args.qid)?;
    let job = Job::new(args, call.queue().size())?;

    clear_results(args);
    run_job(&call, &job, args)
}

fn clear_results(args: &mut abi::p2pdma_nvmet_run) {
    *args = abi::p2pdma_nvmet_run {
        op: args.op,
        flags: args.flags,
        qid: args.qid,
        nsid: args.nsid,
        block_size: args.block_size,
        blocks: args.blocks,
        depth: args.depth,
        slba: args.slba,
        span: args.span,
        count: args.count,
        pattern: args.pattern,
        provider: abi::NO_FUNCTION,
        ..abi::p2pdma_nvmet_run::new_zeroed()
    };
}

fn run_job(call: &Call<'_>, job: &Job, args: &mut abi::p2pdma_nvmet_run) -> Result {
    let queue = call.queue();
    let counter = call.counters().row(queue.id(), job.nsid)?;
    let mut responses = Responses::new(queue)?;
    let mut idle = KVec::with_capacity(job.depth, GFP_KERNEL)?;
    let mut sent = 0;
    let start = Instant::<Monotonic>::now();

    for _ in 0..job.depth {
        idle.push(Request::new(queue)?, GFP_KERNEL)?;
    }

    loop {
        while sent < job.count && args.errors == 0 {
            if call.must_end() {
                args.gone = 1;
                break;
            }
            if current!().signal_pending() {
                break;
            }
            let Some(request) = idle.pop() else {
                break;
            };
            match send(job, sent, request, &mut responses, &counter, args)? {
                Sent::Executing => sent += 1,
                Sent::Refused(response) => {
                    sent += 1;
                    idle.push(finish(job, response, args)?, GFP_KERNEL)?;
                }
                Sent::NoMemory if responses.in_flight() == 0 => return Err(ENOMEM),
                Sent::NoMemory => {
                    idle.push(Request::new(queue)?, GFP_KERNEL)?;
                    break;
                }
            }
        }
        let Some(response) = responses.wait() else {
            break;
        };
        idle.push(finish(job, response, args)?, GFP_KERNEL)?;
    }

    // CAST: Time does not run backwards.
    args.ns = start.elapsed().as_nanos() as u64;
    Ok(())
}

/// Looks at a completed command.
fn finish<'q>(
    job: &Job,
    mut response: Request<'q, TestTransport, Completed>,
    args: &mut abi::p2pdma_nvmet_run,
) -> Result<Request<'q, TestTransport, Idle>> {
    let status = response.status();
    let slba = response.command().slba();

    if !status.is_success() {
        if args.errors == 0 {
            args.error_status = status.raw();
            args.error_slba = slba;
        }
        args.errors += 1;
    } else {
        args.commands += 1;
        if !job.write && job.with_data {
            job.compare(&mut response.data(), slba, args)?;
        }
    }
    Ok(response.recycle())
}
