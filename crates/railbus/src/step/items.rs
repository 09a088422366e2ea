//! Collections that steps are run over.

use crate::{
    error::{Error, ErrorKind, Result},
    payload::RawPayload,
};
use bytes::Bytes;
use serde::{Deserialize, Deserializer, Serialize, Serializer, ser::SerializeSeq};
use serde_json::value::RawValue;
use std::{
    fmt,
    sync::{Mutex, PoisonError},
};

type Source = Box<dyn Iterator<Item = RawPayload> + Send>;

/// A collection that makes its items when they are asked for, once: what
/// [`each`](crate::pipeline::each) can work on without having all of it in memory.
///
/// It stays in its process, and can't be encoded. Who goes through it a second time finds it gone, so a
/// step over it is not tried again.
///
/// # Examples
/// ```
/// use railbus::{Pipeline, StepDef, pipeline::each, step::Items, store};
///
/// # tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(async {
/// let see = StepDef::value("see", |_| ()).needs::<u64>("n");
/// let pipeline = Pipeline::new("all").step(each("numbers", see).forget()).build()?;
/// let report = pipeline.run(store! { "numbers" => Items::of(0..10_000_u64) }).await;
/// assert_eq!(report.step("see").unwrap().items.as_ref().unwrap().succeeded, 10_000);
/// # Ok::<(), railbus::Error>(()) }).unwrap();
/// ```
pub struct Items(Mutex<Option<Source>>);

impl Items {
    /// Wraps what makes the items. It is asked for one after another, as there is room, by the task
    /// that runs the pipeline.
    pub fn of<I, T>(items: I) -> Self
    where
        I: IntoIterator<Item = T>,
        I::IntoIter: Send + 'static,
        T: Serialize + Send + Sync + 'static,
    {
        Self(Mutex::new(Some(Box::new(items.into_iter().map(RawPayload::of)))))
    }

    /// Tells whether someone went through them.
    pub(crate) fn are_gone(&self) -> bool {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).is_none()
    }

    fn take(&self) -> Option<Source> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).take()
    }
}

impl fmt::Debug for Items {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Items")
    }
}

impl Serialize for Items {
    fn serialize<S: Serializer>(&self, _: S) -> Result<S::Ok, S::Error> {
        Err(serde::ser::Error::custom("items that are made when asked for stay in their process"))
    }
}

impl<'de> Deserialize<'de> for Items {
    fn deserialize<D: Deserializer<'de>>(items: D) -> Result<Self, D::Error> {
        Ok(Self::of(Vec::<Box<RawValue>>::deserialize(items)?))
    }
}

/// Returns the items of a collection, one after another.
///
/// # Errors
/// Returns a decode error if it is none, or if its items are gone already.
pub(crate) fn split(collection: &RawPayload) -> Result<Source> {
    if let Some(items) = collection.given::<Items>() {
        return items.take().ok_or_else(|| {
            let error = Error::new(ErrorKind::Decode, "each", "the items are gone already");
            error.hint("Items can be gone through once: keep a list to do it again")
        });
    }
    let text = collection.text()?.clone();
    let parts: Vec<&RawValue> = serde_json::from_slice(&text)
        .map_err(|e| Error::new(ErrorKind::Decode, "each", "it is no list").because(e))?;
    let places: Vec<Bytes> =
        parts.into_iter().map(|part| text.slice_ref(part.get().as_bytes())).collect();
    Ok(Box::new(places.into_iter().map(RawPayload::from_json_text)))
}

/// The values of several steps as one: a list, with `null` where there is none.
pub(crate) struct Joined(pub(crate) Vec<Option<RawPayload>>);

impl Serialize for Joined {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        use serde::ser::Error as _;
        let mut list = serializer.serialize_seq(Some(self.0.len()))?;
        for value in &self.0 {
            match value {
                None => list.serialize_element(&())?,
                Some(value) => {
                    let text = value.text().map_err(S::Error::custom)?;
                    let raw: &RawValue = serde_json::from_slice(text).map_err(S::Error::custom)?;
                    list.serialize_element(raw)?;
                }
            }
        }
        list.end()
    }
}
