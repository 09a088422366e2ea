//! The signals that ask a program to stop.

use crate::error::{Error, ErrorKind, Result};
use tokio::signal::unix::{Signal, SignalKind, signal as listen};

/// SIGINT and SIGTERM, listened to from the moment this is made.
///
/// # Examples
/// ```no_run
/// use railbus::{Bus, shutdown::Signals};
///
/// #[railbus::main]
/// async fn main() -> railbus::Result<()> {
///     let mut signals = Signals::listen()?;
///     let bus = Bus::new();
///     println!("{}: draining; once more to stop at once", signals.next().await);
///     tokio::select! {
///         closed = bus.close() => closed,
///         _ = signals.next() => Ok(()),
///     }
/// }
/// ```
#[derive(Debug)]
pub struct Signals {
    interrupt: Signal,
    terminate: Signal,
}

impl Signals {
    /// Starts listening; from here on neither signal ends the process by itself.
    ///
    /// # Errors
    /// Returns an error if the process may not install signal handlers.
    pub fn listen() -> Result<Self> {
        let failed =
            |e| Error::new(ErrorKind::Internal, "signals", "cannot listen for signals").because(e);
        Ok(Self {
            interrupt: listen(SignalKind::interrupt()).map_err(failed)?,
            terminate: listen(SignalKind::terminate()).map_err(failed)?,
        })
    }

    /// Waits for the next signal and returns its name.
    ///
    /// # Cancel safety
    /// No signal is lost if this is dropped.
    pub async fn next(&mut self) -> &'static str {
        tokio::select! {
            _ = self.interrupt.recv() => "SIGINT",
            _ = self.terminate.recv() => "SIGTERM",
        }
    }
}

/// Waits for the first SIGINT or SIGTERM and returns its name.
///
/// # Examples
/// ```no_run
/// use railbus::{Bus, shutdown};
///
/// #[railbus::main]
/// async fn main() -> railbus::Result<()> {
///     let bus = Bus::new();
///     shutdown::signal().await?;
///     bus.close().await
/// }
/// ```
///
/// # Errors
/// Returns an error if the process may not install signal handlers.
pub async fn signal() -> Result<&'static str> {
    Ok(Signals::listen()?.next().await)
}
