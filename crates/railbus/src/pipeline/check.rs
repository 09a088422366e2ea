//! What is checked when a pipeline is built: names, and that every step will find what it needs.

use super::{def::StepDef, text::is_name};
use crate::{
    error::{Error, ErrorKind, Result, nearest},
    executor::Candidate,
    state::{States, missing},
    step::Kind,
};
use std::collections::{HashMap, HashSet};

/// A value that must be there before the first step.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Given {
    pub(super) name: String,
    pub(super) kind: Option<Kind>,
}

/// Who leaves a value, and as what.
struct Left<'a> {
    by: Option<&'a str>,
    kind: Option<Kind>,
}

/// What a pipeline is given.
#[derive(Debug)]
pub(super) struct Wanted {
    /// What it must be given.
    pub(super) inputs: Vec<Given>,
    /// What steps take if it is given, by name.
    pub(super) optional: Vec<String>,
}

/// Checks a pipeline; returns the values it must and may be given.
///
/// # Errors
/// Returns a config error that names the step and what is wrong with it, or an unsupported error
/// if a step declares where it jumps to.
pub(super) fn check(
    pipeline: &str,
    steps: &[StepDef],
    declared: Vec<Given>,
    states: &States,
) -> Result<Wanted> {
    check_names(pipeline, steps).map_err(|e| e.with("pipeline", pipeline.escape_debug()))?;
    let (mut inputs, mut optional) = (declared, Vec::new());
    // Where inputs are declared, they are all there are.
    let closed = !inputs.is_empty();
    let mut left: HashMap<String, Left<'_>> = HashMap::new();
    for given in &inputs {
        left.insert(given.name.clone(), Left { by: None, kind: given.kind });
    }
    for def in steps {
        let refuse = |why: String, hint: String| {
            let error = Error::new(ErrorKind::Config, "pipeline", why);
            Err(error.with("pipeline", pipeline).with("step", &def.name).hint(hint))
        };
        check_alone(def, states)
            .map_err(|e| e.with("pipeline", pipeline).with("step", &def.name))?;
        for need in def.signature.all_needs() {
            let key = def.bindings.key(&need.name);
            match left.get(key) {
                Some(Left { by, kind: Some(kind) }) if !need.takes(*kind) => {
                    let by = by.map_or("an input".into(), |by| format!("step `{by}`"));
                    let why = format!(
                        "`{key}` is a {} of {by}, but is needed as a {}",
                        kind.name, need.kind.name
                    );
                    return refuse(why, "make the types the same, or bind another value".into());
                }
                Some(_) => {}
                None if need.optional => optional.push(key.to_owned()),
                None if closed => {
                    let known = left.keys().map(String::as_str);
                    let near = nearest(key, known).map(|near| format!("did you mean `{near}`? "));
                    let hint = format!(
                        "{}declare it with .input::<..>(\"{key}\"), or add a step before that leaves it",
                        near.unwrap_or_default()
                    );
                    return refuse(format!("nothing leaves `{key}`, which it needs"), hint);
                }
                None => {
                    inputs.push(Given { name: key.into(), kind: Some(need.kind) });
                    left.insert(key.into(), Left { by: None, kind: Some(need.kind) });
                }
            }
        }
        let kind = def.signature.output_kind();
        // A step that leaves nothing leaves in place what goes by its name.
        let stays = kind.is_some_and(Kind::is_nothing) && left.contains_key(&*def.output);
        if !stays {
            left.insert((*def.output).into(), Left { by: Some(&def.name), kind });
        }
    }
    // Where inputs are declared, nothing else is given.
    optional.retain(|key| !closed && inputs.iter().all(|given| given.name != *key));
    Ok(Wanted { inputs, optional })
}

/// Checks what a step says of itself.
fn check_alone(def: &StepDef, states: &States) -> Result<()> {
    let signature = &def.signature;
    if let Some(target) = signature.targets().first() {
        let target = target.escape_debug();
        let why = format!("it may jump to `{target}`, but jumps aren't available yet");
        let error = Error::new(ErrorKind::Unsupported, "pipeline", why);
        return Err(error.hint("leave out goto: steps run in a line"));
    }
    if let Some((_, wanted)) = signature.states.iter().find(|(of, _)| !states.has(*of)) {
        return Err(missing(wanted));
    }
    if let Some(executor) = &def.executor {
        executor.check(&Candidate { name: &def.name, step: &*def.step, signature })?;
    }
    match def.bindings.pairs().find(|(local, _)| !signature.has_need(local)) {
        Some((local, _)) => {
            let known = signature.all_needs().iter().map(|need| need.name.as_str());
            let known = known.collect::<Vec<_>>().join(", ");
            let hint = format!("it needs: {}", if known.is_empty() { "nothing" } else { &known });
            let why = format!("`{local}` is bound, but the step needs no `{local}`");
            Err(Error::new(ErrorKind::Config, "pipeline", why).hint(hint))
        }
        None => Ok(()),
    }
}

fn check_names(pipeline: &str, steps: &[StepDef]) -> Result<()> {
    let refuse =
        |why: String, hint: &str| Err(Error::new(ErrorKind::Config, "pipeline", why).hint(hint));
    if let Some(error) =
        steps.iter().find_map(|step| step.problem.clone().map(|e| e.with("step", &step.name)))
    {
        return Err(error);
    }
    if steps.is_empty() {
        return refuse("a pipeline needs a step".into(), "add one with .step(..)");
    }
    let names = || steps.iter().map(|step| &*step.name);
    if let Some(name) = std::iter::once(pipeline).chain(names()).find(|n| !is_name(n)) {
        let why = format!("`{}` is not a name", name.escape_debug());
        return refuse(why, "use ASCII letters, digits, `_` and `-`, a letter or `_` first");
    }
    let mut seen = HashSet::new();
    if let Some(twice) = names().find(|name| !seen.insert(*name)) {
        let why = format!("step `{twice}` comes twice");
        return refuse(why, "give one of the two another name: .named(..)");
    }
    let nameless = |step: &&StepDef| {
        step.output.is_empty() || step.bindings.pairs().any(|(_, key)| key.is_empty())
    };
    match steps.iter().find(nameless) {
        Some(step) => {
            let why = format!("step `{}` has a value without a name", step.name);
            refuse(why, "give .output(..) and .bind(..) names that aren't empty")
        }
        None => Ok(()),
    }
}
