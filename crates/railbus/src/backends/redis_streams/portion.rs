//! How many events one read asks for: so many that their bytes stay bounded, and that the answer
//! comes in time, however slow the way is.

use super::claim::BYTES_MAX;

/// What is asked for before anything is known of the events.
const FIRST: usize = 16;

/// How many events one read asks for.
#[derive(Clone, Copy, Debug)]
pub(super) struct Portion {
    most: usize,
    // Whether too many were asked for once: then more are tried one by one.
    careful: bool,
}

impl Default for Portion {
    fn default() -> Self {
        Self { most: FIRST, careful: false }
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
                true => self.most + 1,
                false => self.most.saturating_mul(2),
            };
            self.most = more.min(fits.max(1));
        }
    }

    /// Notes that no answer came, be it that it was too large to come in time. Tells whether less can
    /// be asked for.
    pub(super) fn failed(&mut self) -> bool {
        let less = self.most > 1;
        (self.most, self.careful) = ((self.most / 2).max(1), true);
        less
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_grows_while_answers_are_full_and_shrinks_with_what_they_weigh() {
        let mut portion = Portion::default();
        assert_eq!((portion.of(4), portion.of(1000)), (4, FIRST));
        portion.came(FIRST, FIRST, 1600);
        portion.came(2 * FIRST, 3, 300);
        assert_eq!(portion.of(1000), 2 * FIRST, "an answer that was not full says nothing");
        portion.came(2 * FIRST, 2 * FIRST, BYTES_MAX * 8);
        assert_eq!(portion.of(1000), 4);
        assert!(portion.failed() && portion.failed() && !portion.failed());
        assert_eq!(portion.of(1000), 1, "one is always asked for");
        portion.came(1, 1, 10);
        portion.came(2, 2, 20);
        assert_eq!(portion.of(1000), 3, "what was too much once is not doubled any more");
    }
}
