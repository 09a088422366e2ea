//! Loading an app file: text, syntax, then everything it says, with all mistakes at once.

use super::{
    bus::{self, Environment},
    fit, inputs, pipelines,
    problem::{LoadError, Notes},
    spec::AppSpec,
    steps, subscriptions,
    table::Table,
};
use crate::{
    error::{Error, ErrorKind},
    text_file::APPS,
};
use std::{
    ops::Range,
    path::{Path, PathBuf},
};
use toml::de::DeTable;

impl AppSpec {
    /// Loads and checks the app file at `path`, with what `environment` overrides.
    ///
    /// Paths and commands in the file are resolved from its folder, a relative path in
    /// `RAILBUS_URL` from the working directory. `RAILBUS_URL` takes the place of the file's URL,
    /// `RAILBUS_BUS__KEY` sets a key of `bus`; of the other variables only those count that the file
    /// names (`headers_env`). The backend is
    /// asked whether it takes the settings of the bus; nothing is opened.
    ///
    /// # Errors
    /// Returns an error if the file is missing, a folder, larger than 1 MiB or not UTF-8, and all
    /// mistakes of file and environment at once otherwise. Where the syntax is broken, only the
    /// mistakes of syntax are told: what it would mean is anyone's guess.
    pub fn load(
        path: &Path,
        environment: impl Iterator<Item = (String, String)>,
    ) -> Result<Self, LoadError> {
        let text = APPS.read(path)?;
        let text = text.strip_prefix('\u{feff}').unwrap_or(&text);
        let folder = folder_of(path)?;
        let notes = Notes::new(text);
        let (table, errors) = DeTable::parse_recoverable(text);
        let sound = note_syntax(&notes, &errors);
        let app = sound.then(|| {
            let root = Table::new("the file", 0..0, table.get_ref(), &notes);
            resolve(&root, folder, &Environment::new(environment))
        });
        match (app.flatten(), notes.into_problems(path.display().to_string())) {
            (_, Some(problems)) => Err(LoadError::Problems(problems)),
            (Some(app), None) => Ok(app),
            (None, None) => {
                let why = "nothing is wrong with the file, and yet it did not load";
                Err(failed(ErrorKind::Internal, path, why).into())
            }
        }
    }
}

/// Reads everything; `None` if something was noted.
fn resolve(root: &Table<'_>, folder: PathBuf, environment: &Environment) -> Option<AppSpec> {
    if root.fields().is_empty() {
        let hint = "an app needs a `bus`, and [[on]] with a pipeline of steps";
        root.notes.hinted(0..0, "nothing to run: the file is empty", hint);
        return None;
    }
    let bus = bus::read(root, &folder, environment);
    let inputs = inputs::read(root, &folder, environment);
    let (steps, step_names) = steps::read(root, &folder, environment);
    let (pipelines, pipeline_names) = pipelines::read(root, &step_names, &steps, &folder);
    let subscriptions = subscriptions::read(root, &pipeline_names, environment);
    root.finish();
    if let Some(bus) = &bus {
        fit::check(root, bus);
    }
    if root.fields().iter().all(|field| !["on", "input"].contains(&field.key)) {
        let hint = "an app needs [[on]] with a pipeline; [[input]] brings it events";
        root.notes.hinted(0..0, "nothing to run: there is no [[on]]", hint);
    }
    let whole = root.notes.is_empty();
    let bus = bus.filter(|_| whole)?.options;
    Some(AppSpec { bus, inputs, steps, pipelines, subscriptions, folder })
}

/// Notes the mistakes of syntax; tells whether what was read can be relied on all the same.
fn note_syntax(notes: &Notes<'_>, errors: &[toml::de::Error]) -> bool {
    let mut sound = true;
    for error in errors {
        let span = error.span().unwrap_or(0..0);
        if error.message() == "duplicate key" {
            let key = notes.text.get(span.clone()).unwrap_or_default();
            let why = format!("`{key}` is given twice");
            match earlier(notes.text, span.start) {
                Some(first) => {
                    notes.also(span, why, "keep one of them", (&first, "first given here"));
                }
                None => notes.hinted(span, why, "keep one of them"),
            }
        } else {
            sound = false;
            notes.add(span, error.message(), None);
        }
    }
    sound
}

/// Finds where the key at `at` was given before, if a line of its own says so: the parser knows, but
/// does not tell.
fn earlier(text: &str, at: usize) -> Option<Range<usize>> {
    let start = text.get(..at)?.rfind('\n').map_or(0, |newline| newline + 1);
    let line = text[start..].lines().next()?;
    let is_head = |line: &str| line.trim_start().starts_with('[');
    let said = |line: &str| match is_head(line) {
        true => line.rfind(']').map(|end| line[..=end].trim().to_owned()),
        false => line.split_once('=').map(|(key, _)| key.trim().to_owned()),
    };
    let wanted = said(line)?;
    let mut end = start;
    for other in text[..start].split_inclusive('\n').rev() {
        end -= other.len();
        if is_head(other) == is_head(line) && said(other).as_ref() == Some(&wanted) {
            let first = end + other.find(&wanted)?;
            return Some(first..first + wanted.len());
        }
        // A key is given twice within its table only.
        if is_head(other) && !is_head(line) {
            return None;
        }
    }
    None
}

/// Returns the folder of the file, absolute, without following links.
fn folder_of(path: &Path) -> Result<PathBuf, Error> {
    let path = std::path::absolute(path).map_err(|error| {
        failed(ErrorKind::Unavailable, path, "the working directory can't be told").because(error)
    })?;
    Ok(path.parent().unwrap_or(&path).to_path_buf())
}

fn failed(kind: ErrorKind, path: &Path, why: &'static str) -> Error {
    Error::new(kind, "app", why).with("file", path.display())
}
