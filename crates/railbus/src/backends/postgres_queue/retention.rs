//! Retention: what is settled goes after a while, so that the tables don't grow for ever.

use super::{
    lines::{Lines, Value},
    settings::micros,
};
use crate::error::{ErrorKind, Result};
use std::{sync::Weak, time::Duration};
use tokio::time::sleep;
use tokio_postgres::types::Type;

/// How often it begins anew, at least and at most; in between, twice a retention.
const SWEEP_EVERY: [Duration; 2] = [Duration::from_millis(100), Duration::from_secs(60)];

/// How long it rests between two steps, so that whoever waits comes first.
const STEP_EVERY: Duration = Duration::from_millis(5);

/// Removes what retention lets go, for as long as the queue is open. Of all that have the schema
/// open one at a time does it.
pub(super) async fn keep_sweeping(lines: Weak<Lines>, retention: Duration) {
    let [soon, later] = SWEEP_EVERY;
    let every = (retention / 2).clamp(soon, later);
    // Behind what was removed: what is dead, and can't go while a transaction is held open, is not
    // looked at again.
    let mut first = 0_i64;
    loop {
        sleep(every).await;
        let Some(lines) = lines.upgrade() else { return };
        let swept = match round(&lines, retention).await {
            Ok(()) => tidy(&lines, first).await.map(|next| first = next),
            Err(e) => Err(e),
        };
        if let Err(error) = swept {
            if error.kind() == ErrorKind::Denied {
                tracing::debug!(%error, "settled events are left to others to remove");
                return;
            }
            tracing::warn!(%error, "settled events could not be removed; trying again later");
        }
    }
}

async fn round(lines: &Lines, retention: Duration) -> Result<()> {
    let (retention, mut place) = (micros(retention), 0_i64);
    loop {
        let values: [Value<'_>; 2] = [(&retention, Type::INT8), (&place, Type::INT8)];
        let next: Option<i64> = lines.one("retention", "SELECT @.sweep($1, $2)", &values).await?;
        match next {
            Some(next) => place = next,
            None => return Ok(()),
        }
        sleep(STEP_EVERY).await;
    }
}

/// Removes batches that are in the log by now.
async fn tidy(lines: &Lines, from: i64) -> Result<i64> {
    let mut first = from;
    loop {
        let values: [Value<'_>; 1] = [(&first, Type::INT8)];
        let next: Option<i64> = lines.one("retention", "SELECT @.tidy($1)", &values).await?;
        match next {
            Some(next) => first = next,
            None => return Ok(first),
        }
        sleep(STEP_EVERY).await;
    }
}
