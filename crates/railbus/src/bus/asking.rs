//! Who asked and waits for a reply.

use crate::{backend::Source, event::Event, id::new_id};
use std::{
    collections::HashMap,
    fmt,
    sync::{
        Arc, Mutex, MutexGuard, OnceLock, PoisonError,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
};
use tokio::sync::oneshot;

/// The requests of a bus that wait for their replies, which all come on one topic of its own.
#[derive(Default)]
pub(super) struct Asking {
    topic: OnceLock<String>,
    waiting: Mutex<HashMap<String, Waiting>>,
    made: AtomicU64,
    /// What brings the replies, once there is one. Held while it opens.
    pub(super) ear: tokio::sync::Mutex<Option<Ear>>,
}

/// Who waits, by number, and how to tell them.
type Waiting = (u64, oneshot::Sender<Event>);

/// What brings the replies.
pub(super) enum Ear {
    /// Handlers here publish them to a subscription.
    Inline,
    /// A source of its own, which does not wait for any handler.
    Source(Arc<dyn Source>),
}

impl Asking {
    /// Returns the topic of the replies.
    pub(super) fn topic(&self) -> &str {
        self.topic.get_or_init(|| format!("replies:{}", new_id()))
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<String, Waiting>> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Notes that somebody waits for the reply to this event; none if somebody does already.
    pub(super) fn wait_for(&self, id: &str) -> Option<Wait<'_>> {
        let (tell, told) = oneshot::channel();
        let mut waiting = self.lock();
        if waiting.contains_key(id) {
            return None;
        }
        let number = self.made.fetch_add(1, Relaxed);
        waiting.insert(id.to_owned(), (number, tell));
        Some(Wait { asking: self, number, id: id.to_owned(), told })
    }

    /// Hands a reply to who waits for it. Those that come too late, and second ones, are nobody's.
    pub(super) fn replied(&self, reply: &Event) {
        let waits = reply.causation_id().and_then(|id| self.lock().remove(id));
        if let Some((_, tell)) = waits {
            let _ = tell.send(reply.clone());
        }
    }

    /// Lets go of all who wait: no reply comes any more.
    pub(super) fn end(&self) {
        self.lock().clear();
    }

    /// Returns how many wait.
    pub(super) fn count(&self) -> usize {
        self.lock().len()
    }
}

impl Drop for Asking {
    fn drop(&mut self) {
        if let Some(Ear::Source(source)) = self.ear.get_mut() {
            source.stop();
        }
    }
}

impl fmt::Debug for Asking {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Asking({} waiting)", self.count())
    }
}

/// Somebody who waits for a reply; forgotten when dropped.
pub(super) struct Wait<'a> {
    asking: &'a Asking,
    // Another may wait under the same id once this one has its reply.
    number: u64,
    id: String,
    told: oneshot::Receiver<Event>,
}

impl Wait<'_> {
    /// Waits for the reply; none if none comes any more.
    pub(super) async fn reply(&mut self) -> Option<Event> {
        (&mut self.told).await.ok()
    }
}

impl Drop for Wait<'_> {
    fn drop(&mut self) {
        let mut waiting = self.asking.lock();
        if waiting.get(&self.id).is_some_and(|(number, _)| *number == self.number) {
            waiting.remove(&self.id);
        }
    }
}
