//! How many events are fetched a second.

use crate::{
    commons::{Commons, Draw, Grant, Local},
    credit::Credit,
    delivery::{Delivery, Outcome},
    error::{Error, ErrorKind, Result},
    middleware::{Middleware, Next, Setup},
};
use async_trait::async_trait;
use std::{
    fmt,
    sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError},
    time::Duration,
};
use tokio::time::{Instant, sleep};

/// How long at most is waited before the store is asked again: another member may have given tokens back.
const ASK_EVERY: Duration = Duration::from_secs(10);

/// The waits after the store failed, the last one for ever.
const BACKOFF: [Duration; 3] =
    [Duration::from_millis(200), Duration::from_secs(1), Duration::from_secs(5)];

/// Bounds how many events a group is given a second, by fetching later: nothing is claimed that would
/// have to wait, and a lease begins when its event may be worked on. Its place among the layers means
/// nothing.
///
/// It is a bucket of tokens: so many are added a second, and it holds so many that were not used
/// ([`RateLimit::burst`], by default one second's worth, and at least one). Each event that is fetched
/// takes one, each try of it that is a delivery as well; tries in place take none. A group fetches for
/// all its subscriptions, so the rate of any of them bounds all.
///
/// Clones share their tokens, in this process; [`RateLimit::shared`] has all members of a fleet share
/// them.
///
/// # Examples
/// ```
/// use railbus::{Bus, Event, middlewares::RateLimit};
///
/// # tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(async {
/// let (bus, mails) = (Bus::open("memory:").await?, RateLimit::per_second(50.0).burst(10));
/// for group in ["welcome", "news"] {
///     bus.on("user.created").group(group).layer(mails.clone()).run(async |_: Event| {}).await?;
/// }
/// bus.publish(Event::new("user.created")).await?;
/// bus.idle().await?;
/// assert_eq!(bus.counters().succeeded.get(), 2);
/// # Ok::<(), railbus::Error>(()) }).unwrap();
/// ```
#[derive(Clone)]
pub struct RateLimit {
    rate: f64,
    burst: u32,
    name: Option<String>,
    commons: Option<Arc<dyn Commons>>,
    // Made when the first subscription opens; the same for all clones.
    bucket: Arc<OnceLock<Arc<Bucket>>>,
}

impl RateLimit {
    /// Lets so many events through a second: more than none, such as `0.5` for one in two seconds.
    #[must_use]
    pub fn per_second(rate: f64) -> Self {
        let burst = if rate.is_finite() { rate.clamp(1.0, f64::from(u32::MAX)) } else { 1.0 };
        // Within its bounds.
        #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)]
        let burst = burst as u32;
        Self { rate, burst, name: None, commons: None, bucket: Arc::default() }
    }

    /// Lets one event through in this time, and one at once.
    ///
    /// # Examples
    /// ```
    /// use railbus::middlewares::RateLimit;
    /// use std::time::Duration;
    ///
    /// let slow = RateLimit::every(Duration::from_secs(2));
    /// assert_eq!(format!("{slow:?}"), "RateLimit(0.5 a second, up to 1 at once)");
    /// ```
    #[must_use]
    pub fn every(time: Duration) -> Self {
        Self::per_second(1.0 / time.as_secs_f64()).burst(1)
    }

    /// Sets how many may come at once after a while without any (default: those of a second); none
    /// counts as one.
    #[must_use]
    pub fn burst(mut self, most: u32) -> Self {
        (self.burst, self.bucket) = (most.max(1), Arc::default());
        self
    }

    /// Shares the tokens with all members of a fleet that name the same bucket, in the backend of the
    /// subscription's bus. While it can't be reached, nothing is fetched.
    ///
    /// # Examples
    /// ```
    /// use railbus::{Bus, Event, middlewares::RateLimit};
    ///
    /// # tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(async {
    /// let bus = Bus::open("memory:").await?;
    /// let mails = RateLimit::per_second(50.0).shared("mails");
    /// bus.on("user.created").group("welcome").layer(mails).run(async |_: Event| {}).await?;
    /// // Where the bus's backend can't: in that of another bus.
    /// let elsewhere = RateLimit::per_second(50.0).kept_in(bus.commons()?, "mails");
    /// bus.on("user.left").group("farewell").layer(elsewhere).run(async |_: Event| {}).await?;
    /// # Ok::<(), railbus::Error>(()) }).unwrap();
    /// ```
    #[must_use]
    pub fn shared(mut self, bucket: impl Into<String>) -> Self {
        (self.name, self.commons, self.bucket) = (Some(bucket.into()), None, Arc::default());
        self
    }

    /// Keeps the tokens where the caller says, such as in the [commons](crate::Bus::commons) of another
    /// bus.
    #[must_use]
    pub fn kept_in(mut self, commons: Arc<dyn Commons>, bucket: impl Into<String>) -> Self {
        self = self.shared(bucket);
        self.commons = Some(commons);
        self
    }

    fn bucket(&self, setup: &Setup<'_>) -> Result<Arc<Bucket>> {
        if let Some(bucket) = self.bucket.get() {
            return Ok(Arc::clone(bucket));
        }
        let commons = match (&self.commons, &self.name) {
            (Some(commons), _) => Arc::clone(commons),
            (None, Some(_)) => setup.commons()?,
            (None, None) => Arc::new(Local::default()),
        };
        let name = self.name.clone().unwrap_or_default();
        let bucket =
            Bucket { rate: self.rate, burst: self.burst, name, commons, owed: Mutex::default() };
        Ok(Arc::clone(self.bucket.get_or_init(|| Arc::new(bucket))))
    }
}

#[async_trait]
impl Middleware for RateLimit {
    async fn handle(&self, delivery: &Delivery, next: Next<'_>) -> Outcome {
        next.run(delivery).await
    }

    fn open(&self, setup: &mut Setup<'_>) -> Result<()> {
        if !(self.rate.is_finite() && self.rate > 0.0) {
            let why = format!("a rate of {} events a second lets nothing through", self.rate);
            return Err(Error::new(ErrorKind::Config, "subscribe", why).hint("set more than 0"));
        }
        let bucket = self.bucket(setup)?;
        setup.credit(bucket);
        Ok(())
    }
}

/// A bucket of tokens, and what this process has to say of those it took.
struct Bucket {
    rate: f64,
    burst: u32,
    name: String,
    commons: Arc<dyn Commons>,
    owed: Mutex<Owed>,
}

/// What the next draw tells of those before it.
#[derive(Clone, Copy, Debug, Default)]
struct Owed {
    back: u32,
    came: u32,
    at: Option<Instant>,
}

impl Bucket {
    fn owed(&self) -> MutexGuard<'_, Owed> {
        self.owed.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn owe(&self, more: Owed) {
        let mut owed = self.owed();
        owed.back = owed.back.saturating_add(more.back);
        owed.came = owed.came.saturating_add(more.came);
        owed.at = owed.at.max(more.at);
    }
}

#[async_trait]
impl Credit for Bucket {
    async fn take(&self, most: usize) -> usize {
        let want = u32::try_from(most).unwrap_or(u32::MAX);
        let mut failures = 0;
        loop {
            let owed = std::mem::take(&mut *self.owed());
            let Owed { back, came, at } = owed;
            let ago = at.map_or(Duration::ZERO, |at| at.elapsed());
            let draw = Draw { rate: self.rate, burst: self.burst, want, back, came, ago };
            match self.commons.draw(&self.name, draw).await {
                Ok(Grant::Now(count)) => return count as usize,
                Ok(Grant::In(wait)) => {
                    failures = 0;
                    sleep(wait.min(ASK_EVERY)).await;
                }
                Err(error) => {
                    self.owe(owed);
                    let wait = BACKOFF[failures.min(BACKOFF.len() - 1)];
                    failures += 1;
                    let bucket = &*self.name;
                    tracing::warn!(bucket, %error, again_in = ?wait, "a rate could not be asked");
                    sleep(wait).await;
                }
            }
        }
    }

    fn came(&self, taken: usize, came: usize) {
        let count = |count: usize| u32::try_from(count).unwrap_or(u32::MAX);
        let (back, came) = (count(taken.saturating_sub(came)), count(came));
        self.owe(Owed { back, came, at: Some(Instant::now()) });
    }
}

impl fmt::Debug for RateLimit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "RateLimit({} a second, up to {} at once", self.rate, self.burst)?;
        match &self.name {
            Some(name) => write!(f, ", shared as {name})"),
            None => f.write_str(")"),
        }
    }
}
