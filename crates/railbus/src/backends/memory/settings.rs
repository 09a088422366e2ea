//! What can be set for memory, and what it guarantees.

use crate::{
    backend::{Batch, Broadcast, Capability, Fencing, Keyed, Ordering, Patterns, Release, Replay},
    error::{Error, ErrorKind, Result},
    options::{Options, Setting},
};
use std::time::Duration;

/// What the memory backend guarantees.
pub const CAPABILITY: Capability = Capability {
    name: "memory",
    broadcast: Broadcast::Inline,
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
    replay: Replay::None,
    dead_letters: true,
    keeps_finished: true,
    keeps_history: true,
    release: Release::Free,
    batch: Batch::BestEffort,
    positions: false,
    journal: false,
    durable: false,
    payload_max: usize::MAX,
    metadata_max: usize::MAX,
    batch_max: usize::MAX,
};

/// What can be set.
pub const SETTINGS: &[Setting] = &[
    Setting {
        key: "wire",
        help: "lazy (default): payloads are handed on as they are; always: encoded and decoded on the way, as a server would",
    },
    Setting {
        key: "queue",
        help: "how many unsettled events a group holds before publish waits for room, or inside a handler is refused (default 10000)",
    },
];

/// How many unsettled events a group holds unless it is said.
const QUEUE: usize = 10_000;

/// When payloads are turned into bytes on their way to a handler of the same process.
#[non_exhaustive]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Wire {
    /// Never: handlers get the value that was published.
    #[default]
    Lazy,
    /// Always, so that what passes here passes on a server too.
    Always,
}

/// The settings of one memory, checked.
#[derive(Clone, Copy, Debug)]
pub(super) struct Settings {
    pub(super) wire: Wire,
    pub(super) queue: usize,
}

impl Default for Settings {
    fn default() -> Self {
        Self { wire: Wire::Lazy, queue: QUEUE }
    }
}

impl Settings {
    pub(super) fn read(options: &Options) -> Result<Self> {
        options.check(SETTINGS)?;
        if !options.address().is_empty() {
            let why = "memory has no address";
            return Err(Error::new(ErrorKind::Config, "open memory", why)
                .hint("write memory: alone; for a file, sqlite:PATH"));
        }
        let wires = [("lazy", Wire::Lazy), ("always", Wire::Always)];
        let wire = options.one_of("wire", &wires)?.unwrap_or_default();
        let queue = match options.text("queue") {
            None => QUEUE,
            Some(text) => text.parse().ok().filter(|n| *n > 0).ok_or_else(|| {
                let why = format!("`{text}` is not a value of `queue`");
                Error::new(ErrorKind::Config, "options", why)
                    .hint("allowed: a whole number of events from 1 on, such as 10000")
            })?,
        };
        Ok(Self { wire, queue })
    }
}

#[cfg(test)]
mod tests {
    use super::{Options, Result, Settings, Wire};

    #[test]
    fn payloads_are_handed_on_as_they_are_unless_told_otherwise() -> Result<()> {
        for (url, expected) in [
            ("memory:", Wire::Lazy),
            ("memory:?wire=lazy", Wire::Lazy),
            ("memory:?wire=Always", Wire::Always),
        ] {
            assert_eq!(Settings::read(&Options::parse(url)?)?.wire, expected, "{url}");
        }
        Ok(())
    }
}
