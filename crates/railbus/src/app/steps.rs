//! The `[steps.NAME]` tables of an app file.

#[cfg(feature = "http")]
use super::posts;
use super::{
    bus::Environment,
    commands,
    spec::{EachSpec, StepSpec},
    table::{Field, Table},
    values::whole,
    work::WorkSpec,
};
#[cfg(feature = "http")]
use crate::steps::http;
use crate::{
    pipeline::{Evaluation, text::is_name},
    steps::command,
};
use std::{path::Path, time::Duration};

/// Reads all steps; returns with them every name that is declared, also of those with mistakes.
pub(super) fn read<'a>(
    root: &Table<'a>,
    folder: &Path,
    environment: &Environment,
) -> (Vec<StepSpec>, Vec<&'a str>) {
    let tables = named(root, "steps", "write [steps.NAME], with a command");
    let step = |(name, table): &(&str, _)| step(name, table, folder, environment);
    let steps = tables.iter().filter_map(step).collect();
    (steps, tables.into_iter().map(|(name, _)| name).collect())
}

/// Reads the tables `[key.NAME]`, each with a name that flows can use.
pub(super) fn named<'a>(
    root: &Table<'a>,
    key: &'static str,
    hint: &str,
) -> Vec<(&'a str, Table<'a>)> {
    let Some(all) = root.take(key).and_then(|f| f.table(key, Some(hint.into()))) else {
        return Vec::new();
    };
    let one = |field: &Field<'a>| {
        let table =
            field.table(&format!("[{key}.{}]", field.key.escape_debug()), Some(hint.into()))?;
        if !is_name(field.key) {
            let why = format!("`{}` is not a name", field.key.escape_debug());
            let hint = "use ASCII letters, digits, `_` and `-`, a letter or `_` first";
            root.notes.hinted(field.key_span.clone(), why, hint);
        }
        Some((field.key, table))
    };
    all.fields().iter().filter_map(one).collect()
}

fn step(
    name: &str,
    table: &Table<'_>,
    folder: &Path,
    environment: &Environment,
) -> Option<StepSpec> {
    let work = work(table, folder, environment);
    let input = table.take("input").map(|f| input(&f));
    let output = table.take("output").map(|f| f.text());
    let timeout = table.take("timeout").map(|f| f.duration());
    let retry = table.take("retry").map(|f| f.retry());
    let each = each(table);
    let stops = ["stop_on_success", "stop_on_error", "stop_on_exception"];
    let stops = stops.map(|key| table.take(key).map(|f| f.boolean()));
    table.finish();
    let (work, default) = work?;
    let timeout = whole(timeout)?.unwrap_or(default);
    let output = whole(output)?.unwrap_or(name).to_owned();
    let (input, retry, each) = (whole(input)?, whole(retry)?, each?);
    let [success, error, exception] = stops;
    let stops = [whole(success)?, whole(error)?, whole(exception)?];
    Some(StepSpec { name: name.into(), work, input, output, retry, timeout, each, stops })
}

/// Reads for which items a step runs, if it does.
fn each(table: &Table<'_>) -> Option<Option<EachSpec>> {
    let items = table.take("each").map(|f| f.text());
    let at_once = table.take("at_once");
    let evaluation = table.take("evaluation");
    let Some(items) = items else {
        let idle = at_once.into_iter().chain(evaluation).map(|field| {
            let why = format!("`{}` is said of a step without `each`", field.key);
            field.notes.hinted(field.key_span, why, "add each = \"items\", or leave it out");
        });
        return (idle.count() == 0).then_some(None);
    };
    let at_once = at_once.map(|f| f.count());
    let evaluation = evaluation.map(|field| {
        let evaluation = field.text()?.parse();
        evaluation.map_err(|error| field.refused(&error)).ok()
    });
    let at_once = whole(at_once)?.map(|n| n as usize);
    let evaluation = whole(evaluation)?.unwrap_or(Evaluation::NoneFailed);
    Some(Some(EachSpec { items: items?.to_owned(), at_once, evaluation }))
}

/// Reads what does the work of a step, and how long that may take if nothing else is said.
fn work(
    table: &Table<'_>,
    folder: &Path,
    environment: &Environment,
) -> Option<(WorkSpec, Duration)> {
    match (table.take("command"), table.take("post")) {
        (Some(first), Some(second)) => {
            let why = format!("{} has both `command` and `post`", table.title);
            first.rivals(&second, why, "keep one of them: a step is a command or a request");
            // What belongs to either is not minded then.
            for key in ["mode", "executor", "headers", "headers_env", "status"] {
                table.take(key);
            }
            None
        }
        (Some(field), None) => {
            let command = commands::read(&field, table, folder)?;
            Some((WorkSpec::Command(command), command::TIMEOUT))
        }
        (None, Some(field)) => post(&field, table, environment),
        (None, None) => {
            let why = format!("{} has no `command`", table.title);
            let hint = format!("add {}; or post = \"https://…\"", commands::EXAMPLE);
            table.notes.hinted(table.span.clone(), why, hint);
            None
        }
    }
}

#[cfg(feature = "http")]
fn post(
    field: &Field<'_>,
    table: &Table<'_>,
    environment: &Environment,
) -> Option<(WorkSpec, Duration)> {
    let post = posts::read(field, table, environment)?;
    Some((WorkSpec::Post(Box::new(post)), http::TIMEOUT))
}

#[cfg(not(feature = "http"))]
fn post(field: &Field<'_>, table: &Table<'_>, _: &Environment) -> Option<(WorkSpec, Duration)> {
    for key in ["headers", "headers_env", "status"] {
        table.take(key);
    }
    let why = "this program was built without requests as steps";
    field.notes.hinted(field.key_span.clone(), why, "build it with the feature `http`");
    None
}

/// Reads the names of the values that a step gets, each once.
fn input(field: &Field<'_>) -> Option<Vec<String>> {
    let names = field.distinct("input = [\"order\"]; without it a step gets what came, bare")?;
    Some(names.into_iter().map(str::to_owned).collect())
}
