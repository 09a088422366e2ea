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
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::SeqCst},
    },
    time::{Duration, Instant},
};
use tokio::{
    sync::watch,
    time::{sleep, timeout},
};
use tokio_postgres::types::Type;

/// How often others are told at most, so that telling does not take what publishing needs.
const RING_EVERY: Duration = Duration::from_millis(2);

/// The bell of one open queue.
#[derive(Debug)]
pub(super) struct Wake {
    news: watch::Sender<u64>,
    channel: String,
    poll: Duration,
    tells: bool,
    // Whether others are about to be told.
    ringing: AtomicBool,
    // When they were told.
    rung: tokio::sync::Mutex<Instant>,
    listener: tokio::sync::Mutex<Option<Listener>>,
}

impl Wake {
    pub(super) fn new(settings: &Settings) -> Arc<Self> {
        Arc::new(Self {
            news: watch::Sender::new(0),
            channel: settings.channel(),
            poll: settings.poll,
            tells: !settings.poll_only,
            ringing: AtomicBool::new(false),
            rung: tokio::sync::Mutex::new(Instant::now()),
            listener: tokio::sync::Mutex::default(),
        })
    }

    /// Starts listening, once.
    pub(super) async fn listen(self: &Arc<Self>, lines: &Lines) -> Result<()> {
        let mut listener = self.listener.lock().await;
        if listener.is_some() || !self.tells {
            return Ok(());
        }
        let bell = Arc::downgrade(self);
        let hear: Hear = Arc::new(move |heard| {
            if let Heard::Over(error) = &heard {
                tracing::warn!(%error, "nobody tells of new events any more; looking for them now and then");
            }
            if let Some(bell) = bell.upgrade() {
                bell.here();
            }
        });
        let channels = std::slice::from_ref(&self.channel);
        *listener = Some(Listener::start(lines.first(), channels, hear).await?);
        Ok(())
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
        tokio::spawn(async move {
            let mut last = bell.rung.lock().await;
            if let Some(early) = RING_EVERY.checked_sub(last.elapsed()) {
                sleep(early).await;
            }
            // Before the statement: what is published while it is on its way rings again.
            bell.ringing.store(false, SeqCst);
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

    /// Stops listening within `limit`.
    pub(super) async fn close(&self, limit: Duration) {
        self.here();
        if let Some(listener) = self.listener.lock().await.take() {
            listener.close(limit).await;
        }
    }
}
