//! What lies where: the stream, and beside it keys of the same slot.
//!
//! The stream's key is its name, so that others find it. All other keys begin with `{name}:`: what
//! stands in braces decides the slot of a cluster, and so do names without braces as a whole. Of a
//! name with braces they begin with `name:~:`, which no key of another stream does.

use crate::codec::Format;
use std::sync::Arc;

/// The keys of one stream.
#[derive(Clone, Debug)]
pub(super) struct Keys {
    /// The stream: `topic` and `event`, and `delay` where it is held back.
    pub(super) stream: String,
    /// What all other keys begin with.
    pub(super) base: String,
    /// The dead letters, a stream as well.
    pub(super) dead: String,
    /// The channel that tells of events that can be fetched again.
    pub(super) wake: String,
    /// The stream's name again, where entries of plain fields are events.
    pub(super) plain: Option<Arc<str>>,
}

impl Keys {
    /// Tells whether a name has no braces, or one pair that says which slot it is in, and is not that
    /// of a key of another stream.
    pub(super) fn fits(stream: &str) -> bool {
        let braces: String = stream.chars().filter(|c| matches!(c, '{' | '}')).collect();
        let rest = stream.strip_prefix('{').and_then(|rest| rest.split_once("}:"));
        let is_taken = rest.is_some_and(|(_, rest)| match rest.split_once(':') {
            None => ["groups", "pruned", "dead", "wake"].contains(&rest),
            // The keys of a group have one letter.
            Some((word, _)) => word.len() == 1,
        });
        braces.is_empty() || braces == "{}" && !stream.contains("{}") && !is_taken
    }

    pub(super) fn of(stream: &str) -> Self {
        let base = match stream.contains('{') {
            true => format!("{stream}:~:"),
            false => format!("{{{stream}}}:"),
        };
        let of = |name: &str| format!("{base}{name}");
        Self { stream: stream.into(), dead: of("dead"), wake: of("wake"), base, plain: None }
    }
}

impl Keys {
    /// Takes entries of plain fields for events.
    pub(super) fn with_format(mut self, format: Format) -> Self {
        self.plain = (format == Format::Plain).then(|| self.stream.as_str().into());
        self
    }

    /// Returns the key of what is kept of a group's events beside the stream.
    pub(super) fn kept(&self, group: &str) -> String {
        format!("{}d:{group}", self.base)
    }

    /// Returns the key of when these can be fetched again.
    pub(super) fn due(&self, group: &str) -> String {
        format!("{}t:{group}", self.base)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What the server's cluster specification says of hash tags.
    fn tag(key: &str) -> &str {
        let inside = key.split_once('{').and_then(|(_, rest)| rest.split_once('}'));
        inside.map(|(tag, _)| tag).filter(|tag| !tag.is_empty()).unwrap_or(key)
    }

    #[test]
    fn all_keys_of_a_stream_live_in_one_slot() {
        let tags =
            [("events", "events"), ("shop:events", "shop:events"), ("{shop}:events", "shop")];
        for (name, expected) in tags {
            let keys = Keys::of(name);
            let all = [&keys.stream, &keys.base, &keys.dead, &keys.wake].map(|key| tag(key));
            assert_eq!(all, [expected; 4], "{name}");
        }
        assert!(Keys::fits("{shop}:events") && Keys::fits("{shop}"));
        assert!(["a{}b", "a}b", "{a", "{a}{b", "}{a}"].iter().all(|name| !Keys::fits(name)));
    }
    #[test]
    fn no_two_streams_have_a_key_in_common() {
        let names = ["a", "{a}", "{a}:b", "a:b", "{a}b"];
        let keys = names.map(Keys::of);
        let of = |keys: &Keys| [keys.dead.clone(), keys.wake.clone(), keys.kept("g")];
        let all: std::collections::BTreeSet<_> = keys.iter().flat_map(of).collect();
        assert_eq!(all.len(), 3 * names.len());
        // What would be a key of the stream `a`, or of `{a}`.
        for name in ["{a}:dead", "{a}:d:g", "{a}:groups", "{a}:~:dead"] {
            assert!(!Keys::fits(name), "{name}");
        }
    }
}
