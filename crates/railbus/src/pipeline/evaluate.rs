//! When a group has succeeded, judged by the flags of what ran in it.

use crate::error::{Error, ErrorKind, Result, nearest};
use std::{fmt, str::FromStr};

/// The names that the text of an evaluation may have, as messages list them.
const KNOWN: &str = "all, none_failed, any, not_all_failed, at_least(2), percent(50), majority";

/// When a group of steps side by side counts as a success.
///
/// Each member of the group has a flag of its own, success or failure; a Failure and an exception
/// are both failures. The group's evaluation makes one flag of them:
///
/// | | text | all succeed | one of two fails | all fail | no members |
/// |---|---|---|---|---|---|
/// | `All`, the default | `all` | success | failure | failure | failure |
/// | `NoneFailed` | `none_failed` | success | failure | failure | success |
/// | `Any` | `any` | success | success | failure | failure |
/// | `NotAllFailed` | `not_all_failed` | success | success | failure | success |
/// | `AtLeast(n)` | `at_least(2)` | if there are n | if one is enough | if n is 0 | if n is 0 |
/// | `Percent(p)` | `percent(50)` | success | if p <= 50 | if p is 0 | if p is 0 |
/// | `Majority` | `majority` | success | failure | failure | failure |
///
/// What as many members as there are can never come to, such as `at_least(3)` of two, is refused when
/// the pipeline is built. Nothing is rounded: 2 of 3 reach `percent(66)` and not `percent(67)`. The text of a percentage
/// goes from 1 to 100. A majority is more than half. `Display` writes the text, `FromStr` reads it.
///
/// # Examples
/// ```
/// use railbus::pipeline::Evaluation;
///
/// let enough: Evaluation = "at_least(2)".parse().unwrap();
/// assert_eq!((enough, enough.to_string().as_str()), (Evaluation::AtLeast(2), "at_least(2)"));
/// assert!(enough.succeeds(2, 3) && !enough.succeeds(1, 3));
/// assert!(enough.impossible(2, 3));
/// assert_eq!(Evaluation::default(), Evaluation::All);
/// ```
#[non_exhaustive]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Evaluation {
    /// There is a member, and every one succeeded.
    #[default]
    All,
    /// No member failed; a group without members succeeds.
    NoneFailed,
    /// At least one member succeeded.
    Any,
    /// Not every member failed; a group without members succeeds.
    NotAllFailed,
    /// At least so many members succeeded.
    AtLeast(u32),
    /// At least so many of a hundred members succeeded.
    Percent(u32),
    /// More than half of the members succeeded.
    Majority,
}

impl Evaluation {
    /// Tells whether a group of `total` members succeeds when `succeeded` of them did.
    ///
    /// # Examples
    /// ```
    /// use railbus::pipeline::Evaluation;
    ///
    /// assert!(Evaluation::Any.succeeds(1, 2) && !Evaluation::All.succeeds(1, 2));
    /// assert!(Evaluation::NoneFailed.succeeds(0, 0) && !Evaluation::All.succeeds(0, 0));
    /// ```
    #[must_use]
    pub fn succeeds(&self, succeeded: usize, total: usize) -> bool {
        // 128 bits hold a hundred times any count.
        let (good, all) = (succeeded as u128, total as u128);
        match *self {
            Self::All => total > 0 && succeeded >= total,
            Self::NoneFailed => succeeded >= total,
            Self::Any => succeeded > 0,
            Self::NotAllFailed => succeeded > 0 || total == 0,
            Self::AtLeast(n) => good >= u128::from(n),
            Self::Percent(p) => p == 0 || total > 0 && good * 100 >= u128::from(p) * all,
            Self::Majority => good * 2 > all,
        }
    }

    /// Tells whether a group of `total` members can't succeed any more once `failed` of them did.
    ///
    /// That is when a group that fails fast cancels the rest.
    ///
    /// # Examples
    /// ```
    /// use railbus::pipeline::Evaluation;
    ///
    /// assert!(Evaluation::All.impossible(1, 3) && !Evaluation::Any.impossible(2, 3));
    /// assert!(Evaluation::Majority.impossible(2, 3) && !Evaluation::Majority.impossible(1, 3));
    /// ```
    #[must_use]
    pub fn impossible(&self, failed: usize, total: usize) -> bool {
        // More successes never turn a success into a failure, so the best case decides.
        !self.succeeds(total.saturating_sub(failed), total)
    }

    /// Makes an evaluation of its name and of the number in parentheses, if there is one.
    pub(super) fn named(name: &str, number: Option<u32>) -> Result<Self> {
        let evaluation = match (name, number) {
            ("all", None) => Self::All,
            ("none_failed", None) => Self::NoneFailed,
            ("any", None) => Self::Any,
            ("not_all_failed", None) => Self::NotAllFailed,
            ("majority", None) => Self::Majority,
            ("at_least", Some(n)) => Self::AtLeast(n),
            ("percent", Some(p)) if (1..=100).contains(&p) => Self::Percent(p),
            _ => return Err(unknown(name, number)),
        };
        Ok(evaluation)
    }
}

fn unknown(name: &str, number: Option<u32>) -> Error {
    let wrong =
        |why: String, hint: String| Error::new(ErrorKind::Config, "evaluate", why).hint(hint);
    match (name, number) {
        ("at_least", _) => wrong("`at_least` needs a number".into(), "write at_least(2)".into()),
        ("percent", None) => wrong("`percent` needs a number".into(), "write percent(50)".into()),
        ("percent", Some(p)) => {
            wrong(format!("`percent({p})` is out of range"), "it goes from 1 to 100".into())
        }
        ("all" | "none_failed" | "any" | "not_all_failed" | "majority", _) => {
            wrong(format!("`{name}` takes no number"), format!("write {name}"))
        }
        _ => {
            let names = KNOWN.split(", ").map(|known| known.split('(').next().unwrap_or(known));
            let near = nearest(name, names).map(|near| format!("did you mean `{near}`? "));
            let hint = format!("{}known: {KNOWN}", near.unwrap_or_default());
            let shown: String = name.chars().take(40).collect();
            wrong(format!("there is no evaluation `{shown}`"), hint)
        }
    }
}

impl fmt::Display for Evaluation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::All => f.write_str("all"),
            Self::NoneFailed => f.write_str("none_failed"),
            Self::Any => f.write_str("any"),
            Self::NotAllFailed => f.write_str("not_all_failed"),
            Self::AtLeast(n) => write!(f, "at_least({n})"),
            Self::Percent(p) => write!(f, "percent({p})"),
            Self::Majority => f.write_str("majority"),
        }
    }
}

impl FromStr for Evaluation {
    type Err = Error;

    /// Reads the text form, `any` or `at_least(2)`.
    ///
    /// # Errors
    /// Returns an error of kind `Config` for an unknown name, with the nearest known one; for a
    /// number that is missing, out of range or not wanted.
    fn from_str(text: &str) -> Result<Self> {
        let text = text.trim();
        let Some((name, rest)) = text.split_once('(') else { return Self::named(text, None) };
        let number = rest.strip_suffix(')').map(str::trim);
        let number = number.filter(|n| n.bytes().all(|b| b.is_ascii_digit()));
        match number.and_then(|n| n.parse().ok()) {
            Some(number) => Self::named(name.trim(), Some(number)),
            None => {
                let shown: String = text.chars().take(40).collect();
                let why = format!("`{shown}` is not an evaluation");
                Err(Error::new(ErrorKind::Config, "evaluate", why).hint(format!("known: {KNOWN}")))
            }
        }
    }
}
