//! What `#[railbus::test]` expands to.

use crate::{
    error::BoxError,
    runtime::{Ending, Runtime, told},
};
use std::{
    fmt,
    future::Future,
    panic::resume_unwind,
    sync::mpsc::{RecvTimeoutError, channel},
    thread,
    time::Duration,
};

/// Why a test failed, as the test harness shows it.
pub struct Failed(String);

impl fmt::Debug for Failed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl From<BoxError> for Failed {
    fn from(error: BoxError) -> Self {
        Self(told(&*error))
    }
}

/// Runs a test on a thread of its own, so that one that blocks ends as well.
///
/// # Errors
/// Returns the error that the test returned.
///
/// # Panics
/// Panics if the test does, or takes longer than `limit`; its thread is left behind then.
pub fn run_test<F: Future<Output: Ending>>(
    runtime: Runtime,
    limit: Duration,
    test: impl FnOnce() -> F + Send + 'static,
) -> Result<(), Failed> {
    let (ended, end) = channel();
    let run = move || {
        let result = runtime.start().and_then(|started| started.block_on(test()).end());
        let _ = ended.send(());
        result
    };
    // The harness names threads after tests; messages of panics show that name.
    let name = thread::current().name().unwrap_or("test").to_owned();
    let thread = thread::Builder::new().name(name).spawn(run).map_err(BoxError::from)?;
    if end.recv_timeout(limit) == Err(RecvTimeoutError::Timeout) {
        panic!(
            "the test is still running after {limit:?}: what it waits for does not come, or set \
             another limit, such as #[railbus::test(timeout = \"5m\")]"
        );
    }
    match thread.join() {
        Ok(result) => Ok(result.map(drop)?),
        Err(panic) => resume_unwind(panic),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::{Error, ErrorKind};

    #[test]
    fn a_test_that_fails_says_why_and_what_to_do() {
        let error = || Error::new(ErrorKind::Config, "open", "no backend named").hint("name one");
        let failing = async move || Err::<(), _>(error());
        let minute = Duration::from_secs(60);
        let failed = run_test(Runtime::current_thread(), minute, failing).unwrap_err();
        assert_eq!(format!("{failed:?}"), "open: no backend named\nhelp: name one");
    }
}
