//! `docs/differences.md`: every assertion is there once, and what it says of the tests is true.
#![allow(clippy::unwrap_used)]

use std::{
    env,
    fs::read_to_string,
    path::{Path, PathBuf},
};

/// How many assertions the section "Tests" of each behaviour file lists, topic by topic:
/// idspy.behaviour.md for the first five, then dataknobs.behaviour.md, with what its section "Bugs"
/// lists, then nexus.behaviour.md, and of midil.behaviour.md what its sections 1 to 4 say. They
/// were written when the documents' code was read and run, and are not a part of this repository.
const ASSERTIONS: &[(&str, usize)] = &[
    ("idspy: event", 6),
    ("idspy: predicates", 4),
    ("idspy: bus", 14),
    ("idspy: pipeline", 13),
    ("idspy: storage", 7),
    ("dataknobs: types", 6),
    ("dataknobs: memory", 10),
    ("dataknobs: factory", 9),
    ("dataknobs: config", 11),
    ("dataknobs: postgres, unit", 11),
    ("dataknobs: servers, together", 6),
    ("dataknobs: supervised loop", 6),
    ("dataknobs: sqs", 17),
    ("dataknobs: fan-out", 8),
    ("dataknobs: defects", 24),
    ("nexus: retry policy", 14),
    ("nexus: executors", 7),
    ("nexus: evaluation", 24),
    ("nexus: goto", 4),
    ("nexus: call", 5),
    ("nexus: results", 16),
    ("nexus: flow text", 11),
    ("nexus: pipeline", 14),
    ("nexus: fields", 8),
    ("nexus: batch", 7),
    ("nexus: signals", 3),
    ("nexus: schedule", 3),
    ("nexus: arguments", 4),
    ("nexus: drawing", 5),
    ("nexus: telemetry", 8),
    ("nexus: wrapper", 4),
    ("midil: subscribers", 10),
    ("midil: middleware", 9),
    ("midil: names", 9),
    ("midil: context", 19),
    ("midil: webhook", 16),
];

/// The requirements: each letter's rows are numbered from 1.
const ROWS: [(char, u32); 5] = [('A', 11), ('B', 10), ('C', 9), ('D', 16), ('E', 7)];

/// The issues that deliver what is later: servers, queues.
const ISSUES: [&str; 2] = ["issue 5", "issue 6"];

#[test]
fn every_assertion_is_kept_by_a_test_overruled_by_a_row_or_delivered_by_an_issue() {
    let root = root();
    let document = read_to_string(root.join("docs/differences.md")).unwrap();
    let wrong = mistakes(&document, ASSERTIONS, &|test| exists(&root, test));
    assert!(wrong.is_empty(), "{} mistakes:\n{}", wrong.len(), wrong.join("\n"));
}

#[test]
fn what_is_wrong_with_the_list_is_found() {
    let list = "# Title\n\n| not | in a | section |\n\n\
                ## a\n\n| # | assertion | here |\n|---|---|---|\n\
                | 1 | x \\| y | kept `a::there` |\n\
                | 3 | x | kept `a::gone` |\n\
                | 3 | x | differs A11: why: `a::there` |\n\
                | 4 | x | differs A12: why |\n\
                | 5 | x | differs A3: `\\|` and `A::b`: `a::gone` |\n\
                | 6 | x | differs A1 |\n\
                | 7 | x | later: issue 3 |\n\
                | 8 | x | later: issue 5 |\n\
                | 9 | x | not useful |\n\
                ## b\n| 1 | x |\n## c\n";
    let wrong = mistakes(list, &[("a", 9), ("b", 1), ("d", 0)], &|test| test == "a::there");
    let expected = [
        "a 2: it has the number 3",
        "a 2: there is no test `a::gone`",
        "a 4: `A12` is no row",
        "a 5: there is no test `a::gone`",
        "a 6: it must say why after `differs A1`",
        "a 7: `issue 3` delivers nothing of this",
        "a 9: it is none of kept `test`, differs ROW: why, later: issue N",
        "b 1: 2 cells, a line has 3",
        "the sections are a, b, c; expected a, b, d",
    ];
    assert_eq!(wrong, expected);
    let short = mistakes("## a\n", &[("a", 1)], &|_| true);
    assert_eq!(short, ["a has 0 lines, its document lists 1 assertions"]);
}

#[test]
fn a_test_is_one_only_with_its_attribute() {
    let code = "on_each_backend! {\n    f,\n}\n#[test]\nfn a() {}\nfn b() {}\n    #[tokio::test(start_paused = true)]\n    \
                /// Says.\n    async fn c() {}\n#[derive(Clone)]\nfn d() {}\nfn f() {}\n";
    assert_eq!(
        ["a", "b", "c", "d", "e", "f"].map(|name| has_test(code, name)),
        [true, false, true, false, false, true]
    );
}

/// Says all that is wrong with a list of differences.
fn mistakes(list: &str, sections: &[(&str, usize)], exists: &dyn Fn(&str) -> bool) -> Vec<String> {
    let mut wrong = Vec::new();
    let mut found: Vec<(&str, usize)> = Vec::new();
    for line in list.lines() {
        if let Some(name) = line.strip_prefix("## ") {
            found.push((name, 0));
        }
        let Some((section, count)) = found.last_mut() else { continue };
        let Some(cells) = cells(line) else { continue };
        *count += 1;
        let mut say = |what: String| wrong.push(format!("{section} {count}: {what}"));
        let [number, _, verdict] = &cells[..] else {
            say(format!("{} cells, a line has 3", cells.len()));
            continue;
        };
        if *number != count.to_string() {
            say(format!("it has the number {number}"));
        }
        if let Err(what) = check(verdict, exists) {
            say(what);
        }
    }
    for ((name, count), (_, expected)) in
        found.iter().zip(sections).filter(|(found, expected)| found.1 != expected.1)
    {
        wrong.push(format!("{name} has {count} lines, its document lists {expected} assertions"));
    }
    let (found, expected) = (names(&found), names(sections));
    if found != expected {
        wrong.push(format!("the sections are {found}; expected {expected}"));
    }
    wrong
}

fn names(sections: &[(&str, usize)]) -> String {
    sections.iter().map(|(name, _)| *name).collect::<Vec<_>>().join(", ")
}

/// Returns the cells of a line of a table; none for its head, and for what is no table.
fn cells(line: &str) -> Option<Vec<String>> {
    let inner = line.trim().strip_prefix('|')?.strip_suffix('|')?;
    if inner.starts_with("---") || inner.trim_start().starts_with('#') {
        return None;
    }
    let hidden = inner.replace("\\|", "\0");
    Some(hidden.split('|').map(|cell| cell.trim().replace('\0', "|")).collect())
}

/// Checks what a line says has become of an assertion.
fn check(verdict: &str, exists: &dyn Fn(&str) -> bool) -> Result<(), String> {
    let there = |test: &str| match exists(test) {
        true => Ok(()),
        false => Err(format!("there is no test `{test}`")),
    };
    if let Some(test) = verdict.strip_prefix("kept `").and_then(|rest| rest.strip_suffix('`')) {
        return there(test);
    }
    if let Some(issue) = verdict.strip_prefix("later: ") {
        let known = ISSUES.contains(&issue);
        return if known { Ok(()) } else { Err(format!("`{issue}` delivers nothing of this")) };
    }
    let Some(reason) = verdict.strip_prefix("differs ") else {
        return Err("it is none of kept `test`, differs ROW: why, later: issue N".into());
    };
    let (row, why) = reason.split_once(": ").unwrap_or((reason, ""));
    if !is_row(row) {
        return Err(format!("`{row}` is no row"));
    }
    if why.is_empty() {
        return Err(format!("it must say why after `differs {row}`"));
    }
    // What is quoted is a test if it is a path that begins with a file's name.
    let is_path = |quoted: &&str| quoted.contains("::") && quoted.starts_with(char::is_lowercase);
    why.split('`').skip(1).step_by(2).filter(is_path).try_for_each(there)
}

fn is_row(row: &str) -> bool {
    let known = |(letter, most): &(char, u32)| {
        let number = row.strip_prefix(*letter).and_then(|n| n.parse::<u32>().ok());
        number.is_some_and(|n| (1..=*most).contains(&n))
    };
    ROWS.iter().any(known)
}

/// Tells whether the project has the test: `file::name`, or `compile_fail::name` for what must not
/// compile.
fn exists(root: &Path, test: &str) -> bool {
    let Some((file, name)) = test.split_once("::") else { return false };
    if file == "compile_fail" {
        let case = root.join("crates/railbus-macros/tests/compile_fail").join(name);
        return ["rs", "stderr"].iter().all(|e| case.with_extension(e).is_file());
    }
    let tests = root.join("crates/railbus/tests");
    let mut files = vec![tests.join(file).with_extension("rs")];
    let folder = tests.join(file).read_dir().into_iter().flatten();
    files.extend(folder.filter_map(|entry| Some(entry.ok()?.path())));
    files.iter().any(|path| read_to_string(path).is_ok_and(|code| has_test(&code, name)))
}

fn has_test(code: &str, name: &str) -> bool {
    let lines: Vec<_> = code.lines().map(str::trim).collect();
    let declared = format!("fn {name}(");
    let is_it = |line: &str| line.trim_start_matches("async ").starts_with(&declared);
    let Some(at) = lines.iter().position(|line| is_it(line)) else { return false };
    // What it runs on each backend, a macro makes tests of.
    let listed = lines.iter().skip_while(|line| **line != "on_each_backend! {");
    if listed.take_while(|line| **line != "}").any(|line| line.strip_suffix(',') == Some(name)) {
        return true;
    }
    let above = lines[..at].iter().rev().take_while(|line| line.starts_with(['#', '/']));
    let mut attributes = above.filter_map(|line| line.strip_prefix("#["));
    attributes.any(|line| {
        let path = &line[..line.find([']', '(']).unwrap_or(line.len())];
        path.rsplit("::").next() == Some("test")
    })
}

fn root() -> PathBuf {
    // Asked for as it runs: clones that share a target folder may share this test's binary.
    Path::new(&env::var_os("CARGO_MANIFEST_DIR").unwrap()).join("../..")
}
