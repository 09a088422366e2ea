//! What tells one event from another.

use crate::{event::Event, id::derived_id};
use serde_json::Value;
use std::{fmt, sync::Arc};

/// The longest key that is kept as it is, in bytes.
const KEY_MAX: usize = 200;

/// What an event's key is.
#[derive(Clone)]
pub(super) enum Key {
    Id,
    Path(String),
    Of(Arc<Made>),
}

/// What makes a key of an event.
type Made = dyn Fn(&Event) -> Option<String> + Send + Sync;

impl Key {
    /// Returns the key of an event; none if it has none. A long one is kept as what is derived from it.
    pub(super) fn of(&self, event: &Event) -> Option<String> {
        let key = match self {
            Self::Id => event.id().to_owned(),
            Self::Path(path) => match event.get::<Value>(path)? {
                Value::Null => return None,
                Value::String(text) => text,
                other => other.to_string(),
            },
            Self::Of(key) => key(event)?,
        };
        Some(if key.len() > KEY_MAX { derived_id("dedup", &key) } else { key })
    }
}

impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Id => f.write_str("id"),
            Self::Path(path) => write!(f, "at {path}"),
            Self::Of(_) => f.write_str("closure"),
        }
    }
}
