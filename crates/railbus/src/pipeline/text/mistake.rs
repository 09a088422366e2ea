//! What is said about each mistake, and what to do about it.

use super::{
    error::FlowError,
    token::{ARROW_LIKE, Kind, Token, next_token},
};
use std::ops::Range;

type Span = Range<usize>;

/// What a unit was expected after.
#[derive(Clone, Debug)]
pub(super) enum Before {
    /// Nothing: the flow begins.
    Start,
    /// An arrow, `||` or `*`.
    Operator(Token),
    /// The bracket of a group.
    Bracket(Token),
}

/// A name or another piece of the text, as messages show it: long ones are cut.
pub(super) fn shown(text: &str) -> String {
    const MAX: usize = 40;
    match text.char_indices().nth(MAX) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text.into(),
    }
}

pub(super) fn empty(text: &str) -> FlowError {
    let hint = "name at least one step, such as validate -> charge";
    FlowError::new(&(0..text.len()), "the flow is empty", hint)
}

/// A step that the flow names already: its value and its report go by its name.
pub(super) fn twice(name: &str, span: &Span, first: &Span) -> FlowError {
    let hint = "a flow runs a step once; declare it again under another name";
    let why = format!("step `{}` is named twice", shown(name));
    FlowError::new(span, why, hint).also(first, "first named here")
}

pub(super) fn no_step(name: &str, span: &Span, hint: String) -> FlowError {
    FlowError::new(span, format!("there is no step `{}`", shown(name)), hint)
}

/// `a(b -> c)` where `b` is a step: most likely its label was forgotten.
pub(super) fn step_as_label(name: &str, span: &Span) -> FlowError {
    let name = shown(name);
    let why = format!("`{name}` is a step, not the label of a branch");
    FlowError::new(span, why, label_first(&name))
}

/// A label that the flow names as a step too.
pub(super) fn label_and_step(name: &str, span: &Span, first: &Span) -> FlowError {
    let name = shown(name);
    let why = format!("`{name}` is both a step and the label of a branch");
    let hint = format!("{}; or give the label another name", label_first(&name));
    FlowError::new(span, why, hint).also(first, "the other one is here")
}

fn label_first(name: &str) -> String {
    format!("did you mean 1 -> {name}, after success, or 0 -> {name}, after failure?")
}

/// A token where a unit should begin.
pub(super) fn no_unit(text: &str, token: &Token, before: &Before, in_branches: bool) -> FlowError {
    let found = shown(&text[token.span.clone()]);
    match (token.kind, before) {
        (Kind::Unknown | Kind::Directive, _) => unknown(text, &token.span),
        (Kind::Number, Before::Operator(star)) if star.kind == Kind::Star => {
            let hint = "`*` stands between a step and one number, such as charge*3";
            FlowError::new(&token.span, format!("`{found}` is not a step"), hint)
        }
        (Kind::Number, _) => number(text, &token.span),
        (Kind::End, Before::Bracket(open)) => unclosed(text, &open.span),
        (Kind::Close(found), Before::Bracket(open)) => {
            if found != closing(&text[open.span.clone()]) {
                return crossed(text, &open.span, &token.span);
            }
            let span = open.span.start..token.span.end;
            let hint = "name the steps of the group, or remove its brackets";
            FlowError::new(&span, "the group is empty", hint)
        }
        (Kind::Open(_), _) => {
            let hint = "an evaluation follows a group: {a || b}[any]";
            FlowError::new(&token.span, "there is no group before `[`", hint)
        }
        (Kind::Comma, Before::Start | Before::Bracket(_)) => comma(&token.span),
        (Kind::Comma, _) if !in_branches => comma(&token.span),
        (_, Before::Start) => {
            let why = format!("a step is missing before `{found}`");
            FlowError::new(&token.span, why, "start the flow with a step's name")
        }
        (_, Before::Bracket(_)) => {
            let why = format!("a step is missing before `{found}`");
            FlowError::new(&token.span, why, "start the group with a step's name")
        }
        (kind, Before::Operator(operator)) if kind.is_arrow() && operator.kind.is_arrow() => {
            let why = "a step is missing between two arrows";
            FlowError::new(&token.span, why, "name one, or remove an arrow")
        }
        (Kind::End | Kind::Close(_) | Kind::Comma, Before::Operator(operator)) => {
            let sign = &text[operator.span.clone()];
            let what = if operator.kind.is_arrow() { "arrow".into() } else { format!("`{sign}`") };
            let why = format!("a step is missing after `{sign}`");
            FlowError::new(&operator.span, why, format!("name one, or remove the {what}"))
        }
        (_, Before::Operator(operator)) => {
            let sign = &text[operator.span.clone()];
            let why = format!("a step is missing between `{sign}` and `{found}`");
            FlowError::new(&token.span, why, "name one, or remove one of the two")
        }
    }
}

/// A number that is not the factor of a step: the label of a branch, if an arrow follows.
fn number(text: &str, span: &Span) -> FlowError {
    let found = shown(&text[span.clone()]);
    let (why, hint) = match next_token(text, span.end).kind.is_arrow() {
        true => (
            format!("`{found}` is the label of a branch, and stands in a step's parentheses"),
            format!("write a({found} -> b), after the step whose branch it is"),
        ),
        false => (
            format!("`{found}` is not a step"),
            "a name starts with a letter or `_`; a*3 tries a step 3 times".into(),
        ),
    };
    FlowError::new(span, why, hint)
}

/// A token after a whole unit that goes on with nothing.
pub(super) fn stray(text: &str, last: &Span, token: &Token, in_branches: bool) -> FlowError {
    let (before, found) = (shown(&text[last.clone()]), shown(&text[token.span.clone()]));
    match token.kind {
        Kind::Unknown | Kind::Directive => unknown(text, &token.span),
        Kind::Comma => comma(&token.span),
        Kind::Close(_) => {
            let why = format!("`{found}` closes nothing");
            FlowError::new(&token.span, why, "remove it, or open the bracket before")
        }
        Kind::Number if in_branches => {
            let why = format!("`,` is missing between `{before}` and `{found}`");
            FlowError::new(&token.span, why, format!("write , {found} -> for the next branch"))
        }
        Kind::Number => number(text, &token.span),
        Kind::Name if in_branches => {
            let why = format!("`->` or `,` is missing between `{before}` and `{found}`");
            let hint = format!("write -> {found} to go on, or , {found} -> for a branch");
            FlowError::new(&token.span, why, hint)
        }
        Kind::Name => {
            let why = format!("`->` is missing between `{before}` and `{found}`");
            FlowError::new(&token.span, why, format!("write {before} -> {found}"))
        }
        _ => {
            let why = format!("`->` is missing between `{before}` and `{found}`");
            FlowError::new(&token.span, why, "write `->` or `||` before it")
        }
    }
}

fn comma(span: &Span) -> FlowError {
    let hint = "it parts branches, a(0 -> b, 1 -> c); `||` stands between steps side by side";
    FlowError::new(span, "`,` stands outside of branches", hint)
}

pub(super) fn unclosed(text: &str, open: &Span) -> FlowError {
    let bracket = &text[open.clone()];
    let hint = format!("write `{}` where it ends", closing(bracket));
    FlowError::new(open, format!("`{bracket}` is not closed"), hint)
}

/// A bracket that closes one of another kind.
pub(super) fn crossed(text: &str, open: &Span, close: &Span) -> FlowError {
    let (bracket, found) = (&text[open.clone()], &text[close.clone()]);
    let why = format!("`{found}` does not close `{bracket}`");
    let hint = format!("write `{}`", closing(bracket));
    FlowError::new(close, why, hint).also(open, "opened here")
}

pub(super) fn closing(open: &str) -> char {
    match open {
        "(" => ')',
        "{" => '}',
        _ => ']',
    }
}

pub(super) fn too_deep(span: &Span, max: usize) -> FlowError {
    let hint = "give the inner flow a pipeline of its own, and use that as a step";
    FlowError::new(span, format!("more than {max} brackets within one another"), hint)
}

/// A number of tries that says nothing, or is no number.
pub(super) fn factor(text: &str, span: &Span) -> FlowError {
    let found = shown(&text[span.clone()]);
    if found.trim_start_matches('0').len() > 1 {
        return huge(text, span);
    }
    let why = format!("`{found}` is no factor: it says how often a step is tried, from 2");
    FlowError::new(span, why, "remove it: without one, a step is tried as it was declared")
}

pub(super) fn huge(text: &str, span: &Span) -> FlowError {
    let why = format!("`{}` is too large", shown(&text[span.clone()]));
    FlowError::new(span, why, format!("write a number up to {}", u32::MAX))
}

pub(super) fn no_factor(text: &str, token: &Token, star: &Span) -> FlowError {
    match token.kind {
        Kind::Unknown | Kind::Directive => unknown(text, &token.span),
        _ => {
            let span = if token.kind == Kind::End { star } else { &token.span };
            FlowError::new(span, "a number is missing after `*`", "write a*3 to try a step 3 times")
        }
    }
}

pub(super) fn second_factor(span: &Span, first: &Span) -> FlowError {
    let error = FlowError::new(span, "the step has a factor already", "write a*3, once");
    error.also(first, "the first one is here")
}

pub(super) fn factor_of_group(span: &Span) -> FlowError {
    let why = "a group can't be tried again as a whole";
    FlowError::new(span, why, "put the factor on its steps: {a*3 || b*3}")
}

pub(super) fn evaluation_of_step(text: &str, span: &Span, step: &Span) -> FlowError {
    let name = shown(&text[step.clone()]);
    let why = format!("an evaluation belongs to a group, and `{name}` is a step");
    FlowError::new(span, why, "write braces around what it judges: {a || b}[any]")
}

pub(super) fn late_evaluation(span: &Span) -> FlowError {
    let hint = "write {a || b}[any](0 -> c), once";
    FlowError::new(span, "an evaluation stands right after its group", hint)
}

pub(super) fn malformed_evaluation(text: &str, token: &Token) -> FlowError {
    match token.kind {
        Kind::Unknown | Kind::Directive => unknown(text, &token.span),
        _ => {
            let why = format!("unexpected `{}` in an evaluation", &text[token.span.clone()]);
            let hint = "write one, such as [any], [at_least(2)] or [percent(50)]";
            FlowError::new(&token.span, why, hint)
        }
    }
}

pub(super) fn unreachable(span: &Span, wanted: u32, members: usize) -> FlowError {
    let what = if members == 1 { "member" } else { "members" };
    let why = format!("`at_least({wanted})` can't be reached by {members} {what}");
    FlowError::new(span, why, format!("write at_least({members}) or less"))
}

pub(super) fn no_branches(span: &Span) -> FlowError {
    let hint = "write (0 -> a, 1 -> b), or remove the parentheses";
    FlowError::new(span, "there is no branch in the parentheses", hint)
}

pub(super) fn branches_twice(span: &Span, first: &Span) -> FlowError {
    let hint = "write them into one pair of parentheses: a(0 -> b, 1 -> c)";
    FlowError::new(span, "the branches stand in two lists", hint).also(first, "the first one")
}

/// A comma with no branch on one of its sides.
pub(super) fn no_branch(comma: &Span, side: &str) -> FlowError {
    let why = format!("a branch is missing {side} `,`");
    FlowError::new(comma, why, "name one, or remove the comma")
}

/// A token where a label should stand.
pub(super) fn no_label(text: &str, token: &Token) -> FlowError {
    let found = shown(&text[token.span.clone()]);
    match token.kind {
        Kind::Unknown | Kind::Directive => unknown(text, &token.span),
        Kind::Name => {
            let why = format!("the branch `{found}` has no label");
            FlowError::new(&token.span, why, label_first(&found))
        }
        kind if kind.is_arrow() => {
            let why = format!("the label of a branch is missing before `{found}`");
            let hint = format!("write 1 {found} after success, 0 {found} after failure");
            FlowError::new(&token.span, why, hint)
        }
        _ => {
            let why = format!("unexpected `{found}` where a branch begins with its label");
            let hint = "write 1 -> a after success, 0 -> a after failure, or name -> a";
            FlowError::new(&token.span, why, hint)
        }
    }
}

pub(super) fn bad_label(text: &str, span: &Span) -> FlowError {
    let why = format!("`{}` is no label", shown(&text[span.clone()]));
    FlowError::new(span, why, "a label is one digit, 0 to 9, or a name")
}

/// A label without an arrow.
pub(super) fn bare_label(text: &str, label: &Span, token: &Token) -> FlowError {
    if matches!(token.kind, Kind::Unknown | Kind::Directive) {
        return unknown(text, &token.span);
    }
    let label_text = &text[label.clone()];
    let why = format!("an arrow is missing after label `{label_text}`");
    FlowError::new(label, why, format!("write {label_text} -> and the steps of the branch"))
}

pub(super) fn label_of_group(label: &str, span: &Span) -> FlowError {
    let why = format!("a group has no branch `{}`", shown(label));
    FlowError::new(span, why, "a group only fails or succeeds: its labels are 0 and 1")
}

pub(super) fn label_twice(label: &str, span: &Span, first: &Span) -> FlowError {
    let why = format!("label `{}` is given twice", shown(label));
    let hint = "join the two branches, or give one of them another label";
    FlowError::new(span, why, hint).also(first, "first given here")
}

/// Characters that belong to no token.
pub(super) fn unknown(text: &str, span: &Span) -> FlowError {
    let found = &text[span.clone()];
    if found.starts_with("@recursive-depth") {
        let why = format!("`{}`: there is no such limit to set", shown(found));
        return FlowError::new(span, why, "remove it: steps do not run inside one another");
    }
    let begins = |chars: &[char]| found.starts_with(chars);
    let hint = if begins(&['@']) {
        "remove it: a flow has no directives"
    } else if found.strip_prefix('-').is_some_and(|rest| !rest.is_empty() && is_number(rest)) {
        "a number has no sign: a factor is 2 or more, a label 0 to 9"
    } else if found.starts_with(|c: char| c.is_ascii_digit()) {
        "a name starts with a letter or `_`"
    } else if begins(&['|']) {
        "write `->` between steps, `|->` to bind the value to the next, `||` for side by side"
    } else if begins(ARROW_LIKE) {
        "write `->` between steps"
    } else if begins(&['&', '+']) {
        "write `||` between steps that run side by side"
    } else if begins(&[':']) {
        "write `->` after a label"
    } else if begins(&['"', '\'', '`']) {
        "names stand without quotes"
    } else if begins(&['\u{feff}']) {
        "a byte order mark may only stand at the very start"
    } else {
        "names have letters, digits, `_` and `-` (ASCII); `->` stands between them"
    };
    let found: String = found.chars().take(40).collect();
    FlowError::new(span, format!("unexpected `{}`", found.escape_debug()), hint)
}

fn is_number(text: &str) -> bool {
    text.bytes().all(|b| b.is_ascii_digit())
}
