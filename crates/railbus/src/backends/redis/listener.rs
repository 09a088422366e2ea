//! What was heard, until it is fetched: bounded, and what does not fit is counted and told.

use super::{
    client::Hears,
    link::{Link, closed},
    settings::Server,
};
use crate::{
    backend::{Leased, Receipt, Settle, SharedFilter, Source, Undecodable},
    codec::Format,
    error::Result,
};
use async_trait::async_trait;
use bytes::Bytes;
use redis::{PushInfo, PushKind, Value};
use std::{
    collections::VecDeque,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
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
}

#[derive(Debug, Default)]
struct Heard {
    waiting: VecDeque<Said>,
    bytes: usize,
    handed_out: u64,
    // Since it was last told.
    dropped: u64,
}

/// What was published, and where.
#[derive(Debug, Default)]
struct Said {
    channel: Vec<u8>,
    body: Vec<u8>,
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
        if heard.waiting.len() >= WAITING_MAX || heard.bytes + said.body.len() > BYTES_MAX {
            heard.dropped += 1;
            return;
        }
        heard.bytes += said.body.len();
        heard.waiting.push_back(said);
        let first = heard.waiting.len() == 1;
        drop(heard);
        if first {
            self.news.notify_one();
        }
    }
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
        let healing = tokio::spawn(heal(Arc::clone(&ear), link.clone(), pattern, number));
        let (stopped, _healing) = (watch::Sender::new(false), AbortOnDropHandle::new(healing));
        let prefix = prefix.len() + 1;
        Ok(Self { ear, link, wants, format, prefix, stopped, _healing })
    }

    fn take(&self, max: usize) -> Vec<Leased> {
        let mut heard = self.ear.lock();
        let count = heard.waiting.len().min(max);
        let taken: Vec<_> = heard.waiting.drain(..count).collect();
        heard.bytes -= taken.iter().map(|said| said.body.len()).sum::<usize>();
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
        self.ear.lock().handed_out += leased.len() as u64;
        leased
    }

    fn hear(&self, place: u64, said: Said) -> Option<Leased> {
        let topic = said.channel.get(self.prefix..).unwrap_or_default();
        let (topic, raw) = (String::from_utf8_lossy(topic), Bytes::from(said.body));
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
async fn heal(ear: Arc<Ear>, link: Link, pattern: String, mut number: u64) {
    loop {
        tokio::select! {
            () = ear.lost.notified() => {}
            // A connection that was cut off without a word is found out by asking.
            () = tokio::time::sleep(PING_EVERY) => {
                if link.ask::<Value>("listen", &redis::cmd("PING")).await.is_ok() {
                    continue;
                }
            }
        }
        link.broken(number);
        tracing::warn!(server = %link.server(), "broadcasts are not heard until it is connected again");
        loop {
            match subscribe(&link, &pattern).await {
                Ok(new) => {
                    number = new;
                    break ear.gap.notify_one();
                }
                Err(_) if link.is_closed() => return,
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
                continue;
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
        if self.link.ask::<Value>("listen", &redis::cmd("PING")).await.is_err() {
            return Ok(None);
        }
        let heard = self.ear.lock();
        Ok(heard.waiting.is_empty().then_some(heard.handed_out))
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
}
