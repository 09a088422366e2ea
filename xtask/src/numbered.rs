//! The library's numbered examples as a stage: each prints what the file beside it says.

use crate::cargo::{self, Outcome};
use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

/// Builds and runs `crates/railbus/examples/NN_name.rs`, each against its `NN_name.out`.
pub(crate) fn run() -> Outcome {
    let build = ["build", "--package", "railbus", "--all-features", "--examples"];
    let programs = cargo::executables(&build)?;
    let folder = cargo::root().join("crates/railbus/examples");
    let sources = sources(&folder)?;
    if sources.is_empty() {
        return Err(format!("{} has no examples", folder.display()));
    }
    for source in &sources {
        check(source, &programs)?;
    }
    println!("{} examples print what they should", sources.len());
    Ok(())
}

fn sources(folder: &Path) -> Result<Vec<PathBuf>, String> {
    let why = |e| format!("can't read {}: {e}", folder.display());
    let entries = fs::read_dir(folder).map_err(why)?;
    let paths = entries.map(|entry| entry.map(|e| e.path())).collect::<Result<Vec<_>, _>>();
    let mut paths = paths.map_err(why)?;
    paths.retain(|path| path.extension().is_some_and(|e| e == "rs"));
    paths.sort();
    Ok(paths)
}

fn check(source: &Path, programs: &[PathBuf]) -> Outcome {
    let name = source.file_stem().unwrap_or_default().to_string_lossy().into_owned();
    let expected = source.with_extension("out");
    let expected = fs::read_to_string(&expected)
        .map_err(|e| format!("{}: {e}: write there what the example prints", expected.display()))?;
    let program = programs.iter().find(|path| path.file_name().is_some_and(|f| *f == *name));
    let program = program.ok_or_else(|| format!("example {name} was not built"))?;
    let output = Command::new(program).env_remove("RAILBUS_URL").output();
    let output = output.map_err(|e| format!("can't run {}: {e}", program.display()))?;
    if !output.status.success() {
        let said = String::from_utf8_lossy(&output.stderr);
        return Err(format!("example {name} ended with {}: {said}", output.status));
    }
    let printed = settled(&String::from_utf8_lossy(&output.stdout));
    match difference(&expected, &printed) {
        None => Ok(()),
        Some(line) => Err(format!("example {name} prints something else: {line}")),
    }
}

/// Returns the first line that differs, and how.
fn difference(expected: &str, printed: &str) -> Option<String> {
    let (mut wanted, mut found) = (expected.lines(), printed.lines());
    for number in 1.. {
        match (wanted.next(), found.next()) {
            (None, None) => return None,
            (a, b) if a == b => {}
            (a, b) => {
                let show = |line: Option<&str>| line.map_or("nothing".into(), |l| format!("`{l}`"));
                return Some(format!("line {number}: {} instead of {}", show(b), show(a)));
            }
        }
    }
    None
}

/// Puts `<id>`, `<time>` and `<seconds>` in place of what differs each time.
fn settled(text: &str) -> String {
    let shapes = [
        ("<id>", "xxxxxxxx-xxxx-7xxx-xxxx-xxxxxxxxxxxx"),
        ("<time>", "9999-99-99T99:99:99.999999Z"),
        // As reports of runs show what a step took.
        ("<seconds>", "9.999 s"),
    ];
    let (mut settled, mut rest) = (String::new(), text);
    while let Some(next) = rest.chars().next() {
        let found = shapes.iter().find(|(_, shape)| has_shape(rest, shape));
        let length = found.map_or(next.len_utf8(), |(_, shape)| shape.len());
        settled.push_str(found.map_or(&rest[..length], |(word, _)| word));
        rest = &rest[length..];
    }
    settled
}

/// Tells whether a text begins like a shape: `x` is any hexadecimal digit, `9` any digit.
fn has_shape(text: &str, shape: &str) -> bool {
    let fits = |(wanted, found): (u8, u8)| match wanted {
        b'x' => found.is_ascii_hexdigit(),
        b'9' => found.is_ascii_digit(),
        other => found == other,
    };
    text.len() >= shape.len() && shape.bytes().zip(text.bytes()).all(fits)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_and_times_are_settled_and_nothing_else() {
        let text = "a 0198f0a0-1111-7abc-8def-0123456789ab at 2026-01-02T03:04:05.123456Z, 7-x, \
                    0.012 s, 0.5 s";
        assert_eq!(settled(text), "a <id> at <time>, 7-x, <seconds>, 0.5 s");
    }

    #[test]
    fn the_first_line_that_differs_is_told() {
        assert_eq!(difference("a\nb\n", "a\nb\n"), None);
        let told = difference("a\nb\n", "a\nc\n");
        assert_eq!(told.as_deref(), Some("line 2: `c` instead of `b`"));
        assert_eq!(difference("a", "a\nb").as_deref(), Some("line 2: `b` instead of nothing"));
    }
}
