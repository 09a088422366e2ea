//! The backend: publishing in pipelines, listening on a connection of its own.

use super::{
    link::{Link, closed},
    listener::{Listener, literal},
    send::send_all,
    settings::{CAPABILITY, SETTINGS, Server, prefix},
};
use crate::{
    backend::{Backend, Capability, Outgoing, Source, Subscribe},
    backends::gather::{Gather, Limits},
    codec::Format,
    error::{Error, ErrorKind, Result},
    options::Options,
    task,
};
use async_trait::async_trait;
use redis::{Cmd, Value};
use std::{
    sync::{Arc, Mutex, PoisonError, Weak},
    time::Duration,
};

/// The backends that have groups.
const ABLE: &[&str] = &["redis-streams", "postgres-queue", "sqlite", "memory"];

/// How large the requests are that publishes are put together in. With two on their way, the next is
/// written while the server works on the one before.
const LIMITS: Limits = Limits { items: 512, weight: 1 << 20, flights: 2, callers: usize::MAX };

/// Checks the settings, without looking at the server.
///
/// # Errors
/// Returns a config error that names the setting that is unknown or wrong.
pub fn check(options: &Options) -> Result<()> {
    read(options).map(drop)
}

fn read(options: &Options) -> Result<(Server, String, Format)> {
    options.check(SETTINGS)?;
    let (mut server, prefix) = (Server::read(options)?, prefix(options)?);
    server.needs = format!("&{}:*", literal(&prefix));
    Ok((server, prefix, Format::of(options)?))
}

/// Connects to a server.
///
/// # Errors
/// Returns what is wrong with the options or the server: nothing is tried again.
pub async fn open(options: Options) -> Result<Arc<dyn Backend>> {
    let (server, prefix, format) = read(&options)?;
    task::runtime("open redis")?;
    let server = Arc::new(server);
    let link = Link::open(&server).await?;
    let sending = link.clone();
    let send = move |items: Vec<Message>| {
        let link = sending.clone();
        async move { send_all(&link, &items, Message::weight, Message::command).await }
    };
    let gather = Gather::new(LIMITS, Message::weight, send);
    let sources = Mutex::new(Some(Vec::new()));
    Ok(Arc::new(Redis { server, prefix, format, link, gather, sources }))
}

#[derive(Debug)]
struct Redis {
    server: Arc<Server>,
    prefix: String,
    format: Format,
    link: Link,
    gather: Gather<Message>,
    // None once closed.
    sources: Mutex<Option<Vec<Weak<Listener>>>>,
}

/// An event on its way out.
#[derive(Debug)]
struct Message {
    channel: String,
    body: Vec<u8>,
}

impl Message {
    fn weight(&self) -> usize {
        self.channel.len() + self.body.len() + 48
    }

    fn command(&self) -> Cmd {
        let mut command = Cmd::with_capacity(3, self.weight());
        command.arg("PUBLISH").arg(&self.channel).arg(self.body.as_slice());
        command
    }
}

impl Redis {
    fn make_ready(&self, outgoing: &Outgoing) -> Result<Option<Message>> {
        let event = &outgoing.event;
        if outgoing.rejected.is_some() {
            // Nobody keeps it, and no handler sees it; whoever publishes tells of it.
            return Ok(None);
        }
        event.check()?;
        check_size(outgoing, CAPABILITY.payload_max)?;
        let channel = format!("{}:{}", self.prefix, event.topic());
        Ok(Some(Message { channel, body: self.format.encode_with_topic(event)? }))
    }

    fn keep(&self, source: &Arc<Listener>) -> Result<()> {
        let mut sources = self.sources.lock().unwrap_or_else(PoisonError::into_inner);
        let sources = sources.as_mut().ok_or_else(closed)?;
        sources.retain(|source| source.strong_count() > 0);
        sources.push(Arc::downgrade(source));
        Ok(())
    }
}

/// Refuses a payload that is larger than the server is given.
pub(in crate::backends) fn check_size(outgoing: &Outgoing, payload_max: usize) -> Result<()> {
    let size = outgoing.event.text()?.len();
    if size <= payload_max {
        return Ok(());
    }
    let why = "the payload is too large for the server";
    Err(Error::new(ErrorKind::TooLarge, "publish", why)
        .with("event", outgoing.event.id())
        .with("bytes", size)
        .with("allowed", payload_max)
        .hint("publish a reference to where the data is kept"))
}

#[async_trait]
impl Backend for Redis {
    fn capability(&self) -> &Capability {
        &CAPABILITY
    }

    async fn publish(&self, batch: &[Outgoing]) -> Vec<Result<()>> {
        if self.link.is_closed() {
            return vec![Err(closed()); batch.len()];
        }
        let mut ready = Vec::with_capacity(batch.len());
        let mut results = Vec::with_capacity(batch.len());
        for outgoing in batch {
            let made = self.make_ready(outgoing);
            results.push(made.map(|made| made.map(|message| ready.push(message)).is_some()));
        }
        let mut sent = self.gather.put(ready).await.into_iter();
        let mut result = |sends: bool| match sends {
            true => sent.next().unwrap_or_else(|| Err(closed())),
            false => Ok(()),
        };
        results.into_iter().map(|made| made.and_then(&mut result)).collect()
    }

    async fn subscribe(&self, request: Subscribe) -> Result<Arc<dyn Source>> {
        if self.link.is_closed() {
            return Err(closed());
        }
        if request.group.is_some() {
            return Err(CAPABILITY.refuse("subscribe", "has no groups", ABLE));
        }
        let wants = Arc::new(request.interest.compile());
        let source =
            Arc::new(Listener::open(&self.server, &self.prefix, wants, self.format).await?);
        self.keep(&source)?;
        Ok(source)
    }

    fn is_bare(&self) -> bool {
        self.format == Format::Plain
    }

    async fn ping(&self) -> Result<()> {
        self.link.ask::<Value>("ping", &redis::cmd("PING")).await.map(drop)
    }

    async fn close(&self, _: Duration) -> Result<()> {
        let sources = self.sources.lock().unwrap_or_else(PoisonError::into_inner).take();
        for source in sources.into_iter().flatten().filter_map(|source| source.upgrade()) {
            let _ = source.close().await;
        }
        self.link.close();
        Ok(())
    }
}
