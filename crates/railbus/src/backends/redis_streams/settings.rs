//! What can be set for a stream, and what it guarantees.

use super::keys::Keys;
use crate::{
    backend::{Batch, Broadcast, Capability, Fencing, Keyed, Ordering, Patterns, Release, Replay},
    backends::{
        checkup::Checkup,
        redis::{
            look::look_with,
            settings::{PREFIX, Server, server_settings},
        },
    },
    codec::Format,
    error::{Error, ErrorKind, Result},
    options::{Options, Setting},
};
use std::{sync::Arc, time::Duration};

/// What the redis-streams backend guarantees.
pub const CAPABILITY: Capability = Capability {
    name: "redis-streams",
    broadcast: Broadcast::Live,
    groups: true,
    ordering: Ordering::Alike,
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
    patterns: Patterns::Client,
    replay: Replay::Time,
    dead_letters: true,
    keeps_finished: true,
    keeps_history: true,
    release: Release::Free,
    batch: Batch::BestEffort,
    positions: true,
    journal: false,
    durable: true,
    payload_max: 16 << 20,
    metadata_max: usize::MAX,
    batch_max: 10_000,
};

/// What can be set in the URL, the table or the map.
pub const SETTINGS: &[Setting] = server_settings![
    Setting {
        key: "prefix",
        help: "what the stream's key begins with, `prefix:stream`; alone, it is the key",
    },
    Setting { key: "stream", help: "the stream's key (default events)" },
    Setting {
        key: "max_len",
        help: "how many events are kept at most, give or take a few thousand for each that publishes; those that a group has not settled are kept beyond it (default: no limit)",
    },
    Setting {
        key: "trim",
        help: "settled (default): what a group has not settled is kept; hard: max_len alone counts, what goes is lost, and retention can't be set",
    },
    Setting {
        key: "format",
        help: "how events are written: cloudevents (default), or plain: a field each, and entries of others are events as well",
    },
    Setting { key: "retention", help: "how long settled events are kept (default 24h)" },
];

/// The settings of one stream, checked.
#[derive(Clone, Debug)]
pub(super) struct Settings {
    pub(super) server: Arc<Server>,
    pub(super) stream: String,
    pub(super) format: Format,
    pub(super) trim: Trim,
}

/// What of the stream's beginning is removed.
#[derive(Clone, Copy, Debug)]
pub(super) struct Trim {
    pub(super) max_len: Option<u64>,
    pub(super) hard: bool,
    pub(super) retention: Duration,
}

impl Settings {
    pub(super) fn read(options: &Options) -> Result<Self> {
        options.check(SETTINGS)?;
        let config = |why: String, key: &'static str, hint: &str| {
            Error::new(ErrorKind::Config, "open redis-streams", why)
                .with("setting", key)
                .hint(hint.to_owned())
        };
        let max_len = options.text("max_len").map(|text| match text.parse::<u64>() {
            Ok(n @ 1..) => Ok(n),
            _ => {
                let why = format!("`{text}` is not a number of events");
                Err(config(why, "max_len", "allowed: a whole number from 1 on, such as 100000"))
            }
        });
        let max_len = max_len.transpose()?;
        let hard = options.one_of("trim", &[("settled", false), ("hard", true)])?.unwrap_or(false);
        if hard && max_len.is_none() {
            let why = "trim = hard trims to max_len, which is not set".into();
            return Err(config(why, "trim", "set `max_len`, or leave `trim` out"));
        }
        if hard && options.text("retention").is_some() {
            let why = "trim = hard trims to max_len alone, and retention is set".into();
            return Err(config(why, "retention", "leave `retention` out, or `trim`"));
        }
        let formats = [("cloudevents", Format::CloudEvents), ("plain", Format::Plain)];
        let format = options.one_of("format", &formats)?.unwrap_or_default();
        let names = [options.text("prefix"), options.text("stream")];
        let stream = match names {
            [Some(prefix), Some(stream)] => format!("{prefix}:{stream}"),
            [one, other] => one.or(other).unwrap_or(PREFIX).to_owned(),
        };
        if stream.is_empty() || stream.contains('\0') || !Keys::fits(&stream) {
            let why = "the name of the stream is empty, or has a NUL or a lone brace".into();
            let hint = "set `stream` or `prefix`, such as events, or {shop}:events to say its slot";
            return Err(config(why, "stream", hint));
        }
        let mut server = Server::read(options)?;
        let Keys { base, wake, .. } = Keys::of(&stream);
        server.needs = format!("~{stream} ~{base}* &{wake}");
        Ok(Self {
            server: Arc::new(server),
            stream,
            format,
            trim: Trim {
                max_len,
                hard,
                retention: options
                    .duration("retention")?
                    .unwrap_or(Duration::from_secs(24 * 60 * 60)),
            },
        })
    }
}

/// Looks at the server; nothing is changed. May block.
pub fn look(options: &Options) -> Checkup {
    look_with(options, SETTINGS, true)
}
