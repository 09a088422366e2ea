//! The grammar: sequences of items, items of units side by side, units of steps and groups.

use super::{
    error::FlowError,
    mistake::{self, Before},
    reader::{Parsed, Reader, Span},
    token::Kind,
    tree::{Branch, Group, Link, Named, Sequence, Unit},
};
use crate::{error::Error, pipeline::evaluate::Evaluation};
use std::collections::HashMap;

/// Reads a flow: names of steps, joined by operators, each name at most once.
///
/// | text | meaning |
/// |---|---|
/// | `a -> b` | b after a |
/// | `a \|-> b` | the same, and what came out of a is bound to b's free input |
/// | `a \|\| b` | side by side; binds tighter than arrows: `a -> b \|\| c -> d` joins b and c |
/// | `a*3`, `3*a` | at most 3 tries |
/// | `a(0 -> b, 1 -> c, x -> d)` | b after failure, c after success, d where a chooses `x` |
/// | `{a -> b}`, `(a -> b)` | a group; in parentheses not right after a step |
/// | `{a \|\| b}[any]` | a group with its [`Evaluation`] |
/// | `{a \|\| b}(0 -> c)` | a group with branches, `0` and `1` |
///
/// A name starts with a letter or `_` and goes on with letters, digits, `_` and `-` (ASCII). Labels
/// are single digits or names, and differ from the names of the steps. `#` begins a comment, up to
/// the end of the line; any white space may stand between words. Brackets nest 64 deep at most.
///
/// # Examples
/// ```
/// use railbus::pipeline::text::{FlowError, Sequence, parse};
///
/// let flow: Sequence = parse("check -> pay(0 -> refund, 1 -> ship || notify)").unwrap();
/// assert_eq!(flow.steps().len(), 5);
/// let error: FlowError = parse("check - ship").unwrap_err();
/// assert_eq!((error.span.clone(), &*error.hint), (6..7, "write `->` between steps"));
/// println!("{error}\n{}", error.show("check - ship"));
/// ```
///
/// # Errors
/// Returns the first mistake from the left.
pub fn parse(text: &str) -> Result<Sequence, FlowError> {
    let mut reader = Reader::new(text);
    if reader.next.kind == Kind::End {
        return Err(mistake::empty(text));
    }
    let flow = sequence(&mut reader, Before::Start)?;
    match reader.next.kind {
        Kind::End => Ok(flow),
        _ => Err(reader.stray()),
    }
}

/// A unit; or the flow of a group that has nothing of its own, and so does not stay in the tree.
enum Part {
    Unit(Unit),
    Flow(Sequence),
}

impl Part {
    fn into_flow(self) -> Sequence {
        match self {
            Self::Unit(unit) => Sequence { links: vec![Link { piped: false, arrow: 0..0, unit }] },
            Self::Flow(flow) => flow,
        }
    }
}

fn sequence(reader: &mut Reader<'_>, before: Before) -> Parsed<Sequence> {
    let mut links = Vec::new();
    let (mut before, mut piped, mut arrow) = (before, false, 0..0);
    loop {
        let mut flow = item(reader, &before)?.into_flow();
        if let Some(first) = flow.links.first_mut() {
            (first.piped, first.arrow) = (piped, arrow);
        }
        links.append(&mut flow.links);
        if !reader.next.kind.is_arrow() {
            return Ok(Sequence { links });
        }
        let token = reader.advance();
        (piped, arrow) = (token.kind == Kind::Pipe, token.span.clone());
        before = Before::Operator(token);
    }
}

fn item(reader: &mut Reader<'_>, before: &Before) -> Parsed<Part> {
    let start = reader.next.span.start;
    let first = unit(reader, before)?;
    if reader.next.kind != Kind::Parallel {
        return Ok(first);
    }
    let mut members = vec![first.into_flow()];
    while reader.next.kind == Kind::Parallel {
        let before = Before::Operator(reader.advance());
        members.push(unit(reader, &before)?.into_flow());
    }
    let span = start..reader.last.end;
    let (evaluation, branches) = (None, Vec::new());
    Ok(Part::Unit(Unit::Group(Group { members, evaluation, branches, span })))
}

fn unit(reader: &mut Reader<'_>, before: &Before) -> Parsed<Part> {
    let factor = match reader.next.kind {
        Kind::Number if reader.second().kind == Kind::Star => {
            let factor = read_factor(reader)?;
            Some((factor, Before::Operator(reader.advance())))
        }
        _ => None,
    };
    let before = factor.as_ref().map_or(before, |(_, star)| star);
    match (reader.next.kind, &factor) {
        (Kind::Name, _) => step(reader, factor.map(|(factor, _)| factor)).map(Part::Unit),
        (Kind::Open('(' | '{'), Some(((_, span), _))) => Err(mistake::factor_of_group(span)),
        (Kind::Open('(' | '{'), None) => group(reader),
        _ => Err(mistake::no_unit(reader.text, &reader.next, before, reader.in_branches())),
    }
}

/// Reads a number of tries.
fn read_factor(reader: &mut Reader<'_>) -> Parsed<(u32, Span)> {
    let span = reader.advance().span;
    match reader.text_of(&span).parse() {
        Ok(tries @ 2..) => Ok((tries, span)),
        _ => Err(mistake::factor(reader.text, &span)),
    }
}

fn step(reader: &mut Reader<'_>, mut factor: Option<(u32, Span)>) -> Parsed<Unit> {
    let span = reader.advance().span;
    let name = reader.text_of(&span);
    reader.declare(name, &span, true)?;
    let mut branches: Option<(Vec<Branch>, Span)> = None;
    loop {
        match (reader.next.kind, &factor, &branches) {
            (Kind::Star, Some((_, first)), _) => {
                return Err(mistake::second_factor(&reader.next.span, first));
            }
            (Kind::Star, None, _) => {
                let star = reader.advance().span;
                if reader.next.kind != Kind::Number {
                    return Err(mistake::no_factor(reader.text, &reader.next, &star));
                }
                factor = Some(read_factor(reader)?);
            }
            (Kind::Open('('), _, Some((_, first))) => {
                return Err(mistake::branches_twice(&reader.next.span, first));
            }
            (Kind::Open('('), _, None) => branches = Some(read_branches(reader, false)?),
            (Kind::Open('['), ..) => {
                return Err(mistake::evaluation_of_step(reader.text, &reader.next.span, &span));
            }
            _ => break,
        }
    }
    let tries = factor.map(|(tries, _)| tries);
    let branches = branches.map(|(branches, _)| branches).unwrap_or_default();
    Ok(Unit::Step(Named { name: name.into(), span, tries, branches }))
}

fn group(reader: &mut Reader<'_>) -> Parsed<Part> {
    let open = reader.opens(false)?;
    let inner = sequence(reader, Before::Bracket(open))?;
    let mut span = reader.closes()?;
    // What stands side by side and nothing else makes the group's members.
    let members = match &inner.links[..] {
        [Link { unit: Unit::Group(group), .. }] if group.is_bare() => group.members.len(),
        _ => 1,
    };
    let mut evaluation = None;
    let mut branches: Option<(Vec<Branch>, Span)> = None;
    loop {
        match (reader.next.kind, evaluation, &branches) {
            (Kind::Open('['), None, None) => {
                evaluation = Some(read_evaluation(reader, members)?);
                span.end = reader.last.end;
            }
            (Kind::Open('['), ..) => return Err(mistake::late_evaluation(&reader.next.span)),
            (Kind::Star, ..) => return Err(mistake::factor_of_group(&reader.next.span)),
            (Kind::Open('('), _, Some((_, first))) => {
                return Err(mistake::branches_twice(&reader.next.span, first));
            }
            (Kind::Open('('), _, None) => branches = Some(read_branches(reader, true)?),
            _ => break,
        }
    }
    let branches = branches.map(|(branches, _)| branches).unwrap_or_default();
    Ok(group_of(inner, evaluation, branches, span))
}

/// Reads `[any]`, for so many members.
fn read_evaluation(reader: &mut Reader<'_>, members: usize) -> Parsed<Evaluation> {
    let open = reader.enters(false).span;
    if reader.next.kind == Kind::End {
        return Err(mistake::unclosed(reader.text, &open));
    }
    let name = reader.word(Kind::Name)?;
    let mut span = name.clone();
    let mut number = None;
    if reader.next.kind == Kind::Open('(') {
        reader.enters(false);
        let digits = reader.word(Kind::Number)?;
        let value = reader.text_of(&digits).parse();
        number = Some(value.map_err(|_| mistake::huge(reader.text, &digits))?);
        span.end = reader.closes()?.end;
    }
    let wrong = |e: Error| FlowError::new(&span, e.message(), e.advice().unwrap_or_default());
    let evaluation = Evaluation::named(reader.text_of(&name), number).map_err(wrong)?;
    if let Evaluation::AtLeast(wanted) = evaluation
        && wanted as usize > members
    {
        return Err(mistake::unreachable(&span, wanted, members));
    }
    if !matches!(reader.next.kind, Kind::Close(_) | Kind::End) {
        return Err(mistake::malformed_evaluation(reader.text, &reader.next));
    }
    reader.closes()?;
    Ok(evaluation)
}

fn read_branches(reader: &mut Reader<'_>, of_group: bool) -> Parsed<(Vec<Branch>, Span)> {
    let open = reader.opens(true)?.span;
    if reader.next.kind == Kind::Close(')') {
        return Err(mistake::no_branches(&(open.start..reader.next.span.end)));
    }
    let mut branches: Vec<Branch> = Vec::new();
    let mut labels: HashMap<&str, Span> = HashMap::new();
    loop {
        let (label, span) = read_label(reader, of_group)?;
        if let Some(first) = labels.insert(label, span.clone()) {
            return Err(mistake::label_twice(label, &span, &first));
        }
        let arrow = reader.advance();
        let piped = arrow.kind == Kind::Pipe;
        let flow = sequence(reader, Before::Operator(arrow))?;
        branches.push(Branch { label: label.into(), span, piped, flow });
        if reader.next.kind != Kind::Comma {
            return Ok((branches, reader.closes()?));
        }
        let comma = reader.advance().span;
        match reader.next.kind {
            Kind::Close(')') => return Err(mistake::no_branch(&comma, "after")),
            Kind::Comma => return Err(mistake::no_branch(&reader.next.span, "before")),
            _ => {}
        }
    }
}

/// Reads the label of a branch, which an arrow follows.
fn read_label<'a>(reader: &mut Reader<'a>, of_group: bool) -> Parsed<(&'a str, Span)> {
    let (kind, after) = (reader.next.kind, reader.second());
    let span = reader.next.span.clone();
    let label = reader.text_of(&span);
    match kind {
        Kind::Number if after.kind == Kind::Star => {
            return Err(mistake::no_label(reader.text, &reader.next));
        }
        Kind::Number if label.len() > 1 => return Err(mistake::bad_label(reader.text, &span)),
        Kind::Number if !after.kind.is_arrow() => {
            return Err(mistake::bare_label(reader.text, &span, &after));
        }
        Kind::Name if matches!(after.kind, Kind::Unknown | Kind::Directive) => {
            return Err(mistake::unknown(reader.text, &after.span));
        }
        Kind::Name if !after.kind.is_arrow() => {
            return Err(mistake::no_label(reader.text, &reader.next));
        }
        Kind::Comma => return Err(mistake::no_branch(&span, "before")),
        Kind::End | Kind::Close(_) => return Err(reader.stray()),
        Kind::Number | Kind::Name => {}
        _ => return Err(mistake::no_label(reader.text, &reader.next)),
    }
    if of_group && !matches!(label, "0" | "1") {
        return Err(mistake::label_of_group(label, &span));
    }
    if kind == Kind::Name {
        reader.declare(label, &span, false)?;
    }
    reader.advance();
    Ok((label, span))
}

/// Makes a unit of a group in brackets, unless it is nothing but what stands in them.
fn group_of(
    mut inner: Sequence,
    evaluation: Option<Evaluation>,
    branches: Vec<Branch>,
    span: Span,
) -> Part {
    if let [Link { unit: Unit::Group(group), .. }] = &inner.links[..]
        && group.is_bare()
        && let Some(Link { unit: Unit::Group(group), .. }) = inner.links.pop()
    {
        return Part::Unit(Unit::Group(Group { evaluation, branches, span, ..group }));
    }
    if evaluation.is_none() && branches.is_empty() {
        return Part::Flow(inner);
    }
    Part::Unit(Unit::Group(Group { members: vec![inner], evaluation, branches, span }))
}
