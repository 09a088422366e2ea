//! Events as JSON maps and text.

use super::envelope::Event;
use crate::error::{Error, ErrorKind, Result};
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use serde_json::{Map, Value, value::RawValue};
use std::collections::BTreeMap;

impl Event {
    /// Returns the event as a JSON map: id, type, topic, source, payload, timestamp, then what is
    /// present of correlation_id, causation_id, key, schema and metadata.
    ///
    /// # Examples
    /// ```
    /// use railbus::{Event, json};
    ///
    /// let event = Event::new("order.placed").id("e-1").payload(json!({"lines": 2}));
    /// let map = event.to_map()?;
    /// assert_eq!((&map["type"], &map["payload"]["lines"]), (&json!("order.placed"), &json!(2)));
    /// assert_eq!(Event::from_map(&map)?, event);
    /// assert!(event.to_json()?.starts_with(r#"{"id":"e-1","type":"order.placed""#));
    /// # Ok::<(), railbus::Error>(())
    /// ```
    ///
    /// # Errors
    /// Returns an encode error if the payload can't be encoded.
    pub fn to_map(&self) -> Result<Map<String, Value>> {
        self.text()?;
        let payload = self.raw_payload().value().cloned().ok_or_else(|| {
            Error::new(ErrorKind::Encode, "encode", "the payload is nested too deeply to look into")
                .with("event", self.id())
        })?;
        let mut map = Map::new();
        for (key, value) in [
            ("id", self.id().into()),
            ("type", self.event_type().into()),
            ("topic", self.topic().into()),
            ("source", self.source().into()),
            ("payload", payload),
            ("timestamp", self.timestamp().to_string().into()),
        ] {
            map.insert(key.into(), value);
        }
        let present = [
            ("correlation_id", self.rest().and_then(|r| r.correlation_id.as_deref())),
            ("causation_id", self.causation_id()),
            ("key", self.key()),
            ("schema", self.schema()),
        ];
        for (key, value) in present {
            if let Some(value) = value {
                map.insert(key.into(), value.into());
            }
        }
        if !self.metadata().is_empty() {
            let texts = self.metadata().iter().map(|(k, v)| (k.clone(), v.as_str().into()));
            map.insert("metadata".into(), Value::Object(texts.collect()));
        }
        Ok(map)
    }

    /// Reads an event from the map that [`Event::to_map`] writes; only `type` must be there.
    ///
    /// # Errors
    /// Returns a decode error that names the field that is missing or of the wrong kind.
    pub fn from_map(map: &Map<String, Value>) -> Result<Self> {
        serde_json::from_value(Value::Object(map.clone()))
            .map_err(|e| Error::new(ErrorKind::Decode, "event", "not an event").because(e))
    }

    /// Returns the event as one line of JSON, keys as in [`Event::to_map`]; the payload stays as it
    /// was written, to any depth.
    ///
    /// # Errors
    /// Returns an encode error if the payload can't be encoded.
    pub fn to_json(&self) -> Result<String> {
        let failed = |e: serde_json::Error| {
            let failed = Error::new(ErrorKind::Encode, "encode", "the event is not encodable");
            failed.with("event", self.id()).because(e)
        };
        let shown = Shown {
            id: self.id(),
            event_type: self.event_type(),
            topic: self.topic(),
            source: self.source(),
            payload: serde_json::from_slice(self.text()?).map_err(failed)?,
            timestamp: self.timestamp().to_string(),
            correlation_id: self.rest().and_then(|r| r.correlation_id.as_deref()),
            causation_id: self.causation_id(),
            key: self.key(),
            schema: self.schema(),
            metadata: self.metadata(),
        };
        let text = serde_json::to_string(&shown).map_err(failed)?;
        // A payload that came as text may have line ends, between its values only.
        Ok(if text.contains(['\n', '\r']) { text.replace(['\n', '\r'], " ") } else { text })
    }
}

/// An event as JSON text, its payload as it was written.
#[derive(Serialize)]
struct Shown<'a> {
    id: &'a str,
    #[serde(rename = "type")]
    event_type: &'a str,
    topic: &'a str,
    source: &'a str,
    payload: &'a RawValue,
    timestamp: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    correlation_id: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    causation_id: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    key: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    schema: Option<&'a str>,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    metadata: &'a BTreeMap<String, String>,
}

impl Serialize for Event {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.to_map().map_err(serde::ser::Error::custom)?.serialize(serializer)
    }
}

#[derive(Deserialize)]
struct Wire {
    id: Option<String>,
    #[serde(rename = "type")]
    event_type: String,
    topic: Option<String>,
    #[serde(default)]
    source: String,
    #[serde(default)]
    payload: Value,
    timestamp: Option<String>,
    correlation_id: Option<String>,
    causation_id: Option<String>,
    key: Option<String>,
    schema: Option<String>,
    #[serde(default)]
    metadata: BTreeMap<String, String>,
}

impl<'de> Deserialize<'de> for Event {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let wire = Wire::deserialize(deserializer)?;
        let mut builder = Self::new(wire.event_type).source(wire.source);
        if let Some(id) = wire.id {
            builder = builder.id(id);
        }
        if let Some(topic) = wire.topic {
            builder = builder.topic(topic);
        }
        if let Some(text) = wire.timestamp {
            builder = builder.timestamp(text.parse().map_err(serde::de::Error::custom)?);
        }
        let more = [&wire.correlation_id, &wire.causation_id, &wire.key, &wire.schema];
        let more = more.iter().any(|text| text.is_some());
        if more || !wire.metadata.is_empty() {
            let rest = builder.0.rest();
            rest.correlation_id = wire.correlation_id;
            rest.causation_id = wire.causation_id;
            rest.key = wire.key;
            rest.schema = wire.schema;
            rest.metadata = wire.metadata;
        }
        Ok(builder.payload(wire.payload))
    }
}
