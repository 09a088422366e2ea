//! The `[pipelines.NAME]` tables of an app file.

use super::{
    spec::PipelineSpec,
    steps::named,
    table::{Field, Table, suggest},
};
use crate::pipeline::text::{FlowError, parse};

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
    let names = parse(flow).map_err(wrong).ok()?;
    let unknown: Vec<_> = names.iter().filter(|n| !steps.contains(&n.name.as_str())).collect();
    for name in &unknown {
        let hint = match steps.is_empty() {
            true => format!("declare it: [steps.{}] with a command", name.name),
            false => suggest(&name.name, steps),
        };
        let why = format!("there is no step `{}`", name.name);
        field.notes.hinted(field.inside(&name.span), why, hint);
    }
    unknown.is_empty().then(|| names.iter().map(|name| name.name.clone()).collect())
}
