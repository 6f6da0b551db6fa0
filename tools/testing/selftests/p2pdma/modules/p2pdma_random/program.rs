// SPDX-License-Identifier: GPL-2.0

//! Programs over the library's API, as bytes.
//!
//! On [`core`] alone: the same file is compiled into the kernel module that runs programs, and into
//! the tool that draws them. Any bytes are a program; what makes no sense is left out by whoever
//! runs it.

#![allow(dead_code, reason = "the module needs a part of it, the tool another")]

/// The command that runs a program, of type [`TYPE`]; its argument is an array of [`ARGUMENTS`]
/// 64-bit numbers.
pub(crate) const RUN: u32 = 0;
/// The command that says where the random numbers for `probe()` of the driver `p2pdma_random` come
/// from; its argument is the number itself.
pub(crate) const SEED: u32 = 1;
/// `_IO()` type of the commands.
pub(crate) const TYPE: u32 = b'R' as u32;

/// Numbers of the argument.
pub(crate) const ARGUMENTS: usize = 8;
/// Address of the steps.
pub(crate) const STEPS: usize = 0;
/// Number of steps, at most [`MAX_STEPS`].
pub(crate) const NUMBER: usize = 1;
/// Address of memory that is pinned, whose pages may be of any kind, and be missing.
pub(crate) const MEMORY: usize = 2;
/// Its length in bytes.
pub(crate) const LENGTH: usize = 3;
/// A file descriptor of a disk that may be written to, plus one; 0 for none.
pub(crate) const DISK: usize = 4;
/// Address of a [`Tally`] to be written, or 0.
pub(crate) const TALLY: usize = 5;
/// The disk is written and read only from this byte on.
pub(crate) const POSITION: usize = 6;
/// Mappings that are leaked at most, as long as the module is loaded.
pub(crate) const LEAKS: usize = 7;

/// Most steps of a program.
pub(crate) const MAX_STEPS: u64 = 4096;

/// What a step does. The comments say which of the step's numbers mean what: `a`, `b`, `c` and
/// `n`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u8)]
pub(crate) enum Op {
    /// Keeps the device `n` bound for the steps up to the matching [`Op::End`]: a scope, with its
    /// pool if it is a provider, and as a client. In a scope, its pool stays that of the outer one
    /// unless `a` is odd.
    Bound,
    /// The same of two devices: the provider `n`, and the client whose number is in the step after
    /// this one, which is no step itself.
    Both,
    /// The end of a scope.
    End,
    /// Drops what is in slot `a`.
    Drop,
    /// Leaks what is in slot `a`, if it is of a kind that may be leaked.
    Leak,
    /// Exchanges slot `a` with slot `b` of what all programs of a file have in common.
    Exchange,
    /// Asks for the distance between the function `n` and itself, and `c` others together; `a` is
    /// odd: verbosely.
    Distance,
    /// Finds a provider for the function `n`.
    Find,
    /// Parses and shows the value `n` of an attribute.
    Enable,
    /// Makes a watch of kind `b`, in slot `a`.
    Watch,
    /// Pins `c` pages of memory, from page `n` on, into slot `a`; `b` says how.
    Pin,
    /// Takes references on the pages in slot `a`, into slot `b`.
    Reference,
    /// Extracts pages of memory as direct I/O would: `c` segments, from page `n` on, into slot `a`;
    /// `b` says how.
    Extract,
    /// Looks at all there is to know of the object in slot `a`.
    Look,
    /// Joins the memory in slots `a` and `b` to a list, in slot `a`.
    Gather,
    /// Reads, or if `c` is odd writes, the disk: `n` sectors of the list in slot `a`, and of that
    /// in slot `b`.
    Io,
    /// Walks over `n` functions, and looks for the function `n`.
    Walk,
    /// In a scope with a pool: allocates `n` bytes, into slot `a`, or if `b` is odd on loan.
    Alloc,
    /// In a scope with a pool: allocates a list of `n` bytes, into slot `a`, or if `b` is odd on
    /// loan.
    AllocSgl,
    /// In a scope: maps the list in slot `a`, or if `b` is odd the last that is on loan. What is
    /// refused goes back to where it was.
    Map,
    /// In a scope: ends the last mapping; the list goes to slot `a`, or stays on loan.
    Unmap,
    /// In a scope: maps the list in slot `a`, as a managed resource of the client.
    MapManaged,
    /// In a scope: makes the last mapping a managed resource of the client, in slot `a`.
    IntoManaged,
    /// In a scope with a pool: finds out how its memory is mapped for the client.
    Probe,
    /// In a scope: drops what is on loan, or mapped, last.
    Return,
    /// In a scope: joins the last two pieces of memory on loan to a list.
    GatherLoan,
    /// In a scope: does I/O to the disk, as [`Op::Io`], with the last list on loan.
    IoLoan,
}

/// All of them, by number.
pub(crate) const OPS: [Op; 27] = [
    Op::Bound,
    Op::Both,
    Op::End,
    Op::Drop,
    Op::Leak,
    Op::Exchange,
    Op::Distance,
    Op::Find,
    Op::Enable,
    Op::Watch,
    Op::Pin,
    Op::Reference,
    Op::Extract,
    Op::Look,
    Op::Gather,
    Op::Io,
    Op::Walk,
    Op::Alloc,
    Op::AllocSgl,
    Op::Map,
    Op::Unmap,
    Op::MapManaged,
    Op::IntoManaged,
    Op::Probe,
    Op::Return,
    Op::GatherLoan,
    Op::IoLoan,
];

/// For each [`Op`], how often it was done; how often not, as it was refused, or had no sense there;
/// and how often what came of it was wrong.
pub(crate) type Tally = [[u64; 3]; OPS.len()];

/// None yet.
pub(crate) const NO_TALLY: Tally = [[0; 3]; OPS.len()];

/// Bytes of a [`Step`].
pub(crate) const STEP: usize = 8;

/// One step.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Step {
    /// What it does.
    pub(crate) op: Op,
    /// See [`Op`].
    pub(crate) a: u8,
    /// See [`Op`].
    pub(crate) b: u8,
    /// See [`Op`].
    pub(crate) c: u8,
    /// See [`Op`]. Functions are numbers as the driver core has them: domain, bus, device and
    /// function.
    pub(crate) n: u32,
}

impl Step {
    /// The step that some bytes are: any are one.
    pub(crate) fn from_bytes(bytes: [u8; STEP]) -> Self {
        let [op, a, b, c, n @ ..] = bytes;

        Self {
            // Less than the number of operations.
            op: OPS[op as usize % OPS.len()],
            a,
            b,
            c,
            n: u32::from_ne_bytes(n),
        }
    }

    /// The bytes of a step.
    pub(crate) fn to_bytes(self) -> [u8; STEP] {
        let [n0, n1, n2, n3] = self.n.to_ne_bytes();

        [self.op as u8, self.a, self.b, self.c, n0, n1, n2, n3]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn any_bytes_are_a_step() {
        for op in 0..=u8::MAX {
            let step = Step::from_bytes([op, 1, 2, 3, 4, 5, 6, 7]);

            assert_eq!(step.op as usize, op as usize % OPS.len());
            assert_eq!(Step::from_bytes(step.to_bytes()), step);
        }
    }

    #[test]
    fn operations_are_in_order() {
        for (i, op) in OPS.iter().enumerate() {
            assert_eq!(*op as usize, i);
        }
    }
}
