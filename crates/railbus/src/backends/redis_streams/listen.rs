//! A listener to every event from now on: it reads on from where it is, and so hears of what was
//! published while it was cut off.

use super::{
    entry::{Entry, Fit, leased},
    id::Id,
    keys::Keys,
    lookup::{look_up, newest},
    portion::Portion,
    reader::{BLOCK_MAX, Reader},
    script::{GONE, count, list, number},
};
use crate::{
    backend::{Leased, Settle, SharedFilter, Source},
    backends::redis::link::Link,
    error::Result,
};
use async_trait::async_trait;
use redis::{Cmd, Pipeline, Value};
use std::{
    collections::{BTreeSet, VecDeque},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};
use tokio::sync::{Mutex as AsyncMutex, Notify, watch};

/// How many events one read takes at most: many more than are handed out at once, for most may be
/// others', and each read costs the way there and back.
const READ_MAX: usize = 4096;

/// How long a listener may be away from reading before it looks whether what it has not read was
/// removed meanwhile.
const AWAY_MAX: Duration = Duration::from_millis(20);

/// Of how many events that are held back one request asks whether they are gone.
const LOOK_MAX: usize = 1000;

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
    // What was read and not handed out yet, as much as one read takes.
    unheard: VecDeque<Entry>,
    // By the server's milliseconds, so that what is due at once keeps its order.
    held: BTreeSet<(u64, Id)>,
    // What the server's clock showed, and when.
    clock: (u64, Instant),
    handed_out: u64,
    // Whether the stream may not be the one that was read last.
    suspects: bool,
    portion: Portion,
    // When it last came back from reading, having heard of something, and whether there was more.
    read: Option<(Instant, bool)>,
}

impl Place {
    /// Returns the server's milliseconds.
    fn now(&self) -> u64 {
        let (then, at) = self.clock;
        then.saturating_add(u64::try_from(at.elapsed().as_millis()).unwrap_or(u64::MAX))
    }
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
        let place = Place {
            last,
            unheard: VecDeque::new(),
            held: BTreeSet::new(),
            clock: (0, Instant::now()),
            handed_out: 0,
            suspects: false,
            portion: Portion::default(),
            read: None,
        };
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

    /// Makes sure that the place is one of this stream: a replica that took over lacks the end that
    /// was read, and a server that lost its data, and whose clock was set back, begins before it.
    async fn find_place(&self) -> Result<()> {
        if !self.place().suspects {
            return Ok(());
        }
        let newest = newest(&self.link, &self.keys).await?;
        let mut place = self.place();
        (place.suspects, place.read) = (false, None);
        if newest < place.last {
            tracing::warn!("the stream ends before what was heard: it is listened to from its end");
            place.last = newest;
        }
        drop(place);
        self.gap.notify_one();
        Ok(())
    }

    /// Tells of a gap if what was read behind a place may have been removed: there was nothing left at
    /// that place or before it when the read was answered, or nobody knows.
    fn look_behind(&self, looked: Result<Value>) {
        match looked.map(list) {
            Ok(found) if !found.is_empty() => return,
            Ok(_) => {
                tracing::warn!("the stream was trimmed up to what was not heard yet, or further");
            }
            Err(error) => tracing::warn!(%error, "whether anything was missed is not known"),
        }
        self.gap.notify_one();
    }

    async fn read(&self) -> Result<Vec<Entry>> {
        self.find_place().await?;
        let (last, before, due, count) = {
            let mut place = self.place();
            let due = place.held.first().map(|(due, _)| due.saturating_sub(place.now()));
            let before = place.read.take();
            // Whoever has heard all there was, and was away then, knows nothing of what has come.
            if before.is_none_or(|(at, has_more)| !has_more && at.elapsed() > AWAY_MAX) {
                place.portion.afresh();
            }
            (place.last, before, due, place.portion.of(READ_MAX))
        };
        let wait = due.map_or(BLOCK_MAX, Duration::from_millis);
        let mut command = Cmd::with_capacity(8, 120);
        command.arg("XREAD").arg("COUNT").arg(count);
        command.arg("BLOCK").arg(self.reader.block(wait));
        command.arg("STREAMS").arg(&self.keys.stream).arg(last.to_string());
        let mut stopped = self.stopped.subscribe();
        let interrupt = async {
            let _ = tokio::time::timeout(wait, stopped.wait_for(|stopped| *stopped)).await;
        };
        // Whoever waits in a read misses nothing, whoever was away or far behind may.
        let is_unsure = |(at, has_more): (Instant, bool)| has_more || at.elapsed() > AWAY_MAX;
        let said = if before.is_some_and(is_unsure) {
            let mut commands = Pipeline::with_capacity(2);
            commands.add_command(command).cmd("XRANGE").arg(&self.keys.stream);
            commands.arg("-").arg(last.to_string()).arg("COUNT").arg(1);
            let said = self.reader.read_and_look(&commands, &self.keys, interrupt).await;
            said.map(|(entries, looked)| {
                self.look_behind(looked);
                entries
            })
        } else {
            self.reader.read(&command, &self.keys, interrupt).await
        };
        let mut place = self.place();
        let entries = match said {
            Ok(entries) => entries,
            Err(e) => {
                place.suspects = true;
                place.portion.failed(&e);
                return Err(e);
            }
        };
        place.portion.came(count, entries.len(), entries.iter().map(Entry::bytes).sum());
        place.read = (!entries.is_empty()).then(|| (Instant::now(), entries.len() >= count));
        Ok(entries)
    }

    /// Takes in what was read: what may be wanted, by when it is due.
    async fn take_in(&self, entries: Vec<Entry>) -> Result<()> {
        let is_delayed = entries.iter().any(|entry| entry.delay.is_some());
        if is_delayed {
            let clock = (self.server_time().await?, Instant::now());
            self.place().clock = clock;
        }
        let mut place = self.place();
        for entry in entries {
            place.last = entry.id;
            if entry.is_ruled_out(&self.wants) {
                continue;
            }
            match entry.delay {
                Some(delay) => {
                    place.held.insert((entry.id.ms.saturating_add(delay), entry.id));
                }
                None => place.unheard.push_back(entry),
            }
        }
        Ok(())
    }

    /// Hands out what is wanted of what was taken in.
    fn hear(&self, max: usize) -> Vec<Leased> {
        let mut place = self.place();
        let mut all = Vec::with_capacity(max.min(place.unheard.len()));
        while all.len() < max {
            let Some(entry) = place.unheard.pop_front() else { break };
            let id = entry.id;
            if let (event, Fit::Wanted) = entry.decode(&self.wants) {
                all.push(leased(id, 0, event, 1));
            }
        }
        // What one large answer took is not kept for ever.
        if place.unheard.is_empty() && place.unheard.capacity() > 1024 {
            place.unheard = VecDeque::new();
        }
        place.handed_out += all.len() as u64;
        all
    }

    /// Returns the server's milliseconds: by its clock delays are counted.
    async fn server_time(&self) -> Result<u64> {
        let said = list(self.link.ask::<Value>("fetch", &redis::cmd("TIME")).await?);
        let seconds = said.first().and_then(number).and_then(|s| u64::try_from(s).ok());
        let micros = said.get(1).and_then(number).and_then(|us| u64::try_from(us).ok());
        Ok(seconds.unwrap_or(0).saturating_mul(1000) + micros.unwrap_or(0) / 1000)
    }

    /// Tells whether anything is held back still. What was withdrawn meanwhile is let go of, up to the
    /// first that was not: one is enough, and nothing of it is brought here.
    async fn holds_any(&self) -> Result<bool> {
        loop {
            let held: Vec<_> = self.place().held.iter().take(LOOK_MAX).copied().collect();
            if held.is_empty() {
                return Ok(false);
            }
            let said = GONE.run(&self.link, &self.keys, "listen", |command| {
                for (_, id) in &held {
                    command.arg(id.to_string());
                }
            });
            let gone = usize::try_from(count(&said.await?)).unwrap_or(0);
            let mut place = self.place();
            for held in held.iter().take(gone) {
                place.held.remove(held);
            }
            if gone < held.len() {
                return Ok(true);
            }
        }
    }

    /// Reads what was held back and is due now.
    async fn due(&self, max: usize) -> Result<Vec<Leased>> {
        let due: Vec<_> = {
            let place = self.place();
            let now = place.now();
            let max = place.portion.of(max.min(READ_MAX));
            place.held.iter().take_while(|(due, _)| *due <= now).take(max).copied().collect()
        };
        if due.is_empty() {
            return Ok(Vec::new());
        }
        let ids: Vec<_> = due.iter().map(|(_, id)| *id).collect();
        // Until it is answered they stay where they are.
        let said = look_up(&self.link, &self.keys, "fetch", &ids).await;
        let mut place = self.place();
        let said = match said {
            Ok(said) => said,
            Err(e) => {
                place.portion.failed(&e);
                return Err(e);
            }
        };
        let (mut all, mut bytes) = (Vec::with_capacity(due.len()), 0);
        for (held, found) in due.iter().zip(said) {
            let found = match found {
                Ok(found) => found,
                // It stays, and so do those behind it, until the server looks again.
                Err(e) if all.is_empty() => return Err(e),
                Err(_) => break,
            };
            place.held.remove(held);
            match found {
                Some(entry) => {
                    bytes += entry.bytes();
                    if let (event, Fit::Wanted) = entry.decode(&self.wants) {
                        all.push(leased(held.1, 0, event, 1));
                    }
                }
                None => {
                    tracing::info!(id = %held.1, "a broadcast was withdrawn or trimmed before it was due");
                }
            }
        }
        place.portion.came(due.len(), due.len(), bytes);
        place.handed_out += all.len() as u64;
        Ok(all)
    }
}

#[async_trait]
impl Source for Listener {
    async fn fetch(&self, max: usize) -> Result<Vec<Leased>> {
        let _fetching = self.fetching.lock().await;
        while !self.is_stopped() {
            let mut all = self.due(max).await?;
            if all.is_empty() {
                all = self.hear(max);
            }
            if !all.is_empty() {
                return Ok(all);
            }
            let read = self.read().await;
            if self.is_stopped() {
                break;
            }
            self.take_in(read?).await?;
        }
        Ok(Vec::new())
    }

    async fn settle(&self, batch: &[Settle]) -> Vec<Result<()>> {
        // At most once: there is nothing to settle.
        vec![Ok(()); batch.len()]
    }

    async fn handed_out(&self) -> Result<Option<u64>> {
        let newest = newest(&self.link, &self.keys).await?;
        if self.place().last < newest || self.holds_any().await? {
            return Ok(None);
        }
        let place = self.place();
        let all = place.last >= newest && place.held.is_empty() && place.unheard.is_empty();
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
