//! What threads do to each other: every order of their steps by loom, and what they leave behind.

use crate::cargo::{self, Outcome};

/// Not `loom`, under which tokio leaves out what the library needs.
const LOOM: &str = "--cfg railbus_loom";

/// Runs the models, which are the tests of that name, in every order of their steps.
pub(crate) fn loom(args: &[String]) -> Outcome {
    // A target of its own: the flag would build everything anew each time.
    let target = cargo::root().join("target/loom");
    let mut test = cargo::command(&["test", "--package", "railbus", "--lib", "interleavings"]);
    test.args(args).env("CARGO_TARGET_DIR", target).env("RUSTFLAGS", LOOM);
    cargo::done(&mut test)
}
