//! A target that is misspelt.
use railbus::step;

#[step]
fn premium() {}

#[step(goto = [premum])]
fn classify() {}

fn main() {}
