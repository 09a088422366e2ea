//! The payloads that events carry.

use ruststream::Outgoing;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};
use std::hint::black_box;

/// A typed payload.
#[derive(Clone, Debug, Deserialize, Outgoing, Serialize)]
pub(crate) struct Order {
    pub(crate) id: u64,
    pub(crate) lines: u32,
}

/// Returns an order that the compiler does not know.
pub(crate) fn order() -> Order {
    Order { id: black_box(7), lines: black_box(2) }
}

/// Returns an order as a JSON map.
pub(crate) fn map() -> Map<String, Value> {
    let entries = [
        ("id", json!(black_box(7))),
        ("kind", json!("b2b")),
        ("lines", json!(black_box(2))),
        ("rush", json!(false)),
    ];
    entries.into_iter().map(|(key, value)| (key.to_owned(), value)).collect()
}
