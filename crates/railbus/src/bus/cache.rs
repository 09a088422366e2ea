//! What a registry keeps: values that may be served, and loads that are under way.

use crate::{error::Result, event::Event};
use futures_util::{
    FutureExt,
    future::{BoxFuture, Shared, WeakShared},
};
use serde_json::Value;
use std::{
    collections::{BTreeMap, HashMap},
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};
use tokio::time::Instant;

/// A load that many may wait for.
type Load<V> = BoxFuture<'static, Result<Arc<V>>>;

/// How many loads there are at least before it is looked for those nobody waits for any more.
const CROWD: usize = 64;

/// Values by id, and what may become one. What was forgotten since a load began is never kept of it:
/// the load is struck off, and who asks from then on begins another.
pub(super) struct Cache<V> {
    ttl: Duration,
    max_size: usize,
    state: Mutex<State<V>>,
}

struct State<V> {
    /// How often events may have been missed, when all this was last true.
    gaps: u64,
    /// Counts loads and looks; both are numbered by it.
    number: u64,
    values: HashMap<Arc<str>, Kept<V>>,
    /// The ids by when they were last asked for.
    asked: BTreeMap<u64, Arc<str>>,
    loads: HashMap<Arc<str>, UnderWay<V>>,
    /// From how many loads on it is looked for those nobody waits for any more.
    crowd: usize,
    /// What was forgotten: dropped without the lock, since that is the user's code.
    gone: Vec<Arc<V>>,
    /// Loads that were looked at, and may be nobody's any more by now: the same.
    seen: Vec<Shared<Load<V>>>,
}

struct Kept<V> {
    value: Arc<V>,
    asked: u64,
    /// None: it stays for as long as there is time.
    until: Option<Instant>,
}

/// A load under way, known as long as somebody waits for it.
struct UnderWay<V> {
    number: u64,
    began: Instant,
    shared: WeakShared<Load<V>>,
}

/// What there is of an id.
pub(super) enum Found<V> {
    Kept(Arc<V>),
    Loading(Loading<V>),
}

/// A load to wait for.
pub(super) struct Loading<V> {
    pub(super) number: u64,
    pub(super) shared: Shared<Load<V>>,
}

impl<V> Cache<V> {
    pub(super) fn new(ttl: Duration, max_size: usize, gaps: u64) -> Self {
        let state = State {
            gaps,
            number: 0,
            values: HashMap::new(),
            asked: BTreeMap::new(),
            loads: HashMap::new(),
            crowd: CROWD,
            gone: Vec::new(),
            seen: Vec::new(),
        };
        Self { ttl, max_size, state: Mutex::new(state) }
    }

    fn with<R>(&self, work: impl FnOnce(&mut State<V>) -> R) -> R {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let result = work(&mut state);
        let gone = (std::mem::take(&mut state.gone), std::mem::take(&mut state.seen));
        drop(state);
        drop(gone);
        result
    }

    /// Returns the value of an id, or the load that brings it: the one under way, else `load`.
    pub(super) fn find(&self, id: &str, gaps: u64, load: impl FnOnce() -> Load<V>) -> Found<V> {
        let now = Instant::now();
        self.with(|state| {
            state.see(gaps);
            if let Some(value) = state.fresh(id, now) {
                return Found::Kept(value);
            }
            let under_way = |load: &UnderWay<V>| Some((load.number, load.shared.upgrade()?));
            if let Some((number, shared)) = state.loads.get(id).and_then(under_way) {
                return Found::Loading(Loading { number, shared });
            }
            let (number, shared) = (state.next_number(), load().shared());
            if let Some(weak) = shared.downgrade() {
                state.begin(id, UnderWay { number, began: now, shared: weak });
            }
            Found::Loading(Loading { number, shared })
        })
    }

    /// Ends a load. What it brought is kept, unless it was struck off since, or events may have
    /// been missed; `gaps` is none if nothing tells of changes any more.
    pub(super) fn ended(&self, id: &str, number: u64, gaps: Option<u64>, value: Option<&Arc<V>>) {
        self.with(|state| {
            let Some(gaps) = gaps else { return state.clear() };
            state.see(gaps);
            if state.loads.get(id).is_none_or(|load| load.number != number) {
                return;
            }
            let ended = state.loads.remove_entry(id);
            if let (Some((id, load)), Some(value)) = (ended, value) {
                // As old as its load: the value may have been read at its beginning.
                state.keep(id, value, load.began.checked_add(self.ttl), self.max_size);
            }
        });
    }

    /// Forgets an id, and strikes off its load.
    pub(super) fn forget(&self, id: &str) {
        self.with(|state| {
            state.remove(id);
            state.loads.remove(id);
        });
    }

    /// Forgets what an event says has changed; the id stands at `path` in its payload.
    pub(super) fn changed(&self, event: &Event, path: &str) {
        match event.raw_payload().at(path) {
            Some(Value::String(id)) => self.forget(id),
            Some(id @ (Value::Number(_) | Value::Bool(_))) => self.forget(&id.to_string()),
            _ => {
                tracing::warn!(
                    event_id = event.id(),
                    topic = event.topic(),
                    key = path,
                    "a change names no id: all values are forgotten"
                );
                self.clear();
            }
        }
    }

    /// Forgets all, and strikes off all loads.
    pub(super) fn clear(&self) {
        self.with(State::clear);
    }

    /// Returns how many values are kept.
    pub(super) fn len(&self) -> usize {
        self.with(|state| state.values.len())
    }
}

impl<V> State<V> {
    /// Forgets all if events may have been missed since it was last looked.
    fn see(&mut self, gaps: u64) {
        if self.gaps != gaps {
            self.gaps = gaps;
            self.clear();
        }
    }

    fn next_number(&mut self) -> u64 {
        self.number += 1;
        self.number
    }

    fn begin(&mut self, id: &str, load: UnderWay<V>) {
        if self.loads.len() >= self.crowd {
            let seen = &mut self.seen;
            self.loads.retain(|_, load| {
                let shared = load.shared.upgrade();
                let waited_for = shared.is_some();
                seen.extend(shared);
                waited_for
            });
            self.crowd = CROWD.max(2 * self.loads.len());
        }
        self.loads.insert(id.into(), load);
    }

    fn keep(&mut self, id: Arc<str>, value: &Arc<V>, until: Option<Instant>, max_size: usize) {
        self.remove(&id);
        while self.values.len() >= max_size {
            let Some((_, oldest)) = self.asked.pop_first() else { break };
            self.gone.extend(self.values.remove(&oldest).map(|kept| kept.value));
        }
        let asked = self.next_number();
        self.asked.insert(asked, Arc::clone(&id));
        self.values.insert(id, Kept { value: Arc::clone(value), asked, until });
    }

    /// Returns the value of an id if it may be served.
    fn fresh(&mut self, id: &str, now: Instant) -> Option<Arc<V>> {
        let kept = self.values.get_mut(id)?;
        if kept.until.is_some_and(|until| until <= now) {
            self.remove(id);
            return None;
        }
        self.number += 1;
        let before = std::mem::replace(&mut kept.asked, self.number);
        if let Some(id) = self.asked.remove(&before) {
            self.asked.insert(self.number, id);
        }
        Some(Arc::clone(&kept.value))
    }

    fn remove(&mut self, id: &str) {
        if let Some(kept) = self.values.remove(id) {
            self.asked.remove(&kept.asked);
            self.gone.push(kept.value);
        }
    }

    fn clear(&mut self) {
        self.gone.extend(self.values.drain().map(|(_, kept)| kept.value));
        self.asked.clear();
        self.loads.clear();
    }
}
