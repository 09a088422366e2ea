//! What is checked of each step by itself when a pipeline is built, or is to be kept.

use super::{
    def::NAMES,
    parts::{Body, Each, How, Node, Plan, StepDef, Sub, Work},
    text::is_name,
};
use crate::{
    error::{Error, ErrorKind, Result},
    executor::Candidate,
    state::{States, missing},
    step::Kind,
};
use std::collections::HashSet;

/// Checks what a step says of itself, where these are the steps that others jump to.
///
/// # Errors
/// Returns a config error that says what can't be.
pub(super) fn check_alone(
    node: &Node,
    nodes: &[Node],
    targets: &HashSet<&str>,
    states: &States,
) -> Result<()> {
    let (def, signature) = (&node.def, &node.def.signature);
    if let Some((_, wanted)) = signature.states.iter().find(|(of, _)| !states.has(*of)) {
        return Err(missing(wanted));
    }
    if let (Some(executor), Work::Step(step)) = (&def.executor, &def.work) {
        executor.check(&Candidate { name: &def.name, step: &**step, signature })?;
    }
    let refuse =
        |why: String, hint: String| Err(Error::new(ErrorKind::Config, "pipeline", why).hint(hint));
    if let Some(what) = def.misplaced() {
        let why = format!("{what} is said of a group, which has none");
        return refuse(why, "say it of the steps in it".into());
    }
    if let Some(why) = never_reached(node) {
        return refuse(why, "ask for less: no run could ever come to it".into());
    }
    let mut known = HashSet::new();
    for way in &node.arms {
        let label = &way.label;
        if !known.insert(label) {
            let why = format!("branch `{label}` is there twice");
            return refuse(why, "put what belongs together into one branch".into());
        }
        let is_outcome = matches!(&**label, "0" | "1");
        let never = !is_outcome && !def.may_steer();
        if never && !targets.contains(&*nodes[way.to].def.name) {
            let to = &nodes[way.to].def.name;
            let why = format!("`{to}` can't be reached: it never takes branch `{label}`");
            let hint = "return Flow::branch(..) from it, or use branch 0, for failures, or 1";
            return refuse(why, hint.into());
        }
    }
    let nothing = |(local, _): &(&str, &str)| !signature.has_need(local);
    match def.bindings.pairs().find(nothing) {
        Some((local, _)) => {
            let known = signature.all_needs().iter().map(|need| need.name.as_str());
            let known = known.collect::<Vec<_>>().join(", ");
            let hint = format!("it needs: {}", if known.is_empty() { "nothing" } else { &known });
            refuse(format!("`{local}` is bound, but the step needs no `{local}`"), hint)
        }
        None => Ok(()),
    }
}

/// Says which evaluation nothing of a group can come to, if there is one. A group without members
/// is judged when it runs.
fn never_reached(node: &Node) -> Option<String> {
    match &node.def.work {
        Work::Parallel(group) => {
            let (members, evaluation) = (node.members.len(), group.evaluation);
            let never = members > 0 && !evaluation.succeeds(members, members);
            never.then(|| format!("a group of {members} never reaches {evaluation}"))
        }
        Work::Sub(Sub { how: How::Each(Each { evaluation, .. }), .. }) => {
            // Of as many as there can be.
            let never = !evaluation.succeeds(usize::MAX, usize::MAX);
            never.then(|| format!("no number of items reaches {evaluation}"))
        }
        _ => None,
    }
}

/// Checks the names of a pipeline, its steps and their values.
///
/// # Errors
/// Returns a config error that names what is wrong.
pub(super) fn check_names(pipeline: &str, nodes: &[Node]) -> Result<()> {
    let refuse =
        |why: String, hint: &str| Err(Error::new(ErrorKind::Config, "pipeline", why).hint(hint));
    if nodes.is_empty() {
        return refuse("a pipeline needs a step".into(), "add one with .step(..)");
    }
    // A group without a name of its own goes by what is in it.
    let named = || nodes.iter().filter(|node| node.is_named()).map(|node| &*node.def.name);
    if pipeline.starts_with('{') {
        let why = format!("`{pipeline}` needs a name, which what it leaves goes by");
        return refuse(why, "give it one: .named(..)");
    }
    if let Some(name) = std::iter::once(pipeline).chain(named()).find(|n| !is_name(n)) {
        let why = format!("`{}` is not a name", name.escape_debug());
        return refuse(why, NAMES);
    }
    let mut seen = HashSet::new();
    if let Some(twice) = named().find(|name| !seen.insert(*name)) {
        let why = format!("step `{twice}` comes twice");
        return refuse(why, "give one of the two another name: .named(..)");
    }
    let nameless = |step: &&StepDef| {
        step.output.is_empty() || step.bindings.pairs().any(|(_, key)| key.is_empty())
    };
    match nodes.iter().map(|node| &node.def).find(nameless) {
        Some(step) => {
            let why = format!("step `{}` has a value without a name", step.name);
            refuse(why, "give .output(..) and .bind(..) names that aren't empty")
        }
        None => Ok(()),
    }
}

/// Checks that what a run is given and what its steps leave can be kept in a journal.
///
/// # Errors
/// Returns a config error that names the value, its type and the step.
pub(super) fn check_kept(plan: &Plan) -> Result<()> {
    let refuse = |name: &str, kind: Kind| {
        let why = format!("`{name}` is a {}, which a journal can't keep", kind.name);
        let error = Error::new(ErrorKind::Config, "pipeline", why).with("pipeline", &plan.name);
        error.hint("leave what can be encoded, or make it in the step that uses it")
    };
    let given = plan.wanted.inputs.iter().map(|given| (&given.name, given.kind));
    if let Some((name, Some(kind))) = given.into_iter().find(|(_, kind)| is_opaque(*kind)) {
        return Err(refuse(name, kind));
    }
    for Node { def, .. } in &plan.nodes {
        if let Some(kind) = def.signature.output_kind().filter(|kind| kind.is_opaque()) {
            return Err(refuse(&def.output, kind).with("step", &def.name));
        }
        if let Work::Sub(Sub { body: Body::Built(inner), .. }) = &def.work {
            check_kept(&inner.0)?;
        }
    }
    Ok(())
}

fn is_opaque(kind: Option<Kind>) -> bool {
    kind.is_some_and(Kind::is_opaque)
}
