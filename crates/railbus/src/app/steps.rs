//! The `[steps.NAME]` tables of an app file.

use super::{
    commands,
    spec::StepSpec,
    table::{Field, Table},
    values::whole,
    work::WorkSpec,
};
use crate::pipeline::text::is_name;
use std::{collections::HashSet, path::Path, time::Duration};

const TIMEOUT: Duration = Duration::from_secs(300);

/// Reads all steps; returns with them every name that is declared, also of those with mistakes.
pub(super) fn read<'a>(root: &Table<'a>, folder: &Path) -> (Vec<StepSpec>, Vec<&'a str>) {
    let tables = named(root, "steps", "write [steps.NAME], with a command");
    let steps = tables.iter().filter_map(|(name, table)| step(name, table, folder)).collect();
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

fn step(name: &str, table: &Table<'_>, folder: &Path) -> Option<StepSpec> {
    let command = table.need("command", commands::EXAMPLE).map(|f| commands::read(&f, folder));
    let input = table.take("input").map(|f| input(&f));
    let output = table.take("output").map(|f| f.text());
    let timeout = table.take("timeout").map(|f| f.duration());
    let retry = table.take("retry").map(|f| f.retry());
    if let Some(mode) = table.take("mode") {
        let worker = mode.one_of(&[("document", false), ("worker", true)]);
        if worker == Some(true) {
            let why = "mode `worker` is not yet available in this version";
            let hint = "leave it out: a step reads one JSON document and writes one";
            table.notes.hinted(mode.span, why, hint);
        }
    }
    if let Some(executor) = table.take("executor") {
        let why = "`executor` is not yet available in this version";
        let hint = "remove it: each run of a command is a process of its own";
        table.notes.hinted(executor.key_span, why, hint);
    }
    table.finish();
    let work = WorkSpec::Command(command??);
    let timeout = whole(timeout)?.unwrap_or(TIMEOUT);
    let output = whole(output)?.unwrap_or(name).to_owned();
    let (input, retry) = (whole(input)?, whole(retry)?);
    Some(StepSpec { name: name.into(), work, input, output, retry, timeout })
}

/// Reads the names of the values that a step gets, each once.
fn input(field: &Field<'_>) -> Option<Vec<String>> {
    let names = field.names("input = [\"order\"]; without it a step gets what came, bare")?;
    let mut seen = HashSet::new();
    if let Some(twice) = names.iter().find(|name| !seen.insert(**name)) {
        let why = format!("`{}` comes twice in `{}`", twice.escape_debug(), field.key);
        field.notes.hinted(field.span.clone(), why, "name each value once");
        return None;
    }
    Some(names.into_iter().map(str::to_owned).collect())
}
