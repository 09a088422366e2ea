//! Whether the backend takes the settings of an app, and can do what its subscriptions ask.

use super::{
    bus::{PLACES, Said},
    table::{Table, suggest},
};
use crate::{
    backends::{self, COMMONS, Row, TABLE},
    error::nearest,
    options::Options,
};

/// Notes all that the backend refuses, each at the place that says so.
pub(super) fn check(root: &Table<'_>, bus: &Said) {
    match backends::find(&bus.options) {
        Ok(row) => {
            check_settings(root, bus, row);
            check_groups(root, row);
            check_journals(root, row);
            #[cfg(feature = "webhook")]
            check_inputs(root, row);
            check_commons(root, row);
        }
        Err(error) => root.notes.refused(&bus.backend, &error),
    }
}

/// Notes inputs that promise what the backend does not keep.
#[cfg(feature = "webhook")]
fn check_inputs(root: &Table<'_>, row: &Row) {
    let able = TABLE.iter().filter(|row| row.capability.durable).map(|row| row.example);
    let able: Vec<_> = able.collect();
    super::hooks::check_durable(root, row.capability.durable, &able);
}

/// Notes each setting that the backend refuses. It stops at the first, so that it is asked about
/// one after the other; what it takes as a whole is right.
fn check_settings(root: &Table<'_>, bus: &Said, row: &Row) {
    let refused = |options: &Options| (row.check)(options).err();
    let Some(whole) = refused(&bus.options) else { return };
    let bare = refused(&bus.options.with_only(None));
    if let Some(error) = &bare {
        root.notes.refused(&bus.address, error);
    }
    let mut told = bare.is_some();
    for key in bus.options.keys() {
        let Some(error) = refused(&bus.options.with_only(Some(key))) else { continue };
        // What is wrong with the address is wrong with every setting as well.
        if bare.as_ref().is_some_and(|bare| bare.message() == error.message()) {
            continue;
        }
        let keys = row.settings.iter().map(|setting| setting.key);
        let known = keys.clone().any(|known| known == key);
        let is_place = !known && nearest(key, keys.clone().chain(PLACES)).is_some_and(is_place);
        let error = match is_place {
            true => error.hint(suggest(key, &PLACES.into_iter().chain(keys).collect::<Vec<_>>())),
            false => error,
        };
        root.notes.refused(bus.setting(key, known), &error);
        told = true;
    }
    // Settings that are right one by one may still be wrong together.
    if !told {
        root.notes.refused(&bus.backend, &whole);
    }
}

fn is_place(key: &str) -> bool {
    PLACES.contains(&key)
}

/// Notes each group that the backend does not keep: an app accounts for every event of its groups,
/// also after a crash.
fn check_groups(root: &Table<'_>, row: &Row) {
    let keeps = |row: &Row| row.capability.groups && row.capability.durable;
    if keeps(row) {
        return;
    }
    let able: Vec<_> = TABLE.iter().filter(|row| keeps(row)).map(|row| row.example).collect();
    let hint = (!able.is_empty())
        .then(|| format!("use a bus that keeps them, such as {}", able.join(" or ")));
    let on = root.fields().iter().find(|field| field.key == "on");
    for table in on.map(|field| field.tables()).unwrap_or_default() {
        let group = table.fields().iter().find(|field| field.key == "group");
        // A group without a name has been told.
        if let Some(group) = group.filter(|group| group.named().is_ok()) {
            let why = match row.capability.groups {
                true => format!("the groups of {} end with the process", row.scheme),
                false => format!("{} has no groups", row.scheme),
            };
            root.notes.add(group.span.clone(), why, hint.clone());
        }
    }
}

/// Notes each pipeline whose runs are to be kept by a backend that keeps none.
fn check_journals(root: &Table<'_>, row: &Row) {
    if row.capability.journal {
        return;
    }
    let able: Vec<_> = TABLE.iter().filter(|row| row.capability.journal).collect();
    let able: Vec<_> = able.iter().map(|row| row.example).collect();
    let hint = (!able.is_empty())
        .then(|| format!("use a bus that keeps them, such as {}", able.join(" or ")));
    let pipelines = root.fields().iter().find(|field| field.key == "pipelines");
    let Some(pipelines) = pipelines.and_then(|field| field.table("pipelines", None)) else {
        return;
    };
    for field in pipelines.fields() {
        let Some(pipeline) = field.table("pipelines", None) else { continue };
        for key in pipeline.fields().iter().filter(|key| key.key == "journal") {
            if key.value.as_bool() == Some(true) {
                let why = format!("{} keeps no runs", row.scheme);
                root.notes.add(key.span.clone(), why, hint.clone());
            }
        }
    }
}

/// Notes each limit and each memory of what was handled that a fleet is to share by a backend where it
/// can't.
fn check_commons(root: &Table<'_>, row: &Row) {
    let keeps = |row: &Row| COMMONS.contains(&row.capability.name);
    if keeps(row) {
        return;
    }
    // In memory it is this process's alone.
    let able = TABLE.iter().filter(|row| keeps(row) && row.capability.durable);
    let able: Vec<_> = able.map(|row| row.example).collect();
    let hint =
        (!able.is_empty()).then(|| format!("use a bus that does, such as {}", able.join(" or ")));
    let on = root.fields().iter().find(|field| field.key == "on");
    for table in on.map(|field| field.tables()).unwrap_or_default() {
        let layers = table.fields().iter().filter(|field| ["rate", "dedup"].contains(&field.key));
        for layer in layers.filter(|layer| layer.value.is_table()) {
            let inner = layer.table(layer.key, None);
            let shared = inner.iter().flat_map(Table::fields).filter(|field| field.key == "shared");
            for shared in shared.filter(|shared| shared.value.as_bool() != Some(false)) {
                let why = format!("{} keeps nothing for a fleet to share", row.scheme);
                root.notes.add(shared.span.clone(), why, hint.clone());
            }
        }
    }
}
