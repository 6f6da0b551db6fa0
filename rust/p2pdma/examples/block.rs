// SPDX-License-Identifier: GPL-2.0
use kernel::{pci, prelude::*};
use p2pdma::{
    block::{
        submit,
        Bio,
        Disk,
        Op,
        Segment, //
    },
    client::sg::Sgl, //
};

/// Writes the first `len` bytes of a scatterlist of one entry to the disk that `fd` is open for, at
/// byte `pos`.
pub fn write(fd: u32, table: &Sgl<&pci::Device>, len: u32, pos: u64) -> Result {
    let disk = Disk::from_fd(fd)?;
    let mut bio = Bio::new(disk.target(Op::Write)?, pos, 1)?;

    // `EREMOTEIO` if the disk's queue cannot do peer-to-peer DMA.
    bio.add(&Segment::of_table(table, 0, 0, len)?)?;

    let mut bios = KVec::new();
    bios.push(bio, GFP_KERNEL)?;
    // `EINVAL` if the disk cannot reach the memory.
    submit(bios)
}
