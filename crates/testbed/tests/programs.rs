//! Which program is taken, and what is said where none will do.
#![allow(clippy::unwrap_used)]

use std::{
    env, fs,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    process::{self, Command},
    sync::atomic::{AtomicUsize, Ordering},
};

static COUNT: AtomicUsize = AtomicUsize::new(0);

/// A folder with a program in it that says that it is of that version.
struct Fake(PathBuf);

impl Fake {
    fn new(program: &str, says: &str) -> Self {
        let number = COUNT.fetch_add(1, Ordering::Relaxed);
        let folder = env::temp_dir().join(format!("railbus-fake-{}-{number}", process::id()));
        fs::create_dir_all(&folder).unwrap();
        let path = folder.join(program);
        fs::write(&path, format!("#!/bin/sh\necho '{says}'\n")).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
        Self(folder)
    }
}

impl Drop for Fake {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// Returns why no server for that scheme was started, with the variable set so.
fn refused(scheme: &str, variable: &str, named: &Path) -> String {
    let mut command = Command::new(env!("CARGO_BIN_EXE_railbus-testbed"));
    let output = command.args(["run", scheme, "--", "true"]).env(variable, named).output().unwrap();
    assert!(!output.status.success());
    String::from_utf8(output.stderr).unwrap()
}

#[test]
fn a_server_that_is_too_old_is_refused() {
    let fake = Fake::new("redis-server", "Redis server v=6.2.9 sha=0:0 bits=64");
    for named in [&*fake.0, &fake.0.join("redis-server")] {
        let why = refused("redis", "RAILBUS_TESTBED_REDIS", named);
        assert!(why.contains("RAILBUS_TESTBED_REDIS says"), "{why}");
        assert!(why.contains("version 6.2.9, at least 7.0 is needed"), "{why}");
    }
}

#[test]
fn a_program_that_says_no_version_is_refused() {
    let fake = Fake::new("redis-server", "error while loading shared libraries: libx.so.5");
    let why = refused("redis", "RAILBUS_TESTBED_REDIS", &fake.0);
    assert!(why.contains("says no version: error while loading"), "{why}");
}

#[test]
fn a_server_without_the_programs_beside_it_is_refused() {
    let fake = Fake::new("postgres", "postgres (PostgreSQL) 15.18");
    let why = refused("postgres", "RAILBUS_TESTBED_POSTGRES", &fake.0);
    assert!(why.contains("no initdb beside it"), "{why}");
}

#[test]
fn a_program_that_is_named_and_not_there_is_not_replaced_by_another() {
    let why = refused("redis", "RAILBUS_TESTBED_REDIS", Path::new("/none/redis-server"));
    assert!(why.contains("/none/redis-server: no such program"), "{why}");
}
