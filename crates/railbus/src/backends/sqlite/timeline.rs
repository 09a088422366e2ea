//! The time that leases and delays are counted on: it goes on evenly, whatever the wall clock does.
//!
//! The system counts the time since it was started, suspended or not; nobody can set that clock,
//! and it is the same for all processes. Whoever first opens a store in a boot writes down what to
//! add to it to come to the wall clock of then; all processes of that boot add the same. So a wall
//! clock that is set back or forward moves no lease, no delay, and two processes never disagree.
//! Each boot begins anew at its wall clock, but not before what the timeline is known to have
//! reached: a machine that wakes up in 1970 does not hold everything back for decades.
//!
//! Where the system names no boot (it does on Linux) the wall clock is all there is, and a jump of
//! it moves what is leased or held back.

use crate::clock::Timestamp;
use rusqlite::{Connection, OptionalExtension, Transaction, params};
use std::{fmt::Debug, sync::Arc};

/// How much of the timeline a new boot may not know of, in microseconds, while there are commits.
const NOTE_EVERY: i64 = 1_000_000;

/// What the system tells of time.
pub(super) trait Clocks: Debug + Send + Sync {
    /// Returns the wall clock, in microseconds since 1970.
    fn wall(&self) -> i64;
    /// Returns the microseconds since the boot.
    fn since_boot(&self) -> i64;
    /// Names the boot; none where it has no name that all processes see.
    fn boot(&self) -> Option<String>;
}

/// The clocks of this machine.
#[derive(Debug)]
pub(super) struct System;

impl Clocks for System {
    fn wall(&self) -> i64 {
        Timestamp::now().as_micros()
    }

    #[cfg(target_os = "linux")]
    fn since_boot(&self) -> i64 {
        let time = rustix::time::clock_gettime(rustix::time::ClockId::Boottime);
        time.tv_sec.saturating_mul(1_000_000).saturating_add(time.tv_nsec / 1000)
    }

    #[cfg(not(target_os = "linux"))]
    fn since_boot(&self) -> i64 {
        0
    }

    #[cfg(target_os = "linux")]
    fn boot(&self) -> Option<String> {
        let name = std::fs::read_to_string("/proc/sys/kernel/random/boot_id").ok()?;
        Some(name.trim().to_owned()).filter(|name| !name.is_empty())
    }

    #[cfg(not(target_os = "linux"))]
    fn boot(&self) -> Option<String> {
        None
    }
}

/// The timeline of a store in this boot.
#[derive(Clone, Debug)]
pub(super) struct Timeline {
    clocks: Arc<dyn Clocks>,
    // What to add to the time since the boot; none where the wall clock is all there is.
    base: Option<i64>,
}

impl Timeline {
    /// Joins the timeline of this boot, beginning it if nobody has.
    pub(super) fn join(
        transaction: &Transaction<'_>,
        clocks: Arc<dyn Clocks>,
    ) -> rusqlite::Result<Self> {
        if let Some(begun) = Self::begun(transaction, &clocks)? {
            return Ok(begun);
        }
        let boot = clocks.boot();
        let reached = transaction
            .query_row("SELECT reached FROM timeline", [], |row| row.get::<_, i64>(0))
            .optional()?
            .unwrap_or(i64::MIN);
        let now = clocks.wall().max(reached);
        let base = now.saturating_sub(clocks.since_boot());
        transaction.execute(
            "INSERT OR REPLACE INTO timeline (only, boot, base, reached) VALUES (1, ?1, ?2, ?3)",
            params![boot, base, now],
        )?;
        Ok(Self { clocks, base: Some(base) })
    }

    /// Joins the timeline of this boot if somebody has begun it, without writing.
    pub(super) fn begun(
        connection: &Connection,
        clocks: &Arc<dyn Clocks>,
    ) -> rusqlite::Result<Option<Self>> {
        let clocks = Arc::clone(clocks);
        let Some(boot) = clocks.boot() else { return Ok(Some(Self { clocks, base: None })) };
        let base = connection
            .query_row("SELECT base FROM timeline WHERE boot = ?1", [boot], |row| row.get(0))
            .optional()?;
        Ok(base.map(|base| Self { clocks, base: Some(base) }))
    }

    /// Tells where the timeline is.
    pub(super) fn now(&self) -> Timestamp {
        Timestamp::from_micros(match self.base {
            Some(base) => base.saturating_add(self.clocks.since_boot()),
            None => self.clocks.wall(),
        })
    }

    /// Writes down now and then how far the timeline has come, for the next boot; returns when it
    /// was last written down.
    pub(super) fn note(
        &self,
        transaction: &Transaction<'_>,
        noted: Timestamp,
    ) -> rusqlite::Result<Timestamp> {
        let now = self.now();
        if self.base.is_none() || now.as_micros() - noted.as_micros() < NOTE_EVERY {
            return Ok(noted);
        }
        transaction
            .prepare_cached("UPDATE timeline SET reached = max(reached, ?1)")?
            .execute([now.as_micros()])?;
        Ok(now)
    }
}

/// Clocks that a test sets.
#[cfg(test)]
pub(super) mod fake {
    use super::Clocks;
    use std::sync::{
        Mutex,
        atomic::{AtomicI64, Ordering::Relaxed},
    };

    #[derive(Debug, Default)]
    pub(in super::super) struct Fake {
        wall: AtomicI64,
        since_boot: AtomicI64,
        boot: Mutex<Option<String>>,
    }

    const SECOND: i64 = 1_000_000;

    impl Fake {
        /// Makes the clocks of a boot, in seconds.
        pub(in super::super) fn of(boot: Option<&str>, wall: i64, since_boot: i64) -> Self {
            Self {
                wall: (wall * SECOND).into(),
                since_boot: (since_boot * SECOND).into(),
                boot: Mutex::new(boot.map(Into::into)),
            }
        }

        /// Lets so many seconds pass.
        pub(in super::super) fn pass(&self, seconds: i64) {
            self.wall.fetch_add(seconds * SECOND, Relaxed);
            self.since_boot.fetch_add(seconds * SECOND, Relaxed);
        }

        /// Sets the wall clock to so many seconds.
        pub(in super::super) fn set_wall(&self, seconds: i64) {
            self.wall.store(seconds * SECOND, Relaxed);
        }
    }

    impl Clocks for Fake {
        fn wall(&self) -> i64 {
            self.wall.load(Relaxed)
        }

        fn since_boot(&self) -> i64 {
            self.since_boot.load(Relaxed)
        }

        fn boot(&self) -> Option<String> {
            self.boot.lock().unwrap().clone()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{super::schema::MIGRATIONS, fake::Fake, *};

    fn store() -> Connection {
        let store = Connection::open_in_memory().unwrap();
        MIGRATIONS.iter().for_each(|migration| store.execute_batch(migration).unwrap());
        store
    }

    fn join(store: &mut Connection, clocks: &Arc<Fake>) -> Timeline {
        let transaction = store.transaction().unwrap();
        let clocks: Arc<Fake> = Arc::clone(clocks);
        let timeline = Timeline::join(&transaction, clocks).unwrap();
        transaction.commit().unwrap();
        timeline
    }

    fn note(store: &mut Connection, timeline: &Timeline, noted: Timestamp) -> Timestamp {
        let transaction = store.transaction().unwrap();
        let noted = timeline.note(&transaction, noted).unwrap();
        transaction.commit().unwrap();
        noted
    }

    fn at(seconds: i64) -> Timestamp {
        Timestamp::from_micros(seconds * 1_000_000)
    }

    #[test]
    fn all_of_one_boot_agree_though_the_wall_clock_was_set_between_them() {
        let (mut store, clocks) = (store(), Arc::new(Fake::of(Some("a"), 1000, 7)));
        let one = join(&mut store, &clocks);
        assert_eq!(one.now(), at(1000));
        for wall in [5, 1_000_000] {
            clocks.set_wall(wall);
            let other = join(&mut store, &clocks);
            assert_eq!((one.now(), other.now()), (at(1000), at(1000)));
        }
        clocks.pass(60);
        assert_eq!((one.now(), join(&mut store, &clocks).now()), (at(1060), at(1060)));
    }

    #[test]
    fn another_boot_begins_at_the_wall_clock_of_then() {
        let mut store = store();
        join(&mut store, &Arc::new(Fake::of(Some("a"), 1000, 900)));
        let timeline = join(&mut store, &Arc::new(Fake::of(Some("b"), 5000, 3)));
        assert_eq!(timeline.now(), at(5000));
        let again = join(&mut store, &Arc::new(Fake::of(Some("b"), 9999, 4)));
        assert_eq!(again.now(), at(5001));
    }

    #[test]
    fn another_boot_does_not_begin_before_what_was_reached() {
        let (mut store, clocks) = (store(), Arc::new(Fake::of(Some("a"), 1000, 0)));
        let timeline = join(&mut store, &clocks);
        clocks.pass(500);
        let noted = note(&mut store, &timeline, at(0));
        assert_eq!(noted, at(1500));
        let next = join(&mut store, &Arc::new(Fake::of(Some("b"), 0, 3)));
        assert_eq!(next.now(), at(1500));
        let third = join(&mut store, &Arc::new(Fake::of(Some("c"), 0, 1)));
        assert_eq!(third.now(), at(1500));
    }

    #[test]
    fn what_was_reached_is_written_down_once_a_second() {
        let (mut store, clocks) = (store(), Arc::new(Fake::of(Some("a"), 1000, 0)));
        let timeline = join(&mut store, &clocks);
        let noted = note(&mut store, &timeline, at(0));
        let before = store.total_changes();
        assert_eq!(note(&mut store, &timeline, noted), noted);
        assert_eq!(store.total_changes(), before);
        clocks.pass(1);
        assert_eq!(note(&mut store, &timeline, noted), at(1001));
    }

    #[test]
    fn without_a_boots_name_the_wall_clock_is_all_there_is() {
        let (mut store, clocks) = (store(), Arc::new(Fake::of(None, 1000, 7)));
        let timeline = join(&mut store, &clocks);
        clocks.set_wall(3000);
        assert_eq!(timeline.now(), at(3000));
        assert_eq!(note(&mut store, &timeline, at(0)), at(0));
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn this_machine_names_its_boot_and_counts_from_it() {
        assert_eq!(System.boot().unwrap().len(), 36);
        let before = System.since_boot();
        assert!(before > 0 && System.since_boot() >= before);
    }
}
