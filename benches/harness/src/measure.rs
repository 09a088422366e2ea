//! One measurement, and how often a contender does its work in it.

use crate::{Contender, Result, Settings};
use rustix::time::{ClockId, clock_gettime};
use std::time::{Duration, Instant};

/// What one turn of a contender came to.
#[derive(Clone, Copy, Debug)]
pub struct Timed {
    /// How long it took.
    pub elapsed: Duration,
    /// The processor time of the whole process meanwhile.
    pub cpu: Duration,
    /// How many events arrived; it must be as many as were published.
    pub arrived: u64,
}

impl Timed {
    /// Returns the nanoseconds one of `times` events took.
    pub(crate) fn each(&self, times: u64) -> f64 {
        self.elapsed.as_nanos() as f64 / times as f64
    }

    /// Returns the processor's nanoseconds one of `times` events took.
    pub(crate) fn cpu_each(&self, times: u64) -> f64 {
        self.cpu.as_nanos() as f64 / times as f64
    }
}

/// Does the work and times it; it returns how many events arrived.
///
/// # Errors
/// Returns the work's error.
pub fn timed(work: impl FnOnce() -> Result<u64>) -> Result<Timed> {
    let (cpu, began) = (processor(), Instant::now());
    let arrived = work()?;
    Ok(Timed { elapsed: began.elapsed(), cpu: processor().saturating_sub(cpu), arrived })
}

/// Returns the processor time of the process so far.
#[must_use]
pub fn processor() -> Duration {
    let time = clock_gettime(ClockId::ProcessCPUTime);
    Duration::new(time.tv_sec.unsigned_abs(), time.tv_nsec.unsigned_abs() as u32)
}

/// One turn; fails unless every event arrived, once.
pub(crate) fn turn(contender: &mut Contender<'_>, times: u64) -> Result<Timed> {
    let timed = (contender.run)(times)?;
    let expected = times * contender.arrivals;
    if timed.arrived == expected {
        return Ok(timed);
    }
    Err(format!("{}: {} events arrived instead of {expected}", contender.name, timed.arrived)
        .into())
}

/// Returns how many events take about as long as a turn is to last.
pub(crate) fn calibrate(contender: &mut Contender<'_>, settings: &Settings) -> Result<u64> {
    if let Some(times) = contender.times {
        return Ok(times);
    }
    let mut times = 16;
    loop {
        let elapsed = turn(contender, times)?.elapsed;
        if elapsed >= settings.turn / 4 {
            let scale = settings.turn.as_secs_f64() / elapsed.as_secs_f64();
            return Ok(((times as f64 * scale) as u64).max(1));
        }
        times *= 4;
    }
}
