//! The `[[input]]` tables of kind `http`: what is posted to the app.

use super::{
    bus::Environment,
    spec::HttpSpec,
    table::{Field, Table},
    values::kind,
};
use crate::{
    backends::webhook::{SETTINGS, check},
    options::Options,
};
use std::ops::Range;
use toml::de::DeValue;

const DEFAULT_PATH: &str = "/";

/// Reads one, and where its name comes from.
pub(super) fn read(
    table: &Table<'_>,
    environment: &Environment,
) -> Option<(HttpSpec, Range<usize>)> {
    let name = table.take("name");
    let port = table.need("port", "port = 8080");
    let mode = table.take("mode");
    let mut whole = port.is_some();
    if let Some(field) = mode {
        whole &= field.one_of(&[("accept", ())]).is_some();
    }
    let mut options = Options::parse("webhook:").ok()?;
    let mut said = Vec::new();
    for key in SETTINGS.iter().map(|setting| setting.key) {
        let Some(field) = table.take(key) else { continue };
        match text(&field) {
            Some(_) if key == "secret_env" => match secrets(&field, environment) {
                Some(secrets) => options.set("secret", secrets),
                None => whole = false,
            },
            Some(text) => options.set(key, text),
            None => whole = false,
        }
        said.push(field);
    }
    table.finish();
    if whole && let Err(error) = check(&options) {
        // At the key that it names, if it names one.
        let named = |field: &&Field<'_>| error.message().contains(&format!("`{}`", field.key));
        match said.iter().find(named) {
            Some(field) => field.refused(&error),
            None => table.notes.refused(&(&table.span).into(), &error),
        }
        return None;
    }
    let (name, at) = match &name {
        Some(field) => (field.text()?.to_owned(), field.span.clone()),
        None => match said.iter().find(|field| field.key == "path") {
            Some(field) => (field.text()?.to_owned(), field.span.clone()),
            None => (DEFAULT_PATH.to_owned(), table.span.clone()),
        },
    };
    whole.then_some((HttpSpec { name, options }, at))
}

/// Reads a setting as its text.
pub(super) fn text(field: &Field<'_>) -> Option<String> {
    match field.value {
        DeValue::String(_) => field.text().map(str::to_owned),
        DeValue::Integer(number) => Some(number.to_string()),
        DeValue::Boolean(yes) => Some(yes.to_string()),
        other => {
            let why = format!("`{}` must be a text or a number, not {}", field.key, kind(other));
            field.notes.add(field.span.clone(), why, None);
            None
        }
    }
}

/// Returns what the variables hold that are named, a line each.
pub(super) fn secrets(field: &Field<'_>, environment: &Environment) -> Option<String> {
    let mut all = Vec::new();
    for name in field.text()?.split(',').map(str::trim) {
        match environment.variable(name).filter(|value| !value.is_empty()) {
            Some(value) => all.push(value),
            None => {
                let why =
                    format!("there is no variable `{}` in the environment", name.escape_debug());
                let hint = "set it to the secret that the sender signs with";
                field.notes.hinted(field.span.clone(), why, hint);
                return None;
            }
        }
    }
    Some(all.join("\n"))
}

/// Notes inputs that tell senders that the bus has their events, where it would lose them.
pub(super) fn check_durable(root: &Table<'_>, durable: bool, able: &[&str]) {
    let input = root.fields().iter().find(|field| field.key == "input");
    for table in input.map(|field| field.tables()).unwrap_or_default() {
        let kinds = table.fields().iter().filter(|field| ["kind", "backend"].contains(&field.key));
        for kind in kinds.filter(|field| !durable && field.value.as_str() == Some("http")) {
            let why = "senders are told that the bus has their events, and it keeps none";
            let hint =
                format!("use a bus that survives the process, such as {}", able.join(" or "));
            root.notes.hinted(kind.span.clone(), why, hint);
        }
    }
}
