//! Running a handler, so that neither an error nor a panic goes further than its outcome.

use super::entry::Entry;
use crate::{
    delivery::{Delivery, Outcome},
    error::{Error, ErrorKind},
    handler::Called,
};
use futures_util::FutureExt;
use std::{
    any::Any,
    panic::{AssertUnwindSafe, catch_unwind},
};

tokio::task_local! {
    /// How many deliveries deep this task is.
    static DEPTH: usize;
}

/// Returns how many deliveries deep the caller is: 0 outside of handlers.
pub(crate) fn in_delivery() -> usize {
    DEPTH.try_with(|depth| *depth).unwrap_or(0)
}

/// Runs the handler of `entry` once.
pub(crate) async fn run_entry(entry: &Entry, delivery: &Delivery) -> Outcome {
    let depth = in_delivery() + 1;
    let started =
        DEPTH.sync_scope(depth, || catch_unwind(AssertUnwindSafe(|| entry.handler.call(delivery))));
    match started {
        Ok(Called::Now(outcome)) => outcome,
        Ok(Called::Later(running)) => {
            let running = DEPTH.scope(depth, AssertUnwindSafe(running).catch_unwind());
            running.await.unwrap_or_else(|panic| panicked(&*panic))
        }
        Err(panic) => panicked(&*panic),
    }
}

fn panicked(panic: &(dyn Any + Send)) -> Outcome {
    let said = panic
        .downcast_ref::<&str>()
        .copied()
        .or_else(|| panic.downcast_ref::<String>().map(String::as_str))
        .unwrap_or("no message");
    let error = Error::new(ErrorKind::Handler, "handler", format!("panicked: {said}"));
    Outcome::Failed(Box::new(error))
}
