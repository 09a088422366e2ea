//! The `[[input]]` tables of an app file.

#[cfg(feature = "webhook")]
use super::hooks;
use super::{
    bus::Environment,
    spec::{InputSpec, NdjsonSpec, ScheduleSpec},
    table::{Field, Table, suggest},
    values::{event_name, from_folder, kind, whole},
};
use crate::schedule::{Cron, Missed, Schedule, Wrong};
use rustix::fs::{Access, access};
use serde_json::Value;
use std::{
    collections::HashMap,
    fs::{File, Metadata},
    io,
    ops::Range,
    os::unix::fs::FileTypeExt,
    path::Path,
};
use toml::de::DeValue;

#[derive(Clone, Copy)]
enum Kind {
    Ndjson,
    Interval,
    Cron,
    At,
    Http,
    Later,
}

const KINDS: [(&str, Kind); 6] = [
    ("ndjson", Kind::Ndjson),
    ("interval", Kind::Interval),
    ("cron", Kind::Cron),
    ("at", Kind::At),
    ("http", Kind::Http),
    ("command", Kind::Later),
];

const MISSED: [(&str, Missed); 3] =
    [("skip", Missed::Skip), ("latest", Missed::Latest), ("all", Missed::All)];

/// Reads all inputs; names must be unique among them.
pub(super) fn read(root: &Table<'_>, folder: &Path, environment: &Environment) -> Vec<InputSpec> {
    let tables = root.take("input").map(|field| field.tables()).unwrap_or_default();
    let (mut inputs, mut named) = (Vec::new(), HashMap::new());
    for table in tables {
        let Some((input, named_at)) = input(&table, folder, environment) else { continue };
        let known = named.entry(input.name().to_owned()).or_insert_with(|| named_at.clone());
        if *known != named_at {
            let why = format!("there are two inputs `{}`", input.name().escape_debug());
            let hint = "how far an input was read is kept under its name: give this one a `name`";
            root.notes.also(named_at, why, hint, (known, "the first is here"));
        }
        inputs.push(input);
    }
    inputs
}

/// Reads one input, and where its name comes from.
fn input(
    table: &Table<'_>,
    folder: &Path,
    environment: &Environment,
) -> Option<(InputSpec, Range<usize>)> {
    let Some(field) = table.one_of(&["kind", "backend"]) else {
        let why = format!("{} has no `kind`", table.title);
        table.notes.hinted(table.span.clone(), why, "add kind = \"ndjson\"");
        return None;
    };
    let text = field.text()?;
    match KINDS.iter().find(|(name, _)| *name == text).map(|(_, kind)| kind) {
        Some(Kind::Ndjson) => ndjson(table, folder),
        Some(Kind::Interval) => scheduled(table, every),
        Some(Kind::Cron) => scheduled(table, cron),
        Some(Kind::At) => scheduled(table, at),
        #[cfg(feature = "webhook")]
        Some(Kind::Http) => {
            let (spec, at) = hooks::read(table, environment)?;
            Some((InputSpec::Http(spec), at))
        }
        #[cfg(not(feature = "webhook"))]
        Some(Kind::Http) => {
            let _ = environment;
            let why = "inputs of kind `http` are not in this build";
            table.notes.hinted(field.span, why, "build railbus with the feature `webhook`");
            None
        }
        Some(Kind::Later) => {
            let why = format!("inputs of kind `{text}` are not yet available in this version");
            table.notes.hinted(field.span, why, "available: ndjson, interval, cron, at, http");
            None
        }
        None => {
            let why = format!("`{}` is not a kind of input", text.escape_debug());
            let known = KINDS.iter().filter(|(_, kind)| match kind {
                Kind::Http => cfg!(feature = "webhook"),
                Kind::Later => false,
                _ => true,
            });
            let known: Vec<_> = known.map(|(name, _)| *name).collect();
            table.notes.hinted(field.span, why, suggest(text, &known));
            None
        }
    }
}

fn ndjson(table: &Table<'_>, folder: &Path) -> Option<(InputSpec, Range<usize>)> {
    let name = table.take("name");
    let path = table.need("path", "path = \"events.ndjson\", or \"-\" for the standard input");
    let type_field = table.take("type_field").map(|f| f.text());
    let payload_field = table.take("payload_field").map(|f| f.text());
    let topic = table.take("topic").map(|f| template(&f));
    table.finish();
    let (name, at) = named(name, path.as_ref())?;
    let path = path?;
    let text = path.text()?;
    if text != "-" {
        check_file(&path, &from_folder(folder, text));
    }
    let name = if name == "-" { "stdin" } else { name };
    let spec = NdjsonSpec {
        name: name.into(),
        path: (text != "-").then(|| from_folder(folder, text)),
        type_field: whole(type_field)?.unwrap_or("type").into(),
        payload_field: whole(payload_field)?.map(Into::into),
        topic: whole(topic)?.map(Into::into),
    };
    Some((InputSpec::Ndjson(spec), at))
}

/// Notes a file that can't be read as one. A pipe with a name is as good as a file.
fn check_file(field: &Field<'_>, path: &Path) {
    let (why, hint) = match std::fs::metadata(path) {
        Ok(found) if found.is_dir() => {
            (format!("{} is a folder, not a file", path.display()), "name the file in it")
        }
        Ok(found) => match readable(path, &found) {
            Ok(()) => return,
            Err(error) => (
                format!("can't read {}: {error}", path.display()),
                "let the user this runs as read the file",
            ),
        },
        Err(error) => (
            format!("can't find {}: {error}", path.display()),
            "a path is looked up from the app file's folder; \"-\" is the standard input",
        ),
    };
    field.notes.hinted(field.span.clone(), why, hint);
}

fn readable(path: &Path, found: &Metadata) -> io::Result<()> {
    match found.file_type().is_fifo() {
        // Opening it would wait for who writes.
        true => Ok(access(path, Access::READ_OK)?),
        false => File::open(path).map(drop),
    }
}

/// Reads an input that ticks; `when` reads what is peculiar to its kind.
fn scheduled(
    table: &Table<'_>,
    when: fn(&Table<'_>) -> Option<Schedule>,
) -> Option<(InputSpec, Range<usize>)> {
    let name = table.take("name");
    let schedule = when(table);
    let event_type = table.need("type", "type = \"tick\"");
    let topic = table.take("topic").map(|f| event_name(&f, "topic"));
    let payload = table.take("payload").map(|f| f.json());
    let jitter = table.take("jitter").map(|f| (f.duration(), f));
    let missed = table.take("missed").map(|f| f.one_of(&MISSED));
    table.finish();
    let (name, at) = named(name, event_type.as_ref())?;
    let mut schedule = schedule?.missed(whole(missed)?.unwrap_or_default());
    if let Some((jitter, field)) = jitter {
        schedule = schedule.jitter(jitter?).map_err(|e| field.refused(&e)).ok()?;
    }
    let spec = ScheduleSpec {
        name: name.into(),
        schedule,
        event_type: event_name(&event_type?, "type")?.into(),
        topic: whole(topic)?.map(Into::into),
        payload: whole(payload)?.unwrap_or(Value::Null),
    };
    Some((InputSpec::Schedule(spec), at))
}

fn every(table: &Table<'_>) -> Option<Schedule> {
    let field = table.need("every", "every = \"30s\"")?;
    Schedule::every(field.duration()?).map_err(|e| field.refused(&e)).ok()
}

fn cron(table: &Table<'_>) -> Option<Schedule> {
    let field = table.need("cron", "cron = \"0 2 * * *\"");
    let zone = table.take("time_zone");
    let noted = |field: &Field<'_>, wrong: Wrong| {
        field.notes.hinted(field.inside(&wrong.part), wrong.why, wrong.hint);
    };
    let field = field?;
    let cron = Cron::parse(field.text()?).map_err(|e| noted(&field, e));
    let is_one = cron.is_ok();
    // The zone is looked at all the same.
    let mut cron = cron.or_else(|()| Cron::parse("* * * * *")).ok()?;
    if let Some(zone) = zone {
        cron = cron.in_zone(zone.text()?).map_err(|e| noted(&zone, e)).ok()?;
    }
    is_one.then(|| Schedule::of_cron(cron))
}

/// Reads one time or several, as texts or as TOML has them.
fn at(table: &Table<'_>) -> Option<Schedule> {
    let field = table.need("at", "at = \"2026-04-01T08:00:00+02:00\", or several in brackets")?;
    let items: Vec<_> = match field.value {
        DeValue::Array(items) => items.iter().map(|item| (item.get_ref(), item.span())).collect(),
        one => vec![(one, field.span.clone())],
    };
    let mut texts = Some(Vec::with_capacity(items.len()));
    for (item, span) in items {
        let text = match item {
            DeValue::String(text) => text.to_string(),
            DeValue::Datetime(time) => time.to_string(),
            other => {
                let why = format!("`at` must hold times, not {}", kind(other));
                let hint = "write such as 2026-04-01T08:00:00+02:00, or several in brackets";
                field.notes.hinted(span, why, hint);
                texts = None;
                continue;
            }
        };
        match Schedule::at([&text]) {
            Ok(_) => texts.iter_mut().for_each(|texts| texts.push(text.clone())),
            Err(error) => {
                field.notes.refused(&(&span).into(), &error);
                texts = None;
            }
        }
    }
    Schedule::at(texts?).map_err(|e| field.refused(&e)).ok()
}

/// Returns the name and where it stands; without one, the field that stands in for it.
fn named<'a>(
    name: Option<Field<'a>>,
    otherwise: Option<&Field<'a>>,
) -> Option<(&'a str, Range<usize>)> {
    let field = name.or_else(|| otherwise.cloned())?;
    Some((field.text()?, field.span))
}

/// Reads a topic in which `{key}` stands for a key of the object.
fn template<'a>(field: &Field<'a>) -> Option<&'a str> {
    let text = event_name(field, "topic")?;
    let (mut open, mut wrong) = (None, None);
    for (i, c) in text.char_indices() {
        match (c, open) {
            ('{', None) => open = Some(i),
            ('}', Some(start)) if text[start + 1..i].trim().is_empty() => {
                wrong = wrong.or(Some((start..i + 1, "`{}` names no key")));
                open = None;
            }
            ('}', Some(_)) => open = None,
            ('{', Some(_)) => wrong = wrong.or(Some((i..i + 1, "`{` stands inside a `{`"))),
            ('}', None) => wrong = wrong.or(Some((i..i + 1, "`}` closes nothing"))),
            _ => {}
        }
    }
    wrong = wrong.or(open.map(|start| (start..start + 1, "`{` is not closed")));
    let Some((part, why)) = wrong else { return Some(text) };
    field.notes.hinted(field.inside(&part), why, "write topics such as \"github:{event}\"");
    None
}
