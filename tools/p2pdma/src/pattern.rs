// SPDX-License-Identifier: GPL-2.0

//! A pattern that says of each 64-bit word where it belongs.
//!
//! The same as in the kselftests (`p2pdma_util.c`): seed, whose pattern it is, and position, put
//! through a bijection so that every bit changes from word to word. A word found in the wrong
//! place is turned back into what it was, for the message.

use std::fmt;

use crate::size::Size;

/// Size of a word in bytes.
pub const WORD: usize = 8;

const AT_BITS: u32 = 44;
const AT_MASK: u64 = (1 << AT_BITS) - 1;

/// Whose pattern it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum What {
    /// What a transfer moves.
    Data = 1,
    /// What the destination held before.
    Preset = 2,
    /// What lies on both sides of the destination on the medium.
    Around = 3,
}

impl What {
    fn name(self) -> &'static str {
        match self {
            What::Data => "the data",
            What::Preset => "the preset content",
            What::Around => "the content around",
        }
    }
}

/// The pattern of one run.
#[derive(Clone, Copy, Debug)]
pub struct Pattern {
    seed: u16,
}

/// What was wrong with the data of a transfer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mismatch {
    /// Words that differ.
    pub wrong: usize,
    /// Words compared.
    pub words: usize,
    /// What is known about the first of them.
    pub first: String,
}

impl fmt::Display for Mismatch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{} of {} words are wrong, the first at {}",
            self.wrong, self.words, self.first
        )
    }
}

fn mix(word: u64) -> u64 {
    let word = (word ^ (word >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let word = (word ^ (word >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    word ^ (word >> 31)
}

fn unmix(word: u64) -> u64 {
    let word = (word ^ (word >> 31) ^ (word >> 62)).wrapping_mul(0x3196_42b2_d24d_8ec3);
    let word = (word ^ (word >> 27) ^ (word >> 54)).wrapping_mul(0x96de_1b17_3f11_9089);
    word ^ (word >> 30) ^ (word >> 60)
}

impl Pattern {
    /// The pattern of a seed.
    pub const fn new(seed: u16) -> Self {
        Pattern { seed }
    }

    /// Another pattern, for a part of a run: that of no other part, up to 65536 of them.
    pub fn of_slice(self, number: usize) -> Self {
        // an odd factor is a bijection of the numbers from 0 to 65535
        let step = (number as u16).wrapping_add(1).wrapping_mul(0x9e37);
        Pattern {
            seed: self.seed.wrapping_add(step),
        }
    }

    /// The word that belongs at a position.
    pub fn word(self, what: What, at: u64) -> u64 {
        mix((u64::from(self.seed) << 48) | ((what as u64) << AT_BITS) | (at & AT_MASK))
    }

    /// What a word of this run is: whose, and for which position.
    fn origin(self, word: u64) -> Option<(What, u64)> {
        let plain = unmix(word);
        let what = match (plain >> AT_BITS) & 0xf {
            1 => What::Data,
            2 => What::Preset,
            3 => What::Around,
            _ => return None,
        };
        let at = plain & AT_MASK;
        (plain >> 48 == u64::from(self.seed) && at % 8 == 0).then_some((what, at))
    }

    /// Tells what a word is that should be another; `offset` is where it was found.
    fn explain(
        self,
        found: u64,
        expected: u64,
        expectation: Option<(What, u64)>,
        offset: usize,
    ) -> String {
        let place = format!("byte {offset}");
        let should = match expectation {
            Some((what, at)) => format!("{} for {at:#x}", what.name()),
            None => format!("{expected:#018x}"),
        };
        match (self.origin(found), expectation) {
            (Some((what, was)), Some((wanted, at))) if what == wanted => {
                let (far, way) = if at >= was {
                    (at - was, "late")
                } else {
                    (was - at, "early")
                };
                let far = Size(far);
                format!(
                    "{place}: data of another place, {far} too {way} ({was:#x} instead of {at:#x})"
                )
            }
            (Some((What::Preset, _)), _) => {
                format!("{place}: the preset content, nothing has arrived there")
            }
            (Some((what, was)), _) => {
                format!("{place}: {} for {was:#x} instead of {should}", what.name())
            }
            (None, _) => format!("{place}: {found:#018x} instead of {expected:#018x}"),
        }
    }

    /// Compares words with the pattern.
    pub fn check(
        self,
        words: impl Iterator<Item = u64>,
        what: What,
        start: u64,
    ) -> Result<(), Mismatch> {
        let expected = (start..)
            .step_by(WORD)
            .map(|at| (self.word(what, at), Some((what, at))));
        self.compare(words, expected)
    }

    /// Compares words with others, such as those of an ordinary read.
    pub fn check_against(
        self,
        words: impl Iterator<Item = u64>,
        reference: impl Iterator<Item = u64>,
    ) -> Result<(), Mismatch> {
        self.compare(words, reference.map(|word| (word, None)))
    }

    fn compare(
        self,
        words: impl Iterator<Item = u64>,
        expected: impl Iterator<Item = (u64, Option<(What, u64)>)>,
    ) -> Result<(), Mismatch> {
        let mut mismatch: Option<Mismatch> = None;
        let mut compared = 0;
        for (index, (found, (expected, expectation))) in words.zip(expected).enumerate() {
            compared += 1;
            if found == expected {
                continue;
            }
            let first = |this: Self| this.explain(found, expected, expectation, index * WORD);
            mismatch
                .get_or_insert_with(|| Mismatch {
                    wrong: 0,
                    words: 0,
                    first: first(self),
                })
                .wrong += 1;
        }
        match mismatch {
            None => Ok(()),
            Some(mismatch) => Err(Mismatch {
                words: compared,
                ..mismatch
            }),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PATTERN: Pattern = Pattern { seed: 0x1234 };

    fn words(what: What, start: u64, bytes: u64) -> Vec<u64> {
        (start..start + bytes)
            .step_by(WORD)
            .map(|at| PATTERN.word(what, at))
            .collect()
    }

    fn check(words: Vec<u64>) -> Result<(), Mismatch> {
        PATTERN.check(words.into_iter(), What::Data, 0x10000)
    }

    #[test]
    fn mixing_can_be_undone() {
        for word in [0, 1, u64::MAX, 0x0123_4567_89ab_cdef, 1 << 63] {
            assert_eq!(unmix(mix(word)), word);
            assert_eq!(mix(unmix(word)), word);
        }
    }

    #[test]
    fn accepts_what_belongs_there() {
        assert_eq!(check(words(What::Data, 0x10000, 8192)), Ok(()));
    }

    #[test]
    fn finds_a_flipped_bit() {
        for at in [0, 511, 1023] {
            for bit in [0, 17, 63] {
                let mut words = words(What::Data, 0x10000, 8192);
                words[at] ^= 1 << bit;
                let mismatch = check(words).expect_err("a flipped bit");
                assert_eq!((mismatch.wrong, mismatch.words), (1, 1024));
                assert!(mismatch.first.starts_with(&format!("byte {}: 0x", at * 8)));
            }
        }
    }

    #[test]
    fn finds_a_shift_by_a_page() {
        let mismatch = check(words(What::Data, 0x0f000, 8192)).expect_err("a shift");
        assert_eq!(mismatch.wrong, 1024);
        assert_eq!(
            mismatch.first,
            "byte 0: data of another place, 4 KiB too late (0xf000 instead of 0x10000)"
        );
    }

    #[test]
    fn finds_exchanged_pages() {
        let mut moved = words(What::Data, 0x11000, 4096);
        moved.extend(words(What::Data, 0x10000, 4096));
        assert_eq!(check(moved).map_err(|m| m.wrong), Err(1024));
    }

    #[test]
    fn finds_that_nothing_arrived() {
        let mismatch = check(words(What::Preset, 0, 8192)).expect_err("nothing");
        assert_eq!(
            mismatch.first,
            "byte 0: the preset content, nothing has arrived there"
        );
    }

    #[test]
    fn finds_data_of_another_run() {
        let other = Pattern { seed: 0x1235 };
        let stale = (0x10000..0x12000_u64)
            .step_by(WORD)
            .map(|at| other.word(What::Data, at));
        let result = PATTERN.check(stale, What::Data, 0x10000);
        assert_eq!(result.map_err(|m| m.wrong), Err(1024));
    }

    #[test]
    fn compares_with_an_ordinary_read() {
        let reference = [1, 2, 3];
        let compare =
            |words: [u64; 3]| PATTERN.check_against(words.into_iter(), reference.into_iter());
        assert_eq!(compare([1, 2, 3]), Ok(()));
        let mismatch = compare([1, 9, 3]).expect_err("a difference");
        assert_eq!(mismatch.wrong, 1);
        assert_eq!(
            mismatch.to_string(),
            "1 of 3 words are wrong, the first at byte 8: 0x0000000000000009 instead of \
             0x0000000000000002"
        );
        let stale = PATTERN.word(What::Preset, 8);
        let mismatch = compare([1, stale, 3]).expect_err("a difference");
        assert!(mismatch.first.contains("nothing has arrived"), "{mismatch}");
    }
}
