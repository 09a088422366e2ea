//! Functions that can't be steps.
use railbus::step;

#[step]
fn takes_itself(&self, n: u8) {}

#[step]
fn generic<T: serde::de::DeserializeOwned>(value: &T) {}

#[step]
fn lifetime<'a>(value: &'a str) -> usize {
    value.len()
}

#[step]
fn pattern((a, b): (u8, u8)) {}

#[step]
fn unnamed(_: u8) {}

#[step]
fn changes(list: &mut Vec<u8>) {}

#[step]
fn anything(value: impl Clone) {}

#[step]
fn lends(text: &str) -> &str {
    text
}

#[step]
fn lends_inside(text: &str) -> Result<&str, String> {
    Ok(text)
}

#[step]
unsafe fn risky() {}

#[step]
struct NoFunction;

fn main() {
    // The mistake is told once: what is used is there.
    let _ = railbus::Pipeline::new("p").step(pattern).step(lends);
}
