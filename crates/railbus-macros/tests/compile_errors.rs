//! Compiler errors are part of the interface: what they say of a mistake is tested.
//!
//! `tests/compile_fail` holds the mistakes, and beside each what the compiler says of it. How it
//! says it depends on its version, so the test compares with one version only. After a change of
//! the texts, or of the version: `TRYBUILD=overwrite cargo test -p railbus-macros`, and read what
//! changed.
#![allow(clippy::unwrap_used)]

use std::{env, io::Write, process::Command};

/// The version of the compiler that `tests/compile_fail` was written with.
const RUSTC: &str = "1.95";

#[test]
fn mistakes_are_answered_with_advice() {
    let rustc = env::var_os("RUSTC").unwrap_or_else(|| "rustc".into());
    let version = Command::new(rustc).arg("--version").output().unwrap();
    let version = String::from_utf8(version.stdout).unwrap();
    if !version.starts_with(&format!("rustc {RUSTC}.")) {
        // Past the test harness, which shows nothing of a test that passes.
        let told = format!("compile_errors: NOT RUN, it needs rustc {RUSTC}, this is {version}");
        std::io::stderr().write_all(told.as_bytes()).unwrap();
        return;
    }
    trybuild::TestCases::new().compile_fail("tests/compile_fail/*.rs");
}
