//! What threads do to each other: every order of their steps by loom, and what they leave behind.

use crate::{
    cargo::{self, Outcome},
    valgrind::Valgrind,
};
use std::env;

/// Not `loom`, under which tokio leaves out what the library needs.
const LOOM: &str = "--cfg railbus_loom";

/// How often a thread is interrupted in the middle, at most: what goes wrong takes one or two. Without
/// a bound, which takes minutes, loom found nothing that it does not find with this one.
const PREEMPTIONS: (&str, &str) = ("LOOM_MAX_PREEMPTIONS", "3");

/// Runs the models, which are the tests of that name, in every order of their steps.
pub(crate) fn loom(args: &[String]) -> Outcome {
    // A target of its own: the flag would build everything anew each time.
    let target = cargo::root().join("target/loom");
    let mut test = cargo::command(&["test", "--package", "railbus", "--lib", "interleavings"]);
    test.args(args).env("CARGO_TARGET_DIR", target).env("RUSTFLAGS", LOOM);
    if env::var_os(PREEMPTIONS.0).is_none() {
        test.env(PREEMPTIONS.0, PREEMPTIONS.1);
    }
    cargo::done(&mut test)
}

/// Stresses the bus under memcheck.
pub(crate) fn leaks(args: &[String]) -> Outcome {
    let valgrind = Valgrind::find()?;
    let build = ["test", "--package", "railbus", "--test", "stress_bus", "--no-run"];
    for program in cargo::executables(&build)? {
        valgrind.memcheck(&program, &[&["--nocapture".into()], args].concat())?;
    }
    Ok(())
}
