//! Looking at a queue from outside: what `doctor` tells of it.

use super::{
    lines::{Lines, Value},
    schema::{VERSION, version},
    settings::Settings,
};
use crate::{
    backends::checkup::{Check, Checkup},
    error::{Error, ErrorKind, Result},
    options::Options,
};
use std::thread;
use tokio_postgres::types::Type;

const OPERATION: &str = "look at postgres-queue";

/// A transaction that is open for longer than this keeps the server from cleaning up.
const LONG_SECONDS: f64 = 600.0;

/// Looks at the server and the schema; nothing is created or changed. May block.
pub fn look(options: &Options) -> Checkup {
    let mut checkup = Checkup::default();
    let settings = match Settings::read(options) {
        Ok(settings) => settings,
        Err(error) => {
            checkup.checks.push(Check::failed("settings", &error));
            return checkup;
        }
    };
    checkup.checks.push(said(&settings));
    // A runtime of its own: whoever asks may be in one that must not be blocked.
    let looked = thread::scope(|scope| {
        let looking = scope.spawn(|| {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
            let runtime = runtime.map_err(|e| {
                Error::new(ErrorKind::Internal, OPERATION, "cannot start a runtime").because(e)
            })?;
            runtime.block_on(inside(&settings, &mut checkup))
        });
        looking.join()
    });
    let died = |_| Err(Error::new(ErrorKind::Internal, OPERATION, "looking panicked"));
    if let Err(error) = looked.unwrap_or_else(died) {
        checkup.checks.push(Check::failed("server", &error));
    }
    checkup
}

fn said(settings: &Settings) -> Check {
    let hears = match settings.poll_only {
        true => "it looks for events, and neither listens nor notifies",
        false => "it listens, and looks for events nobody told it of",
    };
    let poll = settings.poll;
    let retention = match settings.retention {
        Some(retention) => format!("{retention:?}"),
        None => "as was set last, else 24h".into(),
    };
    let schema = &settings.server.schema;
    Check::ok("settings", format!("schema {schema}; retention {retention}; {hears} every {poll:?}"))
}

async fn inside(settings: &Settings, checkup: &mut Checkup) -> Result<()> {
    let lines = Lines::new(settings);
    let session = lines.first().open(OPERATION).await?;
    let server = format!("{}, version {}", lines.shown, session.version / 10_000);
    checkup.checks.push(Check::ok("server", server));
    if session.is_pooled {
        checkup.checks.push(pool(settings.poll_only));
    }
    let found = version(&session, OPERATION, &settings.server.schema, &lines.shown).await;
    drop(session);
    match found {
        Ok(found) => {
            checkup.begins = found == 0;
            checkup.checks.push(schema(found));
            if found > 0 {
                checkup.add("transactions", transactions(&lines).await);
            }
        }
        Err(error) => checkup.checks.push(Check::failed("schema", &error)),
    }
    lines.close(settings.server.connect_timeout).await;
    Ok(())
}

/// Tells whether a bus can consume behind a pool.
fn pool(poll_only: bool) -> Check {
    let detail = "between here and the server, and may lend a connection by transaction";
    match poll_only {
        true => Check::ok("pool", detail),
        false => Check::warn(
            "pool",
            format!("{detail}: publishing works, listening is refused"),
            "set poll_only=true, connect past it, or set its pool_mode to session",
        ),
    }
}

fn schema(found: i32) -> Check {
    let advice = "the next bus that opens it brings it up to date, or `railbus migrate`";
    match found {
        0 => Check::warn("schema", "it is not there yet", advice),
        VERSION => Check::ok("schema", format!("version {found}")),
        _ => Check::warn("schema", format!("version {found}, this railbus has {VERSION}"), advice),
    }
}

/// Looks for transactions that keep the server from cleaning up.
async fn transactions(lines: &Lines) -> Result<Check> {
    let values: [Value<'_>; 1] = [(&LONG_SECONDS, Type::FLOAT8)];
    // Those of all databases, and those that are prepared.
    let statement = "SELECT count(*), pg_has_role('pg_read_all_stats', 'USAGE') FROM ( \
                     SELECT xact_start AS since FROM pg_stat_activity \
                     UNION ALL SELECT prepared FROM pg_prepared_xacts) AS open \
                     WHERE extract(epoch FROM now() - since) > $1";
    let rows = lines.query(OPERATION, statement, &values).await?;
    let count = rows.first().and_then(|row| row.try_get::<_, i64>(0).ok()).unwrap_or(0);
    let sees_all = rows.first().and_then(|row| row.try_get::<_, bool>(1).ok()).unwrap_or(false);
    Ok(match (count, sees_all) {
        (0, true) => Check::ok("transactions", "none is held open for long"),
        (0, false) => {
            Check::ok("transactions", "this user sees its own alone: none is held open for long")
        }
        (count, _) => Check::warn(
            "transactions",
            format!("{count} held open for more than 10 minutes"),
            "end them: until then the tables grow with every event",
        ),
    })
}
