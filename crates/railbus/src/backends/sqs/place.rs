//! Which queue is whose, and where it is.
//!
//! A URL with `{group}` in its name is that of many queues, one a group. In the name of a queue a group
//! is written so that it can be read again: letters, digits and `-` as they are, all else by its bytes,
//! `_` and two hexadecimal digits each. So no group's name ends like that of the queue with its dead
//! letters.

use crate::{
    error::{Error, ErrorKind, Result},
    id::derived_id,
};
use std::fmt::Write;

/// What stands for a group's name.
pub(super) const GROUP: &str = "{group}";

/// What the name of a queue of dead letters ends with, where it has no URL of its own.
pub(super) const DEAD: &str = "__dead";

/// What stands before the id of a group whose name is too long.
const LONG: &str = "_-";

/// How long the name of a queue may be.
const NAME_MAX: usize = 80;

/// Whose a queue is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Whose {
    /// This group's.
    Group(String),
    /// That of the group that its tags name.
    Tagged,
}

/// The URL of a queue, or of one for each group, in its parts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Place {
    /// All before the name: scheme, host and account.
    before: String,
    name: String,
}

impl Place {
    /// Reads the URL of a queue.
    ///
    /// # Errors
    /// Returns a config error that says what is wrong with it.
    pub(super) fn read(url: &str, key: &'static str) -> Result<Self> {
        let refuse = |why: &'static str| {
            Err(Error::new(ErrorKind::Config, "open sqs", why)
                .with("setting", key)
                .with("value", url)
                .hint("write the queue's URL, such as https://sqs.us-east-1.amazonaws.com/123456789012/events"))
        };
        let Some((scheme, rest)) = url.split_once("://") else {
            return refuse("a queue's URL begins with https://");
        };
        if !["http", "https"].contains(&scheme) {
            return refuse("a queue's URL begins with https:// or http://");
        }
        let Some((before, name)) = rest.trim_end_matches('/').rsplit_once('/') else {
            return refuse("a queue's URL ends with the queue's name");
        };
        let host = before.split('/').next().unwrap_or_default();
        let odd = |c: char| c.is_whitespace() || c.is_control() || "@?#".contains(c);
        if host.is_empty() || rest.contains(odd) {
            return refuse("a queue's URL has a host, and no user, query or fragment");
        }
        let plain = name.replacen(GROUP, "g", 1);
        let base = plain.strip_suffix(".fifo").unwrap_or(&plain);
        let fits = |b: u8| b.is_ascii_alphanumeric() || b == b'-' || b == b'_';
        if base.is_empty() || plain.len() > NAME_MAX || !base.bytes().all(fits) {
            return refuse(
                "a queue's name has letters, digits, - and _, 80 at most, and may end with .fifo",
            );
        }
        Ok(Self { before: format!("{scheme}://{before}"), name: name.into() })
    }

    /// Tells whether each group has a queue of its own.
    pub(super) fn is_grouped(&self) -> bool {
        self.name.contains(GROUP)
    }

    /// Tells whether its queues keep the order of their events.
    pub(super) fn is_fifo(&self) -> bool {
        self.name.ends_with(".fifo")
    }

    /// Returns the queue's name, with `{group}` in it if there is one a group.
    pub(super) fn name(&self) -> &str {
        &self.name
    }

    /// Returns the URL as it was written.
    pub(super) fn url(&self) -> String {
        format!("{}/{}", self.before, self.name)
    }

    /// Returns the URL of another queue beside it.
    pub(super) fn beside(&self, account: &str, name: &str) -> String {
        let host = self
            .before
            .match_indices('/')
            .nth(2)
            .map_or(&*self.before, |(at, _)| &self.before[..at]);
        format!("{host}/{account}/{name}")
    }

    /// Returns the URL of a group's queue.
    ///
    /// # Errors
    /// Returns a config error if there is no room for a group in its name.
    pub(super) fn of_group(&self, group: &str) -> Result<String> {
        if !self.is_grouped() {
            return Ok(self.url());
        }
        let part = match self.is_tagged(group) {
            true => format!("{LONG}{}", derived_id("railbus:sqs:group", group)),
            false => written(group),
        };
        let name = self.name.replacen(GROUP, &part, 1);
        if name.len() > NAME_MAX {
            let why = "there is no room for a group in the queue's name";
            return Err(Error::new(ErrorKind::Config, "subscribe", why)
                .with("group", group)
                .with("queue", name)
                .hint("a queue's name has 80 characters at most: shorten queue_url"));
        }
        Ok(format!("{}/{name}", self.before))
    }

    /// Tells whether a group's name is too long for that of a queue: its tags say it.
    pub(super) fn is_tagged(&self, group: &str) -> bool {
        let name = self.name.len() - GROUP.len() + written(group).len();
        name + DEAD.len() > NAME_MAX
    }

    /// Returns the place of the dead letters of its queues, where none is named.
    pub(super) fn dead(&self) -> Self {
        let (base, end) = match self.name.strip_suffix(".fifo") {
            Some(base) => (base, ".fifo"),
            None => (&*self.name, ""),
        };
        Self { before: self.before.clone(), name: format!("{base}{DEAD}{end}") }
    }

    /// Returns what the names of all groups' queues begin with.
    pub(super) fn prefix(&self) -> &str {
        self.name.split(GROUP).next().unwrap_or_default()
    }

    /// Returns whose queue has this URL, if it is a group's.
    pub(super) fn group_of(&self, url: &str) -> Option<Whose> {
        let name = url.rsplit('/').next()?;
        let (prefix, suffix) = self.name.split_once(GROUP)?;
        let part = name.strip_prefix(prefix)?.strip_suffix(suffix)?;
        match part.strip_prefix(LONG) {
            // An id, and nothing behind it.
            Some(id) => (id.len() == 36).then_some(Whose::Tagged),
            None => read(part).map(Whose::Group),
        }
    }

    /// Returns the host and port.
    pub(super) fn authority(&self) -> &str {
        let rest = self.before.split_once("://").map_or("", |(_, rest)| rest);
        rest.split('/').next().unwrap_or_default()
    }

    /// Returns the region that the host names, if it does.
    pub(super) fn region(&self) -> Option<&str> {
        let host = self.authority().split(':').next().unwrap_or_default();
        let parts: Vec<_> = host.split('.').collect();
        match *parts.as_slice() {
            ["queue", "amazonaws", "com"] => Some("us-east-1"),
            [region, "queue", "amazonaws", ..] => Some(region),
            ["sqs" | "sqs-fips", region, "amazonaws" | "api", ..] => Some(region),
            ["sqs", region, "localhost", "localstack", "cloud"] => Some(region),
            [.., "sqs", region, "vpce", "amazonaws", _] => Some(region),
            [.., "sqs", region, "vpce", "amazonaws", _, _] => Some(region),
            _ => None,
        }
    }

    /// Returns where requests go, unless that follows from the region: to the queue's own host.
    pub(super) fn endpoint(&self) -> Option<String> {
        let host = self.authority();
        let aws =
            |host: &str| host.ends_with(".amazonaws.com") || host.ends_with(".amazonaws.com.cn");
        // The old hosts don't know the protocol of today.
        let is_old = host == "queue.amazonaws.com" || host.contains(".queue.amazonaws.com");
        if is_old || (aws(host) && host.starts_with("sqs.")) {
            return None;
        }
        let scheme = self.before.split("://").next().unwrap_or_default();
        Some(format!("{scheme}://{host}"))
    }
}

/// Writes a group's name as a part of a queue's.
fn written(group: &str) -> String {
    group.bytes().fold(String::with_capacity(group.len()), |mut text, b| {
        match b.is_ascii_alphanumeric() || b == b'-' {
            true => text.push(char::from(b)),
            // A text takes all that is written.
            false => drop(write!(text, "_{b:02x}")),
        }
        text
    })
}

fn read(written: &str) -> Option<String> {
    let mut bytes = Vec::with_capacity(written.len());
    let mut rest = written.as_bytes();
    while let [first, more @ ..] = rest {
        (rest, bytes) = match *first {
            b'_' => {
                let code = std::str::from_utf8(more.get(..2)?).ok()?;
                bytes.push(u8::from_str_radix(code, 16).ok()?);
                (&more[2..], bytes)
            }
            b => {
                bytes.push(b);
                (more, bytes)
            }
        };
    }
    String::from_utf8(bytes).ok().filter(|group| !group.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn place(url: &str) -> Place {
        Place::read(url, "queue_url").unwrap()
    }

    #[test]
    fn a_group_is_read_from_its_queue_s_name() {
        let events = place("https://h/1/a-{group}-b.fifo");
        for group in ["billing", "a:b_c d", "größe", "a-dead", "_", "dead__dead"] {
            let url = events.of_group(group).unwrap();
            assert_eq!(events.group_of(&url), Some(Whose::Group(group.into())), "{url}");
            let dead = events.dead().of_group(group).unwrap();
            assert_eq!(events.group_of(&dead), None, "{dead}");
        }
        assert_eq!(events.group_of("https://h/1/a-billing.fifo"), None);
        assert_eq!(events.group_of("https://h/1/a-x__dead-b.fifo"), None);
        let long = events.of_group(&"g".repeat(200)).unwrap();
        assert_eq!(events.group_of(&long), Some(Whose::Tagged));
        assert_ne!(long, events.of_group(&"g".repeat(201)).unwrap());
        let tight = place(&format!("https://h/1/{}{{group}}", "a".repeat(70)));
        assert!(tight.of_group(&"g".repeat(200)).is_err());
        let open = place("https://h/1/{group}");
        assert_eq!(open.group_of("https://h/1/x__dead"), None, "a queue of dead letters");
    }

    #[test]
    fn a_region_is_read_from_the_hosts_that_name_one() {
        for (host, region, own) in [
            ("sqs.eu-west-1.amazonaws.com", Some("eu-west-1"), false),
            ("sqs.cn-north-1.amazonaws.com.cn", Some("cn-north-1"), false),
            ("queue.amazonaws.com", Some("us-east-1"), false),
            ("eu-west-1.queue.amazonaws.com", Some("eu-west-1"), false),
            ("vpce-1-2.sqs.us-east-2.vpce.amazonaws.com", Some("us-east-2"), true),
            ("sqs-fips.us-east-1.amazonaws.com", Some("us-east-1"), true),
            ("sqs.us-east-1.api.aws", Some("us-east-1"), true),
            ("sqs.eu-central-1.localhost.localstack.cloud:4566", Some("eu-central-1"), true),
            ("localhost:4566", None, true),
            ("queue.example.com", None, true),
        ] {
            let place = place(&format!("https://{host}/1/events"));
            assert_eq!((place.region(), place.endpoint().is_some()), (region, own), "{host}");
        }
    }

    #[test]
    fn what_is_no_queue_s_url_is_refused() {
        for url in [
            "events",
            "ftp://h/1/a",
            "https://h",
            "https://h/",
            "https:///1/a",
            "https://h/1/a b",
            "https://h/1/a?b",
            "https://u@h/1/a",
            "https://h/1/a.b",
            "https://h/1/.fifo",
            "https://h/1/größe",
        ] {
            let error = Place::read(url, "queue_url").unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Config, "{url}");
        }
        assert!(Place::read(&format!("https://h/1/{}", "a".repeat(81)), "queue_url").is_err());
    }

    #[test]
    fn another_queue_is_beside_it() {
        let events = place("http://localhost:1/123/events");
        assert_eq!(events.beside("9", "dead"), "http://localhost:1/9/dead");
        assert_eq!(events.dead().url(), "http://localhost:1/123/events__dead");
        assert_eq!(place("https://h/1/e.fifo").dead().url(), "https://h/1/e__dead.fifo");
    }
}
