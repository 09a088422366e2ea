//! The connection that listens: one a bus, made again whenever it broke.

use super::{
    drive::Ear,
    link::{Link, Pace},
    session::Session,
    settings::{Server, quote},
};
use crate::{
    error::{Error, ErrorKind, Result},
    id::new_id,
};
use std::{
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};
use tokio::{
    sync::watch,
    task::JoinHandle,
    time::{sleep, sleep_until, timeout},
};
use tokio_postgres::{Notification, types::Type};
use tokio_util::sync::CancellationToken;

/// What a listener tells, on a task of its own: who hears it must not block.
#[derive(Debug)]
pub(in crate::backends) enum Heard {
    /// Somebody notified a channel.
    Note(Notification),
    /// The connection broke and is back: what was notified between is lost.
    Gap,
}

/// Who hears what a listener tells.
pub(in crate::backends) type Hear = Arc<dyn Fn(Heard) + Send + Sync>;

/// A connection that listens to channels until it is closed or dropped.
#[derive(Debug)]
pub(in crate::backends) struct Listener {
    stop: CancellationToken,
    task: Mutex<Option<JoinHandle<()>>>,
}

impl Listener {
    /// Listens: what is notified once this has returned is heard.
    ///
    /// The first time, a notification goes by way of `link` and must arrive, so that a pool which
    /// lends its connections out for a transaction at a time is noticed.
    ///
    /// # Errors
    /// Returns why it can't listen; what breaks later heals by itself.
    pub(in crate::backends) async fn start(
        link: &Link,
        channels: &[String],
        hear: Hear,
    ) -> Result<Self> {
        let server = Arc::clone(link.server());
        let probe = format!("railbus_probe_{}", new_id());
        let (tell, told) = watch::channel(false);
        let (expected, rest) = (probe.clone(), Arc::clone(&hear));
        let ear: Ear = Arc::new(move |note| match note.channel() == expected {
            true => drop(tell.send_replace(true)),
            false => rest(Heard::Note(note)),
        });
        let session = Session::connect(&server, "listen", Some(ear)).await?;
        let all = channels.iter().chain([&probe]);
        listen(&session, &server, all.map(String::as_str)).await?;
        arrives(link, &server, &probe, told).await?;
        let forget = format!("UNLISTEN {}", quote(&probe));
        session.timed("listen", session.batch_execute(&forget)).await?;
        let stop = CancellationToken::new();
        let care = Care { server, channels: channels.to_vec(), hear };
        let stopped = stop.clone();
        let task = tokio::spawn(async move { care.keep(session, stopped).await });
        Ok(Self { stop, task: Mutex::new(Some(task)) })
    }

    /// Tells whether it has ended.
    pub(in crate::backends) fn is_over(&self) -> bool {
        let task = self.task.lock().unwrap_or_else(PoisonError::into_inner);
        task.as_ref().is_none_or(JoinHandle::is_finished)
    }

    /// Ends it, and waits for that for at most `limit`. May be called again.
    pub(in crate::backends) async fn close(&self, limit: Duration) {
        self.stop.cancel();
        let task = self.task.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(task) = task {
            let _ = timeout(limit, task).await;
        }
    }
}

impl Drop for Listener {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

async fn listen<'a>(
    session: &Session,
    server: &Server,
    channels: impl Iterator<Item = &'a str>,
) -> Result<()> {
    let sql: Vec<_> = channels.map(|channel| format!("LISTEN {}", quote(channel))).collect();
    session
        .timed("listen", session.batch_execute(&sql.join(";")))
        .await
        .map_err(|e| e.with("channels", sql.len()).with("prefix", &server.prefix))
}

/// Waits for a notification of one's own.
async fn arrives(
    link: &Link,
    server: &Server,
    probe: &str,
    mut told: watch::Receiver<bool>,
) -> Result<()> {
    let other = link.client("listen").await?;
    let nothing = "";
    let values: [(&(dyn tokio_postgres::types::ToSql + Sync), Type); 2] =
        [(&probe, Type::TEXT), (&nothing, Type::TEXT)];
    other.query("listen", "SELECT pg_notify($1, $2)", &values).await?;
    let arrived = timeout(server.statement_timeout, told.wait_for(|told| *told)).await;
    match arrived {
        Ok(Ok(_)) => Ok(()),
        _ => {
            let why = "what is notified does not arrive: a pool lends this connection to others";
            Err(Error::new(ErrorKind::Unsupported, "listen", why)
                .with("server", &server.shown)
                .hint(
                    "connect past PgBouncer, set its pool_mode to session, or use postgres-queue \
                     with poll_only=true",
                ))
        }
    }
}

/// What keeps a listener going.
struct Care {
    server: Arc<Server>,
    channels: Vec<String>,
    hear: Hear,
}

impl Care {
    /// Watches over the connection, and makes it again for as long as that can help.
    async fn keep(self, mut session: Session, stop: CancellationToken) {
        let mut pace = Pace::new();
        loop {
            if stop.run_until_cancelled(self.watch(&session)).await.is_none() {
                let going = session.going();
                // The server is told that this is the end.
                drop(session);
                return going.await;
            }
            pace.ended(session.since);
            drop(session);
            tracing::warn!(
                server = %self.server.shown,
                "the connection that listens to PostgreSQL broke; what is notified until it is \
                 back is lost"
            );
            session = match stop.run_until_cancelled(self.again(&mut pace)).await {
                Some(session) => session,
                None => return,
            };
            tracing::info!(server = %self.server.shown, "listening to PostgreSQL again");
            (self.hear)(Heard::Gap);
        }
    }

    /// Waits until the connection has ended, and asks it now and then whether it is still there: a
    /// line that was cut says nothing.
    async fn watch(&self, session: &Session) {
        let most = Duration::from_secs(5);
        let every = (self.server.statement_timeout / 2).min(most);
        let ended = session.ending();
        let asking = async {
            loop {
                sleep(every).await;
                let asked = session.timed("listen", session.check_connection()).await;
                if asked.is_err() {
                    session.end();
                }
            }
        };
        tokio::select! {
            () = ended => {}
            () = asking => {}
        }
    }

    async fn again(&self, pace: &mut Pace) -> Session {
        loop {
            sleep_until(pace.next.into()).await;
            let error = match self.connect().await {
                Ok(session) => return session,
                Err(error) => error,
            };
            // It listened before: what does not heal by itself elsewhere, as a password that was
            // changed here first, may here.
            let wait = pace.failed();
            tracing::warn!(%error, again_in = ?wait, "PostgreSQL can't be listened to");
        }
    }

    async fn connect(&self) -> Result<Session> {
        let hear = Arc::clone(&self.hear);
        let ear: Ear = Arc::new(move |note| hear(Heard::Note(note)));
        let session = Session::connect(&self.server, "listen", Some(ear)).await?;
        listen(&session, &self.server, self.channels.iter().map(String::as_str)).await?;
        Ok(session)
    }
}
