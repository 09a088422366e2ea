//! An event's place in the stream: the server's milliseconds, and a number within them.

use crate::{backend::Receipt, clock::Timestamp};
use std::{fmt, str::FromStr, time::Duration};

/// The bits of a receipt's place that number the events of a millisecond.
const SEQ_BITS: u32 = 20;

/// Fences that are drawn begin here, above all that count generations; scripts know numbers up to twice
/// as much.
const DRAWN: u64 = 1 << 52;

/// Draws the fence of leases. A server that has lost what it did last would count the same again; what
/// is drawn here nobody draws again.
pub(super) fn draw() -> u64 {
    DRAWN | rand::random::<u64>() >> 12
}

/// An event's place in the stream.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct Id {
    pub(super) ms: u64,
    pub(super) seq: u64,
}

impl Id {
    /// The place before all events.
    pub(super) const FIRST: Self = Self { ms: 0, seq: 0 };

    /// Returns the place right before the first event of this time or later, in the milliseconds
    /// that the server counts: what was published in the same one is not left out.
    pub(super) fn before(time: Timestamp) -> Self {
        match u64::try_from(time.as_micros()).unwrap_or(0) / 1000 {
            0 => Self::FIRST,
            ms => Self { ms: ms - 1, seq: u64::MAX },
        }
    }

    /// Reads a place as the server writes it.
    pub(super) fn read(text: &[u8]) -> Option<Self> {
        std::str::from_utf8(text).ok()?.parse().ok()
    }

    /// Makes what settles a lease on the event.
    pub(super) fn receipt(self, fence: u64) -> Receipt {
        // A clock that was set back leaves the server in one millisecond for long.
        let fits = self.seq < 1 << SEQ_BITS && self.ms < 1 << (u64::BITS - SEQ_BITS);
        let place = self.ms.wrapping_shl(SEQ_BITS) | (self.seq & ((1 << SEQ_BITS) - 1));
        Receipt { place, fence, token: (!fits).then(|| self.to_string().into()) }
    }

    /// Reads the place out of what settles a lease on it.
    pub(super) fn of(receipt: &Receipt) -> Self {
        let token = receipt.token.as_ref().and_then(|text| text.parse().ok());
        token.unwrap_or(Self {
            ms: receipt.place >> SEQ_BITS,
            seq: receipt.place & ((1 << SEQ_BITS) - 1),
        })
    }
}

/// Returns a duration in the milliseconds that scripts count, rounded up.
pub(super) fn millis(duration: Duration) -> u64 {
    let whole = u64::try_from(duration.as_nanos().div_ceil(1_000_000)).unwrap_or(u64::MAX);
    // What scripts count exactly, with room for the time of day.
    whole.min(1 << 52)
}

/// Room for an id as text.
#[derive(Clone, Copy, Debug)]
pub(super) struct Text([u8; 41]);

impl Default for Text {
    fn default() -> Self {
        Self([b'-'; 41])
    }
}

impl Id {
    /// Writes it without asking for memory, which many at once would.
    pub(super) fn text(self, text: &mut Text) -> &[u8] {
        let mut at = text.0.len();
        at = digits(&mut text.0, at, self.seq) - 1;
        text.0[at] = b'-';
        at = digits(&mut text.0, at, self.ms);
        &text.0[at..]
    }
}

/// Writes a number that ends before `end`; returns where it begins.
fn digits(text: &mut [u8], end: usize, mut number: u64) -> usize {
    let mut at = end;
    loop {
        at -= 1;
        text[at] = b'0' + (number % 10) as u8;
        number /= 10;
        if number == 0 {
            return at;
        }
    }
}

impl fmt::Display for Id {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}", self.ms, self.seq)
    }
}

impl FromStr for Id {
    type Err = ();

    fn from_str(text: &str) -> Result<Self, ()> {
        let (ms, seq) = text.split_once('-').ok_or(())?;
        Ok(Self { ms: ms.parse().map_err(drop)?, seq: seq.parse().map_err(drop)? })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_receipt_leads_back_to_the_place_whatever_the_clock_did() {
        for text in [
            "1732788000000-0",
            "1732788000000-1048575",
            "1732788000000-1048576",
            "0-1",
            "18446744073709551615-18446744073709551615",
        ] {
            let id: Id = text.parse().unwrap();
            let receipt = id.receipt(7);
            assert_eq!((Id::of(&receipt), receipt.fence), (id, 7));
            assert_eq!(id.text(&mut Text::default()), text.as_bytes());
        }
    }

    #[test]
    fn a_time_between_two_milliseconds_begins_with_the_one_it_is_in() {
        let before = |micros| Id::before(Timestamp::from_micros(micros)).to_string();
        assert_eq!(before(5_000), format!("4-{}", u64::MAX));
        assert_eq!(before(5_999), format!("4-{}", u64::MAX));
        assert_eq!(before(0), "0-0");
    }
}
