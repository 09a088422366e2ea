//! Virtual time: waits of minutes, leases and schedules of days, in milliseconds.

use crate::{clock::Timestamp, pretend, runtime::Runtime};
use std::{future::Future, time::Duration};
use tokio::{
    task::yield_now,
    time::{Instant, sleep},
};

/// What the wall clock shows when a test with virtual time begins: 2026-01-01T00:00:00Z.
const START: i64 = 1_767_225_600_000_000;

/// How many turns all tasks get after time has gone on, so that what is due has begun.
const TURNS: usize = 64;

/// The time of a test with virtual time, by [`time`].
///
/// # Examples
/// ```
/// use railbus::testing;
/// use std::time::Duration;
///
/// #[railbus::test(time = "virtual")]
/// async fn a_day_is_soon_over() {
///     let (time, began) = (testing::time(), testing::time().now());
///     time.advance(Duration::from_secs(86_400)).await;
///     assert_eq!(time.now().since(began).as_secs(), 86_400);
///     time.set_wall_clock("2026-03-29T00:30:00Z".parse().unwrap());
///     assert_eq!(time.now().to_string(), "2026-03-29T00:30:00.000000Z");
/// }
/// # fn main() {}
/// ```
#[derive(Clone, Copy, Debug)]
pub struct Time(());

/// Returns the time of a test with `#[railbus::test(time = "virtual")]`, or of a simulation.
///
/// Its time stands still while anything is ready to run. When all wait, it jumps to what is due
/// next: a retry, the end of a lease, a tick of a schedule. So a test that waits for something takes
/// no longer than what runs, and goes the same way each time. [`Timestamp::now`] goes with it, from
/// 2026-01-01T00:00:00Z on.
///
/// It is the time of tokio and of a bus in memory. What has a clock or threads of its own is not in
/// it: files, servers, other processes; while a test waits for them, its time may run ahead.
///
/// # Examples
/// ```
/// use railbus::{Event, Retry, testing::{self, Recorder}};
/// use std::time::Duration;
///
/// #[railbus::test(time = "virtual")]
/// async fn a_tick_comes_each_night() -> railbus::Result<()> {
///     let (bus, seen) = (testing::bus().await?, Recorder::new());
///     bus.on("night").run(seen.clone()).await?;
///     let nightly = railbus::Schedule::every(Duration::from_secs(86_400))?;
///     let _nightly = bus.schedule("nightly", nightly).event(|_| Event::new("night"))?;
///     testing::time().advance(Duration::from_secs(7 * 86_400)).await;
///     assert_eq!(seen.len(), 7);
///     Ok(())
/// }
/// # fn main() {}
/// ```
///
/// # Panics
/// Panics where time is not virtual.
#[must_use]
#[track_caller]
pub fn time() -> Time {
    assert!(
        pretend::has_wall(),
        "time is not virtual here: write #[railbus::test(time = \"virtual\")]"
    );
    Time(())
}

impl Time {
    /// Lets this much time pass: all that is due meanwhile happens, each at its time.
    ///
    /// # Cancel safety
    /// If it is dropped, time has gone as far as it has.
    pub async fn advance(self, by: Duration) {
        sleep(by).await;
        for _ in 0..TURNS {
            yield_now().await;
        }
    }

    /// Returns what the wall clock shows.
    #[must_use]
    pub fn now(self) -> Timestamp {
        Timestamp::now()
    }

    /// Sets the wall clock, ahead or back, as an administrator may: what sleeps goes on sleeping.
    pub fn set_wall_clock(self, to: Timestamp) {
        pretend::set_wall(Some((Instant::now(), to.as_micros())));
    }
}

/// Runs work in virtual time, where it is no test by itself: for each case of a property, say.
///
/// # Examples
/// ```
/// use railbus::testing;
/// use std::time::Duration;
///
/// let slept = testing::in_virtual_time(async {
///     let began = testing::time().now();
///     tokio::time::sleep(Duration::from_secs(3600)).await;
///     testing::time().now().since(began)
/// });
/// assert_eq!(slept.as_secs(), 3600);
/// ```
///
/// # Panics
/// Panics inside of a runtime, or if there can't be one.
pub fn in_virtual_time<F: Future>(work: F) -> F::Output {
    let before = pretend::wall_now();
    let runtime = match virtual_time(Runtime::current_thread()).start() {
        Ok(runtime) => runtime,
        Err(error) => panic!("{error}"),
    };
    let ended = runtime.block_on(work);
    drop(runtime);
    pretend::set_wall(before);
    ended
}

/// Makes a runtime's time virtual; what `#[railbus::test(time = "virtual")]` expands to.
#[doc(hidden)]
#[must_use]
pub fn virtual_time(runtime: Runtime) -> Runtime {
    runtime.virtual_time(Timestamp::from_micros(START))
}

#[cfg(test)]
mod tests {
    use super::{START, Timestamp};

    #[test]
    fn virtual_time_begins_with_a_year() {
        assert_eq!(Timestamp::from_micros(START).to_string(), "2026-01-01T00:00:00.000000Z");
    }
}
