//! The part of a predicate that backends understand.

use crate::topic::Pattern;
use serde::{Deserialize, Serialize};
use std::{collections::HashSet, fmt};

/// How many pairs of clauses an `&` may make.
const CLAUSES_MAX: usize = 64;

/// The part of a predicate that backends understand: any of these clauses.
///
/// # Examples
/// ```
/// use railbus::{event_type, predicate::{Clause, Filter, Interest}, topic};
///
/// let mut interest = event_type("order.*").interest();
/// assert!(interest.add(&topic("shop").interest()));
/// assert!(!interest.add(&topic("shop").interest()), "it was there");
/// assert_eq!(interest.0[1], Clause { event_type: None, topic: Some("shop".into()) });
///
/// let filter: Filter = interest.compile();
/// assert!(filter.matches("user.created", "shop") && !filter.matches("user.created", "web"));
/// assert!(Interest::all().compile().matches("anything", "anywhere"));
/// ```
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Interest(pub Vec<Clause>);

/// A type pattern and a topic pattern that must both match; `None` matches all.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Clause {
    /// The pattern over types.
    #[serde(rename = "type", default, skip_serializing_if = "Option::is_none")]
    pub event_type: Option<String>,
    /// The pattern over topics.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub topic: Option<String>,
}

impl Clause {
    /// Keeps of each part the one that says more; what is left out is asked in process. None if
    /// the two exclude each other.
    fn and(&self, other: &Self) -> Option<Self> {
        Some(Self {
            event_type: both(self.event_type.as_ref(), other.event_type.as_ref())?,
            topic: both(self.topic.as_ref(), other.topic.as_ref())?,
        })
    }

    /// Returns at least what both want: all pairs that do not exclude each other, or just one of
    /// the two where the pairs would be too many.
    pub(super) fn all_and(left: Vec<Self>, right: Vec<Self>) -> Vec<Self> {
        let most = CLAUSES_MAX.max(left.len()).max(right.len());
        let mut pairs = Vec::new();
        for pair in left.iter().flat_map(|l| right.iter().filter_map(move |r| l.and(r))) {
            if !pairs.contains(&pair) {
                pairs.push(pair);
            }
            if pairs.len() > most {
                // What is wanted beside both is asked in process.
                return if left.len() < right.len() { left } else { right };
            }
        }
        pairs
    }

    /// Returns all clauses that cover this one, itself among them.
    fn covering(&self) -> impl Iterator<Item = Self> {
        let topics = wider(&self.topic);
        wider(&self.event_type).flat_map(move |event_type| {
            topics.clone().map(move |topic| Self { event_type: event_type.clone(), topic })
        })
    }

    fn covers(&self, other: &Self) -> bool {
        let part = |mine: &Option<String>, theirs: &Option<String>| {
            mine.is_none() || mine.as_deref() == Some("*") || mine == theirs
        };
        part(&self.event_type, &other.event_type) && part(&self.topic, &other.topic)
    }
}

/// Returns a part as those can be written that cover it.
fn wider(part: &Option<String>) -> impl Iterator<Item = Option<String>> + Clone {
    [None, Some("*".to_owned()), part.clone()].into_iter()
}

/// Returns the pattern that says more; no outer one if no name matches both.
fn both(a: Option<&String>, b: Option<&String>) -> Option<Option<String>> {
    let (Some(a), Some(b)) = (a, b) else { return Some(a.or(b).cloned()) };
    let (one, other) = (Pattern::new(a.as_str()), Pattern::new(b.as_str()));
    match (one.is_exact(), other.is_exact()) {
        (_, true) => one.matches(b).then(|| Some(b.clone())),
        (true, false) => other.matches(a).then(|| Some(a.clone())),
        (false, false) => Some(Some(a.clone())),
    }
}

impl Interest {
    /// The interest in everything.
    #[must_use]
    pub fn all() -> Self {
        Self(vec![Clause::default()])
    }

    /// Adds the clauses of `other` that are not covered yet; tells whether that added any.
    pub fn add(&mut self, other: &Self) -> bool {
        let before = self.0.len();
        for clause in &other.0 {
            if !self.0.iter().any(|mine| mine.covers(clause)) {
                self.0.push(clause.clone());
            }
        }
        self.0.len() > before
    }

    /// Returns what any of them wants, as adding one after another would, but in time that grows
    /// with their number alone.
    pub(crate) fn of_all(all: impl IntoIterator<Item = Self>) -> Self {
        let (mut interest, mut known) = (Self::default(), HashSet::new());
        for clause in all.into_iter().flat_map(|one| one.0) {
            if !clause.covering().any(|covers| known.contains(&covers)) {
                known.insert(clause.clone());
                interest.0.push(clause);
            }
        }
        interest
    }

    /// Tells whether it names types and topics in full, or takes them all.
    pub(crate) fn is_plain(&self) -> bool {
        let plain = |text: &Option<String>| {
            text.as_deref().is_none_or(|text| text == "*" || Pattern::new(text).is_exact())
        };
        self.0.iter().all(|clause| plain(&clause.event_type) && plain(&clause.topic))
    }

    /// Makes the interest ready for asking it many times.
    #[must_use]
    pub fn compile(&self) -> Filter {
        let pattern = |text: &Option<String>| {
            let text = text.as_deref().filter(|t| *t != "*");
            text.map(Pattern::new)
        };
        let mut filter = Filter::default();
        for clause in &self.0 {
            match (pattern(&clause.event_type), pattern(&clause.topic)) {
                (Some(name), None) if name.is_exact() => filter.types.push(name.as_str().into()),
                (None, Some(name)) if name.is_exact() => filter.topics.push(name.as_str().into()),
                patterns => filter.patterns.push(patterns),
            }
        }
        filter.types.sort_unstable();
        filter.topics.sort_unstable();
        filter
    }
}

impl fmt::Display for Interest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, clause) in self.0.iter().enumerate() {
            f.write_str(if i == 0 { "" } else { " | " })?;
            match (&clause.event_type, &clause.topic) {
                (None, None) => f.write_str("everything")?,
                (Some(t), None) => write!(f, "type {t}")?,
                (None, Some(t)) => write!(f, "topic {t}")?,
                (Some(t), Some(topic)) => write!(f, "type {t} & topic {topic}")?,
            }
        }
        Ok(())
    }
}

/// A compiled [`Interest`]. Types and topics that are named in full are looked up, however many they
/// are; patterns are asked one after another.
#[derive(Clone, Debug, Default)]
pub struct Filter {
    // In order.
    types: Vec<Box<str>>,
    topics: Vec<Box<str>>,
    patterns: Vec<(Option<Pattern>, Option<Pattern>)>,
}

impl Filter {
    /// Tells whether an event of this type on this topic is of interest.
    #[must_use]
    pub fn matches(&self, event_type: &str, topic: &str) -> bool {
        let part = |p: &Option<Pattern>, name: &str| p.as_ref().is_none_or(|p| p.matches(name));
        holds(&self.types, event_type)
            || holds(&self.topics, topic)
            || self.patterns.iter().any(|(t, on)| part(t, event_type) && part(on, topic))
    }

    /// Tells whether an event on this topic is of interest if its type is.
    #[cfg(any(feature = "nats", feature = "redis"))]
    pub(crate) fn may_match(&self, topic: &str) -> bool {
        let part = |on: &Option<Pattern>| on.as_ref().is_none_or(|on| on.matches(topic));
        !self.types.is_empty()
            || holds(&self.topics, topic)
            || self.patterns.iter().any(|(_, on)| part(on))
    }
}

/// Tells whether a name is among sorted ones.
fn holds(names: &[Box<str>], name: &str) -> bool {
    match names {
        [] => false,
        [one] => **one == *name,
        names => names.binary_search_by(|other| (**other).cmp(name)).is_ok(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PARTS: [Option<&str>; 5] = [None, Some("*"), Some("a"), Some("a*"), Some("b")];

    fn clauses() -> impl Iterator<Item = Clause> + Clone {
        PARTS.into_iter().flat_map(|event_type| {
            PARTS.into_iter().map(move |topic| Clause {
                event_type: event_type.map(Into::into),
                topic: topic.map(Into::into),
            })
        })
    }

    /// All interests of three clauses, of which some are there twice or covered by others.
    fn interests() -> impl Iterator<Item = Interest> {
        clauses().flat_map(|a| {
            clauses().flat_map(move |b| {
                let two = [a.clone(), b];
                clauses().map(move |c| Interest([&two[..], &[c]].concat()))
            })
        })
    }

    #[test]
    fn all_together_are_what_one_after_another_is() {
        for Interest(all) in interests() {
            let each = all.into_iter().map(|clause| Interest(vec![clause]));
            let mut one_by_one = Interest::default();
            for one in each.clone() {
                one_by_one.add(&one);
            }
            assert_eq!(Interest::of_all(each), one_by_one);
        }
    }

    #[test]
    fn a_compiled_interest_matches_what_one_of_its_clauses_does() {
        const NAMES: [&str; 4] = ["a", "b", "ab", "c"];
        for interest in interests() {
            let filter = interest.compile();
            for (event_type, topic) in NAMES.iter().flat_map(|t| NAMES.map(|on| (*t, on))) {
                let part = |part: &Option<String>, name: &str| {
                    part.as_deref().is_none_or(|part| Pattern::new(part).matches(name))
                };
                let wants = |c: &Clause| part(&c.event_type, event_type) && part(&c.topic, topic);
                let expected = interest.0.iter().any(wants);
                let told = filter.matches(event_type, topic);
                assert_eq!(told, expected, "{interest}: {event_type} on {topic}");
            }
        }
    }
}
