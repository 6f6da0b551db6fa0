// SPDX-License-Identifier: GPL-2.0

//! The one system call that has no safe wrapper: `ioctl()` on the test devices.
//!
//! # The device `p2pdma_test`
//!
//! The kernel reads a structure at the address that it is given, whose first four bytes are its
//! size, and writes one back of at most that size. A size of more than a page is refused, so a
//! [`Structure`] is never left, whatever size it claims. What else the kernel writes goes where a
//! member of the structure points: these are [`Address`]es, which the type sees to. No Rust object
//! lives at one, as long as the arena that it was taken from stays, which the structure borrows.
//!
//! # The device `p2pdma_random`
//!
//! The kernel reads an array of numbers and the steps of a program, pins pages of a region of an
//! arena, which it does not write to, and writes a tally.

#![allow(unsafe_code)]

use std::io;
use std::marker::PhantomData;
use std::os::fd::{AsFd, BorrowedFd, RawFd};

use rustix::ioctl::{opcode, Ioctl, IoctlOutput, Opcode};

use crate::abi::Member;
use crate::memory::{Address, Region};
use crate::programs::program::{self, Tally, NO_TALLY};

/// Room for a structure: two pages.
const ROOM: usize = 8192;

/// A structure to be, any size that it may claim.
pub struct Structure<'a> {
    bytes: Box<[u8; ROOM]>,
    /// What its pointers may point to.
    places: PhantomData<Address<'a>>,
}

impl<'a> Structure<'a> {
    /// Zeros.
    pub fn new() -> Self {
        Structure {
            bytes: Box::new([0; ROOM]),
            places: PhantomData,
        }
    }

    /// Sets an element of a member that is no pointer. Others stay what they are.
    pub fn set(&mut self, member: &Member, index: usize, value: u64) {
        if !member.pointer {
            self.write(member, index, value);
        }
    }

    /// Sets a pointer. What is none stays what it is.
    pub fn point(&mut self, member: &Member, to: Address<'a>) {
        if member.pointer {
            self.write(member, 0, to.get() as u64);
        }
    }

    /// Sets a byte behind the members that are known, which are `known` bytes long.
    pub fn set_unknown(&mut self, known: usize, offset: usize, value: u8) {
        if let Some(byte) = self.bytes.get_mut(known + offset) {
            *byte = value;
        }
    }

    fn write(&mut self, member: &Member, index: usize, value: u64) {
        let at = member.offset + index * member.width;

        self.bytes[at..at + member.width].copy_from_slice(&value.to_ne_bytes()[..member.width]);
    }

    /// The value of a member.
    pub fn get(&self, member: &Member) -> u64 {
        let mut value = [0; 8];

        value[..member.width]
            .copy_from_slice(&self.bytes[member.offset..member.offset + member.width]);
        u64::from_ne_bytes(value)
    }
}

/// What a command is given.
pub enum Argument<'a, 'p> {
    /// A structure of ours.
    Structure(&'a mut Structure<'p>),
    /// Some other place, which may be bad.
    Place(Address<'p>),
}

struct Command<'a, 'p> {
    opcode: Opcode,
    argument: Argument<'a, 'p>,
}

// SAFETY: The kernel reads and writes where the module's documentation says: within the structure,
// which is borrowed mutably for the call, or at an `Address`, whose arena is borrowed.
unsafe impl Ioctl for Command<'_, '_> {
    type Output = ();

    const IS_MUTATING: bool = true;

    fn opcode(&self) -> Opcode {
        self.opcode
    }

    fn as_ptr(&mut self) -> *mut rustix::ffi::c_void {
        match &mut self.argument {
            Argument::Structure(structure) => structure.bytes.as_mut_ptr().cast(),
            Argument::Place(address) => std::ptr::without_provenance_mut(address.get()),
        }
    }

    unsafe fn output_from_ptr(
        _: IoctlOutput,
        _: *mut rustix::ffi::c_void,
    ) -> rustix::io::Result<Self::Output> {
        Ok(())
    }
}

/// Sends command `number` of the test device's type `kind` to `fd`.
///
/// `fd` need not be open: it may be closed by another thread at any time, which is what is tested.
/// If its number belongs to another file by then, that file does not know the command.
pub fn command(fd: RawFd, kind: u8, number: u8, argument: Argument<'_, '_>) -> io::Result<()> {
    let command = Command {
        opcode: opcode::none(kind, number),
        argument,
    };

    if fd < 0 {
        return Err(rustix::io::Errno::BADF.into());
    }
    // SAFETY: The number is not -1. It is used for this call only, by which nothing happens to the
    // file but what its driver does.
    let fd = unsafe { BorrowedFd::borrow_raw(fd) };
    // SAFETY: The command is what it says: see its implementation of `Ioctl`.
    unsafe { rustix::ioctl::ioctl(fd, command) }?;
    Ok(())
}

/// A program to be run.
struct Program<'a> {
    arguments: [u64; program::ARGUMENTS],
    tally: Box<Tally>,
    borrows: PhantomData<(&'a [u8], Region<'a>)>,
}

// SAFETY: The kernel reads the arguments and the steps, which are borrowed, and writes the tally,
// which the structure owns; both stay where they are for the call.
unsafe impl Ioctl for &mut Program<'_> {
    type Output = ();

    const IS_MUTATING: bool = true;

    fn opcode(&self) -> Opcode {
        // Both fit.
        opcode::none(program::TYPE as u8, program::RUN as u8)
    }

    fn as_ptr(&mut self) -> *mut rustix::ffi::c_void {
        self.arguments[program::TALLY] = self.tally.as_mut_ptr().expose_provenance() as u64;
        self.arguments.as_mut_ptr().cast()
    }

    unsafe fn output_from_ptr(
        _: IoctlOutput,
        _: *mut rustix::ffi::c_void,
    ) -> rustix::io::Result<Self::Output> {
        Ok(())
    }
}

/// Runs the program whose steps are in `steps`, and says what it did. It may leak so many mappings,
/// and writes to the disk from `position` on.
pub fn run(
    file: impl AsFd,
    steps: &[u8],
    region: &Region<'_>,
    disk: Option<RawFd>,
    position: u64,
    leaks: u64,
) -> io::Result<Tally> {
    let mut arguments = [0; program::ARGUMENTS];

    arguments[program::STEPS] = steps.as_ptr().expose_provenance() as u64;
    arguments[program::NUMBER] = (steps.len() / program::STEP) as u64;
    arguments[program::MEMORY] = region.start() as u64;
    arguments[program::LENGTH] = region.len() as u64;
    arguments[program::DISK] = disk
        .and_then(|fd| u64::try_from(fd).ok())
        .map_or(0, |fd| fd + 1);
    arguments[program::POSITION] = position;
    arguments[program::LEAKS] = leaks;

    let mut command = Program {
        arguments,
        tally: Box::new(NO_TALLY),
        borrows: PhantomData,
    };

    // SAFETY: The command is what it says: see its implementation of `Ioctl`.
    unsafe { rustix::ioctl::ioctl(file, &mut command) }?;
    Ok(*command.tally)
}

/// Says where the random numbers of the driver `p2pdma_random` come from.
pub fn seed(file: impl AsFd, seed: usize) -> io::Result<()> {
    struct Seed(usize);

    // SAFETY: The kernel takes the number for what it is, and neither reads nor writes there.
    unsafe impl Ioctl for Seed {
        type Output = ();

        const IS_MUTATING: bool = false;

        fn opcode(&self) -> Opcode {
            // Both fit.
            opcode::none(program::TYPE as u8, program::SEED as u8)
        }

        fn as_ptr(&mut self) -> *mut rustix::ffi::c_void {
            std::ptr::without_provenance_mut(self.0)
        }

        unsafe fn output_from_ptr(
            _: IoctlOutput,
            _: *mut rustix::ffi::c_void,
        ) -> rustix::io::Result<Self::Output> {
            Ok(())
        }
    }

    // SAFETY: The command is what it says.
    unsafe { rustix::ioctl::ioctl(file, Seed(seed)) }?;
    Ok(())
}
