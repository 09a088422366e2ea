//! What SQLite's error codes mean to a user.

use super::settings::shown;
use crate::error::{Error, ErrorKind};
use rusqlite::ErrorCode;
use std::path::Path;

/// Turns an error of SQLite into one that says what, where and what to do.
pub(super) fn fault(operation: &'static str, path: &Path, error: rusqlite::Error) -> Error {
    let code = error.sqlite_error_code();
    if is_unreadable(&error) {
        let why = "a row of the database is not as it was written";
        return Error::new(ErrorKind::Corrupt, operation, why)
            .with("file", shown(path))
            .hint("someone changed or damaged it: restore the file from a copy, or delete the row")
            .because(error);
    }
    let (kind, message, hint) = match code {
        Some(ErrorCode::DiskFull) => (
            ErrorKind::Full,
            "the disk, or the file's max_size, is full",
            "free some space, raise max_size or lower retention; nothing that was confirmed is lost",
        ),
        Some(ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked) => (
            ErrorKind::Unavailable,
            "another process holds the database's write lock",
            "end the process that keeps a transaction open, or raise busy_timeout",
        ),
        Some(ErrorCode::DatabaseCorrupt) => (
            ErrorKind::Corrupt,
            "the database file is damaged",
            "restore it from a copy, or save what is left with `sqlite3 FILE .recover`",
        ),
        Some(ErrorCode::NotADatabase) => (
            ErrorKind::Corrupt,
            "the file is not a SQLite database",
            "name another file, or move this one away",
        ),
        Some(
            ErrorCode::ReadOnly
            | ErrorCode::PermissionDenied
            | ErrorCode::AuthorizationForStatementDenied,
        ) => (
            ErrorKind::Denied,
            "the database can't be written",
            "give this user write permission on the file and on its folder",
        ),
        Some(ErrorCode::CannotOpen) => (
            ErrorKind::Unavailable,
            "the database file can't be opened",
            "check that its folder exists, and that this user may write it and the file",
        ),
        Some(ErrorCode::SystemIoFailure) => (
            ErrorKind::Unavailable,
            "reading or writing the database failed",
            "check the disk and the system's log",
        ),
        _ => (ErrorKind::Internal, "SQLite refused a statement", "please report this as a defect"),
    };
    Error::new(kind, operation, message).with("file", shown(path)).hint(hint).because(error)
}

/// Tells whether a row was found that has what it can't have.
fn is_unreadable(error: &rusqlite::Error) -> bool {
    use rusqlite::Error as E;
    matches!(
        error,
        E::FromSqlConversionFailure(..)
            | E::InvalidColumnType(..)
            | E::IntegralValueOutOfRange(..)
            | E::Utf8Error(..)
    )
}
