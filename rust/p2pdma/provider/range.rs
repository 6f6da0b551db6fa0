// SPDX-License-Identifier: GPL-2.0

//! Ranges of a BAR that can become peer-to-peer memory.
//!
//! Pure arithmetic, on [`core`] alone: the same file is compiled into the kernel module and into
//! the unit tests that run on the host.
//!
//! A range reaches the kernel only as a [`BarRange`], and a [`BarRange`] exists only after every
//! condition was checked that [`pci_p2pdma_add_resource()`] or [`memremap_pages()`] would otherwise
//! answer with a bare `EINVAL` or with a warning in the kernel log. The caller gets a
//! [`RangeError`] that says which condition it was.
//!
//! [`pci_p2pdma_add_resource()`]: srctree/drivers/pci/p2pdma.c
//! [`memremap_pages()`]: srctree/mm/memremap.c
//!
//! In the kernel's tree this would be `rust/kernel/pci/p2pdma/range.rs`, of the maintainers of PCI
//! peer-to-peer DMA.

use core::{
    fmt,
    num::NonZero, //
};

/// Number of standard BARs of a PCI function (`PCI_STD_NUM_BARS`).
pub const NUM_BARS: u8 = 6;

/// What a BAR decodes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BarKind {
    /// Nothing: not implemented, the upper half of a 64-bit BAR, or one that the kernel had no
    /// room for, which it forgets (`reset_resource()` in `drivers/pci/setup-bus.c`).
    Absent,
    /// I/O ports (`IORESOURCE_IO`): no memory, so nothing that a peer could address.
    IoPort,
    /// Memory or ports that have no address (`IORESOURCE_UNSET`): the firmware found no
    /// room for them, or they were released.
    Unassigned,
    /// Memory (`IORESOURCE_MEM`).
    Memory,
}

/// A BAR, as far as the choice of a range depends on it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bar {
    /// Index of the BAR.
    pub index: u8,
    /// What it decodes.
    pub kind: BarKind,
    /// It says that reading it has no side effects (`IORESOURCE_PREFETCH`): memory, rather than
    /// registers.
    pub prefetchable: bool,
    /// CPU physical address of its first byte (`pci_resource_start()`).
    pub start: u64,
    /// Its size in bytes (`pci_resource_len()`).
    pub len: u64,
}

/// What the kernel's memory hotplug asks of a range that gets `struct page`s.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Start and size have to be multiples of this (`memremap_compat_align()`; 2 MiB on x86 and on
    /// arm64), and of [`Limits::memory_map_span()`]. A power of two.
    pub align: u64,
    /// First physical address that the linear map can hold (`mhp_get_pluggable_range()`).
    pub first: u64,
    /// Last physical address that the linear map can hold.
    pub last: u64,
}

impl Limits {
    /// Bytes of memory whose `struct page`s, of `struct_page` bytes each, fill one page of `page`
    /// bytes: 256 KiB with pages of 4 KiB, 64 MiB with pages of 64 KiB.
    ///
    /// When memory is removed, arm64 takes away each page of the memory map that has `struct page`s
    /// of it, also if it has those of other memory as well, and the kernel dies of the next access
    /// to them (`unmap_hotplug_pte_range()`). What is a multiple of this shares none.
    #[inline]
    pub const fn memory_map_span(page: u64, struct_page: u64) -> u64 {
        page.div_ceil(struct_page).next_power_of_two() * page
    }
}

/// Why a range cannot become peer-to-peer memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RangeError {
    /// The index is not that of a standard BAR.
    NoSuchBar {
        /// The index asked for.
        bar: u8,
    },
    /// The BAR is not implemented.
    Absent {
        /// The BAR asked for.
        bar: u8,
    },
    /// The BAR decodes I/O ports.
    IoPort {
        /// The BAR asked for.
        bar: u8,
    },
    /// The BAR has no address.
    Unassigned {
        /// The BAR asked for.
        bar: u8,
    },
    /// Offset plus size wraps around the address space.
    Wraps {
        /// Offset asked for, in bytes.
        offset: u64,
        /// Size asked for, in bytes.
        size: u64,
    },
    /// The range ends past the end of the BAR, or starts there.
    PastEnd {
        /// The BAR asked for.
        bar: u8,
        /// First byte after the range, or the offset if nothing is left after it.
        end: u64,
        /// Size of the BAR in bytes.
        len: u64,
    },
    /// The range ends past the end of a Controller Memory Buffer, or starts there.
    PastCmb {
        /// First byte after the range, or the offset if nothing is left after it.
        end: u64,
        /// Size of the buffer in bytes.
        len: u64,
    },
    /// The physical start address, or the size, is not a multiple of [`Limits::align`].
    Misaligned {
        /// Physical address of the first byte.
        start: u64,
        /// Size in bytes.
        size: u64,
        /// The alignment asked for.
        align: u64,
    },
    /// The physical addresses are not all among those that the linear map can hold.
    NotPluggable {
        /// Physical address of the first byte.
        start: u64,
        /// Physical address of the last byte.
        last: u64,
    },
    /// The range does not divide into as many equal parts.
    Indivisible {
        /// Size of the range in bytes.
        size: u64,
        /// Number of parts.
        parts: u32,
    },
    /// No BAR of the device is suitable.
    NoSuitableBar {
        /// The alignment asked for, which is also the smallest size.
        align: u64,
    },
}

impl fmt::Display for RangeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Self::NoSuchBar { bar } => write!(f, "BAR {bar} does not exist, use 0 to 5"),
            Self::Absent { bar } => write!(
                f,
                "BAR {bar} is not implemented by the device, or there was no room for it"
            ),
            Self::IoPort { bar } => write!(f, "BAR {bar} decodes I/O ports, not memory"),
            Self::Unassigned { bar } => write!(
                f,
                "BAR {bar} has no address, there was no room for it; try pci=realloc"
            ),
            Self::Wraps { offset, size } => {
                write!(f, "offset {offset:#x} plus size {size:#x} wraps around")
            }
            Self::PastEnd { bar, end, len } => {
                write!(
                    f,
                    "range up to {end:#x} ends past BAR {bar} ({len:#x} bytes)"
                )
            }
            Self::PastCmb { end, len } => write!(
                f,
                "range up to {end:#x} ends past the memory buffer ({len:#x} bytes)"
            ),
            Self::Misaligned { start, size, align } => write!(
                f,
                "start {start:#x} and size {size:#x} must be multiples of {align:#x}"
            ),
            Self::NotPluggable { start, last } => write!(
                f,
                "addresses {start:#x}-{last:#x} are not among those that the kernel can map"
            ),
            Self::Indivisible { size, parts } => {
                write!(f, "{size} bytes do not divide into {parts} equal ranges")
            }
            Self::NoSuitableBar { align } => {
                write!(f, "no prefetchable memory BAR of at least {align:#x} bytes")
            }
        }
    }
}

/// The size of a part of `len` bytes: `size` bytes from `offset`, or all from `offset` where `size`
/// is [`None`]. `past_end` makes the error for a part that is not within `len` bytes.
pub(crate) fn part(
    len: u64,
    offset: u64,
    size: Option<NonZero<u64>>,
    past_end: impl Fn(u64) -> RangeError,
) -> Result<NonZero<u64>, RangeError> {
    let rest = len.checked_sub(offset).and_then(NonZero::new);
    let size = match size {
        Some(size) => size,
        None => return rest.ok_or(past_end(offset)),
    };
    let end = offset.checked_add(size.get()).ok_or(RangeError::Wraps {
        offset,
        size: size.get(),
    })?;

    if end > len {
        return Err(past_end(end));
    }
    Ok(size)
}

/// A range of a memory BAR that can become peer-to-peer memory.
///
/// It was checked against the [`Bar`] and the [`Limits`] that it was made from, which need not be
/// those of a device: [`Provider::register()`] checks it once more against the device's.
///
/// # Invariants
///
/// - `bar` is the index of a memory BAR.
/// - `offset + size` does not exceed the size of that BAR.
/// - The physical start address and `size` are multiples of [`Limits::align`].
/// - All addresses are within [`Limits::first`] and [`Limits::last`].
///
/// [`Provider::register()`]: ../provider/struct.Provider.html#method.register
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BarRange {
    bar: u8,
    offset: u64,
    size: NonZero<u64>,
    start: u64,
}

impl BarRange {
    /// Checks a range of `bar`: `size` bytes from `offset`, or all from `offset` where `size` is
    /// [`None`].
    ///
    /// # Errors
    ///
    /// The first condition that does not hold, in the order of [`RangeError`]'s variants.
    pub fn new(
        bar: &Bar,
        offset: u64,
        size: Option<NonZero<u64>>,
        limits: &Limits,
    ) -> Result<Self, RangeError> {
        let index = bar.index;

        if index >= NUM_BARS {
            return Err(RangeError::NoSuchBar { bar: index });
        }
        match bar.kind {
            BarKind::Absent => return Err(RangeError::Absent { bar: index }),
            BarKind::IoPort => return Err(RangeError::IoPort { bar: index }),
            BarKind::Unassigned => return Err(RangeError::Unassigned { bar: index }),
            BarKind::Memory => (),
        }

        let size = part(bar.len, offset, size, |end| RangeError::PastEnd {
            bar: index,
            end,
            len: bar.len,
        })?;

        // The range is within the BAR, so `last` below wraps only where the BAR itself does.
        let start = bar.start.wrapping_add(offset);
        if (start | size.get()) & limits.align.saturating_sub(1) != 0 {
            return Err(RangeError::Misaligned {
                start,
                size: size.get(),
                align: limits.align,
            });
        }

        let last = start.wrapping_add(size.get() - 1);
        if last < start || start < limits.first || last > limits.last {
            return Err(RangeError::NotPluggable { start, last });
        }

        // INVARIANT: All four were checked above.
        Ok(Self {
            bar: index,
            offset,
            size,
            start,
        })
    }

    /// The whole of the largest BAR that is suitable, and prefetchable: others hold registers, more
    /// often than not. Of equal ones that with the lowest index.
    ///
    /// # Errors
    ///
    /// - [`RangeError::NoSuitableBar`] if none of them is prefetchable memory, and large enough.
    /// - Why the largest that is cannot be used, if none can.
    pub fn largest(bars: &[Bar], limits: &Limits) -> Result<Self, RangeError> {
        let mut best: Option<(u64, Result<Self, RangeError>)> = None;

        for bar in bars.iter().filter(|bar| {
            bar.prefetchable && bar.kind == BarKind::Memory && bar.len >= limits.align
        }) {
            let range = Self::new(bar, 0, None, limits);
            let better = best.is_none_or(|(len, best)| {
                // One that can be used is better than any that cannot.
                (range.is_ok(), bar.len) > (best.is_ok(), len)
            });

            if better {
                best = Some((bar.len, range));
            }
        }

        match best {
            Some((_, range)) => range,
            None => Err(RangeError::NoSuitableBar {
                align: limits.align,
            }),
        }
    }

    /// Part `index`, from 0, of `parts` equal ones.
    ///
    /// # Errors
    ///
    /// - [`RangeError::Indivisible`] if there are no such parts, or there is no such one.
    /// - [`RangeError::Misaligned`].
    pub fn part(&self, index: u32, parts: u32, limits: &Limits) -> Result<Self, RangeError> {
        let all = self.size.get();
        let indivisible = RangeError::Indivisible { size: all, parts };
        let size = match all.checked_rem(parts.into()) {
            // Not 0, as `all` is not.
            Some(0) if index < parts => NonZero::new(all / u64::from(parts)).ok_or(indivisible)?,
            _ => return Err(indivisible),
        };
        // No sum wraps, and no product: the part is within the range.
        let distance = u64::from(index) * size.get();
        let start = self.start + distance;

        if (start | size.get()) & limits.align.saturating_sub(1) != 0 {
            return Err(RangeError::Misaligned {
                start,
                size: size.get(),
                align: limits.align,
            });
        }

        // INVARIANT: It is within `self`, for which they hold; the alignment was checked just now.
        Ok(Self {
            bar: self.bar,
            offset: self.offset + distance,
            size,
            start,
        })
    }

    /// Index of the BAR, 0 to 5.
    pub fn bar(&self) -> u8 {
        self.bar
    }

    /// Distance of the first byte from the start of the BAR, in bytes.
    pub fn offset(&self) -> u64 {
        self.offset
    }

    /// Size in bytes.
    pub fn size(&self) -> NonZero<u64> {
        self.size
    }

    /// CPU physical address of the first byte.
    pub fn start(&self) -> u64 {
        self.start
    }

    /// Whether both ranges have a byte in common.
    pub fn overlaps(&self, other: &Self) -> bool {
        // The sums do not wrap: a range ends within its BAR.
        self.bar == other.bar
            && self.offset < other.offset + other.size.get()
            && other.offset < self.offset + self.size.get()
    }
}

// The same cases run on the host under cargo, and in the kernel as a KUnit suite.
#[cfg(any(test, CONFIG_KUNIT = "y"))]
#[cfg_attr(not(test), kernel::macros::kunit_tests(rust_p2pdma_range))]
mod tests {
    #[cfg(not(test))]
    use kernel::prelude::*;

    use super::*;

    const MIB: u64 = 1 << 20;
    const LIMITS: Limits = Limits {
        align: 2 * MIB,
        first: 0,
        last: (1 << 46) - 1,
    };

    fn bar(index: u8, kind: BarKind, start: u64, len: u64) -> Bar {
        Bar {
            index,
            kind,
            prefetchable: true,
            start,
            len,
        }
    }

    fn memory(len: u64) -> Bar {
        bar(2, BarKind::Memory, 0xf000_0000, len)
    }

    fn range(bar: &Bar, offset: u64, size: u64) -> Result<(u64, u64, u64), RangeError> {
        BarRange::new(bar, offset, NonZero::new(size), &LIMITS)
            .map(|range| (range.start(), range.offset(), range.size().get()))
    }

    #[test]
    fn whole_bar() {
        assert_eq!(
            range(&memory(64 * MIB), 0, 0),
            Ok((0xf000_0000, 0, 64 * MIB))
        );
    }

    #[test]
    fn part_of_bar() {
        let bar = memory(64 * MIB);

        assert_eq!(
            range(&bar, 2 * MIB, 4 * MIB),
            Ok((0xf020_0000, 2 * MIB, 4 * MIB))
        );
        assert_eq!(
            range(&bar, 62 * MIB, 0),
            Ok((0xf3e0_0000, 62 * MIB, 2 * MIB))
        );
        assert_eq!(
            range(&bar, 62 * MIB, 2 * MIB),
            Ok((0xf3e0_0000, 62 * MIB, 2 * MIB))
        );
    }

    #[test]
    fn no_such_bar() {
        assert_eq!(
            range(&bar(6, BarKind::Memory, 0, 2 * MIB), 0, 0),
            Err(RangeError::NoSuchBar { bar: 6 })
        );
        assert_eq!(
            range(&bar(1, BarKind::Absent, 0, 0), 0, 0),
            Err(RangeError::Absent { bar: 1 })
        );
        assert_eq!(
            range(&bar(1, BarKind::IoPort, 0xc000, 256), 0, 0),
            Err(RangeError::IoPort { bar: 1 })
        );
        // What is there then looks like a BAR at the start of the address space.
        assert_eq!(
            range(&bar(2, BarKind::Unassigned, 0, 4 * MIB), 0, 0),
            Err(RangeError::Unassigned { bar: 2 })
        );
    }

    #[test]
    fn past_the_end() {
        let bar = memory(4 * MIB);
        let past = |end| {
            Err(RangeError::PastEnd {
                bar: 2,
                end,
                len: 4 * MIB,
            })
        };

        // Nothing is left after the offset.
        assert_eq!(range(&bar, 4 * MIB, 0), past(4 * MIB));
        assert_eq!(range(&bar, u64::MAX, 0), past(u64::MAX));
        // One step too far.
        assert_eq!(range(&bar, 2 * MIB, 4 * MIB), past(6 * MIB));
        assert_eq!(range(&bar, 0, 4 * MIB + 1), past(4 * MIB + 1));
        // The last address there is.
        assert_eq!(range(&bar, 0, u64::MAX), past(u64::MAX));
    }

    #[test]
    fn wraps() {
        assert_eq!(
            range(&memory(4 * MIB), 2 * MIB, u64::MAX - MIB),
            Err(RangeError::Wraps {
                offset: 2 * MIB,
                size: u64::MAX - MIB
            })
        );
        // A BAR at the very end of the address space: the last byte is still one.
        assert_eq!(
            range(
                &bar(0, BarKind::Memory, u64::MAX - 4 * MIB + 1, 4 * MIB),
                0,
                0
            ),
            Err(RangeError::NotPluggable {
                start: u64::MAX - 4 * MIB + 1,
                last: u64::MAX
            })
        );
    }

    #[test]
    fn memory_map_span() {
        assert_eq!(Limits::memory_map_span(4 << 10, 64), 256 << 10);
        assert_eq!(Limits::memory_map_span(16 << 10, 64), 4 * MIB);
        assert_eq!(Limits::memory_map_span(64 << 10, 64), 64 * MIB);
        // Some are across two pages: a power of two all the same.
        assert_eq!(Limits::memory_map_span(4 << 10, 56), 512 << 10);
    }

    #[test]
    fn misaligned() {
        let misaligned = |start, size| {
            Err(RangeError::Misaligned {
                start,
                size,
                align: 2 * MIB,
            })
        };

        assert_eq!(
            range(&memory(4 * MIB), 4096, 2 * MIB),
            misaligned(0xf000_1000, 2 * MIB)
        );
        assert_eq!(
            range(&memory(4 * MIB), 0, MIB),
            misaligned(0xf000_0000, MIB)
        );
        assert_eq!(range(&memory(4096), 0, 0), misaligned(0xf000_0000, 4096));
        // The address counts, not the offset: a BAR of 1 MiB may start in between.
        let odd = bar(0, BarKind::Memory, 0xf010_0000, 16 * MIB);
        assert_eq!(range(&odd, 0, 2 * MIB), misaligned(0xf010_0000, 2 * MIB));
        assert_eq!(range(&odd, MIB, 2 * MIB), Ok((0xf020_0000, MIB, 2 * MIB)));
    }

    #[test]
    fn not_pluggable() {
        let last = LIMITS.last;
        let edge = bar(0, BarKind::Memory, last - 2 * MIB + 1, 4 * MIB);

        assert_eq!(
            range(&edge, 0, 2 * MIB),
            Ok((last - 2 * MIB + 1, 0, 2 * MIB))
        );
        assert_eq!(
            range(&edge, 0, 4 * MIB),
            Err(RangeError::NotPluggable {
                start: last - 2 * MIB + 1,
                last: last + 2 * MIB
            })
        );

        let limits = Limits {
            first: 4 * MIB,
            ..LIMITS
        };
        assert!(matches!(
            BarRange::new(&bar(0, BarKind::Memory, 2 * MIB, 4 * MIB), 0, None, &limits),
            Err(RangeError::NotPluggable { .. })
        ));
    }

    #[test]
    fn largest() {
        let pick = |bars: &[Bar]| BarRange::largest(bars, &LIMITS).map(|range| range.bar());
        let small = bar(0, BarKind::Memory, 0xfe00_0000, 4096);
        let mid = bar(1, BarKind::Memory, 0xf800_0000, 16 * MIB);
        let big = bar(2, BarKind::Memory, 1 << 40, 1 << 36);
        let same = bar(4, BarKind::Memory, 1 << 41, 1 << 36);
        let registers = Bar {
            prefetchable: false,
            ..bar(3, BarKind::Memory, 1 << 42, 1 << 37)
        };
        let far = bar(5, BarKind::Memory, 1 << 47, 1 << 40);

        assert_eq!(pick(&[small, mid, big]), Ok(2));
        // Of equal ones the first; what cannot be used does not count, however large.
        assert_eq!(pick(&[big, same, far]), Ok(2));
        assert_eq!(pick(&[mid, registers]), Ok(1));
        assert_eq!(pick(&[far, mid]), Ok(1));
        // None can be used: what the largest lacks.
        let odd = bar(0, BarKind::Memory, 0xf010_0000, 16 * MIB);
        let beyond = Err(RangeError::NotPluggable {
            start: 1 << 47,
            last: (1 << 47) + (1 << 40) - 1,
        });
        assert_eq!(pick(&[small, far]), beyond);
        assert_eq!(pick(&[far, odd]), beyond);
        assert_eq!(pick(&[odd, far]), beyond);
        assert_eq!(
            pick(&[small, registers]),
            Err(RangeError::NoSuitableBar { align: 2 * MIB })
        );
        // What has no address does not count either.
        let unassigned = bar(5, BarKind::Unassigned, 0, 1 << 36);
        assert_eq!(pick(&[unassigned, mid]), Ok(1));
        assert_eq!(
            pick(&[unassigned]),
            Err(RangeError::NoSuitableBar { align: 2 * MIB })
        );
        assert_eq!(pick(&[]), Err(RangeError::NoSuitableBar { align: 2 * MIB }));
    }

    #[test]
    fn parts() {
        let whole = BarRange::new(&memory(64 * MIB), 4 * MIB, NonZero::new(24 * MIB), &LIMITS);
        let part = |index, parts| {
            whole.and_then(|whole| {
                whole
                    .part(index, parts, &LIMITS)
                    .map(|part| (part.start(), part.offset(), part.size().get()))
            })
        };
        let indivisible = |parts| {
            Err(RangeError::Indivisible {
                size: 24 * MIB,
                parts,
            })
        };

        assert_eq!(part(0, 1), Ok((0xf040_0000, 4 * MIB, 24 * MIB)));
        assert_eq!(part(0, 3), Ok((0xf040_0000, 4 * MIB, 8 * MIB)));
        assert_eq!(part(2, 3), Ok((0xf140_0000, 20 * MIB, 8 * MIB)));
        assert_eq!(part(11, 12), Ok((0xf1a0_0000, 26 * MIB, 2 * MIB)));
        // None, one too many, and what leaves a rest.
        assert_eq!(part(0, 0), indivisible(0));
        assert_eq!(part(3, 3), indivisible(3));
        assert_eq!(part(0, 5), indivisible(5));
        assert_eq!(
            part(0, 24),
            Err(RangeError::Misaligned {
                start: 0xf040_0000,
                size: MIB,
                align: 2 * MIB
            })
        );
    }

    #[test]
    fn overlap() {
        let bar2 = memory(64 * MIB);
        let bar4 = bar(4, BarKind::Memory, 0xf800_0000, 64 * MIB);
        let new = |bar: &Bar, offset: u64, size: u64| {
            BarRange::new(bar, offset * MIB, NonZero::new(size * MIB), &LIMITS)
        };
        let overlap =
            |a: Result<BarRange, RangeError>, b: Result<BarRange, RangeError>| match (a, b) {
                (Ok(a), Ok(b)) => a.overlaps(&b) && b.overlaps(&a),
                _ => false,
            };

        assert!(overlap(new(&bar2, 0, 4), new(&bar2, 2, 2)));
        assert!(overlap(new(&bar2, 0, 64), new(&bar2, 0, 64)));
        // Neighbours, and the same offsets in another BAR.
        assert!(!overlap(new(&bar2, 0, 2), new(&bar2, 2, 2)));
        assert!(!overlap(new(&bar2, 0, 2), new(&bar4, 0, 2)));
    }
}
