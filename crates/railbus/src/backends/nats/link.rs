//! The connection: it heals by itself, and what is asked by way of it has an answer or an error in time.

use super::{
    fault::{DENIED, DENIED_HINT, closed, unconnected},
    settings::{Identity, Server},
    tls,
};
use crate::error::{Error, ErrorKind, Result};
use async_nats::{
    Client, ClientError, ConnectOptions, Event, HeaderMap, Message, Request, RequestErrorKind,
    ServerError, Subscriber, connection::State,
};
use bytes::Bytes;
use std::{
    fmt, fs,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering::SeqCst},
    },
    time::Duration,
};
use tokio::{
    sync::watch,
    time::{Instant, timeout, timeout_at},
};

/// How often a quiet connection is asked whether it still lives.
const PING_EVERY: Duration = Duration::from_secs(5);

/// How often it is looked whether it is connected again, whatever was told.
const LOOK_EVERY: Duration = Duration::from_millis(100);

/// The longest wait between two tries to connect.
const WAIT_MAX: Duration = Duration::from_secs(2);

/// How many events a subscription takes ahead of whoever reads.
const AHEAD: usize = 16_384;

/// A connection to a server, or to one of several.
#[derive(Clone)]
pub(super) struct Link(Arc<Inner>);

struct Inner {
    server: Server,
    client: Client,
    told: Arc<Told>,
    closed: AtomicBool,
}

/// What the connection tells of itself.
#[derive(Debug)]
struct Told {
    // Counts how often it broke.
    breaks: watch::Sender<u64>,
    // Counts what a subscription had no room for.
    drops: watch::Sender<u64>,
    // Counts what was not allowed.
    refusals: watch::Sender<u64>,
    trouble: Mutex<Trouble>,
}

#[derive(Debug, Default)]
struct Trouble {
    // Why it can't connect.
    connecting: Option<String>,
    // What was not allowed, as the server said it.
    refused: String,
}

impl Told {
    fn trouble(&self) -> MutexGuard<'_, Trouble> {
        self.trouble.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn hear(&self, event: Event) {
        let more = |count: &mut u64| *count += 1;
        match event {
            Event::Connected => self.trouble().connecting = None,
            Event::Disconnected => self.breaks.send_modify(more),
            Event::SlowConsumer(_) => self.drops.send_modify(more),
            Event::ClientError(ClientError::Other(why)) => self.trouble().connecting = Some(why),
            Event::ServerError(ServerError::AuthorizationViolation) => {
                self.trouble().connecting = Some("authorization violation".into());
            }
            Event::ServerError(ServerError::Other(why)) => {
                tracing::warn!(why, "the server complains");
                self.trouble().refused = why;
                self.refusals.send_modify(more);
            }
            _ => {}
        }
    }
}

/// What came of a request.
#[derive(Debug)]
pub(super) enum Answer {
    Came(Message),
    /// Nobody listens there.
    Nobody,
}

impl fmt::Debug for Link {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Link").field(&self.0.server).finish()
    }
}

/// Returns what the client is told of a server.
async fn options(server: &Server, told: &Arc<Told>) -> Result<ConnectOptions> {
    let read = |key: &'static str, path: &str| {
        fs::read_to_string(path).map_err(|e| {
            Error::new(ErrorKind::Config, "open nats", format!("`{key}` can't be read"))
                .with("file", path)
                .because(e)
        })
    };
    let options = ConnectOptions::new();
    let options = match &server.identity {
        Identity::Nobody => options,
        Identity::User(user, password) => options.user_and_password(user.clone(), password.clone()),
        Identity::Token(token) => options.token(token.clone()),
        Identity::Key(path) => options.nkey(read("nkey", path)?.trim().to_owned()),
        Identity::Credentials(path) => {
            let text = read("creds", path)?;
            options.credentials(&text).map_err(|e| {
                let why = "`creds` is not a file of credentials";
                Error::new(ErrorKind::Config, "open nats", why).with("file", path).because(e)
            })?
        }
    };
    let told = Arc::clone(told);
    Ok(options
        .name("railbus")
        .tls_client_config(tls::config(&server.tls)?)
        .require_tls(server.tls.is_on)
        .connection_timeout(server.connect_timeout)
        .request_timeout(None)
        .ping_interval(PING_EVERY)
        .custom_inbox_prefix(&server.inbox)
        .subscription_capacity(AHEAD)
        .skip_subject_validation(true)
        .reconnect_delay_callback(wait)
        .event_callback(move |event| {
            told.hear(event);
            std::future::ready(())
        }))
}

/// Returns how long to wait before the try of this number.
fn wait(tries: usize) -> Duration {
    match tries {
        0 | 1 => Duration::ZERO,
        n => Duration::from_millis(20).saturating_mul(1 << n.min(10)).min(WAIT_MAX),
    }
}

impl Link {
    /// Connects.
    ///
    /// # Errors
    /// Returns what is wrong with the settings or the server; nothing is tried again.
    pub(super) async fn open(server: &Server) -> Result<Self> {
        let told = Arc::new(Told {
            breaks: watch::Sender::new(0),
            drops: watch::Sender::new(0),
            refusals: watch::Sender::new(0),
            trouble: Mutex::default(),
        });
        let connecting = options(server, &told).await?.connect(&server.hosts[..]);
        let most = server.connect_timeout.saturating_mul(2);
        let client = timeout(most, connecting).await.map_err(|_| {
            let why = "the server did not answer in time";
            Error::new(ErrorKind::Timeout, "connect", why).with("server", server)
        })?;
        let client = client.map_err(|e| unconnected(server, e))?;
        let link = Inner { server: server.clone(), client, told, closed: AtomicBool::new(false) };
        Ok(Self(Arc::new(link)))
    }

    pub(super) fn server(&self) -> &Server {
        &self.0.server
    }

    pub(super) fn client(&self) -> &Client {
        &self.0.client
    }

    pub(super) fn timeout(&self) -> Duration {
        self.0.server.timeout
    }

    pub(super) fn is_closed(&self) -> bool {
        self.0.closed.load(SeqCst)
    }

    /// Ends the connection; whoever waits for an answer learns that it is closed.
    pub(super) async fn close(&self) {
        if !self.0.closed.swap(true, SeqCst) {
            self.0.told.breaks.send_modify(|count| *count += 1);
            // One that is gone already needs no end.
            let _ = timeout(self.0.server.timeout, self.0.client.drain()).await;
        }
    }

    /// Returns what tells each time that the connection breaks, by a number.
    pub(super) fn breaks(&self) -> watch::Receiver<u64> {
        self.0.told.breaks.subscribe()
    }

    /// Returns what tells each time that a message had no room, by a number.
    pub(super) fn drops(&self) -> watch::Receiver<u64> {
        self.0.told.drops.subscribe()
    }

    pub(super) fn is_connected(&self) -> bool {
        self.0.client.connection_state() == State::Connected
    }

    /// Waits for the connection as long as an answer may take.
    ///
    /// # Errors
    /// Returns an unavailable error if there is none by then, a denied one if the server no longer lets
    /// this user in, or that it was closed.
    pub(super) async fn ready(&self) -> Result<()> {
        let until = Instant::now() + self.0.server.timeout;
        let mut breaks = self.breaks();
        loop {
            if self.is_closed() {
                return Err(closed());
            }
            if self.is_connected() {
                return Ok(());
            }
            if Instant::now() >= until {
                return Err(self.lost());
            }
            let next = (Instant::now() + LOOK_EVERY).min(until);
            let _ = timeout_at(next, breaks.changed()).await;
        }
    }

    fn lost(&self) -> Error {
        let why = self.0.told.trouble().connecting.clone().unwrap_or_default();
        let error = if why.contains("authorization") || why.contains("authentication") {
            Error::new(ErrorKind::Denied, "connect", DENIED).hint(DENIED_HINT)
        } else {
            Error::new(
                ErrorKind::Unavailable,
                "connect",
                "the connection is lost, and not back yet",
            )
            .hint("it is tried again all the time: look whether the server runs")
        };
        error
            .with("server", self.server())
            .with("said", if why.is_empty() { "nothing" } else { &why })
    }

    /// Asks for something, and waits for the answer.
    ///
    /// # Errors
    /// Returns a timeout if none came in time, an unavailable error if the connection broke meanwhile:
    /// either way it may have been done.
    pub(super) async fn ask(
        &self,
        operation: &'static str,
        subject: &str,
        headers: Option<HeaderMap>,
        body: Bytes,
    ) -> Result<Answer> {
        self.ready().await?;
        let (mut breaks, mut refusals) = (self.breaks(), self.0.told.refusals.subscribe());
        let mut request = Request::new().payload(body).timeout(None);
        if let Some(headers) = headers {
            request = request.headers(headers);
        }
        let asking = self.0.client.send_request(subject.to_owned(), request);
        let mut asking = std::pin::pin!(timeout(self.0.server.timeout, asking));
        loop {
            tokio::select! {
                biased;
                answer = &mut asking => return self.answer(operation, subject, answer),
                _ = breaks.changed() => return Err(self.broke(operation)),
                _ = refusals.changed() => {
                    let refused = self.0.told.trouble().refused.clone();
                    if refused.contains(subject) || refused.contains(&*self.0.server.inbox) {
                        return Err(denied(operation, &refused).with("server", self.server()));
                    }
                }
            }
        }
    }

    fn answer(
        &self,
        operation: &'static str,
        subject: &str,
        answer: Result<Result<Message, async_nats::RequestError>, tokio::time::error::Elapsed>,
    ) -> Result<Answer> {
        match answer {
            Ok(Ok(message)) => Ok(Answer::Came(message)),
            Ok(Err(e)) if e.kind() == RequestErrorKind::NoResponders => Ok(Answer::Nobody),
            Ok(Err(e)) if e.kind() == RequestErrorKind::MaxPayloadExceeded => {
                let why = "the event is too large for the server";
                Err(Error::new(ErrorKind::TooLarge, operation, why)
                    .with("allowed", self.0.client.max_payload())
                    .hint("publish a reference to where the data is kept, or raise the server's max_payload")
                    .because(e))
            }
            Ok(Err(_)) if self.is_closed() => Err(closed()),
            Ok(Err(e)) => Err(self.broke(operation).because(e)),
            Err(_) => {
                // A connection that stands still is found out by asking for another one.
                let client = self.0.client.clone();
                tokio::spawn(async move { client.force_reconnect().await });
                let why = "the server did not answer in time";
                let hint = "what was asked may have been done; look whether the server hangs, or raise `timeout`";
                let error = Error::new(ErrorKind::Timeout, operation, why).hint(hint);
                Err(error.with("server", self.server()).with("subject", subject))
            }
        }
    }

    fn broke(&self, operation: &'static str) -> Error {
        if self.is_closed() {
            return closed();
        }
        let why = "the connection broke before the answer had come";
        Error::new(ErrorKind::Unavailable, operation, why).with("server", self.server()).hint(
            "what was asked may have been done; trying again is safe within `duplicate_window`",
        )
    }

    /// Sends something that has no answer of its own.
    ///
    /// # Errors
    /// Returns that the connection is lost or closed.
    pub(super) async fn tell(
        &self,
        subject: &str,
        reply: Option<String>,
        body: Bytes,
    ) -> Result<()> {
        let client = &self.0.client;
        let sending = async {
            match reply {
                Some(reply) => client.publish_with_reply(subject.to_owned(), reply, body).await,
                None => client.publish(subject.to_owned(), body).await,
            }
        };
        match timeout(self.0.server.timeout, sending).await {
            Ok(Ok(())) => Ok(()),
            Ok(Err(_)) if self.is_closed() => Err(closed()),
            _ => Err(self.lost()),
        }
    }

    /// Waits until the server has worked on all that was sent before, and all that it sent before that
    /// is here.
    ///
    /// # Errors
    /// As [`Link::ask`].
    pub(super) async fn flush(&self, operation: &'static str) -> Result<()> {
        // Nobody listens there, so that the server itself answers at once.
        let nowhere = self.0.client.new_inbox();
        self.ask(operation, &nowhere, None, Bytes::new()).await.map(drop)
    }

    /// Listens to a subject, also over breaks of the connection.
    ///
    /// # Errors
    /// Returns that it was closed, or what the server says.
    pub(super) async fn listen(&self, subject: String) -> Result<Subscriber> {
        self.ready().await?;
        let mut refusals = self.0.told.refusals.subscribe();
        let listening = self.0.client.subscribe(subject.clone()).await;
        let subscriber = listening.map_err(|e| {
            Error::new(ErrorKind::Internal, "subscribe", "the subject is not one").because(e)
        })?;
        self.flush("subscribe").await?;
        if refusals.has_changed().unwrap_or(false) {
            refusals.mark_unchanged();
            let refused = self.0.told.trouble().refused.clone();
            if refused.contains(&subject) {
                return Err(denied("subscribe", &refused).with("server", self.server()));
            }
        }
        Ok(subscriber)
    }
}

fn denied(operation: &'static str, said: &str) -> Error {
    Error::new(ErrorKind::Denied, operation, "the user may not do this")
        .with("said", said)
        .hint("give the user's permissions the subject; docs/nats.md lists what is needed")
}
