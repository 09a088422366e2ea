//! `railbus backends`: the table of backends, as the library states it.

use super::OK;
use crate::output;
use railbus::{
    backend::{Batch, Broadcast, Capability, Fencing, Keyed, Ordering, Patterns, Release, Replay},
    backends::{Row, TABLE},
    error::Result,
};
use serde_json::{Map, Value, json};
use std::time::Duration;

/// What is said of a backend: its name in a document, its name in the table, and what.
type Fact = (&'static str, &'static str, Value);

/// What the library knows and this program has no words for.
const OTHER: &str = "other";

pub(super) fn backends(json: bool) -> Result<u8> {
    if json {
        output::lines(TABLE.iter().map(document))?;
        return Ok(OK);
    }
    // A column each: they are few, and what is said of them is much.
    let mut head = vec![""];
    head.extend(TABLE.iter().map(|row| row.scheme));
    let facts: Vec<Vec<Fact>> = TABLE.iter().map(facts).collect();
    let titles = facts.first().into_iter().flatten().map(|(_, title, _)| title);
    let rows = titles.enumerate().map(|(i, title)| {
        let values = facts.iter().filter_map(|of| of.get(i)).map(|(_, _, value)| text(value));
        std::iter::once((*title).to_owned()).chain(values).collect()
    });
    output::line(&output::table(&head, rows.collect()))?;
    for row in TABLE.iter().filter(|row| !row.settings.is_empty()) {
        let settings = row.settings.iter().map(|s| format!("  {}  {}", s.key, s.help));
        output::lines([format!("\nsettings of {}:", row.scheme)].into_iter().chain(settings))?;
    }
    Ok(OK)
}

fn document(row: &Row) -> String {
    let mut map = Map::from_iter([("scheme".to_owned(), row.scheme.into())]);
    map.extend(facts(row).into_iter().map(|(key, _, value)| (key.to_owned(), value)));
    let settings = row.settings.iter().map(|s| json!({ "key": s.key, "help": s.help }));
    map.insert("settings".into(), settings.collect());
    Value::Object(map).to_string()
}

fn facts(row: &Row) -> Vec<Fact> {
    let c = row.capability;
    vec![
        ("example", "address", row.example.into()),
        ("delivery", "delivery", delivery(c).into()),
        ("broadcast", "broadcast", broadcast(c.broadcast).into()),
        ("groups", "groups", c.groups.into()),
        ("ordering", "order", ordering(c.ordering).into()),
        ("keyed", "order by key", keyed(c.keyed).into()),
        ("delay", "delay of a publish", longest(c.publish_delay_max)),
        ("withdraws", "withdraws a delayed event", c.withdraws.into()),
        ("retry_delay", "delay of a retry", longest(c.delay_max)),
        ("lease_min_seconds", "shortest lease", shortest(c.lease_min)),
        ("extends", "leases are extended", c.extends.into()),
        ("lease_max_seconds", "longest lease", longest(c.lease_min.map(|_| most(c.lease_max)))),
        ("fencing", "lost leases are", fencing(c.fencing).into()),
        ("release", "giving back costs", release(c.release).into()),
        ("counts_attempts", "counts attempts", c.counts_attempts.into()),
        ("dedup_seconds", "one id once, within", longest(c.dedup)),
        ("patterns", "patterns are matched", patterns(c.patterns).into()),
        ("replay", "replay", replay(c.replay).into()),
        ("dead_letters", "dead letters", c.dead_letters.into()),
        ("keeps_history", "history of tries", c.keeps_history.into()),
        ("keeps_finished", "outcome by subscription", c.keeps_finished.into()),
        ("durable", "durable", c.durable.into()),
        ("positions", "input positions", c.positions.into()),
        ("journal", "durable runs", c.journal.into()),
        ("batch", "a batch is", batch(c.batch).into()),
        ("payload_max_bytes", "largest payload", limit(c.payload_max)),
        ("metadata_max", "most metadata", limit(c.metadata_max)),
        ("batch_max", "largest batch", limit(c.batch_max)),
    ]
}

/// Says in one line what a backend guarantees.
pub(super) fn summary(row: &Row) -> String {
    const TOLD: [&str; 8] = [
        "delivery",
        "broadcast",
        "groups",
        "delay",
        "lease_min_seconds",
        "replay",
        "dead_letters",
        "durable",
    ];
    let facts = facts(row);
    let said = facts.iter().filter(|(key, ..)| TOLD.contains(key));
    said.map(|(_, title, value)| format!("{title}: {}", text(value))).collect::<Vec<_>>().join("; ")
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
        _ => OTHER,
    }
}

fn ordering(ordering: Ordering) -> &'static str {
    match ordering {
        Ordering::None => "none",
        Ordering::PerKey => "by key",
        Ordering::PerPublisher => "by publisher",
        Ordering::Total => "total",
        _ => OTHER,
    }
}

fn keyed(keyed: Keyed) -> &'static str {
    match keyed {
        Keyed::None => "no",
        Keyed::Group => "over all members",
        _ => OTHER,
    }
}

fn fencing(fencing: Fencing) -> &'static str {
    match fencing {
        Fencing::Checked => "checked by the store",
        Fencing::Deadline => "refused by the clock",
        Fencing::None => "there are none",
        _ => OTHER,
    }
}

fn patterns(patterns: Patterns) -> &'static str {
    match patterns {
        Patterns::None => "nowhere",
        Patterns::Client => "by the subscriber",
        Patterns::Store => "by the store",
        _ => OTHER,
    }
}

fn replay(replay: Replay) -> &'static str {
    match replay {
        Replay::None => "no",
        Replay::Oldest => "from the oldest",
        Replay::Time => "from a time",
        _ => OTHER,
    }
}

fn release(release: Release) -> &'static str {
    match release {
        Release::Free => "nothing",
        Release::CountsAsAttempt => "an attempt",
        _ => OTHER,
    }
}

fn batch(batch: Batch) -> &'static str {
    match batch {
        Batch::None => "none",
        Batch::BestEffort => "each event for itself",
        Batch::Atomic => "all or nothing",
        _ => OTHER,
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

/// Writes a fact for people: numbers with a fraction are seconds, whole ones counts.
fn text(value: &Value) -> String {
    const MIB: u64 = 1 << 20;
    match value {
        Value::Bool(yes) => if *yes { "yes" } else { "no" }.into(),
        Value::String(text) => text.clone(),
        Value::Number(n) => match n.as_u64() {
            Some(bytes) if bytes >= MIB && bytes % MIB == 0 => format!("{} MiB", bytes / MIB),
            Some(count) => count.to_string(),
            None => format!("{:?}", Duration::from_secs_f64(n.as_f64().unwrap_or(0.0))),
        },
        other => other.to_string(),
    }
}
