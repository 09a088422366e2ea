//! How a bus writes on its wire.

use super::{cloudevents, dataknobs, plain};
use crate::{
    error::Result,
    event::Event,
    options::{Options, Setting},
};
use bytes::Bytes;

/// How events are written on a wire that others read and write as well.
///
/// # Examples
/// ```
/// use railbus::{Event, codec::Format};
///
/// let event = Event::new("order.placed").topic("shop").payload(7);
/// let wire = Format::Dataknobs.encode(&event)?;
/// assert!(String::from_utf8_lossy(&wire).starts_with(r#"{"type":"custom","topic":"shop""#));
/// assert_eq!(Format::Dataknobs.decode("shop", &wire.into())?, event);
///
/// let said = Format::Plain.decode("lights", &"{\"on\":true}".into())?;
/// assert_eq!((said.event_type(), said.topic()), ("lights", "lights"));
/// assert_eq!(said.get("on"), Some(true));
/// # Ok::<(), railbus::Error>(())
/// ```
#[non_exhaustive]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Format {
    /// CloudEvents 1.0, structured JSON: keeps everything.
    #[default]
    CloudEvents,
    /// The payload alone, in JSON: what is read has a new id, and its topic as its type; what is
    /// written leaves behind all but the payload.
    Plain,
    /// The map of dataknobs: its seven types, any other as `custom`, and a payload that is no map
    /// as `{"body": payload}`. Another Railbus program reads the event as it was.
    Dataknobs,
}

impl Format {
    /// The setting by which a bus is told.
    ///
    /// # Examples
    /// ```
    /// use railbus::{codec::Format, options::Options};
    ///
    /// let options = Options::parse("redis://localhost?format=plain")?;
    /// assert_eq!((Format::SETTING.key, Format::of(&options)?), ("format", Format::Plain));
    /// # Ok::<(), railbus::Error>(())
    /// ```
    pub const SETTING: Setting = Setting {
        key: "format",
        help: "how events are written: cloudevents (default), plain (the payload alone) or dataknobs",
    };

    /// Reads the setting.
    ///
    /// # Errors
    /// Returns a config error that lists the formats if it is none of them.
    pub fn of(options: &Options) -> Result<Self> {
        let formats = [
            ("cloudevents", Self::CloudEvents),
            ("plain", Self::Plain),
            ("dataknobs", Self::Dataknobs),
        ];
        Ok(options.one_of("format", &formats)?.unwrap_or_default())
    }

    /// Writes `event`.
    ///
    /// # Errors
    /// Returns an encode error if the payload can't be encoded.
    pub fn encode(self, event: &Event) -> Result<Vec<u8>> {
        match self {
            Self::CloudEvents => cloudevents::encode(event),
            Self::Plain => plain::encode(event),
            Self::Dataknobs => dataknobs::encode(event),
        }
    }

    /// Writes `event` with its topic, even where readers could do without: channels of one server may
    /// be heard by whoever has a shorter prefix.
    #[cfg_attr(not(feature = "redis"), allow(dead_code))]
    pub(crate) fn encode_with_topic(self, event: &Event) -> Result<Vec<u8>> {
        match self {
            Self::CloudEvents => cloudevents::encode_with_topic(event),
            Self::Plain | Self::Dataknobs => self.encode(event),
        }
    }

    /// Reads an event that came on `topic`, which is its own unless it says otherwise.
    ///
    /// # Errors
    /// Returns a decode error that says what is missing or malformed.
    pub fn decode(self, topic: &str, bytes: &Bytes) -> Result<Event> {
        match self {
            Self::CloudEvents => cloudevents::decode_from(Some(topic), bytes),
            Self::Plain => plain::decode(topic, bytes),
            Self::Dataknobs => dataknobs::decode(topic, bytes),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::event::Type;
    use serde_json::json;

    const ALL: [Format; 3] = [Format::CloudEvents, Format::Plain, Format::Dataknobs];

    #[test]
    fn cloudevents_and_dataknobs_keep_everything() {
        let builder = || Event::new("order.placed").topic("shop").source("till").key("k");
        let events = [
            builder().payload(json!({"a": [1, null]})),
            builder().payload(json!([1, 2])),
            builder().payload(json!(null)),
            builder().correlation("c").causation("b").schema("s/2").payload("text"),
            builder().metadata("tenant", "a").metadata("é", "ü").payload(json!({"body": 1})),
            Event::new(Type::UPDATED).payload(json!({})),
        ];
        for event in events {
            for format in [Format::CloudEvents, Format::Dataknobs] {
                let wire = format.encode(&event).unwrap();
                assert_eq!(
                    format.decode(event.topic(), &wire.into()).unwrap(),
                    event,
                    "{format:?}"
                );
            }
        }
    }

    #[test]
    fn an_event_without_a_topic_is_of_the_one_it_came_on() {
        let cloud = r#"{"specversion":"1.0","id":"1","source":"/s","type":"t"}"#;
        let dataknobs = r#"{"type":"updated"}"#;
        for (format, text) in ALL.into_iter().zip([cloud, "1", dataknobs]) {
            let event = format.decode("registry:bots", &text.into()).unwrap();
            assert_eq!(event.topic(), "registry:bots", "{format:?}");
        }
    }

    #[test]
    fn what_is_not_in_the_format_is_refused() {
        for format in ALL {
            for text in ["", "{", "nonsense", "\u{0}\u{1}"] {
                let error = format.decode("t", &text.into()).unwrap_err();
                assert_eq!(error.kind(), crate::ErrorKind::Decode, "{format:?} {text}");
            }
        }
        for text in ["[1]", "1", "{}", r#"{"topic":"a"}"#, r#"{"type":1}"#] {
            assert!(Format::Dataknobs.decode("t", &text.into()).is_err(), "{text}");
        }
    }

    #[test]
    fn a_map_as_python_writes_it_is_read() {
        // Written by dataknobs-common itself.
        let text = r#"{"type": "updated", "topic": "registry:bots", "payload": {"\u00e9": 1.0, "n": null}, "timestamp": "2026-11-22T08:55:37.395962+00:00", "event_id": "93e569f1", "source": null, "correlation_id": null, "metadata": {"depth": 2}}"#;
        let event = Format::Dataknobs.decode("x", &text.into()).unwrap();
        assert_eq!(
            (event.event_type(), event.topic(), event.id()),
            ("updated", "registry:bots", "93e569f1")
        );
        assert_eq!((event.get::<f64>("é"), event.source()), (Some(1.0), ""));
        assert_eq!(event.metadata()["depth"], "2");
        assert_eq!(event.timestamp().to_string(), "2026-11-22T08:55:37.395962Z");
        let naive = r#"{"type":"updated","timestamp":"2026-11-22T08:55:37"}"#;
        let naive = Format::Dataknobs.decode("x", &naive.into()).unwrap();
        assert_eq!(naive.timestamp().to_string(), "2026-11-22T08:55:37.000000Z");
    }
}
