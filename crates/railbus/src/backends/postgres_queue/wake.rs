//! How buses hear of each other's commits: the server notifies them. That is a hint alone, as it may
//! be lost: whoever waits looks by itself now and then.
//!
//! Commits that notify stand in line on the server, over all its databases. So what publishes does not
//! notify: once it has committed, another statement does, at most every [`RING_EVERY`].

use super::{lines::Lines, settings::Settings};
use crate::{
    backends::postgres::{Hear, Heard, Listener},
    error::Result,
};
use std::{
    collections::VecDeque,
    pin::pin,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, AtomicU64, Ordering::SeqCst},
    },
    time::{Duration, Instant},
};
use tokio::{
    sync::{Notify, watch},
    time::{sleep, timeout},
};
use tokio_postgres::types::Type;

/// How often others are told at most, so that telling does not take what publishing needs.
const RING_EVERY: Duration = Duration::from_millis(2);

/// The bell of one open queue.
#[derive(Debug)]
pub(super) struct Wake {
    news: watch::Sender<u64>,
    runs: RunNews,
    channel: String,
    // On which the end of runs is asked for.
    run_channel: String,
    poll: Duration,
    tells: bool,
    // Whether others are about to be told.
    ringing: AtomicBool,
    // When they were told.
    rung: tokio::sync::Mutex<Instant>,
    is_listening: AtomicBool,
    listener: tokio::sync::Mutex<Option<Listener>>,
}

impl Wake {
    pub(super) fn new(settings: &Settings) -> Arc<Self> {
        Arc::new(Self {
            news: watch::Sender::new(0),
            runs: RunNews::default(),
            channel: settings.channel(),
            run_channel: settings.run_channel(),
            poll: settings.poll,
            tells: !settings.poll_only,
            ringing: AtomicBool::new(false),
            rung: tokio::sync::Mutex::new(Instant::now()),
            is_listening: AtomicBool::new(false),
            listener: tokio::sync::Mutex::default(),
        })
    }

    /// Starts listening, once; tells whether it was before.
    pub(super) async fn listen(self: &Arc<Self>, lines: &Lines) -> Result<bool> {
        let was = self.is_listening.load(SeqCst);
        let mut listener = self.listener.lock().await;
        let is_alive = listener.as_ref().is_some_and(|listener| !listener.is_over());
        if is_alive || !self.tells {
            return Ok(was || !self.tells);
        }
        let bell = Arc::downgrade(self);
        let hear: Hear = Arc::new(move |heard| {
            let Some(bell) = bell.upgrade() else { return };
            match heard {
                Heard::Note(note) if note.channel() == bell.run_channel => {
                    bell.called_off(note.payload());
                }
                Heard::Note(_) => bell.here(),
                _ => {
                    bell.runs.missed();
                    bell.here();
                }
            }
        });
        let channels = [self.channel.clone(), self.run_channel.clone()];
        *listener = Some(Listener::start(lines.first(), &channels, hear).await?);
        self.is_listening.store(true, SeqCst);
        Ok(was)
    }

    /// Returns what changes whenever there may be work.
    pub(super) fn news(&self) -> watch::Receiver<u64> {
        self.news.subscribe()
    }

    /// Returns how long to wait for news before looking.
    pub(super) fn poll(&self) -> Duration {
        self.poll
    }

    /// Tells whoever waits in this process that there may be work.
    pub(super) fn here(&self) {
        self.news.send_modify(|news| *news = news.wrapping_add(1));
    }

    /// Tells this process and all others that there is work.
    pub(super) fn everyone(self: &Arc<Self>, lines: &Arc<Lines>) {
        self.here();
        if !self.tells || self.ringing.swap(true, SeqCst) {
            return;
        }
        let (bell, lines) = (Arc::clone(self), Arc::clone(lines));
        let rings = Rings(Arc::clone(self));
        tokio::spawn(async move {
            let mut last = bell.rung.lock().await;
            if let Some(early) = RING_EVERY.checked_sub(last.elapsed()) {
                sleep(early).await;
            }
            // Before the statement: what is published while it is on its way rings again.
            drop(rings);
            if let Err(error) = bell.ring(&lines).await {
                tracing::debug!(%error, "others could not be told of new events");
            }
            *last = Instant::now();
        });
    }

    async fn ring(&self, lines: &Lines) -> Result<()> {
        let values = [(&self.channel as &(dyn tokio_postgres::types::ToSql + Sync), Type::TEXT)];
        lines.query("notify", "SELECT pg_notify($1, '')", &values).await.map(drop)
    }

    /// Waits for news that `seen` has not seen, for at most `limit`.
    pub(super) async fn wait(
        seen: &mut watch::Receiver<u64>,
        stopped: &watch::Sender<bool>,
        limit: Duration,
    ) {
        let mut stopped = stopped.subscribe();
        let either = async {
            tokio::select! {
                _ = seen.changed() => {}
                _ = stopped.wait_for(|stopped| *stopped) => {}
            }
        };
        let _ = timeout(limit, either).await;
    }

    /// Returns the channel on which the end of runs is asked for, if it is.
    pub(super) fn calls_off(&self) -> Option<String> {
        self.tells.then(|| self.run_channel.clone())
    }

    /// Tells whoever runs that run in this process that someone asked for its end.
    pub(super) fn called_off(&self, id: &str) {
        self.runs.add(id);
    }

    /// Returns what tells whether someone asked for the end of a run.
    pub(super) fn news_of_runs(&self) -> RunNews {
        self.runs.clone()
    }

    /// Stops listening within `limit`.
    pub(super) async fn close(&self, limit: Duration) {
        self.here();
        if let Some(listener) = self.listener.lock().await.take() {
            listener.close(limit).await;
        }
    }
}

/// That others are about to be told, also if the runtime ends before they are.
struct Rings(Arc<Wake>);

impl Drop for Rings {
    fn drop(&mut self) {
        self.0.ringing.store(false, SeqCst);
    }
}

/// How many runs are remembered whose end was asked for, as they may be in no hurry to hear it.
const CALLED_OFF_MAX: usize = 256;

/// The runs whose end was asked for since, and that have not been told yet.
#[derive(Clone, Debug, Default)]
pub(super) struct RunNews {
    called_off: Arc<Mutex<VecDeque<String>>>,
    // How often some may have been missed.
    gaps: Arc<AtomicU64>,
    news: Arc<Notify>,
}

impl RunNews {
    fn add(&self, id: &str) {
        let mut called_off = self.called_off.lock().unwrap_or_else(PoisonError::into_inner);
        if called_off.len() == CALLED_OFF_MAX {
            called_off.pop_front();
        }
        called_off.push_back(id.to_owned());
        drop(called_off);
        self.news.notify_waiters();
    }

    fn missed(&self) {
        self.gaps.fetch_add(1, SeqCst);
        self.news.notify_waiters();
    }

    fn take(&self, id: &str) -> bool {
        let mut called_off = self.called_off.lock().unwrap_or_else(PoisonError::into_inner);
        let before = called_off.len();
        called_off.retain(|one| one != id);
        called_off.len() < before
    }

    /// Waits until the end of that run is asked for, or may have been.
    pub(super) async fn until(&self, id: &str) {
        let gaps = self.gaps.load(SeqCst);
        loop {
            let mut news = pin!(self.news.notified());
            // From here on nothing is missed.
            news.as_mut().enable();
            if self.take(id) || self.gaps.load(SeqCst) != gaps {
                return;
            }
            news.await;
        }
    }
}
