//! What `#[railbus::main]` expands to: a runtime, and an end that tells what went wrong.

use crate::error::{BoxError, Error, causes, chain};
use std::{error::Error as StdError, future::Future, io::Write, process::ExitCode};
use tokio::runtime::{self, Builder};

/// A runtime in the making, with timers and I/O.
pub struct Runtime(Builder);

impl Runtime {
    /// One that runs everything on the thread that waits for it.
    #[must_use]
    pub fn current_thread() -> Self {
        Self(Builder::new_current_thread())
    }

    /// One with threads of its own, as many as there are processors.
    #[must_use]
    pub fn multi_thread() -> Self {
        Self(Builder::new_multi_thread())
    }

    /// Sets how many threads it has.
    ///
    /// # Panics
    /// Panics if it is none; the macros refuse that.
    #[must_use]
    pub fn workers(mut self, workers: usize) -> Self {
        self.0.worker_threads(workers);
        self
    }

    pub(crate) fn start(mut self) -> Result<runtime::Runtime, BoxError> {
        let failed = |e| format!("the runtime can't start: {e}");
        Ok(self.0.enable_all().build().map_err(failed)?)
    }
}

/// What `main` and tests may return.
#[diagnostic::on_unimplemented(
    message = "`main` and tests can't return `{Self}`",
    note = "they return (), a Result<(), E> with any error, and `main` an ExitCode too: `async fn main() -> railbus::Result<()>`"
)]
pub trait Ending {
    /// Tells how it ended.
    ///
    /// # Errors
    /// Returns what was returned as an error.
    fn end(self) -> Result<ExitCode, BoxError>;
}

impl Ending for () {
    fn end(self) -> Result<ExitCode, BoxError> {
        Ok(ExitCode::SUCCESS)
    }
}

impl Ending for ExitCode {
    fn end(self) -> Result<ExitCode, BoxError> {
        Ok(self)
    }
}

impl<T: Ending, E: Into<BoxError>> Ending for Result<T, E> {
    fn end(self) -> Result<ExitCode, BoxError> {
        self.map_err(Into::into)?.end()
    }
}

/// Runs a program to its end, and tells an error on stderr.
pub fn run_main<F: Future<Output: Ending>>(runtime: Runtime, program: F) -> ExitCode {
    let runtime = runtime.start();
    let ended = runtime.as_ref().map_err(ToString::to_string);
    let ended = ended.map_err(Into::into).and_then(|started| started.block_on(program).end());
    ended.unwrap_or_else(|error| {
        // Nobody could be told that stderr is closed.
        let _ = writeln!(std::io::stderr(), "error: {}", told(&*error));
        ExitCode::FAILURE
    })
}

/// Returns the error with its causes, and on a second line what to do about it.
pub(crate) fn told(error: &(dyn StdError + 'static)) -> String {
    let mut line = chain(error);
    if let Some(advice) = advice(error) {
        line.push_str("\nhelp: ");
        line.push_str(advice);
    }
    line
}

fn advice<'a>(error: &'a (dyn StdError + 'static)) -> Option<&'a str> {
    causes(error).find_map(|error| error.downcast_ref::<Error>()?.advice())
}
