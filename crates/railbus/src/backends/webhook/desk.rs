//! The events in hand: from the request that brought them to what became of them.

use super::{
    answer::{Answer, LATER},
    ids::{Again, Ids, Known},
    reading::Brought,
    settings::Limits,
};
use crate::{
    backend::{Leased, Receipt, Settle, SharedFilter, Verdict},
    delivery::End,
    event::Event,
};
use std::{
    collections::{HashMap, VecDeque},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};
use tokio::sync::{Notify, OwnedSemaphorePermit, oneshot};

/// What became of an event.
#[derive(Debug, PartialEq)]
pub(super) enum Came {
    Done,
    /// For good: who sends it again begins anew.
    Failed,
    Again(Duration),
    /// It was given back unstarted.
    Back,
}

/// All events in hand, under one lock that is never held for long.
#[derive(Debug)]
pub(super) struct Desk {
    state: Mutex<State>,
    /// Told when there is something to fetch, or nothing any more.
    pub(super) arrived: Notify,
    /// Told when something was settled.
    pub(super) settled: Notify,
}

#[derive(Debug)]
struct State {
    ids: Ids,
    queue: VecDeque<u64>,
    held: HashMap<u64, Held>,
    last: u64,
    member: Option<Member>,
    // Whether anybody ever fetched.
    begun: bool,
    closed: bool,
    swept: Instant,
}

/// Who fetches.
#[derive(Debug)]
struct Member {
    number: u64,
    wants: SharedFilter,
}

#[derive(Debug)]
struct Held {
    key: Arc<str>,
    event: Event,
    attempt: u32,
    // Whether a lease ran out.
    lost: bool,
    finished: Vec<String>,
    fence: u64,
    // None while it waits to be fetched.
    until: Option<Instant>,
    answer: Option<oneshot::Sender<Came>>,
    // The room it takes, for as long as it is in hand, whoever waits for it.
    _room: Arc<OwnedSemaphorePermit>,
}

impl Desk {
    pub(super) fn new(limits: &Limits) -> Self {
        let state = State {
            ids: Ids::new(limits.dedup, limits.ids),
            queue: VecDeque::new(),
            held: HashMap::new(),
            last: 0,
            member: None,
            begun: false,
            closed: false,
            swept: Instant::now(),
        };
        Self { state: Mutex::new(state), arrived: Notify::new(), settled: Notify::new() }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Tells whether events are taken now; if not, what a sender is told.
    pub(super) fn is_open(&self) -> Result<(), Answer> {
        self.lock().check_open()
    }

    /// Takes what a request brought, all of it or none: what was handled before and what nobody wants
    /// is left out. Returns what tells what becomes of the others.
    pub(super) fn take(
        &self,
        brought: Vec<Brought>,
        room: OwnedSemaphorePermit,
    ) -> Result<Vec<oneshot::Receiver<Came>>, Answer> {
        let (now, room) = (Instant::now(), Arc::new(room));
        let mut state = self.lock();
        let state = &mut *state;
        state.check_open()?;
        state.sweep(now);
        let Some(member) = &state.member else { return Err(Answer::NOT_STARTED) };
        let mut fresh: Vec<(Brought, Option<Again>)> = Vec::with_capacity(brought.len());
        for one in brought {
            if !member.wants.matches(one.event.event_type(), one.event.topic()) {
                continue;
            }
            let again = match state.ids.get(&one.key, now) {
                Some(Known::Done) => continue,
                Some(Known::Running) => return Err(Answer::RUNNING),
                Some(Known::Again(again)) if again.not_before > now => {
                    return Err(Answer::again(again.not_before - now));
                }
                Some(Known::Again(again)) => Some(again.clone()),
                None => None,
            };
            // The same twice in one batch is one.
            if fresh.iter().all(|(other, _)| other.key != one.key) {
                fresh.push((one, again));
            }
        }
        let mut waiting = Vec::with_capacity(fresh.len());
        for (Brought { key, event }, again) in fresh {
            let (answer, came) = oneshot::channel();
            state.ids.runs(&key, now);
            state.last += 1;
            let again = again.unwrap_or_else(|| Again::begun_anew(now));
            let Again { tried, lost, finished, .. } = again;
            let attempt = tried.saturating_add(1);
            let (answer, room) = (Some(answer), Arc::clone(&room));
            let held = Held {
                key,
                event,
                attempt,
                lost,
                finished,
                fence: 0,
                until: None,
                answer,
                _room: room,
            };
            state.held.insert(state.last, held);
            state.queue.push_back(state.last);
            waiting.push(came);
        }
        if !waiting.is_empty() {
            self.arrived.notify_waiters();
        }
        Ok(waiting)
    }

    /// Takes the place of whoever fetched before; returns the number of its own.
    pub(super) fn join(&self, wants: SharedFilter) -> u64 {
        let mut state = self.lock();
        state.last += 1;
        let number = state.last;
        (state.member, state.begun) = (Some(Member { number, wants }), true);
        drop(state);
        self.arrived.notify_waiters();
        number
    }

    /// Leaves; what nobody took the place of is given back.
    pub(super) fn leave(&self, number: u64) {
        let mut state = self.lock();
        if state.member.as_ref().is_some_and(|member| member.number == number) {
            state.member = None;
            state.give_up();
        }
        drop(state);
        self.arrived.notify_waiters();
        self.settled.notify_waiters();
    }

    /// Takes nothing any more.
    pub(super) fn close(&self) {
        let mut state = self.lock();
        state.closed = true;
        state.give_up();
        drop(state);
        self.arrived.notify_waiters();
        self.settled.notify_waiters();
    }

    pub(super) fn is_closed(&self) -> bool {
        self.lock().closed
    }

    /// Leases up to `max` events to the member of that number, if it is the one that fetches.
    pub(super) fn fetch(&self, number: u64, lease: Duration, max: usize) -> Vec<Leased> {
        let until = Instant::now() + lease;
        let mut state = self.lock();
        let state = &mut *state;
        if state.member.as_ref().is_none_or(|member| member.number != number) {
            return Vec::new();
        }
        let mut leased = Vec::new();
        while leased.len() < max {
            let Some(place) = state.queue.pop_front() else { break };
            let Some(held) = state.held.get_mut(&place) else { continue };
            state.last += 1;
            (held.fence, held.until) = (state.last, Some(until));
            leased.push(Leased {
                receipt: Receipt { place, fence: held.fence, token: None },
                event: Ok(held.event.clone()),
                attempt: held.attempt,
                lost: held.lost,
                finished: held.finished.clone(),
                only: None,
            });
        }
        leased
    }

    /// Settles one; false if its lease is another's.
    pub(super) fn settle(&self, settle: &Settle, lease: Duration) -> bool {
        let (receipt, now) = (&settle.receipt, Instant::now());
        let mut state = self.lock();
        let state = &mut *state;
        let Some(held) = state.held.get_mut(&receipt.place) else { return false };
        if held.fence != receipt.fence || held.until.is_none() {
            return false;
        }
        let mut failed = false;
        for (name, end) in &settle.ended {
            match end {
                End::Done | End::Unmatched => held.finished.push(name.to_string()),
                _ => failed = true,
            }
        }
        let tried = match settle.verdict {
            Verdict::Extend { tries } => {
                held.attempt = held.attempt.saturating_add(tries);
                held.until = Some(now + lease);
                return true;
            }
            Verdict::Release { .. } => held.attempt - 1,
            _ => held.attempt,
        };
        let Some(mut held) = state.held.remove(&receipt.place) else { return false };
        let finished = std::mem::take(&mut held.finished);
        let again = |tried, wait: Duration| {
            Known::Again(Again { tried, lost: false, not_before: now + wait, finished })
        };
        let came = match settle.verdict {
            // Begun anew by whoever sends it again, but not by those who are through.
            Verdict::Ack if failed => {
                state.ids.note(&held.key, again(0, Duration::ZERO), now);
                Came::Failed
            }
            Verdict::Ack => {
                state.ids.note(&held.key, Known::Done, now);
                Came::Done
            }
            Verdict::Nack { delay } => {
                state.ids.note(&held.key, again(tried, delay), now);
                Came::Again(delay)
            }
            _ => {
                state.ids.note(&held.key, again(tried, Duration::ZERO), now);
                Came::Back
            }
        };
        // Whoever sent it may have gone.
        let _ = held.answer.take().map(|answer| answer.send(came));
        true
    }

    pub(super) fn is_idle(&self) -> bool {
        self.lock().held.is_empty()
    }
}

impl State {
    fn check_open(&self) -> Result<(), Answer> {
        match self.member {
            _ if self.closed => Err(Answer::STOPPING),
            None if self.begun => Err(Answer::STOPPING),
            None => Err(Answer::NOT_STARTED),
            Some(_) => Ok(()),
        }
    }

    /// Gives back all that was not fetched.
    fn give_up(&mut self) {
        for place in std::mem::take(&mut self.queue) {
            let Some(held) = self.held.remove(&place) else { continue };
            match held.attempt > 1 || !held.finished.is_empty() {
                true => {
                    let (tried, now) = (held.attempt - 1, Instant::now());
                    let finished = held.finished;
                    let again = Again { tried, lost: false, not_before: now, finished };
                    self.ids.note(&held.key, Known::Again(again), now);
                }
                false => self.ids.forget(&held.key),
            }
            let _ = held.answer.map(|answer| answer.send(Came::Back));
        }
    }

    /// Lets go of what was leased and never settled: it must come again. Looked for once a second.
    fn sweep(&mut self, now: Instant) {
        if now.duration_since(self.swept) < Duration::from_secs(1) {
            return;
        }
        self.swept = now;
        let over = |_: &u64, held: &mut Held| held.until.is_some_and(|until| until < now);
        for (_, held) in self.held.extract_if(over) {
            let (tried, finished) = (held.attempt, held.finished);
            let again = Again { tried, lost: true, not_before: now, finished };
            self.ids.note(&held.key, Known::Again(again), now);
            let _ = held.answer.map(|answer| answer.send(Came::Again(LATER)));
        }
    }
}
