//! Looking at a server from outside: what `doctor` tells of it.

use super::{
    capability::Settings,
    session::Session,
    settings::{Server, quote},
};
use crate::{
    backends::checkup::{Check, Checkup},
    error::{Error, ErrorKind, Result},
    options::Options,
};
use std::{sync::Arc, thread};
use tokio::runtime::Builder;

const OPERATION: &str = "look at postgres";

/// Above this share of it, a queue of notifications is filling up.
const FILLING: f64 = 0.25;

/// Looks at the server; nothing is created or changed. May block.
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
    let server = Arc::new(settings.server);
    // On a thread of its own: the caller may be within a runtime.
    let looking = thread::spawn(move || {
        let runtime = Builder::new_current_thread().enable_all().build().map_err(|e| {
            Error::new(ErrorKind::Internal, OPERATION, "there is no runtime for it").because(e)
        })?;
        runtime.block_on(checks(&server))
    });
    let looked = looking
        .join()
        .unwrap_or_else(|_| Err(Error::new(ErrorKind::Internal, OPERATION, "looking panicked")));
    match looked {
        Ok(checks) => checkup.checks.extend(checks),
        Err(error) => checkup.checks.push(Check::failed("server", &error)),
    }
    checkup
}

fn said(settings: &Settings) -> Check {
    let server = &settings.server;
    let detail = format!(
        "channel {}, sslmode {}, connect_timeout {:?}, statement_timeout {:?}, backlog {}, \
         spill_retention {:?}",
        server.prefix,
        server.tls.mode.name(),
        server.connect_timeout,
        server.statement_timeout,
        settings.backlog,
        settings.spill_retention,
    );
    Check::ok("settings", detail)
}

async fn checks(server: &Arc<Server>) -> Result<Vec<Check>> {
    let session = Session::connect(server, OPERATION, None).await?;
    let version = format!("{}.{}", session.version / 10_000, session.version % 10_000);
    let mut checks = vec![Check::ok("server", format!("PostgreSQL {version} at {}", server.shown))];
    checks.push(match session.is_pooled {
        true => Check::warn(
            "pool",
            "a pool stands before the server",
            "its pool_mode must be session for LISTEN, or connect past it",
        ),
        false => Check::ok("pool", "none: this is the server itself"),
    });
    let usage = "SELECT pg_notification_queue_usage()";
    let rows = session.query(OPERATION, usage, &[]).await?;
    let usage: f64 = rows.first().map_or(0.0, |row| row.get(0));
    let detail = format!("the queue of notifications is {:.1} % full", usage * 100.0);
    checks.push(match usage > FILLING {
        true => Check::warn(
            "queue",
            detail,
            "look in pg_stat_activity for a listener that holds a transaction open",
        ),
        false => Check::ok("queue", detail),
    });
    checks.push(spilled(&session, server).await?);
    Ok(checks)
}

/// Tells whether events can be notified that don't fit in a notification.
async fn spilled(session: &Session, server: &Server) -> Result<Check> {
    let table = format!("{}.spilled", quote(&server.schema));
    let about = "SELECT to_regclass($1) IS NOT NULL, \
                 has_database_privilege(current_database(), 'CREATE'), \
                 CASE WHEN to_regclass($1) IS NOT NULL THEN \
                 (SELECT bool_and(has_table_privilege(to_regclass($1)::oid, of)) \
                 FROM unnest(ARRAY['SELECT', 'INSERT', 'DELETE']) AS of) END";
    let values: [(&(dyn tokio_postgres::types::ToSql + Sync), _); 1] =
        [(&table, tokio_postgres::types::Type::TEXT)];
    let rows = session.query(OPERATION, about, &values).await?;
    let Some(row) = rows.first() else { return Ok(Check::ok("spill", "not known")) };
    let (exists, may_create, may_use): (bool, bool, Option<bool>) =
        (row.get(0), row.get(1), row.get(2));
    let advice = "docs/postgres.md shows what to create and to grant";
    Ok(match (exists, may_create, may_use) {
        (true, _, Some(true)) => Check::ok("spill", format!("{table} takes events of any size")),
        (true, ..) => Check::warn("spill", format!("this user may not use {table}"), advice),
        (false, true, _) => Check::ok("spill", "the table for large events is made when needed"),
        (false, false, _) => {
            let detail = "events of 8000 bytes or more will fail: there is no table for them, and \
                          this user may not create it";
            Check::warn("spill", detail, advice)
        }
    })
}
