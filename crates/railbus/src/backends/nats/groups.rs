//! Groups: opened, widened, forgotten. What a group wants is a message on the desk, which is written only
//! on top of the one that was read; its place in the stream is a durable consumer.

use super::{api::ConsumerInfo, streams::Streams, subject};
use crate::{
    backend::{Start, Subscribe},
    error::{Error, ErrorKind, Result},
    predicate::Interest,
};
use async_nats::{HeaderMap, HeaderValue};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use std::time::Duration;

/// On top of which message of its subject another one may be written.
const ON_TOP: &str = "Nats-Expected-Last-Subject-Sequence";

/// What is known of a group.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct Record {
    pub(super) group: String,
    /// What all members want together.
    pub(super) interest: Interest,
}

/// A group as a member finds it.
#[derive(Clone, Debug)]
pub(super) struct Known {
    /// When its stream was made: another one has the name if that changes.
    pub(super) born: String,
    /// How long the server waits for an acknowledgement.
    pub(super) ack_wait: Duration,
}

/// Returns how much longer than its lease the server leaves an event to whoever has it: the time on the
/// way counts for the server, and not for the member.
fn margin(lease: Duration) -> Duration {
    (lease / 5).clamp(MARGIN_MIN, MARGIN_MAX)
}

const MARGIN_MIN: Duration = Duration::from_millis(50);
const MARGIN_MAX: Duration = Duration::from_secs(2);

/// Returns the lease for which the server waits so long.
pub(super) fn lease_of(wait: Duration) -> Duration {
    let by_share = wait / 6 * 5;
    let margin = (wait - by_share).clamp(MARGIN_MIN, MARGIN_MAX);
    wait.checked_sub(margin).unwrap_or(wait / 2)
}

/// Reads what is known of a group, and which message says so.
///
/// # Errors
/// Returns what the server says.
pub(super) async fn read(streams: &Streams, consumer: &str) -> Result<Option<(Record, u64)>> {
    let which = json!({ "last_by_subj": streams.of_group(consumer) });
    let Some(stored) = streams.api.get("groups", &streams.desk, &which).await? else {
        return Ok(None);
    };
    let record = serde_json::from_slice(&stored.body).map_err(|e| {
        Error::new(ErrorKind::Corrupt, "groups", "what is known of a group can't be read")
            .with("subject", &stored.subject)
            .because(e)
    })?;
    Ok(Some((record, stored.seq)))
}

/// Opens a group, creating it if it is missing, and adds the interest to what it wants.
///
/// # Errors
/// Returns what the server says.
pub(super) async fn open(streams: &Streams, group: &str, request: &Subscribe) -> Result<Known> {
    let consumer = subject::consumer(group);
    let known = read(streams, &consumer).await?;
    let info = match streams.api.consumer("subscribe", &streams.events, &consumer).await? {
        Some(info) => info,
        None => {
            let start = match known {
                None => request.start,
                Some(_) => {
                    tracing::error!(group, "its consumer was deleted: all events come again");
                    Start::Oldest
                }
            };
            create(streams, group, request.lease, start).await?
        }
    };
    widen(streams, group, &request.interest).await?;
    let stream = streams.api.stream("subscribe", &streams.events).await?;
    let born = stream.map(|stream| stream.created).unwrap_or_default();
    Ok(Known { born, ack_wait: info.ack_wait() })
}

async fn create(
    streams: &Streams,
    group: &str,
    lease: Duration,
    start: Start,
) -> Result<ConsumerInfo> {
    let consumer = subject::consumer(group);
    let wait = lease.saturating_add(margin(lease)).min(Duration::from_secs(365 * 24 * 60 * 60));
    let mut config = json!({
        "durable_name": consumer,
        "ack_policy": "explicit",
        "ack_wait": u64::try_from(wait.as_nanos()).unwrap_or(u64::MAX),
        // The policy counts, and what is held back is pending all the time.
        "max_deliver": -1,
        "max_ack_pending": -1,
        "max_waiting": 2048,
        "filter_subject": streams.all(),
        "replay_policy": "instant",
        "deliver_policy": "all",
    });
    match start {
        Start::Oldest => {}
        Start::Newest => config["deliver_policy"] = json!("new"),
        Start::At(time) => {
            config["deliver_policy"] = json!("by_start_time");
            config["opt_start_time"] = Value::String(time.to_string());
        }
    }
    streams.api.create_consumer("subscribe", &streams.events, &consumer, &config).await
}

/// Adds to what a group wants.
async fn widen(streams: &Streams, group: &str, interest: &Interest) -> Result<()> {
    let consumer = subject::consumer(group);
    // Others may widen it at the same time.
    loop {
        let (mut all, on_top) = match read(streams, &consumer).await? {
            Some((record, seq)) => (record.interest, seq),
            None => (Interest::default(), 0),
        };
        if !all.add(interest) && on_top > 0 {
            return Ok(());
        }
        let record = Record { group: group.to_owned(), interest: all };
        let mut headers = HeaderMap::new();
        headers.insert(ON_TOP, HeaderValue::from(on_top.to_string()));
        // Texts always encode.
        let body = serde_json::to_vec(&record).unwrap_or_default().into();
        let subject = streams.of_group(&consumer);
        match streams.api.put("subscribe", &subject, Some(headers), body).await? {
            Some(Ok(_)) => return Ok(()),
            Some(Err(refusal)) if refusal.is_late() => {}
            Some(Err(refusal)) => return Err(refusal.error("subscribe")),
            None => {
                let why = "the stream of what is known of groups is not there";
                return Err(Error::new(ErrorKind::Unavailable, "subscribe", why)
                    .with("stream", &streams.desk));
            }
        }
    }
}

/// Opens a group again whose consumer did not answer; `None` if it is there.
///
/// # Errors
/// Returns a not-found error if the group was pruned, else what the server says.
pub(super) async fn reopen(
    streams: &Streams,
    group: &str,
    request: &Subscribe,
    born: &str,
) -> Result<Option<Known>> {
    let consumer = subject::consumer(group);
    if streams.api.consumer("fetch", &streams.events, &consumer).await?.is_some() {
        return Ok(None);
    }
    let stream = streams.api.stream("fetch", &streams.events).await?;
    if stream.is_none_or(|stream| stream.created != born) {
        tracing::error!(group, "the server has lost its data: the group is made anew");
        streams.prepare().await?;
    } else if read(streams, &consumer).await?.is_none() {
        return Err(pruned(group));
    }
    let request = Subscribe { start: Start::Oldest, ..request.clone() };
    open(streams, group, &request).await.map(Some)
}

/// Returns the error for a group that was pruned while a member was there.
pub(super) fn pruned(group: &str) -> Error {
    Error::new(ErrorKind::NotFound, "fetch", "the group was pruned while it was open")
        .with("group", group)
        .hint("start the program again to open it anew")
}

/// Forgets a group; false if there is none of that name.
///
/// # Errors
/// Returns what the server says.
pub(super) async fn prune(streams: &Streams, group: &str) -> Result<bool> {
    let consumer = subject::consumer(group);
    let known = streams.of_group(&consumer);
    let was = streams.api.purge("prune", &streams.desk, &json!({ "filter": known })).await?;
    let had = streams.api.delete_consumer("prune", &streams.events, &consumer).await?;
    let held = format!("{}_desk.held.{consumer}.>", streams.prefix);
    streams.api.purge("prune", &streams.desk, &json!({ "filter": held })).await?;
    Ok(was > 0 || had)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lease_is_what_the_server_s_wait_was_made_of() {
        for millis in [100, 250, 300, 777, 5_000, 9_999, 10_000, 30_000, 3_600_000] {
            let lease = Duration::from_millis(millis);
            let again = lease_of(lease + margin(lease));
            assert!(again.abs_diff(lease) < Duration::from_millis(1), "{lease:?}: {again:?}");
        }
    }
}
