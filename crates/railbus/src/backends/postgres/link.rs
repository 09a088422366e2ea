//! A connection that is made again whenever it broke.

use super::{fault::closed, session::Session, settings::Server};
use crate::{
    backends::gather::TRIED_FOR,
    error::{Error, ErrorKind, Result},
    retry::Retry,
};
use std::{
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};
use tokio::time::{sleep_until, timeout_at};
use tokio_util::sync::CancellationToken;

/// A connection that ended sooner than this was not worth making at once again.
const SHORT_LIVED: Duration = Duration::from_secs(1);

/// When the next try to connect may be made.
#[derive(Debug)]
pub(super) struct Pace {
    retry: Retry,
    failures: u32,
    pub(super) next: Instant,
}

impl Pace {
    /// The first try at once, then after 1 s, doubling up to 30 s, each up to a fifth sooner.
    pub(super) fn new() -> Self {
        let retry = Retry::attempts(u32::MAX).backoff(Duration::from_secs(1)).jitter(0.2);
        Self { retry, failures: 0, next: Instant::now() }
    }

    /// Notes a try that failed; returns how long to wait for the next.
    pub(super) fn failed(&mut self) -> Duration {
        self.failures = self.failures.saturating_add(1).min(u32::MAX - 1);
        let wait = self.retry.wait_after(self.failures).unwrap_or(Duration::from_secs(30));
        self.next = Instant::now() + wait;
        wait
    }

    /// Notes that a connection ended which was made at `since`.
    pub(super) fn ended(&mut self, since: Instant) {
        match since.elapsed() < SHORT_LIVED {
            true => drop(self.failed()),
            false => self.failures = 0,
        }
    }
}

/// A connection for statements, made when it is first asked for and again when it broke. Shared by
/// all tasks of a bus.
#[derive(Debug)]
pub(in crate::backends) struct Link {
    server: Arc<Server>,
    // Ok(None) before the first, Err once closed.
    now: Mutex<Result<Option<Arc<Session>>>>,
    connecting: tokio::sync::Mutex<Pace>,
    closing: CancellationToken,
}

impl Link {
    /// Makes a link that is not connected yet.
    pub(in crate::backends) fn new(server: Arc<Server>) -> Self {
        let connecting = tokio::sync::Mutex::new(Pace::new());
        let closing = CancellationToken::new();
        Self { server, now: Mutex::new(Ok(None)), connecting, closing }
    }

    /// Returns the settings.
    pub(in crate::backends) fn server(&self) -> &Arc<Server> {
        &self.server
    }

    /// Connects once: what goes wrong is told at once.
    pub(in crate::backends) async fn open(&self, operation: &'static str) -> Result<Arc<Session>> {
        let _pace = self.connecting.lock().await;
        if let Some(session) = self.live()? {
            return Ok(session);
        }
        self.keep(Session::connect(&self.server, operation, None).await?)
    }

    /// Returns the connection; if it broke, makes it again, and waits for that as long as
    /// connecting may take.
    ///
    /// An error that does not heal by itself, such as a password that is wrong by now, is told at
    /// once. Cancel safe.
    pub(in crate::backends) async fn client(
        &self,
        operation: &'static str,
    ) -> Result<Arc<Session>> {
        if let Some(session) = self.live()? {
            return Ok(session);
        }
        let deadline = tokio::time::Instant::now() + self.server.connect_timeout;
        let mut last: Option<Error> = None;
        let again = async {
            let mut pace = self.connecting.lock().await;
            loop {
                if let Some(session) = self.live()? {
                    return Ok(session);
                }
                if let Ok(Some(dead)) = &*self.now() {
                    pace.ended(dead.since);
                }
                let _ = self.now().as_mut().map(Option::take);
                sleep_until(pace.next.into()).await;
                match Session::connect(&self.server, operation, None).await {
                    Ok(session) => return self.keep(session),
                    Err(error) if error.is_retryable() => {
                        let wait = pace.failed();
                        tracing::warn!(%error, again_in = ?wait, "PostgreSQL can't be reached");
                        last = Some(error);
                    }
                    Err(error) => return Err(error),
                }
            }
        };
        let again = self.closing.run_until_cancelled(again);
        let outcome =
            timeout_at(deadline, async { again.await.unwrap_or_else(|| Err(closed(operation))) });
        outcome.await.unwrap_or_else(|_| {
            let error = last.unwrap_or_else(|| self.away(operation));
            Err(error.with(TRIED_FOR, format!("{:?}", self.server.connect_timeout)))
        })
    }

    /// Ends the connection and waits until it is gone, for at most `limit`. May be called again.
    pub(in crate::backends) async fn close(&self, limit: Duration) {
        self.closing.cancel();
        let before = std::mem::replace(&mut *self.now(), Err(closed("postgres")));
        let Ok(Some(session)) = before else { return };
        let going = session.going();
        // What is on its way is answered, and the server is told that this is the end.
        drop(session);
        let _ = tokio::time::timeout(limit, going).await;
    }

    fn away(&self, operation: &'static str) -> Error {
        let why = "the connection to the server is being made again";
        Error::new(ErrorKind::Unavailable, operation, why).with("server", &self.server.shown)
    }

    fn now(&self) -> MutexGuard<'_, Result<Option<Arc<Session>>>> {
        self.now.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Returns the connection if there is one that works as far as is known.
    fn live(&self) -> Result<Option<Arc<Session>>> {
        match &*self.now() {
            Ok(session) => Ok(session.clone().filter(|session| !session.has_ended())),
            Err(e) => Err(e.clone()),
        }
    }

    fn keep(&self, session: Session) -> Result<Arc<Session>> {
        let session = Arc::new(session);
        match &mut *self.now() {
            Ok(now) => *now = Some(Arc::clone(&session)),
            Err(e) => return Err(e.clone()),
        }
        Ok(session)
    }
}
