//! Taking apart what a read answers, as it came.

use bytes::Bytes;

/// An answer, and how far it was read.
pub(super) struct Frame<'a> {
    bytes: &'a Bytes,
    at: usize,
}

impl<'a> Frame<'a> {
    pub(super) fn new(bytes: &'a Bytes) -> Self {
        Self { bytes, at: 0 }
    }

    /// Reads the line of this kind and the number on it; none if it is of another.
    pub(super) fn count(&mut self, kind: u8) -> Option<usize> {
        let rest = self.bytes.get(self.at..)?;
        if rest.first() != Some(&kind) {
            return None;
        }
        let mut number = 0_usize;
        for (place, byte) in rest.iter().enumerate().skip(1) {
            match byte {
                b'0'..=b'9' => {
                    number = number.checked_mul(10)?.checked_add(usize::from(byte - b'0'))?;
                }
                b'\r' => {
                    self.at += place + 2;
                    return Some(number);
                }
                _ => return None,
            }
        }
        None
    }

    /// Reads a string of bytes: from where to where it goes.
    pub(super) fn text(&mut self) -> Option<&'a [u8]> {
        let length = self.count(b'$')?;
        let text = self.bytes.get(self.at..self.at.checked_add(length)?)?;
        self.at += length + 2;
        Some(text)
    }

    /// Skips a null; false if there is something else.
    pub(super) fn null(&mut self) -> bool {
        let rest = self.bytes.get(self.at..).unwrap_or_default();
        let length = [&b"_\r\n"[..], b"*-1\r\n", b"$-1\r\n"]
            .into_iter()
            .find_map(|null| rest.starts_with(null).then_some(null.len()));
        self.at += length.unwrap_or(0);
        length.is_some()
    }
}
