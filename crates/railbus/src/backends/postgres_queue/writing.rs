//! What holders write in their runs: records, renewals and ends of many runs at once, put together
//! into one statement and one commit.

use super::{
    lines::{Lines, PUBLISHERS, Value},
    settings::micros,
};
use crate::{
    backend::{RunEnd, RunLease},
    backends::{
        gather::Limits,
        postgres::{closed, fault},
    },
    error::{Error, ErrorKind, Result},
    journal::{Ready, has_ended, lost, twice, was_deleted},
};
use std::sync::{
    Arc, Weak,
    atomic::{AtomicBool, Ordering::Relaxed},
};
use tokio_postgres::{Row, types::Type};

/// How large one statement that writes in runs may be.
pub(super) const LIMITS: Limits =
    Limits { items: 1_000, weight: 4 << 20, flights: PUBLISHERS, callers: 16 };

const OPERATION: &str = "journal";

/// What a holder writes in its run: records, or its end, or neither, which renews the lease.
#[derive(Clone, Debug)]
pub(super) struct Entry {
    pub(super) lease: RunLease,
    pub(super) records: Arc<[Ready]>,
    pub(super) end: Option<RunEnd>,
    // What went wrong, as text.
    pub(super) error: Option<String>,
    // Whether someone asked for the end of the run, once it is written.
    pub(super) is_called_off: Arc<AtomicBool>,
}

impl Entry {
    /// Makes records one entry.
    pub(super) fn new(lease: &RunLease, records: Vec<Ready>) -> Self {
        let (lease, records) = (lease.clone(), records.into());
        Self { lease, records, end: None, error: None, is_called_off: Arc::default() }
    }

    /// Returns about how many bytes it makes a statement longer.
    pub(super) fn weight(&self) -> usize {
        let one = |ready: &Ready| ready.path.len() + ready.body.len() + 16;
        let error = self.error.as_ref().map_or(0, String::len);
        self.lease.run.len() + error + 64 + self.records.iter().map(one).sum::<usize>()
    }
}

/// Writes in the runs of any number of callers; returns one result each.
pub(super) async fn send(lines: Weak<Lines>, entries: Vec<Entry>) -> Vec<Result<()>> {
    let Some(lines) = lines.upgrade() else {
        return vec![Err(closed(OPERATION)); entries.len()];
    };
    match write(&lines, &entries).await {
        Ok(results) => results,
        // What the server chokes on must not spoil the others.
        Err(error) if entries.len() > 1 && error.kind() == ErrorKind::Internal => {
            let mut results = Vec::with_capacity(entries.len());
            for one in entries.chunks(1) {
                let result =
                    write(&lines, one).await.and_then(|mut one| one.pop().unwrap_or(Ok(())));
                results.push(result);
            }
            results
        }
        Err(error) => vec![Err(error); entries.len()],
    }
}

const RECORD: &str = "SELECT * FROM @.record_journaled($1, $2, $3, $4, $5, $6, $7, $8, $9)";

async fn write(lines: &Lines, entries: &[Entry]) -> Result<Vec<Result<()>>> {
    // In one order whoever writes, so that no two wait for each other.
    let mut order: Vec<usize> = (0..entries.len()).collect();
    order.sort_by_key(|at| entries.get(*at).map(|entry| &entry.lease.run));
    let sorted: Vec<&Entry> = order.iter().filter_map(|at| entries.get(*at)).collect();
    let each = || sorted.iter();
    let runs: Vec<&str> = each().map(|entry| &*entry.lease.run).collect();
    let fences: Vec<i64> = each().map(|entry| entry.lease.fence.cast_signed()).collect();
    let leases: Vec<i64> = each().map(|entry| micros(entry.lease.lease)).collect();
    let count = |entry: &&Entry| i32::try_from(entry.records.len()).unwrap_or(i32::MAX);
    let counts: Vec<i32> = each().map(count).collect();
    let ends: Vec<Option<&str>> = each().map(|entry| entry.end.map(RunEnd::name)).collect();
    let errors: Vec<Option<&str>> = each().map(|entry| entry.error.as_deref()).collect();
    let records = || each().flat_map(|entry| entry.records.iter());
    let paths: Vec<&str> = records().map(|ready| &*ready.path).collect();
    let visits: Vec<i64> = records().map(|ready| ready.visit.into()).collect();
    let bodies: Vec<&str> = records().map(|ready| &*ready.body).collect();
    let values: [Value<'_>; 9] = [
        (&runs, Type::TEXT_ARRAY),
        (&fences, Type::INT8_ARRAY),
        (&leases, Type::INT8_ARRAY),
        (&counts, Type::INT4_ARRAY),
        (&ends, Type::TEXT_ARRAY),
        (&errors, Type::TEXT_ARRAY),
        (&paths, Type::TEXT_ARRAY),
        (&visits, Type::INT8_ARRAY),
        (&bodies, Type::TEXT_ARRAY),
    ];
    let rows = lines.query(OPERATION, RECORD, &values).await?;
    let missing = || Error::new(ErrorKind::Internal, OPERATION, "a result is missing");
    let mut results: Vec<Result<()>> = entries.iter().map(|_| Err(missing())).collect();
    for ((at, entry), row) in order.into_iter().zip(sorted).zip(&rows) {
        let came = came(entry, row).map_err(|e| fault(OPERATION, &lines.shown, e))?;
        if let Some(result) = results.get_mut(at) {
            *result = came;
        }
    }
    Ok(results)
}

/// Reads what came of an entry.
fn came(entry: &Entry, row: &Row) -> Result<Result<()>, tokio_postgres::Error> {
    let run = &entry.lease.run;
    let (came, told): (&str, Option<&str>) = (row.try_get(0)?, row.try_get(1)?);
    let told = told.unwrap_or_default();
    Ok(match came {
        "fine" => {
            entry.is_called_off.store(told == "cancel", Relaxed);
            Ok(())
        }
        "gone" => Err(was_deleted(run)),
        "lost" => Err(lost(run, told)),
        "ended" => match told.parse() {
            Ok(how) => Err(has_ended(run, how)),
            Err(error) => Err(error),
        },
        _ => {
            let nth = told.parse::<usize>().ok().and_then(|nth| nth.checked_sub(1));
            let ready = nth.and_then(|nth| entry.records.get(nth));
            let unknown = || {
                let why = format!("the store says what is not known here: {came}");
                Error::new(ErrorKind::Internal, OPERATION, why)
            };
            Err(ready.map_or_else(unknown, |ready| twice(run, &ready.path, ready.visit)))
        }
    })
}
