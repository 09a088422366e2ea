//! What the status of an answer means for a step.

use crate::error::{Error, ErrorKind, Result};

/// What an answer with some status is for a step.
#[non_exhaustive]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Meaning {
    /// The step is well; the body is its value.
    Success,
    /// The step says no: it is not tried again.
    Failure,
    /// An exception of kind `http`: tried again where a retry says so.
    Retry,
}

/// What each status means: 2xx is success; 408, 425 and 429 are to be tried again; every other 4xx
/// is a failure; all else is to be tried again. What is set goes before that, and a status before
/// its class.
///
/// # Examples
/// ```
/// use railbus::steps::http::{Meaning, Statuses};
///
/// let statuses = Statuses::default().success([404])?.failure(["5xx"])?.retry([503])?;
/// assert_eq!(statuses.meaning(404), Meaning::Success);
/// assert_eq!((statuses.meaning(500), statuses.meaning(503)), (Meaning::Failure, Meaning::Retry));
/// assert_eq!((statuses.meaning(201), statuses.meaning(429)), (Meaning::Success, Meaning::Retry));
/// assert!(Statuses::default().success(["2xx"])?.failure(["2xx"]).is_err());
/// # Ok::<(), railbus::Error>(())
/// ```
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Statuses(Vec<(Which, Meaning)>);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Which {
    One(u16),
    /// By its first digit.
    Class(u16),
}

impl Statuses {
    /// Takes these as success: numbers from 100 to 599, or classes such as `2xx`.
    ///
    /// # Errors
    /// Returns a config error if one is neither, or has another meaning already.
    pub fn success(self, which: impl IntoIterator<Item = impl ToString>) -> Result<Self> {
        self.all(which, Meaning::Success)
    }

    /// Takes these as failure.
    ///
    /// # Errors
    /// As [`Statuses::success`].
    pub fn failure(self, which: impl IntoIterator<Item = impl ToString>) -> Result<Self> {
        self.all(which, Meaning::Failure)
    }

    /// Takes these as an exception, which can be tried again.
    ///
    /// # Errors
    /// As [`Statuses::success`].
    pub fn retry(self, which: impl IntoIterator<Item = impl ToString>) -> Result<Self> {
        self.all(which, Meaning::Retry)
    }

    fn all(self, which: impl IntoIterator<Item = impl ToString>, meaning: Meaning) -> Result<Self> {
        which.into_iter().try_fold(self, |all, one| all.set(&one.to_string(), meaning))
    }

    pub(crate) fn set(mut self, text: &str, meaning: Meaning) -> Result<Self> {
        let refuse = |why: String, hint: &'static str| {
            Err(Error::new(ErrorKind::Config, "http", why).hint(hint))
        };
        let shown = text.escape_debug();
        let Some(which) = which(text) else {
            let hint = "write a number from 100 to 599, or a class such as \"5xx\"";
            return refuse(format!("`{shown}` is not a status"), hint);
        };
        match self.0.iter().find(|(known, _)| *known == which) {
            Some((_, other)) if *other != meaning => {
                return refuse(format!("`{shown}` has two meanings"), "keep one of them");
            }
            Some(_) => {}
            None => self.0.push((which, meaning)),
        }
        Ok(self)
    }

    /// Returns what a status means.
    #[must_use]
    pub fn meaning(&self, status: u16) -> Meaning {
        let set = |wanted| self.0.iter().find(|(which, _)| *which == wanted).map(|(_, m)| *m);
        set(Which::One(status)).or_else(|| set(Which::Class(status / 100))).unwrap_or(
            match status {
                200..=299 => Meaning::Success,
                // The server is too slow or too busy, or asks to come later.
                408 | 425 | 429 => Meaning::Retry,
                400..=499 => Meaning::Failure,
                _ => Meaning::Retry,
            },
        )
    }
}

fn which(text: &str) -> Option<Which> {
    let (digits, class) = match text.strip_suffix("xx") {
        Some(digits) => (digits, true),
        None => (text, false),
    };
    // A sign is no part of a status.
    let number =
        digits.parse().ok().filter(|_| digits.starts_with(|c: char| c.is_ascii_digit()))?;
    match class {
        true => (1..=5).contains(&number).then_some(Which::Class(number)),
        false => (100..=599).contains(&number).then_some(Which::One(number)),
    }
}
