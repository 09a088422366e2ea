//! What a step is given.

use super::{
    result::{Exception, StepError},
    store::Store,
};
use crate::{
    cancel::Cancel,
    event::Event,
    payload::{RawPayload, Shared},
    state::{State, States},
};
use serde::de::DeserializeOwned;
use serde_json::Value;

/// What a step is given: the values it needs by its own names for them, and what it runs for.
///
/// # Examples
/// ```
/// use railbus::{Event, State, Store, step::{Bindings, Input, InputParts}, store};
///
/// let (store, event) = (store! { "order" => 7 }, Event::new("order.placed").payload(7));
/// let parts = InputParts::default().event(event).tries(2, 1).state(String::from("north"));
/// let input = Input::of(&store, &parts);
/// assert_eq!(*input.get::<u32>("order").unwrap(), 7);
/// assert!(input.get_if::<u32>("discount").unwrap().is_none());
/// assert!(input.value("order").is_some() && input.store().has("order"));
/// assert_eq!((input.attempt(), input.step_try(), input.is_cancelled()), (2, 1, false));
/// assert_eq!(input.event().unwrap().event_type(), "order.placed");
/// let tenant: State<String> = input.state().unwrap();
/// assert_eq!((tenant.as_str(), Bindings::default().key("order")), ("north", "order"));
/// ```
#[derive(Clone, Copy, Debug)]
pub struct Input<'a> {
    pub(crate) event: Option<&'a Event>,
    pub(crate) store: &'a Store,
    pub(crate) bindings: &'a Bindings,
    pub(crate) states: &'a States,
    pub(crate) attempt: u32,
    pub(crate) step_try: u32,
    // None where nothing cancels a step but dropping it: there is no token then.
    pub(crate) cancel: Option<&'a Cancel>,
}

/// A step's own names for values, where they are not those of the store.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Bindings(Vec<(String, String)>);

impl Bindings {
    /// Binds the step's name `local` to the store's name `key`.
    pub(crate) fn bind(&mut self, local: String, key: String) {
        self.0.retain(|(bound, _)| *bound != local);
        self.0.push((local, key));
    }

    /// Returns the store's name of what the step calls `local`.
    #[must_use]
    pub fn key<'a>(&'a self, local: &'a str) -> &'a str {
        let bound = self.0.iter().find(|(name, _)| name == local);
        bound.map_or(local, |(_, key)| key)
    }

    /// Returns the pairs that were bound: the step's name and the store's.
    pub(crate) fn pairs(&self) -> impl Iterator<Item = (&str, &str)> {
        self.0.iter().map(|(local, key)| (local.as_str(), key.as_str()))
    }
}

impl<'a> Input<'a> {
    /// Makes the input of a step that is run by hand, as tests do.
    #[must_use]
    pub fn of(store: &'a Store, parts: &'a InputParts) -> Self {
        let InputParts { event, bindings, states, tries: (attempt, step_try) } = parts;
        let (event, attempt, step_try) = (event.as_ref(), *attempt, *step_try);
        Self { event, store, bindings, states, attempt, step_try, cancel: None }
    }

    /// Returns a value as a `T`, without copying it if it was left as one.
    ///
    /// # Errors
    /// Returns an exception of kind `input` if it is missing or is no `T`.
    pub fn get<T: DeserializeOwned + Send + Sync + 'static>(
        &self,
        name: &str,
    ) -> Result<Shared<T>, StepError> {
        let value = self.store.get(self.bindings.key(name));
        value.map_err(|error| StepError::Exception(Exception::new("input", error)))
    }

    /// Returns a value as a `T` if it is there.
    ///
    /// # Errors
    /// Returns an exception of kind `input` if it is there and is no `T`.
    pub fn get_if<T: DeserializeOwned + Send + Sync + 'static>(
        &self,
        name: &str,
    ) -> Result<Option<Shared<T>>, StepError> {
        let Some(value) = self.value(name) else { return Ok(None) };
        // What is a T needs no look inside, which would encode it.
        let is_null = || match value.given::<Option<T>>() {
            Some(value) => value.is_none(),
            None => value.value() == Some(&Value::Null),
        };
        match value.given::<T>().is_some() || !is_null() {
            true => self.get(name).map(Some),
            false => Ok(None),
        }
    }

    /// Returns a value as it is kept.
    #[must_use]
    pub fn value(&self, name: &str) -> Option<&'a RawPayload> {
        self.store.value(self.bindings.key(name))
    }

    /// Returns a state that the pipeline was given.
    ///
    /// # Errors
    /// Returns an exception of kind `state` if it was not given.
    pub fn state<T: Send + Sync + 'static>(&self) -> Result<State<T>, StepError> {
        let state = self.states.get();
        state.map_err(|error| StepError::Exception(Exception::new("state", error)))
    }

    /// Returns the event that caused the run; none if the program ran it by itself.
    #[must_use]
    pub fn event(&self) -> Option<&'a Event> {
        self.event
    }

    /// Returns all values of the run so far, by the store's own names.
    #[must_use]
    pub fn store(&self) -> &'a Store {
        self.store
    }

    /// Returns which try of the event this is, from 1.
    #[must_use]
    pub fn attempt(&self) -> u32 {
        self.attempt
    }

    /// Returns which try of the step this is within the run, from 1.
    #[must_use]
    pub fn step_try(&self) -> u32 {
        self.step_try
    }

    /// Tells whether nobody waits any more for what the step comes to, so that it can end early.
    ///
    /// Looked at by steps on other threads; elsewhere a step that is given up is dropped.
    #[must_use]
    pub fn is_cancelled(&self) -> bool {
        self.cancel.is_some_and(Cancel::is_cancelled)
    }
}

/// What [`Input::of`] borrows, beside the store.
///
/// # Examples
/// ```
/// use railbus::{Store, step::{Input, InputParts}, store};
///
/// let (store, parts) = (store! { "n" => 1 }, InputParts::default());
/// assert_eq!(*Input::of(&store, &parts).get::<i32>("n").unwrap(), 1);
/// ```
#[derive(Clone, Debug)]
pub struct InputParts {
    event: Option<Event>,
    bindings: Bindings,
    states: States,
    tries: (u32, u32),
}

impl Default for InputParts {
    fn default() -> Self {
        let (bindings, states) = (Bindings::default(), States::default());
        Self { event: None, bindings, states, tries: (1, 1) }
    }
}

impl InputParts {
    /// Says which event the step runs for.
    #[must_use]
    pub fn event(mut self, event: Event) -> Self {
        self.event = Some(event);
        self
    }

    /// Says which try of the event and which try of the step it is (default: the first).
    #[must_use]
    pub fn tries(mut self, attempt: u32, step_try: u32) -> Self {
        self.tries = (attempt, step_try);
        self
    }

    /// Gives the step a state.
    #[must_use]
    pub fn state<T: Send + Sync + 'static>(mut self, state: T) -> Self {
        self.states.provide(state);
        self
    }
}
