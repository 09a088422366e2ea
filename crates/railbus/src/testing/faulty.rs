//! A backend that fails on demand.

use super::fate::{Act, Door, Fate, Fated};
use crate::{
    backend::Backend,
    bus::Bus,
    error::{Error, ErrorKind},
};
use futures_util::future::BoxFuture;
use std::{
    fmt,
    future::pending,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};
use tokio::{sync::watch, time::Instant};

/// A backend around another one, whose calls fail when a test says so. Clones are the same one.
///
/// Nothing befalls it by itself. What is to befall it is said in one line: which calls, how many of
/// them, and what.
///
/// # Examples
/// ```
/// use railbus::{Event, backends::memory::Memory, testing::{Faulty, Recorder}};
/// use std::time::Duration;
///
/// # #[cfg(feature = "testing")]
/// #[railbus::test(time = "virtual")]
/// async fn an_order_whose_answer_was_lost_is_billed_once_more() -> railbus::Result<()> {
///     let (faulty, billed) = (Faulty::new(Memory::default()), Recorder::new());
///     let bus = faulty.bus();
///     bus.on("order.placed").group("billing").run(billed.clone()).await?;
///     faulty.publishes().lose_answer();
///     assert!(bus.publish(Event::new("order.placed").id("o-1")).await.is_err());
///     bus.publish(Event::new("order.placed").id("o-1")).await?;
///     bus.idle().await?;
///     assert_eq!((billed.len(), faulty.happened()), (2, 1));
///
///     faulty.publishes().nth(3).fail(); // the third from here on
///     faulty.fetches().always().fail(); // the connection is broken,
///     faulty.heal(); // and here again
///     faulty.settlements().times(2).duplicate(); // what was handled comes again
///     faulty.renewals().during(Duration::from_secs(60)).forget(); // leases run out
///     Ok(())
/// }
/// # fn main() {}
/// ```
#[derive(Clone)]
pub struct Faulty {
    plan: Arc<Plan>,
    fated: Arc<Fated>,
}

impl Faulty {
    /// Puts it around a backend.
    #[must_use]
    pub fn new(backend: impl Backend) -> Self {
        Self::around(Arc::new(backend))
    }

    /// Puts it around a backend that is shared already.
    #[must_use]
    pub fn around(inner: Arc<dyn Backend>) -> Self {
        let plan = Arc::new(Plan::default());
        let fate: Arc<dyn Fate> = Arc::<Plan>::clone(&plan);
        Self { plan, fated: Arc::new(Fated { inner, fate }) }
    }

    /// Opens a bus over it.
    #[must_use]
    pub fn bus(&self) -> Bus {
        Bus::over(self.backend())
    }

    /// Returns it as a backend.
    #[must_use]
    pub fn backend(&self) -> Arc<dyn Backend> {
        Arc::<Fated>::clone(&self.fated)
    }

    /// Says what befalls publishing; each event counts for itself.
    pub fn publishes(&self) -> Befall<'_> {
        Befall::new(self, Door::Publish, "publish")
    }

    /// Says what befalls fetching, the fetch that waits for events now included.
    pub fn fetches(&self) -> Befall<'_> {
        Befall::new(self, Door::Fetch, "fetch")
    }

    /// Says what befalls settling; each delivery counts for itself.
    pub fn settlements(&self) -> Befall<'_> {
        Befall::new(self, Door::Settle, "settle")
    }

    /// Says what befalls the renewal of leases.
    pub fn renewals(&self) -> Befall<'_> {
        Befall::new(self, Door::Renew, "renew")
    }

    /// Lets all calls go as they should from here on; what hangs goes on.
    pub fn heal(&self) {
        self.plan.lock().clear();
        self.plan.healed.send_modify(|times| *times += 1);
    }

    /// Returns how often something befell a call so far.
    #[must_use]
    pub fn happened(&self) -> usize {
        *self.plan.happened.borrow()
    }

    /// Waits until something has befallen at least so many calls.
    ///
    /// # Cancel safety
    /// Nothing is lost if it is dropped.
    pub async fn until_happened(&self, times: usize) {
        // It is told for as long as this is there.
        let _ = self.plan.happened.subscribe().wait_for(|happened| *happened >= times).await;
    }
}

impl fmt::Debug for Faulty {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Faulty({:?}, {} faults so far)", self.fated.inner, self.happened())
    }
}

/// Which calls something is to befall, by [`Faulty::publishes`] and the like: the next one, unless
/// it is said.
///
/// # Examples
/// ```
/// use railbus::{Bus, Error, ErrorKind, Event, backends::memory::Memory, testing::{Befall, Faulty}};
/// use std::{sync::Arc, time::Duration};
///
/// # tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(async {
/// let faulty = Faulty::around(Arc::new(Memory::default()));
/// let bus = Bus::over(faulty.backend());
/// let second: Befall<'_> = faulty.publishes().nth(2);
/// second.fail_with(Error::new(ErrorKind::Full, "publish", "the disk is full"));
/// assert!(bus.publish(Event::new("tick")).await.is_ok());
/// let error = bus.publish(Event::new("tick")).await.unwrap_err();
/// assert_eq!(error.kind(), ErrorKind::Full);
///
/// faulty.publishes().delay(Duration::from_millis(5));
/// assert!(bus.publish(Event::new("tick")).await.is_ok(), "a little later");
/// faulty.until_happened(2).await;
/// faulty.settlements().refuse();
/// faulty.renewals().always().hang();
/// # Ok::<(), railbus::Error>(()) }).unwrap();
/// ```
#[must_use = "say what befalls them"]
pub struct Befall<'a> {
    faulty: &'a Faulty,
    operation: &'static str,
    door: Door,
    skip: usize,
    times: usize,
    until: Option<Instant>,
}

impl<'a> Befall<'a> {
    fn new(faulty: &'a Faulty, door: Door, operation: &'static str) -> Self {
        Self { faulty, operation, door, skip: 0, times: 1, until: None }
    }

    /// Only the nth from here on, counted from 1.
    pub fn nth(mut self, nth: usize) -> Self {
        self.skip = nth.saturating_sub(1);
        self
    }

    /// This many, one after another.
    pub fn times(mut self, times: usize) -> Self {
        self.times = times;
        self
    }

    /// All, until [`Faulty::heal`].
    pub fn always(self) -> Self {
        self.times(usize::MAX)
    }

    /// All, for this long.
    pub fn during(mut self, time: Duration) -> Self {
        self.until = Instant::now().checked_add(time);
        self.always()
    }

    /// They fail as if the server can't be reached, with nothing done: what waits for room or for an
    /// answer is told that it may try again.
    pub fn fail(self) {
        let error = self.error(ErrorKind::Unavailable, "the server can't be reached");
        self.fail_with(error);
    }

    /// They fail with this error, with nothing done.
    pub fn fail_with(self, error: Error) {
        self.befall(Act::Fail(error));
    }

    /// They are refused, as a settlement whose lease was lost.
    pub fn refuse(self) {
        let error = self.error(ErrorKind::Stale, "the lease was lost");
        self.fail_with(error);
    }

    /// They are done, and the answer is lost: the caller gets an error all the same. What was
    /// fetched comes again when its lease ends.
    pub fn lose_answer(self) {
        let error = self.error(ErrorKind::Unavailable, "the answer was lost");
        self.befall(Act::Lose(error));
    }

    /// They are confirmed, and not done: a lease that was renewed ends, a delivery that was settled
    /// comes again when its lease ends, an event is lost. Fetching forgets nothing.
    pub fn forget(self) {
        self.befall(Act::Forget);
    }

    /// They are done twice: published under one id, or, when handled, delivered again at once.
    pub fn duplicate(self) {
        self.befall(Act::Twice);
    }

    /// They take so much longer.
    pub fn delay(self, by: Duration) {
        self.befall(Act::Delay(by));
    }

    /// They wait until [`Faulty::heal`].
    pub fn hang(self) {
        self.befall(Act::Hang);
    }

    fn error(&self, kind: ErrorKind, why: &'static str) -> Error {
        Error::new(kind, self.operation, why).with("by", "a fault that the test asked for")
    }

    fn befall(self, act: Act) {
        let Self { door, skip, times, until, .. } = self;
        let plan = &self.faulty.plan;
        plan.lock().push(Rule { door, skip, times, until, act });
        if door == Door::Fetch {
            plan.fetching.send_modify(|times| *times += 1);
        }
    }
}

impl fmt::Debug for Befall<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Befall({} of {:?})", self.times, self.door)
    }
}

#[derive(Debug)]
struct Rule {
    door: Door,
    skip: usize,
    times: usize,
    until: Option<Instant>,
    act: Act,
}

/// What a test asked for.
#[derive(Debug)]
struct Plan {
    rules: Mutex<Vec<Rule>>,
    happened: watch::Sender<usize>,
    // How often something was planned for fetching.
    fetching: watch::Sender<u64>,
    healed: watch::Sender<u64>,
}

impl Default for Plan {
    fn default() -> Self {
        Self {
            rules: Mutex::default(),
            happened: watch::Sender::new(0),
            fetching: watch::Sender::new(0),
            healed: watch::Sender::new(0),
        }
    }
}

impl Plan {
    /// Returns the rules that still mean something.
    fn lock(&self) -> MutexGuard<'_, Vec<Rule>> {
        let mut rules = self.rules.lock().unwrap_or_else(PoisonError::into_inner);
        let now = Instant::now();
        rules.retain(|rule| rule.times > 0 && rule.until.is_none_or(|until| now < until));
        rules
    }
}

impl Fate for Plan {
    fn befalls(&self, door: Door) -> Option<Act> {
        let mut act = None;
        for rule in self.lock().iter_mut().filter(|rule| rule.door == door) {
            // Each counts all calls, also those that another one befalls.
            if rule.skip > 0 {
                rule.skip -= 1;
            } else if act.is_none() {
                rule.times = rule.times.saturating_sub(usize::from(rule.times < usize::MAX));
                act = Some(rule.act.clone());
            }
        }
        if act.is_some() {
            self.happened.send_modify(|happened| *happened += 1);
        }
        act
    }

    fn planned(&self) -> BoxFuture<'static, ()> {
        let mut fetching = self.fetching.subscribe();
        Box::pin(async move {
            if fetching.changed().await.is_err() {
                pending::<()>().await;
            }
        })
    }

    fn is_now(&self) -> bool {
        !self.takes_part()
    }

    fn takes_part(&self) -> bool {
        self.lock().iter().any(|rule| rule.door == Door::Publish)
    }

    fn healed(&self) -> BoxFuture<'_, ()> {
        let mut healed = self.healed.subscribe();
        Box::pin(async move {
            let _ = healed.changed().await;
        })
    }
}
