//! When a group of steps has succeeded.

use crate::error::{Error, ErrorKind, nearest};
use std::{fmt, str::FromStr};

/// When a group succeeds, by how many of its members did.
///
/// | | all succeed | some fail | all fail | no members |
/// |---|---|---|---|---|
/// | `All` | success | failure | failure | failure |
/// | `NoneFailed` | success | failure | failure | success |
/// | `Any` | success | success | failure | failure |
/// | `NotAllFailed` | success | success | failure | success |
/// | `AtLeast(n)` | by count | by count | failure, unless n is 0 | failure, unless n is 0 |
/// | `Percent(p)` | success | by share | failure, unless p is 0 | failure, unless p is 0 |
/// | `Majority` | success | more than half | failure | failure |
///
/// # Examples
/// ```
/// use railbus::pipeline::Evaluation;
///
/// let most: Evaluation = "percent(75)".parse()?;
/// assert!(most.succeeds(3, 4) && !most.succeeds(2, 4));
/// assert!(Evaluation::All.is_lost(1, 4) && !Evaluation::Any.is_lost(3, 4));
/// assert_eq!(Evaluation::AtLeast(2).to_string(), "at_least(2)");
/// # Ok::<(), railbus::Error>(())
/// ```
#[non_exhaustive]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Evaluation {
    /// There are members, and all of them succeed.
    #[default]
    All,
    /// No member fails.
    NoneFailed,
    /// A member succeeds.
    Any,
    /// There are no members, or one that succeeds.
    NotAllFailed,
    /// So many succeed.
    AtLeast(u32),
    /// So many in a hundred succeed.
    Percent(u32),
    /// More succeed than fail.
    Majority,
}

const FORMS: &str = "all, none_failed, any, not_all_failed, at_least(2), percent(50), majority";
const NAMES: [&str; 7] =
    ["all", "none_failed", "any", "not_all_failed", "at_least", "percent", "majority"];

impl Evaluation {
    /// Tells whether a group of `total` members succeeds of which so many did.
    #[must_use]
    pub fn succeeds(self, succeeded: usize, total: usize) -> bool {
        match self {
            Self::All => total > 0 && succeeded == total,
            Self::NoneFailed => succeeded == total,
            Self::Any => succeeded > 0,
            Self::NotAllFailed => total == 0 || succeeded > 0,
            Self::AtLeast(n) => succeeded as u64 >= u64::from(n),
            Self::Percent(0) => true,
            Self::Percent(p) => {
                total > 0 && succeeded as u128 * 100 >= u128::from(p) * total as u128
            }
            Self::Majority => succeeded > total - succeeded,
        }
    }

    /// Tells whether a group of `total` members can't succeed any more, since so many failed.
    #[must_use]
    pub fn is_lost(self, failed: usize, total: usize) -> bool {
        !self.succeeds(total.saturating_sub(failed), total)
    }
}

impl fmt::Display for Evaluation {
    /// Writes it as it is in the text of a flow.
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

    /// Reads one as it is in the text of a flow.
    ///
    /// # Errors
    /// Returns a config error that names the known ones.
    fn from_str(text: &str) -> Result<Self, Error> {
        let text = text.trim();
        let (name, number) = match text.strip_suffix(')').and_then(|text| text.split_once('(')) {
            Some((name, number)) => (name.trim(), number.trim().parse::<u32>().ok()),
            None => (text, None),
        };
        let has_number = text.ends_with(')');
        Ok(match (name, number, has_number) {
            ("all", None, false) => Self::All,
            ("none_failed", None, false) => Self::NoneFailed,
            ("any", None, false) => Self::Any,
            ("not_all_failed", None, false) => Self::NotAllFailed,
            ("majority", None, false) => Self::Majority,
            ("at_least", Some(n), _) => Self::AtLeast(n),
            ("percent", Some(p @ 0..=100), _) => Self::Percent(p),
            _ => {
                let why = format!("`{}` does not say when a group succeeds", text.escape_debug());
                let near = nearest(name, NAMES.into_iter());
                let near = near.map(|near| format!("did you mean `{near}`? ")).unwrap_or_default();
                let error = Error::new(ErrorKind::Config, "evaluation", why);
                return Err(error.hint(format!("{near}it is one of {FORMS}")));
            }
        })
    }
}
