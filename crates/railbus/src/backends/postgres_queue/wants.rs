//! Interests as the server asks them: patterns written as its own.

use crate::{predicate::Interest, topic::Pattern};
use serde_json::{Value, json};

/// An interest as two lists of the same length, of types and topics; neither says that all is
/// wanted.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Wants {
    pub(super) types: Option<Vec<Option<String>>>,
    pub(super) topics: Option<Vec<Option<String>>>,
}

impl Wants {
    /// Writes an interest.
    pub(super) fn of(interest: &Interest) -> Self {
        let part = |text: &Option<String>| text.as_deref().filter(|t| *t != "*").map(translate);
        let pairs: Vec<_> =
            interest.0.iter().map(|c| (part(&c.event_type), part(&c.topic))).collect();
        if pairs.contains(&(None, None)) {
            return Self { types: None, topics: None };
        }
        let (types, topics) = pairs.into_iter().unzip();
        Self { types: Some(types), topics: Some(topics) }
    }

    /// Writes named interests as JSON.
    pub(super) fn named(groups: &[(String, Interest)]) -> Value {
        let one = |(name, interest): &(String, Interest)| {
            let Self { types, topics } = Self::of(interest);
            json!({ "name": name.replace('\0', "\u{fffd}"), "types": types, "topics": topics })
        };
        Value::Array(groups.iter().map(one).collect())
    }
}

/// Writes a pattern: `=` before a whole name, `%` before a pattern of LIKE, `~` before a regular
/// expression, which means the same.
fn translate(pattern: &str) -> String {
    if pattern.contains('\0') {
        // No name has it, and the server takes no text that does.
        return "~(?!)".into();
    }
    if Pattern::new(pattern).is_exact() {
        return format!("={pattern}");
    }
    if !pattern.contains('[') {
        let mut like = String::from("%");
        for c in pattern.chars() {
            match c {
                '*' => like.push('%'),
                '?' => like.push('_'),
                '%' | '_' | '\\' => like.extend(['\\', c]),
                c => like.push(c),
            }
        }
        return like;
    }
    let mut regex = String::from("~^");
    let mut rest = pattern;
    while let Some(c) = rest.chars().next() {
        rest = &rest[c.len_utf8()..];
        match c {
            '*' => regex.push_str(".*"),
            '?' => regex.push('.'),
            '[' => match set(rest) {
                Some((members, after)) => {
                    regex.push_str(&members);
                    rest = after;
                }
                None => regex.push_str(&literal('[')),
            },
            c => regex.push_str(&literal(c)),
        }
    }
    regex.push('$');
    regex
}

/// Writes a character that stands for itself.
fn literal(c: char) -> String {
    format!("\\U{:08x}", u32::from(c))
}

/// Writes a set as alternatives, and returns what follows it; none if it is never closed.
fn set(rest: &str) -> Option<(String, &str)> {
    let negated = rest.starts_with('!');
    let start = usize::from(negated);
    let search = start + usize::from(rest[start..].starts_with(']'));
    let end = rest[search..].find(']').map(|at| at + search)?;
    let members: Vec<char> = rest[start..end].chars().collect();
    let (mut inside, mut at) = (String::new(), 0);
    while at < members.len() {
        let (low, high) = match members[at..] {
            [low, '-', high, ..] => (low, high),
            [one, ..] => (one, one),
            [] => break,
        };
        at += if members[at..].len() > 2 && members[at + 1] == '-' { 3 } else { 1 };
        if low < high {
            inside += &format!("{}-{}", literal(low), literal(high));
        } else if low == high {
            inside += &literal(low);
        }
    }
    let set = match (negated, inside.is_empty()) {
        (false, false) => format!("[{inside}]"),
        (true, false) => format!("[^{inside}]"),
        (false, true) => "(?!)".into(),
        (true, true) => ".".into(),
    };
    Some((set, &rest[end + 1..]))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::predicate::Clause;

    fn one(event_type: &str) -> Interest {
        Interest(vec![Clause { event_type: Some(event_type.into()), topic: None }])
    }

    #[test]
    fn patterns_are_written_as_the_server_has_them() {
        let written = |pattern: &str| Wants::of(&one(pattern)).types.unwrap()[0].clone().unwrap();
        assert_eq!(written("order.placed"), "=order.placed");
        assert_eq!(written("50%_*?\\"), r"%50\%\_%_\\");
        assert_eq!(written("[!a-c]"), r"~^[^\U00000061-\U00000063]$");
        assert_eq!(written("[x"), r"~^\U0000005b\U00000078$");
        assert_eq!(written("[z-a]"), "~^(?!)$");
        assert_eq!(written("[!z-a]"), "~^.$");
    }

    #[test]
    fn all_needs_no_list() {
        let all = Wants { types: None, topics: None };
        assert_eq!(Wants::of(&Interest::all()), all);
        assert_eq!(Wants::of(&one("*")), all);
        assert_ne!(Wants::of(&Interest(Vec::new())), all);
    }
}
