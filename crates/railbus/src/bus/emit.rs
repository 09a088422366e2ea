//! Publishing without awaiting.

use super::{
    dispatch::{Dispatch, Start},
    open::{Bus, Inner},
    publish::may_publish,
    report::Report,
    table::Snapshot,
};
use crate::{
    context,
    error::{Error, ErrorKind, Result},
    event::{Event, IntoEvent},
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
        self.emit_event(event.into_event().borrow())
    }

    // Apart, so that it is compiled once, with all that it calls at hand.
    fn emit_event(&self, given: &Event) -> Result<Report> {
        let inner = &*self.0;
        let (now, outside) = (inner.table.now(), context::is_outside());
        may_publish(&now, outside)?;
        given.check()?;
        let made = inner.made_of(given, outside)?;
        let event = made.as_ref().unwrap_or(given);
        if inner.carries() || now.is_heavy() || event.delay().is_some() {
            inner.may_emit(&now, event)?;
            inner.emit_now(event)?;
        }
        inner.counters.published.one();
        #[cfg(feature = "testing")]
        inner.watched.published(event);
        let mut several = None;
        let (dispatch, need) = match now.one(event, &mut several) {
            Some(list) => {
                let mut start = Start::new(event, list);
                let stopped = start.go(outside);
                if let Ok(None) = stopped {
                    // There is nothing in it to drop, and finding that out costs a call.
                    std::mem::forget(stopped);
                    return Ok(self.through(start.through()));
                }
                start.resume(stopped)
            }
            None => Dispatch::begin(event, several),
        };
        Ok(self.go_on(dispatch, need, event, true))
    }
}

impl Inner {
    /// Hands an event to the groups of others in this process.
    fn emit_now(&self, event: &Event) -> Result<()> {
        let full = || {
            let why = "a group that wants the event has no room, and emit does not wait";
            let error = Error::new(ErrorKind::Overloaded, "emit", why).with("event", event.id());
            error.hint("await publish(..) instead")
        };
        if !self.carries() {
            return Ok(());
        }
        self.take_now(event).unwrap_or_else(|| Err(full()))
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
        if event.delay().is_some() {
            return refuse("the event is to be held back".into());
        }
        if now.grouped(event) > 0 {
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
