//! Sizes as people write them.

use crate::error::{Error, ErrorKind, Result};

/// What may follow a number, and how many bytes it stands for.
const UNITS: [(&str, u64); 9] = [
    ("b", 1),
    ("kb", 1000),
    ("mb", 1000 * 1000),
    ("gb", 1000 * 1000 * 1000),
    ("tb", 1000 * 1000 * 1000 * 1000),
    ("kib", 1 << 10),
    ("mib", 1 << 20),
    ("gib", 1 << 30),
    ("tib", 1 << 40),
];

/// Reads a size: a whole number of bytes, or one with a unit, such as `64MiB` or `1 GB`.
pub(super) fn parse_size(text: &str) -> Result<u64> {
    let wrong = || {
        Error::new(ErrorKind::Config, "size", format!("`{text}` is not a size"))
            .hint("write a whole number of bytes, or one with a unit: 1048576, 500kB, 64MiB, 2GiB")
    };
    let text = text.trim();
    let end = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let (number, unit) = text.split_at(end);
    let unit = unit.trim_start().to_ascii_lowercase();
    let of_unit = UNITS.iter().find(|(name, _)| *name == unit).map(|(_, bytes)| *bytes);
    let bytes = of_unit.or_else(|| unit.is_empty().then_some(1)).ok_or_else(wrong)?;
    let number = number.parse::<u64>().map_err(|e| wrong().because(e))?;
    number.checked_mul(bytes).ok_or_else(wrong)
}

#[cfg(test)]
mod tests {
    use super::parse_size;

    #[test]
    fn a_size_is_a_number_of_bytes_or_has_a_unit() {
        let sizes = [
            ("0", 0),
            ("1048576", 1 << 20),
            ("1MiB", 1 << 20),
            (" 64 mib ", 64 << 20),
            ("500kB", 500_000),
            ("2GB", 2_000_000_000),
            ("2GiB", 2 << 30),
            ("1TiB", 1 << 40),
            ("7B", 7),
            ("18446744073709551615", u64::MAX),
        ];
        for (text, bytes) in sizes {
            assert_eq!(parse_size(text).unwrap(), bytes, "{text}");
        }
        // What could be a thousand or 1,024 is not guessed.
        let odd = [
            "",
            "MiB",
            "-1",
            "1.5MiB",
            "1M",
            "1k",
            "1 MiB x",
            "18446744073709551616",
            "20000000TiB",
        ];
        for text in odd {
            let said = parse_size(text).unwrap_err();
            assert!(said.advice().unwrap().contains("64MiB"), "{text}: {said}");
        }
    }
}
