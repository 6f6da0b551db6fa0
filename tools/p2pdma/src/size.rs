// SPDX-License-Identifier: GPL-2.0

//! Sizes as people write and read them.

use std::fmt;

use humansize::{FormatSizeOptions, BINARY};

/// A number of bytes, shown in the largest binary unit.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Size(pub u64);

impl fmt::Display for Size {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let options = FormatSizeOptions::from(BINARY)
            .decimal_places(1)
            .decimal_zeroes(0);
        f.pad(&humansize::format_size(self.0, options))
    }
}

/// Reads a size: `4096`, `64K`, `1M`, `1 MiB`; the units are binary.
pub fn parse(text: &str) -> Result<u64, String> {
    let size = parse_size::Config::new()
        .with_binary()
        .parse_size(text)
        .map_err(|error| format!("{error}; write for example 4096, 64K or 1M"))?;
    match size {
        0 => Err("nothing would be moved".to_owned()),
        size if size % 512 != 0 => {
            Err("not a multiple of 512 bytes, the smallest block".to_owned())
        }
        size => Ok(size),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shows_binary_units() {
        for (size, shown) in [
            (0, "0 B"),
            (512, "512 B"),
            (4096, "4 KiB"),
            (66_977_792, "63.9 MiB"),
            (64 << 20, "64 MiB"),
            (1 << 40, "1 TiB"),
        ] {
            assert_eq!(Size(size).to_string(), shown);
        }
        assert_eq!(format!("{:>8}", Size(4096)), "   4 KiB");
    }

    #[test]
    fn reads_sizes() {
        for (text, size) in [
            ("4096", 4096),
            ("64K", 65536),
            ("1M", 1 << 20),
            ("1 MiB", 1 << 20),
        ] {
            assert_eq!(parse(text), Ok(size));
        }
        for text in [
            "",
            "0",
            "1000",
            "-4096",
            "4Q",
            "1.5",
            "99999999999999999999",
        ] {
            assert!(parse(text).is_err(), "{text}");
        }
    }
}
