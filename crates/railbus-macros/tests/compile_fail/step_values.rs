//! Settings whose values don't fit.
use railbus::step;

#[step(retry = 3)]
fn retry_number() {}

#[step(executor = 3)]
fn executor_number() {}

#[step(bypass = |_| "no")]
fn bypass_text() {}

struct NoStep;

#[step(goto = [NoStep])]
fn unnamed_target() {}

fn main() {}
