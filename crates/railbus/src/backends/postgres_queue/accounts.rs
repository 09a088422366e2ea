//! Accounts: what became of a run's events, counted from what is stored.

use super::{
    lines::{Lines, Value},
    publish::clean,
    wants::Wants,
};
use crate::{
    backend::{Position, RunMark, Tally},
    backends::postgres::fault,
    error::Result,
    predicate::Interest,
};
use tokio_postgres::types::Type;

const OPERATION: &str = "accounts";

/// Begins a run.
pub(super) async fn begin(lines: &Lines, groups: &[(String, Interest)]) -> Result<RunMark> {
    lines.tick(OPERATION).await?;
    let said = Wants::named(groups).to_string();
    let values: [Value<'_>; 1] = [(&said, Type::TEXT)];
    let begin = "SELECT @.begin_run($1::jsonb)";
    let run = lines.one(OPERATION, begin, &values).await?;
    lines.runs().push(run);
    Ok(RunMark { run })
}

/// Ends a run.
pub(super) async fn end(lines: &Lines, run: RunMark) -> Result<()> {
    let values: [Value<'_>; 1] = [(&run.run, Type::INT8)];
    lines.query(OPERATION, "SELECT @.end_run($1)", &values).await?;
    lines.runs().retain(|one| *one != run.run);
    Ok(())
}

/// Says that the runs of this process go on, and ends those of processes that have long said nothing.
pub(super) async fn go_on(lines: &Lines) -> Result<()> {
    let runs = lines.runs().clone();
    let values: [Value<'_>; 1] = [(&runs, Type::INT8_ARRAY)];
    lines.query(OPERATION, "SELECT @.keep_runs($1)", &values).await.map(drop)
}

/// Counts the outcomes of a run's events, each id by its worst, and what retention has removed.
pub(super) async fn tally(lines: &Lines, run: RunMark) -> Result<Tally> {
    let values: [Value<'_>; 1] = [(&run.run, Type::INT8)];
    lines.tick(OPERATION).await?;
    let rows = lines.slow(OPERATION, "SELECT * FROM @.count_run($1)", &values).await?;
    let Some(row) = rows.first() else { return Ok(Tally::default()) };
    let count = |at| {
        let found = row.try_get::<_, i64>(at).map_err(|e| fault(OPERATION, &lines.shown, e));
        found.map(i64::cast_unsigned)
    };
    let swept: Option<&str> = row.try_get(8).map_err(|e| fault(OPERATION, &lines.shown, e))?;
    let swept = swept.and_then(|text| serde_json::from_str(text).ok()).unwrap_or_default();
    let counted = Tally {
        published: count(0)?,
        carried: count(1)?,
        delivered: count(2)?,
        succeeded: count(3)?,
        failed: count(4)?,
        dead_lettered: count(5)?,
        unmatched: count(6)?,
        retried: count(7)?,
    };
    Ok(counted + swept)
}

/// Tells whether none of these groups has an unsettled event that this program wants.
pub(super) async fn is_idle(lines: &Lines, groups: &[(String, Interest)]) -> Result<bool> {
    let said = Wants::named(groups).to_string();
    let values: [Value<'_>; 1] = [(&said, Type::TEXT)];
    lines.tick(OPERATION).await?;
    let busy: bool = lines.one(OPERATION, "SELECT @.are_busy($1::jsonb)", &values).await?;
    Ok(!busy)
}

/// Reads how far an input was stored.
pub(super) async fn position(lines: &Lines, input: &str) -> Result<Option<Position>> {
    let input = clean(input);
    let values: [Value<'_>; 1] = [(&input, Type::TEXT)];
    let newest = "SELECT i.place, i.fingerprint FROM @.inputs i WHERE i.name = $1 \
                  ORDER BY i.turn DESC LIMIT 1";
    let rows = lines.query(OPERATION, newest, &values).await?;
    let read = |row: &tokio_postgres::Row| {
        Ok(Position {
            offset: row.try_get::<_, i64>(0)?.cast_unsigned(),
            fingerprint: row.try_get::<_, i64>(1)?.cast_unsigned(),
        })
    };
    let read: Option<Result<_, tokio_postgres::Error>> = rows.first().map(read);
    read.transpose().map_err(|e| fault(OPERATION, &lines.shown, e))
}
