//! Payloads: given by value, kept as they are in process, encoded once when they must leave.

use crate::error::{Error, ErrorKind, Result};
use bytes::Bytes;
use serde::{Serialize, de::DeserializeOwned};
use serde_json::Value;
use std::{
    any::Any,
    fmt,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{Arc, OnceLock},
};

/// What an event carries: a value of any serialisable type, or JSON text that came from outside.
#[derive(Clone)]
pub struct RawPayload(Arc<Inner>);

struct Inner {
    given: Option<Box<dyn Given>>,
    // JSON text; an encoding error is kept, so that every publish of the event reports it.
    text: OnceLock<Result<Bytes>>,
    // For looking inside: filled by the first predicate or getter that asks.
    value: OnceLock<Option<Value>>,
}

trait Given: Send + Sync {
    fn encode(&self) -> serde_json::Result<Vec<u8>>;
    fn as_any(&self) -> &dyn Any;
}

impl<T: Serialize + Send + Sync + 'static> Given for T {
    fn encode(&self) -> serde_json::Result<Vec<u8>> {
        serde_json::to_vec(self)
    }

    fn as_any(&self) -> &dyn Any {
        self
    }
}

impl RawPayload {
    /// Keeps `value` as it is; nothing is encoded until someone asks.
    pub fn of<T: Serialize + Send + Sync + 'static>(value: T) -> Self {
        Self::inner(Some(Box::new(value)), OnceLock::new())
    }

    /// Takes JSON text as it is. The caller answers for its being one valid JSON document.
    #[must_use]
    pub fn from_json_text(text: Bytes) -> Self {
        Self::inner(None, OnceLock::from(Ok(text)))
    }

    /// The payload of an event that was given none: JSON `null`.
    #[must_use]
    pub fn null() -> Self {
        Self::from_json_text(Bytes::from_static(b"null"))
    }

    fn inner(given: Option<Box<dyn Given>>, text: OnceLock<Result<Bytes>>) -> Self {
        Self(Arc::new(Inner { given, text, value: OnceLock::new() }))
    }

    /// Returns the payload as JSON text, encoding it the first time.
    ///
    /// # Errors
    /// Returns an encode error if the value's `Serialize` fails or panics.
    pub fn text(&self) -> Result<&Bytes> {
        self.0.text.get_or_init(|| self.encode()).as_ref().map_err(Clone::clone)
    }

    fn encode(&self) -> Result<Bytes> {
        let failed = || Error::new(ErrorKind::Encode, "encode", "the payload is not encodable");
        let Some(given) = &self.0.given else { return Ok(Bytes::from_static(b"null")) };
        match catch_unwind(AssertUnwindSafe(|| given.encode())) {
            Ok(Ok(text)) => Ok(text.into()),
            Ok(Err(e)) => Err(failed().because(e)),
            Err(_) => Err(failed().hint("its Serialize implementation panicked")),
        }
    }

    /// Returns the payload as a `T`: the value itself if it was given as one, else decoded.
    ///
    /// # Errors
    /// Returns a decode error that says where the text stops being a `T`.
    pub fn get<T: DeserializeOwned + Clone + 'static>(&self) -> Result<T> {
        if let Some(given) = &self.0.given
            && let Some(value) = given.as_any().downcast_ref::<T>()
        {
            return Ok(value.clone());
        }
        serde_json::from_slice(self.text()?).map_err(|e| {
            let wanted = std::any::type_name::<T>();
            Error::new(ErrorKind::Decode, "payload", format!("not a {wanted}")).because(e)
        })
    }

    /// Returns the payload as a JSON value to look inside; `None` if it can't be encoded, is nested
    /// deeper than 127 levels or holds a number beyond a float's range.
    #[must_use]
    pub fn value(&self) -> Option<&Value> {
        let decode = || serde_json::from_slice(self.text().ok()?).ok();
        self.0.value.get_or_init(decode).as_ref()
    }

    /// Returns what lies at `path`: a literal key wins over a dotted path.
    #[must_use]
    pub fn at(&self, path: &str) -> Option<&Value> {
        find(self.value()?, path)
    }
}

/// Looks `path` up in `value`: the whole path as one key first, then key by key at the dots.
#[must_use]
pub fn find<'a>(value: &'a Value, path: &str) -> Option<&'a Value> {
    if let Some(found) = value.get(path) {
        return Some(found);
    }
    path.split('.').try_fold(value, |inner, key| match inner {
        Value::Array(items) => items.get(key.parse::<usize>().ok()?),
        other => other.get(key),
    })
}

impl PartialEq for RawPayload {
    /// Compares by JSON value; a payload that can't be encoded equals only itself.
    fn eq(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
            || self.value().is_some_and(|mine| other.value() == Some(mine))
    }
}

impl fmt::Debug for RawPayload {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.text() {
            Ok(text) => f.write_str(&String::from_utf8_lossy(text)),
            Err(e) => write!(f, "<{e}>"),
        }
    }
}
