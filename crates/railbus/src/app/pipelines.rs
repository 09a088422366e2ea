//! The `[pipelines.NAME]` tables of an app file.

use super::{
    spec::PipelineSpec,
    steps::named,
    table::{Field, Table, suggest},
};
use crate::pipeline::text::{FlowError, Sequence, Unit, parse, unresolved};

/// Reads all pipelines, whose flows name `steps`; returns with them every name that is declared,
/// also of those with mistakes.
pub(super) fn read<'a>(root: &Table<'a>, steps: &[&str]) -> (Vec<PipelineSpec>, Vec<&'a str>) {
    let tables = named(root, "pipelines", "write [pipelines.NAME], with a flow");
    let pipelines = tables.iter().filter_map(|(name, table)| pipeline(name, table, steps));
    let pipelines = pipelines.collect();
    (pipelines, tables.into_iter().map(|(name, _)| name).collect())
}

fn pipeline(name: &str, table: &Table<'_>, steps: &[&str]) -> Option<PipelineSpec> {
    let field = table.need("flow", "flow = \"validate -> charge\"");
    table.finish();
    let field = field?;
    // The parser has better words than "is empty".
    let flow = match field.value.as_str() {
        Some(text) => text,
        None => field.text()?,
    };
    let steps = resolve(&field, flow, steps)?;
    Some(PipelineSpec { name: name.into(), flow: flow.into(), steps })
}

/// Looks up the steps of a flow; notes each that is not declared, where the flow names it.
fn resolve(field: &Field<'_>, flow: &str, steps: &[&str]) -> Option<Vec<String>> {
    let wrong = |e: FlowError| {
        field.notes.hinted(field.inside(&e.span), e.message, e.hint);
    };
    let tree = parse(flow).map_err(wrong).ok()?;
    let names = line(field, &tree)?;
    let hint = |name: &str| match steps.is_empty() {
        true => format!("declare it: [steps.{name}] with a command"),
        false => suggest(name, steps),
    };
    let mistakes = unresolved(&tree, steps, hint);
    let fine = mistakes.is_empty();
    mistakes.into_iter().for_each(wrong);
    fine.then_some(names)
}

/// Returns the steps of a flow in a line; notes what is more than that.
fn line(field: &Field<'_>, flow: &Sequence) -> Option<Vec<String>> {
    let mut names = Vec::new();
    for link in &flow.links {
        let (span, what) = match &link.unit {
            _ if link.piped => (link.arrow.clone(), "`|->`, which binds a value to the next step,"),
            Unit::Group(group) => (group.span.clone(), "a group of steps"),
            Unit::Step(step) if step.tries.is_some() => (step.span.clone(), "a factor in a flow"),
            Unit::Step(step) if !step.branches.is_empty() => (step.span.clone(), "a branch"),
            Unit::Step(step) => {
                names.push(step.name.clone());
                continue;
            }
        };
        let why = format!("{what} is not yet available");
        field.notes.hinted(field.inside(&span), why, "steps run in a line: a -> b -> c");
        return None;
    }
    Some(names)
}
