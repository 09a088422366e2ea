//! What becomes of events on their way out.

use super::mutant::Mutant;
use railbus::{Event, backend::Outgoing};
use serde_json::{Map, Value};

/// Where a payload is cut off.
const CUT: usize = 8000;

/// Returns an event as it goes out.
pub(super) fn out(mutant: Mutant, outgoing: &Outgoing) -> Outgoing {
    let mut outgoing = outgoing.clone();
    if let Some(event) = changed(mutant, &outgoing.event) {
        outgoing.event = event;
    }
    if mutant == Mutant::ForgottenPosition {
        outgoing.position = None;
    }
    outgoing
}

/// Returns what a mutant makes of an event, if it makes anything of it.
fn changed(mutant: Mutant, event: &Event) -> Option<Event> {
    let map = || event.to_map().unwrap();
    let with = |key: &str, value: String| {
        let mut map = map();
        map.insert(key.into(), value.into());
        Some(map)
    };
    let without = |keys: &[&str]| {
        let keep = |key: &String| !keys.contains(&key.as_str());
        let left: Map<String, Value> = map().into_iter().filter(|(key, _)| keep(key)).collect();
        Some(left)
    };
    let map = match mutant {
        Mutant::LostMetadata if !event.metadata().is_empty() => without(&["metadata"]),
        Mutant::LostCause => without(&["causation_id", "correlation_id"]),
        Mutant::NewId => with("id", format!("{}'", event.id())),
        Mutant::BlurredChannel if event.topic().contains('.') => {
            with("topic", event.topic().replace('.', "_"))
        }
        // A map has no delay.
        Mutant::ForgottenPublishDelay if event.delay().is_some() => Some(map()),
        Mutant::CutPayload => match map().get("payload") {
            Some(Value::String(text)) if text.len() > CUT => with("payload", text[..CUT].into()),
            _ => None,
        },
        _ => None,
    };
    map.map(|map| Event::from_map(&map).unwrap())
}

/// Tells whether an event is only said to be published.
pub(super) fn is_swallowed(mutant: Mutant, outgoing: &Outgoing, payload_max: usize) -> bool {
    match mutant {
        Mutant::TooLargeConfirmed => size(&outgoing.event) > payload_max,
        Mutant::BadConfirmed => outgoing.event.event_type().is_empty(),
        _ => false,
    }
}

/// Returns the size of an event's payload.
pub(super) fn size(event: &Event) -> usize {
    event.raw_payload().text().map_or(0, |text| text.len())
}
