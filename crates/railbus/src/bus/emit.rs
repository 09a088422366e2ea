//! Publishing without awaiting.

use super::{
    dispatch::{Start, count_through},
    open::{Bus, Inner},
    publish::may_publish,
    report::Report,
    table::Snapshot,
};
use crate::{
    error::{Error, ErrorKind, Result},
    event::{Event, IntoEvent},
    instrument::seat,
};
use std::borrow::Borrow;

impl Bus {
    /// Publishes without awaiting: for sync code and sync handlers. It needs no runtime.
    ///
    /// # Examples
    /// ```
    /// use railbus::{Bus, Event};
    ///
    /// let bus = Bus::new();
    /// bus.on("tick").run(|_: &Event| {}).now()?;
    /// assert_eq!(bus.emit(Event::new("tick"))?.matched, 1);
    /// bus.on("tick").run(async |_: Event| {}).now()?;
    /// assert!(bus.emit(Event::new("tick")).is_err(), "one of them is async");
    /// # Ok::<(), railbus::Error>(())
    /// ```
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
        if !inner.inline || now.has_groups() || now.is_heavy() || event.delay().is_some() {
            inner.may_emit(&now, event)?;
        }
        let seat = seat();
        inner.counters.published.add_at(seat, 1);
        let mut start = Start::new(&now, event);
        let stopped = start.go();
        if let Ok(None) = stopped
            && let Some(succeeded) = start.through()
        {
            count_through(&inner.counters, seat, succeeded);
            return Ok(Report { matched: succeeded as usize, ..Report::default() });
        }
        let (dispatch, need) = start.resume(stopped);
        Ok(self.go_on(dispatch, need, event, true))
    }
}

impl Inner {
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
        if event.delay().is_some() {
            return refuse("the event is to be held back".into());
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
}
