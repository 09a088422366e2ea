//! Runs of pipelines, read: one, its records, a list.

use super::lines::{Lines, Value};
use crate::{
    backend::{Journaled, Recorded, RunEnd, RunFilter, RunInfo, RunState},
    clock::Timestamp,
    error::{BoxError, Error, ErrorKind, Result},
    journal::{no_run, read_error, read_record, read_store},
    topic::Pattern,
};
use std::time::Duration;
use tokio_postgres::{Row, types::Type};

/// How many bytes of records are read at once, the last one over: memory stays bounded.
const BYTES_MAX: i64 = 8 << 20;

/// How many runs are read at once.
const PAGE: usize = 500;

/// What went wrong as a row was read.
type Read<T> = Result<T, BoxError>;

/// The columns of a run, as [`read`] takes them.
const COLUMNS: &str = "j.id, j.pipeline, s.version, j.state, j.owner, j.until, j.fence, j.cancel, \
                       j.began_at, j.ended_at, j.records, j.error, j.touched, @.now_micros(), j.number";

/// How many there are of them.
const COUNT: usize = 15;

fn read(row: &Row) -> Read<RunInfo> {
    let now = Timestamp::from_micros(row.try_get(13)?);
    let until = Timestamp::from_micros(row.try_get(5)?);
    let state = match read_end(row, 3)? {
        Some(how) => RunState::Ended(how),
        None if until > now => RunState::Running,
        None => RunState::Left,
    };
    let error: Option<&str> = row.try_get(11)?;
    let count = |column| row.try_get::<_, i64>(column).map(|n| u64::try_from(n).unwrap_or(0));
    Ok(RunInfo {
        id: row.try_get(0)?,
        pipeline: row.try_get(1)?,
        version: row.try_get(2)?,
        state,
        owner: row.try_get(4)?,
        lease_left: if state == RunState::Running { until.since(now) } else { Duration::ZERO },
        resumed: count(6)?.saturating_sub(1),
        cancel_asked: row.try_get(7)?,
        idle_for: now.since(Timestamp::from_micros(row.try_get(12)?)),
        began_at: Timestamp::from_micros(row.try_get(8)?),
        ended_at: row.try_get::<_, Option<i64>>(9)?.map(Timestamp::from_micros),
        records: count(10)?,
        error: error.map(read_error).transpose()?,
    })
}

/// Reads how a run ended; none if it has not.
fn read_end(row: &Row, column: usize) -> Read<Option<RunEnd>> {
    let text: Option<&str> = row.try_get(column)?;
    Ok(text.map(str::parse).transpose()?)
}

fn corrupt(lines: &Lines, run: &str, cause: BoxError) -> Error {
    let why = "a row of the tables is not as it was written";
    Error::new(ErrorKind::Corrupt, "journal", why)
        .with("server", &lines.shown)
        .with("run", run.escape_debug())
        .hint("someone changed or damaged it: restore it from a copy, or delete the row of the run")
        .because(cause)
}

/// Finds a run with its graph and what it was begun with.
pub(super) async fn find(lines: &Lines, id: &str) -> Result<Option<Journaled>> {
    let statement = format!(
        "SELECT {COLUMNS}, s.body, i.input FROM @.journal j LEFT JOIN @.shapes s ON s.id = j.shape
         LEFT JOIN @.journal_inputs i ON i.run = j.number WHERE j.id = $1"
    );
    let rows = ask(lines, &statement, id).await?;
    let whole = |row: &Row| -> Read<Journaled> {
        let input: &str = row.try_get(COUNT + 1)?;
        let (run, input) = (read(row)?, read_store(input)?);
        Ok(Journaled { run, shape: row.try_get(COUNT)?, input, records: Vec::new() })
    };
    rows.first().map(whole).transpose().map_err(|e| corrupt(lines, id, e))
}

/// Finds a run with its graph, without what it was begun with.
pub(super) async fn shaped(lines: &Lines, id: &str) -> Result<Option<(RunInfo, String)>> {
    let statement = format!(
        "SELECT {COLUMNS}, s.body FROM @.journal j LEFT JOIN @.shapes s ON s.id = j.shape
         WHERE j.id = $1"
    );
    let rows = ask(lines, &statement, id).await?;
    let both = |row: &Row| -> Read<(RunInfo, String)> { Ok((read(row)?, row.try_get(COUNT)?)) };
    rows.first().map(both).transpose().map_err(|e| corrupt(lines, id, e))
}

/// Asks for what has that id; the server has none with a NUL character.
async fn ask(lines: &Lines, statement: &str, id: &str) -> Result<Vec<Row>> {
    if id.contains('\0') {
        return Ok(Vec::new());
    }
    let values: [Value<'_>; 1] = [(&id, Type::TEXT)];
    lines.query("journal", statement, &values).await
}

const RECORDS: &str = "SELECT r.number, r.path, r.visit, r.at, r.body FROM (
        SELECT r.*, sum(octet_length(r.body)) OVER (ORDER BY r.number) - octet_length(r.body) AS before
        FROM @.journal_records r
        WHERE r.run = (SELECT j.number FROM @.journal j WHERE j.id = $1) AND r.number > $2
        ORDER BY r.number LIMIT $3
    ) AS r WHERE r.before < $4 ORDER BY r.number";

/// Reads records of a run behind a number: so many at most, and so that memory stays bounded.
pub(super) async fn records(
    lines: &Lines,
    id: &str,
    after: u64,
    limit: usize,
) -> Result<Vec<Recorded>> {
    if id.contains('\0') {
        return Ok(Vec::new());
    }
    let after = i64::try_from(after).unwrap_or(i64::MAX);
    let limit = i64::try_from(limit).unwrap_or(i64::MAX);
    let values: [Value<'_>; 4] =
        [(&id, Type::TEXT), (&after, Type::INT8), (&limit, Type::INT8), (&BYTES_MAX, Type::INT8)];
    let rows = lines.query("journal", RECORDS, &values).await?;
    let one = |row: &Row| -> Read<Recorded> {
        let visit = u32::try_from(row.try_get::<_, i64>(2)?)?;
        Ok(Recorded {
            number: row.try_get::<_, i64>(0)?.cast_unsigned(),
            at: Timestamp::from_micros(row.try_get(3)?),
            record: read_record(row.try_get(1)?, visit, row.try_get(4)?)?,
        })
    };
    rows.iter().map(one).collect::<Read<_>>().map_err(|e| corrupt(lines, id, e))
}

/// Which runs, as far as the server does not look for them.
struct Wanted<'a> {
    filter: &'a RunFilter,
    pipeline: Option<Pattern>,
}

impl<'a> Wanted<'a> {
    fn of(filter: &'a RunFilter) -> Self {
        Self { filter, pipeline: filter.pipeline.as_deref().map(Pattern::new) }
    }

    /// Says the same as a condition on `j`, as far as there are indexes.
    fn condition(&self) -> &'static str {
        let ended = |state: &RunState| matches!(state, RunState::Ended(_));
        let states = &self.filter.states;
        match (&self.filter.id, !states.is_empty() && !states.iter().any(ended)) {
            (Some(_), _) => "j.id = $1",
            (None, true) => "$1::text IS NULL AND j.state IS NULL",
            (None, false) => "$1::text IS NULL",
        }
    }

    /// Returns the id that the server looks for; one that none can have is that of no run.
    fn id(&self) -> Option<&str> {
        self.filter.id.as_deref().map(|id| if id.contains('\0') { "" } else { id })
    }

    fn takes(&self, pipeline: &str, state: RunState) -> bool {
        let states = &self.filter.states;
        self.pipeline.as_ref().is_none_or(|pattern| pattern.matches(pipeline))
            && (states.is_empty() || states.contains(&state))
    }
}

/// Lists the runs that `filter` takes, newest first.
pub(super) async fn list(lines: &Lines, filter: &RunFilter) -> Result<Vec<RunInfo>> {
    let wanted = Wanted::of(filter);
    let limit = filter.limit.map_or(usize::MAX, |n| usize::try_from(n).unwrap_or(usize::MAX));
    let mut before = match &filter.after {
        None => i64::MAX,
        Some(id) => {
            let rows = ask(lines, "SELECT j.number FROM @.journal j WHERE j.id = $1", id).await?;
            let row = rows.first().ok_or_else(|| no_run(id))?;
            row.try_get(0).map_err(|e| corrupt(lines, id, e.into()))?
        }
    };
    let statement = format!(
        "SELECT {COLUMNS} FROM @.journal j LEFT JOIN @.shapes s ON s.id = j.shape
         WHERE {} AND j.number < $2 ORDER BY j.number DESC LIMIT $3",
        wanted.condition()
    );
    // Where nothing is passed by, no more is read than asked for.
    let page = match (&wanted.pipeline, filter.states.is_empty()) {
        (None, true) => limit.min(PAGE),
        _ => PAGE,
    };
    let (id, most) = (wanted.id(), i64::try_from(page).unwrap_or(i64::MAX));
    let mut found = Vec::new();
    while found.len() < limit {
        let values: [Value<'_>; 3] =
            [(&id, Type::TEXT), (&before, Type::INT8), (&most, Type::INT8)];
        let rows = lines.query("journal", &statement, &values).await?;
        for row in &rows {
            let named = |e| corrupt(lines, row.try_get(0).unwrap_or("?"), e);
            before = row.try_get(COUNT - 1).map_err(|e| named(e.into()))?;
            let run = read(row).map_err(named)?;
            if wanted.takes(&run.pipeline, run.state) && found.len() < limit {
                found.push(run);
            }
        }
        if rows.len() < page {
            break;
        }
    }
    Ok(found)
}

/// Runs that may be deleted, as they were found.
#[derive(Default)]
pub(super) struct Doomed {
    pub(super) numbers: Vec<i64>,
    pub(super) states: Vec<Option<&'static str>>,
    /// Where to look on; none at the end.
    pub(super) place: Option<i64>,
}

/// How many runs are looked at at once, and how many of them go at once.
const LOOK_MAX: i64 = 1_000;
const DOOMED_MAX: usize = 100;

/// Finds runs behind `place` that `filter` takes, that nobody holds, and in which nothing has happened
/// for `older`, at most so many.
pub(super) async fn doomed(
    lines: &Lines,
    filter: &RunFilter,
    older: i64,
    place: i64,
    most: u64,
) -> Result<Doomed> {
    let wanted = Wanted::of(filter);
    let statement = format!(
        "SELECT j.number, j.pipeline, j.state, j.until > @.now_micros(),
             j.touched <= @.now_micros() - $4
         FROM @.journal j WHERE {} AND j.number > $2 ORDER BY j.number LIMIT $3",
        wanted.condition()
    );
    let id = wanted.id();
    let values: [Value<'_>; 4] =
        [(&id, Type::TEXT), (&place, Type::INT8), (&LOOK_MAX, Type::INT8), (&older, Type::INT8)];
    let rows = lines.query("journal", &statement, &values).await?;
    let mut doomed = Doomed::default();
    let is_whole = rows.len() < usize::try_from(LOOK_MAX).unwrap_or(usize::MAX);
    let most = usize::try_from(most).unwrap_or(usize::MAX).min(DOOMED_MAX);
    for row in &rows {
        let (number, state, is_old) = look(row).map_err(|e| corrupt(lines, "?", e))?;
        let pipeline = row.try_get(1).unwrap_or_default();
        if state != RunState::Running && is_old && wanted.takes(pipeline, state) {
            doomed.numbers.push(number);
            doomed.states.push(match state {
                RunState::Ended(how) => Some(how.name()),
                _ => None,
            });
        }
        let full = doomed.numbers.len() >= most;
        doomed.place = (full || !is_whole).then_some(number);
        if full {
            break;
        }
    }
    Ok(doomed)
}

fn look(row: &Row) -> Read<(i64, RunState, bool)> {
    let state = match read_end(row, 2)? {
        Some(how) => RunState::Ended(how),
        None if row.try_get(3)? => RunState::Running,
        None => RunState::Left,
    };
    Ok((row.try_get(0)?, state, row.try_get(4)?))
}
