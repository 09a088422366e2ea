//! Runs of pipelines as they are shown: a row, a page, a document.

use super::letters::{indented, pretty};
use crate::output;
use railbus::{
    Store,
    backend::{Journaled, Record, RecordStatus, Recorded, RunError, RunInfo, RunState, Went},
    error::{Error, ErrorKind, Result},
};
use serde_json::{Value, json};
use std::time::Duration;

const HEAD: [&str; 7] = ["id", "pipeline", "status", "steps", "began", "took", "error"];
const STEPS_HEAD: [&str; 7] = ["step", "visit", "status", "tries", "took", "then", "error"];

/// The longest name and the longest error shown in a table.
const NAME_MAX: usize = 40;
const ERROR_MAX: usize = 80;

/// Lays runs out as a table.
pub(super) fn table(runs: &[RunInfo]) -> String {
    output::table(&HEAD, runs.iter().map(row).collect())
}

fn row(run: &RunInfo) -> Vec<String> {
    vec![
        output::plain(&run.id),
        output::one_line(&run.pipeline, NAME_MAX),
        status(run),
        run.records.to_string(),
        output::time(run.began_at),
        run.ended_at.map(|ended| took(ended.since(run.began_at))).unwrap_or_default(),
        run.error.as_ref().map(|e| output::one_line(&what(e), ERROR_MAX)).unwrap_or_default(),
    ]
}

fn status(run: &RunInfo) -> String {
    match (run.state, run.cancel_asked) {
        (RunState::Ended(how), _) => how.name().into(),
        (state, true) => format!("{state}, to be cancelled"),
        (state, false) => state.name().into(),
    }
}

fn took(duration: Duration) -> String {
    format!("{:.3} s", duration.as_secs_f64())
}

fn what(error: &RunError) -> String {
    match error.kind.as_str() {
        "failure" => error.message.clone(),
        kind => format!("{kind}: {}", error.message),
    }
}

/// Writes a run as a document, without what it began with and its records.
pub(super) fn document(run: &RunInfo) -> Value {
    json!({
        "id": run.id, "pipeline": run.pipeline, "version": run.version, "status": run.state.name(),
        "owner": run.owner, "lease_left_seconds": run.lease_left.as_secs_f64(),
        "resumed": run.resumed, "cancel_asked": run.cancel_asked,
        "idle_seconds": run.idle_for.as_secs_f64(), "began_at": run.began_at.to_string(),
        "ended_at": run.ended_at.map(|at| at.to_string()), "records": run.records,
        "error": run.error.as_ref().map(|e| json!({ "kind": e.kind, "message": e.message })),
    })
}

/// Writes all that is known of a run as one line of JSON.
pub(super) fn whole(run: &Journaled) -> Result<String> {
    let mut head = document(&run.run);
    head["graph"] = json!(run.shape);
    head["goes_on"] = json!(goes_on(run));
    let records = run.records.iter().map(record).collect::<Result<Vec<_>>>()?.join(",");
    let input = run.input.to_json()?;
    let known = joined(&head, &[("input", input), ("steps", format!("[{records}]"))]);
    Ok(output::json_line(&known))
}

fn record(one: &Recorded) -> Result<String> {
    let Recorded { number, at, record, .. } = one;
    let went = serde_json::to_value(&record.went).map_err(|e| {
        Error::new(ErrorKind::Internal, "runs", "where a step went can't be shown").because(e)
    })?;
    let head = json!({
        "number": number, "at": at.to_string(), "step": record.path, "visit": record.visit,
        "status": record.status.name(), "tries": record.tries,
        "seconds": record.duration.as_secs_f64(), "then": went,
    });
    let text = |value: &[u8]| String::from_utf8_lossy(value).into_owned();
    let mut parts = vec![("values", record.values.to_json()?)];
    if let Some(passed) = &record.passed {
        parts.push(("passed", text(passed.text()?)));
    }
    if let Some(error) = &record.error {
        let head = json!({ "kind": error.kind, "message": error.message });
        parts.push(("error", joined(&head, &[("value", text(error.value.text()?))])));
    }
    Ok(joined(&head, &parts))
}

/// Joins a document and what follows as text: values may be nested deeper than a value can be.
fn joined(head: &Value, parts: &[(&str, String)]) -> String {
    let head = head.to_string();
    let mut text = head.strip_suffix('}').unwrap_or(&head).to_owned();
    for (name, value) in parts {
        text.push_str(&format!(",\"{name}\":{value}"));
    }
    text.push('}');
    text
}

/// Says where a run would go on that has not ended.
fn goes_on(run: &Journaled) -> Option<String> {
    if matches!(run.run.state, RunState::Ended(_)) {
        return None;
    }
    let steps = run.records.iter().rev().map(|one| &one.record);
    let Some(record) = steps.into_iter().find(|one| one.status != RecordStatus::Decision) else {
        return Some(match first(&run.shape) {
            Some(step) => format!("at {step}, its beginning"),
            None => "at its beginning".into(),
        });
    };
    let place = place(record);
    Some(match (&record.went, next(&run.shape, record)) {
        (Went::Goto { to, .. }, _) => format!("at {to}, where {place} goes to"),
        (Went::Branch(label), Some(step)) => format!("at {step}, the branch {label} of {place}"),
        (Went::Branch(label), None) => format!("along the branch {label} of {place}"),
        (_, Some(step)) => format!("at {step}, after {place}"),
        (_, None) => format!("after {place}"),
    })
}

/// Returns the lines of a graph, one a step; none of what someone else than a pipeline wrote.
fn lines(shape: &str) -> impl Iterator<Item = &str> {
    let is_ours = shape.starts_with("pipeline ");
    shape.lines().skip(1).filter(move |_| is_ours)
}

/// Returns the first step of a graph.
fn first(shape: &str) -> Option<&str> {
    lines(shape).next()?.split(' ').next().filter(|name| !name.starts_with('{'))
}

/// Reads in a graph which step follows one of the line that is recorded, where that is one step and
/// nothing runs beside it.
fn next<'a>(shape: &'a str, record: &Record) -> Option<&'a str> {
    let is_grouped = |line: &&str| line.starts_with('{') || line.contains("] of ");
    if lines(shape).any(|line| is_grouped(&line)) {
        return None;
    }
    let mut steps = lines(shape).map(|line| line.split_once(' '));
    let (_, line) = steps.find_map(|line| line.filter(|(name, _)| *name == record.path))?;
    let (line, end) = line.rsplit_once(" -> ")?;
    // What is inside a step may have branches of its own.
    let line = line.split('{').next().unwrap_or(line);
    let arm = |label: &str| {
        let is = |part: &&str| part.split_once(':').is_some_and(|(known, _)| known == label);
        line.split(' ').find(is).and_then(|part| part.split_once(':')).map(|(_, to)| to)
    };
    let end = Some(end).filter(|to| *to != "end");
    match (&record.went, record.status) {
        (Went::Branch(label), _) => arm(label),
        (Went::Next, RecordStatus::Success) => arm("1").or(end),
        (Went::Next, RecordStatus::Failure | RecordStatus::Exception) => arm("0"),
        (Went::Skip, _) => end,
        _ => None,
    }
    .filter(|name| !name.starts_with('{'))
}

fn place(record: &Record) -> String {
    match record.visit {
        1 => record.path.clone(),
        n => format!("{} (visit {n})", record.path),
    }
}

/// Writes all that is known of a run as a page.
pub(super) fn page(run: &Journaled) -> Result<String> {
    let Journaled { run: info, shape, input, records, .. } = run;
    let version = match info.version.as_str() {
        "" => String::new(),
        version => format!(", graph {}", output::plain(version)),
    };
    let mut page = vec![
        format!("run           {}", output::plain(&info.id)),
        format!("pipeline      {}{version}", output::plain(&info.pipeline)),
        format!("status        {}", status(info)),
    ];
    if let Some(error) = &info.error {
        page.push(format!("error         {}", indented(&what(error), 14)));
    }
    if let Some(place) = goes_on(run) {
        page.push(format!("goes on       {}", output::plain(&place)));
    }
    page.push(format!("began         {}", info.began_at));
    if let Some(ended) = info.ended_at {
        page.push(format!("ended         {ended}"));
    }
    let owner = output::plain(&info.owner);
    page.push(match info.state {
        RunState::Running => format!("runs in       {owner}, leased for {}", took(info.lease_left)),
        _ => format!("ran in        {owner}"),
    });
    if info.resumed > 0 {
        page.push(format!("taken over    {}", output::count(info.resumed, "time")));
    }
    page.push("graph".into());
    page.push(format!("  {}", indented(shape, 2)));
    page.push("input".into());
    page.push(format!("  {}", pretty(input.to_json()?.as_bytes())));
    if records.is_empty() {
        page.push("steps         none is recorded".into());
        return Ok(page.join("\n"));
    }
    let steps = output::table(&STEPS_HEAD, records.iter().map(|one| step(&one.record)).collect());
    page.push(steps);
    Ok(page.join("\n"))
}

fn step(record: &Record) -> Vec<String> {
    let error = record.error.as_ref();
    vec![
        output::plain(&record.path),
        record.visit.to_string(),
        record.status.name().into(),
        record.tries.to_string(),
        took(record.duration),
        output::one_line(&then(record), NAME_MAX),
        error.map(|e| output::one_line(&what(e), ERROR_MAX)).unwrap_or_default(),
    ]
}

fn then(record: &Record) -> String {
    match &record.went {
        Went::Next => left(&record.values),
        Went::Goto { to, reason, .. } => format!("goto {to} ({reason})"),
        Went::Branch(label) => format!("branch {label}"),
        Went::Stop => "stop".into(),
        Went::Skip => "skip".into(),
        _ => String::new(),
    }
}

/// Names the values that a step left.
fn left(values: &Store) -> String {
    match values.names().collect::<Vec<_>>() {
        names if names.is_empty() => "next".into(),
        names => format!("next, with {}", names.join(", ")),
    }
}
