//! What is remembered of an event that comes again: who is through with it, and what failed.
//!
//! The server counts deliveries, and nothing else. What a delivery came to is a message on the desk, under
//! the event's place in its group; an event that goes well the first time has none.

use super::streams::Streams;
use crate::{
    backend::HISTORY_MAX,
    backends::record::Ends,
    delivery::Try,
    error::{Error, ErrorKind, Result},
};
use futures_util::{StreamExt, stream};
use serde::{Deserialize, Serialize};
use serde_json::json;

/// How many are asked for at once.
const AT_ONCE: usize = 64;

/// What is remembered of an event.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(super) struct Record {
    /// Which delivery wrote it.
    pub(super) delivered: u64,
    /// Which attempt that was, with the tries in place.
    pub(super) attempt: u32,
    /// Whether it was given back with it, and did not just run out later.
    #[serde(default)]
    pub(super) back: bool,
    /// Until when it is held back, by the server's clock in microseconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) due: Option<i64>,
    /// How often it was left to other members.
    #[serde(default)]
    pub(super) left: u32,
    #[serde(default)]
    pub(super) ends: Ends,
    #[serde(default)]
    pub(super) history: Vec<Try>,
}

impl Record {
    /// Returns which attempt a delivery is.
    pub(super) fn attempt(&self, delivered: u64) -> u32 {
        let since = delivered.saturating_sub(self.delivered);
        self.attempt.saturating_add(u32::try_from(since).unwrap_or(u32::MAX))
    }

    /// Tells whether the delivery before this one ran out unsettled.
    pub(super) fn is_lost(&self, delivered: u64) -> bool {
        delivered > 1 && !(self.back && self.delivered + 1 == delivered)
    }

    /// Adds failed tries, keeping the latest.
    pub(super) fn lengthen(&mut self, failed: &[Try]) {
        self.history.extend_from_slice(failed);
        let surplus = self.history.len().saturating_sub(HISTORY_MAX);
        self.history.drain(..surplus);
    }
}

/// Reads what is remembered of each of these events.
///
/// # Errors
/// Returns what the server says.
pub(super) async fn read(streams: &Streams, consumer: &str, seqs: &[u64]) -> Result<Vec<Record>> {
    let one = |seq: &u64| {
        let which = json!({ "last_by_subj": streams.of_held(consumer, *seq) });
        async move {
            let stored = streams.api.get("fetch", &streams.desk, &which).await?;
            // What can't be read is not known: the deliveries are counted anyway.
            let record = stored.and_then(|stored| serde_json::from_slice(&stored.body).ok());
            Ok(record.unwrap_or_default())
        }
    };
    let all: Vec<Result<Record>> = stream::iter(seqs).map(one).buffered(AT_ONCE).collect().await;
    all.into_iter().collect()
}

/// Remembers what became of an event.
///
/// # Errors
/// Returns what the server says.
pub(super) async fn write(
    streams: &Streams,
    consumer: &str,
    seq: u64,
    record: &Record,
) -> Result<()> {
    let subject = streams.of_held(consumer, seq);
    let encoded = |record: &Record| serde_json::to_vec(record).unwrap_or_default().into();
    let put = |record: &Record| streams.api.put("settle", &subject, None, encoded(record));
    let kept = match put(record).await {
        Err(e) if e.kind() == ErrorKind::TooLarge => {
            // Better without its history than not at all.
            put(&Record { history: Vec::new(), ..record.clone() }).await?
        }
        kept => kept?,
    };
    match kept {
        Some(kept) => kept.map(drop).map_err(|refusal| refusal.error("settle")),
        None => {
            let why = "the stream of what is known of events is not there";
            Err(Error::new(ErrorKind::Unavailable, "settle", why).with("stream", &streams.desk))
        }
    }
}

/// Forgets what was remembered of an event.
///
/// # Errors
/// Returns what the server says.
pub(super) async fn forget(streams: &Streams, consumer: &str, seq: u64) -> Result<()> {
    let which = json!({ "filter": streams.of_held(consumer, seq) });
    streams.api.purge("settle", &streams.desk, &which).await.map(drop)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn deliveries_that_nobody_told_of_count_and_were_lost() {
        let known = Record { delivered: 2, attempt: 5, back: true, ..Record::default() };
        assert_eq!((known.attempt(3), known.is_lost(3)), (6, false));
        assert_eq!((known.attempt(4), known.is_lost(4)), (7, true));
        let none = Record::default();
        assert_eq!((none.attempt(1), none.is_lost(1)), (1, false));
        assert_eq!((none.attempt(3), none.is_lost(3)), (3, true));
    }
}
