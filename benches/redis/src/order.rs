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

/// Returns an event with a payload of 64 bytes.
pub(crate) fn event(number: u64) -> Event {
    let digits = number.max(1).ilog10() as usize + 1;
    // What is left beside the keys, the quotes and the number.
    let note = "x".repeat(64 - 21 - digits);
    Event::new(TYPE).topic("orders").payload(Order { number, note })
}

/// Returns the bytes that such an event is stored as.
pub(crate) fn bytes(number: u64) -> harness::Result<Vec<u8>> {
    let event = event(number);
    match event.raw_payload().text()?.len() {
        64 => Ok(railbus::codec::encode(&event)?),
        other => Err(format!("a payload of {other} bytes").into()),
    }
}
