//! Payloads: given by value, kept as they are in process, encoded once when they must leave.

use crate::error::{Error, ErrorKind, Result};
use bytes::Bytes;
use serde::{Serialize, de::DeserializeOwned};
use serde_json::{Map, Value};
use std::{
    any::Any,
    fmt,
    ops::Deref,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{Arc, OnceLock},
};

/// What an event carries, and what a step leaves: a value of any serialisable type, or JSON text
/// that came from outside. Cheap to clone: clones share the value.
///
/// # Examples
/// ```
/// use railbus::payload::{RawPayload, Shared};
///
/// let payload = RawPayload::of(vec![1_u8, 2, 3]);
/// let shared: Shared<Vec<u8>> = payload.shared()?; // the value itself
/// assert_eq!(payload.given::<Vec<u8>>().map(Vec::as_ptr), Some(shared.as_ptr()));
/// assert_eq!(payload.get::<Vec<u64>>()?, [1, 2, 3]); // another type is decoded
/// assert_eq!(payload.text()?, "[1,2,3]");
///
/// let text = RawPayload::from_json_text(r#"{"order": {"lines": [4]}}"#.into());
/// assert_eq!(text.at("order.lines.0"), Some(&4.into()));
/// assert!(text.value().is_some() && RawPayload::null().text()? == "null");
/// # Ok::<(), railbus::Error>(())
/// ```
#[derive(Clone)]
pub struct RawPayload(
    // None: null, which needs no room.
    Option<Arc<dyn Carried>>,
);

/// A value and what was made of it so far, in one allocation.
struct Given<T> {
    value: T,
    made: Made,
}

/// JSON text that came from outside.
struct Text(Made);

#[derive(Default)]
struct Made {
    // JSON text; an encoding error is kept, so that every publish of the event reports it.
    text: OnceLock<Result<Bytes>>,
    // For looking inside: filled by the first predicate or getter that asks.
    value: OnceLock<Option<Value>>,
}

trait Carried: Any + Send + Sync {
    fn encode(&self) -> serde_json::Result<Vec<u8>>;
    fn made(&self) -> &Made;
    /// The value itself, if it was given.
    fn given(&self) -> Option<&dyn Any>;
}

impl<T: Serialize + Send + Sync + 'static> Carried for Given<T> {
    fn encode(&self) -> serde_json::Result<Vec<u8>> {
        serde_json::to_vec(&self.value)
    }

    fn made(&self) -> &Made {
        &self.made
    }

    fn given(&self) -> Option<&dyn Any> {
        Some(&self.value)
    }
}

impl Carried for Text {
    fn encode(&self) -> serde_json::Result<Vec<u8>> {
        Ok(b"null".to_vec())
    }

    fn made(&self) -> &Made {
        &self.0
    }

    fn given(&self) -> Option<&dyn Any> {
        None
    }
}

static NULL: Bytes = Bytes::from_static(b"null");

impl RawPayload {
    /// Keeps `value` as it is; nothing is encoded until someone asks.
    #[inline]
    pub fn of<T: Serialize + Send + Sync + 'static>(value: T) -> Self {
        Self(Some(Arc::new(Given { value, made: Made::default() })))
    }

    /// Takes JSON text as it is. The caller answers for its being one valid JSON document.
    #[must_use]
    pub fn from_json_text(text: Bytes) -> Self {
        Self(Some(Arc::new(Text(Made { text: OnceLock::from(Ok(text)), ..Made::default() }))))
    }

    /// The payload of an event that was given none: JSON `null`.
    #[must_use]
    pub fn null() -> Self {
        Self(None)
    }

    /// Returns the payload as JSON text, encoding it the first time.
    ///
    /// # Errors
    /// Returns an encode error if the value's `Serialize` fails or panics.
    pub fn text(&self) -> Result<&Bytes> {
        let Some(carried) = &self.0 else { return Ok(&NULL) };
        carried.made().text.get_or_init(|| encode(&**carried)).as_ref().map_err(Clone::clone)
    }

    /// Returns the payload as a `T`: a clone of the value if it was given as one, else decoded.
    ///
    /// # Errors
    /// Returns a decode error that says where the text stops being a `T`.
    pub fn get<T: DeserializeOwned + Clone + 'static>(&self) -> Result<T> {
        match self.given() {
            Some(value) => Ok(T::clone(value)),
            None => self.decode(),
        }
    }

    /// Returns the payload as a `T` without copying it if it was given as one, else decoded.
    ///
    /// # Errors
    /// As [`RawPayload::get`].
    pub fn shared<T: DeserializeOwned + Send + Sync + 'static>(&self) -> Result<Shared<T>> {
        if let Some(carried) = &self.0
            && carried.given().is_some_and(|value| value.is::<T>())
        {
            let any: Arc<dyn Any + Send + Sync> = Arc::<dyn Carried>::clone(carried);
            if let Ok(given) = any.downcast::<Given<T>>() {
                return Ok(Shared(Held::Given(given)));
            }
        }
        Ok(Shared(Held::Decoded(Arc::new(self.decode()?))))
    }

    /// Tells whether a value was given, and not text.
    pub(crate) fn is_given(&self) -> bool {
        self.0.as_ref().is_some_and(|carried| carried.given().is_some())
    }

    /// Returns the value itself if it was given as a `T`.
    #[must_use]
    pub fn given<T: 'static>(&self) -> Option<&T> {
        self.0.as_ref()?.given()?.downcast_ref()
    }

    fn decode<T: DeserializeOwned>(&self) -> Result<T> {
        serde_json::from_slice(self.text()?).map_err(|e| {
            let wanted = std::any::type_name::<T>();
            Error::new(ErrorKind::Decode, "payload", format!("not a {wanted}")).because(e)
        })
    }

    /// Returns the payload as a JSON value to look inside; `None` if it can't be encoded, is nested
    /// deeper than 127 levels or holds a number beyond a float's range.
    #[must_use]
    pub fn value(&self) -> Option<&Value> {
        let Some(carried) = &self.0 else { return Some(&Value::Null) };
        if let Some(value) = carried.given().and_then(|given| given.downcast_ref()) {
            return Some(value);
        }
        let decode = || serde_json::from_slice(self.text().ok()?).ok();
        carried.made().value.get_or_init(decode).as_ref()
    }

    /// Returns what lies at `path`: a literal key wins over a dotted path.
    #[must_use]
    pub fn at(&self, path: &str) -> Option<&Value> {
        find(self.value()?, path)
    }
}

fn encode(carried: &dyn Carried) -> Result<Bytes> {
    let failed = || Error::new(ErrorKind::Encode, "encode", "the payload is not encodable");
    match catch_unwind(AssertUnwindSafe(|| carried.encode())) {
        Ok(Ok(text)) => Ok(text.into()),
        Ok(Err(e)) => Err(failed().because(e)),
        Err(_) => Err(failed().hint("its Serialize implementation panicked")),
    }
}

/// A value shared with the payload it came from, or decoded from it. It displays as its `T` does.
pub struct Shared<T>(Held<T>);

enum Held<T> {
    Given(Arc<Given<T>>),
    Decoded(Arc<T>),
}

impl<T> Shared<T> {
    pub(crate) fn of(value: T) -> Self {
        Self(Held::Decoded(Arc::new(value)))
    }
}

impl<T> Deref for Shared<T> {
    type Target = T;

    fn deref(&self) -> &T {
        match &self.0 {
            Held::Given(given) => &given.value,
            Held::Decoded(value) => value,
        }
    }
}

impl<T> Clone for Shared<T> {
    fn clone(&self) -> Self {
        Self(match &self.0 {
            Held::Given(given) => Held::Given(Arc::clone(given)),
            Held::Decoded(value) => Held::Decoded(Arc::clone(value)),
        })
    }
}

impl<T: fmt::Display> fmt::Display for Shared<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        T::fmt(self, f)
    }
}

impl<T: fmt::Debug> fmt::Debug for Shared<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        T::fmt(self, f)
    }
}

/// Looks `path` up in `value`: the whole path as one key first, then key by key at the dots.
///
/// # Examples
/// ```
/// use railbus::{json, payload::find};
///
/// let value = json!({"a": {"b": [1, 2]}, "a.b": "literal"});
/// assert_eq!(find(&value, "a.b"), Some(&json!("literal")));
/// assert_eq!(find(&value, "a.b.1"), Some(&json!(2)));
/// ```
#[must_use]
pub fn find<'a>(value: &'a Value, path: &str) -> Option<&'a Value> {
    if let Value::Object(map) = value
        && let Some(found) = key(map, path)
    {
        return Some(found);
    }
    if !path.contains('.') && !value.is_array() {
        return None;
    }
    path.split('.').try_fold(value, |inner, part| match inner {
        Value::Array(items) => items.get(part.parse::<usize>().ok()?),
        Value::Object(map) => key(map, part),
        _ => None,
    })
}

/// Looks a key up; in a small map comparing costs less than hashing.
fn key<'a>(map: &'a Map<String, Value>, key: &str) -> Option<&'a Value> {
    if map.len() > 8 {
        return map.get(key);
    }
    map.iter().find(|(k, _)| *k == key).map(|(_, value)| value)
}

impl PartialEq for RawPayload {
    /// Compares by JSON value; a payload that can't be encoded equals only itself.
    fn eq(&self, other: &Self) -> bool {
        let same = match (&self.0, &other.0) {
            (Some(a), Some(b)) => Arc::ptr_eq(a, b),
            (a, b) => a.is_none() && b.is_none(),
        };
        same || self.value().is_some_and(|mine| other.value() == Some(mine))
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
