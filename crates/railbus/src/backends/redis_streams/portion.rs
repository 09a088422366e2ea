//! How many events one read asks for: so many that their bytes stay bounded, and that the answer
//! comes in time, however slow the way is.

use super::claim::BYTES_MAX;

/// What is asked for before anything is known of the events.
const FIRST: usize = 16;

/// How many events one read asks for.
#[derive(Clone, Copy, Debug)]
pub(super) struct Portion {
    most: usize,
}

impl Default for Portion {
    fn default() -> Self {
        Self { most: FIRST }
    }
}

impl Portion {
    /// Returns how many to ask for where there is room for `max`.
    pub(super) fn of(self, max: usize) -> usize {
        max.min(self.most).max(1)
    }

    /// Notes an answer to a read of `asked`.
    pub(super) fn came(&mut self, asked: usize, events: usize, bytes: usize) {
        if events > 0 {
            let fits = BYTES_MAX / (bytes / events).max(1);
            let more = if events >= asked { self.most.saturating_mul(2) } else { self.most };
            self.most = more.min(fits.max(1));
        }
    }

    /// Notes that no answer came, be it that it was too large to come in time. Tells whether less can
    /// be asked for.
    pub(super) fn failed(&mut self) -> bool {
        let less = self.most > 1;
        self.most = (self.most / 2).max(1);
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
    }
}
