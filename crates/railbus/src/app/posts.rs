//! The requests of an app file: URLs, headers, and what answers mean.

use super::{
    bus::Environment,
    table::{Field, Table},
    values::kind,
    work::PostSpec,
};
use crate::steps::http::{HttpStep, Meaning, Statuses};
use toml::de::DeValue;

const STATUS: &str = "status = { failure = [409], retry = [\"5xx\"] }";

/// Reads the keys that belong to a request, `post` among them; `None` if one is wrong.
pub(super) fn read(
    url: &Field<'_>,
    table: &Table<'_>,
    environment: &Environment,
) -> Option<PostSpec> {
    let post =
        url.text().and_then(|text| HttpStep::post(text).map_err(|error| url.refused(&error)).ok());
    let (headers, variables) = (table.take("headers"), table.take("headers_env"));
    let statuses = table.take("status").map(|field| statuses(&field));
    let mut post = post;
    let mut whole = true;
    for (field, named) in [(headers, false), (variables, true)] {
        let Some(field) = field else { continue };
        for (header, value) in values(&field, named, environment) {
            let Some(value) = value else {
                whole = false;
                continue;
            };
            post = post.and_then(|post| {
                post.header(header.key, value).map_err(|error| header.refused(&error)).ok()
            });
        }
    }
    let post = post.filter(|_| whole)?;
    let request = match statuses {
        Some(statuses) => post.statuses(statuses?),
        None => post,
    };
    Some(PostSpec { request })
}

/// Reads headers; where `named`, their values are the names of variables that hold them.
fn values<'a>(
    field: &Field<'a>,
    named: bool,
    environment: &'a Environment,
) -> Vec<(Field<'a>, Option<&'a str>)> {
    let example = match named {
        true => "write headers_env = { authorization = \"VARIABLE\" }",
        false => "write headers = { x-tenant = \"north\" }",
    };
    let Some(table) = field.table(&format!("`{}`", field.key), Some(example.into())) else {
        return Vec::new();
    };
    let value = |header: &Field<'a>| {
        let text = header.text()?;
        if !named {
            return Some(text);
        }
        let value = environment.variable(text);
        if value.is_none() {
            let why = format!("there is no variable `{}` in the environment", text.escape_debug());
            let hint = format!("set it to the value of the header `{}`", header.key);
            header.notes.hinted(header.span.clone(), why, hint);
        }
        value
    };
    table.fields().iter().map(|header| (header.clone(), value(header))).collect()
}

/// Reads what statuses mean.
fn statuses(field: &Field<'_>) -> Option<Statuses> {
    let table = field.table("`status`", Some(format!("write {STATUS}")))?;
    let lists = [
        (table.take("success"), Meaning::Success),
        (table.take("failure"), Meaning::Failure),
        (table.take("retry"), Meaning::Retry),
    ];
    table.finish();
    let mut all = Some(Statuses::default());
    for (list, meaning) in lists {
        let Some(list) = list else { continue };
        let DeValue::Array(items) = list.value else {
            list.wrong("an array of statuses", Some(format!("write {STATUS}")));
            all = None;
            continue;
        };
        for item in items {
            let text = match item.get_ref() {
                DeValue::String(text) => text.to_string(),
                DeValue::Integer(number) => number.to_string(),
                other => {
                    let why = format!("`{}` must hold statuses, not {}", list.key, kind(other));
                    list.notes.hinted(item.span(), why, format!("write {STATUS}"));
                    all = None;
                    continue;
                }
            };
            let known = all.clone().unwrap_or_default();
            match known.set(&text, meaning) {
                Ok(more) => all = all.map(|_| more),
                Err(error) => {
                    list.notes.refused(&(&item.span()).into(), &error);
                    all = None;
                }
            }
        }
    }
    all
}
