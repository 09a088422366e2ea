//! SIGINT and SIGTERM: the first asks a command to end, the second ends it.

use super::BROKEN;
use crate::output;
use railbus::{error::Result, shutdown::Signals};
use std::{process, time::Duration};
use tokio::{sync::watch, time::timeout};

/// For how long the first signal may come again without counting as the second: some wrappers,
/// such as timeout(1), send it to the process and then to its group.
const ECHO: Duration = Duration::from_millis(100);

/// Turns the first signal into a request to stop, which says what happens `next`, and the second
/// into the end.
pub(super) fn stop_on_signal(next: &'static str) -> Result<watch::Receiver<bool>> {
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
        output::note("stopped at once: what was under way comes again when its lease runs out");
        process::exit(i32::from(BROKEN));
    });
    Ok(stopped)
}
