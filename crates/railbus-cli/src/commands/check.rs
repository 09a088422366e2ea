//! `railbus check`: every mistake in an app file, with its place.

use super::{BROKEN, OK, environment::slips};
use crate::{
    args::{Check, Graph},
    output,
};
use annotate_snippets::{AnnotationKind, Level, Renderer, Snippet};
use railbus::{
    app::{AppSpec, InputSpec, LoadError, Place, Problem, Problems},
    clock::Timestamp,
    error::{Result, nearest},
    pipeline::Pipeline,
};
use serde_json::{Map, Value, json};
use std::path::Path;

pub(super) fn check(args: &Check, json: bool) -> Result<u8> {
    match (load(&args.app), json) {
        (Ok(spec), json) if args.graph.is_some() => draw(&spec, args, json),
        (Ok(spec), false) => {
            let pipelines = output::count(spec.pipelines.len() as u64, "pipeline");
            let ons = output::count(spec.subscriptions.len() as u64, "subscription");
            for remark in remarks(&spec) {
                output::note(&format!("{}: {remark}", args.app.display()));
            }
            output::note(&format!("{}: {pipelines}, {ons}, no mistakes", args.app.display()));
            Ok(OK)
        }
        (Ok(spec), true) => {
            let remarks = remarks(&spec);
            output::data(&json!({ "ok": true, "problems": [], "remarks": remarks }).to_string());
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

/// Says what is no mistake, but may not be meant: what is never used, and what never comes.
fn remarks(spec: &AppSpec) -> Vec<String> {
    let named = |name: &String| spec.pipelines.iter().any(|pipeline| pipeline.steps.contains(name));
    let idle = spec.steps.iter().map(|step| &step.name).filter(|name| !named(name));
    let idle = idle.map(|name| format!("step `{name}` is in no flow"));
    let run = |name: &String| spec.subscriptions.iter().any(|on| on.pipeline == *name);
    let unrun = spec.pipelines.iter().map(|pipeline| &pipeline.name).filter(|name| !run(name));
    let unrun = unrun.map(|name| format!("no [[on]] runs pipeline `{name}`"));
    let slips = slips().into_iter();
    slips.chain(past(spec)).chain(idle).chain(unrun).chain(mistaken(spec)).collect()
}

/// Names the values that no step leaves, and the step that may be meant: unless the pipeline says that
/// its events have them, one may be another's name with a typo.
pub(super) fn mistaken(spec: &AppSpec) -> Vec<String> {
    let built = spec.build_pipelines().unwrap_or_default();
    let silent = |pipeline: &&Pipeline| {
        spec.pipelines.iter().any(|p| p.name == pipeline.name() && p.input.is_empty())
    };
    let remark = |pipeline: &Pipeline| {
        let name = pipeline.name();
        let wanted: Vec<String> = pipeline.inputs().map(|input| format!("`{input}`")).collect();
        let wanted = (!wanted.is_empty()).then(|| wanted.join(", "))?;
        let of = spec.pipelines.iter().filter(|pipeline| pipeline.name == name);
        let steps: Vec<&str> = of.flat_map(|p| p.steps.iter().map(String::as_str)).collect();
        let near = pipeline.inputs().find_map(|input| nearest(input, steps.iter().copied()));
        let meant = near.map(|near| format!("; did you mean `{near}`?")).unwrap_or_default();
        Some(format!(
            "pipeline `{name}` takes {wanted} from its events, since no step before leaves that: \
             `input` in [pipelines.{name}] says so{meant}"
        ))
    };
    built.iter().filter(silent).filter_map(remark).collect()
}

/// Names the schedules of which all times have passed: none of their ticks comes any more, unless
/// one that was missed is made up for.
pub(super) fn past(spec: &AppSpec) -> impl Iterator<Item = String> {
    let name = |input: &InputSpec| match input {
        InputSpec::Schedule(input) if input.schedule.after(Timestamp::now()).is_none() => {
            Some(format!("input `{}`: all its times have passed", input.name))
        }
        _ => None,
    };
    spec.inputs.iter().filter_map(name)
}

/// Draws every pipeline: one document after another, or one value by their names.
fn draw(spec: &AppSpec, args: &Check, json: bool) -> Result<u8> {
    let mut drawn = Map::new();
    for pipeline in spec.build_pipelines()? {
        let text = match args.graph {
            Some(Graph::Dot) => pipeline.dot(),
            _ => format!("%% {}\n{}", pipeline.name(), pipeline.mermaid()),
        };
        if !json {
            output::data(text.trim_end());
        }
        drawn.insert(pipeline.name().to_owned(), text.into());
    }
    if json {
        output::data(&json!({ "ok": true, "problems": [], "graphs": drawn }).to_string());
    }
    Ok(OK)
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
    slips().iter().for_each(|slip| output::note(slip));
    match error {
        LoadError::File(e) => output::failed(e),
        LoadError::Problems(problems) => {
            let text = std::fs::read_to_string(path).unwrap_or_default();
            for problem in problems.list() {
                output::note(&show(problem, problems, &text));
            }
            let count = output::count(problems.list().len() as u64, "mistake");
            output::error(&format!("{}: {count}", path.display()), None);
        }
        other => output::error(&other.to_string(), None),
    }
}

/// Shows one mistake within its line; on what is no terminal, as one line and a hint.
fn show(problem: &Problem, problems: &Problems, text: &str) -> String {
    let (Place::File { span, .. }, true) = (&problem.place, output::is_live()) else {
        return one(problem, problems.file());
    };
    // The places are those of the text without its byte order mark.
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    let span = span.start.min(text.len())..span.end.min(text.len());
    let mut place =
        Snippet::source(text).path(problems.file()).annotation(AnnotationKind::Primary.span(span));
    if let Some((Place::File { span, .. }, why)) = &problem.also {
        let span = span.start.min(text.len())..span.end.min(text.len());
        place = place.annotation(AnnotationKind::Context.span(span).label(why));
    }
    let mut shown = Level::ERROR.primary_title(&*problem.message).element(place);
    if let Some(hint) = &problem.hint {
        shown = shown.element(Level::HELP.message(&**hint));
    }
    Renderer::styled().render(&[shown])
}

fn one(problem: &Problem, file: &str) -> String {
    let mut shown = format!("{}: {}", problem.place.in_file(file), problem.message);
    if let Some((place, why)) = &problem.also {
        shown.push_str(&format!("\n  {}: {why}", place.in_file(file)));
    }
    if let Some(hint) = &problem.hint {
        shown.push_str(&format!("\n  hint: {hint}"));
    }
    shown
}

fn as_json(problem: &Problem) -> Value {
    let (line, column) = problem.line_column().unzip();
    let variable = match &problem.place {
        Place::Variable(name) => Some(name),
        _ => None,
    };
    let also = problem.also.as_ref().map(|(place, why)| {
        let (line, column) = place.line_column().unzip();
        json!({ "message": why, "line": line, "column": column })
    });
    json!({
        "message": problem.message, "hint": problem.hint,
        "line": line, "column": column, "variable": variable, "also": also,
    })
}
