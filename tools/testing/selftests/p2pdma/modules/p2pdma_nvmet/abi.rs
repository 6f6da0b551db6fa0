// SPDX-License-Identifier: GPL-2.0

//! The structures of the ABI, generated from `p2pdma_nvmet.h`, and their way in and out of user
//! memory.

mod generated {
    #![allow(
        dead_code,
        missing_docs,
        non_camel_case_types,
        unreachable_pub,
        clippy::all
    )]

    include!(env!("P2PDMA_NVMET_UAPI"));
}

pub(crate) use generated::*;

use kernel::{
    ioctl,
    pci,
    prelude::*,
    sync::aref::ARef,
    uaccess::UserSlice, //
};
use p2pdma::pci::devices::Address;

/// No PCI function.
// CAST: bindgen takes `~0ULL` for a signed number; sign extension makes it right.
pub(crate) const NO_FUNCTION: u64 = P2PDMA_NVMET_NO_FUNCTION as u64;

/// A PCI function as the ABI has it.
pub(crate) fn function(dev: &pci::Device) -> u64 {
    Address::of(dev).to_number()
}

/// The PCI function that the ABI has as `function`.
pub(crate) fn find_function(function: u64) -> Option<ARef<pci::Device>> {
    Address::from_number(function)?.find()
}

/// Type of the ioctl numbers.
const TYPE: u32 = '|' as u32;

pub(crate) const CONNECT: u32 = ioctl::_IOWR::<p2pdma_nvmet_connect>(TYPE, 0x90);
pub(crate) const DISCONNECT: u32 = ioctl::_IO(TYPE, 0x91);
pub(crate) const COMMAND: u32 = ioctl::_IOWR::<p2pdma_nvmet_command>(TYPE, 0x92);
pub(crate) const RUN: u32 = ioctl::_IOWR::<p2pdma_nvmet_run>(TYPE, 0x93);

/// Runs `f` on the structure that `arg` points to, and gives it back to the caller.
pub(crate) fn call<T: FromBytes + IntoBytes>(
    arg: usize,
    f: impl FnOnce(&mut T) -> Result,
) -> Result<isize> {
    let slice = UserSlice::new(UserPtr::from_addr(arg), size_of::<T>());
    let (mut reader, mut writer) = slice.reader_writer();
    let mut args = KBox::new(T::new_zeroed(), GFP_KERNEL)?;

    reader.read_slice(args.as_mut_bytes())?;
    f(&mut args)?;
    writer.write_slice(args.as_mut_bytes())?;
    Ok(0)
}

/// The characters before the first NUL; [`EINVAL`] if there is none.
pub(crate) fn string(field: &[u8]) -> Result<&[u8]> {
    let len = field.iter().position(|&c| c == 0).ok_or(EINVAL)?;

    Ok(&field[..len])
}
