//! Which channel an event goes to, and whose events a channel brings.
//!
//! All CloudEvents of a prefix go to one channel, which bears the prefix's name, and bring their topic
//! along. A channel a topic could not be listened to by a pattern, would have to mangle or hash names
//! (63 bytes, and `a:b` beside `a.b`), and would cost a statement a topic after every reconnect; a
//! bus listens to everything and asks its own table anyway.
//!
//! Programs that know of no such channel have one a topic, as dataknobs names them. These must be
//! listed, since PostgreSQL has no patterns over channels.
//!
//! Source: `_topic_to_channel` of dataknobs-common: `: . -` become `_`, and what is not a letter, a
//! digit or `_` of ASCII is left out.

use crate::{
    codec::Format,
    error::{Error, ErrorKind, Result},
    options::Options,
};
use std::sync::Arc;

/// The longest name of a channel that the server takes, in bytes.
const CHANNEL_MAX: usize = 63;

/// The channels of a bus.
#[derive(Clone, Debug)]
pub(super) enum Channels {
    /// One for all events, whatever their topic.
    One(String),
    /// One a topic: the prefix, and the topics listened to with their channels.
    Named { prefix: String, topics: Vec<(String, Arc<str>)> },
}

impl Channels {
    /// Reads which channels there are; `prefix` is that of [`Channels::One`].
    pub(super) fn read(options: &Options, format: Format, prefix: &str) -> Result<Self> {
        let listed = options.text("topics");
        let config = |why: String, hint: &str| {
            Err(Error::new(ErrorKind::Config, "open postgres", why).hint(hint.to_owned()))
        };
        if format == Format::CloudEvents {
            return match listed {
                None => Ok(Self::One(prefix.into())),
                Some(_) => config(
                    "`topics` goes with format=plain or format=dataknobs".into(),
                    "leave it out: CloudEvents are heard whatever their topic",
                ),
            };
        }
        let prefix = named(options.text("prefix").unwrap_or("events"));
        if prefix.is_empty() {
            return config(
                "nothing is left of `prefix`".into(),
                "it needs a letter or a digit where channels bear topics' names",
            );
        }
        let mut topics: Vec<(String, Arc<str>)> = Vec::new();
        for topic in listed.into_iter().flat_map(|all| all.split(',')).map(str::trim) {
            let channel = channel_of(&prefix, topic)?;
            let same = topics.iter().find(|(known, _)| *known == channel);
            if let Some((_, other)) = same.filter(|_| format == Format::Plain) {
                let why = format!("`{topic}` and `{other}` have the same channel, {channel}");
                return config(why, "keep one of them: a payload alone does not tell which it is");
            }
            if same.is_none() {
                topics.push((channel, topic.into()));
            }
        }
        Ok(Self::Named { prefix, topics })
    }

    /// Returns the channel that an event of this topic goes to.
    pub(super) fn of(&self, topic: &str) -> Result<String> {
        match self {
            Self::One(channel) => Ok(channel.clone()),
            Self::Named { prefix, .. } => channel_of(prefix, topic),
        }
    }

    /// Returns the channels to listen to.
    pub(super) fn all(&self) -> Result<Vec<String>> {
        match self {
            Self::One(channel) => Ok(vec![channel.clone()]),
            Self::Named { topics, .. } if topics.is_empty() => {
                let why = "no topic is listed to listen to";
                Err(Error::new(ErrorKind::Config, "subscribe", why)
                    .hint("set topics, such as topics=orders,registry:bots"))
            }
            Self::Named { topics, .. } => {
                Ok(topics.iter().map(|(channel, _)| channel.clone()).collect())
            }
        }
    }

    /// Returns the topic that a channel stands for, if it stands for one.
    pub(super) fn topic_of(&self, channel: &str) -> Option<Arc<str>> {
        match self {
            Self::One(_) => None,
            Self::Named { topics, .. } => {
                let found = topics.iter().find(|(known, _)| known == channel);
                found.map(|(_, topic)| Arc::clone(topic))
            }
        }
    }
}

fn named(text: &str) -> String {
    text.chars().filter(|c| c.is_ascii_alphanumeric() || *c == '_').collect()
}

fn channel_of(prefix: &str, topic: &str) -> Result<String> {
    let name = named(&topic.replace([':', '.', '-'], "_"));
    let refuse = |why: String| {
        let head: String = topic.chars().take(40).collect();
        Err(Error::new(ErrorKind::InvalidEvent, "publish", why)
            .with("topic", head.escape_debug())
            .hint("format=cloudevents takes every topic"))
    };
    if name.is_empty() {
        return refuse("nothing of the topic can be a channel's name".into());
    }
    let channel = format!("{prefix}_{name}");
    match channel.len() > CHANNEL_MAX {
        true => refuse(format!("a channel's name has at most {CHANNEL_MAX} bytes")),
        false => Ok(channel),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(query: &str, format: Format) -> Result<Channels> {
        Channels::read(&Options::parse(&format!("postgres://h/d{query}"))?, format, "railbus")
    }

    #[test]
    fn channels_are_named_as_dataknobs_names_them() {
        let channels = read("", Format::Dataknobs).unwrap();
        for (topic, channel) in [
            ("registry:bots", "events_registry_bots"),
            ("événement", "events_vnement"),
            ("foo'; DROP TABLE users --", "events_fooDROPTABLEusers__"),
            ("a.b-c", "events_a_b_c"),
        ] {
            assert_eq!(channels.of(topic).unwrap(), channel);
        }
        for none in ["*", "!@#", "日本", &"x".repeat(60)] {
            assert_eq!(channels.of(none).unwrap_err().kind(), ErrorKind::InvalidEvent, "{none}");
        }
        let own = read("?prefix=my-app&topics=a:b,a.b,c", Format::Dataknobs).unwrap();
        assert_eq!(own.all().unwrap(), ["myapp_a_b", "myapp_c"]);
        assert_eq!(own.topic_of("myapp_a_b").as_deref(), Some("a:b"));
    }

    #[test]
    fn what_can_not_be_told_apart_or_is_not_listed_is_refused() {
        for (query, format) in [
            ("?topics=a:b,a.b", Format::Plain),
            ("?topics=a", Format::CloudEvents),
            ("?prefix=-", Format::Plain),
        ] {
            assert_eq!(read(query, format).unwrap_err().kind(), ErrorKind::Config, "{query}");
        }
        assert!(read("", Format::Plain).unwrap().all().is_err());
    }
}
