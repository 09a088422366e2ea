//! What a server that was killed may have forgotten.

use super::history::{Record, What};
use std::time::Duration;

/// How long before a crash of the server a lease may be that it forgets: what a lease is lost for is a
/// delivery more, so stores don't wait for the disk with it. What is written "every second" may stay in
/// memory for two: it is put off while the last one is on its way to the disk. What was confirmed is not
/// forgotten.
const FORGOTTEN: Duration = Duration::from_secs(2);

/// A crash of the server: between these times.
pub(super) struct Crash(Duration, Duration);

impl Crash {
    /// Tells whether a lease that began then may be forgotten when a later delivery comes.
    pub(super) fn forgets(&self, since: Duration, next: Duration) -> bool {
        since + FORGOTTEN >= self.0 && since <= self.1 && self.0 <= next
    }
}

/// Lists the crashes of a history.
pub(super) fn crashes(records: &[Record]) -> Vec<Crash> {
    let crashed = records.iter().filter(|record| matches!(record.what, What::Crashed));
    crashed.map(|record| Crash(record.begun, record.ended)).collect()
}
