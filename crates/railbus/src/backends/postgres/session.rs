//! One connection: made, looked at, and its statements.

use super::{
    drive::{Ear, drive},
    fault::{fault, late},
    identity::process_id,
    settings::Server,
    tls::Mode,
};
use crate::error::{Error, ErrorKind, Result};
use std::{
    collections::HashMap,
    fmt,
    future::Future,
    ops::Deref,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};
use tokio::time::timeout;
use tokio_postgres::{
    Client, Error as Fault, NoTls, Row, Socket, Statement,
    config::SslMode,
    error::SqlState,
    tls::{MakeTlsConnect, TlsConnect},
    types::{ToSql, Type},
};
use tokio_util::sync::CancellationToken;

/// The oldest server that is known to do all that is asked of it.
const OLDEST: i32 = 130_000;

/// How long the server may take to hear that a statement was given up.
const CANCEL_WITHIN: Duration = Duration::from_secs(1);

/// What the server says of a prepared statement that is not what it was.
const STALE_PLANS: [SqlState; 2] =
    [SqlState::FEATURE_NOT_SUPPORTED, SqlState::INVALID_SQL_STATEMENT_NAME];

/// An open connection. Statements of several tasks are on their way at once; the server works on one
/// after another.
pub(in crate::backends) struct Session {
    client: Client,
    server: Arc<Server>,
    mode: SslMode,
    /// Whether a pool stands between, so that the next statement may be another connection's.
    pub(in crate::backends) is_pooled: bool,
    /// Whether texts can have every character.
    pub(in crate::backends) is_utf8: bool,
    /// Whether each statement sees what was committed before it, as the server has it by itself.
    pub(in crate::backends) is_read_committed: bool,
    /// The server's version, such as 150004.
    pub(in crate::backends) version: i32,
    pub(super) since: Instant,
    statements: Mutex<HashMap<String, Statement>>,
    // Cancelled when the connection has ended, or to end it.
    ended: CancellationToken,
    gone: CancellationToken,
}

impl Session {
    /// Connects, and looks whether the server will do; `ear` hears what it tells unasked.
    pub(in crate::backends) async fn connect(
        server: &Arc<Server>,
        operation: &'static str,
        ear: Option<Ear>,
    ) -> Result<Self> {
        let why = "the server did not answer in time";
        let silent = Error::new(ErrorKind::Unavailable, operation, why)
            .with("server", &server.shown)
            .hint("look at `host` and `port`, and at what stands before the server");
        let mut failed = silent.clone();
        for host in 0..server.hosts() {
            // Large, and rare: nobody who may have to connect carries it along.
            let reaching = Box::pin(reach(server, host, operation, ear.clone()));
            match timeout(server.share(), reaching).await {
                Ok(Ok(session)) => return Ok(session),
                // What does not heal by itself is what to tell of.
                Ok(Err(error)) if failed.is_retryable() => failed = error,
                Ok(Err(_)) => {}
                Err(_) if failed.is_retryable() => failed = silent.clone(),
                Err(_) => {}
            }
        }
        Err(failed)
    }

    /// Runs one statement and returns its rows. It is prepared once a connection, unless a pool
    /// stands between.
    ///
    /// An answer that does not come in time ends the connection: what else waits on it fails too. The
    /// server is asked to give the statement up.
    pub(in crate::backends) async fn query(
        &self,
        operation: &'static str,
        sql: &str,
        values: &[(&(dyn ToSql + Sync), Type)],
    ) -> Result<Vec<Row>> {
        self.timed(operation, self.ask(sql, values)).await
    }

    /// Runs one statement as [`Session::query`], with a limit of its own.
    pub(in crate::backends) async fn query_within(
        &self,
        limit: Duration,
        operation: &'static str,
        sql: &str,
        values: &[(&(dyn ToSql + Sync), Type)],
    ) -> Result<Vec<Row>> {
        self.within(limit, operation, self.ask(sql, values)).await
    }

    /// Awaits what the server answers, not for ever, and says what went wrong.
    pub(in crate::backends) async fn timed<T>(
        &self,
        operation: &'static str,
        answer: impl Future<Output = Result<T, Fault>>,
    ) -> Result<T> {
        self.within(self.server.statement_timeout, operation, answer).await
    }

    async fn within<T>(
        &self,
        limit: Duration,
        operation: &'static str,
        answer: impl Future<Output = Result<T, Fault>>,
    ) -> Result<T> {
        match timeout(limit, answer).await {
            Ok(answer) => answer.map_err(|e| {
                // Behind one address there may be another server by now.
                if e.code() == Some(&SqlState::READ_ONLY_SQL_TRANSACTION) {
                    self.end();
                }
                fault(operation, &self.server.shown, e)
            }),
            Err(_) => {
                self.cancel().await;
                self.end();
                Err(late(operation, &self.server.shown))
            }
        }
    }

    /// Asks the server to give up what it is at: it would go on, and keep its locks, however long ago
    /// its client is gone.
    async fn cancel(&self) {
        let token = self.client.cancel_token();
        let asking = async {
            match self.mode {
                SslMode::Disable => token.cancel_query(NoTls).await.ok(),
                _ => token.cancel_query(self.server.tls.connector().ok()?).await.ok(),
            }
        };
        let _ = timeout(CANCEL_WITHIN, asking).await;
    }

    async fn ask(
        &self,
        sql: &str,
        values: &[(&(dyn ToSql + Sync), Type)],
    ) -> Result<Vec<Row>, Fault> {
        if self.is_pooled {
            return self.client.query_typed(sql, values).await;
        }
        let answer = self.ask_prepared(sql, values).await;
        match &answer {
            // A plan that a migration has changed, or that somebody has discarded: nothing was done.
            Err(e) if e.code().is_some_and(|code| STALE_PLANS.contains(code)) => {
                self.statements().remove(sql);
                let again = self.ask_prepared(sql, values).await;
                // In a transaction there is no second try.
                if again.is_ok() { again } else { answer }
            }
            _ => answer,
        }
    }

    async fn ask_prepared(
        &self,
        sql: &str,
        values: &[(&(dyn ToSql + Sync), Type)],
    ) -> Result<Vec<Row>, Fault> {
        let known = self.statements().get(sql).cloned();
        let statement = match known {
            Some(statement) => statement,
            None => {
                let types: Vec<_> = values.iter().map(|(_, of)| of.clone()).collect();
                let made = self.client.prepare_typed(sql, &types).await?;
                self.statements().insert(sql.into(), made.clone());
                made
            }
        };
        let bare: Vec<_> = values.iter().map(|(value, _)| *value).collect();
        self.client.query(&statement, &bare).await
    }

    fn statements(&self) -> MutexGuard<'_, HashMap<String, Statement>> {
        self.statements.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Tells whether it has ended.
    pub(in crate::backends) fn has_ended(&self) -> bool {
        self.ended.is_cancelled() || self.client.is_closed()
    }

    /// Ends it at once; what waits on it fails.
    pub(in crate::backends) fn end(&self) {
        self.ended.cancel();
    }

    /// Waits until it has ended, by itself or by [`Session::end`].
    pub(in crate::backends) fn ending(&self) -> impl Future<Output = ()> + Send + use<> {
        self.ended.clone().cancelled_owned()
    }

    /// Waits until nothing of it is left, its socket included.
    pub(in crate::backends) fn going(&self) -> impl Future<Output = ()> + Send + use<> {
        self.gone.clone().cancelled_owned()
    }
}

impl Deref for Session {
    type Target = Client;

    fn deref(&self) -> &Client {
        &self.client
    }
}

impl fmt::Debug for Session {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Session({}, {})", self.server.shown, self.version)
    }
}

/// Connects as `sslmode` has it: some modes have a second try.
async fn reach(
    server: &Arc<Server>,
    host: usize,
    operation: &'static str,
    ear: Option<Ear>,
) -> Result<Session> {
    let failed = |e: Fault| fault(operation, &server.shown, e);
    let mode = server.tls.mode;
    let plain = || open(server, host, SslMode::Disable, NoTls, ear.clone());
    let encrypted = |mode| {
        let ear = ear.clone();
        async move {
            let connector = server.tls.connector()?;
            Ok::<_, Error>(open(server, host, mode, connector, ear).await)
        }
    };
    let made = match mode {
        Mode::Disable => plain().await.map_err(failed)?,
        Mode::Allow => match plain().await {
            Err(e) if is_refusal(&e) => encrypted(SslMode::Require).await?.map_err(failed)?,
            made => made.map_err(failed)?,
        },
        Mode::Prefer => match encrypted(SslMode::Prefer).await? {
            // The server says that it does TLS, and can't, or lets in only what is not encrypted.
            Err(e) if is_refusal(&e) || e.to_string().contains("TLS handshake") => {
                plain().await.map_err(failed)?
            }
            made => made.map_err(failed)?,
        },
        _ => encrypted(SslMode::Require).await?.map_err(failed)?,
    };
    made.examined(operation).await
}

fn is_refusal(fault: &Fault) -> bool {
    fault.code() == Some(&SqlState::INVALID_AUTHORIZATION_SPECIFICATION)
}

/// Opens a connection and starts the task that it lives in.
async fn open<T>(
    server: &Arc<Server>,
    host: usize,
    mode: SslMode,
    tls: T,
    ear: Option<Ear>,
) -> Result<Session, Fault>
where
    T: MakeTlsConnect<Socket>,
    T::Stream: Send + 'static,
    T::TlsConnect: Send,
    <T::TlsConnect as TlsConnect<Socket>>::Future: Send,
{
    let (client, connection) = server.config(host, mode).connect(tls).await?;
    let (ended, gone) = (CancellationToken::new(), CancellationToken::new());
    let (end, over) = (ended.clone(), gone.clone().drop_guard());
    tokio::spawn(async move {
        end.run_until_cancelled(drive(connection, ear)).await;
        end.cancel();
        drop(over);
    });
    Ok(Session {
        client,
        server: Arc::clone(server),
        mode,
        is_pooled: true,
        is_utf8: true,
        is_read_committed: true,
        version: 0,
        since: Instant::now(),
        statements: Mutex::default(),
        ended,
        gone,
    })
}

impl Session {
    /// Looks whether the server will do, and who stands before it.
    async fn examined(mut self, operation: &'static str) -> Result<Self> {
        let shown = self.server.shown.clone();
        let failed = |e| fault(operation, &shown, e);
        const LOOK: &str = "SELECT pg_backend_pid(), current_setting('server_version_num')::int, \
                            current_setting('server_encoding'), pg_is_in_recovery(), \
                            current_setting('transaction_isolation') = 'read committed'";
        let rows = self.client.query_typed(LOOK, &[]).await.map_err(failed)?;
        let Some(row) = rows.first() else {
            let why = "the server does not say what it is";
            return Err(Error::new(ErrorKind::Unavailable, operation, why));
        };
        self.version = row.try_get(1).map_err(failed)?;
        if self.version < OLDEST {
            let why = format!("PostgreSQL {} is too old", self.version / 10_000);
            return Err(Error::new(ErrorKind::Unsupported, operation, why)
                .with("server", &shown)
                .hint(format!("use {} or newer", OLDEST / 10_000)));
        }
        if row.try_get(3).map_err(failed)? {
            let hint = "connect to the primary; several hosts may be named, joined by commas";
            return Err(Error::new(ErrorKind::Unavailable, operation, "the server is a standby")
                .with("server", &shown)
                .hint(hint));
        }
        let encoding: String = row.try_get(2).map_err(failed)?;
        self.is_utf8 = ["UTF8", "SQL_ASCII"].contains(&encoding.as_str());
        let told = process_id(&self.client.cancel_token()).await;
        self.is_pooled = told != row.try_get::<_, i32>(0).ok();
        self.is_read_committed = row.try_get(4).map_err(failed)?;
        if !self.is_pooled {
            self.furnish().await.map_err(failed)?;
            self.is_read_committed = true;
        }
        Ok(self)
    }

    /// Sets what a session of one's own can have, whatever the role and the database say.
    ///
    /// Names are looked up where nobody else can put anything, each statement sees what was committed
    /// before it, and a statement whose client has given up, or is gone, does not wait for ever. Nor
    /// does a transaction keep its locks whose client stands still.
    async fn furnish(&self) -> Result<(), Fault> {
        const SET: &str = "SELECT set_config('search_path', 'pg_catalog, pg_temp', false), \
                           set_config('default_transaction_isolation', 'read committed', false), \
                           set_config('lock_timeout', $1, false), \
                           set_config('idle_in_transaction_session_timeout', $1, false)";
        // A little less than the client waits, so that it learns why.
        let limit = (self.server.statement_timeout * 9 / 10).as_millis().clamp(1, 1 << 30);
        let limit = limit.to_string();
        let values: [(&(dyn ToSql + Sync), Type); 1] = [(&limit, Type::TEXT)];
        // Not on each system, and not before 14.
        const LOOK_FOR_CLIENT: &str =
            "SELECT set_config('client_connection_check_interval', '1000', false)";
        let (set, _) = tokio::join!(
            self.client.query_typed(SET, &values),
            self.client.query_typed(LOOK_FOR_CLIENT, &[])
        );
        set.map(drop)
    }
}
