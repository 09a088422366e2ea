//! Hearing of broadcasts as soon as the backend brings them, before their turn among the handlers, and
//! before those that came with them are handed on.
//!
//! What a backend has not brought yet is not heard: while a full lane holds up all topics, nothing more
//! is fetched, so that what is kept by such events may be as old as that.

use crate::{event::Event, predicate::Predicate};
use std::sync::{Arc, Mutex, PoisonError, Weak};

/// What hears of a broadcast early. It must be quick: everything waits for it.
pub(super) type Hear = dyn Fn(&Event) + Send + Sync;

/// Who hears early. Where broadcasts are handed out inside publish nobody does: there none waits for
/// those before it.
#[derive(Default)]
pub(super) struct Early(Mutex<Vec<(Predicate, Weak<Hear>)>>);

impl Early {
    /// Tells of a broadcast.
    pub(super) fn tell(&self, event: &Event) {
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        all.retain(|(_, hear)| hear.strong_count() > 0);
        let told = all.iter().filter(|(which, _)| which.matches(event));
        let told: Vec<_> = told.filter_map(|(_, hear)| hear.upgrade()).collect();
        drop(all);
        told.iter().for_each(|hear| hear(event));
    }

    /// Has `hear` told of what `which` matches, for as long as what is returned is kept.
    pub(super) fn add(
        &self,
        which: &Predicate,
        hear: impl Fn(&Event) + Send + Sync + 'static,
    ) -> Arc<Hear> {
        let hear: Arc<Hear> = Arc::new(hear);
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        all.push((which.clone(), Arc::downgrade(&hear)));
        hear
    }
}
