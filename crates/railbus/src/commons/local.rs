//! What is in common inside one process.

use super::contract::{Claim, Commons, Draw, Grant, Mark};
use crate::error::Result;
use async_trait::async_trait;
use std::{
    collections::{HashMap, VecDeque},
    fmt,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};
use tokio::{
    sync::Notify,
    time::{Instant, timeout},
};

/// How many marks are kept unless it is said.
const MARKS: usize = 100_000;

/// What is in common inside one process: it ends with it. Bounded: of the marks that are done the
/// oldest are forgotten first.
///
/// # Examples
/// ```
/// use railbus::commons::Local;
///
/// let few = Local::with_capacity(1_000);
/// assert!(format!("{few:?}").contains("1000"));
/// ```
pub struct Local {
    capacity: usize,
    marks: Mutex<Marks>,
    buckets: Mutex<HashMap<String, Bucket>>,
    changed: Notify,
}

#[derive(Default)]
struct Marks {
    all: HashMap<Arc<str>, HashMap<Arc<str>, Kept>>,
    // Those that are done, in the order in which they came to be so.
    done: VecDeque<Done>,
    made: u64,
}

/// A mark: who claimed it, or which of those that are done it is.
struct Kept {
    what: What,
    until: Instant,
}

enum What {
    Claimed(Box<str>),
    Done(u64),
}

struct Done {
    space: Arc<str>,
    key: Arc<str>,
    number: u64,
    until: Instant,
}

struct Bucket {
    level: f64,
    at: Instant,
    full: Instant,
}

impl Default for Local {
    /// Keeps 100,000 marks at most.
    fn default() -> Self {
        Self::with_capacity(MARKS)
    }
}

impl Local {
    /// Keeps so many marks of what is done at most; none counts as one.
    #[must_use]
    pub fn with_capacity(capacity: usize) -> Self {
        let (marks, buckets) = Default::default();
        Self { capacity: capacity.max(1), marks, buckets, changed: Notify::new() }
    }

    fn marks(&self) -> MutexGuard<'_, Marks> {
        self.marks.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Marks {
    fn get(&mut self, mark: Mark<'_>, now: Instant) -> Option<&mut Kept> {
        let kept = self.all.get_mut(mark.space)?.get_mut(mark.key)?;
        (kept.until > now).then_some(kept)
    }

    fn put(&mut self, mark: Mark<'_>, kept: Kept) -> (Arc<str>, Arc<str>) {
        let space = match self.all.get_key_value(mark.space) {
            Some((space, _)) => Arc::clone(space),
            None => mark.space.into(),
        };
        let key = Arc::<str>::from(mark.key);
        self.all.entry(Arc::clone(&space)).or_default().insert(Arc::clone(&key), kept);
        (space, key)
    }

    /// Forgets what is done and over, and of the rest the oldest beyond so many.
    fn tidy(&mut self, now: Instant, most: usize) {
        while let Some(oldest) = self.done.front()
            && (oldest.until <= now || self.done.len() > most)
        {
            let Some(Done { space, key, number, .. }) = self.done.pop_front() else { return };
            let Some(keys) = self.all.get_mut(&space) else { continue };
            if keys.get(&key).is_some_and(|k| matches!(k.what, What::Done(n) if n == number)) {
                keys.remove(&key);
            }
            if keys.is_empty() {
                self.all.remove(&space);
            }
        }
    }
}

/// The time from which on something is over, however long it lasts.
fn after(now: Instant, time: Duration) -> Instant {
    now.checked_add(time).unwrap_or_else(|| now + Duration::from_secs(u32::MAX.into()))
}

#[async_trait]
impl Commons for Local {
    async fn claim(&self, mark: Mark<'_>, holder: &str, lease: Duration) -> Result<Claim> {
        let now = Instant::now();
        let mut marks = self.marks();
        if let Some(kept) = marks.get(mark, now) {
            match &kept.what {
                What::Done(_) => return Ok(Claim::Done),
                What::Claimed(other) if **other != *holder => {
                    return Ok(Claim::Held(kept.until - now));
                }
                What::Claimed(_) => {}
            }
        }
        marks.put(mark, Kept { what: What::Claimed(holder.into()), until: after(now, lease) });
        Ok(Claim::Mine)
    }

    async fn commit(&self, mark: Mark<'_>, holder: &str, window: Duration) -> Result<bool> {
        let now = Instant::now();
        let mut marks = self.marks();
        match marks.get(mark, now).map(|kept| &kept.what) {
            Some(What::Claimed(other)) if **other != *holder => return Ok(false),
            Some(What::Done(_)) => return Ok(true),
            _ => {}
        }
        marks.made += 1;
        let (number, until) = (marks.made, after(now, window));
        let (space, key) = marks.put(mark, Kept { what: What::Done(number), until });
        marks.done.push_back(Done { space, key, number, until });
        marks.tidy(now, self.capacity);
        drop(marks);
        self.changed.notify_waiters();
        Ok(true)
    }

    async fn release(&self, mark: Mark<'_>, holder: &str) -> Result<()> {
        let mut marks = self.marks();
        let mine = |kept: &mut Kept| matches!(&kept.what, What::Claimed(who) if **who == *holder);
        if marks.get(mark, Instant::now()).is_some_and(mine)
            && let Some(keys) = marks.all.get_mut(mark.space)
        {
            keys.remove(mark.key);
            if keys.is_empty() {
                marks.all.remove(mark.space);
            }
        }
        drop(marks);
        self.changed.notify_waiters();
        Ok(())
    }

    async fn wait(&self, mark: Mark<'_>, most: Duration) {
        let changed = self.changed.notified();
        let claimed = self
            .marks()
            .get(mark, Instant::now())
            .is_some_and(|kept| matches!(kept.what, What::Claimed(_)));
        if claimed {
            let _ = timeout(most, changed).await;
        }
    }

    async fn draw(&self, bucket: &str, draw: Draw) -> Result<Grant> {
        let now = Instant::now();
        let mut buckets = self.buckets.lock().unwrap_or_else(PoisonError::into_inner);
        let before = buckets.get(bucket);
        let (level, passed) = before
            .map_or((f64::from(draw.burst), Duration::ZERO), |kept| (kept.level, now - kept.at));
        let (level, granted) = draw.on(level, passed);
        let fills = (f64::from(draw.burst) - level) / draw.rate;
        let full = after(now, Duration::try_from_secs_f64(fills).unwrap_or(Duration::MAX));
        if before.is_none() {
            // Asked for anew they are full again.
            buckets.retain(|_, kept| kept.full > now);
        }
        buckets.insert(bucket.to_owned(), Bucket { level, at: now, full });
        Ok(granted)
    }
}

impl fmt::Debug for Local {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Local({} marks at most)", self.capacity)
    }
}
