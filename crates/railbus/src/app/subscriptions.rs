//! The `[[on]]` tables of an app file.

#[cfg(feature = "webhook")]
use super::outs;
use super::{
    bus::Environment,
    layers,
    spec::SubscriptionSpec,
    table::{Field, Table, suggest},
    values::{event_name, whole},
};
use crate::delivery::Then;
use serde_json::Value;
use std::{collections::HashMap, num::NonZero, ops::Range, thread, time::Duration};
use toml::de::DeValue;

const LEASE: Duration = Duration::from_secs(30);
const LEASE_MIN: Duration = Duration::from_secs(1);

/// How many requests are under way at once: they wait, mostly.
const POSTS: usize = 16;

/// The longest name of a group, in bytes.
const GROUP_MAX: usize = 256;

const THEN: [(&str, Then); 3] =
    [("dead_letter", Then::DeadLetter), ("drop", Then::Drop), ("stop", Then::Stop)];

/// Reads all subscriptions; names must be unique in their group.
pub(super) fn read(
    root: &Table<'_>,
    pipelines: &[&str],
    environment: &Environment,
) -> Vec<SubscriptionSpec> {
    let tables = root.take("on").map(|field| field.tables()).unwrap_or_default();
    let (mut all, mut known) = (Vec::new(), HashMap::new());
    for table in tables {
        let Some((one, named_at)) = subscription(&table, pipelines, environment) else { continue };
        let key = (one.name.clone(), one.group.clone());
        let first = known.entry(key).or_insert_with(|| named_at.clone());
        if *first != named_at {
            let place = match &one.group {
                Some(group) => format!("in group `{}`", group.escape_debug()),
                None => "outside groups".into(),
            };
            let why = format!("there are two subscriptions `{}` {place}", one.name.escape_debug());
            let hint = "dead letters are kept under its name: give this one a `name`";
            root.notes.also(named_at, why, hint, (first, "the first is here"));
        }
        all.push(one);
    }
    all
}

/// Reads one subscription, and where its name comes from.
fn subscription(
    table: &Table<'_>,
    pipelines: &[&str],
    environment: &Environment,
) -> Option<(SubscriptionSpec, Range<usize>)> {
    let name = table.take("name").map(|f| (f.text(), f.span));
    let event_type = table.take("type").map(|f| bare_type(&f));
    let topic = table.take("topic").map(|f| event_name(&f, "topic"));
    let payload = table.take("where").map(|f| wanted(&f));
    let group = table.take("group");
    let grouped = group.is_some();
    let group = group.map(|f| self::group(&f));
    #[cfg(feature = "webhook")]
    let (url, group_at) = (table.take("url"), table.span.clone());
    #[cfg(feature = "webhook")]
    let post = url.as_ref().map(|url| outs::read(url, table, environment));
    #[cfg(not(feature = "webhook"))]
    let (url, _): (Option<Field<'_>>, _) = (None, environment);
    let pipeline = pipeline(table, url.as_ref());
    let limit = table.take("limit").map(|f| f.count());
    let retry = table.take("retry").map(|f| f.retry());
    let then = table.take("then").map(|f| then(&f, grouped));
    let lease = table.take("lease").map(|f| lease(&f));
    let layers = layers::read(table, grouped);
    table.finish();

    #[cfg(feature = "webhook")]
    if url.is_some() && !grouped {
        let why = "what is posted needs a `group`, which keeps it until it is taken";
        table.notes.hinted(group_at, why, "add group = \"NAME\"");
        return None;
    }
    let (pipeline, at) = match &url {
        Some(url) if pipeline.is_none() => ("", url.span.clone()),
        Some(_) => return None,
        None => {
            let pipeline = pipeline?;
            (known(&pipeline, pipelines)?, pipeline.span)
        }
    };
    let (name, at) = match (name, &url) {
        (Some(name), _) => name,
        // A URL may have secrets in it, and names are shown.
        (None, Some(_)) => (whole(group)?, at),
        (None, None) => (Some(pipeline), at),
    };
    let group = whole(group)?.map(str::to_owned);
    let last = if group.is_some() { Then::DeadLetter } else { Then::Drop };
    let usual = if url.is_some() { POSTS } else { cores() };
    let mut layers = layers?;
    // Of what is posted it is the request's own.
    layers.timeout = layers.timeout.filter(|_| url.is_none());
    let spec = SubscriptionSpec {
        name: name?.into(),
        event_type: whole(event_type)?.map(Into::into),
        topic: whole(topic)?.map(Into::into),
        payload: whole(payload)?.unwrap_or_default(),
        pipeline: pipeline.into(),
        #[cfg(feature = "webhook")]
        post: whole(post)?,
        limit: whole(limit)?.map_or(usual, |n| n as usize),
        retry: whole(retry)?,
        then: whole(then)?.unwrap_or(last),
        lease: whole(lease)?.unwrap_or(LEASE),
        layers,
        group,
    };
    Some((spec, at))
}

/// Reads which pipeline gets the events; none where they are posted.
fn pipeline<'a>(table: &Table<'a>, url: Option<&Field<'a>>) -> Option<Field<'a>> {
    match url {
        Some(url) => table.take("pipeline").inspect(|field| {
            let why = "`url` and `pipeline` both say what becomes of events".to_owned();
            url.rivals(field, why, "keep one of them; a second [[on]] may have the other");
        }),
        None => table.need("pipeline", "pipeline = \"NAME\", of a [pipelines.NAME]"),
    }
}

fn cores() -> usize {
    thread::available_parallelism().map_or(1, NonZero::get)
}

/// Reads a pattern over types; one with a `:` was meant for topics.
fn bare_type<'a>(field: &Field<'a>) -> Option<&'a str> {
    let text = event_name(field, "type")?;
    let Some(colon) = text.find(':') else { return Some(text) };
    let hint = format!("topics have colons: write topic = \"{}\"", text.escape_debug());
    field.notes.hinted(field.inside(&(colon..colon + 1)), "a type has no `:`", hint);
    None
}

/// Reads a group's name, which is as short as the bus wants it.
fn group<'a>(field: &Field<'a>) -> Option<&'a str> {
    let text = field.text()?;
    if text.len() <= GROUP_MAX {
        return Some(text);
    }
    let why = format!("`group` has {} bytes; at most {GROUP_MAX} are allowed", text.len());
    field.notes.hinted(field.span.clone(), why, "give it a shorter name");
    None
}

/// Reads what follows the last try; only groups have dead letters.
fn then(field: &Field<'_>, grouped: bool) -> Option<Then> {
    let then = field.one_of(&THEN)?;
    if grouped || !matches!(then, Then::DeadLetter) {
        return Some(then);
    }
    let hint = "add a `group`, which keeps what failed, or remove `then`";
    field.notes.hinted(field.span.clone(), "dead letters need a `group`", hint);
    None
}

fn known<'a>(field: &Field<'a>, pipelines: &[&str]) -> Option<&'a str> {
    let name = field.text()?;
    if pipelines.contains(&name) {
        return Some(name);
    }
    let hint = match pipelines.is_empty() {
        true => format!("declare it: [pipelines.{}] with a flow", name.escape_debug()),
        false => suggest(name, pipelines),
    };
    let why = format!("there is no pipeline `{}`", name.escape_debug());
    field.notes.hinted(field.span.clone(), why, hint);
    None
}

fn lease(field: &Field<'_>) -> Option<Duration> {
    let lease = field.duration()?;
    if lease >= LEASE_MIN {
        return Some(lease);
    }
    let why = format!("`{}` must be at least 1s", field.key);
    field.notes.hinted(field.span.clone(), why, "it is renewed while a step runs; 30s is usual");
    None
}

/// Reads paths in the payload and their values. `sender.type = "User"` without quotes is a table
/// in a table to TOML, and means the same path.
fn wanted(field: &Field<'_>) -> Option<Vec<(String, Value)>> {
    const EXAMPLE: &str = "write where = { \"sender.type\" = \"User\" }";
    let table = field.table("where", Some(EXAMPLE.into()))?;
    if table.fields().is_empty() {
        field.notes.hinted(field.span.clone(), format!("`{}` is empty", field.key), EXAMPLE);
        return None;
    }
    let mut pairs = Vec::new();
    for inner in table.fields() {
        if inner.key.trim().is_empty() {
            field.notes.hinted(inner.key_span.clone(), "a path in `where` is empty", EXAMPLE);
            return None;
        }
        match inner.value {
            DeValue::Table(_) => {
                let below = wanted(inner)?.into_iter();
                pairs.extend(below.map(|(path, value)| (format!("{}.{path}", inner.key), value)));
            }
            DeValue::Array(_) | DeValue::Datetime(_) => {
                inner.wrong("a string, a number or a boolean", None);
                return None;
            }
            _ => pairs.push((inner.key.into(), inner.json()?)),
        }
    }
    Some(pairs)
}
