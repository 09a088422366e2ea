//! Tasks: the runtime they run on, and a limit of time that needs none.

use crate::error::{Error, ErrorKind, Result};
use futures_util::poll;
use std::{
    future::{Future, poll_fn},
    mem::forget,
    panic::{AssertUnwindSafe, catch_unwind},
    pin::{Pin, pin},
    sync::mpsc::{RecvTimeoutError, channel},
    task::Poll,
    thread,
    time::Duration,
};
use tokio::{
    runtime::{Builder, Handle},
    sync::oneshot,
    task::coop,
    time::Sleep,
};

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

/// Drops what is the user's; a panic in its drop goes no further.
pub(crate) fn let_go<T>(value: T) {
    if let Err(panic) = catch_unwind(AssertUnwindSafe(|| drop(value))) {
        // Dropping what the panic carries may panic as well.
        forget(panic);
    }
}

/// Lets others have their turn; needs no runtime.
pub(crate) async fn breathe() {
    let mut is_second = false;
    poll_fn(|cx| {
        if std::mem::replace(&mut is_second, true) {
            return Poll::Ready(());
        }
        cx.waker().wake_by_ref();
        Poll::Pending
    })
    .await;
}

/// Polls a future once, to be woken as this task is. Not at the expense of the task's budget, which
/// would make a handler that is quick look as if it waited.
pub(crate) async fn poll_once<F: Future + ?Sized>(mut future: Pin<&mut F>) -> Poll<F::Output> {
    let once = poll_fn(|cx| Poll::Ready(future.as_mut().poll(cx)));
    coop::unconstrained(once).await
}

/// Awaits `work` for at most `limit`. A thread looks at the clock: a runtime may have none, and
/// can't be asked.
pub(crate) async fn within<T>(limit: Duration, work: impl Future<Output = T>) -> Option<T> {
    let mut work = pin!(work);
    // What is there already needs no clock.
    if let Poll::Ready(output) = poll!(&mut work) {
        return Some(output);
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
    drop(ended);
    if let Ok(looking) = looking {
        // It ends at once, so that nothing of it is left when this returns.
        let _ = looking.join();
    }
    output
}

/// Runs `work` on a thread of its own, with a runtime of its own.
///
/// # Errors
/// Returns an internal error if there is no thread or runtime to be had.
pub(crate) fn aside(
    name: &'static str,
    work: impl Future<Output = ()> + Send + 'static,
) -> Result<()> {
    let failed = |e| Error::new(ErrorKind::Internal, name, "there is no thread for it").because(e);
    let runtime = Builder::new_current_thread().enable_all().build().map_err(failed)?;
    let started = thread::Builder::new().name(name.into()).spawn(move || runtime.block_on(work));
    started.map(drop).map_err(failed)
}
