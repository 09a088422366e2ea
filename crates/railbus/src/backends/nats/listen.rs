//! What was heard, until it is fetched: bounded, and what does not fit is told.

use super::{
    fault::closed,
    link::Link,
    wire::{self, DELAY, GROUP},
};
use crate::{
    backend::{Leased, Receipt, Settle, SharedFilter, Source, Undecodable},
    codec::Format,
    error::{Error, ErrorKind, Result},
};
use async_nats::{Message, Subscriber};
use async_trait::async_trait;
use futures_util::StreamExt;
use std::{
    cmp::Reverse,
    collections::{BinaryHeap, VecDeque},
    future::poll_fn,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    task::{Context, Poll, Waker},
    time::{Duration, Instant},
};
use tokio::{
    sync::{Notify, watch},
    time::sleep_until,
};
use tokio_util::task::AbortOnDropHandle;

/// How many events that are to come later are kept at most.
const LATER_MAX: usize = 65_536;

/// A listener to all subjects of a prefix.
#[derive(Debug)]
pub(super) struct Listener {
    link: Link,
    wants: SharedFilter,
    format: Format,
    // What of a subject is not the topic's.
    prefix: String,
    heard: Mutex<Heard>,
    ear: Arc<Ear>,
    stopped: watch::Sender<bool>,
    _watching: AbortOnDropHandle<()>,
}

/// What the one who watches the connection and the source share.
#[derive(Debug, Default)]
struct Ear {
    // There is something to look at.
    news: Notify,
    // Events may have been missed, and are heard again.
    gap: Notify,
    complaint: Mutex<Option<Error>>,
}

#[derive(Debug)]
struct Heard {
    subscriber: Subscriber,
    waiting: VecDeque<Message>,
    later: BinaryHeap<Reverse<Later>>,
    handed_out: u64,
    // Taken, and not counted yet.
    in_hand: bool,
    is_over: bool,
}

/// An event that was published to come later, by when it was heard.
#[derive(Debug)]
struct Later {
    due: Instant,
    number: u64,
    message: Message,
}

impl PartialEq for Later {
    fn eq(&self, other: &Self) -> bool {
        (self.due, self.number) == (other.due, other.number)
    }
}

impl Eq for Later {}

impl PartialOrd for Later {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Later {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        (self.due, self.number).cmp(&(other.due, other.number))
    }
}

impl Heard {
    /// Takes over what the connection has brought; tells whether there is anything to hand out.
    fn gather(&mut self, max: usize, cx: &mut Context<'_>) -> bool {
        while self.waiting.len() < max && !self.is_over {
            match self.subscriber.poll_next_unpin(cx) {
                Poll::Ready(Some(message)) => self.hear(message),
                Poll::Ready(None) => self.is_over = true,
                Poll::Pending => break,
            }
        }
        let now = Instant::now();
        while self.later.peek().is_some_and(|Reverse(later)| later.due <= now) {
            self.waiting.extend(self.later.pop().map(|Reverse(later)| later.message));
        }
        !self.waiting.is_empty() || self.is_over
    }

    fn hear(&mut self, message: Message) {
        let header = |name| message.headers.as_ref().and_then(|headers| headers.get(name));
        if header(GROUP).is_some() {
            // One group's alone: it was handed back from the dead letters.
            return;
        }
        let delay = header(DELAY).and_then(|delay| delay.as_str().parse().ok());
        let due = delay.and_then(|delay| Instant::now().checked_add(Duration::from_millis(delay)));
        match due {
            None => self.waiting.push_back(message),
            Some(_) if self.later.len() >= LATER_MAX => {
                tracing::warn!("too many broadcasts are to come later: one is dropped");
            }
            Some(due) => {
                let number = self.later.len() as u64;
                self.later.push(Reverse(Later { due, number, message }));
            }
        }
    }
}

impl Listener {
    /// Subscribes: what is published from now on is heard.
    ///
    /// # Errors
    /// Returns what the server says.
    pub(super) async fn open(
        link: &Link,
        prefix: &str,
        wants: SharedFilter,
        format: Format,
    ) -> Result<Self> {
        let ear = Arc::<Ear>::default();
        let watching =
            tokio::spawn(watch(link.clone(), Arc::clone(&ear), link.breaks(), link.drops()));
        let subscriber = link.listen(format!("{prefix}.>")).await?;
        let heard = Heard {
            subscriber,
            waiting: VecDeque::new(),
            later: BinaryHeap::new(),
            handed_out: 0,
            in_hand: false,
            is_over: false,
        };
        Ok(Self {
            link: link.clone(),
            wants,
            format,
            prefix: format!("{prefix}."),
            heard: Mutex::new(heard),
            ear,
            stopped: watch::Sender::new(false),
            _watching: AbortOnDropHandle::new(watching),
        })
    }

    fn lock(&self) -> MutexGuard<'_, Heard> {
        self.heard.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn take(&self, max: usize) -> Vec<Leased> {
        let mut heard = self.lock();
        let count = heard.waiting.len().min(max);
        let taken: Vec<_> = heard.waiting.drain(..count).collect();
        let place = heard.handed_out;
        heard.in_hand = true;
        drop(heard);
        let mut leased = Vec::with_capacity(taken.len());
        for message in taken {
            leased.extend(self.read(place + leased.len() as u64, message));
        }
        let mut heard = self.lock();
        heard.handed_out += leased.len() as u64;
        heard.in_hand = false;
        leased
    }

    fn read(&self, place: u64, message: Message) -> Option<Leased> {
        let subject = message.subject.strip_prefix(&*self.prefix)?;
        let topic = super::subject::to_topic(subject);
        if !self.wants.may_match(&topic) {
            return None;
        }
        let id = crate::id::new_id();
        let headers = message.headers.as_ref();
        let event = match wire::decode(self.format, &topic, &id, headers, &message.payload) {
            Ok(event) if !self.wants.matches(event.event_type(), event.topic()) => return None,
            event => event.map_err(|error| Undecodable { raw: message.payload, error }),
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

    /// Waits until there is something to hand out, or to look at.
    async fn news(&self, max: usize) {
        let due = self.lock().later.peek().map(|Reverse(later)| later.due.into());
        let far = Instant::now() + Duration::from_secs(60 * 60);
        let coming = poll_fn(|cx| match self.lock().gather(max, cx) {
            true => Poll::Ready(()),
            false => Poll::Pending,
        });
        let mut stopped = self.stopped.subscribe();
        tokio::select! {
            () = coming => {}
            () = self.ear.news.notified() => {}
            () = sleep_until(due.unwrap_or_else(|| far.into())) => {}
            _ = stopped.wait_for(|stopped| *stopped) => {}
        }
    }
}

/// Tells of gaps: after each break of the connection, once it is heard again, and where a message had no
/// room.
async fn watch(
    link: Link,
    ear: Arc<Ear>,
    mut breaks: watch::Receiver<u64>,
    mut drops: watch::Receiver<u64>,
) {
    let complain = |error: Error| {
        *ear.complaint.lock().unwrap_or_else(PoisonError::into_inner) = Some(error);
        ear.news.notify_one();
    };
    loop {
        tokio::select! {
            changed = breaks.changed() => if changed.is_err() { return },
            changed = drops.changed() => {
                if changed.is_err() {
                    return;
                }
                tracing::warn!("broadcasts came faster than they were handled");
                ear.gap.notify_one();
                continue;
            }
        }
        tracing::warn!(server = %link.server(), "broadcasts are not heard until it is connected again");
        loop {
            match link.flush("listen").await {
                Ok(()) => break ear.gap.notify_one(),
                Err(_) if link.is_closed() => return,
                // What can't heal by itself is told to whoever fetches.
                Err(error) if !error.is_retryable() => complain(error),
                Err(error) => tracing::debug!(%error, "broadcasts are not heard"),
            }
        }
    }
}

#[async_trait]
impl Source for Listener {
    async fn fetch(&self, max: usize) -> Result<Vec<Leased>> {
        let max = max.max(1);
        loop {
            if *self.stopped.borrow() {
                return Ok(Vec::new());
            }
            let leased = self.take(max);
            if !leased.is_empty() {
                return Ok(leased);
            }
            let complaint =
                self.ear.complaint.lock().unwrap_or_else(PoisonError::into_inner).take();
            if let Some(error) = complaint {
                return Err(error);
            }
            let (is_over, is_more) = {
                let heard = self.lock();
                (heard.is_over, !heard.waiting.is_empty())
            };
            if is_over && !is_more {
                return Err(closed());
            }
            if is_more {
                // A flood that nobody here wants holds up no other task.
                tokio::task::yield_now().await;
                continue;
            }
            self.news(max).await;
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
        match self.link.flush("idle").await {
            Ok(()) => {}
            Err(e) if e.kind() == ErrorKind::Closed => return Err(e),
            Err(_) => return Ok(None),
        }
        let mut heard = self.lock();
        heard.gather(usize::MAX, &mut Context::from_waker(Waker::noop()));
        let all = heard.waiting.is_empty() && !heard.in_hand;
        let handed_out = heard.handed_out;
        drop(heard);
        // Who waits is to be woken by what comes next, and not this call.
        self.ear.news.notify_one();
        Ok(all.then_some(handed_out))
    }

    async fn gap(&self) {
        self.ear.gap.notified().await;
    }

    fn stop(&self) {
        self.stopped.send_replace(true);
    }

    async fn close(&self) -> Result<()> {
        self.stop();
        let mut heard = self.lock();
        heard.is_over = true;
        heard.waiting.clear();
        heard.later.clear();
        Ok(())
    }
}
