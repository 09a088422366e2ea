//! What groups have not settled.

use super::{api::ConsumerInfo, groups::Record, streams::Streams, subject};
use crate::{
    backend::GroupInfo,
    clock::Timestamp,
    error::{Error, ErrorKind, Result},
};
use serde_json::json;
use std::collections::HashMap;

/// Returns all groups, by name.
///
/// # Errors
/// Returns what the server says.
pub(super) async fn groups(streams: &Streams) -> Result<Vec<GroupInfo>> {
    let records = records(streams).await?;
    let mut infos: HashMap<String, ConsumerInfo> = HashMap::new();
    for info in streams.api.consumers("groups", &streams.events).await? {
        infos.insert(info.name.clone(), info);
    }
    let dead = dead(streams).await?;
    let mut groups = Vec::with_capacity(records.len());
    for record in records {
        let consumer = subject::consumer(&record.group);
        let info = infos.get(&consumer);
        let seen = info.and_then(|info| info.delivered.last_active.as_deref()?.parse().ok());
        groups.push(GroupInfo {
            lag: info.map_or(0, lag),
            leased: info.map_or(0, |info| info.num_ack_pending),
            dead_letters: dead.get(&consumer).copied().unwrap_or(0),
            last_seen: seen.unwrap_or_else(|| Timestamp::from_micros(0)),
            name: record.group,
            interest: record.interest,
        });
    }
    groups.sort_by(|a, b| a.name.cmp(&b.name));
    Ok(groups)
}

fn lag(info: &ConsumerInfo) -> u64 {
    info.num_pending + info.num_ack_pending
}

/// Returns what is known of each group.
async fn records(streams: &Streams) -> Result<Vec<Record>> {
    let (below, mut next, mut records) = (streams.of_group("*"), 1, Vec::new());
    loop {
        let which = json!({ "seq": next, "next_by_subj": below });
        let Some(stored) = streams.api.get("groups", &streams.desk, &which).await? else {
            return Ok(records);
        };
        next = stored.seq + 1;
        match serde_json::from_slice(&stored.body) {
            Ok(record) => records.push(record),
            Err(error) => tracing::warn!(%error, subject = stored.subject, "it is no group's"),
        }
    }
}

/// Counts the dead letters of each consumer.
async fn dead(streams: &Streams) -> Result<HashMap<String, u64>> {
    let (mut counts, mut seen) = (HashMap::new(), 0);
    loop {
        let what =
            json!({ "subjects_filter": format!("{}_dead.>", streams.prefix), "offset": seen });
        let info = streams.api.subjects("groups", &streams.dead, &what).await?;
        let all = info["state"]["subjects"].as_object().cloned().unwrap_or_default();
        let skipped = format!("{}_dead.", streams.prefix);
        for (subject, count) in &all {
            let consumer = subject.strip_prefix(&skipped).and_then(|rest| rest.split('.').next());
            *counts.entry(consumer.unwrap_or_default().to_owned()).or_default() +=
                count.as_u64().unwrap_or(0);
        }
        seen += all.len();
        let total = info["total"].as_u64().and_then(|n| usize::try_from(n).ok()).unwrap_or(0);
        if all.is_empty() || seen >= total {
            return Ok(counts);
        }
    }
}

/// Tells whether a group has settled all there is; one that is not there has.
///
/// # Errors
/// Returns what the server says.
pub(super) async fn is_settled(streams: &Streams, group: &str) -> Result<bool> {
    let consumer = subject::consumer(group);
    let info = streams.api.consumer("idle", &streams.events, &consumer).await?;
    Ok(info.is_none_or(|info| lag(&info) == 0))
}

/// Returns the error for a group that is not there.
pub(super) async fn no_group(streams: &Streams, name: &str) -> Error {
    let known: Vec<_> =
        records(streams).await.unwrap_or_default().into_iter().map(|one| one.group).collect();
    let hint = match known.is_empty() {
        true => "the stream has no groups yet".into(),
        false => format!("known groups: {}", known.join(", ")),
    };
    Error::new(ErrorKind::NotFound, "groups", "there is no such group")
        .with("group", name)
        .hint(hint)
}
