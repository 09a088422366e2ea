//! Runs as text: how a backend keeps what it is told, and reads it back.

use super::{
    record::{Record, RecordStatus, RunError, Went},
    refusal::twice,
    run::NewRun,
};
use crate::{
    error::{Error, ErrorKind, Result},
    payload::RawPayload,
    step::Store,
    topic::NAME_MAX,
};
use bytes::Bytes;
use serde::{
    Deserialize, Deserializer, Serialize, Serializer,
    de::{MapAccess, Visitor},
    ser::{Error as _, SerializeMap},
};
use serde_json::value::RawValue;
use std::{collections::HashMap, fmt, time::Duration};

/// A record but for its place.
#[derive(Serialize, Deserialize)]
struct Body {
    status: RecordStatus,
    tries: u32,
    micros: u64,
    went: Went,
    #[serde(default, skip_serializing_if = "is_empty")]
    values: Values,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    passed: Option<Raw>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    error: Option<What>,
}

#[derive(Serialize, Deserialize)]
struct What {
    kind: String,
    message: String,
    #[serde(default = "Raw::null", skip_serializing_if = "Raw::is_null")]
    value: Raw,
}

#[derive(Default)]
struct Values(Store);

fn is_empty(values: &Values) -> bool {
    values.0.is_empty()
}

/// JSON text that stays as it is.
struct Raw(RawPayload);

impl Raw {
    fn null() -> Self {
        Self(RawPayload::null())
    }

    fn is_null(&self) -> bool {
        self.0.text().is_ok_and(|text| &text[..] == b"null")
    }
}

impl Serialize for Raw {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let text = self.0.text().map_err(S::Error::custom)?;
        // Looked through once more: what isn't JSON would spoil all that is around it.
        serde_json::from_slice::<&RawValue>(text).map_err(S::Error::custom)?.serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for Raw {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = Box::<RawValue>::deserialize(deserializer)?;
        let text: Box<str> = text.into();
        Ok(Self(RawPayload::from_json_text(Bytes::from(text.into_string()))))
    }
}

impl Serialize for Values {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(Some(self.0.len()))?;
        for name in self.0.names() {
            let value = self.0.value(name).cloned().unwrap_or_else(RawPayload::null);
            let named = |e| S::Error::custom(format!("the value `{name}`: {e}"));
            map.serialize_entry(name, &Raw(value)).map_err(named)?;
        }
        map.end()
    }
}

impl<'de> Deserialize<'de> for Values {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Reads;

        impl<'de> Visitor<'de> for Reads {
            type Value = Values;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a map of values")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Values, A::Error> {
                let mut store = Store::new();
                while let Some(name) = map.next_key::<String>()? {
                    store.keep(&name, map.next_value::<Raw>()?.0);
                }
                Ok(Values(store))
            }
        }

        deserializer.deserialize_map(Reads)
    }
}

impl From<&RunError> for What {
    fn from(error: &RunError) -> Self {
        let RunError { kind, message, value } = error.clone();
        Self { kind, message, value: Raw(value) }
    }
}

impl From<What> for RunError {
    fn from(What { kind, message, value }: What) -> Self {
        Self { kind, message, value: value.0 }
    }
}

/// Checks what a run is to begin with, and returns its input as text.
pub(crate) fn check_run(run: &NewRun, payload_max: usize) -> Result<String> {
    check_name("id", &run.id)?;
    check_name("pipeline", &run.pipeline)?;
    check_name("owner", &run.owner)?;
    let input = encode(&Values(run.input.clone()), "the run's input can't be kept")?;
    for (what, size) in [("input", input.len()), ("graph", run.shape.len())] {
        if size > payload_max {
            return Err(too_large(&format!("the run's {what}"), size, payload_max)
                .with("run", run.id.escape_debug()));
        }
    }
    Ok(input)
}

fn check_name(what: &'static str, name: &str) -> Result<()> {
    let why = match name.len() {
        0 => format!("the run's {what} is empty"),
        n if n > NAME_MAX => {
            format!("the run's {what} has {n} bytes; at most {NAME_MAX} are allowed")
        }
        _ if name.contains('\0') => format!("the run's {what} has a NUL character"),
        _ => return Ok(()),
    };
    let head: String = name.chars().take(40).collect();
    Err(Error::new(ErrorKind::Config, "journal", why).with(what, head.escape_debug()))
}

/// A record that is ready to be stored.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Ready {
    pub(crate) path: String,
    pub(crate) visit: u32,
    pub(crate) body: String,
}

/// Makes records of a run ready to be stored, each place once.
pub(crate) fn ready(run: &str, records: &[Record], payload_max: usize) -> Result<Vec<Ready>> {
    let mut all: Vec<Ready> = Vec::with_capacity(records.len());
    let mut places = HashMap::new();
    for record in records {
        let body = write_record(record, payload_max)?;
        let one = Ready { path: record.path.clone(), visit: record.visit, body };
        match places.get(&(&record.path, record.visit)) {
            None => {
                places.insert((&record.path, record.visit), all.len());
                all.push(one);
            }
            Some(&before) if all.get(before) == Some(&one) => {}
            Some(_) => return Err(twice(run, &one.path, one.visit)),
        }
    }
    Ok(all)
}

/// Writes a record but for its place.
fn write_record(record: &Record, payload_max: usize) -> Result<String> {
    let at =
        |error: Error| error.with("path", record.path.escape_debug()).with("visit", record.visit);
    if record.path.is_empty() {
        let why = "a record needs the path of its place";
        return Err(at(Error::new(ErrorKind::Config, "journal", why)));
    }
    let body = Body {
        status: record.status,
        tries: record.tries,
        micros: u64::try_from(record.duration.as_micros()).unwrap_or(u64::MAX),
        went: record.went.clone(),
        values: Values(record.values.clone()),
        passed: record.passed.clone().map(Raw),
        error: record.error.as_ref().map(What::from),
    };
    let text = encode(&body, "what the step came to can't be kept").map_err(at)?;
    match text.len().saturating_add(record.path.len()) {
        size if size > payload_max => {
            Err(at(too_large("what the step came to", size, payload_max)))
        }
        _ => Ok(text),
    }
}

/// Reads what [`write_record`] wrote.
pub(crate) fn read_record(path: String, visit: u32, text: &str) -> serde_json::Result<Record> {
    let Body { status, tries, micros, went, values, passed, error } = serde_json::from_str(text)?;
    Ok(Record {
        path,
        visit,
        status,
        tries,
        duration: Duration::from_micros(micros),
        values: values.0,
        passed: passed.map(|raw| raw.0),
        went,
        error: error.map(RunError::from),
    })
}

/// Writes what went wrong in a run.
pub(crate) fn write_error(error: &RunError) -> Result<String> {
    encode(&What::from(error), "what went wrong in the run can't be kept")
}

/// Reads what [`write_error`] wrote.
pub(crate) fn read_error(text: &str) -> serde_json::Result<RunError> {
    serde_json::from_str::<What>(text).map(RunError::from)
}

/// Reads a map of values, in its order.
pub(crate) fn read_store(text: &str) -> serde_json::Result<Store> {
    serde_json::from_str::<Values>(text).map(|values| values.0)
}

fn encode(value: &impl Serialize, why: &'static str) -> Result<String> {
    serde_json::to_string(value)
        .map_err(|e| Error::new(ErrorKind::Encode, "journal", why).because(e))
}

fn too_large(what: &str, size: usize, most: usize) -> Error {
    let why = format!("{what} has {size} bytes; the backend takes at most {most}");
    Error::new(ErrorKind::TooLarge, "journal", why)
        .hint("keep large data elsewhere, such as in a file, and its name in the run")
}
