//! Steps by their names.

#[cfg(feature = "processes")]
use super::parts::Work;
use super::{into::IntoStep, parts::StepDef};
#[cfg(feature = "processes")]
use crate::executors::processes::Registry;
use crate::{
    error::{Error, ErrorKind},
    state::States,
};
use indexmap::{IndexMap, map::Entry};
use std::sync::Arc;

/// Steps by their names, with the states they take: one set for flows, app files and workers.
///
/// Two steps of one name are refused by whoever uses the set.
///
/// # Examples
/// ```
/// use railbus::{Steps, State, step};
///
/// #[step]
/// fn double(n: i64) -> i64 {
///     2 * n
/// }
///
/// #[step]
/// fn greet(name: &str, greeting: State<String>) -> String {
///     format!("{}, {name}", *greeting)
/// }
///
/// let steps = Steps::new().add(double).add(greet).state(String::from("Good day"));
/// assert_eq!(steps.names().collect::<Vec<_>>(), ["double", "greet"]);
/// ```
#[derive(Clone, Debug, Default)]
#[must_use = "a set of steps does nothing by itself"]
pub struct Steps {
    defs: IndexMap<Arc<str>, StepDef>,
    states: States,
    problem: Option<Error>,
}

impl Steps {
    /// Creates an empty set.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a step under its name, with its settings.
    #[allow(clippy::should_implement_trait, reason = "sets are not summed")]
    pub fn add<M>(mut self, step: impl IntoStep<M>) -> Self {
        self.insert(step.into_step());
        self
    }

    fn insert(&mut self, def: StepDef) {
        match self.defs.entry(Arc::clone(&def.name)) {
            Entry::Vacant(free) => {
                free.insert(def);
            }
            Entry::Occupied(_) => {
                let why = format!("step `{}` comes twice in a set", def.name.escape_debug());
                let error = Error::new(ErrorKind::Config, "steps", why);
                let error = error.hint("give one of the two another name: .named(..)");
                self.problem = self.problem.take().or(Some(error));
            }
        }
    }

    /// Gives the steps a value that they can take as [`State<T>`](crate::State).
    pub fn state<T: Send + Sync + 'static>(mut self, state: T) -> Self {
        self.states.provide(state);
        self
    }

    /// Adds what another set has.
    pub(super) fn extend(&mut self, more: Self) {
        let Self { defs, states, problem } = more;
        self.states.add_all(&states);
        self.problem = self.problem.take().or(problem);
        for def in defs.into_values() {
            self.insert(def);
        }
    }

    /// Returns the names, in the order they came.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.defs.keys().map(|name| &**name)
    }

    /// Returns the step of that name.
    pub(crate) fn get(&self, name: &str) -> Option<&StepDef> {
        self.defs.get(name)
    }

    pub(crate) fn states(&self) -> &States {
        &self.states
    }

    /// Returns what is wrong with the set.
    pub(crate) fn problem(&self) -> Option<&Error> {
        self.problem.as_ref()
    }
}

#[cfg(feature = "processes")]
impl From<Steps> for Registry {
    fn from(steps: Steps) -> Self {
        let Steps { defs, states, problem } = steps;
        let entry = |(name, def): (Arc<str>, StepDef)| match def.work {
            Work::Step(step) => Some((name, step)),
            // Its own steps are registered by themselves.
            _ => None,
        };
        Self::new(defs.into_iter().filter_map(entry), states, problem)
    }
}
