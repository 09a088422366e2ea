//! The store: named values of one run.

use crate::{
    error::{Error, ErrorKind, Result},
    payload::{RawPayload, Shared},
};
use foldhash::fast::FixedState;
use indexmap::IndexMap;
use serde::{Serialize, Serializer, de::DeserializeOwned};
use serde_json::{Map, Value};
use smol_str::SmolStr;
use std::{any::type_name, fmt};

/// Named values of one run, in the order they came: kept as they are, shared without copies.
///
/// # Examples
/// ```
/// use railbus::{Store, store};
///
/// let mut store: Store = store! { "data" => vec![1, 2, 3], "name" => "numbers" };
/// assert_eq!(store.get::<Vec<i32>>("data")?.len(), 3);
/// store.delete("name");
/// assert_eq!(store.to_json()?, r#"{"data":[1,2,3]}"#);
/// store.set("total", 6);
/// store.keep("copy", store.value("data").unwrap().clone()); // shared, not copied
/// assert_eq!((store.as_map()?["total"].as_i64(), store.has("copy")), (Some(6), true));
/// store.clear();
/// assert!(store.is_empty());
/// # Ok::<(), railbus::Error>(())
/// ```
#[derive(Clone, Default, PartialEq)]
pub struct Store(IndexMap<SmolStr, RawPayload, FixedState>);

impl Store {
    /// Creates an empty store.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Returns the value of that name as a `T`: the value itself if it was kept as one, else
    /// decoded.
    ///
    /// # Errors
    /// Returns a not found error that names the values there are, or a decode error that says what
    /// is there instead of a `T`.
    pub fn get<T: DeserializeOwned + Send + Sync + 'static>(
        &self,
        name: &str,
    ) -> Result<Shared<T>> {
        let value = self.0.get(name).ok_or_else(|| {
            let names = self.names().collect::<Vec<_>>().join(", ");
            let error = Error::new(ErrorKind::NotFound, "store", format!("there is no `{name}`"));
            error.hint(if names.is_empty() {
                "it is empty".into()
            } else {
                format!("it has {names}")
            })
        })?;
        value.shared().map_err(|e| {
            let why = format!("`{name}` is not a {}", type_name::<T>());
            Error::new(ErrorKind::Decode, "store", why).because(e)
        })
    }

    /// Returns the value of that name as it is kept.
    #[must_use]
    pub fn value(&self, name: &str) -> Option<&RawPayload> {
        self.0.get(name)
    }

    /// Keeps a value under a name, in place of what was there.
    pub fn set<T: Serialize + Send + Sync + 'static>(&mut self, name: impl AsRef<str>, value: T) {
        self.keep(name, RawPayload::of(value));
    }

    /// Keeps a value that is shared with whoever else has it.
    pub fn keep(&mut self, name: impl AsRef<str>, value: RawPayload) {
        self.0.insert(SmolStr::new(name), value);
    }

    /// Tells whether there is a value of that name.
    #[must_use]
    pub fn has(&self, name: &str) -> bool {
        self.0.contains_key(name)
    }

    /// Removes the value of that name; tells whether there was one.
    pub fn delete(&mut self, name: &str) -> bool {
        self.0.shift_remove(name).is_some()
    }

    /// Removes all values.
    pub fn clear(&mut self) {
        self.0.clear();
    }

    /// Returns the names, in the order they came.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.0.keys().map(SmolStr::as_str)
    }

    /// Returns how many values there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Tells whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Returns all values as a JSON map.
    ///
    /// # Errors
    /// Returns an encode error that names the value that can't be encoded.
    pub fn as_map(&self) -> Result<Map<String, Value>> {
        let pairs = self.0.iter().map(|(name, value)| {
            let text = value.text().map_err(|e| e.with("name", name))?;
            Ok((name.to_string(), serde_json::from_slice(text).map_err(undecodable)?))
        });
        pairs.collect()
    }

    /// Returns all values as JSON text.
    ///
    /// # Errors
    /// As [`Store::as_map`].
    pub fn to_json(&self) -> Result<String> {
        let mut text = String::from("{");
        for (name, value) in &self.0 {
            let value = value.text().map_err(|e| e.with("name", name))?;
            let comma = if text.len() > 1 { "," } else { "" };
            let name = Value::from(name.as_str());
            text.push_str(&format!("{comma}{name}:{}", String::from_utf8_lossy(value)));
        }
        text.push('}');
        Ok(text)
    }
}

fn undecodable(error: serde_json::Error) -> Error {
    Error::new(ErrorKind::Encode, "store", "a value is not encodable").because(error)
}

impl fmt::Debug for Store {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_map().entries(self.0.iter().map(|(name, value)| (name.as_str(), value))).finish()
    }
}

/// Makes a [`Store`] of names and values.
///
/// # Examples
/// ```
/// let store = railbus::store! { "order" => 7, "tags" => ["a", "b"] };
/// assert_eq!(store.names().collect::<Vec<_>>(), ["order", "tags"]);
/// ```
#[macro_export]
macro_rules! store {
    ($($name:expr => $value:expr),* $(,)?) => {{
        #[allow(unused_mut)]
        let mut store = $crate::Store::new();
        $(store.set($name, $value);)*
        store
    }};
}

/// A value that is kept in process only: it need not be encodable, and can't be encoded.
///
/// # Examples
/// ```
/// use railbus::{step::Opaque, store};
/// use std::sync::mpsc::{Sender, channel};
///
/// let store = store! { "reply" => Opaque(channel::<u8>().0) };
/// assert!(store.get::<Opaque<Sender<u8>>>("reply").is_ok());
/// assert!(store.to_json().is_err());
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Opaque<T>(pub T);

impl<T> std::ops::Deref for Opaque<T> {
    type Target = T;
    fn deref(&self) -> &T {
        &self.0
    }
}

impl<T> Serialize for Opaque<T> {
    fn serialize<S: Serializer>(&self, _serializer: S) -> Result<S::Ok, S::Error> {
        let why = format!("{} is opaque: it stays in its process", type_name::<T>());
        Err(serde::ser::Error::custom(why))
    }
}

impl<'de, T> serde::Deserialize<'de> for Opaque<T> {
    fn deserialize<D: serde::Deserializer<'de>>(_deserializer: D) -> Result<Self, D::Error> {
        let why = format!("{} is opaque: it can't come from elsewhere", type_name::<T>());
        Err(serde::de::Error::custom(why))
    }
}
