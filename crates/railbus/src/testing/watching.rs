//! Watching a bus: what is published on it, and how its handlers fare.

use super::{
    recorder::limit,
    seen::{Records, Seen, What, listed},
};
use crate::{
    backend::LetterFilter,
    bus::{Bus, Whose},
    delivery::Outcome,
    error::{Result, chain},
    event::Event,
    handler::{AnyHandler, Call, Called, World},
};
use std::{fmt, future::Future, panic::Location, pin::pin, sync::Arc, time::Duration};
use tokio::{
    sync::watch,
    time::{sleep, timeout},
};

/// How often dead letters are looked for: nobody tells of them.
const LOOK_EVERY: Duration = Duration::from_millis(10);

/// What is seen on a bus, by [`watch()`]. Clones are the same one.
///
/// # Examples
/// ```
/// use railbus::{Event, Retry, testing::{self, Double, Watch}};
/// use std::time::Duration;
///
/// #[railbus::test(time = "virtual")]
/// async fn an_order_that_nobody_can_bill_is_kept() -> railbus::Result<()> {
///     let bus = testing::bus().await?;
///     let seen: Watch = testing::watch(&bus);
///     let retry = Retry::attempts(3).backoff(Duration::from_secs(60));
///     let billing = Double::new("billing").fails(9);
///     bus.on("order.placed").group("billing").retry(retry).run(billing).await?;
///     bus.publish(Event::new("order.placed").id("o-1")).await?;
///     seen.until(|seen| seen.failed().count() == 3).await; // minutes later
///     seen.until_dead(1).await;
///     let dead = seen.dead_letters().await?.one();
///     assert_eq!((dead.event.id(), dead.attempt, seen.delivered().count()), ("o-1", 3, 3));
///     assert_eq!(seen.succeeded().count() + seen.published().count(), 1);
///     seen.clear();
///     seen.delivered().assert_none();
///     Ok(())
/// }
/// # fn main() {}
/// ```
#[derive(Clone)]
pub struct Watch {
    bus: Bus,
    seen: Arc<watch::Sender<Vec<Seen>>>,
}

/// Watches a bus: what is published on it from here on, and the handlers of subscriptions that open
/// from here on.
///
/// What a handler that takes a [`Batch`](crate::Batch) comes to is not seen; its deliveries are.
///
/// # Examples
/// ```
/// use railbus::{Bus, Event, testing};
///
/// let bus = Bus::new();
/// let seen = testing::watch(&bus);
/// bus.on("tick").named("clock").run(|_: &Event| {}).now()?;
/// bus.emit(Event::new("tick"))?;
/// seen.published().assert_types(&["tick"]);
/// seen.succeeded().to("clock").assert_count(1);
/// # Ok::<(), railbus::Error>(())
/// ```
#[must_use]
pub fn watch(bus: &Bus) -> Watch {
    let seen = Arc::new(watch::Sender::new(Vec::new()));
    let of = Arc::clone(&seen);
    bus.tap(Arc::new(move |event: &Event| {
        let (what, event) = (What::Published, event.clone());
        let published = Seen { what, event, subscription: String::new(), attempt: 0, reason: None };
        of.send_modify(|seen| seen.push(published));
    }));
    let of = Arc::clone(&seen);
    bus.surround(Arc::new(move |whose: Whose, handler| {
        Box::new(Watched { handler, name: whose.name, seen: Arc::clone(&of) })
    }));
    Watch { bus: bus.clone(), seen }
}

impl Watch {
    /// Returns what was published.
    #[must_use]
    pub fn published(&self) -> Records {
        self.of(What::Published)
    }

    /// Returns for what handlers were called.
    #[must_use]
    pub fn delivered(&self) -> Records {
        self.of(What::Delivered)
    }

    /// Returns what handlers succeeded with.
    #[must_use]
    pub fn succeeded(&self) -> Records {
        self.of(What::Succeeded)
    }

    /// Returns what handlers failed with, each try for itself.
    #[must_use]
    pub fn failed(&self) -> Records {
        self.of(What::Failed)
    }

    /// Returns the dead letters that the bus has.
    ///
    /// # Errors
    /// Returns an error if its backend keeps none.
    pub async fn dead_letters(&self) -> Result<Records> {
        let mut all = self.seen.borrow().clone();
        for letter in self.bus.keeper()?.letters(&LetterFilter::default()).await? {
            // What never was an event has none to show.
            let Some(event) = letter.event else { continue };
            all.push(Seen {
                what: What::Dead,
                event,
                subscription: letter.subscription,
                attempt: letter.attempts,
                reason: Some(letter.reason),
            });
        }
        Ok(Records::of_what(What::Dead, all))
    }

    /// Forgets what was seen so far, but for dead letters.
    pub fn clear(&self) {
        self.seen.send_modify(Vec::clear);
    }

    /// Waits until what was seen is as it should be.
    ///
    /// # Panics
    /// Panics after 10 seconds, in virtual time after 31 days, and says what was seen by then.
    ///
    /// # Cancel safety
    /// Nothing is lost if it is dropped.
    #[track_caller]
    pub fn until(&self, is_so: impl FnMut(&Self) -> bool) -> impl Future<Output = ()> {
        let (of, caller, mut is_so) = (self.clone(), Location::caller(), is_so);
        async move {
            let mut seen = of.seen.subscribe();
            let waiting = async {
                // Not looked at by `wait_for`, which holds a lock meanwhile.
                while !is_so(&of) && seen.changed().await.is_ok() {}
            };
            if timeout(limit(), waiting).await.is_err() {
                of.in_vain(caller, "what was waited for did not come");
            }
        }
    }

    /// Waits until the bus has at least so many dead letters.
    ///
    /// # Panics
    /// As [`Watch::until`]; also if its backend keeps none.
    ///
    /// # Cancel safety
    /// Nothing is lost if it is dropped.
    #[track_caller]
    pub fn until_dead(&self, count: usize) -> impl Future<Output = ()> {
        let (of, caller) = (self.clone(), Location::caller());
        async move {
            let mut waited = pin!(sleep(limit()));
            loop {
                match of.dead_letters().await {
                    Ok(dead) if dead.count() >= count => return,
                    Ok(_) if !waited.is_elapsed() => {}
                    Ok(dead) => {
                        let came = format!("{} of {count} dead letters came", dead.count());
                        of.in_vain(caller, &came);
                    }
                    Err(error) => of.in_vain(caller, &error.to_string()),
                }
                tokio::select! {
                    biased;
                    () = &mut waited => {}
                    () = sleep(LOOK_EVERY) => {}
                }
            }
        }
    }

    fn of(&self, what: What) -> Records {
        Records::of_what(what, self.seen.borrow().clone())
    }

    fn in_vain(&self, caller: &Location<'_>, why: &str) -> ! {
        let seen = self.seen.borrow().clone();
        panic!("{caller}: {why} in {:?}; what was seen:{}", limit(), listed(&seen))
    }
}

impl fmt::Debug for Watch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Watch({:?}:{})", self.bus, listed(&self.seen.borrow()))
    }
}

/// A handler that is watched.
struct Watched {
    handler: Box<dyn AnyHandler>,
    name: String,
    seen: Arc<watch::Sender<Vec<Seen>>>,
}

impl Watched {
    fn note(&self, call: Call<'_>, outcome: Option<&Outcome>) {
        let (what, reason) = match outcome {
            None => (What::Delivered, None),
            Some(Outcome::Done | Outcome::Replied(_)) => (What::Succeeded, None),
            Some(Outcome::Failed(error)) => (What::Failed, Some(chain(&**error))),
            Some(Outcome::Retry(wait)) => (What::Failed, Some(format!("asked for {wait:?}"))),
            Some(Outcome::DeadLetter(reason)) => (What::Failed, Some(reason.clone())),
            Some(_) => return,
        };
        let (event, attempt) = (call.event().clone(), call.attempt());
        let seen = Seen { what, event, subscription: self.name.clone(), attempt, reason };
        self.seen.send_modify(|all| all.push(seen));
    }
}

impl AnyHandler for Watched {
    fn call<'a>(&'a self, call: Call<'a>) -> Called<'a> {
        self.note(call, None);
        match self.handler.call(call) {
            Called::Now(outcome) => {
                self.note(call, Some(&outcome));
                Called::Now(outcome)
            }
            Called::Later(running) => Called::Later(Box::pin(async move {
                let outcome = running.await;
                self.note(call, Some(&outcome));
                outcome
            })),
        }
    }

    fn is_async(&self) -> bool {
        self.handler.is_async()
    }

    fn is_manual(&self) -> bool {
        self.handler.is_manual()
    }

    fn is_batch(&self) -> bool {
        self.handler.is_batch()
    }

    fn replies(&self) -> bool {
        self.handler.replies()
    }

    fn check(&self, world: &World) -> Result<()> {
        self.handler.check(world)
    }
}
