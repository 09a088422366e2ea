//! What is published: 64 bytes of JSON.

use railbus::Event;
use serde::{Deserialize, Serialize};

pub(crate) const TYPE: &str = "order.placed";

/// A payload, with a number of its own.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub(crate) struct Order {
    pub(crate) number: u64,
    note: String,
}

/// Returns a payload of 64 bytes.
pub(crate) fn order(number: u64) -> Order {
    let digits = number.max(1).ilog10() as usize + 1;
    // What is left beside the keys, the quotes and the number.
    Order { number, note: "x".repeat(64 - 21 - digits) }
}

/// Returns an event with a payload of 64 bytes.
pub(crate) fn event(number: u64) -> Event {
    Event::new(TYPE).topic("orders").payload(order(number))
}

/// Returns the payload alone, as the bare client sends it.
pub(crate) fn bare(number: u64) -> harness::Result<String> {
    let text = serde_json::to_string(&order(number))?;
    match text.len() {
        64 => Ok(text),
        other => Err(format!("a payload of {other} bytes").into()),
    }
}
