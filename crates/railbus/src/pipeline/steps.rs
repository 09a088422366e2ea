//! Steps by their names, for flows that are text.

use super::{into::IntoStep, parts::StepDef};
use crate::{
    error::{Error, ErrorKind},
    state::States,
};
use indexmap::{IndexMap, map::Entry};
use std::sync::Arc;

/// Steps by their names, and what they are given to use: the one set for flows that are text, for
/// app files and for workers.
///
/// # Examples
/// ```
/// use railbus::{Pipeline, State, Steps, step, store};
///
/// #[step]
/// fn greet(name: &str, greeting: State<String>) -> String {
///     format!("{} {name}", *greeting)
/// }
///
/// #[step]
/// fn shout(text: &str) -> String {
///     text.to_uppercase()
/// }
///
/// # tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(async {
/// let steps = Steps::new().add(greet).add(shout).state(String::from("hello"));
/// assert_eq!(steps.names().collect::<Vec<_>>(), ["greet", "shout"]);
/// let pipeline = Pipeline::new("loud").steps(steps).flow("greet |-> shout").build()?;
/// let report = pipeline.run(store! { "name" => "Ada".to_owned() }).await;
/// assert_eq!(*report.get::<String>("shout")?, "HELLO ADA");
/// # Ok::<(), railbus::Error>(()) }).unwrap();
/// ```
#[derive(Clone, Debug, Default)]
pub struct Steps {
    defs: IndexMap<Arc<str>, StepDef>,
    states: States,
    // What building a pipeline of them will say.
    problem: Option<Error>,
}

impl Steps {
    /// Creates a set without steps.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a step under its name; a second one of that name is refused when a pipeline is built.
    #[must_use]
    pub fn add<M>(mut self, step: impl IntoStep<M>) -> Self {
        let def = step.into_step();
        match self.defs.entry(Arc::clone(&def.name)) {
            Entry::Vacant(place) => {
                place.insert(def);
            }
            Entry::Occupied(known) => {
                let why = format!("step `{}` is added twice", known.key().escape_debug());
                let error = Error::new(ErrorKind::Config, "steps", why);
                let error = error.hint("give one of the two another name: .named(..)");
                self.problem = self.problem.or(Some(error));
            }
        }
        self
    }

    /// Gives the steps a value that they can take as [`State<T>`](crate::State).
    #[must_use]
    pub fn state<T: Send + Sync + 'static>(mut self, state: T) -> Self {
        self.states.provide(state);
        self
    }

    /// Returns the names of the steps, in the order they were added.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.defs.keys().map(|name| &**name)
    }

    pub(crate) fn get(&self, name: &str) -> Option<&StepDef> {
        self.defs.get(name)
    }

    pub(crate) fn states(&self) -> &States {
        &self.states
    }

    pub(crate) fn problem(&self) -> Option<&Error> {
        self.problem.as_ref()
    }
}
