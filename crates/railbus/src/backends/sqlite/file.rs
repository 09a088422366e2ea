//! Opening the database file, with a clear error for each way it can be wrong.

use super::{
    fault::fault,
    schema::{APPLICATION_ID, MIGRATIONS, VERSION},
    settings::{Settings, shown},
    timeline::{Clocks, Timeline},
    turn::Turn,
};
use crate::{
    error::{Error, ErrorKind, Result},
    predicate::{Filter, Interest},
};
use rusqlite::{Connection, OpenFlags, config::DbConfig, functions::FunctionFlags};
use std::{
    fs,
    io::ErrorKind as Io,
    os::unix::fs::{OpenOptionsExt, PermissionsExt},
    path::Path,
    sync::Arc,
    thread,
    time::{Duration, Instant},
};

const OPERATION: &str = "open sqlite";

/// How long opening waits before it tries again what SQLite does not wait for.
const BUSY_PAUSE: Duration = Duration::from_millis(5);

/// Opens the file for writing, creating and migrating it as needed.
pub(super) fn open_writer(
    settings: &Settings,
    clocks: &Arc<dyn Clocks>,
) -> Result<(Connection, Timeline)> {
    if examine(&settings.path)?.is_none() {
        create(&settings.path)?;
    }
    let connection = connect(settings)?;
    let began = Instant::now();
    // SQLite does not wait for others that switch a new file to WAL, or recover one whose process
    // was killed, at the same moment.
    loop {
        match prepare(&connection, settings, clocks) {
            Ok(timeline) => return Ok((connection, timeline)),
            Err(e) if e.kind() != ErrorKind::Unavailable => return Err(e),
            Err(e) if began.elapsed() >= settings.busy_timeout => return Err(e),
            Err(_) => thread::sleep(BUSY_PAUSE),
        }
    }
}

/// Opens a file that [`open_writer`] has prepared, for reading only.
pub(super) fn open_reader(settings: &Settings) -> Result<Connection> {
    let connection = connect(settings)?;
    let query_only = connection.pragma_update(None, "query_only", true);
    query_only.map_err(|e| fault(OPERATION, &settings.path, e))?;
    Ok(connection)
}

/// Connects to a file that is there.
pub(super) fn connect(settings: &Settings) -> Result<Connection> {
    // No URI file names: the path is what the user wrote. Each connection stays in one thread.
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let failed = |e| fault(OPERATION, &settings.path, e);
    let connection = Connection::open_with_flags(&settings.path, flags).map_err(failed)?;
    connection.busy_timeout(settings.busy_timeout).map_err(failed)?;
    connection.set_prepared_statement_cache_capacity(64);
    // Else statements are planned anew whenever a bound value changes.
    connection.set_db_config(DbConfig::SQLITE_DBCONFIG_ENABLE_QPSG, true).map_err(failed)?;
    define_wants(&connection).map_err(failed)?;
    Ok(connection)
}

/// Defines `wants(interest, type, topic)`, so that statements can ask what a group is interested
/// in; a constant interest is compiled once a statement.
pub(super) fn define_wants(connection: &Connection) -> rusqlite::Result<()> {
    let flags = FunctionFlags::SQLITE_UTF8 | FunctionFlags::SQLITE_DETERMINISTIC;
    connection.create_scalar_function("wants", 3, flags, |context| {
        let filter: Arc<Filter> = context.get_or_create_aux(0, |interest| {
            let interest: Interest = serde_json::from_str(interest.as_str()?)?;
            Ok::<_, Box<dyn std::error::Error + Send + Sync>>(interest.compile())
        })?;
        let text = |i| context.get_raw(i).as_str().unwrap_or_default();
        Ok(filter.matches(text(1), text(2)))
    })
}

/// Returns the file's size, none if there is none, and refuses what can't be a store.
pub(super) fn examine(path: &Path) -> Result<Option<u64>> {
    let refuse = |kind, why: &'static str, hint: &str| {
        Err(Error::new(kind, OPERATION, why).with("file", shown(path)).hint(hint))
    };
    match fs::metadata(path) {
        Ok(found) if found.is_dir() => {
            refuse(ErrorKind::Config, "it is a directory", "name a file in it, such as orders.db")
        }
        Ok(found) if !found.is_file() => {
            refuse(ErrorKind::Config, "it is not a regular file", "name a file")
        }
        Ok(found) if found.permissions().mode() & 0o200 == 0 => refuse(
            ErrorKind::Denied,
            "the file is read-only",
            "make it writable (chmod u+w), or name another file",
        ),
        Ok(found) => Ok(Some(found.len())),
        Err(e) if e.kind() == Io::NotFound => Ok(None),
        Err(e) => Err(denied(path, e)),
    }
}

/// Creates the file for this user alone.
fn create(path: &Path) -> Result<()> {
    match fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(path) {
        Ok(_) => Ok(()),
        // Another process was faster.
        Err(e) if e.kind() == Io::AlreadyExists => Ok(()),
        Err(e) if e.kind() == Io::NotFound => {
            Err(Error::new(ErrorKind::NotFound, OPERATION, "the file's folder does not exist")
                .with("file", shown(path))
                .hint("create the folder, or name another one"))
        }
        Err(e) => Err(denied(path, e)),
    }
}

fn denied(path: &Path, error: std::io::Error) -> Error {
    let kind = match error.kind() {
        Io::PermissionDenied | Io::ReadOnlyFilesystem => ErrorKind::Denied,
        Io::StorageFull | Io::QuotaExceeded => ErrorKind::Full,
        _ => ErrorKind::Unavailable,
    };
    Error::new(kind, OPERATION, "the database file can't be opened")
        .with("file", shown(path))
        .because(error)
        .hint("check the permissions of the file and of its folder")
}

/// Sets the connection up, brings the schema to this version and joins the timeline, in one
/// transaction; where that is done already nothing is written, so that opening waits for no writer.
fn prepare(
    connection: &Connection,
    settings: &Settings,
    clocks: &Arc<dyn Clocks>,
) -> Result<Timeline> {
    let failed = |e| fault(OPERATION, &settings.path, e);
    // Before anything is written, even the switch to WAL: a foreign file stays as it was.
    let found = owner(connection, settings)?;
    connection.pragma_update(None, "journal_mode", "wal").map_err(failed)?;
    set_synchronous(connection, settings.full_sync).map_err(failed)?;
    if let Some(bytes) = settings.max_size {
        let page: i64 =
            connection.pragma_query_value(None, "page_size", |r| r.get(0)).map_err(failed)?;
        let pages = i64::try_from(bytes).unwrap_or(i64::MAX) / page.max(1);
        connection.pragma_update(None, "max_page_count", pages.max(1)).map_err(failed)?;
    }
    if found == VERSION
        && let Some(timeline) = Timeline::begun(connection, clocks).map_err(failed)?
    {
        return Ok(timeline);
    }
    let transaction = Turn::of(connection, settings).come().begin(connection).map_err(failed)?;
    let found: i32 =
        transaction.pragma_query_value(None, "user_version", |r| r.get(0)).map_err(failed)?;
    if found < VERSION {
        for migration in MIGRATIONS.iter().skip(usize::try_from(found).unwrap_or(0)) {
            transaction.execute_batch(migration).map_err(failed)?;
        }
        transaction.pragma_update(None, "application_id", APPLICATION_ID).map_err(failed)?;
        transaction.pragma_update(None, "user_version", VERSION).map_err(failed)?;
    }
    let timeline = Timeline::join(&transaction, Arc::clone(clocks)).map_err(failed)?;
    transaction.commit().map_err(failed)?;
    Ok(timeline)
}

/// Switches between syncing the log at each commit and at checkpoints only.
pub(super) fn set_synchronous(connection: &Connection, full: bool) -> rusqlite::Result<()> {
    connection.pragma_update(None, "synchronous", if full { "full" } else { "normal" })
}

/// Returns the version of the file's schema, 0 if it has none, and refuses files of others.
pub(super) fn owner(connection: &Connection, settings: &Settings) -> Result<i32> {
    let failed = |e| fault(OPERATION, &settings.path, e);
    // One snapshot: another process may be making the file a store right now.
    let connection = connection.unchecked_transaction().map_err(failed)?;
    let number = |name| connection.pragma_query_value(None, name, |row| row.get::<_, i32>(0));
    let (owner, version) =
        (number("application_id").map_err(failed)?, number("user_version").map_err(failed)?);
    let tables: i64 = connection
        .query_row("SELECT count(*) FROM sqlite_schema", [], |row| row.get(0))
        .map_err(failed)?;
    if owner != APPLICATION_ID && tables > 0 {
        let why = "the database belongs to another program";
        return Err(Error::new(ErrorKind::Corrupt, OPERATION, why)
            .with("file", shown(&settings.path))
            .hint("name another file; Railbus keeps its events in a file of their own"));
    }
    if version > VERSION {
        return Err(Error::new(ErrorKind::Version, OPERATION, "a newer Railbus wrote this file")
            .with("file", shown(&settings.path))
            .with("its schema", version)
            .with("known up to", VERSION)
            .hint("use that Railbus, or name another file"));
    }
    Ok(version)
}
