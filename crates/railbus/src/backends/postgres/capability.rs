//! What the backend guarantees, and what can be set for it.

use super::{channels::Channels, keys::with_server, settings::Server};
use crate::{
    backend::{Broadcast, Capability},
    codec::Format,
    error::{Error, ErrorKind, Result},
    options::{Options, Setting},
};
use std::time::Duration;

/// What the postgres backend guarantees.
pub const CAPABILITY: Capability = {
    let mut live = Capability::inline("postgres");
    live.broadcast = Broadcast::Live;
    live.payload_max = 16 << 20;
    live.batch_max = 10_000;
    live
};

/// What can be set in the URL, the table or the map.
pub const SETTINGS: &[Setting] = &ALL;

const ALL: [Setting; 19] = with_server([
    Setting {
        key: "prefix",
        help: "what its channels and tables are for: programs hear each other if they share it (default railbus)",
    },
    Format::SETTING,
    Setting {
        key: "topics",
        help: "with format=plain or dataknobs: the topics that are listened to, joined by commas",
    },
    Setting {
        key: "backlog",
        help: "how many events a bus that is slower than its publishers keeps in memory before it drops new ones (default 65536)",
    },
    Setting {
        key: "spill_retention",
        help: "how long an event of 8000 bytes or more is kept in a table for its listeners (default 10m)",
    },
]);

/// How many bytes of events are kept in memory for a bus that is slower than its publishers.
pub(super) const BACKLOG_BYTES: usize = 64 << 20;

const SPILL_RETENTION: Duration = Duration::from_secs(10 * 60);

/// The settings of one bus, checked.
#[derive(Clone, Debug)]
pub(super) struct Settings {
    pub(super) server: Server,
    pub(super) format: Format,
    pub(super) channels: Channels,
    pub(super) backlog: usize,
    pub(super) spill_retention: Duration,
}

impl Settings {
    pub(super) fn read(options: &Options) -> Result<Self> {
        options.check(SETTINGS)?;
        let backlog = options.text("backlog").map(|text| {
            text.parse::<usize>().ok().filter(|n| *n > 0).ok_or_else(|| {
                let why = format!("`{text}` is not a number of events");
                Error::new(ErrorKind::Config, "open postgres", why)
                    .with("setting", "backlog")
                    .hint("allowed: a whole number from 1 on")
            })
        });
        let (server, format) = (Server::read(options)?, Format::of(options)?);
        Ok(Self {
            channels: Channels::read(options, format, &server.prefix)?,
            server,
            format,
            backlog: backlog.transpose()?.unwrap_or(65_536),
            spill_retention: options.duration("spill_retention")?.unwrap_or(SPILL_RETENTION),
        })
    }
}

/// Checks the settings of a bus, without looking at the server.
///
/// # Errors
/// Returns a config error that names the setting that is unknown or wrong.
pub fn check(options: &Options) -> Result<()> {
    Settings::read(options).map(|_| ())
}
