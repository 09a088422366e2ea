//! How a line of JSON becomes an event: which parts of it are the type, the topic and the payload.

use crate::{
    error::{Error, ErrorKind, Result},
    event::{Event, EventBuilder},
    payload::RawPayload,
};
use bytes::Bytes;
use serde::de::{DeserializeSeed, Deserializer, IgnoredAny, MapAccess, Visitor};
use serde_json::value::RawValue;
use std::fmt;

/// How deep a line may be nested: no deeper than can be looked into later.
pub(super) const DEPTH_MAX: usize = 127;

/// Which parts of a line are what.
#[derive(Clone, Debug)]
pub(super) struct Record {
    pub(super) type_field: String,
    pub(super) payload_field: Option<String>,
    pub(super) topic: Option<Template>,
}

impl Record {
    /// Turns a line into an event with what `identify` adds; the error says what is wrong with it.
    pub(super) fn read(
        &self,
        line: &[u8],
        identify: impl FnOnce(EventBuilder) -> EventBuilder,
    ) -> Result<Event, String> {
        let text = std::str::from_utf8(line)
            .map_err(|e| format!("it is not UTF-8 from its byte {} on", e.valid_up_to()))?;
        if is_deeper_than(DEPTH_MAX, line) {
            return Err(format!("it is nested deeper than {DEPTH_MAX} levels"));
        }
        let fields = Fields::of(text, self.wanted()).map_err(|e| not_an_object(&e))?;
        let event = identify(self.name(&fields)?);
        let payload = match &self.payload_field {
            None => text,
            Some(path) => fields.at(path)?.get(),
        };
        // Copied, so that an event kept for long does not keep its line.
        let payload = Bytes::copy_from_slice(payload.as_bytes());
        let event = event.raw_payload(RawPayload::from_json_text(payload));
        event.check().map_err(|e| e.message().to_owned())?;
        Ok(event)
    }

    fn name(&self, fields: &Fields<'_, '_>) -> Result<EventBuilder, String> {
        let path = &self.type_field;
        let event_type: String = serde_json::from_str(fields.at(path)?.get())
            .map_err(|_| format!("its `{path}` is not a text"))?;
        let builder = Event::new(event_type);
        Ok(match &self.topic {
            Some(topic) => builder.topic(topic.fill(fields)?),
            None => builder,
        })
    }

    /// Returns every key of the line's own level that may be asked for.
    fn wanted(&self) -> Vec<&str> {
        let topic = self.topic.iter().flat_map(Template::paths);
        let paths = [Some(&self.type_field), self.payload_field.as_ref()].into_iter().flatten();
        let mut keys = Vec::new();
        for path in paths.map(String::as_str).chain(topic) {
            keys.push(path);
            keys.extend(path.split_once('.').map(|(head, _)| head));
        }
        keys
    }
}

fn not_an_object(error: &serde_json::Error) -> String {
    if error.is_data() {
        // Its own words quote what is there instead, however long that is.
        return "it is JSON, but not an object".to_owned();
    }
    let text = error.to_string();
    let what = text.split(" at line ").next().unwrap_or(&text);
    format!("it is not JSON: {what} at its byte {}", error.column())
}

/// Tells whether JSON text is nested deeper than `max`, on a stack of constant size.
fn is_deeper_than(max: usize, text: &[u8]) -> bool {
    let opening = |byte: &&u8| matches!(byte, b'[' | b'{');
    if text.iter().filter(opening).count() <= max {
        return false;
    }
    let (mut depth, mut in_text, mut escaped) = (0_usize, false, false);
    for byte in text {
        match byte {
            _ if escaped => escaped = false,
            b'\\' if in_text => escaped = true,
            b'"' => in_text = !in_text,
            _ if in_text => {}
            b'[' | b'{' => depth += 1,
            b']' | b'}' => depth = depth.saturating_sub(1),
            _ => {}
        }
        if depth > max {
            return true;
        }
    }
    false
}

/// A topic with places for fields of the line: `github:{event}`; `{{` and `}}` are braces.
#[derive(Clone, Debug)]
pub(super) struct Template(Vec<Piece>);

#[derive(Clone, Debug)]
enum Piece {
    Text(String),
    Field(String),
}

impl Template {
    /// Reads a template.
    pub(super) fn parse(text: &str) -> Result<Self> {
        let wrong = |why: &str| {
            Error::new(ErrorKind::Config, "topic", format!("`{text}`: {why}"))
                .hint("write a field as {path.to.field}, a brace itself as {{ or }}")
        };
        let (mut pieces, mut literal, mut rest) = (Vec::new(), String::new(), text);
        while let Some(at) = rest.find(['{', '}']) {
            literal.push_str(&rest[..at]);
            let (brace, after) = rest[at..].split_at(1);
            rest = if let Some(after) = after.strip_prefix(brace) {
                literal.push_str(brace);
                after
            } else if brace == "{" {
                let (path, after) = after.split_once('}').ok_or_else(|| wrong("a { is open"))?;
                if path.is_empty() || path.contains('{') {
                    return Err(wrong("between { and } must be a field"));
                }
                pieces.push(Piece::Text(std::mem::take(&mut literal)));
                pieces.push(Piece::Field(path.to_owned()));
                after
            } else {
                return Err(wrong("a } closes nothing"));
            };
        }
        literal.push_str(rest);
        pieces.push(Piece::Text(literal));
        Ok(Self(pieces))
    }

    fn paths(&self) -> impl Iterator<Item = &str> {
        self.0.iter().filter_map(|piece| match piece {
            Piece::Field(path) => Some(path.as_str()),
            Piece::Text(_) => None,
        })
    }

    fn fill(&self, fields: &Fields<'_, '_>) -> Result<String, String> {
        let mut topic = String::new();
        for piece in &self.0 {
            match piece {
                Piece::Text(text) => topic.push_str(text),
                Piece::Field(path) => topic.push_str(&plain(path, fields.at(path)?)?),
            }
        }
        Ok(topic)
    }
}

/// Returns a text without its quotes, a number or a boolean as it is written.
fn plain(path: &str, value: &RawValue) -> Result<String, String> {
    let wrong = || format!("its `{path}` is not a text, a number or a boolean");
    match value.get().as_bytes().first() {
        Some(b'"') => serde_json::from_str(value.get()).map_err(|_| wrong()),
        Some(b'{' | b'[' | b'n') | None => Err(wrong()),
        Some(_) => Ok(value.get().to_owned()),
    }
}

/// The fields of a line that were asked for, as they are written in it.
struct Fields<'k, 't> {
    keys: Vec<&'k str>,
    found: Vec<Option<&'t RawValue>>,
}

impl<'k, 't> Fields<'k, 't> {
    fn of(text: &'t str, keys: Vec<&'k str>) -> serde_json::Result<Self> {
        let mut deserializer = serde_json::Deserializer::from_str(text);
        let found = Wanted(&keys).deserialize(&mut deserializer)?;
        deserializer.end()?;
        Ok(Self { keys, found })
    }

    /// Returns what lies at `path`: a literal key wins over a dotted path.
    fn at(&self, path: &str) -> Result<&'t RawValue, String> {
        self.key(path)
            .or_else(|| {
                let mut parts = path.split('.');
                let head = self.key(parts.next()?)?;
                parts.try_fold(head, |inner, key| below(inner, key))
            })
            .ok_or_else(|| format!("it has no `{path}`"))
    }

    fn key(&self, key: &str) -> Option<&'t RawValue> {
        self.found[self.keys.iter().position(|known| *known == key)?]
    }
}

/// Returns one field or item of a value without decoding the others.
fn below<'t>(value: &'t RawValue, key: &str) -> Option<&'t RawValue> {
    if value.get().starts_with('[') {
        let items: Vec<&RawValue> = serde_json::from_str(value.get()).ok()?;
        return items.get(key.parse::<usize>().ok()?).copied();
    }
    Fields::of(value.get(), vec![key]).ok()?.found[0]
}

/// Takes an object's values of these keys; of keys that come twice the last, as everywhere else.
struct Wanted<'k>(&'k [&'k str]);

impl<'de> DeserializeSeed<'de> for Wanted<'_> {
    type Value = Vec<Option<&'de RawValue>>;

    fn deserialize<D: Deserializer<'de>>(self, from: D) -> Result<Self::Value, D::Error> {
        from.deserialize_map(self)
    }
}

impl<'de> Visitor<'de> for Wanted<'_> {
    type Value = Vec<Option<&'de RawValue>>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
        let mut found = vec![None; self.0.len()];
        while let Some(wanted) = map.next_key_seed(Key(self.0))? {
            match wanted {
                None => drop(map.next_value::<IgnoredAny>()?),
                Some(first) => {
                    let value: &RawValue = map.next_value()?;
                    found[first] = Some(value);
                }
            }
        }
        Ok(found)
    }
}

/// Tells which of the wanted keys a key is, without keeping it.
struct Key<'k>(&'k [&'k str]);

impl<'de> DeserializeSeed<'de> for Key<'_> {
    type Value = Option<usize>;

    fn deserialize<D: Deserializer<'de>>(self, from: D) -> Result<Self::Value, D::Error> {
        from.deserialize_str(self)
    }
}

impl Visitor<'_> for Key<'_> {
    type Value = Option<usize>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a key")
    }

    fn visit_str<E>(self, key: &str) -> Result<Self::Value, E> {
        Ok(self.0.iter().position(|wanted| *wanted == key))
    }
}
