//! A connection that heals: whoever needs it and finds it broken connects anew.
//!
//! There is no task that watches it: those who wait for events need it all the time, and those who
//! publish need it when they do.

use super::{
    aside::Shelf,
    client::{Hears, client, connect, connect_aside, version},
    fault::{fault, is_broken},
    settings::Server,
};
use crate::error::{Error, ErrorKind, Result};
use redis::{Client, Cmd, FromRedisValue, Pipeline, RedisError, Value, aio::MultiplexedConnection};
use std::{
    fmt,
    sync::{
        Arc, Mutex as StdMutex, PoisonError,
        atomic::{AtomicBool, AtomicU64, Ordering::SeqCst},
    },
    time::Duration,
};
use tokio::{
    sync::{Mutex, watch},
    time::{Instant, sleep_until, timeout},
};
use tokio_util::task::AbortOnDropHandle;

/// The wait before the second try to connect again, doubled for each after it. The first is made
/// at once.
const WAIT: Duration = Duration::from_secs(1);

/// The longest wait between two tries.
const WAIT_MAX: Duration = Duration::from_secs(30);

/// A connection to a server that is made anew when it breaks.
#[derive(Clone)]
pub(in crate::backends) struct Link(Arc<Inner>);

struct Inner {
    server: Arc<Server>,
    client: Client,
    hears: Option<Hears>,
    // Where answers that bring entries are put, if they are put aside.
    shelf: Option<Arc<Shelf>>,
    answer: Duration,
    closed: AtomicBool,
    closing: watch::Sender<bool>,
    // Counts the connections, so that an error of an old one does not break the next.
    number: AtomicU64,
    current: StdMutex<Option<Current>>,
    healing: Arc<Mutex<Healing>>,
}

/// A connection, its number, and what keeps it going, if it does not do so itself.
struct Current {
    number: u64,
    connection: MultiplexedConnection,
    _driver: Option<AbortOnDropHandle<()>>,
}

impl Current {
    fn get(&self) -> (u64, MultiplexedConnection) {
        (self.number, self.connection.clone())
    }
}

#[derive(Default)]
struct Healing {
    failures: u32,
    next: Option<Instant>,
}

impl fmt::Debug for Link {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Link").field(&self.0.server).finish()
    }
}

impl Link {
    /// Connects for the first time.
    ///
    /// # Errors
    /// Returns what is wrong with the settings or the server; nothing is tried again.
    pub(in crate::backends) async fn open(server: &Arc<Server>) -> Result<Self> {
        let link = Self::idle(server, server.timeout, None, None)?;
        let mut connection = connect(&link.0.client, server, server.timeout, None).await?;
        version(&mut connection, server).await?;
        link.keep(connection, None);
        Ok(link)
    }

    /// Makes a link that connects when it is first needed. With a shelf, answers that bring entries
    /// of a stream are put there, but where the connection is encrypted.
    ///
    /// # Errors
    /// Returns what is wrong with the settings.
    pub(in crate::backends) fn idle(
        server: &Arc<Server>,
        answer: Duration,
        hears: Option<Hears>,
        shelf: Option<Arc<Shelf>>,
    ) -> Result<Self> {
        Ok(Self(Arc::new(Inner {
            client: client(server)?,
            server: Arc::clone(server),
            hears,
            shelf,
            answer,
            closed: AtomicBool::new(false),
            closing: watch::Sender::new(false),
            number: AtomicU64::new(0),
            current: StdMutex::new(None),
            healing: Arc::default(),
        })))
    }

    pub(in crate::backends) fn server(&self) -> &Server {
        &self.0.server
    }

    /// Ends the connection; whoever waits for it learns that it is closed.
    pub(in crate::backends) fn close(&self) {
        self.0.closed.store(true, SeqCst);
        self.0.closing.send_replace(true);
        *self.current() = None;
    }

    pub(in crate::backends) fn is_closed(&self) -> bool {
        self.0.closed.load(SeqCst)
    }

    fn current(&self) -> std::sync::MutexGuard<'_, Option<Current>> {
        self.0.current.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn keep(
        &self,
        connection: MultiplexedConnection,
        driver: Option<AbortOnDropHandle<()>>,
    ) -> u64 {
        let number = self.0.number.fetch_add(1, SeqCst) + 1;
        *self.current() = Some(Current { number, connection, _driver: driver });
        number
    }

    /// Returns the connection and its number, waiting for one as long as it takes.
    ///
    /// # Errors
    /// Returns what can't heal: credentials that are refused, say. Or that it was closed.
    ///
    /// # Cancel safety
    /// Nothing is lost if it is dropped.
    pub(in crate::backends) async fn wait(&self) -> Result<(u64, MultiplexedConnection)> {
        loop {
            match self.once().await {
                Err(e) if e.is_retryable() => {}
                ended => return ended,
            }
        }
    }

    /// Returns the connection and its number; waits for one as long as an answer may take.
    ///
    /// # Errors
    /// Returns an unavailable error if there is none by then, else as [`Link::wait`].
    pub(in crate::backends) async fn get(&self) -> Result<(u64, MultiplexedConnection)> {
        if let Some(current) = &*self.current() {
            return Ok(current.get());
        }
        match timeout(self.0.server.timeout, self.wait()).await {
            Ok(found) => found,
            Err(_) => Err(Error::new(
                ErrorKind::Unavailable,
                "connect",
                "the connection is lost, and not back yet",
            )
            .with("server", &*self.0.server)
            .hint("it is tried again all the time: look whether the server runs")),
        }
    }

    /// Returns the connection, or tries once to make one, not before its time.
    async fn once(&self) -> Result<(u64, MultiplexedConnection)> {
        if self.is_closed() {
            return Err(closed());
        }
        let mut healing = Arc::clone(&self.0.healing).lock_owned().await;
        if let Some(current) = &*self.current() {
            return Ok(current.get());
        }
        let mut closing = self.0.closing.subscribe();
        if let Some(next) = healing.next {
            tokio::select! {
                () = sleep_until(next) => {}
                _ = closing.wait_for(|closing| *closing) => return Err(closed()),
            }
        }
        // Set before it is tried: who is cut off in it counts as one that failed.
        healing.failures += 1;
        healing.next = Some(Instant::now() + pause(healing.failures));
        // In a task of its own, since connecting takes several answers: who waits for less than that
        // leaves it to the next.
        let link = self.clone();
        let connecting = tokio::spawn(async move { link.connect(&mut healing).await });
        connecting.await.unwrap_or_else(|e| {
            let why = "the task that connects has ended";
            Err(Error::new(ErrorKind::Unavailable, "connect", why).because(e))
        })
    }

    async fn connect(&self, healing: &mut Healing) -> Result<(u64, MultiplexedConnection)> {
        let (inner, mut closing) = (&*self.0, self.0.closing.subscribe());
        let (client, server, hears) = (&inner.client, &*inner.server, inner.hears.as_ref());
        let connecting = async {
            match &inner.shelf {
                Some(shelf) if server.tls.is_none() => {
                    let aside = connect_aside(client, server, inner.answer, hears, shelf).await;
                    aside.map(|(connection, driver)| (connection, Some(driver)))
                }
                _ => Ok((connect(client, server, inner.answer, hears).await?, None)),
            }
        };
        let connected = tokio::select! {
            connected = connecting => connected,
            _ = closing.wait_for(|closing| *closing) => return Err(closed()),
        };
        match connected {
            Ok((connection, driver)) => {
                if healing.failures > 1 {
                    tracing::info!(server = %inner.server, "connected again");
                }
                // A connection that breaks at once is not made again at full speed.
                healing.failures = 0;
                healing.next = Some(Instant::now() + WAIT / 10);
                let number = self.keep(connection.clone(), driver);
                if self.is_closed() {
                    *self.current() = None;
                    return Err(closed());
                }
                Ok((number, connection))
            }
            Err(error) => {
                let again_in = pause(healing.failures);
                tracing::warn!(%error, ?again_in, "not connected");
                Err(error)
            }
        }
    }

    /// Returns the number of the connection, if there is one.
    pub(in crate::backends) fn number(&self) -> Option<u64> {
        self.current().as_ref().map(|current| current.number)
    }

    /// Tells whether the connection of this number is still used.
    pub(in crate::backends) fn is_current(&self, number: u64) -> bool {
        self.current().as_ref().is_some_and(|current| current.number == number)
    }

    /// Notes that the connection of this number must not be used again.
    pub(in crate::backends) fn broken(&self, number: u64) {
        let mut current = self.current();
        if current.as_ref().is_some_and(|current| current.number == number) {
            *current = None;
        }
    }

    /// Turns an error of a connection into one that says what to do, and lets go of the connection
    /// if it is broken.
    pub(in crate::backends) fn failed(
        &self,
        operation: &'static str,
        number: u64,
        error: RedisError,
    ) -> Error {
        if self.is_closed() {
            return closed();
        }
        if is_broken(&error) {
            self.broken(number);
        }
        fault(operation, &self.0.server, error)
    }

    /// Sends one command and reads its answer.
    ///
    /// # Errors
    /// Returns what the server said, or why there was none.
    pub(in crate::backends) async fn ask<T: FromRedisValue>(
        &self,
        operation: &'static str,
        command: &Cmd,
    ) -> Result<T> {
        let way = self.get().await?;
        self.ask_by(way, operation, command).await
    }

    /// Sends one command by this connection and no other, and reads its answer.
    ///
    /// # Errors
    /// Returns what the server said, or why there was none.
    pub(in crate::backends) async fn ask_by<T: FromRedisValue>(
        &self,
        (number, mut connection): (u64, MultiplexedConnection),
        operation: &'static str,
        command: &Cmd,
    ) -> Result<T> {
        let said = command.query_async(&mut connection).await;
        said.map_err(|e| self.failed(operation, number, e))
    }

    /// Sends commands in one go and reads an answer each, some of which may be errors.
    ///
    /// # Errors
    /// Returns why there was no answer.
    pub(in crate::backends) async fn ask_all(
        &self,
        operation: &'static str,
        commands: &Pipeline,
    ) -> Result<(u64, Vec<Value>)> {
        let (number, mut connection) = self.get().await?;
        let said = connection.send_packed_commands(commands, 0, commands.len()).await;
        said.map(|said| (number, said)).map_err(|e| self.failed(operation, number, e))
    }
}

/// Returns the wait after so many failures, give or take a tenth, so that a fleet does not come
/// back all at once.
fn pause(failures: u32) -> Duration {
    if failures <= 1 {
        return WAIT / 4;
    }
    let wait = (WAIT * 2u32.saturating_pow((failures - 2).min(8))).min(WAIT_MAX);
    wait.mul_f64(rand::random_range(0.9..1.1))
}

pub(in crate::backends) fn closed() -> Error {
    Error::new(ErrorKind::Closed, "redis", "the connection is closed")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_double_up_to_half_a_minute() {
        let around = |wait: Duration, seconds: f64| {
            let wait = wait.as_secs_f64();
            assert!((seconds * 0.9..=seconds * 1.1).contains(&wait), "{wait} is not {seconds}");
        };
        for (failures, seconds) in (2..).zip([1.0, 2.0, 4.0, 8.0, 16.0, 30.0, 30.0]) {
            around(pause(failures), seconds);
        }
        assert!(pause(1) < WAIT && pause(u32::MAX) >= WAIT_MAX.mul_f64(0.9));
    }
}
