//! Where a subscription is kept, so that it is found by what its predicate pins.

use super::grams::Gram;
use crate::{
    predicate::Clause,
    topic::{Pattern, literals},
};
use std::sync::Arc;

/// The longest beginning or end that is looked up: its length is a bit of a word.
pub(super) const PART_MAX: usize = 63;

/// Where a subscription may be kept.
#[derive(Debug, PartialEq)]
pub(super) enum Place {
    /// Among those that are asked for every event.
    Rest,
    Pinned(Of, Part),
}

/// Which name a part belongs to.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Of {
    Type,
    Topic,
}

/// What is fixed in a name.
#[derive(Debug, PartialEq)]
pub(super) enum Part {
    Exact(Arc<str>),
    Prefix(Arc<str>),
    Suffix(Arc<str>),
    Inner(Gram),
}

/// Returns where what this clause wants may be kept, the best first, at least one place: whoever
/// looks at all of them for a name finds it at any of them.
pub(super) fn places(clause: &Clause) -> Vec<Place> {
    let texts = [(Of::Type, &clause.event_type), (Of::Topic, &clause.topic)];
    let pinned = texts.into_iter().filter_map(|(of, text)| Some((of, parts(text.as_deref()?))));
    let best = pinned.max_by_key(|(of, parts)| match (parts.first(), of) {
        (Some(Part::Exact(_)), Of::Type) => usize::MAX,
        (Some(Part::Exact(_)), Of::Topic) => usize::MAX - 1,
        (Some(Part::Prefix(part) | Part::Suffix(part)), _) => part.len(),
        (Some(Part::Inner(gram)), _) => gram.len(),
        (None, _) => 0,
    });
    let (of, parts) = best.unwrap_or((Of::Type, Vec::new()));
    // To look at every place of every name costs more than to ask a few each time.
    let rest = matches!(parts.first(), None | Some(Part::Inner(_))).then_some(Place::Rest);
    rest.into_iter().chain(parts.into_iter().map(|part| Place::Pinned(of, part))).collect()
}

/// Returns what is fixed in every name that the pattern matches: its ends, the longer one first,
/// then pieces of what stands between.
fn parts(text: &str) -> Vec<Part> {
    if Pattern::new(text).is_exact() {
        return vec![Part::Exact(text.into())];
    }
    let runs = literals(text);
    let prefix = runs.first().filter(|run| run.start == 0).map_or("", |run| &text[run.clone()]);
    let prefix = &prefix[..prefix.floor_char_boundary(PART_MAX)];
    let suffix = runs.last().filter(|run| run.end == text.len());
    let suffix = suffix.map_or("", |run| &text[run.clone()]);
    let suffix = &suffix[suffix.ceil_char_boundary(suffix.len().saturating_sub(PART_MAX))..];
    let mut ends = vec![Part::Prefix(prefix.into()), Part::Suffix(suffix.into())];
    if prefix.len() < suffix.len() {
        ends.swap(0, 1);
    }
    ends.retain(|end| matches!(end, Part::Prefix(part) | Part::Suffix(part) if !part.is_empty()));
    let inner = runs.iter().filter(|run| run.start != 0 && run.end != text.len());
    let inner: Vec<_> = inner.map(|run| &text[run.clone()]).collect();
    ends.into_iter().chain(Gram::all(&inner).into_iter().map(Part::Inner)).collect()
}
