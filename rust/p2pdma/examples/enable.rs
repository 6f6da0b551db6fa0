// SPDX-License-Identifier: GPL-2.0
use kernel::{pci, prelude::*, sync::aref::ARef};
use p2pdma::orchestrator::{
    distance::{
        self,
        Reach,
        Report, //
    },
    enable::Enable, //
};

/// The provider for I/O of `client`, by what the user stored in a configfs attribute; none if they
/// do not want peer-to-peer DMA.
pub fn choose(stored: &CStr, client: &pci::Device) -> Result<Option<ARef<pci::Device>>> {
    match Enable::parse(stored)? {
        Enable::Off => Ok(None),
        Enable::Auto => Ok(Some(distance::find(client)?.into())),
        Enable::Provider(found) => {
            // If not, the kernel's log says why.
            match distance::distance(found.device(), client, Report::Verbose) {
                Reach::Ports(_) => Ok(Some(found.into())),
                Reach::NotSupported => Err(EINVAL),
            }
        }
    }
}
