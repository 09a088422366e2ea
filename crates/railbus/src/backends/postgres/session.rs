//! One connection: made, looked at, and its statements.

use super::{
    fault::{fault, late},
    identity::process_id,
    settings::Server,
    tls::Mode,
};
use crate::error::{Error, ErrorKind, Result};
use std::{
    collections::HashMap,
    fmt,
    future::{Future, poll_fn},
    ops::Deref,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    task::{Poll, ready},
    time::Instant,
};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    time::timeout,
};
use tokio_postgres::{
    AsyncMessage, Client, Connection, Error as Fault, NoTls, Notification, Row, Socket, Statement,
    config::SslMode,
    error::SqlState,
    tls::{MakeTlsConnect, TlsConnect},
    types::{ToSql, Type},
};
use tokio_util::sync::CancellationToken;

/// The oldest server that is known to do all that is asked of it.
const OLDEST: i32 = 130_000;

/// Who hears what the server tells unasked. Called on the connection's task: it must not block.
pub(in crate::backends) type Ear = Arc<dyn Fn(Notification) + Send + Sync>;

/// An open connection. Statements of several tasks are on their way at once; the server works on one
/// after another.
pub(in crate::backends) struct Session {
    client: Client,
    server: Arc<Server>,
    /// Whether a pool stands between, so that the next statement may be another connection's.
    pub(in crate::backends) is_pooled: bool,
    /// Whether texts can have every character.
    pub(in crate::backends) is_utf8: bool,
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
        // Large, and rare: nobody who may have to connect carries it along.
        let reaching = Box::pin(reach(server, operation, ear));
        let within = timeout(server.connect_timeout, reaching).await;
        within.unwrap_or_else(|_| {
            let why = "the server did not answer in time";
            Err(Error::new(ErrorKind::Unavailable, operation, why)
                .with("server", &server.shown)
                .hint("look at `host` and `port`, and at what stands before the server"))
        })
    }

    /// Runs one statement and returns its rows. It is prepared once a connection, unless a pool
    /// stands between.
    ///
    /// An answer that does not come in time ends the connection: what else waits on it fails too.
    pub(in crate::backends) async fn query(
        &self,
        operation: &'static str,
        sql: &str,
        values: &[(&(dyn ToSql + Sync), Type)],
    ) -> Result<Vec<Row>> {
        self.timed(operation, self.ask(sql, values)).await
    }

    /// Awaits what the server answers, not for ever, and says what went wrong.
    pub(in crate::backends) async fn timed<T>(
        &self,
        operation: &'static str,
        answer: impl Future<Output = Result<T, Fault>>,
    ) -> Result<T> {
        match timeout(self.server.statement_timeout, answer).await {
            Ok(answer) => answer.map_err(|e| fault(operation, &self.server.shown, e)),
            Err(_) => {
                self.end();
                Err(late(operation, &self.server.shown))
            }
        }
    }

    async fn ask(
        &self,
        sql: &str,
        values: &[(&(dyn ToSql + Sync), Type)],
    ) -> Result<Vec<Row>, Fault> {
        if self.is_pooled {
            return self.client.query_typed(sql, values).await;
        }
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
        let answer = self.client.query(&statement, &bare).await;
        // A plan that a migration has changed, or that somebody has discarded.
        if let Err(e) = &answer
            && [Some(&SqlState::FEATURE_NOT_SUPPORTED), Some(&SqlState::INVALID_SQL_STATEMENT_NAME)]
                .contains(&e.code())
        {
            self.statements().remove(sql);
        }
        answer
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
async fn reach(server: &Arc<Server>, operation: &'static str, ear: Option<Ear>) -> Result<Session> {
    let failed = |e: Fault| fault(operation, &server.shown, e);
    let mode = server.tls.mode;
    let plain = || open(server, SslMode::Disable, NoTls, ear.clone());
    let encrypted = |mode| {
        let ear = ear.clone();
        async move {
            let connector = server.tls.connector()?;
            Ok::<_, Error>(open(server, mode, connector, ear).await)
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
    let (client, connection) = server.config(mode).connect(tls).await?;
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
        is_pooled: true,
        is_utf8: true,
        version: 0,
        since: Instant::now(),
        statements: Mutex::default(),
        ended,
        gone,
    })
}

/// Talks to the server until the connection ends.
async fn drive<S, T>(mut connection: Connection<S, T>, ear: Option<Ear>)
where
    S: AsyncRead + AsyncWrite + Unpin,
    T: AsyncRead + AsyncWrite + Unpin,
{
    let talk = poll_fn(|cx| {
        loop {
            match ready!(connection.poll_message(cx)) {
                Some(Ok(AsyncMessage::Notification(note))) => {
                    if let Some(ear) = &ear {
                        ear(note);
                    }
                }
                Some(Ok(AsyncMessage::Notice(notice))) => {
                    tracing::debug!(%notice, "the server remarks");
                }
                Some(Ok(_)) => {}
                Some(Err(error)) => {
                    tracing::debug!(%error, "a connection to PostgreSQL broke");
                    return Poll::Ready(());
                }
                None => return Poll::Ready(()),
            }
        }
    });
    talk.await;
}

impl Session {
    /// Looks whether the server will do, and who stands before it.
    async fn examined(mut self, operation: &'static str) -> Result<Self> {
        let shown = self.server.shown.clone();
        let failed = |e| fault(operation, &shown, e);
        const LOOK: &str = "SELECT pg_backend_pid(), current_setting('server_version_num')::int, \
                            current_setting('server_encoding'), pg_is_in_recovery()";
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
        Ok(self)
    }
}
