//! Where in a trace something happens. Source: W3C Trace Context, section 3.2.

use crate::id::chance;

/// The length of what version 00 says, and of the part of later versions that is known.
const LENGTH: usize = 55;

/// Which version says nothing.
const INVALID: u8 = 0xff;

/// A `traceparent` that is valid.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct TraceParent {
    /// As it came, without spaces around it.
    text: String,
}

impl TraceParent {
    /// Reads it; none if it is not valid.
    pub(super) fn read(text: &str) -> Option<Self> {
        let text = text.trim_matches([' ', '\t']);
        let bytes = text.as_bytes();
        let known = bytes.get(..LENGTH)?;
        let version = hex(&known[..2])?;
        let dashes = [2, 35, 52].iter().all(|at| known[*at] == b'-');
        let behind = &bytes[LENGTH..];
        let goes_on = match version {
            INVALID => return None,
            0 => behind.is_empty(),
            _ => behind.first().is_none_or(|byte| *byte == b'-'),
        };
        let ids = is_id(&known[3..35]) && is_id(&known[36..52]);
        let valid = dashes && goes_on && ids && hex(&known[53..55]).is_some();
        valid.then(|| Self { text: text.to_owned() })
    }

    /// Makes one of a trace that begins here, which nobody has asked to be kept.
    pub(super) fn root() -> Self {
        Self { text: format!("00-{:032x}-{}-00", chance().max(1), span_id()) }
    }

    /// Makes one of what happens within it, in the version that is known here: the same trace and, of
    /// its flags, whether it is kept.
    pub(super) fn child(&self) -> Self {
        let flags = u8::from(self.is_sampled());
        Self { text: format!("00-{}-{}-{flags:02x}", self.trace_id(), span_id()) }
    }

    pub(super) fn text(&self) -> &str {
        &self.text
    }

    pub(super) fn trace_id(&self) -> &str {
        &self.text[3..35]
    }

    pub(super) fn span_id(&self) -> &str {
        &self.text[36..52]
    }

    pub(super) fn is_sampled(&self) -> bool {
        hex(&self.text.as_bytes()[53..55]).is_some_and(|flags| flags & 1 == 1)
    }
}

/// Reads two hexadecimal digits, in lower case as they must be.
fn hex(digits: &[u8]) -> Option<u8> {
    digits.iter().try_fold(0_u8, |number, digit| {
        let digit = match digit {
            b'0'..=b'9' => digit - b'0',
            b'a'..=b'f' => digit - b'a' + 10,
            _ => return None,
        };
        Some(number << 4 | digit)
    })
}

/// Tells whether these digits are an id: not all of them zero.
fn is_id(digits: &[u8]) -> bool {
    let valid = digits.chunks(2).all(|two| hex(two).is_some());
    valid && digits.iter().any(|digit| *digit != b'0')
}

/// Returns a span's id by chance.
fn span_id() -> String {
    // None of them is of zeros alone.
    format!("{:016x}", (chance() as u64).max(1))
}
