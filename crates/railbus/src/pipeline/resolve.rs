//! From the text of a flow to steps: every name in it is looked up.

use super::{
    parts::{Arm, StepDef, Together, Work},
    steps::Steps,
    text::{Branch, FlowError, Group, Named, Sequence, Unit, parse, unresolved},
};
use crate::{
    error::{Error, ErrorKind, Result, nearest},
    retry::Retry,
};
use std::sync::Arc;

/// Looks up the steps of a flow.
///
/// # Errors
/// Returns a config error that shows where in the text the first mistake is.
pub(super) fn resolve(text: &str, steps: &Steps) -> Result<Vec<StepDef>> {
    if let Some(problem) = steps.problem() {
        return Err(problem.clone());
    }
    let tree = parse(text).map_err(|mistake| shown(text, &mistake))?;
    let known: Vec<&str> = steps.names().collect();
    let hint = |name: &str| match nearest(name, known.iter().copied()) {
        Some(near) => format!("did you mean `{near}`?"),
        None if known.is_empty() => {
            "give the pipeline its steps: .steps(Steps::new().add(..))".into()
        }
        None => format!("known steps: {}", known.join(", ")),
    };
    match unresolved(&tree, &known, hint).first() {
        Some(mistake) => Err(shown(text, mistake)),
        None => sequence(&tree, steps),
    }
}

/// Makes the mistake an error that shows its place.
fn shown(text: &str, mistake: &FlowError) -> Error {
    let why = format!("{}\n{}", mistake.message, mistake.show(text));
    Error::new(ErrorKind::Config, "flow", why).hint(mistake.hint.clone())
}

fn sequence(flow: &Sequence, steps: &Steps) -> Result<Vec<StepDef>> {
    let link = |link: &super::text::Link| {
        let mut def = match &link.unit {
            Unit::Step(named) => step(named, steps)?,
            Unit::Group(members) => group(members, steps)?,
        };
        def.is_piped |= link.piped;
        Ok(def)
    };
    flow.links.iter().map(link).collect()
}

fn step(named: &Named, steps: &Steps) -> Result<StepDef> {
    let Some(def) = steps.get(&named.name) else {
        let why = format!("there is no step `{}`", named.name);
        return Err(Error::new(ErrorKind::Config, "flow", why));
    };
    let mut def = def.clone();
    if let Some(tries) = named.tries {
        let retry = def.retry.take().unwrap_or_else(|| Retry::attempts(tries));
        def.retry = Some(retry.again(tries));
    }
    Ok(def.branched(arms(&named.branches, steps)?))
}

fn group(group: &Group, steps: &Steps) -> Result<StepDef> {
    let member = |member: &Sequence| -> Result<StepDef> {
        let mut line = sequence(member, steps)?;
        Ok(match (line.len(), line.pop()) {
            (1, Some(only)) => only,
            (_, last) => {
                line.extend(last);
                StepDef::chain(line)
            }
        })
    };
    let members: Vec<StepDef> = group.members.iter().map(member).collect::<Result<_>>()?;
    let evaluation = group.evaluation.unwrap_or_default();
    let names: Vec<&str> = members.iter().map(StepDef::name).collect();
    let name: Arc<str> = format!("{{{}}}", names.join(" || ")).into();
    let together = Together { members, evaluation, is_fail_fast: false };
    let def = StepDef::grouped(name, Work::Parallel(together));
    Ok(def.branched(arms(&group.branches, steps)?))
}

fn arms(branches: &[Branch], steps: &Steps) -> Result<Vec<Arm>> {
    let arm = |branch: &Branch| -> Result<Arm> {
        let mut chain = sequence(&branch.flow, steps)?;
        if let Some(first) = chain.first_mut() {
            first.is_piped |= branch.piped;
        }
        Ok(Arm { label: branch.label.as_str().into(), chain })
    };
    branches.iter().map(arm).collect()
}
