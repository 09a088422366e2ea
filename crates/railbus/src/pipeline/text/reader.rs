//! The tokens of a flow one by one, with what is open and what was named.

use super::{
    error::FlowError,
    mistake,
    token::{Kind, Token, next_token},
};
use std::{
    collections::{HashMap, hash_map::Entry},
    ops::Range,
};

pub(super) type Span = Range<usize>;
pub(super) type Parsed<T> = Result<T, FlowError>;

/// How many brackets may stand within one another: each is a few calls on the stack.
const DEPTH_MAX: usize = 64;

pub(super) struct Reader<'a> {
    pub(super) text: &'a str,
    pub(super) next: Token,
    // The token before, for messages.
    pub(super) last: Span,
    // The brackets that are open, outermost first.
    open: Vec<Open>,
    // Every step and label so far, with its first place; `true` for a step.
    names: HashMap<&'a str, (bool, Span)>,
}

struct Open {
    span: Span,
    branches: bool,
}

impl<'a> Reader<'a> {
    pub(super) fn new(text: &'a str) -> Self {
        let next = next_token(text, 0);
        Self { text, next, last: 0..0, open: Vec::new(), names: HashMap::new() }
    }

    pub(super) fn advance(&mut self) -> Token {
        let after = next_token(self.text, self.next.span.end);
        let token = std::mem::replace(&mut self.next, after);
        self.last = token.span.clone();
        token
    }

    /// Returns the token after the next.
    pub(super) fn second(&self) -> Token {
        next_token(self.text, self.next.span.end)
    }

    pub(super) fn text_of(&self, span: &Span) -> &'a str {
        &self.text[span.clone()]
    }

    pub(super) fn in_branches(&self) -> bool {
        self.open.last().is_some_and(|open| open.branches)
    }

    pub(super) fn stray(&self) -> FlowError {
        match (self.next.kind, self.open.last()) {
            (Kind::End, Some(open)) => mistake::unclosed(self.text, &open.span),
            (Kind::Close(_), Some(open)) => {
                mistake::crossed(self.text, &open.span, &self.next.span)
            }
            _ => mistake::stray(self.text, &self.last, &self.next, self.in_branches()),
        }
    }

    /// Takes the opening bracket of a group or of branches, unless it is one too deep.
    pub(super) fn opens(&mut self, branches: bool) -> Parsed<Token> {
        match self.open.len() {
            DEPTH_MAX.. => Err(mistake::too_deep(&self.next.span, DEPTH_MAX)),
            _ => Ok(self.enters(branches)),
        }
    }

    /// Takes an opening bracket in which no other can nest.
    pub(super) fn enters(&mut self, branches: bool) -> Token {
        let token = self.advance();
        self.open.push(Open { span: token.span.clone(), branches });
        token
    }

    /// Takes the bracket that closes the innermost open one; returns the place of both and all
    /// between them.
    pub(super) fn closes(&mut self) -> Parsed<Span> {
        let Some(open) = self.open.last() else { return Err(self.stray()) };
        let start = open.span.start;
        if self.next.kind != Kind::Close(mistake::closing(self.text_of(&open.span))) {
            return Err(self.stray());
        }
        self.open.pop();
        Ok(start..self.advance().span.end)
    }

    /// Takes a token of that kind, within an evaluation.
    pub(super) fn word(&mut self, kind: Kind) -> Parsed<Span> {
        match self.next.kind {
            found if found == kind => Ok(self.advance().span),
            Kind::End => Err(self.stray()),
            _ => Err(mistake::malformed_evaluation(self.text, &self.next)),
        }
    }

    /// Notes a name: steps differ from each other, and from all labels.
    pub(super) fn declare(&mut self, name: &'a str, span: &Span, is_step: bool) -> Parsed<()> {
        match self.names.entry(name) {
            Entry::Vacant(entry) => {
                entry.insert((is_step, span.clone()));
                Ok(())
            }
            Entry::Occupied(entry) => match entry.get() {
                (true, first) if is_step => Err(mistake::twice(name, span, first)),
                (false, _) if !is_step => Ok(()),
                (_, first) => Err(mistake::label_and_step(name, span, first)),
            },
        }
    }
}
