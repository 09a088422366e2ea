//! How many events one read asks for: so many that their bytes stay bounded, and that the answer
//! comes in time, however slow the way is.

use super::claim::BYTES_MAX;
use crate::{
    backends::redis::fault::is_cut,
    error::{Error, ErrorKind},
};

/// What is asked for before anything is known of the events.
const FIRST: usize = 16;

/// What is asked for at most once nothing was read for some time: what has come meanwhile may weigh more.
const AFRESH: usize = 64;

/// After how many full answers it is forgotten that too many events were asked for: the way may have
/// been slow, or the server away, for a while only.
const CAREFUL: u32 = 32;

/// How many events one read asks for.
#[derive(Clone, Copy, Debug)]
pub(super) struct Portion {
    most: usize,
    // For how many more full answers more are tried one by one: too many were asked for.
    careful: u32,
    // What an event of the heaviest answer weighed, forgotten slowly.
    each: usize,
    cuts: Cuts,
}

impl Default for Portion {
    fn default() -> Self {
        Self { most: FIRST, careful: 0, each: 1, cuts: Cuts::default() }
    }
}

/// The fewest bytes that are worth a claim of several events: where these don't come, it is one alone.
const ROOM_MIN: usize = 64 << 10;

/// Tells what may have been too large from what has other reasons.
#[derive(Clone, Copy, Debug, Default)]
struct Cuts {
    // Whether the connection broke instead of the answer before this.
    was_cut: bool,
}

impl Cuts {
    /// Notes that there was no answer; tells whether it may have been too large: it did not come in
    /// time, or the connection broke twice in a row before it had come. Once is what a server does that
    /// is started again; whoever limits answers ends the connection each time.
    fn failed(&mut self, error: &Error) -> bool {
        let is_again = self.was_cut;
        self.was_cut = is_cut(error);
        error.kind() == ErrorKind::Timeout || (self.was_cut && is_again)
    }
}

/// How many bytes of events one claim takes at most: less, where answers of that size don't come.
#[derive(Clone, Copy, Debug)]
pub(super) struct Room {
    bytes: usize,
    cuts: Cuts,
}

impl Default for Room {
    fn default() -> Self {
        Self { bytes: BYTES_MAX, cuts: Cuts::default() }
    }
}

impl Room {
    /// Returns for how many bytes to ask; the last event may be one over.
    pub(super) fn bytes(self) -> usize {
        self.bytes
    }

    /// Notes an answer.
    pub(super) fn came(&mut self) {
        self.cuts = Cuts::default();
        self.bytes = self.bytes.saturating_add(self.bytes / 32 + 1024).min(BYTES_MAX);
    }

    /// Notes that there was no answer, which may have been too large. Tells whether it may come yet, as
    /// it is or with less room.
    pub(super) fn failed(&mut self, error: &Error) -> bool {
        if !self.cuts.failed(error) {
            return true;
        }
        let less = self.bytes > 1;
        let half = self.bytes / 2;
        self.bytes = if half < ROOM_MIN { 1 } else { half };
        less
    }
}

impl Portion {
    /// Returns how many to ask for where there is room for `max`.
    pub(super) fn of(self, max: usize) -> usize {
        max.min(self.most).max(1)
    }

    /// Notes that nothing was read for some time.
    pub(super) fn afresh(&mut self) {
        self.most = self.most.min(AFRESH);
    }

    /// Notes an answer to a read of `asked`.
    pub(super) fn came(&mut self, asked: usize, events: usize, bytes: usize) {
        self.cuts = Cuts::default();
        if let Some(each) = bytes.checked_div(events) {
            self.each = each.max(self.each.saturating_sub(self.each / 32 + 1)).max(1);
            let fits = BYTES_MAX / self.each;
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

    /// Notes that there was no answer, which may have been too large. Tells whether it may come yet, as
    /// it is or with less asked for.
    pub(super) fn failed(&mut self, error: &Error) -> bool {
        if !self.cuts.failed(error) {
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
        for _ in 0..400 {
            let asked = portion.of(10_000);
            portion.came(asked, asked, asked * 10);
        }
        assert_eq!(portion.of(10_000), 10_000, "it was too much for a while only");
    }

    #[test]
    fn what_weighed_much_lately_may_come_again_and_what_came_meanwhile_is_not_known() {
        let mut portion = Portion::default();
        let full = |portion: &mut Portion, each| {
            let asked = portion.of(10_000);
            portion.came(asked, asked, asked * each);
        };
        (0..20).for_each(|_| full(&mut portion, 100));
        assert_eq!(portion.of(10_000), 10_000);
        full(&mut portion, 1 << 20);
        (0..10).for_each(|_| full(&mut portion, 100));
        assert!(portion.of(10_000) < 16, "one large event among small ones is no reason for more");
        (0..400).for_each(|_| full(&mut portion, 100));
        assert_eq!(portion.of(10_000), 10_000);
        portion.afresh();
        assert_eq!(portion.of(10_000), AFRESH);
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

    fn cut() -> Error {
        let broken = std::io::Error::from(std::io::ErrorKind::BrokenPipe);
        of(ErrorKind::Unavailable).because(redis::RedisError::from(broken))
    }

    #[test]
    fn what_breaks_its_connection_twice_in_a_row_is_asked_for_in_smaller_parts() {
        let mut portion = Portion::default();
        for _ in 0..3 {
            assert!(portion.failed(&cut()), "a server may be started again now and then");
            portion.came(FIRST, 0, 0);
        }
        assert_eq!(portion.of(1000), FIRST);
        let failures: Vec<_> = (0..6).map(|_| portion.failed(&cut())).collect();
        assert_eq!(failures, [true, true, true, true, true, false], "one alone does not come");
        assert_eq!(portion.of(1000), 1);
    }

    #[test]
    fn a_claim_has_less_room_while_its_answers_do_not_come() {
        let mut room = Room::default();
        assert!(room.failed(&cut()));
        assert_eq!(room.bytes(), BYTES_MAX);
        assert!(room.failed(&cut()) && room.failed(&of(ErrorKind::Timeout)));
        assert_eq!(room.bytes(), BYTES_MAX / 4);
        (0..60).for_each(|_| room.came());
        assert_eq!(room.bytes(), BYTES_MAX);
        let failures = (0..20).take_while(|_| room.failed(&cut())).count();
        assert_eq!((failures, room.bytes()), (9, 1), "one alone does not come");
        room.came();
        assert!(room.failed(&of(ErrorKind::Unavailable)), "the server is away");
    }
}
