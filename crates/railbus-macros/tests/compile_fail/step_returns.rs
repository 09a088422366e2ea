//! What no step can leave.
use railbus::{Failure, step};

struct Raw;

#[step]
fn not_encodable() -> Raw {
    Raw
}

#[step]
fn not_encodable_result() -> Result<Raw, Failure> {
    Ok(Raw)
}

#[step]
fn no_error() -> Result<u8, Raw> {
    Err(Raw)
}

#[step]
fn error_not_sendable() -> Result<u8, Box<dyn std::error::Error>> {
    Ok(1)
}

fn main() {}
