//! State: what a program gives to its handlers and steps to use.

use crate::error::{Error, ErrorKind, Result};
use std::{
    any::{Any, TypeId, type_name},
    collections::HashMap,
    fmt,
    ops::Deref,
    sync::Arc,
};

/// What the program gave to its bus or pipeline for handlers or steps to use: a client, a pool, a
/// cache.
///
/// # Examples
/// ```
/// use railbus::{Bus, Event, State};
/// use std::sync::atomic::{AtomicU32, Ordering};
///
/// let bus = Bus::new().state(AtomicU32::new(0));
/// bus.on("tick").run(|count: State<AtomicU32>| { count.fetch_add(1, Ordering::Relaxed); }).now()?;
/// assert_eq!(bus.emit(Event::new("tick"))?.matched, 1);
/// # Ok::<(), railbus::Error>(())
/// ```
pub struct State<T>(Arc<T>);

impl<T> State<T> {
    /// Wraps a value, for calling a handler or a step by hand.
    pub fn new(value: T) -> Self {
        Self(Arc::new(value))
    }
}

impl<T> Clone for State<T> {
    fn clone(&self) -> Self {
        Self(Arc::clone(&self.0))
    }
}

impl<T> Deref for State<T> {
    type Target = T;
    fn deref(&self) -> &T {
        &self.0
    }
}

impl<T: fmt::Debug> fmt::Debug for State<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "State({:?})", self.0)
    }
}

/// Values by their types: at most one of each.
#[derive(Clone, Default)]
pub(crate) struct States(HashMap<TypeId, Arc<dyn Any + Send + Sync>>);

impl States {
    pub(crate) fn provide<T: Send + Sync + 'static>(&mut self, state: T) {
        self.0.insert(TypeId::of::<T>(), Arc::new(state));
    }

    /// Takes over what others have.
    pub(crate) fn add_all(&mut self, others: &Self) {
        self.0.extend(others.0.iter().map(|(of, state)| (*of, Arc::clone(state))));
    }

    pub(crate) fn has(&self, of: TypeId) -> bool {
        self.0.contains_key(&of)
    }

    /// Returns the state of that type.
    ///
    /// # Errors
    /// Returns a config error that says how to provide it.
    pub(crate) fn get<T: Send + Sync + 'static>(&self) -> Result<State<T>> {
        let state = self.0.get(&TypeId::of::<T>()).cloned();
        state
            .and_then(|state| state.downcast().ok())
            .map(State)
            .ok_or_else(|| missing(type_name::<T>()))
    }
}

impl fmt::Debug for States {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "States({})", self.0.len())
    }
}

/// Says that a state is missing, and how to provide it.
pub(crate) fn missing(wanted: &str) -> Error {
    Error::new(ErrorKind::Config, "state", format!("State<{wanted}> is taken, but was not given"))
        .hint("give it before: bus.state(value), or .state(value) on the pipeline")
}
