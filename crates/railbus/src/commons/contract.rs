//! The contract of what a fleet has in common.

use crate::error::Result;
use async_trait::async_trait;
use std::time::Duration;

/// What the members of a fleet have in common beside events: marks of what was handled, and buckets of
/// tokens. A backend that stores has it ([`Bus::commons`](crate::Bus::commons)); [`Local`](super::Local)
/// is that of one process.
///
/// A mark is claimed for a lease by a holder, who commits it or releases it. Its lease and its window
/// are by the clock of the store, so that those of members don't matter. Each call is atomic, and one
/// whose answer was lost can be made again.
///
/// # Examples
/// ```
/// use railbus::commons::{Claim, Commons, Draw, Grant, Local, Mark};
/// use std::time::Duration;
///
/// # tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(async {
/// let (commons, second) = (Local::default(), Duration::from_secs(1));
/// let mark = Mark { space: "billing/charge", key: "order-1" };
/// assert_eq!(commons.claim(mark, "a", second).await?, Claim::Mine);
/// assert!(matches!(commons.claim(mark, "b", second).await?, Claim::Held(_)));
/// assert!(commons.commit(mark, "a", second).await?);
/// assert_eq!(commons.claim(mark, "b", second).await?, Claim::Done);
///
/// let (rate, burst, ago) = (1.0, 2, Duration::ZERO);
/// let draw = Draw { rate, burst, want: 5, back: 0, came: 0, ago };
/// assert_eq!(commons.draw("mails", draw).await?, Grant::Now(2));
/// assert!(matches!(commons.draw("mails", draw).await?, Grant::In(wait) if wait <= second));
/// # Ok::<(), railbus::Error>(()) }).unwrap();
/// ```
#[async_trait]
pub trait Commons: Send + Sync + 'static {
    /// Claims a mark for as long as the lease; a holder that has it extends it.
    async fn claim(&self, mark: Mark<'_>, holder: &str, lease: Duration) -> Result<Claim>;

    /// Marks it as done for the window, if the holder has it still or nobody has; tells whether that is
    /// so. Again is fine.
    async fn commit(&self, mark: Mark<'_>, holder: &str, window: Duration) -> Result<bool>;

    /// Gives a claim back, if the holder has it still. Again is fine.
    async fn release(&self, mark: Mark<'_>, holder: &str) -> Result<()>;

    /// Waits until the mark may have changed, for at most this time (default: a tenth of a second).
    async fn wait(&self, mark: Mark<'_>, most: Duration) {
        let _ = mark;
        tokio::time::sleep(most.min(Duration::from_millis(100))).await;
    }

    /// Takes tokens out of a bucket, which is full when it is first asked for; one that nobody asks for
    /// is forgotten once it is full.
    async fn draw(&self, bucket: &str, draw: Draw) -> Result<Grant>;
}

/// What is marked: a key, in a space that others have no keys in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Mark<'a> {
    /// Whose keys they are.
    pub space: &'a str,
    /// What is done once.
    pub key: &'a str,
}

/// What came of a claim.
#[non_exhaustive]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Claim {
    /// It is the holder's.
    Mine,
    /// Another holder has it, for this long at most unless it extends it.
    Held(Duration),
    /// It was committed within its window.
    Done,
}

/// What is asked of a bucket of tokens.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Draw {
    /// How many tokens are added a second.
    pub rate: f64,
    /// How many it holds.
    pub burst: u32,
    /// How many are wanted at most.
    pub want: u32,
    /// How many of those drawn before were not used, and go back.
    pub back: u32,
    /// How many of those drawn before were used: at that time it had room for as many.
    pub came: u32,
    /// How long ago that was.
    pub ago: Duration,
}

impl Draw {
    /// Returns what is in the bucket after so long, and what of it is granted.
    ///
    /// # Examples
    /// ```
    /// use railbus::commons::{Draw, Grant};
    /// use std::time::Duration;
    ///
    /// let draw = Draw { rate: 2.0, burst: 10, want: 3, back: 0, came: 0, ago: Duration::ZERO };
    /// assert_eq!(draw.on(0.0, Duration::from_secs(1)), (0.0, Grant::Now(2)));
    /// assert_eq!(draw.on(0.0, Duration::ZERO), (0.0, Grant::In(Duration::from_millis(500))));
    /// // What was used can't have been in it at that time; what was added since can.
    /// let used = Draw { came: 8, want: 10, ago: Duration::from_secs(1), ..draw };
    /// assert_eq!(used.on(10.0, Duration::from_secs(9)), (0.0, Grant::Now(4)));
    /// ```
    #[must_use]
    pub fn on(&self, level: f64, passed: Duration) -> (f64, Grant) {
        let (burst, came) = (f64::from(self.burst), f64::from(self.came));
        let since = self.ago.min(passed);
        let add = |level: f64, time: Duration| (level + self.rate * time.as_secs_f64()).min(burst);
        let then = add(level, passed - since) + f64::from(self.back);
        let level = add(then.min((burst - came).max(0.0)), since);
        if level < 1.0 {
            let wait = (1.0 - level) / self.rate;
            // A rate of next to nothing waits for longer than a Duration has.
            return (level, Grant::In(Duration::try_from_secs_f64(wait).unwrap_or(Duration::MAX)));
        }
        let most = f64::from(self.want.max(1));
        let granted = level.floor().min(most);
        // It is whole, and no more than was wanted.
        #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)]
        let count = granted as u32;
        (level - granted, Grant::Now(count))
    }
}

/// What a bucket grants.
#[non_exhaustive]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Grant {
    /// So many tokens, at least one.
    Now(u32),
    /// None; the next one is there after this time.
    In(Duration),
}
