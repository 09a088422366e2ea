//! What can be set for a queue, and what it guarantees.

use crate::{
    backend::{Batch, Broadcast, Capability, Fencing, Keyed, Ordering, Patterns, Release, Replay},
    backends::postgres::{Server, with_server},
    error::{Error, ErrorKind, Result},
    options::{Options, Setting},
};
use std::{sync::Arc, time::Duration};

/// What the postgres-queue backend guarantees.
pub const CAPABILITY: Capability = Capability {
    name: "postgres-queue",
    broadcast: Broadcast::Live,
    groups: true,
    ordering: Ordering::Total,
    keyed: Keyed::Group,
    counts_attempts: true,
    fencing: Fencing::Checked,
    lease_min: Some(Duration::from_millis(100)),
    extends: true,
    lease_max: None,
    delay_max: Some(Duration::MAX),
    publish_delay_max: Some(Duration::MAX),
    withdraws: true,
    delay_step: Duration::from_millis(1),
    dedup: None,
    patterns: Patterns::Store,
    replay: Replay::Time,
    dead_letters: true,
    keeps_finished: true,
    keeps_history: true,
    release: Release::Free,
    batch: Batch::BestEffort,
    positions: true,
    journal: true,
    durable: true,
    payload_max: 16 << 20,
    metadata_max: usize::MAX,
    batch_max: 10_000,
};

/// What can be set in the URL, the table or the map.
pub const SETTINGS: &[Setting] = &with_server::<5, 19>([
    Setting {
        key: "connections",
        help: "how many connections a bus makes at most for its statements (default 4); one more listens, and one is for what fails",
    },
    Setting {
        key: "retention",
        help: "how long settled events are kept, by all that have the queue open (default what was set last, else 24h)",
    },
    Setting {
        key: "journal_retention",
        help: "how long runs of pipelines are kept that have ended (default 720h); as long, their ids aren't run again",
    },
    Setting {
        key: "poll",
        help: "how often a bus that waits looks for events nobody told it of (default 1s, with poll_only 100ms)",
    },
    Setting {
        key: "poll_only",
        help: "true: look for events, and neither LISTEN nor NOTIFY, as behind PgBouncer in transaction mode (default false)",
    },
]);

/// The names of schemas that stand in the functions of the schema itself.
const SCHEMA_RULE: &str = "allowed: 1 to 48 letters, digits and underscores, none of them first a \
                           digit or `pg_`";

/// How long runs of pipelines are kept that have ended.
const JOURNAL_RETENTION: Duration = Duration::from_secs(30 * 24 * 60 * 60);

const OPERATION: &str = "open postgres-queue";

/// The settings of one queue, checked.
#[derive(Clone, Debug)]
pub(super) struct Settings {
    pub(super) server: Arc<Server>,
    /// None: as all that have the queue open share it.
    pub(super) retention: Option<Duration>,
    pub(super) journal_retention: Duration,
    pub(super) poll: Duration,
    pub(super) poll_only: bool,
    pub(super) connections: usize,
}

impl Settings {
    pub(super) fn read(options: &Options) -> Result<Self> {
        if options.text("prefix").is_some() {
            let why = "a queue has no `prefix`";
            return Err(Error::new(ErrorKind::Config, OPERATION, why)
                .hint("set `schema`: queues are apart if their tables are"));
        }
        options.check(SETTINGS)?;
        let server = Server::read(options)?;
        check_schema(OPERATION, &server.schema)?;
        let poll_only =
            options.one_of("poll_only", &[("true", true), ("false", false)])?.unwrap_or(false);
        let poll = options.duration("poll")?;
        if poll.is_some_and(|poll| poll.is_zero()) {
            let why = "a poll of 0 would never rest";
            return Err(Error::new(ErrorKind::Config, OPERATION, why)
                .with("setting", "poll")
                .hint("set 10ms or more"));
        }
        Ok(Self {
            server: Arc::new(server),
            retention: options.duration("retention")?,
            journal_retention: options.duration("journal_retention")?.unwrap_or(JOURNAL_RETENTION),
            poll: poll.unwrap_or(Duration::from_millis(if poll_only { 100 } else { 1000 })),
            poll_only,
            connections: connections(options)?,
        })
    }

    /// Returns the channel on which buses of this schema tell each other that there is work.
    pub(super) fn channel(&self) -> String {
        channel_of(&self.server.schema)
    }

    /// Returns the channel on which the end of runs of this schema is asked for.
    pub(super) fn run_channel(&self) -> String {
        format!("railbus.j.{}", self.server.schema)
    }
}

/// Refuses a schema that no queue can be in.
pub(super) fn check_schema(operation: &'static str, name: &str) -> Result<()> {
    let is_word = name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_');
    let starts = name.starts_with(|c: char| c.is_ascii_digit()) || name.starts_with("pg_");
    if name.is_empty() || !is_word || starts || name.len() > 48 {
        let why = format!("`{}` is not a value of `schema`", name.escape_debug());
        return Err(Error::new(ErrorKind::Config, operation, why).hint(SCHEMA_RULE));
    }
    Ok(())
}

fn connections(options: &Options) -> Result<usize> {
    let Some(text) = options.text("connections") else { return Ok(4) };
    text.parse().ok().filter(|count| (1..=64).contains(count)).ok_or_else(|| {
        Error::new(ErrorKind::Config, OPERATION, format!("`{text}` is not a number of connections"))
            .with("setting", "connections")
            .hint("allowed: a whole number from 1 to 64")
    })
}

/// Returns the channel of a schema.
pub(super) fn channel_of(schema: &str) -> String {
    format!("railbus.q.{schema}")
}

/// Writes a duration as the server counts it, in microseconds; what is longer than all centuries to
/// come is that long.
pub(super) fn micros(duration: Duration) -> i64 {
    i64::try_from(duration.as_micros()).unwrap_or(i64::MAX).min(i64::MAX / 4)
}
