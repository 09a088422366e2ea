//! A group: what it wants, who is in it, what it has not settled.

use super::queue::Queue;
use crate::{
    backend::{GroupInfo, Leased, Order, SharedFilter},
    clock::Timestamp,
    error::{Error, ErrorKind},
    event::Event,
    predicate::{Filter, Interest},
};
use std::{sync::Arc, time::Duration};
use tokio::{sync::Notify, time::Instant};

/// A group of one memory.
#[derive(Debug)]
pub(super) struct Group {
    pub(super) name: Arc<str>,
    interest: Interest,
    wanted: Filter,
    members: Vec<Member>,
    pub(super) queue: Queue,
    last_seen: Timestamp,
}

/// A source that is open and was not stopped.
#[derive(Debug)]
pub(super) struct Member {
    number: u64,
    connection: u64,
    interest: Interest,
    wants: SharedFilter,
    wake: Arc<Notify>,
    // Whether it waits to be woken.
    sleeping: bool,
}

/// What a member finds when it asks for events.
pub(super) enum Found {
    Events(Vec<Leased>),
    /// Nothing before this time, unless it is woken.
    Nothing(Option<Instant>),
    /// It was stopped.
    Stopped,
    /// The group was pruned.
    Gone,
}

impl Member {
    pub(super) fn new(
        number: u64,
        connection: u64,
        interest: Interest,
        wants: SharedFilter,
        wake: Arc<Notify>,
    ) -> Self {
        Self { number, connection, interest, wants, wake, sleeping: false }
    }
}

impl Group {
    pub(super) fn new(name: &str) -> Self {
        Self {
            name: name.into(),
            interest: Interest::default(),
            wanted: Filter::default(),
            members: Vec::new(),
            queue: Queue::default(),
            last_seen: Timestamp::now(),
        }
    }

    pub(super) fn wants(&self, event: &Event) -> bool {
        self.wanted.matches(event.event_type(), event.topic())
    }

    pub(super) fn is_full(&self, most: usize) -> bool {
        self.queue.len() >= most
    }

    /// Tells whether it is full and nobody is there who could make room: who wants nothing of what
    /// is in it can't, and holds nothing either.
    pub(super) fn is_hopeless(&self, most: usize) -> bool {
        let helps = || self.queue.leased() > 0 || self.queue.has(&self.wanted);
        self.is_full(most) && (self.members.is_empty() || !helps())
    }

    pub(super) fn join(&mut self, member: Member, order: Order) {
        if order == Order::ByKey {
            self.queue.order_by_key();
        }
        self.queue.join(member.number, member.wants.clone());
        self.members.push(member);
        self.changed();
    }

    /// Lets those go of whose number or connection `leaves` is true.
    pub(super) fn leave(&mut self, leaves: impl Fn(u64, u64) -> bool) {
        let before = self.members.len();
        self.members.retain(|member| {
            let leaves = leaves(member.number, member.connection);
            if leaves {
                self.queue.leave(member.number);
                member.wake.notify_one();
            }
            !leaves
        });
        if self.members.len() < before {
            self.changed();
        }
    }

    /// Takes in who the members are by now. When the last one has left, what they wanted stays
    /// wanted, so that nothing is lost until somebody joins again.
    fn changed(&mut self) {
        if !self.members.is_empty() {
            let mut interest = Interest::default();
            for member in &self.members {
                interest.add(&member.interest);
            }
            self.wanted = interest.compile();
            self.interest = interest;
        }
        // One of those who left may have been woken for something.
        self.wake_all();
    }

    /// Tells all members that the group is no more.
    pub(super) fn end(&self) {
        self.members.iter().for_each(|member| member.wake.notify_one());
    }

    /// Wakes who waits for an event like this one.
    pub(super) fn wake(&mut self, event: &Event, held_back: bool) {
        if held_back {
            // Whoever is free when its time comes must have known the time.
            return self.wake_all();
        }
        let (event_type, topic) = (event.event_type(), event.topic());
        let wants = |m: &&mut Member| m.sleeping && m.wants.matches(event_type, topic);
        if let Some(member) = self.members.iter_mut().find(wants) {
            member.sleeping = false;
            member.wake.notify_one();
        }
    }

    fn wake_all(&mut self) {
        for member in self.members.iter_mut().filter(|member| member.sleeping) {
            member.sleeping = false;
            member.wake.notify_one();
        }
    }

    /// Takes note that a member stopped waiting by itself; what it was woken for is for others.
    pub(super) fn stopped_waiting(&mut self, number: u64) {
        if let Some(member) = self.members.iter_mut().find(|member| member.number == number) {
            member.sleeping = false;
        }
        self.wake_all();
    }

    /// Leases to a member what it wants, or says how long there is nothing.
    pub(super) fn claim(&mut self, number: u64, lease: Duration, max: usize) -> Found {
        let Some(member) = self.members.iter_mut().find(|member| member.number == number) else {
            return Found::Stopped;
        };
        let end = self.queue.earliest_end();
        let events = self.queue.claim((number, &member.wants), lease, max);
        member.sleeping = events.is_empty();
        if member.sleeping {
            return Found::Nothing(self.queue.next_due(number));
        }
        self.last_seen = Timestamp::now();
        if self.members.len() > 1 && end != self.queue.earliest_end() {
            // Those who sleep must wake when the first lease may have run out.
            self.wake_all();
        }
        Found::Events(events)
    }

    pub(super) fn info(&self, dead_letters: u64) -> GroupInfo {
        GroupInfo {
            name: self.name.to_string(),
            interest: self.interest.clone(),
            lag: self.queue.len() as u64,
            leased: self.queue.leased() as u64,
            dead_letters,
            last_seen: self.last_seen,
        }
    }

    /// Builds the error for an event that has no room here.
    pub(super) fn overloaded(&self, most: usize, event: &Event) -> Error {
        let why = format!("the group `{}` is full: {most} events are not settled", self.name);
        let hint = match self.is_hopeless(most) {
            true => {
                "nobody handles them any more: subscribe to what is in the group again, or prune it"
            }
            false => {
                "inside a handler publish does not wait for room: publish less there, or give the \
                 memory longer queues, such as memory:?queue=100000"
            }
        };
        Error::new(ErrorKind::Overloaded, "publish", why).with("event", event.id()).hint(hint)
    }
}
