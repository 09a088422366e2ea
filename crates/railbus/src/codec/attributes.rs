//! The attributes of a CloudEvent, as they are read.

use serde::{
    Deserialize, Deserializer,
    de::{self, MapAccess, Visitor},
};
use serde_json::value::RawValue;
use smallvec::SmallVec;
use std::{borrow::Cow, fmt};

/// A CloudEvent as it is read: what it must have, and all else by name.
#[derive(Default)]
pub(super) struct Read<'a> {
    pub(super) specversion: Cow<'a, str>,
    pub(super) id: Cow<'a, str>,
    pub(super) event_type: Cow<'a, str>,
    pub(super) source: Cow<'a, str>,
    pub(super) more: SmallVec<[(Cow<'a, str>, Cow<'a, str>); 4]>,
    pub(super) data: Option<&'a RawValue>,
}

impl<'a> Read<'a> {
    /// Returns the field for one of the attributes that must be there, and its place among them.
    fn required(&mut self, name: &str) -> Option<(usize, &mut Cow<'a, str>)> {
        Some(match name {
            "specversion" => (0, &mut self.specversion),
            "id" => (1, &mut self.id),
            "type" => (2, &mut self.event_type),
            "source" => (3, &mut self.source),
            _ => return None,
        })
    }
}

/// Reads an event in the form in which most are written: texts without anything escaped, data
/// at the end. None if it has another, whatever it is.
pub(super) fn own(text: &str) -> Option<Read<'_>> {
    let (mut read, mut has) = (Read::default(), [false; 4]);
    let mut rest = text.strip_prefix('{')?;
    loop {
        let (name, after) = plain(rest)?;
        rest = after.strip_prefix(':')?;
        if name == "data" {
            read.data = serde_json::from_str(rest.strip_suffix('}')?).ok()?;
            return has.iter().all(|has| *has).then_some(read);
        }
        let (value, after) = plain(rest)?;
        rest = after.strip_prefix(',')?;
        match read.required(name) {
            Some((place, field)) => (has[place], *field) = (true, value.into()),
            None => read.more.push((name.into(), value.into())),
        }
    }
}

/// Takes a text in quotes, without anything escaped in it, from the front.
fn plain(text: &str) -> Option<(&str, &str)> {
    let text = text.strip_prefix('"')?;
    let end = text.bytes().position(|byte| !is_plain(byte))?;
    let (plain, rest) = text.split_at(end);
    Some((plain, rest.strip_prefix('"')?))
}

/// Text that is borrowed from what is read where nothing in it is escaped.
#[derive(Deserialize)]
struct Text<'a>(#[serde(borrow)] Cow<'a, str>);

/// An attribute's value, section 2.1 of the JSON event format; anything else as JSON text.
#[derive(Deserialize)]
#[serde(transparent)]
struct Attribute<'a>(#[serde(borrow)] &'a RawValue);

impl<'a> Attribute<'a> {
    fn text<E: de::Error>(&self) -> Result<Option<Cow<'a, str>>, E> {
        match self.0.get() {
            "null" => Ok(None),
            text if text.starts_with('"') => {
                serde_json::from_str::<Text<'a>>(text).map(|text| Some(text.0)).map_err(E::custom)
            }
            other => Ok(Some(other.into())),
        }
    }
}

impl<'de> Deserialize<'de> for Read<'de> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(Reading)
    }
}

struct Reading;

impl<'de> Visitor<'de> for Reading {
    type Value = Read<'de>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a CloudEvent")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Read<'de>, A::Error> {
        let mut read = Read::default();
        let mut has = [false; 4];
        while let Some(Text(name)) = map.next_key()? {
            if name == "data" {
                read.data = Some(map.next_value()?);
            } else if let Some((place, field)) = read.required(&name) {
                *field = map.next_value::<Text<'de>>()?.0;
                has[place] = true;
            } else if let Some(value) = map.next_value::<Attribute<'de>>()?.text()? {
                read.more.push((name, value));
            }
        }
        let names = ["specversion", "id", "type", "source"];
        match names.into_iter().zip(has).find(|(_, has)| !has) {
            Some((missing, _)) => Err(de::Error::missing_field(missing)),
            None => Ok(read),
        }
    }
}

/// Tells whether a byte of a text stands for itself in JSON.
pub(super) fn is_plain(byte: u8) -> bool {
    byte >= b' ' && byte != b'"' && byte != b'\\'
}
