//! What was heard, until it is fetched: bounded, and what does not fit is counted and told.

use super::{
    client::Hears,
    link::{Link, closed},
    settings::Server,
};
use crate::{
    backend::{Leased, Receipt, Settle, SharedFilter, Source, Undecodable},
    codec::Format,
    error::{Error, ErrorKind, Result},
};
use async_trait::async_trait;
use bytes::Bytes;
use redis::{PushInfo, PushKind, Value};
use std::{
    collections::VecDeque,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering::SeqCst},
    },
    time::Duration,
};
use tokio::sync::{Notify, watch};
use tokio_util::task::AbortOnDropHandle;

/// How many events wait to be fetched, and how many bytes of them.
const WAITING_MAX: usize = 65_536;
const BYTES_MAX: usize = 64 << 20;

/// How often a quiet connection is asked whether it still lives.
const PING_EVERY: Duration = Duration::from_secs(10);

/// What the connection's task and the source share.
#[derive(Debug, Default)]
struct Ear {
    heard: Mutex<Heard>,
    // There is something to fetch.
    news: Notify,
    // The connection is gone, and is back after that.
    lost: Notify,
    // Events were missed, and are heard again.
    gap: Notify,
    // The number of the connection that hears.
    number: AtomicU64,
}

#[derive(Debug, Default)]
struct Heard {
    waiting: VecDeque<Said>,
    bytes: usize,
    handed_out: u64,
    // Taken, and not counted yet.
    in_hand: usize,
    // Since it was last told.
    dropped: u64,
    // Why nothing is heard, and whether that was told.
    cut_off: Option<Error>,
    is_told: bool,
}

/// What was published, and where.
#[derive(Debug, Default)]
struct Said {
    channel: Vec<u8>,
    body: Vec<u8>,
}

impl Said {
    fn bytes(&self) -> usize {
        self.channel.len() + self.body.len()
    }
}

impl Ear {
    fn lock(&self) -> MutexGuard<'_, Heard> {
        self.heard.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn hear(&self, info: PushInfo) {
        match info.kind {
            PushKind::PMessage => {
                let mut data = info.data;
                let Some(Value::BulkString(body)) = data.pop() else { return };
                let Some(Value::BulkString(channel)) = data.pop() else { return };
                self.take(Said { channel, body });
            }
            PushKind::Disconnection => self.lost.notify_one(),
            _ => {}
        }
    }

    fn take(&self, said: Said) {
        let mut heard = self.lock();
        if heard.waiting.len() >= WAITING_MAX || heard.bytes + said.bytes() > BYTES_MAX {
            heard.dropped += 1;
            return;
        }
        heard.bytes += said.bytes();
        heard.waiting.push_back(said);
        let first = heard.waiting.len() == 1;
        drop(heard);
        if first {
            self.news.notify_one();
        }
    }

    /// Notes why nothing is heard.
    fn deafen(&self, error: Error) {
        let mut heard = self.lock();
        // What can't heal is told whatever was told before.
        heard.is_told &= error.is_retryable();
        heard.cut_off = Some(error);
        drop(heard);
        self.news.notify_one();
    }

    /// Notes the connection that hears from now on.
    fn listens(&self, number: u64) {
        self.number.store(number, SeqCst);
        self.lock().cut_off = None;
        self.news.notify_one();
        self.gap.notify_one();
    }

    /// Returns why nothing is heard, once; when it is heard again after that, it tells of a gap.
    fn complaint(&self) -> Option<Error> {
        let mut heard = self.lock();
        let was_told = heard.is_told;
        heard.is_told = heard.cut_off.is_some();
        if was_told && !heard.is_told {
            drop(heard);
            self.gap.notify_one();
            return None;
        }
        heard.cut_off.clone().filter(|_| !was_told)
    }
}

/// Tells whether the connection of this number lives: one that was made since hears nothing.
async fn is_alive(link: &Link, number: u64) -> bool {
    link.is_current(number)
        && link.ask::<Value>("listen", &redis::cmd("PING")).await.is_ok()
        && link.is_current(number)
}

/// A listener to every channel of a prefix.
#[derive(Debug)]
pub(super) struct Listener {
    ear: Arc<Ear>,
    link: Link,
    wants: SharedFilter,
    format: Format,
    // How much of a channel's name is not the topic's.
    prefix: usize,
    stopped: watch::Sender<bool>,
    // Heals the connection; ends with the listener.
    _healing: AbortOnDropHandle<()>,
}

impl Listener {
    /// Connects and subscribes: what is published from now on is heard.
    ///
    /// # Errors
    /// Returns what the server says; nothing is tried again.
    pub(super) async fn open(
        server: &Arc<Server>,
        prefix: &str,
        wants: SharedFilter,
        format: Format,
    ) -> Result<Self> {
        let ear = Arc::<Ear>::default();
        let of = Arc::clone(&ear);
        let hears: Hears = Arc::new(move |info| of.hear(info));
        let link = Link::idle(server, server.timeout, Some(hears), None)?;
        let pattern = format!("{}:*", literal(prefix));
        let number = subscribe(&link, &pattern).await?;
        ear.number.store(number, SeqCst);
        let healing = tokio::spawn(heal(Arc::clone(&ear), link.clone(), pattern));
        let (stopped, _healing) = (watch::Sender::new(false), AbortOnDropHandle::new(healing));
        let prefix = prefix.len() + 1;
        Ok(Self { ear, link, wants, format, prefix, stopped, _healing })
    }

    fn take(&self, max: usize) -> Vec<Leased> {
        let mut heard = self.ear.lock();
        let count = heard.waiting.len().min(max);
        let taken: Vec<_> = heard.waiting.drain(..count).collect();
        heard.bytes -= taken.iter().map(Said::bytes).sum::<usize>();
        heard.in_hand = taken.len();
        let (place, dropped) = (heard.handed_out, std::mem::take(&mut heard.dropped));
        drop(heard);
        if dropped > 0 {
            tracing::warn!(dropped, "broadcasts came faster than they were handled");
            self.ear.gap.notify_one();
        }
        let mut leased = Vec::with_capacity(taken.len());
        for said in taken {
            leased.extend(self.hear(place + leased.len() as u64, said));
        }
        let mut heard = self.ear.lock();
        heard.handed_out += leased.len() as u64;
        heard.in_hand = 0;
        drop(heard);
        leased
    }

    fn hear(&self, place: u64, said: Said) -> Option<Leased> {
        let topic = said.channel.get(self.prefix..).unwrap_or_default();
        let (topic, raw) = (String::from_utf8_lossy(topic), Bytes::from(said.body));
        if !self.wants.may_match(&topic) {
            return None;
        }
        let event = match self.format.decode(&topic, &raw) {
            // One of a prefix that goes on from this one after a colon, such as `a:b` from `a`: the
            // channel is the same as that of a topic `b:..` here, the topic is not.
            Ok(event) if event.topic() != topic => return None,
            Ok(event) if !self.wants.matches(event.event_type(), event.topic()) => return None,
            event => event.map_err(|error| Undecodable { raw, error }),
        };
        Some(Leased {
            receipt: Receipt { place, fence: 0, token: None },
            event,
            attempt: 1,
            lost: false,
            finished: Vec::new(),
            only: None,
        })
    }
}

/// Connects and subscribes, once.
async fn subscribe(link: &Link, pattern: &str) -> Result<u64> {
    let (number, mut connection) = link.wait().await?;
    let subscribed = connection.psubscribe(pattern).await;
    subscribed.map(|()| number).map_err(|e| link.failed("subscribe", number, e))
}

/// Subscribes anew whenever the connection is gone, for ever.
async fn heal(ear: Arc<Ear>, link: Link, pattern: String) {
    loop {
        tokio::select! {
            () = ear.lost.notified() => {}
            // A connection that was cut off without a word is found out by asking.
            () = tokio::time::sleep(PING_EVERY) => {}
        }
        let number = ear.number.load(SeqCst);
        // What was told may be of a connection before this one.
        if is_alive(&link, number).await {
            continue;
        }
        link.broken(number);
        tracing::warn!(server = %link.server(), "broadcasts are not heard until it is connected again");
        let why = "the connection that hears broadcasts is lost";
        ear.deafen(Error::new(ErrorKind::Unavailable, "listen", why).with("server", link.server()));
        loop {
            match subscribe(&link, &pattern).await {
                Ok(number) => break ear.listens(number),
                Err(_) if link.is_closed() => return,
                // What can't heal is told to whoever fetches.
                Err(error) if !error.is_retryable() => return ear.deafen(error),
                Err(error) => {
                    tracing::error!(%error, "broadcasts are not heard");
                    tokio::time::sleep(Duration::from_secs(5)).await;
                }
            }
        }
    }
}

/// Returns the pattern of Redis that matches this text alone.
pub(super) fn literal(text: &str) -> String {
    let mut pattern = String::with_capacity(text.len());
    for c in text.chars() {
        if matches!(c, '*' | '?' | '[' | ']' | '\\' | '^' | '-') {
            pattern.push('\\');
        }
        pattern.push(c);
    }
    pattern
}

#[async_trait]
impl Source for Listener {
    async fn fetch(&self, max: usize) -> Result<Vec<Leased>> {
        let mut stopped = self.stopped.subscribe();
        loop {
            if *stopped.borrow() {
                return Ok(Vec::new());
            }
            let leased = self.take(max);
            if !leased.is_empty() {
                return Ok(leased);
            }
            if !self.ear.lock().waiting.is_empty() {
                // A flood that nobody here wants holds up no other task.
                tokio::task::yield_now().await;
                continue;
            }
            if let Some(error) = self.ear.complaint() {
                return Err(error);
            }
            tokio::select! {
                () = self.ear.news.notified() => {}
                _ = stopped.wait_for(|stopped| *stopped) => {}
            }
        }
    }

    async fn settle(&self, batch: &[Settle]) -> Vec<Result<()>> {
        // At most once: there is nothing to settle.
        vec![Ok(()); batch.len()]
    }

    async fn handed_out(&self) -> Result<Option<u64>> {
        if self.link.is_closed() {
            return Err(closed());
        }
        // What was published before comes ahead of the answer, by the same connection.
        if !is_alive(&self.link, self.ear.number.load(SeqCst)).await {
            self.ear.lost.notify_one();
            return Ok(None);
        }
        let heard = self.ear.lock();
        let all = heard.waiting.is_empty() && heard.in_hand == 0;
        Ok(all.then_some(heard.handed_out))
    }

    async fn gap(&self) {
        self.ear.gap.notified().await;
    }

    fn stop(&self) {
        self.stopped.send_replace(true);
    }

    async fn close(&self) -> Result<()> {
        self.stop();
        self.link.close();
        Ok(())
    }
}

impl Drop for Listener {
    fn drop(&mut self) {
        self.link.close();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_does_not_fit_is_counted() {
        let ear = Ear::default();
        let said = |size| Said { body: vec![0; size], ..Said::default() };
        (0..WAITING_MAX + 3).for_each(|_| ear.take(said(8)));
        let heard = ear.lock();
        assert_eq!((heard.waiting.len(), heard.dropped), (WAITING_MAX, 3));
        drop(heard);
        let ear = Ear::default();
        (0..5).for_each(|_| ear.take(said(BYTES_MAX / 4)));
        let heard = ear.lock();
        assert_eq!((heard.waiting.len(), heard.dropped), (4, 1));
    }
    #[test]
    fn what_cuts_it_off_is_told_once_and_what_comes_after_is_a_gap() {
        let ear = Ear::default();
        let gap = || {
            let gap = std::pin::pin!(ear.gap.notified());
            futures_util::FutureExt::now_or_never(gap).is_some()
        };
        let error = || Error::new(ErrorKind::Unavailable, "listen", "gone");
        assert!(ear.complaint().is_none());
        ear.deafen(error());
        ear.deafen(error());
        assert!(ear.complaint().is_some() && ear.complaint().is_none() && !gap());
        ear.listens(2);
        assert!(gap(), "it is heard again");
        assert!(ear.complaint().is_none());
        assert!(gap(), "also by whoever has heard of the failure late");
        assert!(ear.complaint().is_none() && !gap());
    }
}
