//! A member's place at its queue: what it holds, and whose turn it is.

use super::{
    held::{Held, Lease},
    message::{ONLY, Reading, read, texts},
    queue::Queue,
    service::Service,
    turns::Turns,
};
use crate::{
    backend::{Leased, Receipt, Settle, SharedFilter, Undecodable},
    error::{Error, ErrorKind},
    event::Event,
};
use aws_sdk_sqs::types::Message;
use std::{
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};
use tokio::sync::Notify;

/// For how many seconds an event is left to others at most.
const LEFT_MAX: i32 = 30;

/// A member's place at its queue.
#[derive(Debug)]
pub(super) struct Seat {
    pub(super) service: Arc<Service>,
    pub(super) queue: Queue,
    pub(super) group: String,
    pub(super) wants: SharedFilter,
    pub(super) reading: Reading,
    /// In whole seconds.
    pub(super) lease: Duration,
    state: Mutex<State>,
    /// Told when somebody's turn has come.
    pub(super) turn: Notify,
}

/// What a member holds, and what waits for its turn.
#[derive(Debug, Default)]
pub(super) struct State {
    pub(super) held: Held,
    pub(super) turns: Turns,
}

impl Seat {
    pub(super) fn new(
        service: Arc<Service>,
        queue: Queue,
        group: String,
        wants: SharedFilter,
        lease: Duration,
    ) -> Self {
        let reading = service.reading();
        let (state, turn) = (Mutex::default(), Notify::new());
        Self { service, queue, group, wants, reading, lease, state, turn }
    }

    pub(super) fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Returns the leases of received messages; those of lines that are busy wait for their turn.
    pub(super) fn come(&self, messages: Vec<Message>) -> Vec<Lease> {
        let (mut state, fifo) = (self.state(), self.queue.is_fifo());
        let begin = |message| Lease::begin(message, self.lease, fifo);
        messages.into_iter().filter_map(begin).filter_map(|lease| state.turns.come(lease)).collect()
    }

    /// Hands out what came; what nobody here wants is left to other members.
    pub(super) async fn hand_out(&self, leases: Vec<Lease>) -> Vec<Leased> {
        let (mut out, mut left) = (Vec::with_capacity(leases.len()), Vec::new());
        for lease in leases {
            match read(&self.reading, &lease.message) {
                Ok(event) if !self.wants.matches(event.event_type(), event.topic()) => {
                    left.push(lease);
                }
                event => out.push((lease, event)),
            }
        }
        self.leave(left).await;
        let mut state = self.state();
        out.into_iter().map(|(lease, event)| self.leased(&mut state, lease, event)).collect()
    }

    fn leased(&self, state: &mut State, lease: Lease, event: Result<Event, Undecodable>) -> Leased {
        let past = self.service.directory.pasts.of(&lease.id);
        let attempt = lease.attempt.saturating_sub(past.unseen).max(1).saturating_add(past.tries);
        let only = texts(&lease.message).remove(ONLY);
        let receipt = state.held.put(lease);
        // What became of the deliveries before is not known: a process may have died of it.
        Leased { receipt, event, attempt, lost: attempt > 1, finished: past.finished, only }
    }

    /// Leaves events to other members, each time for longer.
    async fn leave(&self, leases: Vec<Lease>) {
        if leases.is_empty() {
            return;
        }
        let change = |lease: &Lease| {
            // Whole seconds are the least, and each time costs it a receipt.
            let seconds = i32::try_from(1 + lease.attempt / 4).unwrap_or(i32::MAX);
            (Arc::clone(&lease.receipt), seconds.min(LEFT_MAX))
        };
        let changes: Vec<_> = leases.iter().map(change).collect();
        let hidden = self.queue.hide(&changes).await;
        if let Some(error) = hidden.into_iter().find_map(Result::err) {
            tracing::debug!(%error, "what others want waits until its lease is over");
        }
        for lease in &leases {
            self.unseen(lease);
            self.again(lease).await;
        }
    }

    /// Gives back what was not handed out, so that it comes at once.
    pub(super) async fn give_back(&self, leases: Vec<Lease>) {
        if leases.is_empty() {
            return;
        }
        let changes: Vec<_> = leases.iter().map(|lease| (Arc::clone(&lease.receipt), 0)).collect();
        let hidden = self.queue.hide(&changes).await;
        if let Some(error) = hidden.into_iter().find_map(Result::err) {
            tracing::debug!(%error, "what was given back comes when its lease is over");
        }
        leases.iter().for_each(|lease| self.unseen(lease));
    }

    /// Notes that an event was received and not handed out.
    fn unseen(&self, lease: &Lease) {
        self.service.directory.pasts.note(&lease.id, |past| past.unseen += 1);
    }

    /// Ends the turn of an event that is through.
    pub(super) fn through(&self, lease: &Lease) {
        self.service.directory.pasts.forget(&lease.id);
        let line = lease.line.as_ref();
        if line.is_some_and(|line| self.state().turns.through(line)) {
            self.turn.notify_one();
        }
    }

    /// Ends the turn of an event that comes again: those behind it go back, and come after it.
    pub(super) async fn again(&self, lease: &Lease) {
        let Some(line) = &lease.line else { return };
        let behind = self.state().turns.again(line);
        self.give_back(behind).await;
    }

    /// Takes up to so many whose turn has come, as long as they are held; the rest go back.
    pub(super) fn next_turns(&self, most: usize) -> Vec<Lease> {
        let mut state = self.state();
        state.turns.take(most)
    }

    /// Takes out what is settled for good; none if it is lost.
    pub(super) fn take(&self, settle: &Settle) -> Result<Lease, Error> {
        self.state().held.take(&settle.receipt).ok_or_else(|| stale(&settle.receipt))
    }
}

/// Says that a lease was lost.
pub(super) fn stale(receipt: &Receipt) -> Error {
    let why = "the lease ran out, or was settled before";
    Error::new(ErrorKind::Stale, "settle", why).with("attempt", receipt.fence)
}
