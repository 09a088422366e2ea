//! The words of the language: names, numbers, operators and brackets, each with its place.

use std::ops::Range;

/// What a token is; one of the text's characters, where it is nothing else, is `Unknown`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Name,
    Number,
    /// `->`
    Arrow,
    /// `|->`
    Pipe,
    /// `||`
    Parallel,
    /// `*`
    Star,
    Comma,
    /// `(`, `{` or `[`
    Open(char),
    /// `)`, `}` or `]`
    Close(char),
    /// `@name:value`
    Directive,
    Unknown,
    End,
}

/// A token and where it stands; its text is read from there.
#[derive(Clone, Debug)]
pub(super) struct Token {
    pub(super) kind: Kind,
    pub(super) span: Range<usize>,
}

impl Kind {
    /// Tells whether it is one of the two arrows.
    pub(super) fn is_arrow(self) -> bool {
        matches!(self, Self::Arrow | Self::Pipe)
    }
}

/// The fixed ones; a longer one stands before those it starts with.
const FIXED: [(&str, Kind); 11] = [
    ("|->", Kind::Pipe),
    ("->", Kind::Arrow),
    ("||", Kind::Parallel),
    ("*", Kind::Star),
    (",", Kind::Comma),
    ("(", Kind::Open('(')),
    (")", Kind::Close(')')),
    ("{", Kind::Open('{')),
    ("}", Kind::Close('}')),
    ("[", Kind::Open('[')),
    ("]", Kind::Close(']')),
];

/// What people write for arrows and bars; a run of them is one mistake.
pub(super) const ARROW_LIKE: &[char] =
    &['-', '=', '>', '|', '<', '~', '→', '⇒', '⟶', '↦', '➔', '–', '—', '＞'];

/// Tells whether `text` can be the name of a step or a pipeline.
///
/// # Examples
/// ```
/// use railbus::pipeline::text::is_name;
///
/// assert!(is_name("send_mail") && is_name("check-2"));
/// assert!(!is_name("2nd") && !is_name("send mail"));
/// ```
#[must_use]
pub fn is_name(text: &str) -> bool {
    text.starts_with(starts_name) && text.chars().all(continues_name)
}

fn starts_name(c: char) -> bool {
    c.is_ascii_alphabetic() || c == '_'
}

fn continues_name(c: char) -> bool {
    c.is_ascii_alphanumeric() || c == '_' || c == '-'
}

/// Returns the first token at or after byte `at`.
pub(super) fn next_token(text: &str, at: usize) -> Token {
    let start = skip_blank(text, at);
    let rest = &text[start..];
    let Some(first) = rest.chars().next() else {
        return Token { kind: Kind::End, span: start..start };
    };
    let (kind, length) =
        if let Some((fixed, kind)) = FIXED.iter().find(|(o, _)| rest.starts_with(o)) {
            (*kind, fixed.len())
        } else if starts_name(first) {
            (Kind::Name, word_length(rest))
        } else if first.is_ascii_digit() {
            let length = word_length(rest);
            let digits = rest[..length].bytes().all(|b| b.is_ascii_digit());
            (if digits { Kind::Number } else { Kind::Unknown }, length)
        } else if first == '@' {
            (Kind::Directive, rest.find(char::is_whitespace).unwrap_or(rest.len()))
        } else {
            (Kind::Unknown, unknown_length(rest))
        };
    Token { kind, span: start..start + length }
}

/// Skips white space, comments, and a byte order mark at the very start.
fn skip_blank(text: &str, at: usize) -> usize {
    let mut rest = &text[at..];
    if at == 0 {
        rest = rest.strip_prefix('\u{feff}').unwrap_or(rest);
    }
    loop {
        rest = rest.trim_start();
        if !rest.starts_with('#') {
            return text.len() - rest.len();
        }
        rest = &rest[rest.find('\n').unwrap_or(rest.len())..];
    }
}

/// `a->b` is an arrow between two names, although a name may hold a `-`.
fn word_length(rest: &str) -> usize {
    let end = rest.find(|c| !continues_name(c)).unwrap_or(rest.len());
    let arrow = rest[end..].starts_with('>') && rest[..end].ends_with('-');
    if arrow { end - 1 } else { end }
}

/// Takes a number with a sign and a run of arrow-like characters as one mistake, anything else one
/// character at a time.
fn unknown_length(rest: &str) -> usize {
    let signed = rest.strip_prefix('-').filter(|r| r.starts_with(|c: char| c.is_ascii_digit()));
    if let Some(number) = signed {
        return 1 + number.find(|c: char| !c.is_ascii_digit()).unwrap_or(number.len());
    }
    let run = rest.find(|c| !ARROW_LIKE.contains(&c)).unwrap_or(rest.len());
    if run > 0 { run } else { rest.chars().next().map_or(0, char::len_utf8) }
}
