//! Rules about documents, and about what every text file has in common.

use super::{Violation, source::Source};

const TAGS: [&str; 4] = ["added:", "changed:", "fixed:", "breaking:"];
const CODE_BY: usize = 25;

fn document<'a>(sources: &'a [Source], path: &str) -> Result<&'a Source, Vec<Violation>> {
    let missing = || vec![Violation { path: path.into(), line: 1, why: "is missing".into() }];
    sources.iter().find(|s| s.path == path).ok_or_else(missing)
}

pub(crate) fn the_changelog_has_unreleased_lines(sources: &[Source]) -> Vec<Violation> {
    let log = match document(sources, "CHANGELOG.md") {
        Ok(log) => log,
        Err(missing) => return missing,
    };
    let Some(start) = log.text.find("## Unreleased\n") else {
        return vec![Violation::at(log, 0, "has no `## Unreleased`")];
    };
    let body = start + "## Unreleased\n".len();
    let end = log.text[body..].find("\n## ").map_or(log.text.len(), |length| body + length);
    let untagged = |line: &str| {
        line.strip_prefix("- ").is_some_and(|item| !TAGS.iter().any(|tag| item.starts_with(tag)))
    };
    let mut offset = body;
    let mut violations = Vec::new();
    for line in log.text[body..end].split_inclusive('\n') {
        if untagged(line) {
            let why = format!("begins with none of {}", TAGS.join(" "));
            violations.push(Violation::at(log, offset, why));
        }
        offset += line.len();
    }
    violations
}

pub(crate) fn the_readme_shows_code_at_once(sources: &[Source]) -> Vec<Violation> {
    let readme = match document(sources, "README.md") {
        Ok(readme) => readme,
        Err(missing) => return missing,
    };
    if readme.text.lines().take(CODE_BY).any(|line| line == "```rust") {
        return Vec::new();
    }
    vec![Violation::at(readme, 0, format!("has no Rust code in its first {CODE_BY} lines"))]
}

/// A path that exists on one machine only helps nobody else.
pub(crate) fn no_file_names_a_machine(sources: &[Source]) -> Vec<Violation> {
    // Put together here, so that this file does not contain them.
    let folders = ["tmp", "work", "home", "root"].map(|name| format!("/{name}/"));
    let mut violations = Vec::new();
    for source in sources {
        for folder in &folders {
            for (at, _) in source.text.match_indices(folder) {
                // Within a longer path, or an address, it is not at the root.
                let before = source.text[..at].chars().next_back();
                if before.is_none_or(|c| !c.is_alphanumeric() && !"_.-}])$*~/".contains(c)) {
                    let why = format!("`{folder}` is a path of one machine");
                    violations.push(Violation::at(source, at, why));
                }
            }
        }
    }
    violations
}
