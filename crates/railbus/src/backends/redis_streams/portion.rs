//! How many events one read asks for: so many that their bytes stay bounded, and that the answer
//! comes in time, however slow the way is.

use super::claim::BYTES_MAX;
use crate::error::{Error, ErrorKind};

/// What is asked for before anything is known of the events.
const FIRST: usize = 16;

/// After how many full answers it is forgotten that too many events were asked for: the way may have
/// been slow, or the server away, for a while only.
const CAREFUL: u32 = 32;

/// How many events one read asks for.
#[derive(Clone, Copy, Debug)]
pub(super) struct Portion {
    most: usize,
    // For how many more full answers more are tried one by one: too many were asked for.
    careful: u32,
}

impl Default for Portion {
    fn default() -> Self {
        Self { most: FIRST, careful: 0 }
    }
}

impl Portion {
    /// Returns how many to ask for where there is room for `max`.
    pub(super) fn of(self, max: usize) -> usize {
        max.min(self.most).max(1)
    }

    /// Notes an answer to a read of `asked`.
    pub(super) fn came(&mut self, asked: usize, events: usize, bytes: usize) {
        if let Some(each) = bytes.checked_div(events) {
            let fits = BYTES_MAX / each.max(1);
            let more = match self.careful {
                _ if events < asked => self.most,
                0 => self.most.saturating_mul(2),
                _ => {
                    self.careful -= 1;
                    self.most + 1
                }
            };
            self.most = more.min(fits.max(1));
        }
    }

    /// Notes that there was no answer: one that did not come in time may have been too large. Tells
    /// whether it may come yet, as it is or with less asked for.
    pub(super) fn failed(&mut self, error: &Error) -> bool {
        if error.kind() != ErrorKind::Timeout {
            return true;
        }
        let less = self.most > 1;
        (self.most, self.careful) = ((self.most / 2).max(1), CAREFUL);
        less
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(kind: ErrorKind) -> Error {
        Error::new(kind, "fetch", "no answer")
    }

    #[test]
    fn it_grows_while_answers_are_full_and_shrinks_with_what_they_weigh() {
        let mut portion = Portion::default();
        assert_eq!((portion.of(4), portion.of(1000)), (4, FIRST));
        portion.came(FIRST, FIRST, 1600);
        portion.came(2 * FIRST, 3, 300);
        assert_eq!(portion.of(1000), 2 * FIRST, "an answer that was not full says nothing");
        portion.came(2 * FIRST, 2 * FIRST, BYTES_MAX * 8);
        assert_eq!(portion.of(1000), 4);
        let late = of(ErrorKind::Timeout);
        assert!(portion.failed(&late) && portion.failed(&late) && !portion.failed(&late));
        assert_eq!(portion.of(1000), 1, "one is always asked for");
        portion.came(1, 1, 10);
        portion.came(2, 2, 20);
        assert_eq!(portion.of(1000), 3, "what was too much is not doubled at once");
        for _ in 0..60 {
            let asked = portion.of(10_000);
            portion.came(asked, asked, asked * 10);
        }
        assert_eq!(portion.of(10_000), 10_000, "it was too much for a while only");
    }

    #[test]
    fn a_server_that_is_away_says_nothing_of_what_was_asked_for() {
        let mut portion = Portion::default();
        for kind in [ErrorKind::Unavailable, ErrorKind::Denied, ErrorKind::Internal] {
            assert!(portion.failed(&of(kind)));
        }
        portion.came(FIRST, FIRST, 1600);
        assert_eq!(portion.of(1000), 2 * FIRST);
    }
}
