//! What can be set for a store, and what it guarantees.

use crate::{
    backend::{Batch, Broadcast, Capability, Fencing, Keyed, Ordering, Patterns, Release, Replay},
    error::{Error, ErrorKind, Result},
    options::{Options, Setting, redact},
};
use std::{
    path::{Path, PathBuf},
    time::Duration,
};

/// What the sqlite backend guarantees.
pub const CAPABILITY: Capability = Capability {
    name: "sqlite",
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
pub const SETTINGS: &[Setting] = &[
    Setting {
        key: "synchronous",
        help: "full (default): an Ok survives power loss; normal: faster, an Ok survives a crash of the process but the last ones may go with the power",
    },
    Setting { key: "retention", help: "how long settled events are kept (default 24h)" },
    Setting {
        key: "journal_retention",
        help: "how long runs of pipelines are kept that have ended (default 720h); as long, their ids aren't run again",
    },
    Setting {
        key: "busy_timeout",
        help: "how long to wait for another process that holds the file and does not come to an end (default 10s)",
    },
    Setting {
        key: "max_size",
        help: "the file's largest size, such as 64MiB, or in bytes (default unlimited)",
    },
];

/// Shows the file's path in messages, which may be a URL with a password that was meant for a
/// server.
pub(super) fn shown(path: &Path) -> String {
    redact(&path.display().to_string())
}

/// The longest wait for other processes; SQLite counts it in an `int` of milliseconds.
const BUSY_TIMEOUT_MAX: Duration = Duration::from_secs(60 * 60);

/// How long runs are kept that have ended: 30 days.
const JOURNAL_RETENTION: Duration = Duration::from_secs(30 * 24 * 60 * 60);

/// The settings of one store, checked.
#[derive(Clone, Debug)]
pub(super) struct Settings {
    pub(super) path: PathBuf,
    pub(super) full_sync: bool,
    pub(super) retention: Duration,
    pub(super) journal_retention: Duration,
    pub(super) busy_timeout: Duration,
    pub(super) max_size: Option<u64>,
}

impl Settings {
    pub(super) fn read(options: &Options) -> Result<Self> {
        options.check(SETTINGS)?;
        if options.address().is_empty() {
            let why = "the path of the database file is missing";
            return Err(Error::new(ErrorKind::Config, "open sqlite", why)
                .hint("write sqlite:PATH, such as sqlite:orders.db"));
        }
        let busy_timeout = options.duration("busy_timeout")?.unwrap_or(Duration::from_secs(10));
        if busy_timeout > BUSY_TIMEOUT_MAX {
            let why = format!("a busy_timeout of {busy_timeout:?} is too long");
            return Err(Error::new(ErrorKind::Config, "open sqlite", why)
                .with("setting", "busy_timeout")
                .hint(format!("set at most {BUSY_TIMEOUT_MAX:?}")));
        }
        Ok(Self {
            path: options.address().into(),
            full_sync: options
                .one_of("synchronous", &[("full", true), ("normal", false)])?
                .unwrap_or(true),
            retention: options.duration("retention")?.unwrap_or(Duration::from_secs(24 * 60 * 60)),
            journal_retention: options.duration("journal_retention")?.unwrap_or(JOURNAL_RETENTION),
            busy_timeout,
            max_size: options.size("max_size")?,
        })
    }
}
