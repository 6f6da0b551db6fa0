// SPDX-License-Identifier: GPL-2.0

//! Which steps of a batch are kept: numbers and ranges of them, counted over all of its programs.

use std::fmt;
use std::str::FromStr;

/// Numbers of steps, in order.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Keep(pub Vec<usize>);

impl Keep {
    /// All of so many steps.
    pub fn all(steps: usize) -> Self {
        Keep((0..steps).collect())
    }

    /// Whether a step is one of them.
    pub fn has(&self, step: usize) -> bool {
        self.0.binary_search(&step).is_ok()
    }
}

impl FromStr for Keep {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let mut steps = Vec::new();

        for part in text.split(',').filter(|part| !part.is_empty()) {
            let (first, last) = part.split_once('-').unwrap_or((part, part));
            let number = |text: &str| {
                text.parse::<u32>()
                    .map_err(|_| format!("{text:?} is no number of a step"))
            };
            let (first, last) = (number(first)?, number(last)?);

            if last >= 1 << 20 {
                return Err(format!("there is no step {last}"));
            }
            if first > last {
                return Err(format!("{part}: the first is after the last"));
            }
            steps.extend(first as usize..=last as usize);
        }
        steps.sort_unstable();
        steps.dedup();
        Ok(Keep(steps))
    }
}

impl fmt::Display for Keep {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, run) in self.0.chunk_by(|a, b| a + 1 == *b).enumerate() {
            let comma = if i == 0 { "" } else { "," };

            match run {
                [one] => write!(f, "{comma}{one}")?,
                [first, .., last] => write!(f, "{comma}{first}-{last}")?,
                [] => (),
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn there_and_back() {
        for text in ["", "0", "3,7-9,12", "0-1023"] {
            assert_eq!(text.parse::<Keep>().expect("parsed").to_string(), text);
        }
        assert_eq!("4,1-2,2".parse(), Ok(Keep(vec![1, 2, 4])));
    }

    #[test]
    fn nonsense_is_refused() {
        for text in ["x", "1-", "-1", "3-2", "0-4294967295", "1048576"] {
            assert!(text.parse::<Keep>().is_err(), "{text}");
        }
    }
}
