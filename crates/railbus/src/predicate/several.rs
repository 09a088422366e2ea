//! Several types at once.

use super::expression::Predicate;

/// Bare texts are patterns over types, of which one must match; none at all match nothing.
///
/// # Examples
/// ```
/// use railbus::{Event, Predicate};
///
/// let users = Predicate::from(["user.created", "user.deleted"]);
/// let [deleted, seen] = ["user.deleted", "user.seen"].map(|one| Event::new(one).payload(1));
/// assert!(users.matches(&deleted) && !users.matches(&seen));
/// ```
impl<const N: usize> From<[&str; N]> for Predicate {
    fn from(types: [&str; N]) -> Self {
        types[..].into()
    }
}

/// As of an array.
impl From<&[&str]> for Predicate {
    fn from(types: &[&str]) -> Self {
        let all = types.iter().map(|one| Self::from(*one));
        // No event has an empty type: it is refused as what can never match.
        all.reduce(|a, b| a | b).unwrap_or_else(|| Self::from(""))
    }
}
