//! Ids of events: time-ordered when new, derived when the same thing must get the same id again.

use uuid::Uuid;

/// Returns a new id, a version 7 UUID: ids made later sort later.
///
/// Source: RFC 9562, section 5.7.
#[must_use]
pub fn new_id() -> String {
    Uuid::now_v7().hyphenated().to_string()
}

/// Returns the id that `name` always gets within `space`, a version 5 UUID.
///
/// File inputs derive the id of a line from the file's path and the line's offset, so that reading
/// the line again does not make another event of it. Source: RFC 9562, section 5.5.
#[must_use]
pub fn derived_id(space: &str, name: &str) -> String {
    let space = Uuid::new_v5(&Uuid::NAMESPACE_URL, space.as_bytes());
    Uuid::new_v5(&space, name.as_bytes()).hyphenated().to_string()
}
