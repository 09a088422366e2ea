//! Trimming: what is settled by all groups, and too old or too much, is removed.

use super::{api::StreamInfo, streams::Streams};
use crate::{clock::Timestamp, error::Result};
use serde_json::json;
use std::{
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst},
    },
    time::{Duration, Instant},
};

/// After how many events of this process a look is taken, and after how long while it publishes.
const EVENTS: usize = 2048;
const AFTER: Duration = Duration::from_secs(5);

/// When it was last looked.
#[derive(Debug)]
pub(super) struct Trimming {
    since: AtomicUsize,
    last: Mutex<Instant>,
    is_on: AtomicBool,
}

impl Default for Trimming {
    fn default() -> Self {
        Self {
            since: AtomicUsize::new(0),
            last: Mutex::new(Instant::now()),
            is_on: AtomicBool::new(false),
        }
    }
}

impl Trimming {
    /// Notes how many events were published, and trims in the background if it is time to.
    pub(super) fn note(self: &Arc<Self>, count: usize, streams: &Arc<Streams>) {
        let since = self.since.fetch_add(count, SeqCst) + count;
        let mut last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        let is_time = since >= EVENTS || last.elapsed() >= AFTER;
        if streams.limits.hard || !is_time || self.is_on.swap(true, SeqCst) {
            return;
        }
        *last = Instant::now();
        drop(last);
        self.since.store(0, SeqCst);
        let (this, streams) = (Arc::clone(self), Arc::clone(streams));
        tokio::spawn(async move {
            if let Err(error) = trim(&streams).await {
                tracing::debug!(%error, "the stream is not trimmed");
            }
            this.is_on.store(false, SeqCst);
        });
    }
}

/// Removes what is too old or too much, as far as all groups have settled it.
///
/// # Errors
/// Returns what the server says.
pub(super) async fn trim(streams: &Streams) -> Result<()> {
    let Some(info) = streams.api.stream("trim", &streams.events).await? else { return Ok(()) };
    let (first, last) = (info.state.first_seq, info.state.last_seq);
    if info.state.messages == 0 {
        return Ok(());
    }
    let by_count = streams.limits.max_len.map_or(0, |most| last.saturating_sub(most));
    let by_age = match streams.limits.retention {
        Some(retention) => older(streams, first, last, retention).await?,
        None => 0,
    };
    purge(streams, &info, by_count.max(by_age)).await.map(drop)
}

/// Makes room in a full stream, of what all groups have settled; tells whether there was any.
///
/// # Errors
/// Returns what the server says.
pub(super) async fn make_room(streams: &Streams) -> Result<bool> {
    let Some(info) = streams.api.stream("trim", &streams.events).await? else { return Ok(false) };
    let (first, last) = (info.state.first_seq, info.state.last_seq);
    purge(streams, &info, first + last.saturating_sub(first) / 2).await
}

/// Removes events up to a place, or to the first that a group has not settled.
async fn purge(streams: &Streams, info: &StreamInfo, up_to: u64) -> Result<bool> {
    if up_to < info.state.first_seq {
        return Ok(false);
    }
    let groups = streams.api.consumers("trim", &streams.events).await?;
    let settled = groups.iter().map(|group| group.ack_floor.stream_seq).min();
    let up_to = up_to.min(settled.unwrap_or(u64::MAX));
    if up_to < info.state.first_seq {
        return Ok(false);
    }
    let what = json!({ "seq": up_to + 1 });
    Ok(streams.api.purge("trim", &streams.events, &what).await? > 0)
}

/// Returns the place of the last event that is older than that; 0 if none is.
async fn older(streams: &Streams, first: u64, last: u64, age: Duration) -> Result<u64> {
    let limit = streams.now().await?.before(age);
    // Places are in the order of time: the first that is young enough is looked for by halves.
    let (mut old, mut young) = (first.saturating_sub(1), last + 1);
    while young - old > 1 {
        let middle = old + (young - old) / 2;
        match stored(streams, middle).await? {
            Some(at) if at < limit => old = middle,
            _ => young = middle,
        }
    }
    Ok(old)
}

/// Returns when the first event from a place on was stored.
async fn stored(streams: &Streams, seq: u64) -> Result<Option<Timestamp>> {
    let which = json!({ "seq": seq, "next_by_subj": streams.all() });
    let stored = streams.api.get("trim", &streams.events, &which).await?;
    Ok(stored.map(|stored| stored.at))
}
