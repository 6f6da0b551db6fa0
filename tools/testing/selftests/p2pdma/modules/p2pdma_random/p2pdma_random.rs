// SPDX-License-Identifier: GPL-2.0

//! Runs programs over the library's whole API, which somebody draws at random.
//!
//! `/dev/p2pdma_random` takes the commands in `program`. There is no unsafe code here, so nothing
//! that a program does may crash, warn or hang the kernel, or leave memory behind, in any order and
//! in any number of threads. `p2pdma-random` in `tools/fuzz` draws the programs and looks what
//! comes of them.
//!
//! - `program`: a program as bytes;
//! - `held`: what programs hold, and what of it goes with a provider;
//! - `machine` and `scope`: the steps;
//! - `driver`: what only a driver can do.

#![forbid(unsafe_code)]

mod driver;
mod held;
mod machine;
mod program;
mod scope;

use held::Held;
use kernel::{
    driver::Registration,
    fs::File,
    ioctl,
    miscdevice::{
        MiscDevice,
        MiscDeviceOptions,
        MiscDeviceRegistration, //
    },
    page::PAGE_SIZE,
    pci,
    prelude::*,
    sync::atomic::Relaxed,
    uaccess::UserSlice, //
};
use machine::Machine;
use p2pdma::{
    block::Disk,
    orchestrator::watch::Watch,
    user::current::CurrentMm, //
};
use program::Step;

#[pin_data]
struct RandomModule {
    #[pin]
    device: MiscDeviceRegistration<Session>,
    #[pin]
    driver: Registration<pci::Adapter<driver::RandomDriver>>,
}

impl kernel::InPlaceModule for RandomModule {
    fn init(module: &'static ThisModule) -> impl PinInit<Self, Error> {
        try_pin_init!(Self {
            device <- MiscDeviceRegistration::register(MiscDeviceOptions {
                name: c"p2pdma_random",
            }),
            driver <- Registration::new(c"p2pdma_random", module),
        })
    }
}

/// An open file: what its programs have in common.
struct Session {
    shared: Watch<Held>,
}

/// The steps at `addr`.
fn read_steps(addr: u64, number: u64) -> Result<KVVec<Step>> {
    if number > program::MAX_STEPS {
        return Err(E2BIG);
    }

    // CAST: 64 bits.
    let number = number as usize;
    let mut reader =
        UserSlice::new(UserPtr::from_addr(addr as usize), number * program::STEP).reader();
    let mut steps = KVVec::with_capacity(number, GFP_KERNEL)?;

    for _ in 0..number {
        let mut bytes = [0; program::STEP];

        reader.read_slice(&mut bytes)?;
        steps.push(Step::from_bytes(bytes), GFP_KERNEL)?;
    }
    Ok(steps)
}

impl Session {
    /// Runs a program.
    fn run(&self, arg: UserPtr) -> Result {
        let mut reader = UserSlice::new(arg, program::ARGUMENTS * size_of::<u64>()).reader();
        let mut args = [0u64; program::ARGUMENTS];

        for number in &mut args {
            *number = reader.read()?;
        }

        // CAST: 64 bits.
        let memory = (
            args[program::MEMORY] as usize,
            args[program::LENGTH] as usize,
        );

        if memory.1 < PAGE_SIZE
            || memory.0 % PAGE_SIZE != 0
            || memory.0.checked_add(memory.1).is_none()
            || args[program::POSITION] % 4096 != 0
        {
            return Err(EINVAL);
        }

        let steps = read_steps(args[program::STEPS], args[program::NUMBER])?;
        let disk = match args[program::DISK] {
            0 => None,
            fd => Some(Disk::from_fd(u32::try_from(fd - 1)?)?),
        };
        let held = Watch::new(Held::new())?;
        let task = kernel::current!();
        let mut machine = Machine {
            steps: &steps,
            at: 0,
            held: held.events(),
            shared: self.shared.events(),
            current: CurrentMm::new(task)?,
            memory,
            disk: disk.as_ref(),
            position: args[program::POSITION],
            leaks: args[program::LEAKS],
            tally: KBox::new(program::NO_TALLY, GFP_KERNEL)?,
        };

        machine.run();

        if args[program::TALLY] != 0 {
            // CAST: 64 bits.
            let addr = UserPtr::from_addr(args[program::TALLY] as usize);
            let mut writer = UserSlice::new(addr, size_of::<program::Tally>()).writer();

            for count in machine.tally.as_flattened() {
                writer.write(count)?;
            }
        }
        Ok(())
    }
}

#[vtable]
impl MiscDevice for Session {
    type Ptr = KBox<Self>;

    fn open(_file: &File, _misc: &MiscDeviceRegistration<Self>) -> Result<Self::Ptr> {
        if !p2pdma::system::may_administrate() {
            return Err(EPERM);
        }

        Ok(KBox::new(
            Self {
                shared: Watch::new(Held::new())?,
            },
            GFP_KERNEL,
        )?)
    }

    fn ioctl(session: &Self, _file: &File, cmd: u32, arg: usize) -> Result<isize> {
        if cmd == ioctl::_IO(program::TYPE, program::RUN) {
            session.run(UserPtr::from_addr(arg))?;
        } else if cmd == ioctl::_IO(program::TYPE, program::SEED) {
            // CAST: 64 bits.
            driver::SEED.store(arg as u64, Relaxed);
        } else {
            return Err(ENOTTY);
        }
        Ok(0)
    }
}

module! {
    type: RandomModule,
    name: "p2pdma_random",
    authors: ["The p2pdma for Rust-for-Linux authors"],
    description: "Test of the library for PCI peer-to-peer DMA with random programs",
    license: "GPL",
}
