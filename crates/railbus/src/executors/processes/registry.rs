//! The steps that workers know.

use crate::{
    error::{Error, ErrorKind, Result, nearest},
    executor::Candidate,
    state::States,
    step::{Signature, Step},
};
use std::{
    collections::HashMap,
    sync::{Arc, OnceLock},
};

/// The steps that the program's workers know: what [`Steps`](crate::Steps) turn into.
///
/// # Examples
/// ```
/// use railbus::{StepDef, Steps, worker::{self, Registry}};
///
/// let steps = Steps::new().add(StepDef::value("seven", |_| 7));
/// worker::init(Registry::from(steps));
/// ```
#[derive(Debug)]
pub struct Registry {
    steps: HashMap<Arc<str>, Arc<dyn Step>>,
    pub(crate) states: Arc<States>,
    problem: Option<Error>,
}

static REGISTERED: OnceLock<Registry> = OnceLock::new();

/// Registers the program's steps; what came first stays.
pub(crate) fn register(registry: Registry) -> &'static Registry {
    REGISTERED.get_or_init(|| registry)
}

/// Returns what was registered.
pub(crate) fn registered() -> Option<&'static Registry> {
    REGISTERED.get()
}

impl Registry {
    pub(crate) fn new(
        steps: impl IntoIterator<Item = (Arc<str>, Arc<dyn Step>)>,
        states: States,
        problem: Option<Error>,
    ) -> Self {
        Self { steps: steps.into_iter().collect(), states: Arc::new(states), problem }
    }

    pub(crate) fn get(&self, name: &str) -> Option<&Arc<dyn Step>> {
        self.steps.get(name)
    }

    pub(crate) fn problem(&self) -> Option<&Error> {
        self.problem.as_ref()
    }

    /// Returns the name that workers know a step by: the one that it has in its pipeline, else its
    /// own.
    pub(super) fn key<'a>(&'a self, name: &str, step: &dyn Step) -> Option<&'a Arc<str>> {
        let known = |name: &str| self.steps.get_key_value(name).map(|(name, _)| name);
        known(name).or_else(|| known(step.signature().name()))
    }

    /// Says whether workers can run a step.
    ///
    /// # Errors
    /// Returns a config error if they don't know it or lack a state, or an unsupported error if
    /// what it takes or leaves can't cross.
    pub(super) fn check(&self, candidate: &Candidate<'_>) -> Result<()> {
        if let Some(problem) = &self.problem {
            return Err(problem.clone());
        }
        let Candidate { name, step, signature } = candidate;
        let Some(key) = self.key(name, *step) else {
            let near = nearest(name, self.steps.keys().map(|name| &**name));
            let near = near.map(|near| format!("did you mean `{near}`? ")).unwrap_or_default();
            return Err(unknown(name, &near));
        };
        if self.steps.get(key).is_none_or(|own| own.signature() != step.signature()) {
            let why = format!("the step that workers know as `{key}` takes or leaves other values");
            return Err(config(why).hint("register the same step, or name this one otherwise"));
        }
        check_crossing(signature)?;
        match signature.states.iter().find(|(of, _)| !self.states.has(*of)) {
            Some((_, wanted)) => {
                let why = format!("State<{wanted}> is taken, but workers were not given it");
                Err(config(why).hint("give it: worker::init(Steps::new().add(..).state(value))"))
            }
            None => Ok(()),
        }
    }
}

/// Says that workers don't know a step.
pub(super) fn unknown(name: &str, near: &str) -> Error {
    let why = format!("worker processes don't know step `{}`", name.escape_debug());
    let hint = "register it: railbus::worker::init(Steps::new().add(..)) first in main";
    config(why).hint(format!("{near}{hint}"))
}

fn config(why: String) -> Error {
    Error::new(ErrorKind::Config, "worker", why)
}

/// Refuses what can't be written down.
fn check_crossing(signature: &Signature) -> Result<()> {
    let refuse = |why: String, hint: &str| {
        Err(Error::new(ErrorKind::Unsupported, "worker", why).hint(hint.to_owned()))
    };
    if signature.is_whole() {
        let why = "it takes `Input`, the whole run, which does not cross to a process".to_owned();
        return refuse(why, "take the values that it needs as arguments");
    }
    if let Some(need) = signature.all_needs().iter().find(|need| need.kind.is_opaque()) {
        let why = format!("`{}` is a {}, which can't be serialised", need.name, need.kind.name);
        return refuse(why, "run it on threads, or take what can be");
    }
    match signature.output_kind().filter(|kind| kind.is_opaque()) {
        Some(kind) => {
            let why = format!("it leaves a {}, which can't be serialised", kind.name);
            refuse(why, "run it on threads, or leave what can be")
        }
        None => Ok(()),
    }
}
