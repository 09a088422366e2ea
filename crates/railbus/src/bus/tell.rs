//! Running the broadcast subscriptions of this process, and telling them of what failed.

use super::{
    dispatch::{Again, Dispatch, Need, Running, Start, count_through},
    failure::Failed,
    open::{Bus, Inner},
    report::Report,
    table::{Phase, Snapshot},
};
use crate::{
    context::{self, Delivering},
    delivery::{Outcome, panicked},
    error::{Error, ErrorKind},
    event::{Event, Type},
    handler::Called,
    instrument::seat,
    task::let_go,
};
use futures_util::FutureExt;
use std::panic::AssertUnwindSafe;
use tokio::runtime::Handle;

/// How deep publishing inside handlers may go: far more than a design needs, few enough for any
/// stack.
pub(super) const DEPTH_MAX: usize = 64;

impl Bus {
    /// Runs the broadcast subscriptions that want the event.
    pub(super) async fn dispatch(&self, now: &Snapshot, event: &Event) -> Report {
        let (outside, mut several) = (context::is_outside(), None);
        let (dispatch, need) = match now.one(event, &mut several) {
            None => Dispatch::begin(event, several),
            Some(list) => {
                let mut start = Start::new(event, list);
                let stopped = loop {
                    match start.go(outside) {
                        Ok(None) => return self.through(start.through()),
                        Ok(Some(Called::Later(running))) => {
                            match outcome_of(running, event).await {
                                Outcome::Done => {
                                    start.succeeded();
                                    if start.is_over() {
                                        return self.through(start.through());
                                    }
                                }
                                outcome => break Ok(Some(Called::Now(outcome))),
                            }
                        }
                        stopped => break stopped,
                    }
                };
                start.resume(stopped)
            }
        };
        match need {
            Need::Nothing => self.ended(dispatch, event, true),
            // In a box, so that the future of a publish that needs none of this is small.
            need => Box::pin(self.go_on_awaiting(dispatch, need, event, true)).await,
        }
    }

    /// Counts a dispatch that needed nothing.
    #[inline]
    pub(super) fn through(&self, succeeded: u64) -> Report {
        count_through(&self.0.counters, seat(), succeeded);
        Report { matched: succeeded as usize, ..Report::default() }
    }

    /// Goes on with a dispatch.
    async fn go_on_awaiting<'a>(
        &self,
        mut dispatch: Dispatch<'a>,
        mut need: Need<'a>,
        event: &'a Event,
        counted: bool,
    ) -> Report {
        loop {
            let failed = match need {
                Need::Nothing => return self.ended(dispatch, event, counted),
                Need::Await(running) => dispatch.ended(outcome_of(running, event).await),
                Need::Tell(failed) => Some(failed),
            };
            if let Some(event) = failed.and_then(|failed| self.0.event_of(failed, counted)) {
                Box::pin(self.tell(event)).await;
            }
            need = dispatch.go();
        }
    }

    /// Ends a dispatch, and sees to what is to be tried again.
    fn ended(&self, dispatch: Dispatch<'_>, event: &Event, counted: bool) -> Report {
        let (mut report, again) = dispatch.finish(counted.then_some(&self.0.counters));
        if let Some(again) = again {
            self.try_again(again, event, counted, &mut report);
        }
        report
    }

    /// Goes on with a dispatch to subscriptions none of which is async.
    #[cold]
    pub(super) fn go_on<'a>(
        &self,
        mut dispatch: Dispatch<'a>,
        mut need: Need<'a>,
        event: &Event,
        counted: bool,
    ) -> Report {
        loop {
            let failed = match need {
                Need::Nothing => return self.ended(dispatch, event, counted),
                // Not one that says it is async, or it would not have come here.
                Need::Await(running) => {
                    let_go(running);
                    dispatch.ended(Outcome::Failed(Box::new(unawaited())))
                }
                Need::Tell(failed) => Some(failed),
            };
            if let Some(event) = failed.and_then(|failed| self.0.event_of(failed, counted)) {
                self.tell_now(event);
            }
            need = dispatch.go();
        }
    }

    /// Tells the broadcast subscriptions here something that Railbus itself has to say: never
    /// stored, never counted, never refused.
    pub(crate) async fn tell(&self, event: Event) {
        let now = self.0.table.now();
        if context::depth() >= DEPTH_MAX || now.phase == Phase::Closed {
            return;
        }
        if let Some((dispatch, need)) = begin(&now, &event) {
            // In a box, so that the future of who tells is small.
            drop(Box::pin(self.go_on_awaiting(dispatch, need, &event, false)).await);
        }
    }

    /// As [`Bus::tell`], where nothing can be awaited: async subscriptions hear it soon.
    pub(crate) fn tell_now(&self, event: Event) {
        let now = self.0.table.now();
        if !now.is_heavy() {
            if context::depth() < DEPTH_MAX
                && let Some((dispatch, need)) = begin(&now, &event)
            {
                self.go_on(dispatch, need, &event, false);
            }
        } else if let Some(runtime) = self.0.runtime() {
            let bus = self.clone();
            let tell = self.0.bounded(async move { bus.tell(event).await });
            self.0.retries.spawn_on(tell, &runtime);
        }
    }

    #[cold]
    fn try_again(&self, again: Again, event: &Event, counted: bool, report: &mut Report) {
        let Some(runtime) = self.0.runtime() else {
            context::span(event)
                .in_scope(|| tracing::error!("not tried again: there is no runtime"));
            return again.give_up(report, counted.then_some(&*self.0.counters));
        };
        let (bus, event) = (self.clone(), event.clone());
        let tell = {
            let bus = self.clone();
            move |failed| {
                if let Some(event) = bus.0.event_of(Box::new(failed), counted) {
                    bus.tell_now(event);
                }
            }
        };
        let run = async move { again.run(event, counted.then_some(&*bus.0.counters), tell).await };
        self.0.retries.spawn_on(self.0.bounded(run), &runtime);
    }
}

fn unawaited() -> Error {
    let why = "the handler says it needs no awaiting, but does: set ASYNC to true";
    Error::new(ErrorKind::Handler, "handler", why)
}

/// Begins a dispatch that is not to be counted; returns it if it is not through at once.
fn begin<'a>(now: &'a Snapshot, event: &'a Event) -> Option<(Dispatch<'a>, Need<'a>)> {
    let mut several = None;
    match now.one(event, &mut several) {
        Some(list) => {
            let mut start = Start::new(event, list);
            match start.go(context::is_outside()) {
                Ok(None) => None,
                stopped => Some(start.resume(stopped)),
            }
        }
        None => Some(Dispatch::begin(event, several)),
    }
}

/// Awaits a handler; a panic stays inside.
async fn outcome_of(running: Running<'_>, event: &Event) -> Outcome {
    let running = AssertUnwindSafe(running).catch_unwind();
    let outcome = Delivering::new(event, running).await;
    outcome.unwrap_or_else(|panic| {
        let outcome = panicked("panicked", &*panic);
        let_go(panic);
        outcome
    })
}

impl Inner {
    /// Logs a failure, and counts it unless it is of one of Railbus's own events; returns the event
    /// that tells of it, if anyone listens.
    pub(super) fn event_of(&self, failed: Box<Failed>, counted: bool) -> Option<Event> {
        if counted {
            failed.count(&self.counters);
        }
        failed.log();
        let heard = !failed.is_of_failure() && self.table.now().hears(Type::HANDLER_ERROR);
        heard.then(|| failed.into_event())
    }

    /// Returns the runtime that tasks run on: the one the bus was used in, or the caller's.
    pub(super) fn runtime(&self) -> Option<Handle> {
        self.runtime.get().cloned().or_else(|| Handle::try_current().ok())
    }
}
