// SPDX-License-Identifier: GPL-2.0

//! The structures of the ABI, generated from `p2pdma_test_uapi.h`, and their way in and out of user
//! memory.
//!
//! Structures grow at the end, and carry their size: `copy_struct_from_user()`.

mod generated {
    #![allow(
        dead_code,
        missing_docs,
        non_camel_case_types,
        unreachable_pub,
        clippy::all
    )]

    include!(env!("P2PDMA_TEST_UAPI"));
}

pub(crate) use generated::*;

use crate::refuse;
use kernel::{
    page::PAGE_SIZE,
    pci,
    prelude::*,
    uaccess::{
        UserSlice,
        UserSliceReader, //
    }, //
};
use p2pdma::pci::devices::Address;
use zerocopy::{
    Immutable,
    KnownLayout, //
};

/// Any bytes make one, and it is made of bytes, without padding.
pub(crate) trait Plain: FromBytes + IntoBytes + Immutable + KnownLayout {}

impl<T: FromBytes + IntoBytes + Immutable + KnownLayout> Plain for T {}

/// The argument of a command.
pub(crate) trait Args: Plain {
    /// Size of its first version, which has no members that follow.
    const FIRST: usize;
    /// All flags that have a name.
    const FLAGS: u32;

    /// The flags that the caller set.
    fn flags(&self) -> u32;

    /// Whether all that is reserved is zero.
    fn reserved_is_zero(&self) -> bool {
        true
    }
}

/// The way back to the caller for the structure of a command.
///
/// A command that makes objects sends it before it keeps them, so that nothing is kept under an id
/// that nobody saw.
pub(crate) struct Reply {
    ptr: UserPtr,
    known: usize,
}

/// That a [`Reply`] was sent.
pub(crate) struct Sent(());

impl Reply {
    /// Gives `args` back to the caller.
    pub(crate) fn send<T: Args>(self, args: &T) -> Result<Sent> {
        // Behind the size, which is the caller's.
        UserSlice::new(
            self.ptr.wrapping_byte_add(size_of::<u32>()),
            self.known - size_of::<u32>(),
        )
        .writer()
        .write_slice(&args.as_bytes()[size_of::<u32>()..self.known])?;
        Ok(Sent(()))
    }
}

/// Runs a command on the structure that `ptr` points to, and gives it back to the caller.
pub(crate) fn call<T: Args>(ptr: UserPtr, f: impl FnOnce(&mut T) -> Result) -> Result {
    call_with_reply(ptr, |args, reply| {
        f(args)?;
        reply.send(args)
    })
}

/// Runs a command that has something to do once the structure is the caller's again, or to take
/// back if it cannot be.
pub(crate) fn call_with_reply<T: Args>(
    ptr: UserPtr,
    f: impl FnOnce(&mut T, Reply) -> Result<Sent>,
) -> Result {
    const {
        assert!(T::FIRST >= size_of::<u32>() && T::FIRST <= size_of::<T>());
    }

    let size: u32 = UserSlice::new(ptr, size_of::<u32>()).reader().read()?;
    // CAST: 32 bits to 64.
    let size = size as usize;

    if size < T::FIRST {
        return Err(refuse!(
            EINVAL,
            "size {size}: at least {} is needed",
            T::FIRST
        ));
    }
    if size > PAGE_SIZE {
        return Err(refuse!(E2BIG, "size {size}: more than a page"));
    }

    let known = size.min(size_of::<T>());
    let mut reader = UserSlice::new(ptr, size).reader();
    let mut args = T::new_zeroed();

    reader.read_slice(&mut args.as_mut_bytes()[..known])?;
    expect_zeros(&mut reader)?;

    let unknown = args.flags() & !T::FLAGS;
    if unknown != 0 {
        return Err(refuse!(EINVAL, "flags {unknown:#x} have no name"));
    }
    if !args.reserved_is_zero() {
        return Err(refuse!(EINVAL, "what is reserved is not zero"));
    }

    f(&mut args, Reply { ptr, known })?;
    Ok(())
}

/// What this kernel does not know may be there if it asks for nothing.
fn expect_zeros(reader: &mut UserSliceReader) -> Result {
    let mut chunk = [0; 64];

    while !reader.is_empty() {
        let chunk = &mut chunk[..reader.len().min(64)];

        reader.read_slice(chunk)?;
        if chunk.iter().any(|&byte| byte != 0) {
            return Err(refuse!(
                E2BIG,
                "members that this kernel does not know are not zero"
            ));
        }
    }
    Ok(())
}

/// The array of `len` elements at `addr`.
pub(crate) fn read_array<T: Plain>(addr: u64, len: u32, max: u32) -> Result<KVVec<T>> {
    if len > max {
        return Err(refuse!(E2BIG, "{len} elements: at most {max}"));
    }

    // CAST: 64 bits, as PCI_P2PDMA depends on 64BIT.
    let len = len as usize;
    let mut reader =
        UserSlice::new(UserPtr::from_addr(addr as usize), len * size_of::<T>()).reader();
    let mut array = KVVec::with_capacity(len, GFP_KERNEL)?;

    for _ in 0..len {
        let mut element = T::new_zeroed();

        reader.read_slice(element.as_mut_bytes())?;
        array.push(element, GFP_KERNEL)?;
    }
    Ok(array)
}

/// Writes elements to the array of `*room` elements at `addr`, as many as fit, and sets `*room` to
/// their number. Without an array nothing is written.
pub(crate) fn write_array<T: Plain>(
    addr: u64,
    room: &mut u32,
    elements: impl Iterator<Item = T>,
) -> Result {
    let mut done = 0;

    if addr != 0 {
        // CAST: 64 bits, as PCI_P2PDMA depends on 64BIT.
        let len = *room as usize * size_of::<T>();
        let mut writer = UserSlice::new(UserPtr::from_addr(addr as usize), len).writer();

        for element in elements.take(*room as usize) {
            writer.write_slice(element.as_bytes())?;
            done += 1;
        }
    }
    *room = done;
    Ok(())
}

/// A PCI function as the ABI has it; see also [`NO_FUNCTION`].
pub(crate) fn function(dev: &pci::Device) -> u64 {
    Address::of(dev).to_number()
}

// CAST: bindgen takes these for negative numbers; sign extension makes them right.
/// No PCI function.
pub(crate) const NO_FUNCTION: u64 = P2PDMA_TEST_NO_FUNCTION as u64;
/// The device of the module itself.
pub(crate) const SELF: u64 = P2PDMA_TEST_SELF as u64;
