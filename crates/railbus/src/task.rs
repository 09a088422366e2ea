//! Tasks: the runtime they run on, and a limit of time that needs none.

use crate::error::{Error, ErrorKind, Result};
use futures_util::poll;
use std::{
    future::Future,
    panic::catch_unwind,
    pin::pin,
    sync::mpsc::{RecvTimeoutError, channel},
    task::Poll,
    thread,
    time::Duration,
};
use tokio::{runtime::Handle, sync::oneshot, time::Sleep};

/// Returns the runtime that the caller runs on.
///
/// # Errors
/// Returns an unsupported error outside of one.
pub(crate) fn runtime(operation: &'static str) -> Result<Handle> {
    Handle::try_current().map_err(|_| no_runtime(operation))
}

/// Returns the error that tells that there is no runtime.
pub(crate) fn no_runtime(operation: &'static str) -> Error {
    let why = "there is no runtime for what goes on in the background";
    Error::new(ErrorKind::Unsupported, operation, why)
        .hint("call it inside a tokio runtime, such as that of #[railbus::main]")
}

/// Makes what waits for a while.
///
/// # Errors
/// Returns an unsupported error outside of a runtime, or where it has no clock.
pub(crate) fn sleep(operation: &'static str, wait: Duration) -> Result<Sleep> {
    runtime(operation)?;
    // Nothing but a panic tells that a runtime has no clock.
    catch_unwind(|| tokio::time::sleep(wait)).map_err(|_| {
        Error::new(ErrorKind::Unsupported, operation, "the runtime has no clock")
            .hint("build it with enable_time() or enable_all()")
    })
}

/// Awaits `work` for at most `limit`; where there is no runtime with a clock, a thread looks at it.
pub(crate) async fn within<T>(limit: Duration, work: impl Future<Output = T>) -> Option<T> {
    let mut work = pin!(work);
    // What is there already needs no clock.
    if let Poll::Ready(output) = poll!(&mut work) {
        return Some(output);
    }
    if Handle::try_current().is_ok() {
        return tokio::time::timeout(limit, work).await.ok();
    }
    let (ended, end) = channel::<()>();
    let (tell, told) = oneshot::channel();
    let looking = thread::Builder::new().name("railbus-limit".into()).spawn(move || {
        if end.recv_timeout(limit) == Err(RecvTimeoutError::Timeout) {
            let _ = tell.send(());
        }
    });
    let output = tokio::select! {
        output = work => Some(output),
        // Also if there was no thread to be had.
        _ = told => None,
    };
    drop((ended, looking));
    output
}
