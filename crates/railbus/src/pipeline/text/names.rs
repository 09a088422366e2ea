//! The names of a flow against the steps there are.

use super::{error::FlowError, mistake, tree::Sequence};
use std::collections::HashSet;

/// Returns what is wrong with the names of a flow where the steps are `known`, from the left: a
/// step that is not there, with the hint that `hint` gives; a label that is the name
/// of a step.
///
/// The second is `a(b -> c)`, which was meant as a branch over `b` and lacks its label; a jump takes
/// either a label or a step, so the two must differ anyway.
///
/// # Examples
/// ```
/// use railbus::pipeline::text::{parse, unresolved};
///
/// let known = ["check", "ship", "stop"];
/// let flow = parse("check(stop -> hsip)").unwrap();
/// let hint = |name: &str| format!("declare `{name}`");
/// let errors = unresolved(&flow, &known, hint);
/// assert_eq!(errors[0].message, "`stop` is a step, not the label of a branch");
/// assert_eq!(errors[1].message, "there is no step `hsip`");
/// assert_eq!(errors[1].hint, "declare `hsip`");
/// ```
#[must_use]
pub fn unresolved(
    flow: &Sequence,
    known: &[&str],
    hint: impl Fn(&str) -> String,
) -> Vec<FlowError> {
    let known: HashSet<&str> = known.iter().copied().collect();
    let missing = flow.steps().into_iter().filter(|step| !known.contains(step.name.as_str()));
    let missing = missing.map(|step| mistake::no_step(&step.name, &step.span, hint(&step.name)));
    let labels = flow.branches().into_iter().filter(|b| known.contains(b.label.as_str()));
    let labels = labels.map(|branch| mistake::step_as_label(&branch.label, &branch.span));
    let mut found: Vec<_> = missing.chain(labels).collect();
    found.sort_by_key(|error| error.span.start);
    found
}
