//! The rule about examples: who looks a public item up sees it at work.

use super::{Violation, rules::docs, source::Source, source::is_name};
use std::collections::BTreeMap;

const SRC: &str = "crates/railbus/src/";

/// What follows `pub` and its qualifiers where an item is declared.
const KINDS: [&str; 7] = ["fn", "struct", "enum", "trait", "type", "const", "static"];

/// What the module of a backend gives to its row in the table; `Row` shows it once for all.
const OF_A_ROW: [&str; 5] = ["check", "look", "open", "CAPABILITY", "SETTINGS"];

/// Public items that no program names, each with its reason.
const UNNAMED: &[(&str, &str)] = &[
    ("src/runtime.rs", "only what the macros expand to names it"),
    ("src/testing/case.rs", "only what the macros expand to names it"),
    ("src/step/argument.rs", "only what the macros expand to names it"),
    ("src/step/returned.rs", "only what the macros expand to names it"),
    ("src/step/made.rs", "only what the macros expand to names it"),
];

/// A public function, trait or macro has `# Examples` of its own; a public type, method or constant
/// has them or is used in an example of its module, be that a file or a folder with all in it.
///
/// Not meant are `#[doc(hidden)]`, marker types (`IsSync`) and what a backend gives to its row.
pub(crate) fn public_items_have_examples(sources: &[Source]) -> Vec<Violation> {
    let sources: Vec<_> = sources.iter().filter(|s| is_library(&s.path)).collect();
    let mut shown: BTreeMap<&str, String> = BTreeMap::new();
    for source in &sources {
        shown.entry(module(&source.path)).or_default().push_str(&examples(&source.text));
    }
    let mut violations = Vec::new();
    for source in sources {
        let shown = shown.get(module(&source.path)).map_or("", String::as_str);
        for item in items(source).into_iter().filter(|item| !is_exempt(&source.path, item)) {
            let above: Vec<_> = docs(source, item.line).map(str::trim).collect();
            let own = above.contains(&"/// # Examples");
            let hidden = above.iter().any(|line| line.starts_with("#[doc(hidden)]"));
            if own || hidden || item.may_be_shown_elsewhere() && uses(shown, item.name) {
                continue;
            }
            let why = match item.may_be_shown_elsewhere() {
                true => "has no `# Examples`, and no example of its module uses it",
                false => "has no `# Examples` of its own",
            };
            let why = format!("`{}` {why}", item.name);
            violations.push(Violation { path: source.path.clone(), line: item.line + 1, why });
        }
    }
    violations
}

struct Item<'a> {
    kind: &'a str,
    name: &'a str,
    /// From 0.
    line: usize,
    /// Whether it is declared within another, as methods are.
    inner: bool,
}

impl Item<'_> {
    fn may_be_shown_elsewhere(&self) -> bool {
        self.inner || !matches!(self.kind, "fn" | "trait" | "macro")
    }
}

fn is_library(path: &str) -> bool {
    path.strip_prefix(SRC).is_some_and(|file| file.ends_with(".rs") && file != "lib.rs")
}

fn is_exempt(path: &str, item: &Item<'_>) -> bool {
    let marker = item.kind == "struct"
        && item.name.strip_prefix("Is").is_some_and(|rest| rest.starts_with(char::is_uppercase));
    let of_a_row = path.starts_with("crates/railbus/src/backends/")
        && path != "crates/railbus/src/backends/mod.rs"
        && OF_A_ROW.contains(&item.name);
    marker || of_a_row || UNNAMED.iter().any(|(file, _)| path.ends_with(file))
}

/// Returns the module that a file is in: its folder on a floor, or the file itself.
fn module(path: &str) -> &str {
    match path[SRC.len()..].find('/') {
        Some(end) => &path[..SRC.len() + end],
        None => path,
    }
}

/// Returns the public items of a file, and its exported macros.
fn items(source: &Source) -> Vec<Item<'_>> {
    let mut found = Vec::new();
    let mut at = 0;
    let mut exported = false;
    for (line, code) in source.code.split_inclusive('\n').enumerate() {
        let trimmed = code.trim();
        let inner = code.starts_with(' ');
        if !source.is_test(at) {
            if let Some((kind, name)) = declared(trimmed) {
                found.push(Item { kind, name, line, inner });
            }
            if let Some(rest) = trimmed.strip_prefix("macro_rules! ")
                && exported
            {
                found.push(Item { kind: "macro", name: name(rest), line, inner });
            }
        }
        exported = trimmed.starts_with("#[macro_export]");
        at += code.len();
    }
    found
}

/// Reads `pub async fn name` and its like.
fn declared(code: &str) -> Option<(&str, &str)> {
    let rest = code.strip_prefix("pub ")?;
    let rest = rest.strip_prefix("async ").unwrap_or(rest);
    let rest = rest.strip_prefix("const ").filter(|r| r.starts_with("fn ")).unwrap_or(rest);
    let (kind, rest) = rest.split_once(' ')?;
    KINDS.contains(&kind).then(|| (kind, name(rest)))
}

fn name(text: &str) -> &str {
    &text[..text.bytes().take_while(|b| is_name(*b)).count()]
}

/// Returns the code of all examples of a file.
fn examples(text: &str) -> String {
    let mut code = String::new();
    let mut within = false;
    for line in text.lines() {
        let line = line.trim_start();
        let Some(doc) = line.strip_prefix("///").or_else(|| line.strip_prefix("//!")) else {
            within = false;
            continue;
        };
        if let Some(language) = doc.trim_start().strip_prefix("```") {
            within = !within && !language.starts_with("text");
        } else if within {
            code.push_str(doc);
            code.push('\n');
        }
    }
    code
}

/// Tells whether an example uses a name: `.name(..)`, `::name` or `NAME`.
fn uses(examples: &str, name: &str) -> bool {
    let bytes = examples.as_bytes();
    examples.match_indices(name).any(|(at, _)| {
        let free = bytes.get(at + name.len()).is_none_or(|b| !is_name(*b))
            && (at == 0 || !is_name(bytes[at - 1]));
        let reached = examples[..at].ends_with(['.', ':']) || name.starts_with(char::is_uppercase);
        free && reached
    })
}
