//! The `[[input]]` tables of an app file.

use super::{
    spec::{InputSpec, IntervalSpec, NdjsonSpec},
    table::{Field, Table, suggest},
    values::{event_name, from_folder, whole},
};
use serde_json::Value;
use std::{ops::Range, path::Path};

#[derive(Clone, Copy)]
enum Kind {
    Ndjson,
    Interval,
    Later,
}

const KINDS: [(&str, Kind); 5] = [
    ("ndjson", Kind::Ndjson),
    ("interval", Kind::Interval),
    ("http", Kind::Later),
    ("command", Kind::Later),
    ("cron", Kind::Later),
];

/// Reads all inputs; names must be unique among them.
pub(super) fn read(root: &Table<'_>, folder: &Path) -> Vec<InputSpec> {
    let tables = root.take("input").map(|field| field.tables()).unwrap_or_default();
    let mut inputs: Vec<InputSpec> = Vec::new();
    for table in tables {
        let Some((input, named_at)) = input(&table, folder) else { continue };
        if inputs.iter().any(|known| known.name() == input.name()) {
            let why = format!("there are two inputs `{}`", input.name().escape_debug());
            let hint = "how far an input was read is kept under its name: give this one a `name`";
            root.notes.hinted(named_at, why, hint);
        }
        inputs.push(input);
    }
    inputs
}

/// Reads one input, and where its name comes from.
fn input(table: &Table<'_>, folder: &Path) -> Option<(InputSpec, Range<usize>)> {
    let Some(field) = table.one_of(&["kind", "backend"]) else {
        let why = format!("{} has no `kind`", table.title);
        table.notes.hinted(table.span.clone(), why, "add kind = \"ndjson\"");
        return None;
    };
    let text = field.text()?;
    match KINDS.iter().find(|(name, _)| *name == text).map(|(_, kind)| kind) {
        Some(Kind::Ndjson) => ndjson(table, folder),
        Some(Kind::Interval) => interval(table),
        Some(Kind::Later) => {
            let why = format!("inputs of kind `{text}` are not yet available in this version");
            table.notes.hinted(field.span, why, "available: ndjson, interval");
            None
        }
        None => {
            let why = format!("`{}` is not a kind of input", text.escape_debug());
            let known = KINDS.iter().filter(|(_, kind)| !matches!(kind, Kind::Later));
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
        Ok(_) => return,
        Err(error) => (
            format!("can't find {}: {error}", path.display()),
            "a path is looked up from the app file's folder; \"-\" is the standard input",
        ),
    };
    field.notes.hinted(field.span.clone(), why, hint);
}

fn interval(table: &Table<'_>) -> Option<(InputSpec, Range<usize>)> {
    let name = table.take("name");
    let every = table.need("every", "every = \"30s\"").map(|f| f.duration());
    let event_type = table.need("type", "type = \"tick\"");
    let topic = table.take("topic").map(|f| event_name(&f, "topic"));
    let payload = table.take("payload").map(|f| f.json());
    table.finish();
    let (name, at) = named(name, event_type.as_ref())?;
    let spec = IntervalSpec {
        name: name.into(),
        every: every??,
        event_type: event_name(&event_type?, "type")?.into(),
        topic: whole(topic)?.map(Into::into),
        payload: whole(payload)?.unwrap_or(Value::Null),
    };
    Some((InputSpec::Interval(spec), at))
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
