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

/// How often it begins anew, the least and the most; in between, twice a retention. A round that takes
/// longer than that is followed by the next one at once, while most of what is old goes.
const SWEEP_EVERY: [Duration; 2] = [Duration::from_millis(100), Duration::from_secs(60)];

/// How many times as long as a round took it rests where most of what is old stays, so that looking
/// through that takes a tenth of the time.
const RESTS: u32 = 9;

/// How long it rests at most, however long a round took: the server may have stood still.
const REST_MAX: Duration = Duration::from_secs(60 * 60);

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
        let swept = async {
            let began = Instant::now();
            let pays = round(&lines, &mut low).await?;
            let took = began.elapsed();
            first = tidy(&lines, first).await?;
            Ok((took, pays))
        };
        let swept = swept.await;
        rest = rest_after(&swept, every);
        if let Err(error) = swept {
            if error.kind() == ErrorKind::Denied {
                tracing::debug!(%error, "settled events are left to others to remove");
                return;
            }
            tracing::warn!(%error, "settled events could not be removed; trying again later");
        }
    }
}

/// Returns how long to rest after a round that took so long, and whether most of what is old went.
fn rest_after(swept: &Result<(Duration, bool)>, every: Duration) -> Duration {
    match swept {
        Ok((took, true)) => every.saturating_sub(*took),
        Ok((took, false)) => took.saturating_mul(RESTS).min(REST_MAX).max(every),
        // It waited for the server, and worked for nothing.
        Err(_) => every,
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

/// Goes once over all that is old enough, from `low` on, and moves that to the lowest there is. Tells
/// whether at least half of it went.
async fn round(lines: &Lines, low: &mut i64) -> Result<bool> {
    let (mut place, mut as_of) = (*low, None::<i64>);
    let (mut looked_at, mut gone) = (0_i64, 0_i64);
    // Nobody may consume.
    lines.tick("retention").await?;
    loop {
        let values: [Value<'_>; 2] = [(&place, Type::INT8), (&as_of, Type::INT8)];
        let sweep = "SELECT low, following, as_of, looked_at, gone FROM @.sweep(NULL, $1, $2)";
        let rows = lines.slow("retention", sweep, &values).await?;
        let Some(row) = rows.first() else { break };
        let count = |column: usize| row.try_get::<_, Option<i64>>(column).ok().flatten();
        if as_of.is_none()
            && let Some(lowest) = count(0)
        {
            *low = lowest;
        }
        looked_at += count(3).unwrap_or(0);
        gone += count(4).unwrap_or(0);
        match count(1) {
            Some(following) => (place, as_of) = (following, count(2)),
            None => break,
        }
        sleep(STEP_EVERY).await;
    }
    Ok(gone > 0 && gone >= looked_at / 2)
}

/// Removes batches that are in the log by now.
async fn tidy(lines: &Lines, from: i64) -> Result<i64> {
    let mut first = from;
    loop {
        let values: [Value<'_>; 1] = [(&first, Type::INT8)];
        let next: Option<i64> = lines.slow_one("retention", "SELECT @.tidy($1)", &values).await?;
        match next {
            Some(next) => first = next,
            None => return Ok(first),
        }
        sleep(STEP_EVERY).await;
    }
}

#[cfg(test)]
mod tests {
    use super::{REST_MAX, rest_after};
    use crate::error::{Error, ErrorKind};
    use std::time::Duration;

    #[test]
    fn it_rests_the_longer_the_less_a_round_pays_but_never_for_ever() {
        let seconds = Duration::from_secs;
        assert_eq!(rest_after(&Ok((seconds(1), true)), seconds(3)), seconds(2));
        assert_eq!(rest_after(&Ok((seconds(9), true)), seconds(3)), Duration::ZERO);
        assert_eq!(rest_after(&Ok((seconds(1), false)), seconds(30)), seconds(30));
        assert_eq!(rest_after(&Ok((seconds(9), false)), seconds(30)), seconds(81));
        assert_eq!(rest_after(&Ok((Duration::MAX, false)), seconds(30)), REST_MAX);
    }

    #[test]
    fn what_a_server_that_was_away_kept_it_waiting_is_no_work_to_rest_from() {
        let away = Error::new(ErrorKind::Unavailable, "retention", "away");
        let every = Duration::from_secs(3);
        assert_eq!(rest_after(&Err(away), every), every);
    }
}
