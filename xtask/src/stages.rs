//! The stages of CI: one after another, timed, up to the first that fails.

use crate::{
    cargo::{self, Outcome},
    counts, numbered, orders, test, threads,
};
use std::{
    fs,
    time::{Duration, Instant},
};

/// A stage: its name, and what it does.
pub(crate) type Stage = (&'static str, fn() -> Outcome);

const STAGES: [Stage; 9] = [
    ("fmt", || cargo::run(&["fmt", "--all", "--check"])),
    ("clippy", clippy),
    ("docs", docs),
    ("features", features),
    ("test", || test(&[])),
    ("loom", || threads::loom(&[])),
    ("examples", || numbered::run().and_then(|()| orders::run())),
    ("counts", || counts::run(&[])),
    ("apart", apart),
];

/// Returns the stages of those names, in their order; all if none is named.
pub(crate) fn named(names: &[String]) -> Result<Vec<Stage>, String> {
    if let Some(unknown) = names.iter().find(|n| STAGES.iter().all(|(name, _)| name != n)) {
        return Err(format!("no stage `{unknown}`"));
    }
    let wanted = |name: &str| names.is_empty() || names.iter().any(|n| n == name);
    Ok(STAGES.into_iter().filter(|(name, _)| wanted(name)).collect())
}

/// Runs the stages and prints how long each took.
pub(crate) fn run(stages: &[Stage]) -> Outcome {
    let mut rows = Vec::new();
    let mut failed = None;
    for (name, stage) in stages {
        if failed.is_some() {
            rows.push((*name, None, "not run"));
            continue;
        }
        println!("== {name}");
        let start = Instant::now();
        let outcome = stage();
        let word = if outcome.is_ok() { "passed" } else { "failed" };
        rows.push((*name, Some(start.elapsed()), word));
        failed = outcome.err().map(|why| format!("stage {name} failed: {why}"));
    }
    println!("{}", table(&rows));
    failed.map_or(Ok(()), Err)
}

fn table(rows: &[(&str, Option<Duration>, &str)]) -> String {
    let seconds = |time: Duration| format!("{:.1} s", time.as_secs_f64());
    let line = |name: &str, time: &str, word: &str| format!("{name:<10}{time:>10}  {word}");
    let total: Duration = rows.iter().filter_map(|(_, time, _)| *time).sum();
    let mut lines = vec![String::new(), line("stage", "time", "")];
    for (name, time, word) in rows {
        lines.push(line(name, &time.map(seconds).unwrap_or_default(), word));
    }
    lines.push(line("total", &seconds(total), ""));
    lines.iter().map(|l| l.trim_end()).collect::<Vec<_>>().join("\n")
}

fn clippy() -> Outcome {
    let check = ["clippy", "--workspace", "--all-targets", "--all-features"];
    cargo::done(cargo::command(&check).args(["--", "-D", "warnings"]))
}

/// The program has the library's name, so that its docs would overwrite the library's.
fn docs() -> Outcome {
    let doc = ["doc", "--no-deps", "--all-features", "--workspace", "--exclude", "railbus-cli"];
    cargo::done(cargo::command(&doc).env("RUSTDOCFLAGS", "-D warnings"))
}

/// Checks the library without features, with each alone, and with all.
fn features() -> Outcome {
    let check = ["check", "--package", "railbus"];
    // With its examples: those that need a feature say so.
    cargo::run_with(&check, &["--no-default-features".into(), "--examples".into()])?;
    let manifest = cargo::root().join("crates/railbus/Cargo.toml");
    let text = fs::read_to_string(&manifest).map_err(|e| format!("{}: {e}", manifest.display()))?;
    for feature in feature_names(&text) {
        println!("-- {feature}");
        cargo::run_with(
            &check,
            &["--no-default-features".into(), format!("--features={feature}")],
        )?;
    }
    cargo::run_with(&check, &["--all-features".into()])
}

/// Checks what is no member of the workspace, so that it does not rot: the benchmarks beside their
/// peers, and what is fuzzed.
fn apart() -> Outcome {
    for folder in ["benches", "benches/counts", "fuzz"] {
        println!("-- {folder}");
        let manifest = cargo::root().join(folder).join("Cargo.toml");
        cargo::done(
            cargo::command(&["fmt", "--all", "--check", "--manifest-path"]).arg(&manifest),
        )?;
        let mut check = cargo::command(&["check", "--all-targets", "--locked", "--manifest-path"]);
        let target = cargo::root().join("target/apart");
        cargo::done(check.arg(manifest).env("CARGO_TARGET_DIR", target))?;
    }
    Ok(())
}

/// Returns the keys of a manifest's `[features]`, except `default`.
fn feature_names(manifest: &str) -> Vec<&str> {
    let lines = manifest.lines().skip_while(|line| line.trim() != "[features]").skip(1);
    let names = lines.take_while(|line| !line.starts_with('[')).filter_map(|line| {
        let (name, _) = line.split_once('=')?;
        let plain = |c: char| c.is_ascii_alphanumeric() || "-_".contains(c);
        name.trim().chars().all(plain).then_some(name.trim())
    });
    names.filter(|name| !name.is_empty() && *name != "default").collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn features_are_read_from_the_manifest() {
        let text = "[dependencies]\na = 1\n[features]\ndefault = []\n# c = []\nsqlite = [\"a\"]\n\
                    app = [\n  \"b=c\",\n]\n[lints]\nd = 1\n";
        assert_eq!(feature_names(text), ["sqlite", "app"]);
    }

    #[test]
    fn unknown_stages_are_refused() {
        assert_eq!(named(&["dcos".into()]).err().as_deref(), Some("no stage `dcos`"));
        let names: Vec<_> = named(&["docs".into()]).into_iter().flatten().map(|s| s.0).collect();
        assert_eq!(names, ["docs"]);
    }

    #[test]
    fn nothing_runs_after_a_failure() {
        let stages: [Stage; 2] = [("a", || Err("broken".into())), ("b", || panic!("b ran"))];
        assert_eq!(run(&stages), Err("stage a failed: broken".into()));
    }

    #[test]
    fn the_table_adds_up() {
        let second = |n| Some(Duration::from_secs(n));
        let table = table(&[("fmt", second(1), "passed"), ("test", second(61), "failed")]);
        let lines: Vec<_> =
            table.lines().map(|l| l.split_whitespace().collect::<Vec<_>>()).collect();
        assert_eq!(
            lines[2..],
            [
                vec!["fmt", "1.0", "s", "passed"],
                vec!["test", "61.0", "s", "failed"],
                vec!["total", "62.0", "s"]
            ]
        );
    }
}
