//! `railbus backends`: the table of backends, as the library states it.

use super::{OK, certificates};
use crate::output;
use railbus::{
    backends::{Row, TABLE},
    conformance::{self, Fact},
    error::Result,
};
use serde_json::{Map, Value, json};

pub(super) fn backends(json: bool) -> Result<u8> {
    if json {
        output::lines(TABLE.iter().map(document))?;
        return Ok(OK);
    }
    // A column each: they are few, and what is said of them is much.
    let mut head = vec![""];
    head.extend(TABLE.iter().map(|row| row.scheme));
    let facts: Vec<Vec<Fact>> = TABLE.iter().map(facts).collect();
    let titles = facts.first().into_iter().flatten().map(|fact| fact.title);
    let rows = titles.enumerate().map(|(i, title)| {
        let values = facts.iter().filter_map(|of| of.get(i)).map(Fact::to_string);
        std::iter::once(title.to_owned()).chain(values).collect()
    });
    output::line(&output::table(&head, rows.collect()))?;
    for row in TABLE.iter().filter(|row| !row.settings.is_empty()) {
        let settings = row.settings.iter().map(|s| format!("  {}  {}", s.key, s.help));
        output::lines([format!("\nsettings of {}:", row.scheme)].into_iter().chain(settings))?;
    }
    Ok(OK)
}

fn document(row: &Row) -> String {
    let mut map = Map::from_iter([("scheme".to_owned(), row.scheme.into())]);
    map.extend(facts(row).into_iter().map(|fact| (fact.key.to_owned(), fact.value)));
    let settings = row.settings.iter().map(|s| json!({ "key": s.key, "help": s.help }));
    map.insert("settings".into(), settings.collect());
    Value::Object(map).to_string()
}

/// What is said of a backend: what it guarantees, and what the suite has shown of it.
fn facts(row: &Row) -> Vec<Fact> {
    let address = Fact { key: "example", title: "address", value: row.example.into() };
    let shown = certificates::shown(row.scheme).into();
    let shown = Fact { key: "conformance", title: "the suite shows", value: shown };
    std::iter::once(address).chain(conformance::facts(row.capability)).chain([shown]).collect()
}

/// Says in one line what a backend guarantees.
pub(super) fn summary(row: &Row) -> String {
    const TOLD: [&str; 8] = [
        "delivery",
        "broadcast",
        "groups",
        "delay",
        "lease_min_seconds",
        "replay",
        "dead_letters",
        "durable",
    ];
    let facts = facts(row);
    let said = facts.iter().filter(|fact| TOLD.contains(&fact.key));
    said.map(|fact| format!("{}: {fact}", fact.title)).collect::<Vec<_>>().join("; ")
}
