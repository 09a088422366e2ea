//! `railbus check`: every mistake in an app file, with its place.

use super::{BROKEN, OK};
use crate::{args::Check, output};
use miette::{LabeledSpan, MietteDiagnostic, NamedSource, Report};
use railbus::{
    app::{AppSpec, LoadError, Place, Problem, Problems},
    error::Result,
};
use serde_json::{Value, json};
use std::{path::Path, sync::Arc};

pub(super) fn check(args: &Check, json: bool) -> Result<u8> {
    match (load(&args.app), json) {
        (Ok(spec), false) => {
            let (pipelines, ons) = (spec.pipelines.len(), spec.subscriptions.len());
            output::note(&format!(
                "{}: {pipelines} pipelines, {ons} subscriptions, no mistakes",
                args.app.display()
            ));
            Ok(OK)
        }
        (Ok(_), true) => {
            output::data(&json!({ "ok": true, "problems": [] }).to_string());
            Ok(OK)
        }
        (Err(e), false) => {
            report(&e, &args.app);
            Ok(BROKEN)
        }
        (Err(e), true) => {
            let problems: Vec<Value> = match &e {
                LoadError::Problems(problems) => problems.list().iter().map(as_json).collect(),
                LoadError::File(e) => vec![json!({ "message": e.to_string(), "hint": e.advice() })],
                other => vec![json!({ "message": other.to_string(), "hint": null })],
            };
            output::data(&json!({ "ok": false, "problems": problems }).to_string());
            Ok(BROKEN)
        }
    }
}

/// Loads an app file with what the environment overrides.
pub(super) fn load(path: &Path) -> Result<AppSpec, LoadError> {
    // A variable that is not UTF-8 can't be one of ours.
    let text = |(key, value): (std::ffi::OsString, std::ffi::OsString)| {
        Some((key.into_string().ok()?, value.into_string().ok()?))
    };
    AppSpec::load(path, std::env::vars_os().filter_map(text))
}

/// Prints why an app file did not load.
pub(super) fn report(error: &LoadError, path: &Path) {
    match error {
        LoadError::File(e) => output::failed(e),
        LoadError::Problems(problems) => {
            let text = std::fs::read_to_string(path).unwrap_or_default();
            for problem in problems.list() {
                output::note(&show(problem, problems, &text));
            }
            let count = problems.list().len();
            let word = if count == 1 { "mistake" } else { "mistakes" };
            output::error(&format!("{}: {count} {word}", path.display()), None);
        }
        other => output::error(&other.to_string(), None),
    }
}

/// Shows one mistake with the lines around it; on what is no terminal, as one line and a hint.
fn show(problem: &Problem, problems: &Problems, text: &str) -> String {
    let (Place::File { span, line, column }, true) = (&problem.place, output::is_live()) else {
        return one(problem, problems.file());
    };
    let start = span.start.min(text.len());
    let label = LabeledSpan::new_with_span(None, (start, span.len().min(text.len() - start)));
    let mut shown = MietteDiagnostic::new(problem.message.clone()).with_label(label);
    if let Some(hint) = &problem.hint {
        shown = shown.with_help(hint.clone());
    }
    let source =
        NamedSource::new(format!("{}:{line}:{column}", problems.file()), Arc::new(text.to_owned()));
    format!("{:?}", Report::new(shown).with_source_code(source))
}

fn one(problem: &Problem, file: &str) -> String {
    let place = match &problem.place {
        Place::File { line, column, .. } => format!("{file}:{line}:{column}"),
        Place::Variable(name) => name.clone(),
        _ => file.to_owned(),
    };
    match &problem.hint {
        Some(hint) => format!("{place}: {}\n  hint: {hint}", problem.message),
        None => format!("{place}: {}", problem.message),
    }
}

fn as_json(problem: &Problem) -> Value {
    let (line, column) = problem.line_column().unzip();
    let variable = match &problem.place {
        Place::Variable(name) => Some(name),
        _ => None,
    };
    json!({
        "message": problem.message, "hint": problem.hint,
        "line": line, "column": column, "variable": variable,
    })
}
