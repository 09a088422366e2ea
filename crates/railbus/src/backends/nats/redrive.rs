//! Handing dead letters back: the event is published once more, for one group and one subscription alone.

use super::{
    groups,
    letters::{OF_GROUP, ORIGIN, SUBSCRIPTION, get, number, own},
    streams::Streams,
    subject,
    wire::{self, GROUP, MESSAGE_ID, ONLY},
};
use crate::{
    backend::LetterId,
    error::{Error, ErrorKind, Result},
};

/// Hands letters back, each to the one subscription it failed in; tells how many.
///
/// Left alone are letters that are gone, lines that never became an event, and those of groups that are
/// gone.
///
/// # Errors
/// Returns what the server says.
pub(super) async fn redrive(streams: &Streams, ids: &[LetterId]) -> Result<u64> {
    let mut redriven = 0;
    for seq in ids.iter().filter_map(number) {
        redriven += u64::from(one(streams, seq).await?);
    }
    Ok(redriven)
}

async fn one(streams: &Streams, seq: u64) -> Result<bool> {
    let Some(stored) = get(streams, seq).await? else { return Ok(false) };
    let header = |name| wire::get(&stored.headers, name);
    let (Some(group), Some(origin), Some(subscription)) =
        (header(OF_GROUP), header(ORIGIN), header(SUBSCRIPTION))
    else {
        return Ok(false);
    };
    if groups::read(streams, &subject::consumer(&group)).await?.is_none() {
        return Ok(false);
    }
    let mut headers = own(&stored.headers);
    wire::put(&mut headers, GROUP, &group);
    wire::put(&mut headers, ONLY, &subscription);
    // Whoever is cut off between the two, or does the same at once, hands it back once.
    wire::put(&mut headers, MESSAGE_ID, &format!("redrive:{}:{seq}", streams.dead));
    let kept = streams.api.put("redrive", &origin, Some(headers), stored.body.clone()).await?;
    match kept {
        Some(kept) => kept.map_err(|refusal| refusal.error("redrive"))?,
        None => {
            let why = "no stream has the subject that the event came from";
            return Err(Error::new(ErrorKind::Unavailable, "redrive", why).with("subject", origin));
        }
    };
    streams.api.delete("redrive", &streams.dead, seq).await
}
