//! One live line on a terminal, plain log lines otherwise.

use crate::output;
use indicatif::{ProgressBar, ProgressStyle};
use railbus::{app::Progress, bus::Bus};
use std::time::Duration;

/// How often the live line is drawn anew.
const DRAW_EVERY: Duration = Duration::from_millis(100);

/// How often a log line tells how far it is.
const LOG_EVERY: Duration = Duration::from_secs(10);

/// Shows how far the run is until it is dropped.
pub(super) struct Live {
    task: tokio::task::JoinHandle<()>,
    bar: Option<ProgressBar>,
}

impl Live {
    pub(super) fn start(bus: Bus) -> Self {
        let bar = output::is_live().then(|| {
            let bar = ProgressBar::new_spinner();
            bar.set_style(ProgressStyle::default_spinner());
            bar.enable_steady_tick(DRAW_EVERY);
            bar
        });
        let shown = bar.clone();
        let task = tokio::spawn(async move {
            let mut last = String::new();
            loop {
                let every = if shown.is_some() { DRAW_EVERY } else { LOG_EVERY };
                tokio::time::sleep(every).await;
                let line = line(&Progress::of(&bus));
                match &shown {
                    Some(bar) => bar.set_message(line),
                    None if line != last => {
                        output::note(&line);
                        last = line;
                    }
                    None => {}
                }
            }
        });
        Self { task, bar }
    }
}

fn line(progress: &Progress) -> String {
    let Progress { published, succeeded, retried, given_up } = progress;
    format!("{published} read · {succeeded} handled · {retried} retries · {given_up} given up")
}

impl Drop for Live {
    fn drop(&mut self) {
        self.task.abort();
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
    }
}
