//! Topics, and patterns over topics and types.

use crate::error::{Error, ErrorKind, Result};
use std::{
    fmt,
    hash::{BuildHasher, Hasher},
    ops::Range,
    sync::Arc,
};

/// The longest topic and the longest type, in bytes.
pub const NAME_MAX: usize = 1024;

/// Checks that `name` can be the `what` ("topic" or "type") of an event.
///
/// # Examples
/// ```
/// use railbus::topic::{NAME_MAX, check_name};
///
/// assert!(check_name("topic", &"x".repeat(NAME_MAX)).is_ok());
/// assert!(check_name("topic", &"x".repeat(NAME_MAX + 1)).is_err());
/// assert!(check_name("type", "").is_err());
/// ```
///
/// # Errors
/// Refuses the empty name, names over [`NAME_MAX`] bytes and names with a NUL character.
pub fn check_name(what: &'static str, name: &str) -> Result<()> {
    let refused = |why: String| {
        let head: String = name.chars().take(40).collect();
        Error::new(ErrorKind::InvalidEvent, "event", why).with(what, head.escape_debug())
    };
    let refuse = |why: String| Err(refused(why));
    if name.is_empty() {
        let hint = "name it, as `shop:orders` for a topic and `order.placed` for a type";
        Err(refused(format!("the {what} is empty")).hint(hint))
    } else if name.len() > NAME_MAX {
        refuse(format!("the {what} has {} bytes; at most {NAME_MAX} are allowed", name.len()))
    } else if has_nul(name.as_bytes()) {
        refuse(format!("the {what} has a NUL character"))
    } else {
        Ok(())
    }
}

/// Looks at eight bytes at a time; names are checked whenever an event is built.
fn has_nul(name: &[u8]) -> bool {
    const LOW: u64 = u64::from_ne_bytes([0x01; 8]);
    const HIGH: u64 = u64::from_ne_bytes([0x80; 8]);
    // A bit of HIGH is left if and only if some byte is zero.
    let zero = |eight: &[u8; 8]| {
        let word = u64::from_ne_bytes(*eight);
        word.wrapping_sub(LOW) & !word & HIGH != 0
    };
    match name.last_chunk() {
        Some(last) => zero(last) || name.as_chunks().0.iter().any(zero),
        None => name.contains(&0),
    }
}

/// Hashes a name for looking subscriptions up; the same within a process only.
///
/// Not made against chosen collisions: what is kept under these hashes are the program's own
/// subscriptions, never names from outside.
pub(crate) fn name_hash(name: &str) -> u64 {
    let mut hasher = foldhash::fast::FixedState::default().build_hasher();
    hasher.write(name.as_bytes());
    hasher.finish()
}

/// A pattern with the meaning of Python's `fnmatch.fnmatchcase`.
///
/// `*` is any run of characters (also `:`, `.` and `/`), `?` any one, `[abc]`, `[a-z]` one of a
/// set, `[!abc]` one outside it. A `[` that is never closed means itself; `[*]` is a literal star.
/// Case counts. It means the same on every backend, because every backend asks this type.
///
/// # Examples
/// ```
/// use railbus::topic::Pattern;
///
/// let pattern = Pattern::new("registry:[!a]*");
/// assert!(pattern.matches("registry:bots:config") && !pattern.matches("registry:agents"));
/// assert_eq!((pattern.as_str(), pattern.is_exact()), ("registry:[!a]*", false));
/// assert!(Pattern::new("[never closed").matches("[never closed"));
/// ```
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct Pattern {
    text: Arc<str>,
    shape: Shape,
}

/// What most patterns are needs no matching character by character.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
enum Shape {
    /// Without special characters.
    Exact,
    /// With one star, at its end.
    Prefix,
    Any,
}

impl Pattern {
    /// Creates a pattern; every text is one.
    pub fn new(text: impl Into<Arc<str>>) -> Self {
        let text = text.into();
        let special = text.find(['*', '?', '[']);
        let shape = match special {
            None => Shape::Exact,
            Some(at) if text[at..] == *"*" => Shape::Prefix,
            Some(_) => Shape::Any,
        };
        Self { text, shape }
    }

    /// Tells whether only one name can match.
    #[must_use]
    pub fn is_exact(&self) -> bool {
        self.shape == Shape::Exact
    }

    /// Returns the pattern as it was written.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// Tells whether `name` matches, in time linear in its length for patterns with one star.
    #[must_use]
    pub fn matches(&self, name: &str) -> bool {
        match self.shape {
            Shape::Exact => *self.text == *name,
            Shape::Prefix => {
                name.as_bytes().starts_with(&self.text.as_bytes()[..self.text.len() - 1])
            }
            Shape::Any => glob(&self.text, name),
        }
    }
}

impl fmt::Debug for Pattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Pattern({:?})", self.text)
    }
}

impl fmt::Display for Pattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

/// Returns where the pattern has literal text, in order: every name that it matches contains it.
pub(crate) fn literals(pattern: &str) -> Vec<Range<usize>> {
    let mut runs = Vec::new();
    let (mut start, mut at) = (0, 0);
    while let Some(c) = pattern[at..].chars().next() {
        let after = at + c.len_utf8();
        let special = match c {
            '*' | '?' => Some(after),
            '[' => set_end(&pattern[after..]).map(|end| after + end + 1),
            _ => None,
        };
        if let Some(end) = special {
            runs.push(start..at);
            start = end;
        }
        at = special.unwrap_or(after);
    }
    runs.push(start..at);
    runs.retain(|run| !run.is_empty());
    runs
}

/// Matches by trying the rest of the pattern at each place the latest star could end; earlier
/// stars never need another try, because the latest one can take up whatever they left.
fn glob(pattern: &str, name: &str) -> bool {
    let (mut p, mut n) = (pattern, name);
    let mut retry: Option<(&str, &str)> = None;
    loop {
        let step = match p.chars().next() {
            Some('*') => {
                p = &p[1..];
                retry = Some((p, n));
                continue;
            }
            None if n.is_empty() => return true,
            None => None,
            Some(_) => n.chars().next().and_then(|c| one(p, c).map(|rest| (rest, c))),
        };
        match (step, retry) {
            (Some((rest, c)), _) => (p, n) = (rest, &n[c.len_utf8()..]),
            (None, Some((after_star, from))) => {
                let Some(skipped) = from.chars().next() else { return false };
                let from = &from[skipped.len_utf8()..];
                (p, n, retry) = (after_star, from, Some((after_star, from)));
            }
            (None, None) => return false,
        }
    }
}

/// Matches one character against the head of a pattern that is not a star; returns what follows.
fn one(pattern: &str, c: char) -> Option<&str> {
    let head = pattern.chars().next()?;
    let rest = &pattern[head.len_utf8()..];
    match head {
        '?' => Some(rest),
        '[' => match set_end(rest) {
            Some(end) => in_set(&rest[..end], c).then(|| &rest[end + 1..]),
            None => (c == '[').then_some(rest),
        },
        _ => (c == head).then_some(rest),
    }
}

/// Finds the `]` that closes a set; one right after `[` or `[!` is a member, not the end.
fn set_end(rest: &str) -> Option<usize> {
    let start = usize::from(rest.starts_with('!'));
    let start = start + usize::from(rest[start..].starts_with(']'));
    rest[start..].find(']').map(|i| i + start)
}

fn in_set(set: &str, c: char) -> bool {
    let (negated, set) = match set.strip_prefix('!') {
        Some(set) => (true, set),
        None => (false, set),
    };
    let members: Vec<char> = set.chars().collect();
    let (mut i, mut found) = (0, false);
    while i < members.len() {
        if i + 2 < members.len() && members[i + 1] == '-' {
            found |= (members[i]..=members[i + 2]).contains(&c);
            i += 3;
        } else {
            found |= members[i] == c;
            i += 1;
        }
    }
    found != negated
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_nul_is_found_wherever_it_stands() {
        for length in 1..40 {
            let name =
                "\u{1}\u{7f}ä".repeat(12)[..length / 4 * 4].to_owned() + &"x".repeat(length % 4);
            assert!(check_name("type", &name).is_ok(), "{name:?}");
            for at in (0..=name.len()).filter(|at| name.is_char_boundary(*at)) {
                let (before, after) = name.split_at(at);
                assert!(
                    check_name("type", &format!("{before}\0{after}")).is_err(),
                    "{length}, {at}"
                );
            }
        }
    }
}
