//! Whether the backend takes the settings of an app, and can do what its subscriptions ask.

use super::{bus::Environment, table::Table};
use crate::{
    backends::{self, Row, TABLE},
    error::Error,
    options::Options,
};

/// Notes what the backend refuses, with the places of the file or the environment that say so.
pub(super) fn check(root: &Table<'_>, bus: &Options, environment: &Environment) {
    match backends::check(bus) {
        Ok(row) => check_groups(root, row),
        Err(error) => note_refused(root, &error, environment),
    }
}

fn note_refused(root: &Table<'_>, error: &Error, environment: &Environment) {
    let advice = error.advice().map(Into::into);
    // The message quotes the key or the value that is wrong; whoever set it is to blame.
    if let Some(name) = environment.blamed(error.message()) {
        root.notes.variable(name, error.message(), advice);
        return;
    }
    let bus = root.fields().iter().find(|field| field.key == "bus");
    let table = bus.and_then(|field| field.table("[bus]", None));
    let inner = table.as_ref().and_then(|table| {
        let quoted = |key: &str| error.message().contains(&format!("`{key}`"));
        let told = |field: &&super::table::Field<'_>| {
            quoted(field.key) || field.value.as_str().is_some_and(quoted)
        };
        table.fields().iter().find(told).or_else(|| table.fields().first())
    });
    let span = inner.or(bus).map_or(0..0, |field| field.span.clone());
    root.notes.add(span, error.message(), advice);
}

/// Notes each group that the backend does not have.
fn check_groups(root: &Table<'_>, row: &Row) {
    if row.capability.groups {
        return;
    }
    let able: Vec<_> = TABLE.iter().filter(|r| r.capability.groups).map(|r| r.example).collect();
    let hint = format!("use a bus that has them, such as {}", able.join(" or "));
    let on = root.fields().iter().find(|field| field.key == "on");
    for table in on.map(|field| field.tables()).unwrap_or_default() {
        if let Some(group) = table.fields().iter().find(|field| field.key == "group") {
            let why = format!("{} has no groups", row.scheme);
            root.notes.hinted(group.span.clone(), why, hint.clone());
        }
    }
}
