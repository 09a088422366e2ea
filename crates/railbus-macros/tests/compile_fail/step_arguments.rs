//! Arguments that no value of a run can be.
use railbus::{State, step};

struct Raw;

#[derive(serde::Deserialize)]
struct Uncloned;

#[step]
fn not_decodable(raw: &Raw) {
    let _ = raw;
}

#[step]
fn not_decodable_by_value(raw: Raw) {
    drop(raw);
}

#[step]
fn not_clone(value: Uncloned) {
    drop(value);
}

#[step]
fn state_by_reference(state: &State<u8>) {
    let _ = state;
}

fn main() {}
