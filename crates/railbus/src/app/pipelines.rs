//! The `[pipelines.NAME]` tables of an app file.

use super::{
    make,
    spec::{PipelineSpec, StepSpec},
    steps::named,
    table::{Field, Table, suggest},
    values::whole,
};
use crate::pipeline::{
    Steps,
    text::{FlowError, is_name, parse, unresolved},
};
use std::path::Path;

/// Reads all pipelines, whose flows name `steps`; returns with them every name that is declared,
/// also of those with mistakes. Those whose steps are all `known` are built, to see if they can be.
pub(super) fn read<'a>(
    root: &Table<'a>,
    steps: &[&str],
    known: &[StepSpec],
    folder: &Path,
) -> (Vec<PipelineSpec>, Vec<&'a str>) {
    let tables = named(root, "pipelines", "write [pipelines.NAME], with a flow");
    // Where a step is wrong, that has been noted.
    let known = make::steps(known, folder).unwrap_or_default();
    let pipelines = tables.iter().filter_map(|(name, table)| pipeline(name, table, steps, &known));
    let pipelines = pipelines.collect();
    (pipelines, tables.into_iter().map(|(name, _)| name).collect())
}

fn pipeline(name: &str, table: &Table<'_>, steps: &[&str], known: &Steps) -> Option<PipelineSpec> {
    let field = table.need("flow", "flow = \"validate -> charge\"");
    let input = table.take("input").map(|f| input(&f));
    let lenient = table.take("lenient").map(|f| f.boolean());
    let timeout = table.take("timeout").map(|f| f.duration());
    let journal = table.take("journal").map(|f| f.boolean());
    table.finish();
    let field = field?;
    // The parser has better words than "is empty".
    let flow = match field.value.as_str() {
        Some(text) => text,
        None => field.text()?,
    };
    let steps = resolve(&field, flow, steps)?;
    let input = whole(input)?.unwrap_or_default();
    let (lenient, timeout) = (whole(lenient)?.unwrap_or_default(), whole(timeout)?);
    let journal = whole(journal)?.unwrap_or_default();
    let (name, flow) = (name.into(), flow.into());
    let spec = PipelineSpec { name, flow, steps, input, lenient, timeout, journal };
    let is_known = |step: &String| known.names().any(|name| name == step);
    if is_name(&spec.name)
        && spec.steps.iter().all(is_known)
        && let Err(error) = make::pipeline(&spec, known).build()
    {
        let why = error.to_string();
        let why = why.strip_prefix("pipeline: ").unwrap_or(&why);
        // What a program would write is no help in a file.
        let hint = match error.advice() {
            Some(hint) if hint.contains(".input::<") => Some(
                "name it in the pipeline's `input`, or in the `output` of a step before".into(),
            ),
            hint => hint.map(str::to_owned),
        };
        field.notes.add(field.span.clone(), why, hint);
        return None;
    }
    Some(spec)
}

/// Reads the names of the values that a pipeline is given: one, or a list.
fn input(field: &Field<'_>) -> Option<Vec<String>> {
    if field.value.as_str().is_some() {
        return Some(vec![field.text()?.to_owned()]);
    }
    let example = "input = \"order\" for the payload, or a list of fields of it";
    Some(field.names(example)?.into_iter().map(str::to_owned).collect())
}

/// Looks up the steps of a flow; notes each that is not declared, where the flow names it.
fn resolve(field: &Field<'_>, flow: &str, steps: &[&str]) -> Option<Vec<String>> {
    let wrong = |e: FlowError| {
        let at = field.inside(&e.span);
        match &e.also {
            Some((also, why)) => {
                field.notes.also(at, e.message, e.hint, (&field.inside(also), why));
            }
            None => field.notes.hinted(at, e.message, e.hint),
        }
    };
    let tree = parse(flow).map_err(wrong).ok()?;
    let hint = |name: &str| match steps.is_empty() {
        true => format!("declare it: [steps.{name}] with a command"),
        false => suggest(name, steps),
    };
    let mistakes = unresolved(&tree, steps, hint);
    let fine = mistakes.is_empty();
    mistakes.into_iter().for_each(wrong);
    fine.then(|| tree.steps().into_iter().map(|step| step.name.clone()).collect())
}
