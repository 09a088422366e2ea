//! Rules about single files of code.

use super::{LINES_MAX, LONG_FILES, Violation, source::Source, source::is_name, source::item};

const FUNCTION_MAX: usize = 70;
const LIST_MAX: usize = 80;
const SQL_WIDTH_MAX: usize = 104;
/// What `railbus` prints goes through the first; tasks, examples and benches speak for themselves.
const PRINTERS: [&str; 4] =
    ["crates/railbus-cli/src/output.rs", "xtask/", "/examples/", "benches/"];

fn rust(sources: &[Source]) -> impl Iterator<Item = &Source> {
    sources.iter().filter(|s| s.path.ends_with(".rs"))
}

/// Finds words in the code of all files for which `counts` says so.
fn words(
    sources: &[Source],
    words: &[&str],
    says: &str,
    counts: impl Fn(&Source, usize) -> bool,
) -> Vec<Violation> {
    let mut violations = Vec::new();
    for source in rust(sources) {
        for word in words {
            let places = source.find(word).into_iter().filter(|at| counts(source, *at));
            violations
                .extend(places.map(|at| Violation::at(source, at, format!("`{word}` {says}"))));
        }
    }
    violations
}

pub(crate) fn files_are_short(sources: &[Source]) -> Vec<Violation> {
    let long = |source: &&Source| {
        let allowed = LONG_FILES.iter().any(|(path, _)| *path == source.path);
        !allowed && source.text.lines().count() > LINES_MAX
    };
    let says = |source: &Source| {
        let lines = source.text.lines().count();
        Violation::at(source, 0, format!("{lines} lines, at most {LINES_MAX}: split it by noun"))
    };
    rust(sources).filter(long).map(says).collect()
}

pub(crate) fn lines_of_sql_are_short(sources: &[Source]) -> Vec<Violation> {
    let mut violations = Vec::new();
    for source in sources.iter().filter(|s| s.path.ends_with(".sql")) {
        let mut at = 0;
        for line in source.text.split_inclusive('\n') {
            let wide = line.trim_end().chars().count();
            if wide > SQL_WIDTH_MAX {
                let why = format!("{wide} columns, at most {SQL_WIDTH_MAX}");
                violations.push(Violation::at(source, at, why));
            }
            at += line.len();
        }
    }
    violations
}

pub(crate) fn functions_are_short(sources: &[Source]) -> Vec<Violation> {
    let mut violations = Vec::new();
    for source in rust(sources) {
        for (start, name) in functions(source) {
            let lines = source.line(item(&source.code, start).1) - source.line(start) + 1;
            if lines > FUNCTION_MAX {
                let why = format!("`{name}` has {lines} lines, at most {FUNCTION_MAX}");
                violations.push(Violation::at(source, start, why));
            }
        }
    }
    violations
}

/// Returns where the functions of a file begin, with their names; closures and `fn` types have none.
fn functions(source: &Source) -> Vec<(usize, &str)> {
    let named = |at: usize| {
        let rest = source.code[at + 2..].trim_start();
        let name = &rest[..rest.bytes().take_while(|b| is_name(*b)).count()];
        (!name.is_empty()).then_some((at, name))
    };
    source.find("fn").into_iter().filter_map(named).collect()
}

pub(crate) fn mod_files_only_list(sources: &[Source]) -> Vec<Violation> {
    let mut violations = Vec::new();
    for source in rust(sources).filter(|s| s.path.ends_with("/mod.rs")) {
        let table = source.path == "crates/railbus/src/backends/mod.rs";
        if let Some((at, name)) = functions(source).first().filter(|_| !table) {
            let why = format!("`fn {name}` belongs in a file of its own: a mod.rs only lists");
            violations.push(Violation::at(source, *at, why));
        }
        let lines = source.text.lines().count();
        if lines > LIST_MAX && !table {
            let why = format!("{lines} lines, at most {LIST_MAX}: a mod.rs only lists");
            violations.push(Violation::at(source, 0, why));
        }
    }
    violations
}

pub(crate) fn nothing_is_left_open(sources: &[Source]) -> Vec<Violation> {
    words(sources, &["todo!", "unimplemented!", "dbg!"], "is left over", |_, _| true)
}

pub(crate) fn only_output_prints(sources: &[Source]) -> Vec<Violation> {
    let macros = ["println!", "eprintln!", "print!", "eprint!"];
    words(sources, &macros, "outside output.rs", |source, at| {
        !source.is_test(at) && !PRINTERS.iter().any(|path| source.path.contains(path))
    })
}

pub(crate) fn no_test_is_ignored(sources: &[Source]) -> Vec<Violation> {
    words(sources, &["#[ignore"], "switches a test off", |_, _| true)
}

pub(crate) fn tests_do_not_just_sleep(sources: &[Source]) -> Vec<Violation> {
    let says = "in a test needs a `// sleep:` comment that says why";
    words(sources, &["sleep("], says, |source, at| source.is_test(at) && !is_explained(source, at))
}

/// Tells whether the line, or the comment right above it, says `// sleep:`.
fn is_explained(source: &Source, at: usize) -> bool {
    let lines: Vec<_> = source.text.lines().take(source.line(at)).collect();
    let Some((line, above)) = lines.split_last() else { return false };
    let comment = above.iter().rev().take_while(|l| l.trim_start().starts_with("//"));
    line.contains("// sleep:") || comment.into_iter().any(|l| l.contains("// sleep:"))
}

pub(crate) fn unsafe_is_forbidden(sources: &[Source]) -> Vec<Violation> {
    words(sources, &["unsafe"], "is forbidden", |_, _| true)
}

pub(crate) fn nothing_is_unwrapped(sources: &[Source]) -> Vec<Violation> {
    let says = "outside tests: return the error, or show why it can't happen";
    words(sources, &[".unwrap()", ".expect("], says, |source, at| !source.is_test(at))
}

/// A public function of the library that returns a `Result` says when it fails.
pub(crate) fn errors_are_documented(sources: &[Source]) -> Vec<Violation> {
    let mut violations = Vec::new();
    for source in rust(sources).filter(|s| s.path.starts_with("crates/railbus/src/")) {
        for (at, name) in functions(source) {
            let line = source.line(at) - 1;
            let public = source.code.lines().nth(line).unwrap_or_default().trim_start();
            if !public.starts_with("pub ") || source.is_test(at) || !returns_result(source, at) {
                continue;
            }
            if !docs(source, line).any(|doc| doc.trim() == "/// # Errors") {
                let why = format!("`{name}` returns a Result, its docs have no `# Errors`");
                violations.push(Violation::at(source, at, why));
            }
        }
    }
    violations
}

/// A public enum of the library can grow: programs that match on it have an arm for what is new.
pub(crate) fn public_enums_are_non_exhaustive(sources: &[Source]) -> Vec<Violation> {
    let mut violations = Vec::new();
    for source in rust(sources).filter(|s| s.path.starts_with("crates/railbus/src/")) {
        for at in source.find("pub enum").into_iter().filter(|at| !source.is_test(*at)) {
            let above = docs(source, source.line(at) - 1);
            if !above.into_iter().any(|line| line.trim() == "#[non_exhaustive]") {
                violations.push(Violation::at(source, at, "a public enum is #[non_exhaustive]"));
            }
        }
    }
    violations
}

fn returns_result(source: &Source, at: usize) -> bool {
    let head = &source.code[at..item(&source.code, at).0];
    let head = head.split(" where").next().unwrap_or_default().trim_end();
    // The arguments end with the last `)` before the arrow that is the function's own.
    let mut depth = 0;
    let mut last = None;
    for (offset, byte) in head.bytes().enumerate() {
        match byte {
            b'(' | b'[' => depth += 1,
            b')' | b']' => depth -= 1,
            b'-' if depth == 0 && head[offset..].starts_with("->") => last = last.or(Some(offset)),
            _ => {}
        }
    }
    let Some(arrow) = last else { return false };
    let returned = head[arrow + 2..].trim_start();
    let returned = returned.strip_prefix("impl Future<Output = ").unwrap_or(returned);
    let path = &returned[..returned.find(['<', ' ']).unwrap_or(returned.len())];
    path.rsplit("::").next() == Some("Result")
}

/// Returns the doc comment and the attributes above a line (from 0), from below.
pub(crate) fn docs(source: &Source, line: usize) -> impl Iterator<Item = &str> {
    let code: Vec<_> = source.code.lines().take(line).collect();
    let text: Vec<_> = source.text.lines().take(line).collect();
    text.into_iter().zip(code).rev().map_while(|(text, code)| {
        let end = text.trim().is_empty() || code.trim_end().ends_with([';', '{', '}']);
        (!end).then_some(text)
    })
}
