//! How fast it is: the programs of `benches/`, and RustStream's instructions beside Railbus's.

use crate::{
    cargo::{self, Outcome},
    counts,
    valgrind::Valgrind,
};
use std::{path::PathBuf, process::Command};

/// The programs that measure times, and how their rows begin.
const PROGRAMS: [(&[&str], &str); 7] = [
    (&["I"], "inprocess"),
    (&["P"], "pipelines"),
    (&["S"], "sqlite"),
    (&["R"], "redis"),
    (&["G1", "G2", "G3"], "postgres"),
    (&["G4", "G5", "G6"], "postgres_queue"),
    (&["W"], "webhook"),
];

/// The row that counts instructions instead.
const COUNTED: &str = "I9";

/// Work of `benches/counts` that goes from publish to the handler of a typed event, and what part
/// of RustStream's instructions it may take.
const BESIDE: [(&str, u64); 3] =
    [("typed", 10), ("build_publish_typed", 10), ("typed_wire_always", 2)];

/// Measures the rows named, else all.
pub(crate) fn run(args: &[String]) -> Outcome {
    let (rows, flags) = split(args);
    if let Some(row) = rows.iter().find(|row| !PROGRAMS.iter().any(|(own, _)| is_of(own, row))) {
        let all = "I1 to I9, P1 to P7, S1 to S4, R1 to R8, G1 to G6 and W1 to W3";
        return Err(format!("no row `{row}`: there are {all}"));
    }
    for (own, program) in PROGRAMS {
        let named: Vec<_> = rows.iter().filter(|row| is_of(own, row) && *row != COUNTED).collect();
        if rows.is_empty() || !named.is_empty() {
            cargo::done(Command::new(build(program)?).args(named).args(flags))?;
        }
    }
    if rows.is_empty() || rows.iter().any(|row| row == COUNTED || row == "I") {
        beside(flags.iter().any(|flag| flag == "--json"))?;
    }
    Ok(())
}

/// Tells whether a row, or one of those that a letter names, is of the program with these rows.
fn is_of(own: &[&str], row: &str) -> bool {
    own.iter().any(|begins| row.starts_with(begins) || begins.starts_with(row))
}

/// Returns the rows, which come first, in capitals, and the rest.
fn split(args: &[String]) -> (Vec<String>, &[String]) {
    let rows = args.iter().take_while(|arg| !arg.starts_with('-'));
    let rows: Vec<_> = rows.map(|row| row.to_uppercase()).collect();
    let flags = args.get(rows.len()..).unwrap_or_default();
    (rows, flags)
}

/// Builds a program of `benches/`, and returns where it is.
fn build(program: &str) -> Result<PathBuf, String> {
    let manifest = cargo::root().join("benches/Cargo.toml");
    let target = cargo::root().join("target/benches");
    // By their binaries: a package can't be called what one that it depends on is.
    let mut build = cargo::command(&["build", "--release", "--locked", "--bin", program]);
    build.arg("--manifest-path").arg(manifest).env("CARGO_TARGET_DIR", &target);
    cargo::done(&mut build)?;
    Ok(target.join("release").join(program))
}

/// Row I9: instructions of one event beside RustStream's.
fn beside(json: bool) -> Outcome {
    let valgrind = Valgrind::find()?;
    let (ours, theirs) = (counts::build()?, build("counted")?);
    let theirs = counts::instructions(&valgrind, &theirs, &[])?;
    if !json {
        println!("I9  instructions from publish to the handler of a typed event");
        println!("    {:<24}{theirs:>8}", "RustStream");
    }
    for (scenario, part) in BESIDE {
        let ours = counts::instructions(&valgrind, &ours, &[scenario])?;
        let verdict = if ours * part <= theirs { "met" } else { "not met" };
        if json {
            println!(
                "{{\"row\":\"I9\",\"who\":\"{scenario}\",\"instructions\":{ours},\
                 \"ruststream\":{theirs},\"goal\":\"at most 1/{part}\",\"verdict\":\"{verdict}\"}}"
            );
        } else {
            let share = theirs as f64 / ours as f64;
            println!(
                "    {scenario:<24}{ours:>8}  1/{share:.1}; goal: at most 1/{part}; {verdict}"
            );
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::{PROGRAMS, is_of, split};

    #[test]
    fn a_row_is_of_one_program_and_a_letter_of_all_that_have_it() {
        let of = |row: &str| -> Vec<_> {
            PROGRAMS.iter().filter(|(own, _)| is_of(own, row)).map(|(_, name)| *name).collect()
        };
        assert_eq!(of("G4"), ["postgres_queue"]);
        assert_eq!(of("G"), ["postgres", "postgres_queue"]);
        assert_eq!(of("R10"), ["redis"]);
        assert!(of("X").is_empty());
    }

    #[test]
    fn rows_come_before_flags() {
        let args = ["i1", "S", "--rounds", "5"].map(String::from);
        let (rows, flags) = split(&args);
        assert_eq!(rows, ["I1", "S"]);
        assert_eq!(flags, ["--rounds", "5"]);
    }
}
