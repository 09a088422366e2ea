//! A listener to every event from now on: it reads on from where it is, and so hears of what was
//! published while it was cut off.

use super::{
    entry::{Entry, Fit, leased},
    id::Id,
    keys::Keys,
    member::entries,
    reader::{BLOCK_MAX, Reader},
    script::text,
};
use crate::{
    backend::{Leased, Settle, SharedFilter, Source},
    backends::redis::link::Link,
    error::{Error, ErrorKind, Result},
};
use async_trait::async_trait;
use redis::{Cmd, Pipeline, Value};
use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};
use tokio::sync::{Mutex as AsyncMutex, Notify, watch};

/// How many events one read takes at most.
const READ_MAX: usize = 1024;

/// How long letting go may take.
const LEAVE_WITHIN: Duration = Duration::from_secs(2);

/// A listener to every event of interest from now on.
#[derive(Debug)]
pub(super) struct Listener {
    wants: SharedFilter,
    link: Link,
    keys: Arc<Keys>,
    reader: Reader,
    place: Mutex<Place>,
    stopped: watch::Sender<bool>,
    fetching: AsyncMutex<()>,
    // It reads on after it could not, perhaps in another stream.
    gap: Notify,
}

/// How far a listener has come, and what it holds back until it is due.
#[derive(Debug)]
struct Place {
    last: Id,
    held: BTreeSet<(Instant, Id)>,
    handed_out: u64,
    // Whether the stream may not be the one that was read last.
    suspects: bool,
}

impl Listener {
    /// Makes a listener that hears what is published from now on.
    ///
    /// # Errors
    /// Returns what the server says.
    pub(super) async fn open(
        link: &Link,
        keys: &Arc<Keys>,
        reader: Reader,
        wants: SharedFilter,
    ) -> Result<Self> {
        let last = newest(link, keys).await?;
        reader.prepare().await?;
        // Who may not read learns it now, and not in the middle of fetching.
        let mut command = Cmd::with_capacity(6, 100);
        command.arg("XREAD").arg("COUNT").arg(1);
        command.arg("STREAMS").arg(&keys.stream).arg(last.to_string());
        link.ask::<Value>("subscribe", &command).await?;
        let place = Place { last, held: BTreeSet::new(), handed_out: 0, suspects: false };
        Ok(Self {
            wants,
            link: link.clone(),
            keys: Arc::clone(keys),
            reader,
            place: Mutex::new(place),
            stopped: watch::Sender::new(false),
            fetching: AsyncMutex::default(),
            gap: Notify::new(),
        })
    }

    fn place(&self) -> MutexGuard<'_, Place> {
        self.place.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn is_stopped(&self) -> bool {
        *self.stopped.borrow()
    }

    /// Makes sure that the place is one of this stream: a server that lost its data, and whose clock
    /// was set back, begins before it.
    async fn find_place(&self) -> Result<()> {
        if !self.place().suspects {
            return Ok(());
        }
        let newest = newest(&self.link, &self.keys).await?;
        let mut place = self.place();
        place.suspects = false;
        if newest < place.last {
            tracing::warn!("the stream begins anew: it is listened to from its beginning");
            place.last = Id::FIRST;
        }
        drop(place);
        self.gap.notify_one();
        Ok(())
    }

    async fn read(&self, max: usize) -> Result<Vec<Entry>> {
        self.find_place().await?;
        let (last, due) = {
            let place = self.place();
            (place.last, place.held.first().map(|(due, _)| *due))
        };
        let wait = due.map_or(BLOCK_MAX, |due| due.saturating_duration_since(Instant::now()));
        let mut command = Cmd::with_capacity(8, 120);
        command.arg("XREAD").arg("COUNT").arg(max.min(READ_MAX));
        command.arg("BLOCK").arg(self.reader.block(wait));
        command.arg("STREAMS").arg(&self.keys.stream).arg(last.to_string());
        let mut stopped = self.stopped.subscribe();
        let interrupt = async {
            let _ = tokio::time::timeout(wait, stopped.wait_for(|stopped| *stopped)).await;
        };
        let said = self.reader.read(&command, interrupt).await;
        if said.is_err() {
            self.place().suspects = true;
        }
        Ok(entries(said?, &self.keys))
    }

    /// Hands out what is wanted and due of what was read.
    fn hear(&self, entries: Vec<Entry>) -> Vec<Leased> {
        let now = Instant::now();
        let mut place = self.place();
        let mut all = Vec::with_capacity(entries.len());
        for entry in entries {
            place.last = entry.id;
            let id = entry.id;
            if entry.is_ruled_out(&self.wants) {
                continue;
            }
            if let Some(delay) = entry.delay {
                // From when it is read: how far the clocks are apart is not known.
                place.held.insert((now + Duration::from_millis(delay), id));
                continue;
            }
            if let (event, Fit::Wanted) = entry.decode(&self.wants) {
                all.push(leased(id, 0, event, 1));
            }
        }
        all
    }

    /// Lets go of what was withdrawn while it was held back.
    async fn forget_withdrawn(&self) -> Result<()> {
        let held: Vec<_> = self.place().held.iter().copied().collect();
        let mut commands = Pipeline::with_capacity(held.len());
        for (_, id) in &held {
            let id = id.to_string();
            commands.cmd("XRANGE").arg(&self.keys.stream).arg(&id).arg(&id);
        }
        if held.is_empty() {
            return Ok(());
        }
        let (_, said) = self.link.ask_all("listen", &commands).await?;
        let mut place = self.place();
        for (held, found) in held.iter().zip(said) {
            if matches!(&found, Value::Array(found) if found.is_empty()) {
                place.held.remove(held);
            }
        }
        Ok(())
    }

    /// Reads what was held back and is due now.
    async fn due(&self, max: usize) -> Result<Vec<Leased>> {
        let now = Instant::now();
        let due: Vec<_> = {
            let place = self.place();
            place.held.iter().take_while(|(due, _)| *due <= now).take(max).copied().collect()
        };
        let mut all = Vec::with_capacity(due.len());
        for held in due {
            let mut command = redis::cmd("XRANGE");
            let id = held.1.to_string();
            command.arg(&self.keys.stream).arg(&id).arg(&id);
            let found: Value = self.link.ask("fetch", &command).await?;
            self.place().held.remove(&held);
            match super::script::list(found).pop().and_then(|one| Entry::read(one, &self.keys)) {
                Some(entry) => {
                    if let (event, Fit::Wanted) = entry.decode(&self.wants) {
                        all.push(leased(held.1, 0, event, 1));
                    }
                }
                None => {
                    tracing::info!(id, "a broadcast was withdrawn or trimmed before it was due");
                }
            }
        }
        Ok(all)
    }
}

/// Returns the newest place of the stream.
///
/// # Errors
/// Returns what the server says.
pub(super) async fn newest(link: &Link, keys: &Keys) -> Result<Id> {
    let mut command = redis::cmd("XINFO");
    command.arg("STREAM").arg(&keys.stream);
    let said: Result<Value> = link.ask("listen", &command).await;
    let said = match said {
        // There is no stream before the first event.
        Err(e) if e.to_string().contains("no such key") => return Ok(Id::FIRST),
        said => said?,
    };
    let pairs: Vec<(String, Value)> = match said {
        Value::Map(pairs) => pairs.into_iter().map(|(key, value)| (text(key), value)).collect(),
        _ => Vec::new(),
    };
    let about: BTreeMap<_, _> = pairs.into_iter().collect();
    let last = about.get("last-generated-id").cloned().map(text);
    last.and_then(|id| id.parse().ok()).ok_or_else(|| {
        Error::new(ErrorKind::Internal, "listen", "the server does not tell the stream's last id")
    })
}

#[async_trait]
impl Source for Listener {
    async fn fetch(&self, max: usize) -> Result<Vec<Leased>> {
        let _fetching = self.fetching.lock().await;
        while !self.is_stopped() {
            let mut all = self.due(max).await?;
            if all.is_empty() {
                let read = self.read(max).await;
                if self.is_stopped() {
                    break;
                }
                all = self.hear(read?);
            }
            if !all.is_empty() {
                self.place().handed_out += all.len() as u64;
                return Ok(all);
            }
        }
        Ok(Vec::new())
    }

    async fn settle(&self, batch: &[Settle]) -> Vec<Result<()>> {
        // At most once: there is nothing to settle.
        vec![Ok(()); batch.len()]
    }

    async fn handed_out(&self) -> Result<Option<u64>> {
        let newest = newest(&self.link, &self.keys).await?;
        self.forget_withdrawn().await?;
        let place = self.place();
        let all = place.last >= newest && place.held.is_empty();
        Ok(all.then_some(place.handed_out))
    }

    async fn gap(&self) {
        self.gap.notified().await;
    }

    fn stop(&self) {
        self.stopped.send_replace(true);
    }

    async fn close(&self) -> Result<()> {
        self.stop();
        let _ = tokio::time::timeout(LEAVE_WITHIN, self.fetching.lock()).await;
        self.reader.close();
        Ok(())
    }
}
