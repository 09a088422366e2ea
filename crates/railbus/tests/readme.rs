//! The README beside what is: its table of backends is generated, its app files load. Its Rust is
//! run as a part of the library's documentation.
#![cfg(all(feature = "sqlite", feature = "app"))]
#![allow(clippy::unwrap_used)]

mod certified;

use certified::kept;
use railbus::{
    app::AppSpec,
    backend::{Broadcast, Capability, Ordering},
    backends::TABLE,
};
use std::{
    env,
    fs::{self, read_to_string},
    os::unix::fs::PermissionsExt,
    path::Path,
};

fn readme() -> String {
    // Asked for as it runs: clones that share a target folder may share this test's binary.
    let krate = env::var_os("CARGO_MANIFEST_DIR").unwrap();
    read_to_string(Path::new(&krate).join("README.md")).unwrap()
}

fn yes(claimed: bool) -> &'static str {
    if claimed { "yes" } else { "no" }
}

/// Says what the suite has shown, as its certificate has it.
fn shown(name: &str) -> String {
    let certificate = kept(name);
    let cases = certificate["cases"].as_array().into_iter().flatten();
    let all: Vec<_> = cases.collect();
    let passed = all.iter().filter(|case| case["status"] == "passed").count();
    format!("{passed} of {}", all.len())
}

/// Writes the table of backends.
fn table() -> String {
    let mut table = String::from(
        "| address | broadcast | groups | order | dead letters | survives the process | payload at most | the suite |\n\
         |---|---|---|---|---|---|---|---|\n",
    );
    for row in TABLE {
        let capability: &Capability = row.capability;
        let broadcast = match capability.broadcast {
            Broadcast::Inline => "inside the process",
            Broadcast::Live => "every bus on it",
            _ => "refused",
        };
        let order = match capability.ordering {
            Ordering::Total => "as published",
            Ordering::Alike => "as published, where members want the same and stay",
            Ordering::PerKey => "as published, by key",
            Ordering::PerPublisher => "as published, by publisher",
            _ => "none",
        };
        let payload = match capability.payload_max {
            usize::MAX => "no limit".to_owned(),
            bytes if bytes < 1 << 20 => format!("{} KiB", bytes >> 10),
            bytes => format!("{} MiB", bytes >> 20),
        };
        table.push_str(&format!(
            "| `{}` | {broadcast} | {} | {order} | {} | {} | {payload} | {} |\n",
            row.example,
            yes(capability.groups),
            yes(capability.dead_letters),
            yes(capability.durable),
            shown(row.scheme),
        ));
    }
    table
}

#[test]
fn its_table_of_backends_is_what_the_backends_say_of_themselves() {
    let (readme, table) = (readme(), table());
    assert!(readme.contains(&format!("\n\n{table}\n")), "the table must be\n{table}");
}

#[test]
fn its_app_files_load() {
    let readme = readme();
    let blocks = readme.split("```toml\n").skip(1).filter_map(|rest| rest.split("```").next());
    let apps: Vec<_> = blocks.filter(|block| block.contains("bus.url")).collect();
    assert_eq!(apps.len(), 2);
    for app in apps {
        let folder = tempfile::tempdir().unwrap();
        let write = |name: &str, text: &str| {
            let path = folder.path().join(name);
            fs::write(&path, text).unwrap();
            path
        };
        write("orders.ndjson", "");
        for step in ["check", "ship", "charge", "validate", "confirm"] {
            let script = write(&format!("{step}.sh"), "#!/bin/sh\n");
            fs::set_permissions(script, fs::Permissions::from_mode(0o755)).unwrap();
        }
        // "# [steps.validate] and [steps.confirm] are written the same way."
        let others = "[steps.validate]\ncommand = [\"./validate.sh\"]\n\
                      [steps.confirm]\ncommand = [\"./confirm.sh\"]\n";
        let text =
            if app.contains("[steps.validate]") { format!("{app}{others}") } else { app.into() };
        let loaded = AppSpec::load(&write("railbus.toml", &text), std::iter::empty());
        let spec = loaded.unwrap_or_else(|e| panic!("{e}\n{text}"));
        assert_eq!(spec.pipelines[0].name, "fulfil");
    }
}
