//! The example as a stage: `examples/orders` comes to what its README says, to the unit.

use crate::cargo::{self, Outcome};
use std::{
    env, fs,
    path::{Path, PathBuf},
    process::{self, Command},
};

/// What the first run counts; the table in the example's README explains each.
const FIRST: [(&str, u64); 9] = [
    ("published", 27),
    ("carried", 0),
    ("delivered", 22),
    ("succeeded", 16),
    ("failed", 0),
    ("dead_lettered", 8),
    ("unmatched", 3),
    ("retried", 6),
    ("runs", 29),
];

/// It finished, with dead letters.
const FIRST_EXIT: i32 = 3;

/// The longest a run may take, in seconds: its waits add up to about two.
const ELAPSED_MAX: f64 = 30.0;

/// Runs the example twice in a copy of its folder.
pub(crate) fn run() -> Outcome {
    let scratch = Scratch::copy(&cargo::root().join("examples/orders"))?;
    let app = scratch.0.join("railbus.toml").to_string_lossy().into_owned();
    let program = cargo::program()?;
    let railbus = |args: &[&str]| railbus(&program, args);
    railbus(&["check", &app])?.expect_exit(0)?;

    let first = railbus(&["run", &app, "--until-idle", "--json"])?;
    first.expect_exit(FIRST_EXIT)?;
    first.expect_counts(&FIRST)?;

    let second = railbus(&["run", &app, "--until-idle", "--json"])?;
    second.expect_exit(0)?;
    second.expect_counts(&FIRST.map(|(name, _)| (name, 0)))?;
    second.expect_said(&["nothing", "new", "orders.db"])
}

/// A copy of a folder, without the database of an earlier run, removed when it is dropped.
struct Scratch(PathBuf);

impl Scratch {
    fn copy(from: &Path) -> Result<Self, String> {
        let to = env::temp_dir().join(format!("railbus-orders-{}", process::id()));
        let why = |e| format!("can't copy {} to {}: {e}", from.display(), to.display());
        fs::create_dir(&to).map_err(why)?;
        let scratch = Self(to.clone());
        for entry in fs::read_dir(from).map_err(why)? {
            let entry = entry.map_err(why)?;
            let name = entry.file_name();
            if !name.to_string_lossy().contains(".db") {
                fs::copy(entry.path(), to.join(name)).map_err(why)?;
            }
        }
        Ok(scratch)
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        // A folder left behind in the system's temporary folder does no harm.
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// What a call of the program came to.
struct Ran {
    line: String,
    exit: Option<i32>,
    stdout: String,
    stderr: String,
}

fn railbus(program: &Path, args: &[&str]) -> Result<Ran, String> {
    let output = Command::new(program).args(args).env_remove("RAILBUS_URL").output();
    let output = output.map_err(|e| format!("can't start {}: {e}", program.display()))?;
    let ran = Ran {
        line: format!("railbus {}", args.join(" ")),
        exit: output.status.code(),
        stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
        stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
    };
    println!("-- {}\n{}{}", ran.line, ran.stderr, ran.stdout);
    Ok(ran)
}

impl Ran {
    fn expect_exit(&self, code: i32) -> Outcome {
        if self.exit == Some(code) {
            return Ok(());
        }
        Err(format!("`{}` should exit with {code}, not {:?}", self.line, self.exit))
    }

    /// Checks the summary: one line of JSON that has these counts, and adds up.
    fn expect_counts(&self, expected: &[(&str, u64)]) -> Outcome {
        if self.stdout.lines().count() != 1 {
            return Err(format!("`{}` should print one line on stdout", self.line));
        }
        let found = |name: &str| number(&self.stdout, name);
        let wrong = |(name, count): &(&str, u64)| {
            let found = found(name);
            let right = found == Some(*count as f64);
            (!right).then(|| format!("{name} should be {count}, not {found:?}"))
        };
        let mut wrong: Vec<_> = expected.iter().filter_map(wrong).collect();
        if !found("elapsed").is_some_and(|seconds| (0.0..ELAPSED_MAX).contains(&seconds)) {
            wrong.push(format!("elapsed should be under {ELAPSED_MAX} s"));
        }
        if wrong.is_empty() {
            Ok(())
        } else {
            Err(format!("`{}`: {}", self.line, wrong.join(", ")))
        }
    }

    fn expect_said(&self, words: &[&str]) -> Outcome {
        let said = self.stderr.to_lowercase();
        match words.iter().find(|word| !said.contains(**word)) {
            Some(word) => Err(format!("`{}` should say `{word}` on stderr", self.line)),
            None => Ok(()),
        }
    }
}

/// Returns the number under a key of one flat JSON object.
fn number(json: &str, key: &str) -> Option<f64> {
    let (_, rest) = json.split_once(&format!("\"{key}\""))?;
    let value = rest.trim_start().strip_prefix(':')?.trim_start();
    let end = value.find(|c: char| !c.is_ascii_digit() && !".eE+-".contains(c));
    value[..end.unwrap_or(value.len())].parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ran(stdout: &str) -> Ran {
        let line = "railbus run".into();
        Ran { line, exit: Some(3), stdout: stdout.into(), stderr: "Nothing is new".into() }
    }

    #[test]
    fn the_expected_counts_add_up() {
        let count = |name| FIRST.iter().filter(|(n, _)| *n == name).map(|(_, c)| c).sum::<u64>();
        let came = count("published") + count("carried");
        let ended = ["succeeded", "failed", "dead_lettered", "unmatched"].map(count);
        assert_eq!(came, ended.iter().sum());
    }

    #[test]
    fn counts_are_compared_to_the_unit() {
        let summary = ran("{\"runs\": 29, \"failed\":0,\"elapsed\":1.5}\n");
        assert_eq!(summary.expect_counts(&[("runs", 29), ("failed", 0)]), Ok(()));
        for (name, count) in [("runs", 2), ("failed", 1), ("carried", 0)] {
            assert!(summary.expect_counts(&[(name, count)]).is_err(), "{name}");
        }
        assert!(ran("{\"runs\":29}").expect_counts(&[("runs", 29)]).is_err(), "no elapsed");
        assert!(ran("a\n{\"runs\":29,\"elapsed\":1}").expect_counts(&[("runs", 29)]).is_err());
    }

    #[test]
    fn exit_codes_and_words_are_checked() {
        assert!(ran("").expect_exit(3).is_ok() && ran("").expect_exit(0).is_err());
        assert!(ran("").expect_said(&["new"]).is_ok() && ran("").expect_said(&["orders"]).is_err());
    }
}
