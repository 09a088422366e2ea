//! SIGINT and SIGTERM: the first asks a command to end, the second ends it.

use super::BROKEN;
use crate::output;
use railbus::{error::Result, shutdown::Signals};
use std::process;
use tokio::sync::watch;

/// Turns the first signal into a request to stop, which says what happens `next`, and the second
/// into the end.
pub(super) fn stop_on_signal(next: &'static str) -> Result<watch::Receiver<bool>> {
    let mut signals = Signals::listen()?;
    let (stop, stopped) = watch::channel(false);
    tokio::spawn(async move {
        let name = signals.next().await;
        output::note(&format!("{name}: {next}; once more to stop at once"));
        stop.send_replace(true);
        signals.next().await;
        output::note("stopped at once: what was under way comes again when its lease runs out");
        process::exit(i32::from(BROKEN));
    });
    Ok(stopped)
}
