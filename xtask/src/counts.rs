//! Instructions and allocations of the hot paths, held against what they were.

use crate::{
    cargo::{self, Outcome},
    valgrind::Valgrind,
};
use std::{
    collections::BTreeMap,
    env,
    fmt::Write,
    fs,
    path::{Path, PathBuf},
    process::Command,
};

/// What is counted: the work of `benches/counts`, one event each time.
const SCENARIOS: [&str; 14] = [
    "emit_nobody",
    "emit_1",
    "emit_key",
    "emit_10",
    "emit_100",
    "publish_1",
    "publish_async",
    "build",
    "typed",
    "build_publish_typed",
    "typed_wire_always",
    "run_5",
    "run_5_unheard",
    "run_5_heard",
];

/// How often the work is done: the difference cancels what starting costs.
const TIMES: (u64, u64) = (1000, 3000);

/// How much more than its baseline a count may be, in thousandths.
const SLACK: u64 = 20;

const HEAD: &str = "\
# Instructions and allocations of one event, by callgrind: `cargo xtask counts`.
# They depend on the compiler, the processor and the C library's allocator: one table for each.
# A number rises only in a commit that says why: `cargo xtask counts --bless` writes them.
";

#[derive(Clone, Copy, Debug, PartialEq)]
struct Count {
    instructions: u64,
    // In hundredths: a queue that grows allocates now and then.
    allocations: u64,
}

type Counts = BTreeMap<String, Count>;

/// Counts, and compares with the baseline; `--bless` makes the counts the baseline.
pub(crate) fn run(args: &[String]) -> Outcome {
    let bless = match args {
        [] => false,
        [flag] if flag == "--bless" => true,
        _ => return Err("it takes nothing but --bless".into()),
    };
    let valgrind = Valgrind::find()?;
    let program = build()?;
    let mut counts = Counts::new();
    for scenario in SCENARIOS {
        let count = count(&valgrind, &program, scenario)?;
        println!(
            "{scenario:<22}{:>8} instructions{:>8.2} allocations",
            count.instructions,
            count.allocations as f64 / 100.0
        );
        counts.insert(scenario.into(), count);
    }
    let file = cargo::root().join("benches/counts/baseline.toml");
    let text = fs::read_to_string(&file).unwrap_or_default();
    let mut baselines = read(&text)?;
    let key = compiler()?;
    if bless {
        baselines.insert(key, counts);
        return fs::write(&file, write(&baselines)).map_err(|e| format!("{}: {e}", file.display()));
    }
    let Some(baseline) = baselines.get(&key) else {
        let why = format!(
            "there is no baseline for {key}; if the counts above are well, write them down: \
             cargo xtask counts --bless"
        );
        // Another compiler than the project's counts otherwise, which is nobody's fault.
        if env::var_os("CI").is_some() {
            return Err(why);
        }
        println!("NOT COMPARED: {why}");
        return Ok(());
    };
    let worse = compare(baseline, &counts);
    if worse.is_empty() { Ok(()) } else { Err(worse.join("\n")) }
}

/// Builds what is counted, and returns where it is.
pub(crate) fn build() -> Result<PathBuf, String> {
    let manifest = cargo::root().join("benches/counts/Cargo.toml");
    let target = cargo::root().join("target/counts");
    let mut build = cargo::command(&["build", "--release", "--locked", "--manifest-path"]);
    cargo::done(build.arg(manifest).env("CARGO_TARGET_DIR", &target))?;
    Ok(target.join("release/counts"))
}

/// Counts the instructions of one event, by the difference between few and many.
pub(crate) fn instructions(
    valgrind: &Valgrind,
    program: &Path,
    before: &[&str],
) -> Result<u64, String> {
    let (few, many) = TIMES;
    let once = |times: u64| {
        let times = times.to_string();
        let args: Vec<_> = before.iter().copied().chain([&*times]).collect();
        Ok::<_, String>(valgrind.count(program, &args)?.0)
    };
    let (fewer, more) = (once(few)?, once(many)?);
    Ok(more.saturating_sub(fewer).div_ceil(many - few))
}

fn count(valgrind: &Valgrind, program: &Path, scenario: &str) -> Result<Count, String> {
    let (few, many) = TIMES;
    let once = |times: u64| {
        let (instructions, printed) = valgrind.count(program, &[scenario, &times.to_string()])?;
        let allocations = printed.trim().strip_prefix("allocations ").and_then(|n| n.parse().ok());
        let allocations: u64 = allocations.ok_or_else(|| format!("{scenario} said {printed}"))?;
        Ok::<_, String>((instructions, allocations))
    };
    let ((i, a), (j, b)) = (once(few)?, once(many)?);
    let each = |few_of: u64, many_of: u64, of: u64| {
        (many_of.saturating_sub(few_of) * of).div_ceil(many - few)
    };
    Ok(Count { instructions: each(i, j, 1), allocations: each(a, b, 100) })
}

/// Says what is worse than it was.
fn compare(baseline: &Counts, counts: &Counts) -> Vec<String> {
    let mut worse = Vec::new();
    for (scenario, now) in counts {
        let Some(was) = baseline.get(scenario) else {
            worse.push(format!("{scenario} has no baseline: cargo xtask counts --bless"));
            continue;
        };
        if now.instructions > was.instructions + was.instructions * SLACK / 1000 {
            let (now, was) = (now.instructions, was.instructions);
            worse.push(format!("{scenario}: {now} instructions instead of {was}"));
        }
        if now.allocations > was.allocations + 2 {
            let (now, was) = (now.allocations as f64, was.allocations as f64);
            worse.push(format!(
                "{scenario}: {} allocations instead of {}",
                now / 100.0,
                was / 100.0
            ));
        }
    }
    worse
}

/// Returns the compiler's version and its host, which the counts depend on.
fn compiler() -> Result<String, String> {
    let asked = Command::new("rustc").arg("-vV").output();
    let told = asked.map_err(|e| format!("can't run rustc: {e}"))?.stdout;
    let told = String::from_utf8_lossy(&told);
    let line = |name: &str| told.lines().find_map(|line| line.strip_prefix(name));
    match (line("release: "), line("host: ")) {
        (Some(release), Some(host)) => Ok(format!("{release} {host}")),
        _ => Err("rustc does not say which it is".into()),
    }
}

fn read(text: &str) -> Result<BTreeMap<String, Counts>, String> {
    let mut all = BTreeMap::<String, Counts>::new();
    let mut key = None;
    for line in text.lines().map(str::trim).filter(|l| !l.is_empty() && !l.starts_with('#')) {
        let wrong = || format!("baseline.toml has a line that it can't have: {line}");
        if let Some(name) = line.strip_prefix("[\"").and_then(|l| l.strip_suffix("\"]")) {
            key = Some(name.to_owned());
            continue;
        }
        let (scenario, numbers) = line.split_once(" = [").ok_or_else(wrong)?;
        let numbers =
            numbers.strip_suffix(']').and_then(|n| n.split_once(", ")).ok_or_else(wrong)?;
        let (Ok(instructions), Ok(allocations)) = (numbers.0.parse(), numbers.1.parse::<f64>())
        else {
            return Err(wrong());
        };
        let count = Count { instructions, allocations: (allocations * 100.0).round() as u64 };
        let key = key.clone().ok_or_else(wrong)?;
        all.entry(key).or_default().insert(scenario.into(), count);
    }
    Ok(all)
}

fn write(all: &BTreeMap<String, Counts>) -> String {
    let mut text = HEAD.to_owned();
    for (key, counts) in all {
        let _ = write!(text, "\n[\"{key}\"]\n");
        for (scenario, count) in counts {
            let allocations = count.allocations as f64 / 100.0;
            let _ = writeln!(text, "{scenario} = [{}, {allocations:.2}]", count.instructions);
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn counts(pairs: &[(&str, u64, u64)]) -> Counts {
        let count = |instructions, allocations| Count { instructions, allocations };
        pairs.iter().map(|(name, i, a)| ((*name).to_owned(), count(*i, *a))).collect()
    }

    #[test]
    fn what_is_written_is_read_again() {
        let all = BTreeMap::from([("1.95.0 here".to_owned(), counts(&[("a", 300, 150)]))]);
        assert_eq!(read(&write(&all)), Ok(all));
        assert!(read("[\"x\"]\na = 3").is_err());
    }

    #[test]
    fn more_instructions_more_allocations_and_unknown_work_are_told() {
        let baseline = counts(&[("a", 1000, 100), ("b", 1000, 100), ("c", 1000, 100)]);
        let now = counts(&[("a", 1020, 102), ("b", 1021, 100), ("c", 900, 103), ("d", 1, 0)]);
        let told = compare(&baseline, &now);
        assert_eq!(told.len(), 3, "{told:?}");
        assert!(told[0].starts_with("b: 1021 instructions"), "{told:?}");
        assert!(told[1].starts_with("c: 1.03 allocations instead of 1"), "{told:?}");
        assert!(told[2].starts_with("d has no baseline"), "{told:?}");
    }
}
