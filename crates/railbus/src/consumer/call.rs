//! Running a handler, so that neither an error nor a panic goes further than its outcome.

use super::entry::Entry;
use crate::{
    context::{self, Delivering},
    delivery::{Delivery, Outcome, contained},
    error::{Error, ErrorKind},
    handler::{Call, Called},
};
use futures_util::FutureExt;
use std::panic::{AssertUnwindSafe, catch_unwind};

/// Runs the handler of `entry` once.
pub(crate) async fn run_entry(entry: &Entry, delivery: &Delivery) -> Outcome {
    // A closure in the predicate may panic; the event is let through to here, where it can fail.
    if entry.asks_closures {
        let wanted = AssertUnwindSafe(|| entry.predicate.matches(delivery.event()));
        match catch_unwind(wanted) {
            Ok(true) => {}
            Ok(false) => return Outcome::Skip,
            Err(panic) => return contained("the predicate panicked", panic),
        }
    }
    let event = delivery.event();
    let call = Call::of(delivery, &entry.world);
    let call = AssertUnwindSafe(|| entry.handler.call(call));
    match context::deliver(event, context::is_outside(), || catch_unwind(call)) {
        Ok(Called::Now(outcome)) => outcome,
        Ok(Called::Later(_)) if !entry.handler.is_async() => {
            let why = "it says that it needs no awaiting, but does: its Handler must set ASYNC";
            Outcome::Failed(Box::new(Error::new(ErrorKind::Handler, "handler", why)))
        }
        Ok(Called::Later(running)) => {
            let running = Delivering::new(event, AssertUnwindSafe(running).catch_unwind());
            running.await.unwrap_or_else(|panic| contained("panicked", panic))
        }
        Err(panic) => contained("panicked", panic),
    }
}
