//! A handler, or a step, that fails on demand.

use crate::{
    error::BoxError,
    event::Event,
    handler::AsyncHandler,
    step::{Exception, Flow, Input, Signature, Step, StepError, StepResult},
};
use async_trait::async_trait;
use std::{
    collections::VecDeque,
    fmt,
    future::pending,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};
use tokio::{sync::watch, time::sleep};

/// A double of a handler or a step, which does what a test says, call by call, and then succeeds.
/// Clones are the same one.
///
/// # Examples
/// ```
/// use railbus::{Event, Pipeline, Retry, Status, Store, testing::{self, Double}};
/// use std::time::Duration;
///
/// # #[cfg(feature = "testing")]
/// #[railbus::test(time = "virtual")]
/// async fn a_charge_is_tried_again() -> railbus::Result<()> {
///     let (bus, charge) = (testing::bus().await?, Double::new("charge").succeeds(0).fails(2).panics(1));
///     let minutely = Retry::attempts(5).backoff(Duration::from_secs(10));
///     bus.on("order.placed").group("billing").retry(minutely).run(charge.clone()).await?;
///     bus.publish(Event::new("order.placed").id("o-1")).await?;
///     bus.idle().await?; // 10 s, 20 s and 30 s later
///     assert_eq!((charge.calls(), charge.events()[3].id()), (4, "o-1"));
///
///     let slow = Double::new("slow").takes(Duration::from_secs(3600)).fails(1).hangs(1);
///     let steps = Pipeline::new("p").step(slow.clone()).build()?;
///     assert_eq!(steps.run(Store::new()).await.status(), Status::Exception);
///     slow.until_called(1).await;
///     Ok(())
/// }
/// # fn main() {}
/// ```
#[derive(Clone)]
pub struct Double(Arc<Inner>);

struct Inner {
    name: String,
    script: Mutex<Script>,
    calls: watch::Sender<Vec<Option<Event>>>,
}

#[derive(Clone, Default)]
struct Script {
    takes: Duration,
    acts: VecDeque<Act>,
}

#[derive(Clone, Copy, Debug)]
enum Act {
    Succeed,
    Fail,
    Panic,
    Hang,
}

impl Double {
    /// Makes one that succeeds; as a step it has this name.
    #[must_use]
    pub fn new(name: impl Into<String>) -> Self {
        let (script, calls) = (Mutex::default(), watch::Sender::default());
        Self(Arc::new(Inner { name: name.into(), script, calls }))
    }

    /// Lets the next calls succeed, after those that are said already.
    #[must_use]
    pub fn succeeds(self, times: usize) -> Self {
        self.then(Act::Succeed, times)
    }

    /// Lets the next calls fail, after those that are said already.
    #[must_use]
    pub fn fails(self, times: usize) -> Self {
        self.then(Act::Fail, times)
    }

    /// Lets the next calls panic, after those that are said already.
    #[must_use]
    pub fn panics(self, times: usize) -> Self {
        self.then(Act::Panic, times)
    }

    /// Lets the next calls never end, after those that are said already.
    #[must_use]
    pub fn hangs(self, times: usize) -> Self {
        self.then(Act::Hang, times)
    }

    /// Lets all calls take so long first.
    #[must_use]
    pub fn takes(self, time: Duration) -> Self {
        self.script().takes = time;
        self
    }

    /// Returns how often it was called so far.
    #[must_use]
    pub fn calls(&self) -> usize {
        self.0.calls.borrow().len()
    }

    /// Returns the events it was called for as a handler, in the order of the calls.
    #[must_use]
    pub fn events(&self) -> Vec<Event> {
        self.0.calls.borrow().iter().flatten().cloned().collect()
    }

    /// Waits until it has been called at least so often.
    ///
    /// # Cancel safety
    /// Nothing is lost if it is dropped.
    pub async fn until_called(&self, times: usize) {
        // It is told for as long as this is there.
        let _ = self.0.calls.subscribe().wait_for(|calls| calls.len() >= times).await;
    }

    fn script(&self) -> MutexGuard<'_, Script> {
        self.0.script.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn then(self, act: Act, times: usize) -> Self {
        self.script().acts.extend(std::iter::repeat_n(act, times));
        self
    }

    async fn call(&self, event: Option<&Event>) -> Result<(), String> {
        let (takes, act) = {
            let mut script = self.script();
            (script.takes, script.acts.pop_front().unwrap_or(Act::Succeed))
        };
        let mut call = 0;
        self.0.calls.send_modify(|calls| {
            calls.push(event.cloned());
            call = calls.len();
        });
        if !takes.is_zero() {
            sleep(takes).await;
        }
        let name = &self.0.name;
        match act {
            Act::Succeed => Ok(()),
            Act::Fail => Err(format!("{name} failed at call {call}, as the test asked for")),
            Act::Panic => panic!("{name} panicked at call {call}, as the test asked for"),
            Act::Hang => pending().await,
        }
    }
}

#[async_trait]
impl AsyncHandler for Double {
    async fn handle(&self, event: &Event) -> Result<(), BoxError> {
        Ok(self.call(Some(event)).await?)
    }
}

#[async_trait]
impl Step for Double {
    fn signature(&self) -> Signature {
        Signature::new(&self.0.name)
    }

    async fn run(&self, _input: Input<'_>) -> StepResult {
        let called = self.call(None).await;
        called.map_err(|why| StepError::Exception(Exception::new("double", why)))?;
        Ok(Flow::next(()))
    }
}

impl fmt::Debug for Double {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let left = self.script().acts.clone();
        write!(f, "Double({}, called {} times, then {left:?})", self.0.name, self.calls())
    }
}
