//! A mistake in the text of a flow, and how it is shown.

use crate::excerpt::Excerpt;
use std::{error::Error as StdError, fmt, ops::Range};

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
    /// `text` is the one that was read. Lines count from 1; carets are as wide as what they mean,
    /// and tabs stay, so that they stand below it; a line of more than 100 columns is cut around
    /// the mistake; control characters, and others that can't be seen, are shown as `�`. Message
    /// and hint are not in it.
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
        let gutter = here.digits().max(there.as_ref().map_or(0, |(there, _)| there.digits()));
        let mut shown = here.line(gutter) + &here.marks(gutter, "^", "");
        if let Some((there, why)) = &there {
            // One line that holds both is shown once.
            if !here.is_line_of(there) {
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
