//! Style as a test: the order of imports, sizes, and what must not be there.
//!
//! Every rule brings a snippet that it must catch, so that none is a check that can't fail. What
//! is found is reported all at once, with file and line.

#[path = "tidy/documents.rs"]
mod documents;
#[path = "tidy/examples.rs"]
mod examples;
#[path = "tidy/order.rs"]
mod order;
#[path = "tidy/rules.rs"]
mod rules;
#[path = "tidy/source.rs"]
mod source;
#[path = "tidy/snippets.rs"]
mod snippets;

use source::Source;
use std::fmt;

/// The house: a file in `crates/railbus/src/` imports from floors above its own, and from files
/// left of it on its floor. `lib.rs` lists its modules in this order.
const FLOORS: &[(&str, &[&str])] = &[
    (
        "ground",
        &[
            "sync",
            "pretend",
            "error",
            "id",
            "retry",
            "clock",
            "shutdown",
            "cancel",
            "guardian",
            "instrument",
            "task",
            "excerpt",
            "text_file",
        ],
    ),
    ("values", &["topic", "payload", "event", "schedule", "context", "options", "codec"]),
    (
        "contracts",
        &[
            "state",
            "predicate",
            "step",
            "delivery",
            "accounts",
            "transfer",
            "keeper",
            "commons",
            "journal",
            "capability",
            "backend",
            "handler",
            "credit",
            "middleware",
            "executor",
            "input",
        ],
    ),
    ("parts", &["middlewares", "backends", "executors", "worker", "inputs", "steps"]),
    ("consumer", &["consumer"]),
    ("bus", &["bus", "webhook"]),
    ("pipeline", &["pipeline"]),
    ("doors", &["app", "telemetry", "dashboard", "conformance", "runtime", "testing"]),
];

const LINES_MAX: usize = 400;

/// Files that may be longer than [`LINES_MAX`], each with its reason.
const LONG_FILES: &[(&str, &str)] = &[];

struct Violation {
    path: String,
    line: usize,
    why: String,
}

impl Violation {
    fn at(source: &Source, offset: usize, why: impl Into<String>) -> Self {
        Self { path: source.path.clone(), line: source.line(offset), why: why.into() }
    }
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}: {}", self.path, self.line, self.why)
    }
}

/// A rule: what it checks, and the cases that show that it does.
struct Rule {
    name: &'static str,
    check: fn(&[Source]) -> Vec<Violation>,
    cases: &'static [Case],
}

/// Files that break a rule, and next to them what only looks as if it did.
struct Case {
    files: fn() -> Vec<Source>,
    /// What the rule must say of them, `path:line`, and nothing else.
    caught: &'static [&'static str],
}

#[test]
fn the_house_is_tidy() {
    let sources = source::project().unwrap_or_else(|e| panic!("can't read the project: {e}"));
    assert!(sources.iter().any(|s| s.path == "crates/railbus/src/lib.rs"), "nothing was read");
    let mut found = Vec::new();
    for rule in snippets::RULES {
        found.extend((rule.check)(&sources).iter().map(|v| format!("{v} [{}]", rule.name)));
    }
    assert!(found.is_empty(), "{} violations:\n{}", found.len(), found.join("\n"));
}

#[test]
fn every_rule_catches_what_breaks_it() {
    for rule in snippets::RULES {
        assert!(rule.cases.iter().any(|c| !c.caught.is_empty()), "{} can't fail", rule.name);
        for case in rule.cases {
            let mut found = (rule.check)(&(case.files)());
            found.sort_by(|a, b| (&a.path, a.line).cmp(&(&b.path, b.line)));
            let places: Vec<_> = found.iter().map(|v| format!("{}:{}", v.path, v.line)).collect();
            assert_eq!(places, case.caught, "{}", rule.name);
        }
    }
}

#[test]
fn every_long_file_is_there_and_long() {
    let sources = source::project().unwrap_or_else(|e| panic!("can't read the project: {e}"));
    for (path, reason) in LONG_FILES {
        let long = |s: &Source| s.path == *path && s.text.lines().count() > LINES_MAX;
        assert!(sources.iter().any(long), "{path} need not be allowed any more");
        assert!(!reason.is_empty(), "{path} has no reason");
    }
}
