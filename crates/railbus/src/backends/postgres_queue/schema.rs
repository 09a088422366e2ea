//! What is stored, and how an older schema is brought up to date.

use super::super::postgres::{Session, fault, quote};
use crate::error::{Error, ErrorKind, Result, causes};
use tokio_postgres::{
    error::SqlState,
    types::{ToSql, Type},
};

/// The version of the schema below.
pub(super) const VERSION: i32 = 1;

/// The oldest server that has what the schema is made of: multiranges.
const OLDEST: i32 = 140_000;

/// Takes a schema from version N to N + 1, at index N; a new one goes through all of them.
const MIGRATIONS: [&[&str]; VERSION as usize] = [&[
    include_str!("sql/tables.sql"),
    include_str!("sql/publish.sql"),
    include_str!("sql/log.sql"),
    include_str!("sql/claim.sql"),
    include_str!("sql/settle.sql"),
    include_str!("sql/listen.sql"),
    include_str!("sql/keep.sql"),
    include_str!("sql/accounts.sql"),
    include_str!("sql/sweep.sql"),
]];

/// Writes what takes a schema from version `from` to this one, 0 for one that is not there yet, as
/// a script for `psql`.
///
/// # Examples
/// ```
/// use railbus::backends::postgres_queue::script;
///
/// let sql = script("railbus", 0);
/// assert!(sql.starts_with("BEGIN;\n") && sql.ends_with("COMMIT;\n"));
/// assert!(sql.contains(r#"CREATE TABLE "railbus".events"#));
/// ```
#[must_use]
pub fn script(schema: &str, from: i32) -> String {
    let create = match from {
        0 => format!(
            "CREATE SCHEMA IF NOT EXISTS {schema};\n\
             CREATE TABLE {schema}.migrations \
             (version integer PRIMARY KEY, at timestamptz NOT NULL DEFAULT now());\n",
            schema = quote(schema)
        ),
        _ => String::new(),
    };
    format!("BEGIN;\n{}{create}{}COMMIT;\n", lock(schema), steps(schema, from))
}

/// Lets one instance at a time bring the schema up to date.
fn lock(schema: &str) -> String {
    let name = schema.replace('\'', "''");
    format!("SELECT pg_advisory_xact_lock(hashtext('railbus migrations'), hashtext('{name}'));\n")
}

fn steps(schema: &str, from: i32) -> String {
    let done = usize::try_from(from).unwrap_or(0);
    let quoted = quote(schema);
    let mut sql = String::new();
    for (at, migration) in MIGRATIONS.iter().enumerate().skip(done) {
        for part in *migration {
            sql += &part.replace("@SCHEMA@", &quoted).replace("@NAME@", schema);
        }
        let version = at + 1;
        sql += &format!("INSERT INTO {quoted}.migrations (version) VALUES ({version});\n");
    }
    sql
}

/// Brings the schema to this version, whoever else is at it; returns the version that was found.
pub(super) async fn migrate(
    session: &Session,
    operation: &'static str,
    schema: &str,
    shown: &str,
) -> Result<i32> {
    if session.version < OLDEST {
        let why = format!("PostgreSQL {} is too old for a queue", session.version / 10_000);
        return Err(Error::new(ErrorKind::Unsupported, operation, why)
            .with("server", shown)
            .hint(format!("use {} or newer", OLDEST / 10_000)));
    }
    if !session.is_utf8 {
        let why = "the database's encoding lacks most characters";
        return Err(Error::new(ErrorKind::Config, operation, why)
            .with("server", shown)
            .hint("create a database with the encoding UTF8"));
    }
    let found = version(session, operation, schema, shown).await?;
    if found == VERSION {
        return Ok(found);
    }
    session.timed(operation, session.batch_execute("BEGIN")).await?;
    let done = locked(session, operation, schema, shown).await;
    let end = if done.is_ok() { "COMMIT" } else { "ROLLBACK" };
    let ended = session.timed(operation, session.batch_execute(end)).await;
    done?;
    ended?;
    Ok(found)
}

async fn locked(
    session: &Session,
    operation: &'static str,
    schema: &str,
    shown: &str,
) -> Result<()> {
    session.timed(operation, session.batch_execute(&lock(schema))).await?;
    // Another instance may have been faster.
    let found = version(session, operation, schema, shown).await?;
    if found == VERSION {
        return Ok(());
    }
    let quoted = quote(schema);
    if found == 0 {
        let values: [(&(dyn ToSql + Sync), Type); 1] = [(&quoted, Type::TEXT)];
        let there =
            session.query(operation, "SELECT to_regnamespace($1) IS NOT NULL", &values).await?;
        // It needs a right that is not needed where the schema is there.
        if !there.first().is_some_and(|row| row.get(0)) {
            let create = format!("CREATE SCHEMA {quoted}");
            session.timed(operation, session.batch_execute(&create)).await.map_err(refused)?;
        }
        let table = format!(
            "CREATE TABLE {quoted}.migrations \
             (version integer PRIMARY KEY, at timestamptz NOT NULL DEFAULT now())"
        );
        session.timed(operation, session.batch_execute(&table)).await.map_err(refused)?;
    }
    session.timed(operation, session.batch_execute(&steps(schema, found))).await.map_err(refused)
}

/// Says what a user can do about a schema that can't be made.
fn refused(error: Error) -> Error {
    let code = causes(&error)
        .find_map(|cause| cause.downcast_ref::<tokio_postgres::Error>())
        .and_then(|fault| fault.code().cloned());
    match code {
        Some(SqlState::INSUFFICIENT_PRIVILEGE) => {
            let why = "this user may not bring the tables of Railbus up to date";
            Error::new(ErrorKind::Denied, "migrate", why)
                .hint(
                    "let `railbus migrate` do it as one who may, or hand what `railbus migrate \
                     --print` writes to whoever keeps the database",
                )
                .because(error)
        }
        Some(
            SqlState::DUPLICATE_TABLE | SqlState::DUPLICATE_OBJECT | SqlState::DUPLICATE_FUNCTION,
        ) => {
            let why = "the schema has tables of another program";
            Error::new(ErrorKind::Config, "migrate", why)
                .hint("set `schema` to one that Railbus has for itself")
                .because(error)
        }
        _ => error,
    }
}

/// Reads the version of the schema, 0 if there is none; a newer one is refused.
pub(super) async fn version(
    session: &Session,
    operation: &'static str,
    schema: &str,
    shown: &str,
) -> Result<i32> {
    let table = format!("{}.migrations", quote(schema));
    let values: [(&(dyn ToSql + Sync), Type); 1] = [(&table, Type::TEXT)];
    let rows = session.query(operation, "SELECT to_regclass($1) IS NOT NULL", &values).await?;
    if !rows.first().is_some_and(|row| row.get(0)) {
        return Ok(0);
    }
    let newest = format!("SELECT coalesce(max(version), 0) FROM {table}");
    let rows = session.query(operation, &newest, &[]).await?;
    let found = rows.first().map(|row| row.try_get::<_, i32>(0)).transpose();
    let found = found.map_err(|e| fault(operation, shown, e))?.unwrap_or(0);
    if found > VERSION {
        return Err(Error::new(ErrorKind::Version, operation, "a newer Railbus made these tables")
            .with("server", shown)
            .with("schema", schema)
            .with("its version", found)
            .with("known up to", VERSION)
            .hint("use that Railbus, or set `schema` to another one"));
    }
    Ok(found)
}
