//! An open bus on PostgreSQL: the contract of a backend, handed to the publisher and the listener.

use super::{
    capability::{CAPABILITY, Settings},
    channels::Channels,
    fault::closed,
    link::Link,
    listener::{Heard, Listener},
    publish::{Publisher, Ready, gather, write},
    source::Broadcast,
    spill::Spill,
};
use crate::{
    backend::{Backend, Capability, Outgoing, Source, Subscribe},
    backends::gather::Gather,
    error::Result,
    id::new_id,
    options::Options,
    task,
};
use async_trait::async_trait;
use bytes::Bytes;
use std::{
    fmt,
    sync::{Arc, Mutex, MutexGuard, PoisonError, Weak},
    time::{Duration, Instant},
};

const OPERATION: &str = "open postgres";

/// Opens a bus: one connection, which publishes; another listens once somebody subscribes.
///
/// # Errors
/// Returns what is wrong with the options or the server; nothing is tried twice.
pub async fn open(options: Options) -> Result<Arc<dyn Backend>> {
    let settings = Settings::read(&options)?;
    // Connections live in tasks, and give up by the clock.
    drop(task::sleep(OPERATION, Duration::ZERO)?);
    let link = Arc::new(Link::new(Arc::new(settings.server.clone())));
    link.open(OPERATION).await?;
    let spill = Arc::new(Spill::new(Arc::clone(&link), settings.spill_retention));
    let publisher = Publisher {
        link: Arc::clone(&link),
        spill: Arc::clone(&spill),
        channel: settings.server.prefix.clone(),
    };
    let ears = Arc::new(Ears {
        own: format!("railbus_mark_{}", new_id()),
        channels: settings.channels.clone(),
        all: Mutex::default(),
    });
    let line = gather(publisher);
    Ok(Arc::new(Postgres { settings, link, spill, line, ears, listening: Default::default() }))
}

/// The sources of a bus, which share what its one listener hears.
#[derive(Debug)]
struct Ears {
    /// The channel on which the bus hears what it tells itself.
    own: String,
    channels: Channels,
    all: Mutex<Vec<Weak<Broadcast>>>,
}

impl Ears {
    fn all(&self) -> MutexGuard<'_, Vec<Weak<Broadcast>>> {
        self.all.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn hear(&self, heard: Heard) {
        let mut all = self.all();
        all.retain(|source| source.strong_count() > 0);
        let sources = all.iter().filter_map(Weak::upgrade);
        match heard {
            Heard::Note(note) if note.channel() == self.own => {
                sources.for_each(|source| source.hear_mark(note.payload()));
            }
            Heard::Note(note) => {
                let text = Bytes::copy_from_slice(note.payload().as_bytes());
                let topic = self.channels.topic_of(note.channel());
                sources.for_each(|source| source.hear(&text, topic.as_ref()));
            }
            // Nothing was kept that could be caught up on: at most once.
            Heard::Gap => sources.for_each(|source| source.missed()),
        }
    }
}

struct Postgres {
    settings: Settings,
    link: Arc<Link>,
    spill: Arc<Spill>,
    line: Gather<Ready>,
    ears: Arc<Ears>,
    listening: tokio::sync::Mutex<Option<Listener>>,
}

impl fmt::Debug for Postgres {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Postgres({:?})", self.settings.server)
    }
}

#[async_trait]
impl Backend for Postgres {
    fn capability(&self) -> &Capability {
        &CAPABILITY
    }

    async fn publish(&self, batch: &[Outgoing]) -> Vec<Result<()>> {
        let mut ready = Vec::with_capacity(batch.len());
        let written: Vec<_> = batch
            .iter()
            .map(|outgoing| {
                let written = write(outgoing, self.settings.format, &self.settings.channels)?;
                Ok(written.map(|one| ready.push(one)).is_some())
            })
            .collect();
        let mut sent = self.line.put(ready).await.into_iter();
        let results = written.into_iter().map(|written| match written {
            Ok(true) => sent.next().unwrap_or_else(|| Err(closed("publish"))),
            written => written.map(drop),
        });
        results.collect()
    }

    async fn subscribe(&self, request: Subscribe) -> Result<Arc<dyn Source>> {
        if request.group.is_some() {
            let able = ["memory", "postgres-queue", "redis-streams", "sqlite"];
            return Err(CAPABILITY.refuse("subscribe", "has no groups", &able));
        }
        let mut listening = self.listening.lock().await;
        self.link.client("subscribe").await?;
        let source = Arc::new(Broadcast::new(
            Arc::new(request.interest.compile()),
            &self.settings,
            Arc::clone(&self.link),
            Arc::clone(&self.spill),
            self.ears.own.clone(),
        ));
        self.ears.all().push(Arc::downgrade(&source));
        if listening.as_ref().is_none_or(Listener::is_over) {
            let mut channels = self.settings.channels.all()?;
            channels.push(self.ears.own.clone());
            let ears = Arc::clone(&self.ears);
            let hear = Arc::new(move |heard| ears.hear(heard));
            *listening = Some(Listener::start(&self.link, &channels, hear).await?);
        }
        Ok(source)
    }

    fn is_bare(&self) -> bool {
        self.settings.format == crate::codec::Format::Plain
    }

    async fn ping(&self) -> Result<()> {
        let session = self.link.client("ping").await?;
        session.timed("ping", session.check_connection()).await
    }

    async fn close(&self, deadline: Duration) -> Result<()> {
        let began = Instant::now();
        let rest = || deadline.saturating_sub(began.elapsed());
        self.ears.all().iter().filter_map(Weak::upgrade).for_each(|source| source.stop());
        self.spill.stop();
        let closing = async {
            // First, so that nobody who waits for it holds up who listens.
            self.link.close(rest()).await;
            if let Some(listener) = self.listening.lock().await.take() {
                listener.close(rest()).await;
            }
        };
        let _ = task::within(deadline, closing).await;
        Ok(())
    }
}
