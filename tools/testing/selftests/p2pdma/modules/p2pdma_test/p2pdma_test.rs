// SPDX-License-Identifier: GPL-2.0

//! What the kernel does with PCI peer-to-peer memory, on behalf of test programs.
//!
//! `/dev/p2pdma_test` takes the commands of `p2pdma_test_uapi.h`. A command calls one function of
//! the kernel and tells what came of it: the number that it returned, and facts about each page.
//! Nothing is judged here; what to expect is the business of the program that asks.
//!
//! - `abi`: structures of the ABI, in and out of user memory;
//! - `session`: what an open file holds, and how it goes;
//! - `going`: providers that nothing may be held of any more;
//! - `suites`: tests that need no program, in debugfs;
//! - `driver`: tests that need a device of their own;
//! - the commands: `pin` and `extract` for memory of user space, `memory` and `bio` for memory that
//!   is allocated here, `orchestrate` for who reaches whom.

#![forbid(unsafe_code)]

mod abi;
mod bio;
mod driver;
mod extract;
mod going;
mod memory;
mod orchestrate;
mod page;
mod pattern;
mod pin;
mod session;
mod suites;

use kernel::{
    driver::Registration,
    fs::File,
    ioctl,
    miscdevice::{
        MiscDevice,
        MiscDeviceOptions,
        MiscDeviceRegistration, //
    },
    pci,
    prelude::*, //
};
use p2pdma::orchestrator::watch::Watch;
use session::Session;

/// Says why user space is refused, at a bounded rate, and evaluates to the error.
#[macro_export]
macro_rules! refuse {
    ($error:expr, $($arg:tt)*) => {{
        if ::p2pdma::system::ratelimit() {
            ::kernel::pr_info!("{}\n", ::kernel::prelude::fmt!($($arg)*));
        }
        $error
    }};
}

#[pin_data]
struct TestModule {
    #[pin]
    device: MiscDeviceRegistration<Session>,
    #[pin]
    suites: suites::Files,
    #[pin]
    driver: Registration<pci::Adapter<driver::TestDriver>>,
    #[pin]
    failing: Registration<pci::Adapter<driver::FailingDriver>>,
    going: Watch<going::List>,
}

impl kernel::InPlaceModule for TestModule {
    fn init(module: &'static ThisModule) -> impl PinInit<Self, Error> {
        try_pin_init!(Self {
            // First: whoever opens the device relies on it, and is told later than it is.
            going: Watch::new(going::List::new())?,
            device <- MiscDeviceRegistration::register(MiscDeviceOptions {
                name: c"p2pdma_test",
            }),
            suites <- suites::Files::new(),
            driver <- Registration::new(c"p2pdma_test", module),
            failing <- Registration::new(c"p2pdma_test_fails", module),
        })
    }
}

#[vtable]
impl MiscDevice for Session {
    type Ptr = Pin<KBox<Self>>;

    fn open(_file: &File, misc: &MiscDeviceRegistration<Self>) -> Result<Self::Ptr> {
        if !p2pdma::system::may_administrate() {
            return Err(EPERM);
        }

        KBox::pin_init(Session::new(misc.device().into()), GFP_KERNEL)
    }

    fn ioctl(session: Pin<&Self>, _file: &File, cmd: u32, arg: usize) -> Result<isize> {
        let arg = UserPtr::from_addr(arg);

        // The size is in the structure, not in the number: see `abi`.
        if ioctl::_IO(abi::P2PDMA_TEST_TYPE, ioctl::_IOC_NR(cmd)) != cmd {
            return Err(refuse!(ENOTTY, "no command {cmd:#x}"));
        }
        match ioctl::_IOC_NR(cmd) {
            abi::P2PDMA_TEST_NR_PIN => {
                abi::call_with_reply(arg, |args, reply| pin::run(&session, args, reply))
            }
            abi::P2PDMA_TEST_NR_EXTRACT => {
                abi::call_with_reply(arg, |args, reply| extract::run(&session, args, reply))
            }
            abi::P2PDMA_TEST_NR_PEEK => abi::call(arg, |args| session::peek(&session, args)),
            abi::P2PDMA_TEST_NR_RELEASE => {
                abi::call_with_reply(arg, |args, reply| session::release(&session, args, reply))
            }
            abi::P2PDMA_TEST_NR_ALLOC => {
                abi::call_with_reply(arg, |args, reply| memory::alloc(&session, args, reply))
            }
            abi::P2PDMA_TEST_NR_FILL => abi::call(arg, |args| memory::fill(&session, args)),
            abi::P2PDMA_TEST_NR_CHECK => abi::call(arg, |args| memory::check(&session, args)),
            abi::P2PDMA_TEST_NR_MAP => {
                abi::call_with_reply(arg, |args, reply| memory::map(&session, args, reply))
            }
            abi::P2PDMA_TEST_NR_BIO => abi::call(arg, |args| bio::run(&session, args)),
            abi::P2PDMA_TEST_NR_POOL => abi::call(arg, memory::pool),
            abi::P2PDMA_TEST_NR_DISTANCE => {
                abi::call(arg, |args| orchestrate::distance(&session, args))
            }
            abi::P2PDMA_TEST_NR_FIND => abi::call(arg, |args| orchestrate::find(&session, args)),
            abi::P2PDMA_TEST_NR_ENABLE => abi::call(arg, orchestrate::enable),
            _ => Err(refuse!(ENOTTY, "no command {cmd:#x}")),
        }?;

        Ok(0)
    }
}

module! {
    type: TestModule,
    name: "p2pdma_test",
    authors: ["The p2pdma for Rust-for-Linux authors"],
    description: "Tests of PCI peer-to-peer DMA",
    license: "GPL",
}
