//! A mistake in the text of a flow, and how it is shown.

use std::{error::Error as StdError, fmt, iter, ops::Range};

/// How many characters of a line are shown; a longer one is cut around the mistake.
const WIDTH: usize = 100;

/// How many characters of a long line are kept before the mistake.
const BEFORE: usize = 40;

/// A mistake in the text of a flow.
#[non_exhaustive]
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FlowError {
    /// What is wrong.
    pub message: String,
    /// What to do about it.
    pub hint: String,
    /// Where it stands in the text, in bytes.
    pub span: Range<usize>,
    /// A second place in the text that has to do with it, in bytes, and how.
    pub also: Option<(Range<usize>, String)>,
}

impl FlowError {
    pub(super) fn new(
        span: &Range<usize>,
        message: impl Into<String>,
        hint: impl Into<String>,
    ) -> Self {
        Self { message: message.into(), hint: hint.into(), span: span.clone(), also: None }
    }

    pub(super) fn also(mut self, span: &Range<usize>, why: &str) -> Self {
        self.also = Some((span.clone(), why.into()));
        self
    }

    /// Draws where in `text` the mistake stands: its line with carets below, and the second place.
    ///
    /// `text` is the one that was read. Lines and columns count from 1; tabs stay, so that carets
    /// stand below what they mean; a line of more than 100 characters is cut around the mistake;
    /// control characters are shown as `�`. Message and hint are not in it.
    ///
    /// # Examples
    /// ```
    /// use railbus::pipeline::text::parse;
    ///
    /// let text = "check ->\nship -> check";
    /// let error = parse(text).unwrap_err();
    /// assert_eq!(error.message, "step `check` is named twice");
    /// let expected = "\
    /// 2 | ship -> check
    ///   |         ^^^^^
    /// 1 | check ->
    ///   | ----- first named here";
    /// assert_eq!(error.show(text), expected);
    /// ```
    #[must_use]
    pub fn show(&self, text: &str) -> String {
        let here = Excerpt::of(text, &self.span);
        let there = self.also.as_ref().map(|(span, why)| (Excerpt::of(text, span), why));
        let digits = |excerpt: &Excerpt| excerpt.number.to_string().len();
        let gutter = digits(&here).max(there.as_ref().map_or(0, |(there, _)| digits(there)));
        let mut shown = here.line(gutter) + &here.marks(gutter, "^", "");
        if let Some((there, why)) = &there {
            // One line that holds both is shown once.
            if (there.number, &there.text) != (here.number, &here.text) {
                shown.push('\n');
                shown.push_str(&there.line(gutter));
            }
            shown.push_str(&there.marks(gutter, "-", why));
        }
        shown
    }
}

impl fmt::Display for FlowError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "flow, byte {}: {}; {}", self.span.start, self.message, self.hint)
    }
}

impl StdError for FlowError {}

/// A line of the text, cut to what fits, and where in it the marks go.
struct Excerpt {
    number: usize,
    text: String,
    // In characters of the cut line; never empty.
    marked: Range<usize>,
}

impl Excerpt {
    fn of(text: &str, span: &Range<usize>) -> Self {
        // A place that is not in this text is shown at the nearest one that is.
        let at = text.floor_char_boundary(span.start.min(text.len()));
        let before = &text[..at];
        let number = before.matches('\n').count() + 1;
        let start = before.rfind('\n').map_or(0, |newline| newline + 1);
        let line = text[start..].split('\n').next().unwrap_or_default();
        let line = line.strip_suffix('\r').unwrap_or(line);
        let stop = text.floor_char_boundary(span.end.clamp(at, text.len())).min(start + line.len());
        let marked = text.get(at..stop).map_or(0, |part| part.chars().count()).max(1);
        let column = text[start..at].chars().count();
        Self { number, text: line.into(), marked: column..column + marked }.cut()
    }

    fn cut(mut self) -> Self {
        let length = self.text.chars().count();
        let from = match length > WIDTH {
            // The end of a line is shown as wide as its middle.
            true => self.marked.start.saturating_sub(BEFORE).min(length - WIDTH),
            false => 0,
        };
        let shown = self.text.chars().skip(from).take(WIDTH);
        let safe = shown.map(|c| if c.is_control() && c != '\t' { '\u{fffd}' } else { c });
        let head = if from > 0 { "…" } else { "" };
        let tail = if length > from + WIDTH { "…" } else { "" };
        self.text = iter::once(head).map(String::from).chain([safe.collect()]).collect();
        self.text.push_str(tail);
        let shift = |column: usize| column - from + head.chars().count();
        let end = self.marked.end.min(from + WIDTH).max(self.marked.start + 1);
        self.marked = shift(self.marked.start)..shift(end);
        self
    }

    fn line(&self, gutter: usize) -> String {
        format!("{:>gutter$} | {}", self.number, self.text).trim_end().into()
    }

    fn marks(&self, gutter: usize, mark: &str, why: &str) -> String {
        let before = self.text.chars().take(self.marked.start);
        let before: String = before.map(|c| if c == '\t' { '\t' } else { ' ' }).collect();
        // Columns past the end of the line, where something is missing, have no characters.
        let missing = " ".repeat(self.marked.start.saturating_sub(self.text.chars().count()));
        let marks = mark.repeat(self.marked.len());
        format!("\n{:gutter$} | {before}{missing}{marks} {why}", "").trim_end().into()
    }
}
