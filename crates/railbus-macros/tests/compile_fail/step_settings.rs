//! Settings that say nothing.
use railbus::step;

#[step("Load")]
fn text_alone() {}

#[step(nmae = "Load")]
fn unknown() {}

#[step(name = "a step")]
fn no_name() {}

#[step(output = "")]
fn no_output() {}

#[step(blocking)]
async fn blocks() {}

#[step(blocking, executor = Blocking)]
fn two_executors() {}

#[step(blocking = true)]
fn blocking_value() {}

#[step(retry)]
fn retry_without() {}

#[step(retry = Retry::attempts(2), retry = Retry::attempts(3))]
fn twice() {}

#[step(goto = blocks)]
fn one_target() {}

fn main() {}
