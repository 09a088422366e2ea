//! How often and how soon something that failed is tried again.

use crate::error::{Error, ErrorKind, Result, causes, nearest};
#[cfg(feature = "testing")]
use crate::pretend;
use serde_json::{Map, Value};
use std::{any::type_name, error::Error as StdError, fmt, sync::Arc, time::Duration};

/// A retry policy, the same type for subscriptions, publishers and steps.
///
/// The first try counts: `attempts(3)` runs a thing at most three times. The wait before try
/// n + 1 is `backoff_factor * 2^(n-1)` seconds, at most `max_backoff`; there is none after the
/// last try.
///
/// # Examples
/// ```
/// use railbus::Retry;
/// use std::{io, time::Duration};
///
/// let retry = Retry::attempts(4)
///     .backoff(Duration::from_secs(1))
///     .max_backoff(Duration::from_secs(3))
///     .jitter(0.0)
///     .on::<io::Error>()
///     .on_kind("timeout")
///     .on_error(|error| error.to_string().contains("busy"));
/// assert_eq!((retry.max_attempts(), retry.wait_after(4)), (4, None));
/// assert_eq!([1, 2, 3].map(|n| retry.wait_after(n).unwrap().as_secs()), [1, 2, 3]);
/// assert!(retry.covers("error", &io::Error::other("gone")));
/// assert!(!retry.covers("error", &std::fmt::Error));
/// ```
#[derive(Clone, Debug, PartialEq)]
pub struct Retry {
    max_attempts: u32,
    factor: Duration,
    max_backoff: Duration,
    // How much of a wait it may be shorter by, from 0 to 1.
    jitter: f64,
    // Which errors are tried again: any of these, or all if there are none.
    which: Vec<Which>,
}

/// A choice of errors.
#[derive(Clone)]
enum Which {
    Kind(String),
    Error(&'static str, Arc<Test>),
}

type Test = dyn Fn(&(dyn StdError + 'static)) -> bool + Send + Sync;

impl PartialEq for Which {
    fn eq(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Kind(a), Self::Kind(b)) => a == b,
            (Self::Error(a, _), Self::Error(b, _)) => a == b,
            _ => false,
        }
    }
}

impl fmt::Debug for Which {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Kind(name) => write!(f, "kind {name}"),
            Self::Error(name, _) => f.write_str(name),
        }
    }
}

impl Default for Retry {
    /// Three attempts, half a second doubling up to 30 seconds, no jitter.
    fn default() -> Self {
        Self {
            max_attempts: 3,
            factor: Duration::from_millis(500),
            max_backoff: Duration::from_secs(30),
            jitter: 0.0,
            which: Vec::new(),
        }
    }
}

impl Retry {
    /// Allows `max_attempts` tries, the first one included; 0 is taken as 1.
    #[must_use]
    pub fn attempts(max_attempts: u32) -> Self {
        Self { max_attempts: max_attempts.max(1), ..Self::default() }
    }

    /// Changes how often it is tried, and nothing else.
    pub(crate) fn again(mut self, max_attempts: u32) -> Self {
        self.max_attempts = max_attempts.max(1);
        self
    }

    /// Sets the wait after the first try (default 0.5 s), which doubles with each more.
    #[must_use]
    pub fn backoff(mut self, factor: Duration) -> Self {
        self.factor = factor;
        self
    }

    /// As [`Retry::backoff`], by the name that a policy's map and an app file have for it.
    ///
    /// # Examples
    /// ```
    /// use railbus::Retry;
    /// use std::time::Duration;
    ///
    /// let second = Duration::from_secs(1);
    /// assert_eq!(Retry::attempts(3).backoff_factor(second), Retry::attempts(3).backoff(second));
    /// ```
    #[must_use]
    pub fn backoff_factor(self, factor: Duration) -> Self {
        self.backoff(factor)
    }

    /// Sets the longest wait (default 30 s).
    #[must_use]
    pub fn max_backoff(mut self, max: Duration) -> Self {
        self.max_backoff = max;
        self
    }

    /// Makes each wait shorter by a random share of it, up to this one: `0.2` spreads waits evenly
    /// between 80 and 100 of a hundred (default none; `true` is a half).
    #[must_use]
    pub fn jitter(mut self, share: impl IntoJitter) -> Self {
        self.jitter = share.into_jitter();
        self
    }

    /// Tries again only errors that are an `E` or were caused by one, beside others chosen so
    /// (default: every error).
    ///
    /// `anyhow::Error` hides the type of the error it was made from, but not those of its causes:
    /// return the error itself, add `.context(..)` to it, give the exception a kind for
    /// [`Retry::on_kind`], or look at its text with [`Retry::on_error`].
    #[must_use]
    pub fn on<E: StdError + 'static>(mut self) -> Self {
        let is = |error: &(dyn StdError + 'static)| causes(error).any(|cause| cause.is::<E>());
        self.which.push(Which::Error(type_name::<E>(), Arc::new(is)));
        self
    }

    /// Tries again only exceptions of this kind, beside others chosen so: `timeout`, `exit`, or
    /// what a step named (default: every error).
    #[must_use]
    pub fn on_kind(mut self, kind: impl Into<String>) -> Self {
        self.which.push(Which::Kind(kind.into()));
        self
    }

    /// Tries again only errors that `test` accepts, beside others chosen so (default: every error).
    #[must_use]
    pub fn on_error(
        mut self,
        test: impl Fn(&(dyn StdError + 'static)) -> bool + Send + Sync + 'static,
    ) -> Self {
        self.which.push(Which::Error("a test", Arc::new(test)));
        self
    }

    /// Tells whether this error, an exception of that kind, is among those tried again.
    #[must_use]
    pub fn covers(&self, kind: &str, error: &(dyn StdError + 'static)) -> bool {
        let covered = |which: &Which| match which {
            Which::Kind(name) => name == kind,
            Which::Error(_, test) => test(error),
        };
        self.which.is_empty() || self.which.iter().any(covered)
    }

    /// Returns how many tries are allowed, the first one included.
    #[must_use]
    pub fn max_attempts(&self) -> u32 {
        self.max_attempts
    }

    /// Returns the longest of its waits; none if there is but one try.
    pub(crate) fn longest_wait(&self) -> Option<Duration> {
        (self.max_attempts > 1).then(|| self.full_wait(self.max_attempts - 1))
    }

    /// Returns the wait after a try, of which nothing is left to chance.
    fn full_wait(&self, attempt: u32) -> Duration {
        let doublings = attempt.saturating_sub(1).min(31);
        self.factor.saturating_mul(1 << doublings).min(self.max_backoff)
    }

    /// Returns how long to wait after try `attempt` (from 1) failed; `None` if it was the last.
    #[must_use]
    pub fn wait_after(&self, attempt: u32) -> Option<Duration> {
        if attempt >= self.max_attempts {
            return None;
        }
        let wait = self.full_wait(attempt);
        if self.jitter == 0.0 {
            return Some(wait);
        }
        Some(wait.mul_f64(1.0 - self.jitter * share()))
    }
}

/// Returns a share by chance, from 0 to 1.
fn share() -> f64 {
    #[cfg(feature = "testing")]
    if let Some(random) = pretend::random() {
        return (random >> 11) as f64 / (1_u64 << 53) as f64;
    }
    rand::random()
}

/// How much of a wait is left to chance: a share from 0 to 1, to which others are moved, or whether
/// half of it is.
///
/// # Examples
/// ```
/// use railbus::retry::IntoJitter;
///
/// assert_eq!((0.2.into_jitter(), true.into_jitter(), 7.0.into_jitter()), (0.2, 0.5, 1.0));
/// ```
pub trait IntoJitter {
    /// Makes it a share from 0 to 1.
    fn into_jitter(self) -> f64;
}

impl IntoJitter for f64 {
    fn into_jitter(self) -> f64 {
        // What is no number is none.
        if self.is_nan() { 0.0 } else { self.clamp(0.0, 1.0) }
    }
}

impl IntoJitter for bool {
    fn into_jitter(self) -> f64 {
        if self { 0.5 } else { 0.0 }
    }
}

/// What says how often something is tried again: a [`Retry`], or a map with `max_attempts`,
/// `backoff_factor` (or `backoff`) and `max_backoff` (in seconds), `jitter` (a share, or whether) and
/// `retry_on` (kinds).
///
/// # Examples
/// ```
/// use railbus::{Retry, json, retry::IntoRetry};
///
/// let retry = json!({"max_attempts": 5, "backoff_factor": 0.5, "retry_on": ["timeout"]}).into_retry()?;
/// assert_eq!(retry, Retry::attempts(5).on_kind("timeout"));
/// let error = json!({"attempts": 5}).into_retry().unwrap_err();
/// assert!(error.to_string().contains("`attempts` is not a key of a retry policy"));
/// # Ok::<(), railbus::Error>(())
/// ```
#[diagnostic::on_unimplemented(
    message = "`{Self}` is not a retry policy",
    note = "write one, `Retry::attempts(3)`, or a map, `json!({{\"max_attempts\": 3}})`"
)]
pub trait IntoRetry {
    /// Makes it a policy.
    ///
    /// # Errors
    /// Returns a config error that names a key that is unknown or of the wrong kind.
    fn into_retry(self) -> Result<Retry>;
}

impl IntoRetry for Retry {
    fn into_retry(self) -> Result<Retry> {
        Ok(self)
    }
}

impl IntoRetry for Value {
    fn into_retry(self) -> Result<Retry> {
        match self {
            Value::Object(map) => map.into_retry(),
            _ => Err(wrong("retry", "must be a map", "write {\"max_attempts\": 3}")),
        }
    }
}

impl IntoRetry for Map<String, Value> {
    fn into_retry(self) -> Result<Retry> {
        const KEYS: [&str; 5] =
            ["max_attempts", "backoff_factor", "max_backoff", "jitter", "retry_on"];
        let mut retry = Retry::default();
        let has_both = self.contains_key("backoff") && self.contains_key("backoff_factor");
        for (key, value) in self {
            let seconds = || {
                let seconds = value.as_f64().and_then(|s| Duration::try_from_secs_f64(s).ok());
                seconds.ok_or_else(|| wrong(&key, "must be seconds", "write a number, such as 0.5"))
            };
            retry = match key.as_str() {
                "max_attempts" => match value.as_u64().and_then(|n| u32::try_from(n).ok()) {
                    Some(n @ 1..) => Retry { max_attempts: n, ..retry },
                    _ => return Err(wrong(&key, "must be 1 or more", "the first try counts")),
                },
                "backoff_factor" | "backoff" if has_both => {
                    return Err(wrong(
                        "backoff",
                        "is `backoff_factor`, which is there",
                        "leave one out",
                    ));
                }
                "backoff_factor" | "backoff" => retry.backoff(seconds()?),
                "max_backoff" => retry.max_backoff(seconds()?),
                "jitter" => match (value.as_bool(), value.as_f64()) {
                    (Some(jitter), _) => retry.jitter(jitter),
                    (None, Some(share @ 0.0..=1.0)) => retry.jitter(share),
                    _ => {
                        let why = "must be a share of the wait, from 0 to 1, or true or false";
                        return Err(wrong(&key, why, "write a number, such as 0.2"));
                    }
                },
                "retry_on" => match serde_json::from_value::<Vec<String>>(value) {
                    Ok(kinds) => kinds.into_iter().fold(retry, Retry::on_kind),
                    Err(_) => return Err(wrong(&key, "must be a list of kinds", "[\"timeout\"]")),
                },
                unknown => {
                    let known = KEYS.join(", ");
                    let hint = match nearest(unknown, KEYS) {
                        Some(near) => format!("did you mean `{near}`? Known: {known}"),
                        None => format!("known: {known}"),
                    };
                    return Err(wrong(unknown, "is not a key of a retry policy", &hint));
                }
            };
        }
        Ok(retry)
    }
}

fn wrong(key: &str, why: &str, hint: &str) -> Error {
    Error::new(ErrorKind::Config, "retry", format!("`{key}` {why}")).hint(hint)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn waits_double_from_the_factor_up_to_the_cap_and_end_with_the_last_try() {
        let retry = Retry::attempts(5)
            .backoff_factor(Duration::from_secs(1))
            .max_backoff(Duration::from_secs(3));
        let waits: Vec<_> = (1..=5).map(|n| retry.wait_after(n).map(|w| w.as_secs())).collect();
        assert_eq!(waits, [Some(1), Some(2), Some(3), Some(3), None]);
    }

    #[test]
    fn a_huge_attempt_number_does_not_overflow() {
        assert_eq!(Retry::attempts(u32::MAX).wait_after(4_000_000), Some(Duration::from_secs(30)));
    }

    #[test]
    fn jitter_takes_no_more_than_its_share_of_the_wait() {
        for (retry, least) in [
            (Retry::attempts(2).jitter(true), 250),
            (Retry::attempts(2).jitter(0.2), 400),
            (Retry::attempts(2).jitter(f64::NAN), 500),
            (Retry::attempts(2).jitter(9.0), 0),
        ] {
            for _ in 0..100 {
                let wait = retry.wait_after(1).expect("a second try is allowed");
                assert!((least..=500).contains(&wait.as_millis()), "{wait:?}");
            }
        }
    }

    #[test]
    fn a_map_says_backoff_by_either_name_and_jitter_as_a_share() {
        let read = |map: Value| map.into_retry();
        let second = Retry::attempts(3).backoff(Duration::from_secs(1));
        for map in [json!({"backoff": 1}), json!({"backoff_factor": 1.0})] {
            assert_eq!(read(map).expect("it is a policy"), second);
        }
        let shared = read(json!({"jitter": 0.2})).expect("it is a policy");
        assert_eq!(shared, Retry::default().jitter(0.2));
        for (map, why) in [
            (json!({"backoff": 1, "backoff_factor": 2}), "`backoff` is `backoff_factor`"),
            (json!({"jitter": 1.5}), "from 0 to 1"),
            (json!({"jitter": "x"}), "from 0 to 1"),
        ] {
            let error = read(map).expect_err(why).to_string();
            assert!(error.contains(why), "{error}");
        }
    }
}
