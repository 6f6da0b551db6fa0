// SPDX-License-Identifier: GPL-2.0

//! What time limits are multiplied by.

const SCALES: std::ops::RangeInclusive<f64> = 0.1..=1000.0;
const RANGE: &str = "a factor is a number from 0.1 to 1000";

/// A factor, as an argument of a program.
pub fn parse_scale(text: &str) -> Result<f64, String> {
    let scale = text.parse().ok();
    let good = scale.filter(|scale| SCALES.contains(scale));
    good.ok_or_else(|| RANGE.into())
}

/// A factor in a file.
pub(crate) fn deserialize<'de, D: serde::Deserializer<'de>>(
    deserializer: D,
) -> Result<Option<f64>, D::Error> {
    let scale: Option<f64> = serde::Deserialize::deserialize(deserializer)?;
    if scale.is_some_and(|scale| !SCALES.contains(&scale)) {
        return Err(serde::de::Error::custom(RANGE));
    }
    Ok(scale)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn scales_are_checked() {
        assert_eq!(parse_scale("4"), Ok(4.0));
        for wrong in ["0", "-1", "x", "NaN", "inf", ""] {
            assert!(parse_scale(wrong).is_err(), "{wrong}");
        }
    }
}
