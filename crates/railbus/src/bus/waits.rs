//! Which values wait for which while they are loaded: one that waited for itself would do so for
//! ever.

use crate::error::{Error, ErrorKind, Result};
use std::{
    collections::{BTreeMap, HashSet},
    future::Future,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
};
use tokio::task_local;

/// A value of a registry, by the number of that.
type Value = (u64, Arc<str>);

task_local! {
    /// What the loader that runs here loads.
    static LOADING: Value;
}

/// Each value whose loader waits, and what it waits for: of all registries, since one's loader may
/// ask another.
type Waits = BTreeMap<Value, Vec<Value>>;

static WAITS: Mutex<Waits> = Mutex::new(BTreeMap::new());

static REGISTRIES: AtomicU64 = AtomicU64::new(0);

/// Returns a number for a registry that no other has.
pub(super) fn number() -> u64 {
    REGISTRIES.fetch_add(1, Relaxed)
}

/// Runs a loader of a value.
pub(super) fn load<F: Future>(
    registry: u64,
    id: &str,
    loading: F,
) -> impl Future<Output = F::Output> {
    LOADING.scope((registry, id.into()), loading)
}

/// A wait for a value, until it is dropped.
pub(super) struct Wait(Option<(Value, Value)>);

impl Wait {
    /// Begins to wait for a value; refused if that one waits for what is loaded here.
    pub(super) fn begin(registry: u64, id: &str) -> Result<Self> {
        let Ok(here) = LOADING.try_with(Value::clone) else { return Ok(Self(None)) };
        let wait = (here, (registry, id.into()));
        let mut waits = waits();
        let (mut open, mut seen) = (vec![&wait.1], HashSet::new());
        while let Some(value) = open.pop() {
            if *value == wait.0 {
                let why = "the loader that asks would wait for the value that it loads";
                return Err(Error::new(ErrorKind::Config, "load", why)
                    .with("id", id)
                    .hint("let a loader ask for other ids only, of which none asks for its own"));
            }
            if seen.insert(value) {
                open.extend(waits.get(value).into_iter().flatten());
            }
        }
        waits.entry(wait.0.clone()).or_default().push(wait.1.clone());
        Ok(Self(Some(wait)))
    }
}

impl Drop for Wait {
    fn drop(&mut self) {
        let Some((who, whom)) = &self.0 else { return };
        let mut waits = waits();
        let Some(of) = waits.get_mut(who) else { return };
        if let Some(place) = of.iter().position(|other| other == whom) {
            of.swap_remove(place);
        }
        if of.is_empty() {
            waits.remove(who);
        }
    }
}

fn waits() -> MutexGuard<'static, Waits> {
    WAITS.lock().unwrap_or_else(PoisonError::into_inner)
}
