//! Handling what is the same once.

use super::key::Key;
use crate::{
    commons::{Claim, Commons, Local, Mark},
    delivery::{Delivery, Outcome},
    error::{Error, ErrorKind, Result},
    event::Event,
    id::new_id,
    middleware::{Middleware, Next, Setup},
};
use async_trait::async_trait;
use futures_util::FutureExt;
use std::{
    fmt,
    future::Future,
    sync::{Arc, OnceLock},
    time::Duration,
};
use tokio::{runtime::Handle, time::Instant};

/// For how long what is done is known unless it is said.
const WINDOW: Duration = Duration::from_secs(600);

/// The waits before what could not be marked is marked once more.
const AGAIN: [Duration; 2] = [Duration::from_millis(50), Duration::from_millis(250)];

/// Handles events that have the same key once within a window: effectively, since a handler whose
/// process dies before it is told that it was done is called again.
///
/// The key is the event's id, unless [`Dedup::by`] or [`Dedup::by_path`] say otherwise; an event without
/// one is handled each time. It is claimed before the handler runs, marked as done only after it
/// succeeded, and released if it failed, so that whatever comes again finds it free. Who finds it claimed
/// waits until that is decided, or for [`Dedup::patience`] at most. A claim is kept for as long as the
/// handler runs; that of a process that died ends with its lease, which is as long as the
/// subscription's. What was done already is done: it is settled, and its handler does not run.
///
/// Keys are the subscription's own. They are known in this process, and the 100,000 latest of them,
/// unless [`Dedup::shared`] keeps them in the bus's backend, for the whole fleet.
///
/// # Examples
/// ```
/// use railbus::{Bus, Event, middlewares::Dedup, testing::Recorder};
/// use std::time::Duration;
///
/// # tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(async {
/// let (bus, seen) = (Bus::new(), Recorder::new());
/// let once = Dedup::new().by_path("order.id").window(Duration::from_secs(3600));
/// bus.on("order.placed").layer(once).run(seen.clone()).await?;
/// for id in [1, 2, 1] {
///     let order = railbus::json!({ "order": { "id": id } });
///     bus.publish(Event::new("order.placed").payload(order)).await?;
/// }
/// assert_eq!(seen.len(), 2);
/// # Ok::<(), railbus::Error>(()) }).unwrap();
/// ```
pub struct Dedup {
    key: Key,
    window: Duration,
    patience: Option<Duration>,
    space: Option<String>,
    kept: Kept,
    // What the subscription made of it.
    opened: OnceLock<Opened>,
}

/// Where it is known what is done.
#[derive(Clone)]
enum Kept {
    Here(usize),
    OfBus,
    In(Arc<dyn Commons>),
}

struct Opened {
    space: String,
    lease: Duration,
    commons: Arc<dyn Commons>,
}

impl Default for Dedup {
    fn default() -> Self {
        Self::new()
    }
}

impl Dedup {
    /// Handles what has the same id once in ten minutes, as far as this process knows.
    #[must_use]
    pub fn new() -> Self {
        Self {
            key: Key::Id,
            window: WINDOW,
            patience: None,
            space: None,
            kept: Kept::Here(100_000),
            opened: OnceLock::new(),
        }
    }

    /// Sets for how long what is done is known (default 10 minutes).
    #[must_use]
    pub fn window(mut self, window: Duration) -> Self {
        self.window = window;
        self
    }

    /// Takes what the closure makes of an event as its key; an event of which it makes none is handled
    /// each time.
    ///
    /// # Examples
    /// ```
    /// use railbus::middlewares::Dedup;
    ///
    /// let by_hash = Dedup::new().by(|event| event.metadata().get("hash").cloned()).capacity(1_000);
    /// # drop(by_hash);
    /// ```
    #[must_use]
    pub fn by(mut self, key: impl Fn(&Event) -> Option<String> + Send + Sync + 'static) -> Self {
        self.key = Key::Of(Arc::new(key));
        self
    }

    /// Takes what lies at a path in the payload as the key; an event that has nothing there, or `null`,
    /// is handled each time.
    #[must_use]
    pub fn by_path(mut self, path: impl Into<String>) -> Self {
        self.key = Key::Path(path.into());
        self
    }

    /// Sets how many keys this process knows at most (default 100,000): beyond them the oldest is
    /// forgotten.
    #[must_use]
    pub fn capacity(mut self, keys: usize) -> Self {
        self.kept = Kept::Here(keys);
        self
    }

    /// Keeps the keys in the backend of the subscription's bus, for all processes of a fleet. The
    /// subscription needs a name, `.named(..)`, or [`Dedup::space`].
    ///
    /// # Examples
    /// ```
    /// use railbus::{Bus, Event, middlewares::Dedup};
    /// use std::time::Duration;
    ///
    /// # tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(async {
    /// let bus = Bus::open("memory:").await?;
    /// let once = Dedup::new().shared().patience(Duration::from_secs(5));
    /// let on = bus.on("order.placed").group("billing").named("charge").layer(once);
    /// on.run(async |_: Event| {}).await?;
    ///
    /// // Where the bus's backend can't: in that of another bus.
    /// let elsewhere = Dedup::new().kept_in(bus.commons()?).space("billing/refund");
    /// bus.on("order.cancelled").group("billing").layer(elsewhere).run(|_: &Event| {}).await?;
    /// # Ok::<(), railbus::Error>(()) }).unwrap();
    /// ```
    #[must_use]
    pub fn shared(mut self) -> Self {
        self.kept = Kept::OfBus;
        self
    }

    /// Keeps the keys where the caller says, such as in the [commons](crate::Bus::commons) of another
    /// bus.
    #[must_use]
    pub fn kept_in(mut self, commons: Arc<dyn Commons>) -> Self {
        self.kept = Kept::In(commons);
        self
    }

    /// Sets whose keys they are (default: the subscription's, by its group and name): subscriptions of
    /// the same space handle what has the same key once among them.
    #[must_use]
    pub fn space(mut self, space: impl Into<String>) -> Self {
        self.space = Some(space.into());
        self
    }

    /// Sets how long an event waits, with its lease kept, for another one of its key that is being
    /// handled (default: as long as that takes). After that it comes again when the other's claim is
    /// over; that counts as a try.
    #[must_use]
    pub fn patience(mut self, patience: Duration) -> Self {
        self.patience = Some(patience);
        self
    }

    /// Claims the key; an outcome if the handler is not to run.
    async fn claim<'a>(&self, of: &'a Opened, key: &'a str) -> Result<Claimed<'a>, Outcome> {
        let mark = Mark { space: &of.space, key };
        let (holder, began) = (new_id(), Instant::now());
        loop {
            let held = match of.commons.claim(mark, &holder, of.lease).await {
                Ok(Claim::Mine) => return Ok(Claimed { of, mark, holder, open: true }),
                Ok(Claim::Done) => {
                    tracing::debug!(key, space = of.space, "done before");
                    return Err(Outcome::Done);
                }
                Ok(Claim::Held(left)) => left,
                Err(error) => return Err(Outcome::Failed(error.into())),
            };
            let rest = self.patience.map(|patience| patience.saturating_sub(began.elapsed()));
            if rest.is_some_and(|rest| rest.is_zero()) {
                return Err(Outcome::Retry(held));
            }
            of.commons.wait(mark, rest.map_or(held, |rest| rest.min(held))).await;
        }
    }
}

/// A key that is this handler's.
struct Claimed<'a> {
    of: &'a Opened,
    mark: Mark<'a>,
    holder: String,
    // Whether it is to be given back if this is dropped.
    open: bool,
}

impl Claimed<'_> {
    /// Keeps the claim for as long as the handler runs.
    async fn keep(&self, running: impl Future<Output = Outcome>) -> Outcome {
        let Opened { lease, commons, .. } = self.of;
        let mut running = std::pin::pin!(running);
        loop {
            tokio::select! {
                biased;
                outcome = &mut running => return outcome,
                () = tokio::time::sleep(*lease / 3) => {}
            }
            tokio::select! {
                biased;
                outcome = &mut running => return outcome,
                kept = commons.claim(self.mark, &self.holder, *lease) => match kept {
                    Ok(Claim::Mine) => {}
                    Ok(_) => self.warn("another member has it meanwhile: it may be handled twice"),
                    Err(error) => self.warn(&error.to_string()),
                },
            }
        }
    }

    /// Marks it as done, or gives it back; what the handler came to stays.
    async fn end(mut self, done: bool, window: Duration) {
        let Opened { commons, .. } = self.of;
        let mut waits = AGAIN.iter();
        let ended = loop {
            let ended = match done {
                true => commons.commit(self.mark, &self.holder, window).await,
                false => commons.release(self.mark, &self.holder).await.map(|()| true),
            };
            match (&ended, waits.next()) {
                (Err(error), Some(wait)) if error.is_retryable() => tokio::time::sleep(*wait).await,
                _ => break ended,
            }
        };
        self.open = false;
        match ended {
            Ok(true) => {}
            Ok(false) => self.warn("another member had it meanwhile: it may be handled twice"),
            Err(error) => self.warn(&error.to_string()),
        }
    }

    fn warn(&self, why: &str) {
        let Mark { space, key } = self.mark;
        tracing::warn!(key, space, why, "what is handled once could not be marked");
    }
}

impl Drop for Claimed<'_> {
    /// Gives back what was given up, without waiting for it: if even that fails its lease ends it.
    fn drop(&mut self) {
        if !self.open {
            return;
        }
        let (commons, holder) = (Arc::clone(&self.of.commons), std::mem::take(&mut self.holder));
        let (space, key) = (self.mark.space.to_owned(), self.mark.key.to_owned());
        let mut release = Box::pin(async move {
            let mark = Mark { space: &space, key: &key };
            drop(commons.release(mark, &holder).await);
        });
        if release.as_mut().now_or_never().is_none()
            && let Ok(runtime) = Handle::try_current()
        {
            runtime.spawn(release);
        }
    }
}

#[async_trait]
impl Middleware for Dedup {
    async fn handle(&self, delivery: &Delivery, next: Next<'_>) -> Outcome {
        let (Some(key), Some(of)) = (self.key.of(delivery.event()), self.opened.get()) else {
            return next.run(delivery).await;
        };
        let claimed = match self.claim(of, &key).await {
            Ok(claimed) => claimed,
            Err(outcome) => return outcome,
        };
        let outcome = claimed.keep(next.run_contained(delivery)).await;
        let done = matches!(outcome, Outcome::Done | Outcome::Replied(_));
        claimed.end(done, self.window).await;
        outcome
    }

    fn open(&self, setup: &mut Setup<'_>) -> Result<()> {
        let config = |why: &'static str, hint: &'static str| {
            Err(Error::new(ErrorKind::Config, "subscribe", why).hint(hint))
        };
        setup.needs_outcome("dedup")?;
        if setup.is_manual() {
            let why = "what is settled by hand may be given back after its handler has returned: \
                       dedup would take it for done";
            return config(why, "leave out .manual(), or dedup by hand");
        }
        let (here, commons) = match &self.kept {
            Kept::Here(keys) => (true, Arc::new(Local::with_capacity(*keys)) as Arc<dyn Commons>),
            Kept::OfBus => (false, setup.commons()?),
            Kept::In(commons) => (false, Arc::clone(commons)),
        };
        let space = match (&self.space, setup.name()) {
            (Some(space), _) => space.clone(),
            (None, Some(name)) => format!("{}/{name}", setup.group().unwrap_or_default()),
            (None, None) if here => String::new(),
            (None, None) => {
                let why = "what is done is kept under the subscription's name, and it has none";
                return config(why, "give it one, .named(..), or say .space(..)");
            }
        };
        let opened = Opened { space, lease: setup.lease(), commons };
        self.opened
            .set(opened)
            .or_else(|_| config("a dedup layer is around two subscriptions", "make one for each"))
    }
}

impl fmt::Debug for Dedup {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let kept = match &self.kept {
            Kept::Here(keys) => format!("{keys} here"),
            Kept::OfBus => "in the backend".into(),
            Kept::In(_) => "elsewhere".into(),
        };
        write!(f, "Dedup({:?}, for {:?}, {kept})", self.key, self.window)
    }
}
