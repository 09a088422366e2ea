//! Fuzzing on the stable compiler: libFuzzer with coverage from the compiler's own passes.

use crate::cargo::{self, Outcome};
use std::process::Command;

/// What is fuzzed: a file each in `fuzz/targets`.
const TARGETS: [&str; 4] = ["codec", "flow", "pattern", "options"];

/// What `cargo fuzz` would set, without its sanitizers, which need a nightly compiler.
const FLAGS: &str = "-Cpasses=sancov-module -Cllvm-args=-sanitizer-coverage-level=4 \
                     -Cllvm-args=-sanitizer-coverage-inline-8bit-counters \
                     -Cllvm-args=-sanitizer-coverage-pc-table \
                     -Cllvm-args=-sanitizer-coverage-trace-compares --cfg fuzzing";

/// How long each target is fuzzed unless said otherwise, in seconds.
const SECONDS: u32 = 60;

/// Fuzzes one target, or all, for so many seconds each.
pub(crate) fn run(args: &[String]) -> Outcome {
    let (seconds, names): (Vec<&str>, Vec<&str>) =
        args.iter().map(String::as_str).partition(|arg| arg.parse::<u32>().is_ok());
    let seconds = seconds.first().and_then(|s| s.parse().ok()).unwrap_or(SECONDS);
    if let Some(unknown) = names.iter().find(|name| !TARGETS.contains(name)) {
        return Err(format!("no target `{unknown}`; there are {}", TARGETS.join(", ")));
    }
    let names = if names.is_empty() { TARGETS.to_vec() } else { names };
    let (root, host) = (cargo::root(), host()?);
    let (manifest, target) = (root.join("fuzz/Cargo.toml"), root.join("target/fuzz"));
    // A target of its own: its flags must not reach build scripts, nor the project's own builds.
    let mut build = cargo::command(&["build", "--target", &host, "--manifest-path"]);
    build.arg(manifest).env("CARGO_TARGET_DIR", &target).env("RUSTFLAGS", FLAGS);
    cargo::done(&mut build)?;
    for name in names {
        let corpus = target.join("corpus").join(name);
        std::fs::create_dir_all(&corpus)
            .map_err(|e| format!("can't create {}: {e}", corpus.display()))?;
        let mut fuzz = Command::new(target.join(&host).join("debug").join(name));
        fuzz.arg(&corpus).arg(format!("-max_total_time={seconds}")).current_dir(&target);
        cargo::done(&mut fuzz)?;
    }
    Ok(())
}

/// Asks the compiler what this machine is.
fn host() -> Result<String, String> {
    let asked = Command::new("rustc").arg("-vV").output();
    let told = asked.map_err(|e| format!("can't run rustc: {e}"))?.stdout;
    let told = String::from_utf8_lossy(&told);
    let host = told.lines().find_map(|line| line.strip_prefix("host: "));
    host.map(str::to_owned).ok_or_else(|| "rustc does not say what its host is".to_owned())
}
