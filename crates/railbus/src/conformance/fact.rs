//! What a backend guarantees, told one by one.

use crate::backend::{
    Batch, Broadcast, Capability, Fencing, Keyed, Ordering, Patterns, Release, Replay,
};
use serde_json::Value;
use std::{fmt, time::Duration};

/// One thing that is said of a backend.
#[derive(Clone, Debug, PartialEq)]
pub struct Fact {
    /// Its name in a document.
    pub key: &'static str,
    /// Its name in a table.
    pub title: &'static str,
    /// What is so: a number with a fraction is of seconds, `false` means not at all.
    pub value: Value,
}

impl fmt::Display for Fact {
    /// Writes the value for people.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        const MIB: u64 = 1 << 20;
        match &self.value {
            Value::Bool(yes) => f.write_str(if *yes { "yes" } else { "no" }),
            Value::String(text) => f.write_str(text),
            Value::Number(n) => match n.as_u64() {
                Some(bytes) if bytes >= MIB && bytes % MIB == 0 => write!(f, "{} MiB", bytes / MIB),
                Some(count) => write!(f, "{count}"),
                None => write!(f, "{:?}", Duration::from_secs_f64(n.as_f64().unwrap_or(0.0))),
            },
            other => write!(f, "{other}"),
        }
    }
}

/// Returns what a backend guarantees, each value with its name: what tables and certificates show.
///
/// # Examples
/// ```
/// use railbus::{backends::memory, conformance::{Fact, facts}};
///
/// let facts: Vec<Fact> = facts(&memory::CAPABILITY);
/// let order = facts.iter().find(|fact| fact.key == "ordering").unwrap();
/// assert_eq!((order.title, order.to_string()), ("order", "total".to_owned()));
/// ```
#[must_use]
pub fn facts(c: &Capability) -> Vec<Fact> {
    let fact = |key, title, value| Fact { key, title, value };
    vec![
        fact("delivery", "delivery", delivery(c).into()),
        fact("broadcast", "broadcast", broadcast(c.broadcast).into()),
        fact("groups", "groups", c.groups.into()),
        fact("ordering", "order", ordering(c.ordering).into()),
        fact("keyed", "order by key", keyed(c.keyed).into()),
        fact("delay", "delay of a publish", longest(c.publish_delay_max)),
        fact("retry_delay", "delay of a retry", longest(c.delay_max)),
        fact("lease_min_seconds", "shortest lease", shortest(c.lease_min)),
        fact("withdraws", "withdraws a delayed event", c.withdraws.into()),
        fact("extends", "leases are extended", c.extends.into()),
        fact("lease_max_seconds", "longest lease", longest(c.lease_min.map(|_| most(c.lease_max)))),
        fact("fencing", "lost leases are", fencing(c.fencing).into()),
        fact("release", "giving back costs", release(c.release).into()),
        fact("counts_attempts", "counts attempts", c.counts_attempts.into()),
        fact("dedup_seconds", "one id once, within", longest(c.dedup)),
        fact("patterns", "patterns are matched", patterns(c.patterns).into()),
        fact("replay", "replay", replay(c.replay).into()),
        fact("dead_letters", "dead letters", c.dead_letters.into()),
        fact("keeps_history", "history of tries", c.keeps_history.into()),
        fact("keeps_finished", "outcome by subscription", c.keeps_finished.into()),
        fact("durable", "durable", c.durable.into()),
        fact("positions", "input positions", c.positions.into()),
        fact("journal", "durable runs", c.journal.into()),
        fact("batch", "a batch is", batch(c.batch).into()),
        fact("payload_max_bytes", "largest payload", limit(c.payload_max)),
        fact("metadata_max", "most metadata", limit(c.metadata_max)),
        fact("batch_max", "largest batch", limit(c.batch_max)),
    ]
}

fn delivery(c: &Capability) -> &'static str {
    match (c.broadcast, c.groups) {
        (Broadcast::None, true) => "at least once in a group",
        (Broadcast::None, false) => "none",
        (_, true) => "at least once in a group, else at most once",
        (_, false) => "at most once",
    }
}

fn broadcast(broadcast: Broadcast) -> &'static str {
    match broadcast {
        Broadcast::Inline => "inside the process",
        Broadcast::Live => "every process",
        Broadcast::None => "no",
    }
}

fn ordering(ordering: Ordering) -> &'static str {
    match ordering {
        Ordering::None => "none",
        Ordering::PerKey => "by key",
        Ordering::PerPublisher => "by publisher",
        Ordering::Alike => "total, where members want the same and stay",
        Ordering::Total => "total",
    }
}

fn keyed(keyed: Keyed) -> &'static str {
    match keyed {
        Keyed::None => "no",
        Keyed::Group => "over all members",
    }
}

fn fencing(fencing: Fencing) -> &'static str {
    match fencing {
        Fencing::Checked => "checked by the store",
        Fencing::Deadline => "refused by the clock",
        Fencing::None => "there are none",
    }
}

fn patterns(patterns: Patterns) -> &'static str {
    match patterns {
        Patterns::None => "nowhere",
        Patterns::Client => "by the subscriber",
        Patterns::Store => "by the store",
    }
}

fn replay(replay: Replay) -> &'static str {
    match replay {
        Replay::None => "no",
        Replay::Oldest => "from the oldest",
        Replay::Time => "from a time",
    }
}

fn release(release: Release) -> &'static str {
    match release {
        Release::Free => "nothing",
        Release::CountsAsAttempt => "an attempt",
    }
}

fn batch(batch: Batch) -> &'static str {
    match batch {
        Batch::None => "none",
        Batch::BestEffort => "each event for itself",
        Batch::Atomic => "all or nothing",
    }
}

fn most(longest: Option<Duration>) -> Duration {
    longest.unwrap_or(Duration::MAX)
}

/// Returns the seconds of a bound from above: false if there is no such thing at all.
fn longest(longest: Option<Duration>) -> Value {
    match longest {
        None => false.into(),
        Some(Duration::MAX) => "unlimited".into(),
        Some(bound) => bound.as_secs_f64().into(),
    }
}

fn shortest(shortest: Option<Duration>) -> Value {
    shortest.map_or(false.into(), |bound| bound.as_secs_f64().into())
}

fn limit(n: usize) -> Value {
    if n == usize::MAX { "unlimited".into() } else { n.into() }
}
