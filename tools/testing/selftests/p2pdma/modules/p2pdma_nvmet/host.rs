// SPDX-License-Identifier: GPL-2.0

//! An open file of the device: one host, with one controller at most.

use crate::{
    abi,
    command,
    controller::Controller,
    run,
    TestTransport, //
};
use kernel::{
    fs::File,
    miscdevice::{
        MiscDevice,
        MiscDeviceRegistration, //
    },
    new_mutex,
    prelude::*,
    sync::{
        Arc,
        Mutex, //
    }, //
};
use nvmet::transport::{
    Registered,
    Transport, //
};
use p2pdma::compat::code::{
    EALREADY,
    ENOTCONN, //
};

/// A host.
#[pin_data]
pub(crate) struct Host {
    transport: Arc<Registered<TestTransport>>,
    #[pin]
    controller: Mutex<Option<Arc<Controller>>>,
}

impl Host {
    /// The controller.
    fn controller(&self) -> Result<Arc<Controller>> {
        self.controller.lock().clone().ok_or(ENOTCONN)
    }

    fn connect(&self, args: &mut abi::p2pdma_nvmet_connect) -> Result {
        let mut controller = self.controller.lock();

        if controller.is_some() {
            return Err(EALREADY);
        }
        *controller = Controller::connect(&self.transport.table, args)?;
        Ok(())
    }

    fn disconnect(&self) -> Result {
        let controller = self.controller.lock().take().ok_or(ENOTCONN)?;

        controller.close();
        Ok(())
    }
}

#[vtable]
impl MiscDevice for Host {
    type Ptr = Pin<KBox<Self>>;

    fn open(_file: &File, _misc: &MiscDeviceRegistration<Self>) -> Result<Self::Ptr> {
        if !p2pdma::system::may_administrate() {
            return Err(EPERM);
        }
        // There as long as the device is.
        let transport = TestTransport::slot().get().ok_or(ENODEV)?;

        KBox::try_pin_init(
            try_pin_init!(Self {
                transport,
                controller <- new_mutex!(None),
            }),
            GFP_KERNEL,
        )
    }

    fn release(host: Self::Ptr, _file: &File) {
        // There may be none.
        let _ = host.disconnect();
    }

    fn ioctl(host: Pin<&Self>, _file: &File, cmd: u32, arg: usize) -> Result<isize> {
        match cmd {
            abi::CONNECT => abi::call(arg, |args| host.connect(args)),
            abi::DISCONNECT => host.disconnect().map(|()| 0),
            abi::COMMAND => abi::call(arg, |args| command::send(&*host.controller()?, args)),
            abi::RUN => abi::call(arg, |args| run::run(&*host.controller()?, args)),
            _ => Err(ENOTTY),
        }
    }
}
