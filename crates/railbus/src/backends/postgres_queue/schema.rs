//! What is stored, and how an older schema is brought up to date.

use super::settings::check_schema;
use crate::{
    backends::postgres::{Session, fault, quote},
    error::{Error, ErrorKind, Result, causes},
};
use tokio_postgres::{
    error::SqlState,
    types::{ToSql, Type},
};

/// The version of the schema below. It changes with the functions too.
pub(super) const VERSION: i32 = 6;

/// The oldest server that has what the schema is made of: multiranges.
const OLDEST: i32 = 140_000;

/// What takes the tables from version N to N + 1, at index N; new ones go through all of them. Where
/// a function takes or returns something else than before, its old form is dropped here.
const TABLES: [&str; VERSION as usize] = [
    include_str!("sql/tables.sql"),
    include_str!("sql/held.sql"),
    include_str!("sql/journal_tables.sql"),
    include_str!("sql/swept.sql"),
    include_str!("sql/marked.sql"),
    include_str!("sql/commons_tables.sql"),
];

/// What the server does, in this version, whichever there was before.
const FUNCTIONS: &[&str] = &[
    include_str!("sql/publish.sql"),
    include_str!("sql/log.sql"),
    include_str!("sql/keys.sql"),
    include_str!("sql/claim.sql"),
    include_str!("sql/settle.sql"),
    include_str!("sql/listen.sql"),
    include_str!("sql/withdraw.sql"),
    include_str!("sql/groups.sql"),
    include_str!("sql/replay.sql"),
    include_str!("sql/letters.sql"),
    include_str!("sql/accounts.sql"),
    include_str!("sql/sweep.sql"),
    include_str!("sql/journal.sql"),
    include_str!("sql/commons.sql"),
];

/// Writes what takes a schema from version `from` to this one, 0 for one that is not there yet, as
/// a script for `psql`.
///
/// # Examples
/// ```
/// use railbus::backends::postgres_queue::script;
///
/// let sql = script("railbus", 0)?;
/// assert!(sql.starts_with("BEGIN;\n") && sql.ends_with("COMMIT;\n"));
/// assert!(sql.contains(r#"CREATE TABLE "railbus".events"#));
/// # Ok::<(), railbus::Error>(())
/// ```
///
/// # Errors
/// Returns a config error if there is no such version, or no queue can be in a schema of that name.
pub fn script(schema: &str, from: i32) -> Result<String> {
    if !(0..=VERSION).contains(&from) {
        let why = format!("there is no version {from} of the tables");
        return Err(Error::new(ErrorKind::Config, "migrate", why)
            .hint(format!("allowed: 0, for none, to {VERSION}")));
    }
    check_schema("migrate", schema)?;
    let create = match from {
        0 => format!("CREATE SCHEMA IF NOT EXISTS {};\n{}", quote(schema), versions(schema)),
        _ => String::new(),
    };
    Ok(format!("BEGIN;\n{}{create}{}COMMIT;\n", lock(schema), steps(schema, from)))
}

/// What a role may do with a queue.
#[non_exhaustive]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Grant {
    /// Publish, consume, and all that the command line does, but for migrations.
    All,
    /// Publish, be it in a transaction of its own.
    Publish,
}

/// Writes what lets a role work with a queue whose tables another has made.
///
/// # Examples
/// ```
/// use railbus::backends::postgres_queue::{Grant, grants};
///
/// let sql = grants("railbus", Grant::Publish, "web");
/// assert!(sql.contains(r#"GRANT INSERT ON "railbus".events, "railbus".batches TO "web";"#));
/// assert!(!grants("railbus", Grant::All, "worker").contains("CREATE"));
/// ```
#[must_use]
pub fn grants(schema: &str, grant: Grant, role: &str) -> String {
    let (schema, role) = (quote(schema), quote(role));
    let of_it = match grant {
        Grant::All => format!(
            "GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA {schema} TO {role};\n\
             REVOKE INSERT, UPDATE, DELETE ON {schema}.migrations FROM {role};\n\
             GRANT USAGE, SELECT, UPDATE ON ALL SEQUENCES IN SCHEMA {schema} TO {role};\n"
        ),
        Grant::Publish => format!(
            "GRANT SELECT ON {schema}.migrations TO {role};\n\
             GRANT INSERT ON {schema}.events, {schema}.batches TO {role};\n\
             GRANT USAGE ON SEQUENCE {schema}.transactions TO {role};\n"
        ),
    };
    format!("GRANT USAGE ON SCHEMA {schema} TO {role};\n{of_it}")
}

fn versions(schema: &str) -> String {
    format!(
        "CREATE TABLE {}.migrations \
         (version integer PRIMARY KEY, at timestamptz NOT NULL DEFAULT now());\n",
        quote(schema)
    )
}

/// Lets one instance at a time bring the schema up to date.
fn lock(schema: &str) -> String {
    let name = schema.replace('\'', "''");
    format!("SELECT pg_advisory_xact_lock(hashtext('railbus migrations'), hashtext('{name}'));\n")
}

fn steps(schema: &str, from: i32) -> String {
    let done = usize::try_from(from).unwrap_or(0);
    let quoted = quote(schema);
    let own = |part: &str| part.replace("@SCHEMA@", &quoted).replace("@NAME@", schema);
    let mut sql: String = TABLES.iter().skip(done).map(|part| own(part)).collect();
    if from < VERSION {
        // In a schema that is new for us, one that is there is another program's.
        let create = if from == 0 { "CREATE FUNCTION" } else { "CREATE OR REPLACE FUNCTION" };
        sql.extend(FUNCTIONS.iter().map(|part| own(part).replace("CREATE FUNCTION", create)));
    }
    for version in from + 1..=VERSION {
        sql += &format!("INSERT INTO {quoted}.migrations (version) VALUES ({version});\n");
    }
    sql
}

/// Brings the schema to this version, whoever else is at it; returns the version that was found, by
/// whoever was not first the one that the first has left.
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
    if !session.is_read_committed {
        let why = "transactions are of an isolation level that a queue can't have";
        return Err(Error::new(ErrorKind::Config, operation, why).with("server", shown).hint(
            "behind a pool Railbus can't set it: ALTER ROLE .. SET \
                 default_transaction_isolation = 'read committed'",
        ));
    }
    let found = version(session, operation, schema, shown).await?;
    if found == VERSION {
        return Ok(found);
    }
    session.timed(operation, session.batch_execute("BEGIN")).await?;
    let done = locked(session, operation, schema, shown).await;
    let end = if done.is_ok() { "COMMIT" } else { "ROLLBACK" };
    let ended = session.timed(operation, session.batch_execute(end)).await;
    if ended.is_err() {
        // Nothing may be left half done on a connection that is used again.
        session.end();
    }
    let found = done?;
    ended.map(|()| found)
}

async fn locked(
    session: &Session,
    operation: &'static str,
    schema: &str,
    shown: &str,
) -> Result<i32> {
    session.timed(operation, session.batch_execute(&lock(schema))).await?;
    // Another instance may have been faster.
    let found = version(session, operation, schema, shown).await?;
    if found == VERSION {
        return Ok(found);
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
        session
            .timed(operation, session.batch_execute(&versions(schema)))
            .await
            .map_err(refused)?;
    }
    let done = session.timed(operation, session.batch_execute(&steps(schema, found))).await;
    done.map_err(refused).map(|()| found)
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
    // Not `to_regclass`: what a session has once not found it may go on not finding while it waits
    // for the one that makes it.
    let values: [(&(dyn ToSql + Sync), Type); 1] = [(&schema, Type::TEXT)];
    let there = "SELECT EXISTS (SELECT FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace \
                 WHERE n.nspname = $1 AND c.relname = 'migrations')";
    let rows = session.query(operation, there, &values).await?;
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
