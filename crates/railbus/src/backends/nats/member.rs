//! A member of a group: what it holds, and what it does with what it pulls.

use super::{
    fault::closed,
    groups::{self, lease_of, pruned},
    held::{self, Record},
    lease::{ALIKE, Held, State, expire, far, keep},
    pull::{Came, Pulled, Puller},
    streams::Streams,
    subject,
    wire::{self, DELAY, GROUP, ONLY},
    word::{ACK, nak, say},
};
use crate::{
    backend::{Leased, Receipt, Settle, SharedFilter, Source, Subscribe, Undecodable},
    clock::Timestamp,
    error::Result,
    event::Event,
};
use async_trait::async_trait;
use bytes::Bytes;
use std::{
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};
use tokio::{sync::Mutex as AsyncMutex, sync::watch};
use tokio_util::task::AbortOnDropHandle;

/// How long an event that other members want is left to them, at first and at last.
const LEFT_MIN: Duration = Duration::from_millis(20);
const LEFT_MAX: Duration = Duration::from_secs(5);

/// What comes this much before its time is let through: the server's clock is known no better.
const EARLY: Duration = Duration::from_millis(20);

/// A member of a group.
#[derive(Debug)]
pub(super) struct Member {
    pub(super) group: String,
    pub(super) consumer: String,
    pub(super) streams: Arc<Streams>,
    /// How long an event is this member's.
    pub(super) lease: Duration,
    /// How long the server waits until it gives the event to another.
    pub(super) ack_wait: Duration,
    request: Subscribe,
    wants: SharedFilter,
    puller: Puller,
    state: Arc<Mutex<State>>,
    stopped: watch::Sender<bool>,
    // Held while something is fetched.
    fetching: AsyncMutex<()>,
    _keeping: Option<AbortOnDropHandle<()>>,
}

/// What becomes of an event that is not handed out.
enum Aside {
    /// It is settled.
    Done,
    /// It comes again after so long, as if it had not been delivered, or left to others.
    Back { delay: Duration, due: Option<Timestamp>, left: bool },
}

/// An event that this member does not want.
type Other = (Came, Record, Result<Event, Undecodable>);

fn header(one: &Came, name: &str) -> Option<String> {
    one.message.headers.as_ref().and_then(|headers| wire::get(headers, name))
}

/// Returns when an event that is held back is to come, by the server's clock.
fn due(one: &Came, record: &Record) -> Option<Timestamp> {
    let delay = header(one, DELAY).and_then(|delay| delay.parse().ok()).map(Duration::from_millis);
    let published = delay.map(|delay| Timestamp::from_micros(one.stored).after(delay));
    published.max(record.due.map(Timestamp::from_micros))
}

impl Member {
    /// Joins a group, creating it if it is missing.
    ///
    /// # Errors
    /// Returns what the server says.
    pub(super) async fn join(
        streams: &Arc<Streams>,
        group: String,
        request: Subscribe,
    ) -> Result<Self> {
        let known = groups::open(streams, &group, &request).await?;
        let consumer = subject::consumer(&group);
        let puller = Puller::open(&streams.api, &streams.events, &consumer).await?;
        let ack_wait = lease_of(known.ack_wait);
        let lease = request.lease;
        let state = Arc::new(Mutex::new(State { born: known.born, ..State::default() }));
        let (of, at) = (Arc::clone(streams), Arc::clone(&state));
        let is_alike = lease.abs_diff(ack_wait) <= ALIKE;
        let keeping = match lease > ack_wait {
            _ if is_alike => None,
            true => Some(tokio::spawn(keep(of, at, ack_wait))),
            false => Some(tokio::spawn(expire(of, at, lease))),
        };
        Ok(Self {
            wants: Arc::new(request.interest.compile()),
            group,
            consumer,
            streams: Arc::clone(streams),
            lease,
            ack_wait: if is_alike { lease } else { ack_wait },
            request,
            puller,
            state,
            stopped: watch::Sender::new(false),
            fetching: AsyncMutex::default(),
            _keeping: keeping.map(AbortOnDropHandle::new),
        })
    }

    pub(super) fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn once(&self, max: usize) -> Result<Vec<Leased>> {
        let unread = std::mem::take(&mut self.state().unread);
        if !unread.is_empty() {
            return self.take_in(unread).await;
        }
        match self.puller.pull(max, &mut self.stopped.subscribe()).await? {
            Pulled::Some(came) => self.take_in(came).await,
            Pulled::Stopped => Ok(Vec::new()),
            Pulled::Gone => {
                let (born, request) = (self.state().born.clone(), &self.request);
                let again = groups::reopen(&self.streams, &self.group, request, &born).await?;
                if let Some(known) = again {
                    let mut state = self.state();
                    let (born, fence) = (known.born, state.fence);
                    *state = State { born, fence, ..State::default() };
                }
                Ok(Vec::new())
            }
        }
    }

    /// Decides what becomes of events that came: what this member wants is leased.
    async fn take_in(&self, mut came: Vec<Came>) -> Result<Vec<Leased>> {
        let now = Instant::now();
        // What waited too long is somebody else's by now.
        came.retain(|one| now < far(one.at, self.lease.min(self.ack_wait)));
        let records = match self.records(&came).await {
            Ok(records) => records,
            Err(e) => {
                self.state().unread = came;
                return Err(e);
            }
        };
        let (mut leased, mut aside, mut others) = (Vec::new(), Vec::new(), Vec::new());
        let clock = match came.iter().zip(&records).any(|(one, record)| due(one, record).is_some())
        {
            // Without it the server alone knows what is held back, as long as it runs.
            true => self.streams.now().await.ok(),
            false => None,
        };
        for (one, record) in came.into_iter().zip(records) {
            if self.is_mine_already(&one) {
                continue;
            }
            if self.state().done.has(one.seq) {
                aside.push((one, record, Aside::Done));
                continue;
            }
            if let Some(what) = self.not_now(&one, &record, clock) {
                aside.push((one, record, what));
                continue;
            }
            let (event, fit) = self.read(&one);
            match fit {
                true => leased.push(self.lease_it(one, record, event)),
                false => others.push((one, record, event)),
            }
        }
        match self.leave(others, aside).await {
            // What could not be given back is somebody's again when its lease has run out.
            Err(error) if !leased.is_empty() => {
                tracing::debug!(%error, "what this member does not want could not be left");
                Ok(leased)
            }
            left => left.map(|()| leased),
        }
    }

    async fn leave(&self, others: Vec<Other>, mut aside: Vec<(Came, Record, Aside)>) -> Result<()> {
        if !others.is_empty() {
            self.sort_out(others, &mut aside).await?;
        }
        self.put_aside(aside).await
    }

    async fn records(&self, came: &[Came]) -> Result<Vec<Record>> {
        let again: Vec<_> = came.iter().filter(|c| c.delivered > 1).map(|c| c.seq).collect();
        let mut known = held::read(&self.streams, &self.consumer, &again).await?.into_iter();
        let of = |one: &Came| match one.delivered {
            1 => Record::default(),
            _ => known.next().unwrap_or_default(),
        };
        Ok(came.iter().map(of).collect())
    }

    /// Tells whether an event is leased here, as a server may not know that has lost what it did last.
    fn is_mine_already(&self, one: &Came) -> bool {
        let mut state = self.state();
        let held = state.held.get_mut(&one.seq).filter(|held| one.at < held.until());
        let Some(held) = held else { return false };
        (held.delivered, held.ack) = (one.delivered, Arc::clone(&one.ack));
        true
    }

    /// Returns what becomes of an event that is not for this group, or not yet to come.
    fn not_now(&self, one: &Came, record: &Record, clock: Option<Timestamp>) -> Option<Aside> {
        if header(one, GROUP).is_some_and(|group| group != self.group) {
            return Some(Aside::Done);
        }
        let due = due(one, record)?;
        let wait = due.since(clock?);
        let is_early = wait > EARLY || (wait > Duration::ZERO && one.delivered == 1);
        is_early.then_some(Aside::Back { delay: wait, due: Some(due), left: false })
    }

    /// Reads an event; tells whether this member wants it.
    fn read(&self, one: &Came) -> (Result<Event, Undecodable>, bool) {
        let message = &one.message;
        let topic = self.streams.to_topic(&message.subject);
        let id = format!("{}:{}", self.streams.events, one.seq);
        let headers = message.headers.as_ref();
        match wire::decode(self.streams.format, &topic, &id, headers, &message.payload) {
            Ok(event) => {
                let fits = self.wants.matches(event.event_type(), event.topic());
                (Ok(event), fits)
            }
            Err(error) => {
                let fits = self.wants.may_match(&topic);
                (Err(Undecodable { raw: message.payload.clone(), error }), fits)
            }
        }
    }

    fn lease_it(&self, one: Came, record: Record, event: Result<Event, Undecodable>) -> Leased {
        let mut state = self.state();
        state.fence += 1;
        let (fence, attempt) = (state.fence, record.attempt(one.delivered));
        let finished = record.ends.keys().cloned().collect();
        let headers = one.message.headers.as_ref();
        let leased = Leased {
            receipt: Receipt { place: one.seq, fence, token: None },
            event,
            attempt,
            lost: record.is_lost(one.delivered),
            finished,
            only: headers.and_then(|headers| wire::get(headers, ONLY)),
        };
        let held = Held {
            fence,
            delivered: one.delivered,
            attempt,
            is_remembered: record.delivered > 0,
            record,
            ack: one.ack,
            message: Arc::new(one.message),
            ends: far(one.at, self.lease),
            sure: far(one.at, self.ack_wait),
        };
        state.held.insert(one.seq, held);
        leased
    }

    /// Leaves to the others what they want, and settles what nobody in the group does.
    async fn sort_out(
        &self,
        others: Vec<Other>,
        aside: &mut Vec<(Came, Record, Aside)>,
    ) -> Result<()> {
        // Read after the events were: who joined before they were published is in it.
        let known = groups::read(&self.streams, &self.consumer).await?;
        let union = known.ok_or_else(|| pruned(&self.group))?.0.interest.compile();
        for (one, record, event) in others {
            let wanted = match &event {
                Ok(event) => union.matches(event.event_type(), event.topic()),
                Err(_) => union.may_match(&self.streams.to_topic(&one.message.subject)),
            };
            let delay = LEFT_MIN.saturating_mul(1 << record.left.min(10)).min(LEFT_MAX);
            let what = match wanted {
                true => Aside::Back { delay, due: None, left: true },
                false => Aside::Done,
            };
            aside.push((one, record, what));
        }
        Ok(())
    }

    /// Gives back or settles what is not handed out.
    async fn put_aside(&self, aside: Vec<(Came, Record, Aside)>) -> Result<()> {
        let mut words = Vec::with_capacity(aside.len());
        let mut writing = Vec::new();
        for (one, mut record, what) in aside {
            let word = match what {
                Aside::Done => Bytes::from_static(ACK),
                Aside::Back { delay, due, left } => {
                    record.attempt = record.attempt(one.delivered).saturating_sub(1);
                    (record.delivered, record.back) = (one.delivered, true);
                    record.due = due.map(Timestamp::as_micros);
                    record.left += u32::from(left);
                    writing.push((one.seq, record));
                    nak(delay)
                }
            };
            words.push((one.ack, word));
        }
        let write = |(seq, record): &(u64, Record)| {
            let (seq, record) = (*seq, record.clone());
            async move { held::write(&self.streams, &self.consumer, seq, &record).await }
        };
        futures_util::future::try_join_all(writing.iter().map(write)).await?;
        say(&self.streams.api.link, words).await
    }

    /// Gives back what came when nobody fetched any more.
    async fn retire(&self) {
        let mut late = self.puller.retire().await;
        late.append(&mut self.state().unread);
        let Ok(records) = self.records(&late).await else { return };
        let back = || Aside::Back { delay: Duration::ZERO, due: None, left: false };
        let all = late.into_iter().zip(records).map(|(one, record)| (one, record, back()));
        if let Err(error) = self.put_aside(all.collect()).await {
            tracing::debug!(%error, "what came late is left to its lease");
        }
    }
}

#[async_trait]
impl Source for Member {
    async fn fetch(&self, max: usize) -> Result<Vec<Leased>> {
        let _fetching = self.fetching.lock().await;
        while !*self.stopped.borrow() {
            match self.once(max.max(1)).await {
                Ok(leased) if leased.is_empty() => {}
                Err(_) if *self.stopped.borrow() => break,
                Err(_) if self.streams.api.link.is_closed() => return Err(closed()),
                ended => return ended,
            }
        }
        self.retire().await;
        Ok(Vec::new())
    }

    async fn settle(&self, batch: &[Settle]) -> Vec<Result<()>> {
        self.settle_all(batch).await
    }

    fn stop(&self) {
        self.stopped.send_replace(true);
    }

    async fn close(&self) -> Result<()> {
        self.stop();
        let _fetching = self.fetching.lock().await;
        self.retire().await;
        Ok(())
    }
}
