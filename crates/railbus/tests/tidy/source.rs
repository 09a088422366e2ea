//! Files as the rules see them: what is code, what is text, what is a test.

use std::{
    fs, io,
    path::{Path, PathBuf},
};

/// A file with its code set apart: `code` is `text` with comments and literals blanked, byte by
/// byte, so that offsets and lines are the same in both. Only Rust files have code.
#[derive(Debug)]
pub(crate) struct Source {
    pub(crate) path: String,
    pub(crate) text: String,
    pub(crate) code: String,
    tests: Vec<(usize, usize)>,
}

impl Source {
    pub(crate) fn new(path: &str, text: &str) -> Self {
        let rust = path.ends_with(".rs");
        let code = if rust { blank(text) } else { String::new() };
        let whole = ["/tests/", "/benches/", "/tests.rs", "/interleavings.rs"]
            .iter()
            .any(|part| path.contains(part));
        let tests = if whole { vec![(0, code.len())] } else { test_items(&code) };
        Self { path: path.into(), text: text.into(), code, tests }
    }

    /// Returns the number of the line that the byte at `offset` is in, from 1.
    pub(crate) fn line(&self, offset: usize) -> usize {
        self.text.as_bytes()[..offset].iter().filter(|b| **b == b'\n').count() + 1
    }

    /// Tells whether the byte at `offset` is compiled for tests only.
    pub(crate) fn is_test(&self, offset: usize) -> bool {
        self.tests.iter().any(|(start, end)| (*start..*end).contains(&offset))
    }

    /// Returns where `word` stands in the code: not as a part of a longer name.
    pub(crate) fn find(&self, word: &str) -> Vec<usize> {
        let code = self.code.as_bytes();
        let (first, last) = (word.as_bytes()[0], word.as_bytes()[word.len() - 1]);
        let free = |at: usize| {
            let before = at == 0 || !(is_name(first) && is_name(code[at - 1]));
            let after = code.get(at + word.len()).is_none_or(|b| !(is_name(last) && is_name(*b)));
            before && after
        };
        self.code.match_indices(word).map(|(at, _)| at).filter(|at| free(*at)).collect()
    }
}

pub(crate) fn is_name(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || byte == b'_'
}

/// Returns where the item that begins at `start` ends its head (the `{` or `;`), and where it ends.
pub(crate) fn item(code: &str, start: usize) -> (usize, usize) {
    let bytes = code.as_bytes();
    let mut depth = 0;
    for at in start..bytes.len() {
        match bytes[at] {
            b'(' | b'[' => depth += 1,
            b')' | b']' => depth -= 1,
            b';' if depth == 0 => return (at, at),
            b'{' if depth == 0 => return (at, closing(bytes, at)),
            _ => {}
        }
    }
    (bytes.len(), bytes.len())
}

fn closing(bytes: &[u8], open: usize) -> usize {
    let mut depth = 0;
    for (at, byte) in bytes.iter().enumerate().skip(open) {
        match byte {
            b'{' => depth += 1,
            b'}' if depth == 1 => return at,
            b'}' => depth -= 1,
            _ => {}
        }
    }
    bytes.len()
}

fn test_items(code: &str) -> Vec<(usize, usize)> {
    let starts = ["#[cfg(test)]", "#[cfg(all(test"].iter().flat_map(|a| code.match_indices(a));
    starts
        .map(|(at, _)| {
            let after = at + code[at..].find('\n').unwrap_or(code.len() - at);
            (at, item(code, after).1)
        })
        .collect()
}

/// Blanks comments, strings and characters; newlines stay.
fn blank(text: &str) -> String {
    let bytes = text.as_bytes();
    let mut code = bytes.to_vec();
    let mut at = 0;
    while at < bytes.len() {
        let end = match bytes[at] {
            b'/' if bytes[at..].starts_with(b"//") => line_comment(bytes, at),
            b'/' if bytes[at..].starts_with(b"/*") => block_comment(bytes, at),
            b'"' => string(bytes, at),
            b'r' => raw_string(bytes, at),
            b'\'' => character(text, at),
            _ => at,
        };
        for byte in &mut code[at..end] {
            if *byte != b'\n' {
                *byte = b' ';
            }
        }
        at = end.max(at + 1);
    }
    String::from_utf8_lossy(&code).into_owned()
}

fn line_comment(bytes: &[u8], at: usize) -> usize {
    bytes[at..].iter().position(|b| *b == b'\n').map_or(bytes.len(), |length| at + length)
}

fn block_comment(bytes: &[u8], start: usize) -> usize {
    let (mut at, mut depth) = (start, 0);
    while at < bytes.len() {
        let rest = &bytes[at..];
        if rest.starts_with(b"/*") {
            depth += 1;
            at += 2;
        } else if rest.starts_with(b"*/") {
            depth -= 1;
            at += 2;
            if depth == 0 {
                return at;
            }
        } else {
            at += 1;
        }
    }
    at
}

fn string(bytes: &[u8], start: usize) -> usize {
    let mut at = start + 1;
    while at < bytes.len() {
        match bytes[at] {
            b'\\' => at += 2,
            b'"' => return at + 1,
            _ => at += 1,
        }
    }
    bytes.len()
}

fn raw_string(bytes: &[u8], at: usize) -> usize {
    let prefix = at > 0 && matches!(bytes[at - 1], b'b' | b'c');
    let before = at.checked_sub(1 + usize::from(prefix));
    let hashes = bytes[at + 1..].iter().take_while(|b| **b == b'#').count();
    if before.is_some_and(|b| is_name(bytes[b])) || bytes.get(at + 1 + hashes) != Some(&b'"') {
        return at;
    }
    let end = format!("\"{}", "#".repeat(hashes));
    let body = at + 2 + hashes;
    let found = bytes[body..].windows(end.len()).position(|w| w == end.as_bytes());
    found.map_or(bytes.len(), |length| body + length + end.len())
}

/// Returns the end of a character literal; `at` itself if it is a lifetime.
fn character(text: &str, at: usize) -> usize {
    let mut rest = text[at + 1..].char_indices();
    match rest.next() {
        Some((_, '\\')) => {
            let quote = text[at + 3..].find('\'').unwrap_or(0);
            at + 3 + quote + 1
        }
        Some(_) => match rest.next() {
            Some((length, '\'')) => at + 1 + length + 1,
            _ => at,
        },
        None => at,
    }
}

/// Reads every text file of the project, except what is built and what tests feed on.
pub(crate) fn project() -> io::Result<Vec<Source>> {
    // Asked for as it runs: clones that share a target folder may share this test's binary.
    let krate = std::env::var_os("CARGO_MANIFEST_DIR").ok_or(io::ErrorKind::NotFound)?;
    let root = Path::new(&krate).join("../..").canonicalize()?;
    let mut sources = Vec::new();
    let mut folders = vec![root.clone()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder)? {
            let entry = entry?;
            let name = entry.file_name().to_string_lossy().into_owned();
            if entry.file_type()?.is_dir() {
                if !matches!(&*name, "target" | ".git" | "data" | "compile_fail") {
                    folders.push(entry.path());
                }
            } else if is_text(&entry.path()) {
                let path = relative(&entry.path(), &root);
                sources.push(Source::new(&path, &fs::read_to_string(entry.path())?));
            }
        }
    }
    sources.sort_by(|a, b| a.path.cmp(&b.path));
    Ok(sources)
}

fn is_text(path: &Path) -> bool {
    let known = ["rs", "toml", "md", "sh", "ndjson", "json", "yml", "yaml", "sql", "txt"];
    let extension = path.extension().and_then(|e| e.to_str());
    extension.map_or_else(|| path.ends_with(".ci/run"), |e| known.contains(&e))
}

fn relative(path: &Path, root: &Path) -> String {
    let path: PathBuf = path.strip_prefix(root).unwrap_or(path).into();
    path.to_string_lossy().replace('\\', "/")
}

#[cfg(test)]
mod tests {
    use super::Source;

    #[test]
    fn literals_and_comments_are_not_code_and_lines_stay() {
        let text = "let a = \"x // y \\\" z\"; // dbg!\n/* a /* b */ c */ let b = r#\"q\"#;\n\
                    let c = '\\''; let d: &'static str = br\"\\\"; let e = '\"'; let f = b'\\\\';\n";
        let source = Source::new("a.rs", text);
        assert_eq!(source.code.len(), text.len());
        let words: Vec<_> = source.code.split_whitespace().collect();
        let expected =
            "let a = ; let b = ; let c = ; let d: &'static str = b ; let e = ; let f = b ;";
        assert_eq!(words.join(" "), expected);
        assert_eq!(source.code.matches('\n').count(), 3);
    }

    #[test]
    fn what_is_compiled_for_tests_only_is_known() {
        let text = "fn a() {}\n#[cfg(test)]\nmod tests {\n    fn b() {}\n}\nfn c() {}\n";
        let source = Source::new("crates/railbus/src/a.rs", text);
        let of = |word| source.is_test(text.find(word).unwrap_or(0));
        assert_eq!([of("fn a"), of("fn b"), of("fn c")], [false, true, false]);
        assert!(Source::new("crates/railbus/tests/a.rs", text).is_test(0));
    }

    #[test]
    fn a_word_within_a_longer_name_is_not_found() {
        let source = Source::new("a.rs", "unsafe_code unsafe fn x() { my_sleep(1); sleep(2) }");
        assert_eq!(source.find("unsafe"), [12]);
        assert_eq!(source.find("sleep(").len(), 1);
    }
}
