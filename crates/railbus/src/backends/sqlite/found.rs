//! Runs of pipelines, read: one, its records, a list.

use super::runs::read_end;
use crate::{
    backend::{Journaled, Recorded, RunFilter, RunInfo, RunState},
    clock::Timestamp,
    journal::{read_error, read_record, read_store},
    topic::Pattern,
};
use rusqlite::{Connection, OptionalExtension, Row, params, types::Type};
use std::time::Duration;

/// How many bytes of records are read at once, the last one over: memory stays bounded.
const BYTES_MAX: usize = 8 << 20;

/// The columns of a run, as [`read`] takes them.
const COLUMNS: &str = "j.id, j.pipeline, s.version, j.state, j.owner, j.until, j.fence, j.cancel, \
                       j.began_at, j.ended_at, j.records, j.error, j.touched";

/// How many there are of them.
const COUNT: usize = 13;

fn unreadable(column: usize, error: serde_json::Error) -> rusqlite::Error {
    rusqlite::Error::FromSqlConversionFailure(column, Type::Text, Box::new(error))
}

fn read(row: &Row<'_>, now: Timestamp) -> rusqlite::Result<RunInfo> {
    let until = Timestamp::from_micros(row.get(5)?);
    let state = match read_end(row, 3)? {
        Some(how) => RunState::Ended(how),
        None if until > now => RunState::Running,
        None => RunState::Left,
    };
    let running = state == RunState::Running;
    let error: Option<String> = row.get(11)?;
    let count = |column| row.get::<_, i64>(column).map(|n| u64::try_from(n).unwrap_or(0));
    Ok(RunInfo {
        id: row.get(0)?,
        pipeline: row.get(1)?,
        version: row.get(2)?,
        state,
        owner: row.get(4)?,
        lease_left: if running { until.since(now) } else { Duration::ZERO },
        resumed: count(6)?.saturating_sub(1),
        cancel_asked: row.get(7)?,
        idle_for: now.since(Timestamp::from_micros(row.get(12)?)),
        began_at: Timestamp::from_micros(row.get(8)?),
        ended_at: row.get::<_, Option<i64>>(9)?.map(Timestamp::from_micros),
        records: count(10)?,
        error: error.map(|text| read_error(&text)).transpose().map_err(|e| unreadable(11, e))?,
    })
}

/// Finds a run without what it was begun with.
pub(super) fn info(
    connection: &Connection,
    id: &str,
    now: Timestamp,
) -> rusqlite::Result<Option<RunInfo>> {
    connection
        .prepare_cached(&format!(
            "SELECT {COLUMNS} FROM journal j LEFT JOIN shapes s ON s.id = j.shape WHERE j.id = ?1"
        ))?
        .query_row([id], |row| read(row, now))
        .optional()
}

/// Finds a run and its graph.
pub(super) fn shaped(
    connection: &Connection,
    id: &str,
    now: Timestamp,
) -> rusqlite::Result<Option<(RunInfo, String)>> {
    connection
        .prepare_cached(&format!(
            "SELECT {COLUMNS}, s.text FROM journal j LEFT JOIN shapes s ON s.id = j.shape
             WHERE j.id = ?1"
        ))?
        .query_row([id], |row| Ok((read(row, now)?, row.get(COUNT)?)))
        .optional()
}

/// Finds a run with what it was begun with.
pub(super) fn find(
    connection: &Connection,
    id: &str,
    now: Timestamp,
) -> rusqlite::Result<Option<Journaled>> {
    connection
        .prepare_cached(&format!(
            "SELECT {COLUMNS}, s.text, i.input FROM journal j
             LEFT JOIN shapes s ON s.id = j.shape LEFT JOIN journal_inputs i ON i.run = j.number
             WHERE j.id = ?1"
        ))?
        .query_row([id], |row| {
            let input: String = row.get(COUNT + 1)?;
            Ok(Journaled {
                run: read(row, now)?,
                shape: row.get(COUNT)?,
                input: read_store(&input).map_err(|e| unreadable(COUNT + 1, e))?,
                records: Vec::new(),
            })
        })
        .optional()
}

/// Reads records of a run behind a number: so many at most, and so that memory stays bounded.
pub(super) fn records(
    connection: &Connection,
    id: &str,
    after: u64,
    limit: usize,
) -> rusqlite::Result<Vec<Recorded>> {
    let mut statement = connection.prepare_cached(
        "SELECT r.number, r.path, r.visit, r.at, r.body FROM journal_records r
         WHERE r.run = (SELECT number FROM journal WHERE id = ?1) AND r.number > ?2
         ORDER BY r.number LIMIT ?3",
    )?;
    let after = i64::try_from(after).unwrap_or(i64::MAX);
    let limit = i64::try_from(limit).unwrap_or(i64::MAX);
    let mut rows = statement.query(params![id, after, limit])?;
    let (mut found, mut bytes) = (Vec::new(), 0);
    while bytes < BYTES_MAX
        && let Some(row) = rows.next()?
    {
        let body: String = row.get(4)?;
        bytes += body.len();
        found.push(Recorded {
            number: row.get::<_, i64>(0)?.cast_unsigned(),
            at: Timestamp::from_micros(row.get(3)?),
            record: read_record(row.get(1)?, row.get(2)?, &body).map_err(|e| unreadable(4, e))?,
        });
    }
    Ok(found)
}

/// Returns the number of a run.
pub(super) fn number_of(connection: &Connection, id: &str) -> rusqlite::Result<Option<i64>> {
    connection
        .prepare_cached("SELECT number FROM journal WHERE id = ?1")?
        .query_row([id], |row| row.get(0))
        .optional()
}

/// Which runs, as the store looks for them.
#[derive(Clone, Debug)]
pub(super) struct Wanted {
    id: Option<String>,
    pipeline: Option<Pattern>,
    states: Vec<RunState>,
}

impl From<&RunFilter> for Wanted {
    fn from(filter: &RunFilter) -> Self {
        Self {
            id: filter.id.clone(),
            pipeline: filter.pipeline.as_deref().map(Pattern::new),
            states: filter.states.clone(),
        }
    }
}

impl Wanted {
    /// Tells whether only runs are meant that have not ended: those have an index of their own.
    pub(super) fn is_open(&self) -> bool {
        let ended = |state: &RunState| matches!(state, RunState::Ended(_));
        !self.states.is_empty() && !self.states.iter().any(ended)
    }

    /// Says the same as a condition on `j`, as far as there are indexes.
    pub(super) fn condition(&self) -> &'static str {
        match (&self.id, self.is_open()) {
            (Some(_), _) => "j.id = ?1",
            (None, true) => "?1 IS NULL AND j.state IS NULL",
            (None, false) => "?1 IS NULL",
        }
    }

    pub(super) fn id(&self) -> Option<&str> {
        self.id.as_deref()
    }

    pub(super) fn takes(&self, pipeline: &str, state: RunState) -> bool {
        self.pipeline.as_ref().is_none_or(|pattern| pattern.matches(pipeline))
            && (self.states.is_empty() || self.states.contains(&state))
    }
}

/// Lists runs before number `before`, newest first.
pub(super) fn list(
    connection: &Connection,
    wanted: &Wanted,
    before: Option<i64>,
    limit: usize,
    now: Timestamp,
) -> rusqlite::Result<Vec<RunInfo>> {
    let mut statement = connection.prepare_cached(&format!(
        "SELECT {COLUMNS} FROM journal j LEFT JOIN shapes s ON s.id = j.shape
         WHERE {} AND (?2 IS NULL OR j.number < ?2) ORDER BY j.number DESC",
        wanted.condition()
    ))?;
    let mut rows = statement.query(params![wanted.id(), before])?;
    let mut found = Vec::new();
    while found.len() < limit
        && let Some(row) = rows.next()?
    {
        let run = read(row, now)?;
        if wanted.takes(&run.pipeline, run.state) {
            found.push(run);
        }
    }
    Ok(found)
}
