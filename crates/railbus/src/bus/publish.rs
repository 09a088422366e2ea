//! Publishing: to the backend, and where it has none of its own, to the handlers here.

use super::{
    open::{Bus, Inner, able},
    report::Report,
    table::{Phase, Snapshot},
    tell::DEPTH_MAX,
};
use crate::{
    backend::Outgoing,
    context,
    error::{Error, ErrorKind, Result},
    event::{Event, IntoEvent},
    task,
};
use std::borrow::Borrow;
use tokio::time::Instant;

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
        self.publish_event(held.borrow()).await
    }

    // Apart, so that it is compiled once, with all that it calls at hand.
    async fn publish_event(&self, given: &Event) -> Result<Report> {
        let inner = &*self.0;
        let (now, outside) = (inner.table.now(), context::is_outside());
        may_publish(&now, outside)?;
        given.check()?;
        let made = inner.made_of(given, outside)?;
        let event = made.as_ref().unwrap_or(given);
        let mut grouped = 0;
        if inner.carries() || event.delay().is_some() {
            match inner.take_grouped(&now, event) {
                Some(taken) => grouped = taken?,
                None => return Box::pin(self.carry(event)).await,
            }
        }
        inner.counters.published.one();
        #[cfg(feature = "testing")]
        inner.watched.published(event);
        let mut report = self.dispatch(&now, event).await;
        report.matched += grouped;
        Ok(report)
    }

    /// Publishes a batch and returns one result an event, in order.
    ///
    /// # Examples
    /// ```
    /// use railbus::{Bus, Event};
    ///
    /// # tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(async {
    /// let bus = Bus::open("memory:").await?;
    /// let batch = [Event::new("tick").payload(1).into(), Event::new("").payload(2).into()];
    /// let results = bus.publish_all(&batch).await;
    /// assert!(results[0].is_ok() && results[1].is_err());
    /// # Ok::<(), railbus::Error>(()) }).unwrap();
    /// ```
    ///
    /// # Errors
    /// Each result is as of [`Bus::publish`].
    pub async fn publish_all(&self, batch: &[Outgoing]) -> Vec<Result<Report>> {
        let inner = &*self.0;
        if let Err(e) = may_publish(&inner.table.now(), context::is_outside()) {
            return vec![Err(e); batch.len()];
        }
        let mut results = Vec::with_capacity(batch.len());
        let most = inner.backend.capability().batch_max.max(1);
        for part in batch.chunks(most) {
            let made: Vec<_> = part.iter().map(|outgoing| inner.outgoing_of(outgoing)).collect();
            let out: Vec<_> = made.iter().filter_map(|made| made.as_ref().ok().cloned()).collect();
            let began = Instant::now();
            let mut stored = inner.backend.publish(&out).await.into_iter();
            for made in made {
                let stored = made.and_then(|outgoing| {
                    let stored = stored.next().unwrap_or_else(|| Err(lost()));
                    stored.map(|()| outgoing)
                });
                results.push(match stored {
                    Ok(outgoing) => self.published(&outgoing, began).await,
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
        self.0.check_delay(event)?;
        let (batch, began) = ([Outgoing::from(event.clone())], Instant::now());
        self.0.backend.publish(&batch).await.pop().unwrap_or_else(|| Err(lost()))?;
        let [outgoing] = batch;
        self.published(&outgoing, began).await
    }

    /// Does what is left to do for an event that the backend has confirmed.
    async fn published(&self, outgoing: &Outgoing, began: Instant) -> Result<Report> {
        let (inner, event) = (&*self.0, &outgoing.event);
        inner.counters.published.one();
        #[cfg(feature = "testing")]
        inner.watched.published(event);
        if let Some(reason) = &outgoing.rejected {
            // Durable backends keep it as a dead letter; either way no handler sees it.
            context::span(event)
                .in_scope(|| tracing::warn!(%reason, "an input's line is not an event"));
            inner.counters.broadcasts.rejected.one();
            return Ok(Report::default());
        }
        let now = inner.table.now();
        let grouped = now.grouped(event);
        match event.delay() {
            None if inner.inline => {
                let mut report = self.dispatch(&now, event).await;
                report.matched += grouped;
                return Ok(report);
            }
            Some(delay) if inner.inline => self.dispatch_after(began, delay, event),
            _ => {}
        }
        let wanted = now.wanting(event).count();
        Ok(Report { matched: wanted + grouped, ..Report::default() })
    }
}

fn lost() -> Error {
    Error::new(ErrorKind::Internal, "publish", "the backend gave no result")
}

#[inline]
pub(super) fn may_publish(now: &Snapshot, outside: bool) -> Result<()> {
    if outside && now.phase == Phase::Open {
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
    pub(super) fn made_of(&self, given: &Event, outside: bool) -> Result<Option<Event>> {
        if outside && !self.encodes {
            return Ok(None);
        }
        let stamped = context::stamp(given);
        if !self.encodes {
            return Ok(stamped);
        }
        stamped.as_ref().unwrap_or(given).encoded().map(Some)
    }

    /// Returns one of a batch as it goes out.
    fn outgoing_of(&self, given: &Outgoing) -> Result<Outgoing> {
        self.check_delay(&given.event)?;
        let mut outgoing = given.clone();
        if given.rejected.is_none() {
            given.event.check()?;
            outgoing.event =
                self.made_of(&given.event, context::is_outside())?.unwrap_or(outgoing.event);
        }
        Ok(outgoing)
    }

    /// Tells whether publishing goes by way of the backend.
    #[inline]
    pub(super) fn carries(&self) -> bool {
        !self.inline || self.backend.collects()
    }

    /// Hands an event to the backend without awaiting, if all that is left is to dispatch it here.
    pub(super) fn take_now(&self, event: &Event) -> Option<Result<()>> {
        let now = self.inline && event.delay().is_none();
        now.then(|| self.backend.publish_now(event)).flatten()
    }

    /// As [`Inner::take_now`], but returns how many subscriptions with a group want the event.
    // Apart: who publishes where there is no group must not make room for it.
    #[cold]
    #[inline(never)]
    fn take_grouped(&self, now: &Snapshot, event: &Event) -> Option<Result<usize>> {
        self.take_now(event).map(|taken| taken.map(|()| now.grouped(event)))
    }

    fn check_delay(&self, event: &Event) -> Result<()> {
        let Some(delay) = event.delay() else { return Ok(()) };
        if self.inline && self.runtime().is_none() {
            return Err(task::no_runtime("publish").with("event", event.id()));
        }
        let capability = self.backend.capability();
        match capability.publish_delay_max {
            Some(most) if delay <= most => Ok(()),
            None if self.inline => Ok(()),
            Some(most) => {
                let what = format!("holds an event back for at most {most:?}");
                Err(capability.refuse("publish", &what, &[]).with("event", event.id()))
            }
            None => {
                let able = able(|c| c.publish_delay_max.is_some());
                let error = capability.refuse("publish", "holds no event back", &able);
                Err(error.with("event", event.id()))
            }
        }
    }
}
