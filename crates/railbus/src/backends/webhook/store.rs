//! The backend: a door, and a server before it unless the door is mounted in another one.

use super::{
    answer::Answer,
    door::Door,
    server::Server,
    settings::{CAPABILITY, Settings},
    source::DoorSource,
};
use crate::{
    backend::{Backend, Capability, Outgoing, Source, Subscribe},
    backends::checkup::Checkup,
    error::{Error, ErrorKind, Result},
    options::Options,
    predicate::Interest,
};
use async_trait::async_trait;
use bytes::Bytes;
use http_body_util::Full;
use hyper::{Request, Response, body::Body};
use std::{
    net::SocketAddr,
    sync::{Arc, Mutex, PoisonError, atomic::AtomicBool},
    time::Duration,
};

/// Checks the settings, and that there is a port.
///
/// # Errors
/// Returns a config error that names what is missing, unknown or wrong.
pub fn check(options: &Options) -> Result<()> {
    let settings = Settings::read(options)?;
    port(&settings).map(|_| ())
}

/// Looks at the settings; where it would listen is not tried.
#[must_use]
pub fn look(_: &Options) -> Checkup {
    Checkup::default()
}

/// Listens where the options say.
///
/// # Errors
/// As [`check`]; also if it can't listen there, or a certificate can't be used.
pub async fn open(options: Options) -> Result<Arc<dyn Backend>> {
    Ok(Arc::new(Webhook::listen(&options).await?))
}

fn port(settings: &Settings) -> Result<u16> {
    settings.port.ok_or_else(|| {
        Error::new(ErrorKind::Config, "open webhook", "no port is named")
            .hint("write webhook://127.0.0.1:8080/hooks; port 0 takes a free one")
    })
}

/// What requests bring, for one group: each request is answered when its event was handled. What of a
/// program is not answered is not lost, since its sender still has it.
///
/// Mostly it is opened by a [`WebhookConsumer`](crate::webhook::WebhookConsumer).
#[derive(Debug)]
pub(crate) struct Webhook {
    door: Arc<Door>,
    server: Option<Server>,
    group: Mutex<Option<String>>,
}

impl Webhook {
    /// Listens where the options say.
    ///
    /// # Errors
    /// As [`open`].
    pub(crate) async fn listen(options: &Options) -> Result<Self> {
        Self::at(options, Answer::OK).await
    }

    /// As [`Webhook::listen`], for who stores events and has them handled later: senders are told 202.
    ///
    /// # Errors
    /// As [`open`].
    pub(crate) async fn accepting(options: &Options) -> Result<Self> {
        Self::at(options, Answer::ACCEPTED).await
    }

    async fn at(options: &Options, done: Answer) -> Result<Self> {
        let settings = Settings::read(options)?;
        let port = port(&settings)?;
        let door = Arc::new(Door::new(&settings, done));
        let server = Server::start(&settings, port, &door).await?;
        let (address, path) = (server.address, &*settings.path);
        let signed = settings.signature.as_ref().map_or("nobody", |signature| signature.name());
        if settings.signature.is_none() && !address.ip().is_loopback() {
            tracing::warn!(%address, path, "webhooks of anybody are taken: no secret is set");
        }
        tracing::info!(%address, path, signed, "webhooks are listened for");
        Ok(Self { door, server: Some(server), group: Mutex::default() })
    }

    /// Makes a door for a server of the caller's; `accepts` is for who stores events and has them
    /// handled later.
    ///
    /// # Errors
    /// Returns a config error for settings that are wrong, or that are a server's.
    pub(crate) fn mounted(options: &Options, accepts: bool) -> Result<Self> {
        let settings = Settings::read(options)?;
        if settings.port.is_some() || settings.tls.is_some() {
            let why = "what is mounted in another server has no port and no certificate";
            return Err(Error::new(ErrorKind::Config, "open webhook", why)
                .hint("leave them out, or open it by itself"));
        }
        let done = if accepts { Answer::ACCEPTED } else { Answer::OK };
        let door = Arc::new(Door::new(&settings, done));
        Ok(Self { door, server: None, group: Mutex::default() })
    }

    /// Returns where it listens; none if it is mounted in another server.
    pub(crate) fn address(&self) -> Option<SocketAddr> {
        self.server.as_ref().map(|server| server.address)
    }

    /// Returns the path that is posted to.
    pub(crate) fn path(&self) -> &str {
        &self.door.path
    }

    /// Answers a request that came to the path by another server.
    pub(crate) async fn answer<B>(&self, request: Request<B>) -> Response<Full<Bytes>>
    where
        B: Body<Data = Bytes>,
    {
        self.door.answer(request).await.response()
    }

    fn check_open(&self) -> Result<()> {
        match self.door.desk.is_closed() {
            true => Err(Error::new(ErrorKind::Closed, "webhook", "the webhook is closed")),
            false => Ok(()),
        }
    }
}

#[async_trait]
impl Backend for Webhook {
    fn capability(&self) -> &Capability {
        &CAPABILITY
    }

    async fn publish(&self, batch: &[Outgoing]) -> Vec<Result<()>> {
        let refused = || {
            let what = "brings events in, and takes none out";
            let error = CAPABILITY.refuse("publish", what, &[]);
            Err(error
                .hint("publish to another bus; to post events to a URL, run webhook::Endpoint"))
        };
        batch.iter().map(|_| self.check_open().and_then(|()| refused())).collect()
    }

    async fn subscribe(&self, request: Subscribe) -> Result<Arc<dyn Source>> {
        self.check_open()?;
        let Some(name) = request.group else {
            return Err(CAPABILITY.refuse("subscribe", "has no broadcast", &[]));
        };
        let mut group = self.group.lock().unwrap_or_else(PoisonError::into_inner);
        if group.as_ref().is_some_and(|known| *known != name) {
            return Err(CAPABILITY
                .refuse("subscribe", "has one group: each request is answered once", &[])
                .with("group", name)
                .hint("subscribe in the same group, under another name"));
        }
        *group = Some(name);
        drop(group);
        let number = self.door.desk.join(request.interest.compile().into());
        Ok(Arc::new(DoorSource {
            door: Arc::clone(&self.door),
            number,
            lease: request.lease,
            stopped: AtomicBool::new(false),
        }))
    }

    fn keeps_metadata(&self) -> bool {
        false
    }

    async fn settled(&self, _: &[(String, Interest)]) -> Result<()> {
        loop {
            // From here on no settlement is missed.
            let settled = self.door.desk.settled.notified();
            if self.door.desk.is_idle() {
                return Ok(());
            }
            settled.await;
        }
    }

    async fn ping(&self) -> Result<()> {
        self.check_open()
    }

    async fn close(&self, deadline: Duration) -> Result<()> {
        self.door.desk.close();
        if let Some(server) = &self.server {
            server.close(deadline).await;
        }
        Ok(())
    }
}

impl Drop for Webhook {
    fn drop(&mut self) {
        self.door.desk.close();
    }
}
