//! The `[steps.NAME]` tables of an app file.

use super::{
    spec::StepSpec,
    table::{Field, Table},
    values::{from_folder, whole},
};
use crate::pipeline::text::is_name;
use rustix::fs::{Access, access};
use std::{
    path::{Path, PathBuf},
    time::Duration,
};

const TIMEOUT: Duration = Duration::from_secs(300);
const EXAMPLE: &str = "command = [\"./step.sh\", \"argument\"]; it never goes through a shell";

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
    let command = table.need("command", EXAMPLE).map(|f| command(&f, folder));
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
    let (program, args) = command??;
    let timeout = whole(timeout)?.unwrap_or(TIMEOUT);
    Some(StepSpec { name: name.into(), program, args, retry: whole(retry)?, timeout })
}

/// Reads a command; a program with a `/` is resolved, and must be there and executable.
fn command(field: &Field<'_>, folder: &Path) -> Option<(PathBuf, Vec<String>)> {
    let texts = field.texts(EXAMPLE)?;
    let (first, args) = texts.split_first()?;
    let args = args.iter().map(|&arg| arg.to_owned()).collect();
    if !first.contains('/') {
        return Some((first.into(), args));
    }
    let program = from_folder(folder, first);
    let (why, hint) = match std::fs::metadata(&program) {
        Err(error) => (format!("can't find {}: {error}", program.display()), None),
        Ok(found) if !found.is_file() => (format!("{} is not a file", program.display()), None),
        Ok(_) if access(&program, Access::EXEC_OK).is_err() => {
            let hint = format!("chmod +x {}", program.display());
            (format!("{} is not executable", program.display()), Some(hint))
        }
        Ok(_) => return Some((program, args)),
    };
    let missing = || "a command with a `/` is looked up from the app file's folder".into();
    field.notes.hinted(field.span.clone(), why, hint.unwrap_or_else(missing));
    None
}
