//! What `#[railbus::main]` expands to: a runtime, and an end that tells what went wrong.

use crate::error::{BoxError, Error, causes, chain};
#[cfg(feature = "testing")]
use crate::{
    clock::Timestamp,
    pretend::{self, Wall},
};
use std::{
    error::Error as StdError,
    future::Future,
    io::{Write, stderr},
    process::ExitCode,
};
#[cfg(feature = "testing")]
use std::{
    io,
    sync::{Arc, OnceLock},
};
use tokio::runtime::{self, Builder};

/// A runtime in the making, with timers and I/O.
pub struct Runtime {
    builder: Builder,
    // Where its wall clock starts, if its time is virtual.
    #[cfg(feature = "testing")]
    wall: Option<Timestamp>,
}

impl Runtime {
    /// One that runs everything on the thread that waits for it.
    #[must_use]
    pub fn current_thread() -> Self {
        Self::of(Builder::new_current_thread())
    }

    /// One with threads of its own, as many as there are processors.
    #[must_use]
    pub fn multi_thread() -> Self {
        Self::of(Builder::new_multi_thread())
    }

    fn of(builder: Builder) -> Self {
        Self {
            builder,
            #[cfg(feature = "testing")]
            wall: None,
        }
    }

    /// Lets its time stand still while anything is ready to run, and jump to what is due next when
    /// nothing is; the wall clock goes with it, from `start` on. For one of the current thread.
    #[cfg(feature = "testing")]
    #[must_use]
    pub(crate) fn virtual_time(mut self, start: Timestamp) -> Self {
        self.builder.start_paused(true);
        self.wall = Some(start);
        self
    }

    /// Sets how many threads it has.
    ///
    /// # Panics
    /// Panics if it is none; the macros refuse that.
    #[must_use]
    pub fn workers(mut self, workers: usize) -> Self {
        self.builder.worker_threads(workers);
        self
    }

    pub(crate) fn start(mut self) -> Result<runtime::Runtime, BoxError> {
        let failed = |e| format!("the runtime can't start: {e}");
        #[cfg(feature = "testing")]
        if let Some(start) = self.wall {
            return Ok(paused(self.builder, start).map_err(failed)?);
        }
        Ok(self.builder.enable_all().build().map_err(failed)?)
    }
}

/// Builds a runtime whose wall clock goes with its time, on this thread and those that it starts for
/// work that blocks.
#[cfg(feature = "testing")]
fn paused(mut builder: Builder, start: Timestamp) -> io::Result<runtime::Runtime> {
    let wall = Arc::<OnceLock<Wall>>::default();
    let of = Arc::clone(&wall);
    builder.on_thread_start(move || pretend::set_wall(of.get().copied()));
    let built = builder.enable_all().build()?;
    let entered = built.enter();
    let since = wall.get_or_init(|| (tokio::time::Instant::now(), start.as_micros()));
    pretend::set_wall(Some(*since));
    drop(entered);
    Ok(built)
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
        let _ = writeln!(stderr(), "error: {}", told(&*error));
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
