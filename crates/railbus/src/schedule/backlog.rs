//! What is due now, and what of it is published.

use super::{
    tick::{Missed, Tick},
    value::Schedule,
};
use crate::clock::Timestamp;
use std::{collections::VecDeque, time::Duration};

/// How late a tick may be without counting as missed.
const ON_TIME: Duration = Duration::from_secs(60);

/// How many missed ticks are made up for at most.
const MISSED_MAX: usize = 1000;

/// How far back is looked for the latest ticks, step by step: as far as needed, so that a year of
/// ticks is not counted through to find the last.
const WINDOWS: [Duration; 6] = [
    Duration::from_millis(100),
    Duration::from_secs(2),
    Duration::from_secs(60),
    Duration::from_secs(60 * 60),
    Duration::from_secs(24 * 60 * 60),
    Duration::from_secs(32 * 24 * 60 * 60),
];

/// What a schedule has at a time.
#[derive(Debug, PartialEq)]
pub(crate) enum Due {
    /// These ticks are published, and with them all up to the `through` are dealt with.
    Now { ticks: Vec<Tick>, through: Tick, late: Duration },
    /// Nothing before this time.
    At(Timestamp),
    /// Nothing any more.
    Never,
}

/// Returns what is due at `now` of the ticks after `passed`.
pub(crate) fn due(schedule: &Schedule, name: &str, passed: Timestamp, now: Timestamp) -> Due {
    let (jitter, missed) = schedule.policy();
    let most = if missed == Missed::All { MISSED_MAX } else { 1 };
    // Up to here all are due, whatever their jitter.
    let micros = i64::try_from(jitter.as_micros()).unwrap_or(i64::MAX);
    let sure = Timestamp::from_micros(now.as_micros().saturating_sub(micros));
    let mut ticks = latest(schedule, passed, sure, most);
    let mut cursor = ticks.back().map_or(passed.max(sure), |tick| tick.at());
    let next = loop {
        let Some(tick) = schedule.after(cursor) else { break None };
        let at = schedule.due(name, tick);
        if at > now {
            break Some(at);
        }
        cursor = tick.at();
        ticks.push_back(tick);
        if ticks.len() > most {
            ticks.pop_front();
        }
    };
    let Some(through) = ticks.back().copied() else {
        return next.map_or(Due::Never, Due::At);
    };
    let late = now.since(schedule.due(name, through));
    if missed == Missed::Skip && late > ON_TIME {
        ticks.clear();
    }
    Due::Now { ticks: ticks.into(), through, late }
}

/// Returns the latest ticks, at most `most`, after `from` and not after `to`.
fn latest(schedule: &Schedule, from: Timestamp, to: Timestamp, most: usize) -> VecDeque<Tick> {
    let back = |window: &Duration| {
        let micros = i64::try_from(window.as_micros()).unwrap_or(i64::MAX);
        Timestamp::from_micros(to.as_micros().saturating_sub(micros)).max(from)
    };
    let mut ticks = VecDeque::new();
    for start in WINDOWS.iter().map(back).chain([from]) {
        ticks.clear();
        let mut cursor = start;
        while let Some(tick) = schedule.after(cursor).filter(|tick| tick.at() <= to) {
            cursor = tick.at();
            ticks.push_back(tick);
            if ticks.len() > most {
                ticks.pop_front();
            }
        }
        if ticks.len() >= most || start == from {
            break;
        }
    }
    ticks
}
