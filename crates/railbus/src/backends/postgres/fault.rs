//! What the client and the server say, as errors that tell what to do.

use crate::error::{Error, ErrorKind, causes};
use std::io;
use tokio_postgres::{Error as Fault, error::SqlState};

/// What went wrong with a connection or a statement; `at` shows where the database is.
pub(in crate::backends) fn fault(operation: &'static str, at: &str, fault: Fault) -> Error {
    let (kind, why, hint) = match fault.as_db_error() {
        Some(said) => of_server(said.code(), said.message()),
        None => of_client(&fault),
    };
    let error = Error::new(kind, operation, why).with("server", at).because(fault);
    if hint.is_empty() { error } else { error.hint(hint) }
}

type Found = (ErrorKind, &'static str, &'static str);

/// Sorts what the server answered.
fn of_server(code: &SqlState, message: &str) -> Found {
    use ErrorKind::{Denied, NotFound, Unavailable};
    match code {
        &SqlState::INVALID_PASSWORD => {
            // The server says the same of a user that it does not know.
            (
                Denied,
                "the password is wrong, or there is no such user",
                "set `user` and `password`, or PGUSER and PGPASSWORD",
            )
        }
        &SqlState::INVALID_AUTHORIZATION_SPECIFICATION if message.contains("encryption") => (
            Denied,
            "the server lets nobody in this way",
            "look at its pg_hba.conf; it may want TLS: sslmode=require",
        ),
        &SqlState::INVALID_AUTHORIZATION_SPECIFICATION => (
            Denied,
            "the server does not let this user in",
            "set `user`, or look at its pg_hba.conf",
        ),
        &SqlState::INVALID_CATALOG_NAME => {
            (NotFound, "the database does not exist", "create it, or set `database`")
        }
        &SqlState::INSUFFICIENT_PRIVILEGE => (
            Denied,
            "this user may not do that",
            "grant it what docs/postgres.md lists, or connect as another",
        ),
        &SqlState::TOO_MANY_CONNECTIONS => (
            Unavailable,
            "the server has no connection left",
            "raise its max_connections, or put a pool before it",
        ),
        &SqlState::CANNOT_CONNECT_NOW | &SqlState::ADMIN_SHUTDOWN | &SqlState::CRASH_SHUTDOWN => {
            (Unavailable, "the server is starting or stopping", "")
        }
        code => of_statement(code, message),
    }
}

/// Sorts what the server answered to a statement.
fn of_statement(code: &SqlState, message: &str) -> Found {
    use ErrorKind::{Config, Full, Internal, NotFound, TooLarge, Unavailable};
    match code {
        &SqlState::READ_ONLY_SQL_TRANSACTION => (
            Unavailable,
            "the server is a standby",
            "connect to the primary; several hosts may be named, joined by commas",
        ),
        &SqlState::DISK_FULL => (Full, "the server's disk is full", "make room on it"),
        &SqlState::PROGRAM_LIMIT_EXCEEDED if message.contains("NOTIFY") => (
            Full,
            "the server's queue of notifications is full",
            "end the transaction that a listener holds open",
        ),
        &SqlState::OUT_OF_MEMORY | &SqlState::INSUFFICIENT_RESOURCES => {
            (Unavailable, "the server is out of memory", "")
        }
        &SqlState::INVALID_PARAMETER_VALUE if message.contains("too long") => {
            (TooLarge, "the server takes no payload of this size", "")
        }
        &SqlState::UNTRANSLATABLE_CHARACTER | &SqlState::CHARACTER_NOT_IN_REPERTOIRE => (
            ErrorKind::Encode,
            "the database's encoding lacks a character",
            "use a database in UTF8",
        ),
        &SqlState::QUERY_CANCELED => (ErrorKind::Timeout, "the server gave the statement up", ""),
        &SqlState::T_R_SERIALIZATION_FAILURE
        | &SqlState::T_R_DEADLOCK_DETECTED
        | &SqlState::LOCK_NOT_AVAILABLE => (Unavailable, "another session was in the way", ""),
        &SqlState::UNDEFINED_TABLE | &SqlState::INVALID_SCHEMA_NAME => (
            NotFound,
            "a table of Railbus is missing",
            "open the bus as a user that may create it, or run the migrations",
        ),
        &SqlState::FEATURE_NOT_SUPPORTED => (Config, "the server does not do that", ""),
        // A protocol violation among them: a pool says so of all that it has no code for.
        code if code.code().starts_with("08") || code.code().starts_with("57P") => {
            (Unavailable, "the connection to the server broke", "")
        }
        code if code.code().starts_with("53") => {
            (Unavailable, "the server is short of something", "")
        }
        _ => (Internal, "the server refused a statement", ""),
    }
}

/// Sorts what the client said itself. Its kinds are told by their text alone.
fn of_client(fault: &Fault) -> Found {
    use ErrorKind::{Config, Denied, Internal, Unavailable};
    let said = fault.to_string();
    let chain: Vec<String> = causes(fault).skip(1).map(ToString::to_string).collect();
    let mentions = |text: &str| chain.iter().any(|cause| cause.contains(text));
    let is_io = causes(fault).any(|cause| cause.is::<io::Error>());
    match said.as_str() {
        "error performing TLS handshake" if mentions("does not support TLS") => {
            (Config, "the server does not do TLS", "turn it on there, or set tls=false")
        }
        "error performing TLS handshake" if mentions("invalid peer certificate") => (
            Denied,
            "the server's certificate is not trusted",
            "set tls_ca to the authority that signed it, and host to the name that it bears",
        ),
        "error performing TLS handshake" if mentions("alert") => {
            (Denied, "the server ended the TLS handshake", "it may want tls_cert and tls_key")
        }
        "error performing TLS handshake" if mentions("no hostname") => {
            (Config, "TLS needs a host with a name", "set `host`")
        }
        "error performing TLS handshake" => {
            (Unavailable, "the TLS handshake failed", "look at `sslmode`, here and there")
        }
        "authentication error" => {
            (Denied, "the server and this client can't agree on who this is", "look at `password`")
        }
        "invalid configuration" if mentions("password missing") => {
            (Denied, "the server wants a password", "set `password` or PGPASSWORD")
        }
        "invalid configuration" | "invalid connection string" => {
            (Config, "the settings don't fit together", "")
        }
        "error connecting to server" => {
            (Unavailable, "the server can't be reached", "look at `host` and `port`")
        }
        "unexpected message from server" | "error parsing response from server" if !is_io => {
            (Config, "what answers is not PostgreSQL", "look at `host` and `port`")
        }
        said if said.starts_with("error serializing")
            || said.starts_with("error deserializing") =>
        {
            (Internal, "a value does not fit its column", "")
        }
        _ => (Unavailable, "the connection to the server broke", ""),
    }
}

/// The server did not answer in time.
pub(in crate::backends) fn late(operation: &'static str, at: &str) -> Error {
    Error::new(ErrorKind::Timeout, operation, "the server did not answer in time")
        .with("server", at)
}

/// The backend is closed.
pub(in crate::backends) fn closed(operation: &'static str) -> Error {
    Error::new(ErrorKind::Closed, operation, "the connection is closed")
}
