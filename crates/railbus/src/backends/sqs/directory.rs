//! Which groups there are, and what they want: all that publish in this process share it.
//!
//! A group's interest is kept in the tags of its queue, where publishers in other processes find it. It
//! only grows; where it does not fit the group gets everything.

use super::{past::Pasts, queue::Queue};
use crate::{
    backend::GroupInfo,
    error::{ErrorKind, Result},
    id::derived_id,
    predicate::{Filter, Interest},
};
use base64::{Engine, prelude::BASE64_URL_SAFE};
use std::{
    collections::{BTreeMap, HashMap},
    sync::{Arc, Mutex, MutexGuard, PoisonError, Weak},
};
use tokio::{sync::Mutex as AsyncMutex, time::Instant};

/// What the keys of our tags begin with, and the one that says that a group wants all.
const TAG: &str = "railbus-interest-";
const ALL: &str = "railbus-interest-all";

/// How many tags are ours: a queue has fifty.
const TAGS_MAX: usize = 40;

/// How long the value of a tag may be.
const VALUE_MAX: usize = 256;

/// The directories in use, by place.
static DIRECTORIES: Mutex<Vec<(String, Weak<Directory>)>> = Mutex::new(Vec::new());

/// The groups of one place.
#[derive(Debug, Default)]
pub(super) struct Directory {
    groups: Mutex<BTreeMap<String, Known>>,
    /// When all queues were looked for last.
    pub(super) looked: AsyncMutex<Option<Instant>>,
    pub(super) pasts: Pasts,
    /// Letters are looked through by one at a time: whoever looks hides them from the others.
    pub(super) sweeping: AsyncMutex<()>,
    joining: AsyncMutex<()>,
}

/// What is known of a group.
#[derive(Clone, Debug, Default)]
struct Known {
    interest: Interest,
    filter: Arc<Filter>,
    /// Whether it is known here, whatever a listing says.
    ours: bool,
    tags: usize,
}

impl Known {
    fn widen(&mut self, interest: &Interest) -> bool {
        let wider = self.interest.add(interest);
        if wider {
            self.filter = Arc::new(self.interest.compile());
        }
        wider
    }
}

impl Directory {
    /// Returns the directory of a place, the same for all that use it at a time.
    pub(super) fn of(place: String) -> Arc<Self> {
        let mut all = DIRECTORIES.lock().unwrap_or_else(PoisonError::into_inner);
        all.retain(|(_, directory)| directory.strong_count() > 0);
        if let Some(found) = all.iter().find(|(of, _)| *of == place).and_then(|(_, d)| d.upgrade())
        {
            return found;
        }
        let new = Arc::<Self>::default();
        all.push((place, Arc::downgrade(&new)));
        new
    }

    fn groups(&self) -> MutexGuard<'_, BTreeMap<String, Known>> {
        self.groups.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Returns the groups that want an event.
    pub(super) fn wanting(&self, event_type: &str, topic: &str) -> Vec<String> {
        let groups = self.groups();
        let wants = groups.iter().filter(|(_, known)| known.filter.matches(event_type, topic));
        wants.map(|(name, _)| name.clone()).collect()
    }

    /// Returns the names of the groups.
    pub(super) fn names(&self) -> Vec<String> {
        self.groups().keys().cloned().collect()
    }

    /// Tells what a group wants, as far as it is known.
    pub(super) fn interest(&self, group: &str) -> Interest {
        self.groups().get(group).map(|known| known.interest.clone()).unwrap_or_default()
    }

    /// Notes a group that gets everything, whatever a listing says.
    pub(super) fn add(&self, group: &str) {
        let mut groups = self.groups();
        let known = groups.entry(group.into()).or_default();
        known.ours = true;
        known.widen(&Interest::all());
    }

    /// Forgets a group; tells whether it was known.
    pub(super) fn forget(&self, group: &str) -> bool {
        self.groups().remove(group).is_some()
    }

    /// Forgets a group that was found and is gone; false if it is one of this process.
    pub(super) fn forget_found(&self, group: &str) -> bool {
        let mut groups = self.groups();
        let is_ours = groups.get(group).is_some_and(|known| known.ours);
        if !is_ours {
            groups.remove(group);
        }
        !is_ours
    }

    /// Notes the groups that were found, each with the tags of its queue; those that were not are gone.
    pub(super) fn found(&self, found: Vec<(String, HashMap<String, String>)>) {
        let mut groups = self.groups();
        groups.retain(|name, known| known.ours || found.iter().any(|(other, _)| other == name));
        for (name, tags) in found {
            let known = groups.entry(name).or_default();
            let (interest, count) = tagged(&tags);
            known.tags = known.tags.max(count);
            known.widen(&interest);
        }
    }

    /// Notes that a member of this process wants this, and writes it down where others look.
    ///
    /// # Errors
    /// Returns what the service says.
    pub(super) async fn join(&self, queue: &Queue, group: &str, interest: &Interest) -> Result<()> {
        let _joining = self.joining.lock().await;
        let is_new = !self.groups().get(group).is_some_and(|known| known.ours);
        if is_new {
            let (tagged, count) = match queue.tags().await {
                Ok(tags) if tags.keys().any(|key| key.starts_with(TAG)) => tagged(&tags),
                Ok(_) => (Interest::default(), 0),
                Err(error) => return untold(error, || self.add(group)),
            };
            let mut groups = self.groups();
            let known = groups.entry(group.into()).or_default();
            known.widen(&tagged);
            (known.ours, known.tags) = (true, count);
        }
        let tag = {
            let mut groups = self.groups();
            let known = groups.entry(group.into()).or_default();
            if !known.widen(interest) {
                return Ok(());
            }
            known.tags += 1;
            match value(interest).filter(|_| known.tags <= TAGS_MAX) {
                Some(value) => (format!("{TAG}{}", derived_id("railbus:sqs", &value)), value),
                None if known.tags > TAGS_MAX + 1 => return Ok(()),
                None => (ALL.to_owned(), "true".to_owned()),
            }
        };
        match queue.tag(&tag.0, &tag.1).await.or_else(|error| untold(error, || ())) {
            Err(error) => {
                // What is not written down is not known: the next one to join writes it.
                self.forget(group);
                Err(error)
            }
            told => told,
        }
    }

    /// Says what is known of a group, with what its queue says.
    pub(super) fn info(&self, name: &str, lag: u64, leased: u64, letters: u64) -> GroupInfo {
        GroupInfo {
            name: name.into(),
            interest: self.interest(name),
            lag,
            leased,
            dead_letters: letters,
            last_seen: crate::clock::Timestamp::now(),
        }
    }
}

/// Goes on where tags may be neither read nor written: others send the group everything.
fn untold(error: crate::error::Error, otherwise: impl FnOnce()) -> Result<()> {
    if error.kind() != ErrorKind::Denied {
        return Err(error);
    }
    tracing::warn!(%error, "the group's interest is not kept: allow sqs:TagQueue and sqs:ListQueueTags");
    otherwise();
    Ok(())
}

/// What the keys of the tags begin with that say a group's name, each a part of it.
const NAME: &str = "railbus-group-";

/// How many bytes of a name are in one tag.
const PART: usize = 180;

/// Writes a group's name as tags.
pub(super) fn name_tags(group: &str) -> Vec<(String, String)> {
    let parts = group.as_bytes().chunks(PART).enumerate();
    parts.map(|(n, part)| (format!("{NAME}{n}"), BASE64_URL_SAFE.encode(part))).collect()
}

/// Reads a group's name from tags.
pub(super) fn named(tags: &HashMap<String, String>) -> Option<String> {
    let parts = (0..).map_while(|n| tags.get(&format!("{NAME}{n}")));
    let bytes: Result<Vec<_>, _> = parts.map(|part| BASE64_URL_SAFE.decode(part)).collect();
    String::from_utf8(bytes.ok()?.concat()).ok().filter(|name| !name.is_empty())
}

/// Writes an interest as the value of a tag, if it fits.
fn value(interest: &Interest) -> Option<String> {
    let text = serde_json::to_string(interest).ok()?;
    Some(BASE64_URL_SAFE.encode(text)).filter(|value| value.len() <= VALUE_MAX)
}

/// Returns what tags say that a group wants, and how many of them are ours. Whose queue has none, since
/// somebody else made it, gets everything.
fn tagged(tags: &HashMap<String, String>) -> (Interest, usize) {
    let ours: Vec<_> = tags.iter().filter(|(key, _)| key.starts_with(TAG)).collect();
    let read = |(key, value): &(&String, &String)| {
        if key.as_str() == ALL {
            return Some(Interest::all());
        }
        let text = BASE64_URL_SAFE.decode(value.as_bytes()).ok()?;
        serde_json::from_slice(&text).ok()
    };
    let all: Option<Vec<Interest>> = ours.iter().map(read).collect();
    match all {
        Some(all) if !all.is_empty() => (Interest::of_all(all), ours.len()),
        // What can't be read may be anything.
        _ => (Interest::all(), ours.len()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::predicate::{event_type, topic};

    #[test]
    fn what_a_group_wants_is_read_from_its_tags() {
        let (one, other) = (event_type("order.*").interest(), topic("größe 🦀").interest());
        let tag = |interest: &Interest| (format!("{TAG}{interest}"), value(interest).unwrap());
        let tags: HashMap<_, _> = [tag(&one), tag(&other)].into();
        let (read, count) = tagged(&tags);
        assert_eq!(count, 2);
        let filter = read.compile();
        assert!(filter.matches("order.placed", "x") && filter.matches("x", "größe 🦀"));
        assert!(!filter.matches("x", "y"));
        for odd in [
            vec![],
            vec![(format!("{TAG}1"), "no base64".to_owned())],
            vec![(ALL.into(), "true".into())],
        ] {
            assert!(tagged(&odd.into_iter().collect()).0.compile().matches("x", "y"));
        }
        assert_eq!(value(&topic(&"t".repeat(300)).interest()), None);
    }

    #[test]
    fn a_long_name_is_read_from_tags() {
        for name in ["g".to_owned(), "größe 🦀".repeat(60)] {
            assert_eq!(named(&name_tags(&name).into_iter().collect()), Some(name));
        }
        assert_eq!(named(&HashMap::new()), None);
    }

    #[test]
    fn all_that_use_a_place_share_its_directory() {
        let one = Directory::of("a".into());
        assert!(Arc::ptr_eq(&one, &Directory::of("a".into())));
        assert!(!Arc::ptr_eq(&one, &Directory::of("b".into())));
    }

    #[test]
    fn groups_that_others_deleted_are_forgotten_and_those_of_this_process_are_not() {
        let directory = Directory::default();
        directory.add("mine");
        directory.found(vec![("theirs".into(), HashMap::new())]);
        assert_eq!(directory.wanting("t", "t"), ["mine", "theirs"]);
        directory.found(Vec::new());
        assert_eq!(directory.names(), ["mine"]);
        assert!(!directory.forget_found("mine") && directory.forget_found("theirs"));
        assert!(directory.forget("mine") && !directory.forget("mine"));
    }
}
