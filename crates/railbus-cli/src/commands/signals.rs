//! SIGINT and SIGTERM: the first asks a command to end, the second ends it.

use super::BROKEN;
use crate::output;
use railbus::{error::Result, shutdown::Signals};
use std::{process, time::Duration};
use tokio::{sync::watch, time::timeout};

/// For how long the first signal may come again without counting as the second: some wrappers,
/// such as timeout(1), send it to the process and then to its group.
const ECHO: Duration = Duration::from_millis(100);

/// What becomes of what was under way if it is stopped at once.
const LEASED: &str = "what was under way comes again when its lease runs out";

/// Turns the first signal into a request to stop, which says what happens `next`, and the second
/// into the end.
pub(super) fn stop_on_signal(next: &'static str) -> Result<watch::Receiver<bool>> {
    stop_or_break(next, LEASED)
}

/// As [`stop_on_signal`]; says what becomes of what was under way if the second comes.
pub(super) fn stop_or_break(
    next: &'static str,
    broken: &'static str,
) -> Result<watch::Receiver<bool>> {
    let mut signals = Signals::listen()?;
    let (stop, stopped) = watch::channel(false);
    tokio::spawn(async move {
        let name = signals.next().await;
        stop.send_replace(true);
        let echoes = async {
            loop {
                signals.next().await;
            }
        };
        let _: Result<(), _> = timeout(ECHO, echoes).await;
        // Said only now: from here on it is true.
        output::note(&format!("{name}: {next}; once more to stop at once"));
        signals.next().await;
        output::note(&format!("stopped at once: {broken}"));
        process::exit(i32::from(BROKEN));
    });
    Ok(stopped)
}
