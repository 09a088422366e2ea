//! The flow as text: `validate -> charge -> ship`.

use std::{collections::HashSet, error::Error as StdError, fmt, ops::Range};

/// A step named in a flow.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FlowName {
    /// The step's name.
    pub name: String,
    /// Where it stands in the text, in bytes.
    pub span: Range<usize>,
}

/// A mistake in the text of a flow.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FlowError {
    /// What is wrong.
    pub message: String,
    /// What to do about it.
    pub hint: String,
    /// Where it stands in the text, in bytes.
    pub span: Range<usize>,
}

impl FlowError {
    fn new(span: &Range<usize>, message: impl Into<String>, hint: impl Into<String>) -> Self {
        Self { message: message.into(), hint: hint.into(), span: span.clone() }
    }
}

impl fmt::Display for FlowError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "flow, byte {}: {}; {}", self.span.start, self.message, self.hint)
    }
}

impl StdError for FlowError {}

/// Reads a flow: names of steps, joined by `->`, each at most once.
///
/// A name starts with a letter or `_` and goes on with letters, digits, `_` and `-` (ASCII). Any
/// white space may stand between names and arrows.
///
/// # Examples
/// ```
/// use railbus::pipeline::text::{FlowError, FlowName, parse};
///
/// let flow: Vec<FlowName> = parse("check -> ship").unwrap();
/// assert_eq!((&*flow[1].name, flow[1].span.clone()), ("ship", 9..13));
/// let error: FlowError = parse("check - ship").unwrap_err();
/// assert_eq!(error.span.start, 6);
/// println!("{error}: {}", error.hint);
/// ```
///
/// # Errors
/// Returns the first mistake from the left. The operators of branches, groups and bindings are
/// refused as not yet available.
pub fn parse(text: &str) -> Result<Vec<FlowName>, FlowError> {
    let mut names: Vec<FlowName> = Vec::new();
    let mut known = HashSet::new();
    // What stood before the token at hand.
    let mut arrow: Option<Range<usize>> = None;
    let mut at = 0;
    while let Some((token, span)) = next_token(text, at) {
        at = span.end;
        match (token, &arrow) {
            (Token::Name, None) if !names.is_empty() => {
                let (last, this) = (&names[names.len() - 1].name, &text[span.clone()]);
                let why = format!("`->` is missing between `{last}` and `{this}`");
                return Err(FlowError::new(&span, why, format!("write {last} -> {this}")));
            }
            (Token::Name, _) => {
                let name = &text[span.clone()];
                if !known.insert(name) {
                    return Err(twice(name, &span));
                }
                names.push(FlowName { name: name.into(), span });
                arrow = None;
            }
            (Token::Arrow, Some(_)) => {
                let why = "a step is missing between two arrows";
                return Err(FlowError::new(&span, why, "name one, or remove an arrow"));
            }
            (Token::Arrow, None) if names.is_empty() => {
                let why = "a step is missing before `->`";
                return Err(FlowError::new(&span, why, "start the flow with a step's name"));
            }
            (Token::Arrow, None) => arrow = Some(span),
            (Token::Later(what), _) => {
                let why = format!("`{}`, {what}, is not yet available", &text[span.clone()]);
                return Err(FlowError::new(&span, why, "steps run in a line: a -> b -> c"));
            }
            (Token::Unknown, _) => return Err(unknown(text, span)),
        }
    }
    match (names.is_empty(), arrow) {
        (true, _) => {
            let hint = "name at least one step, such as validate -> charge";
            Err(FlowError::new(&(0..text.len()), "the flow is empty", hint))
        }
        (false, Some(span)) => {
            let why = "a step is missing after `->`";
            Err(FlowError::new(&span, why, "name one, or remove the arrow"))
        }
        (false, None) => Ok(names),
    }
}

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

/// A step that the flow names already: its value and its report go by its name.
fn twice(name: &str, span: &Range<usize>) -> FlowError {
    let hint = "a flow runs a step once; declare it again under another name";
    FlowError::new(span, format!("step `{name}` is named twice"), hint)
}

enum Token {
    Name,
    Arrow,
    /// An operator of the full language, with what it is for.
    Later(&'static str),
    Unknown,
}

/// The operators to come; a longer one stands before those it starts with.
const LATER: [(&str, &str); 9] = [
    ("|->", "which binds a value to the next step"),
    ("||", "which runs steps side by side"),
    ("(", "which opens branches"),
    (")", "which closes branches"),
    ("{", "which opens a group"),
    ("}", "which closes a group"),
    ("[", "which opens an evaluation"),
    ("]", "which closes an evaluation"),
    (",", "which parts branches"),
];

fn starts_name(c: char) -> bool {
    c.is_ascii_alphabetic() || c == '_'
}

fn continues_name(c: char) -> bool {
    c.is_ascii_alphanumeric() || c == '_' || c == '-'
}

/// Returns the first token at or after byte `at`; `None` at the end.
fn next_token(text: &str, at: usize) -> Option<(Token, Range<usize>)> {
    let rest = text[at..].trim_start();
    let start = text.len() - rest.len();
    let first = rest.chars().next()?;
    let (token, length) = if starts_name(first) {
        // `a->b` is an arrow between two names, although a name may hold a `-`.
        let end = rest.find(|c| !continues_name(c)).unwrap_or(rest.len());
        (Token::Name, rest[..end.min(rest.find("->").unwrap_or(end))].len())
    } else if rest.starts_with("->") {
        (Token::Arrow, 2)
    } else if let Some((operator, what)) = LATER.iter().find(|(o, _)| rest.starts_with(o)) {
        (Token::Later(what), operator.len())
    } else if first.is_ascii_digit() {
        let end = rest.find(|c| !continues_name(c)).unwrap_or(rest.len());
        let end = end.min(rest.find("->").unwrap_or(end));
        let digits = rest[..end].bytes().all(|b| b.is_ascii_digit());
        (if digits { Token::Later("the label of a branch") } else { Token::Unknown }, end)
    } else {
        (Token::Unknown, unknown_length(rest))
    };
    Some((token, start..start + length))
}

/// Takes a run of arrow-like characters as one mistake, anything else one character at a time.
fn unknown_length(rest: &str) -> usize {
    let run = rest.find(|c| !"-=>|<~→⇒".contains(c)).unwrap_or(rest.len());
    if run > 0 { run } else { rest.chars().next().map_or(0, char::len_utf8) }
}

fn unknown(text: &str, span: Range<usize>) -> FlowError {
    let found = &text[span.clone()];
    let hint = if found.starts_with(|c: char| c.is_ascii_digit()) {
        "a name starts with a letter or `_`"
    } else if found.contains(['-', '=', '>', '|', '<', '~', '→', '⇒']) {
        "write `->` between steps"
    } else {
        "names have letters, digits, `_` and `-` (ASCII); `->` stands between them"
    };
    FlowError::new(&span, format!("unexpected `{}`", found.escape_debug()), hint)
}
