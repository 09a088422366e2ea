//! Publishing: to the backend, and where it has none of its own, to the handlers here.

use super::{
    dispatch::{Again, Begun, Dispatch, Need, Running, begin, count_through},
    failure::Failed,
    open::{Bus, Inner},
    report::Report,
    table::{Phase, Snapshot},
};
use crate::{
    backend::Outgoing,
    consumer::panicked,
    context::{self, Within},
    delivery::Outcome,
    error::{Error, ErrorKind, Result},
    event::{Event, IntoEvent},
    instrument::seat,
};
use futures_util::FutureExt;
use std::{borrow::Borrow, panic::AssertUnwindSafe, sync::Arc};
use tokio::runtime::Handle;

/// How deep publishing inside handlers may go: far more than a design needs, few enough for any
/// stack.
const DEPTH_MAX: usize = 64;

impl Bus {
    /// Publishes one event and returns when the backend has confirmed it.
    ///
    /// On memory the matching handlers have run by then, and the report says how they fared; a
    /// handler's failure never makes publish fail. Published inside a handler or a
    /// [`context::scope`], the event takes over the conversation and names the cause.
    ///
    /// # Errors
    /// Returns an error if the event is malformed, its payload can't be encoded where it must be or
    /// is too large, the bus is closed, the backend does not confirm it, a group's queue in memory
    /// is full inside a handler, or handlers publish more than 64 deep.
    ///
    /// # Cancel safety
    /// If it is dropped, the event may or may not have been published.
    ///
    /// # Examples
    /// ```
    /// use railbus::{Bus, Event, json};
    ///
    /// # tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(async {
    /// let bus = Bus::open("memory:").await?;
    /// bus.on("order.placed").run(async |event: Event| println!("{}", event.id())).await?;
    /// let order = Event::new("order.placed").topic("shop").payload(json!({"lines": 2}));
    /// assert_eq!(bus.publish(order).await?.matched, 1);
    /// # Ok::<(), railbus::Error>(()) }).unwrap();
    /// ```
    pub async fn publish(&self, event: impl IntoEvent) -> Result<Report> {
        let held = event.into_event();
        let (inner, given) = (&*self.0, held.borrow());
        let now = inner.table.now();
        may_publish(&now)?;
        given.check()?;
        let made = inner.made_of(given)?;
        let event = made.as_ref().unwrap_or(given);
        if inner.carries(&now) {
            return Box::pin(self.carry(event)).await;
        }
        inner.counters.published.one();
        Ok(self.dispatch(&now, event).await)
    }

    /// Publishes without awaiting: for sync code and sync handlers. It needs no runtime.
    ///
    /// # Errors
    /// Returns an error before anything ran if a subscription that wants the event is async, has a
    /// group, or may be tried again where there is no runtime; else as [`Bus::publish`].
    pub fn emit(&self, event: impl IntoEvent) -> Result<Report> {
        let held = event.into_event();
        let (inner, given) = (&*self.0, held.borrow());
        let now = inner.table.now();
        may_publish(&now)?;
        given.check()?;
        let made = inner.made_of(given)?;
        let event = made.as_ref().unwrap_or(given);
        if !inner.inline || now.has_groups() || now.is_heavy() {
            inner.may_emit(&now, event)?;
        }
        let seat = seat();
        inner.counters.published.add_at(seat, 1);
        match begin(&now, event) {
            Begun::Through(succeeded) => {
                count_through(&inner.counters, seat, succeeded);
                Ok(Report { matched: succeeded as usize, ..Report::default() })
            }
            Begun::Open(dispatch, need) => Ok(self.go_on(dispatch, need, event, true)),
        }
    }

    /// Publishes a batch and returns one result an event, in order.
    ///
    /// # Errors
    /// Each result is as of [`Bus::publish`].
    pub async fn publish_all(&self, batch: &[Outgoing]) -> Vec<Result<Report>> {
        let inner = &*self.0;
        if let Err(e) = may_publish(&inner.table.now()) {
            return vec![Err(e); batch.len()];
        }
        let mut results = Vec::with_capacity(batch.len());
        let most = inner.backend.capability().batch_max;
        for part in batch.chunks(most) {
            for (outgoing, stored) in part.iter().zip(inner.backend.publish(part).await) {
                results.push(match stored {
                    Ok(()) => self.published(outgoing).await,
                    Err(e) => Err(e),
                });
            }
        }
        results
    }

    /// Tells whether anyone here may want an event of this type on its default topic, so that a
    /// publisher need not build what nobody hears.
    ///
    /// # Examples
    /// ```
    /// use railbus::{Bus, Event};
    ///
    /// let bus = Bus::new();
    /// assert!(!bus.wants("order.placed"));
    /// bus.on("order.*").run(|_: &Event| {}).now()?;
    /// assert!(bus.wants("order.placed"));
    /// # Ok::<(), railbus::Error>(())
    /// ```
    #[must_use]
    pub fn wants(&self, event_type: &str) -> bool {
        let now = self.0.table.now();
        now.hears(event_type) || now.collects(event_type)
    }

    /// Publishes by way of the backend.
    async fn carry(&self, event: &Event) -> Result<Report> {
        let batch = [Outgoing::from(event.clone())];
        let lost = || Error::new(ErrorKind::Internal, "publish", "the backend gave no result");
        self.0.backend.publish(&batch).await.pop().unwrap_or_else(|| Err(lost()))?;
        let [outgoing] = batch;
        self.published(&outgoing).await
    }

    /// Does what is left to do for an event that the backend has confirmed.
    async fn published(&self, outgoing: &Outgoing) -> Result<Report> {
        let (inner, event) = (&*self.0, &outgoing.event);
        inner.counters.published.one();
        if let Some(reason) = &outgoing.rejected {
            // Durable backends keep it as a dead letter; either way no handler sees it.
            tracing::warn!(event = event.id(), %reason, "an input's line is not an event");
            inner.counters.broadcasts.rejected.one();
            return Ok(Report::default());
        }
        let now = inner.table.now();
        let grouped = now.grouped(event);
        if inner.inline {
            let mut report = self.dispatch(&now, event).await;
            report.matched += grouped;
            return Ok(report);
        }
        let wanted = now.wanting(event).count();
        Ok(Report { matched: wanted + grouped, ..Report::default() })
    }

    /// Runs the broadcast subscriptions that want the event.
    pub(super) async fn dispatch(&self, now: &Snapshot, event: &Event) -> Report {
        let counters = &self.0.counters;
        let (mut dispatch, mut need) = match begin(now, event) {
            Begun::Through(succeeded) => {
                count_through(counters, seat(), succeeded);
                return Report { matched: succeeded as usize, ..Report::default() };
            }
            Begun::Open(dispatch, need) => (dispatch, need),
        };
        loop {
            let failed = match need {
                Need::Nothing => break,
                Need::Await(running) => dispatch.ended(outcome_of(running, event).await),
                Need::Tell(failed) => Some(failed),
            };
            if let Some(event) = failed.and_then(|failed| self.0.failed_event(failed)) {
                Box::pin(self.tell(event)).await;
            }
            need = dispatch.go();
        }
        let (report, again) = dispatch.finish(Some(counters));
        if let Some(again) = again {
            self.try_again(again, event);
        }
        report
    }

    /// Goes on with a dispatch to subscriptions none of which is async.
    #[cold]
    fn go_on<'a>(
        &self,
        mut dispatch: Dispatch<'a>,
        mut need: Need<'a>,
        event: &Event,
        counted: bool,
    ) -> Report {
        loop {
            match need {
                Need::Nothing => break,
                // Not one that says it is async, or it would not have come here.
                Need::Await(running) => drop(running),
                Need::Tell(failed) => {
                    let told = match counted {
                        true => self.0.failed_event(failed),
                        false => self.0.told_event(failed),
                    };
                    if let Some(event) = told {
                        self.tell_now(event);
                    }
                }
            }
            need = dispatch.go();
        }
        let (report, again) = dispatch.finish(counted.then_some(&self.0.counters));
        if let Some(again) = again {
            self.try_again(again, event);
        }
        report
    }

    /// Tells the broadcast subscriptions here something that Railbus itself has to say: never
    /// stored, never counted, never refused.
    pub(crate) async fn tell(&self, event: Event) {
        let now = self.0.table.now();
        if context::depth() >= DEPTH_MAX || now.phase == Phase::Closed {
            return;
        }
        let Begun::Open(mut dispatch, mut need) = begin(&now, &event) else { return };
        loop {
            let failed = match need {
                Need::Nothing => break,
                Need::Await(running) => dispatch.ended(outcome_of(running, &event).await),
                Need::Tell(failed) => Some(failed),
            };
            if let Some(event) = failed.and_then(|failed| self.0.told_event(failed)) {
                Box::pin(self.tell(event)).await;
            }
            need = dispatch.go();
        }
        if let (_, Some(again)) = dispatch.finish(None) {
            self.try_again(again, &event);
        }
    }

    /// As [`Bus::tell`], where nothing can be awaited: async subscriptions hear it soon.
    pub(crate) fn tell_now(&self, event: Event) {
        let now = self.0.table.now();
        if !now.is_heavy() {
            if context::depth() < DEPTH_MAX
                && let Begun::Open(dispatch, need) = begin(&now, &event)
            {
                self.go_on(dispatch, need, &event, false);
            }
        } else if let Some(runtime) = self.0.runtime() {
            let bus = self.clone();
            self.0.retries.spawn_on(async move { bus.tell(event).await }, &runtime);
        }
    }

    #[cold]
    fn try_again(&self, again: Again, event: &Event) {
        let Some(runtime) = self.0.runtime() else {
            tracing::error!(event = event.id(), "not tried again: there is no runtime");
            return;
        };
        let (bus, event) = (self.clone(), event.clone());
        let tell = {
            let bus = self.clone();
            move |failed| {
                if let Some(event) = bus.0.failed_event(Box::new(failed)) {
                    bus.tell_now(event);
                }
            }
        };
        self.0.retries.spawn_on(
            async move { again.run(event, Arc::clone(&bus.0.counters), tell).await },
            &runtime,
        );
    }
}

/// Awaits a handler; a panic stays inside.
async fn outcome_of(running: Running<'_>, event: &Event) -> Outcome {
    let running = AssertUnwindSafe(running).catch_unwind();
    let outcome = Within::delivery(event, running).await;
    outcome.unwrap_or_else(|panic| panicked("panicked", &*panic))
}

#[inline]
fn may_publish(now: &Snapshot) -> Result<()> {
    if context::is_outside() && now.phase == Phase::Open {
        return Ok(());
    }
    may_publish_inside(now)
}

fn may_publish_inside(now: &Snapshot) -> Result<()> {
    let depth = context::depth();
    if depth < DEPTH_MAX && (now.phase == Phase::Open || depth > 0 && now.phase == Phase::Draining)
    {
        return Ok(());
    }
    if depth >= DEPTH_MAX {
        let why = format!("handlers published {DEPTH_MAX} events deep");
        return Err(Error::new(ErrorKind::Overloaded, "publish", why)
            .hint("look for a handler that publishes what it handles"));
    }
    Err(Error::new(ErrorKind::Closed, "publish", "the bus is closed")
        .hint("publish before close; while it drains, only handlers may publish"))
}

impl Inner {
    /// Returns the event as it goes out, if it is not the one given.
    #[inline]
    fn made_of(&self, given: &Event) -> Result<Option<Event>> {
        if context::is_outside() && !self.encodes {
            return Ok(None);
        }
        let stamped = context::stamp(given);
        if !self.encodes {
            return Ok(stamped);
        }
        stamped.as_ref().unwrap_or(given).encoded().map(Some)
    }

    /// Tells whether publishing goes by way of the backend.
    fn carries(&self, now: &Snapshot) -> bool {
        !self.inline || now.has_groups()
    }

    fn may_emit(&self, now: &Snapshot, event: &Event) -> Result<()> {
        let refuse = |why: String| {
            let error = Error::new(ErrorKind::Unsupported, "emit", why).with("event", event.id());
            Err(error.hint("await publish(..) instead"))
        };
        if !self.inline {
            return refuse(format!(
                "{} does not publish without awaiting",
                self.backend.capability().name
            ));
        }
        if now.has_groups() && now.grouped(event) > 0 {
            return refuse("a subscription that wants the event has a group".into());
        }
        if !now.is_heavy() {
            return Ok(());
        }
        for entry in now.wanting(event) {
            if entry.handler.is_async() {
                return refuse(format!("subscription {} is async", entry.name));
            }
            if entry.needs_runtime() && self.runtime().is_none() {
                return refuse(format!("subscription {} is tried again by a runtime", entry.name));
            }
        }
        Ok(())
    }

    /// Counts and logs a failure; returns the event that tells of it, if anyone listens.
    pub(super) fn failed_event(&self, failed: Box<Failed>) -> Option<Event> {
        failed.count(&self.counters);
        self.told_event(failed)
    }

    /// Logs a failure; returns the event that tells of it, if anyone listens.
    fn told_event(&self, failed: Box<Failed>) -> Option<Event> {
        failed.log();
        let heard =
            !failed.is_of_failure() && self.table.now().hears(crate::event::Type::HANDLER_ERROR);
        heard.then(|| failed.into_event())
    }

    /// Returns the runtime that tasks run on: the one the bus was used in, or the caller's.
    pub(super) fn runtime(&self) -> Option<Handle> {
        self.runtime.get().cloned().or_else(|| Handle::try_current().ok())
    }
}
