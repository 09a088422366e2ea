//! Retention: what is settled goes after a while, so that the tables don't grow for ever.

use super::{
    accounts, journal,
    lines::{Lines, Value},
    settings::micros,
};
use crate::error::{ErrorKind, Result};
use std::{
    sync::Weak,
    time::{Duration, Instant},
};
use tokio::time::sleep;
use tokio_postgres::types::Type;

/// How often it begins anew, at least and at most; in between, twice a retention.
const SWEEP_EVERY: [Duration; 2] = [Duration::from_millis(100), Duration::from_secs(60)];

/// What part of the time it may take: where little goes of what is old, as long as it looks through
/// that it rests so many times.
const RESTS: u32 = 9;

/// How long all keep what is settled, unless someone has said so.
const RETENTION: Duration = Duration::from_secs(24 * 60 * 60);

/// How long it rests between two steps, so that whoever waits comes first.
const STEP_EVERY: Duration = Duration::from_millis(5);

/// Removes what retention lets go, for as long as the queue is open. Of all that have the schema
/// open one at a time does it.
///
/// `retention` is how long what is settled is kept, if this queue says so, and `journal_retention` how
/// long runs are that have ended.
pub(super) async fn keep_sweeping(
    lines: Weak<Lines>,
    retention: Option<Duration>,
    journal_retention: Duration,
) {
    let [soon, later] = SWEEP_EVERY;
    let kept = retention.unwrap_or(RETENTION).min(journal_retention);
    let every = (kept / 2).clamp(soon, later);
    let mut rest = every;
    // What is removed, and stays as dead rows while a transaction is held open, is not looked at again.
    let (mut low, mut first) = (0_i64, 0_i64);
    loop {
        sleep(rest).await;
        let Some(lines) = lines.upgrade() else { return };
        let began = Instant::now();
        if let Err(error) = accounts::go_on(&lines).await {
            tracing::debug!(%error, "nobody is told that runs go on");
        }
        // Who may not do this may do the other.
        if let Err(error) = sweep_runs(&lines, journal_retention).await {
            match error.kind() {
                ErrorKind::Denied => tracing::debug!(%error, "runs are left to others to remove"),
                _ => tracing::warn!(%error, "runs could not be removed; trying again later"),
            }
        }
        let swept = match round(&lines, &mut low).await {
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
        rest = every.max(began.elapsed() * RESTS);
    }
}

/// Tells all how long to keep what is settled.
pub(super) async fn keep_for(lines: &Lines, retention: Duration) -> Result<()> {
    let wanted = micros(retention);
    let values: [Value<'_>; 1] = [(&wanted, Type::INT8)];
    let was = lines.one::<Option<i64>>("retention", "SELECT @.keep_for($1)", &values).await;
    match was {
        Ok(Some(was)) if was != wanted => {
            let was = Duration::from_micros(was.cast_unsigned());
            tracing::warn!(
                ?was,
                ?retention,
                "settled events are kept for another time from here on"
            );
        }
        Ok(_) => {}
        // Who may only publish has no say in it.
        Err(error) if error.kind() == ErrorKind::Denied => {
            tracing::debug!(%error, "how long settled events are kept is left to others");
        }
        Err(error) => return Err(error),
    }
    Ok(())
}

/// Removes all runs that ended longer ago than that.
async fn sweep_runs(lines: &Lines, retention: Duration) -> Result<()> {
    while journal::sweep(lines, retention).await? {
        sleep(STEP_EVERY).await;
    }
    Ok(())
}

/// Goes once over all that is old enough, from `low` on, and moves that to the lowest there is.
async fn round(lines: &Lines, low: &mut i64) -> Result<()> {
    let (mut place, mut begins) = (*low, true);
    // Nobody may consume.
    lines.tick("retention").await?;
    loop {
        let values: [Value<'_>; 2] = [(&place, Type::INT8), (&begins, Type::BOOL)];
        let sweep = "SELECT low, following FROM @.sweep(NULL, $1, $2)";
        let rows = lines.query("retention", sweep, &values).await?;
        let Some(row) = rows.first() else { return Ok(()) };
        if begins && let Ok(Some(lowest)) = row.try_get::<_, Option<i64>>(0) {
            *low = lowest;
        }
        match row.try_get::<_, Option<i64>>(1) {
            Ok(Some(following)) => (place, begins) = (following, false),
            _ => return Ok(()),
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
