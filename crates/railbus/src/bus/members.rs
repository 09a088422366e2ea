//! The memberships of a bus: its groups, and its ear for broadcasts.

use crate::{
    backend::{Order, Source, Start},
    consumer::{Credits, Group, Pull},
    error::Error,
    predicate::Interest,
};
use std::{
    collections::HashMap,
    future::Future,
    sync::{Arc, atomic::AtomicU64},
    time::Duration,
};

/// The open memberships of a bus. One lock: opening is rare, and two openings of one group must
/// not overtake each other.
#[derive(Default)]
pub(super) struct Members {
    pub(super) groups: HashMap<String, Member>,
    pub(super) listening: Option<Ear>,
    /// What ended listening for good; whoever subscribes next begins anew.
    pub(super) deaf: Option<Error>,
    // Members that were replaced: they fetch no more, but finish what they hold.
    former: Vec<Arc<Group>>,
}

/// What brings the broadcasts, and how many of them have been handed on.
#[derive(Clone)]
pub(super) struct Ear {
    pub(super) source: Arc<dyn Source>,
    pub(super) heard: Arc<AtomicU64>,
}

pub(super) struct Member {
    pub(super) interest: Interest,
    pub(super) terms: Terms,
    pub(super) group: Arc<Group>,
}

/// What a group's subscriptions ask of its membership, together.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Terms {
    pub(super) lease: Duration,
    /// The smallest limit among them: an event may be several subscriptions' at once.
    pub(super) limit: Option<usize>,
    pub(super) start: Start,
    /// By key if one of them asks for it.
    pub(super) order: Order,
    pub(super) pull: Pull,
    pub(super) credits: Credits,
}

impl Terms {
    pub(super) fn join(&self, other: &Self) -> Self {
        let limit = match (self.limit, other.limit) {
            (Some(a), Some(b)) => Some(a.min(b)),
            (a, b) => a.or(b),
        };
        let order = if other.order == Order::Any { self.order } else { other.order };
        let (pull, credits) = (self.pull.join(other.pull), self.credits.join(&other.credits));
        let (lease, start) = (self.lease.max(other.lease), self.start);
        Self { lease, limit, start, order, pull, credits }
    }
}

impl Member {
    /// Tells whether it ended by itself, so that it must be opened anew.
    pub(super) fn has_failed(&self) -> bool {
        self.group.failed().borrow().is_some()
    }

    /// Returns what will end it by itself, for who waits for it meanwhile.
    pub(super) fn failure(&self) -> impl Future<Output = Error> + Send + use<> {
        let mut failed = self.group.failed();
        async move {
            let error = failed.wait_for(Option::is_some).await.ok().and_then(|e| e.clone());
            match error {
                Some(error) => error,
                // It ended in order.
                None => std::future::pending().await,
            }
        }
    }
}

impl Members {
    /// Puts a member, or none, in the place of the one before, which finishes what it holds.
    pub(super) fn replace(&mut self, name: &str, member: Option<Member>) {
        self.former.retain(|group| !group.is_over());
        let before = match member {
            Some(member) => self.groups.insert(name.into(), member),
            None => self.groups.remove(name),
        };
        if let Some(before) = before {
            before.group.stop();
            self.former.push(before.group);
        }
    }

    /// Stops all fetching.
    pub(super) fn stop(&self) {
        self.groups.values().for_each(|m| m.group.stop());
        if let Some(ear) = &self.listening {
            ear.source.stop();
        }
    }

    /// Waits for all deliveries, until the deadline, and ends the memberships: no task of theirs
    /// outlives a bus that was closed, even if somebody still holds the bus.
    pub(super) async fn drain(&mut self, deadline: Duration) {
        let all = self.groups.values().map(|m| &m.group).chain(&self.former);
        futures_util::future::join_all(all.map(|g| g.drain(deadline))).await;
        self.groups.clear();
        self.former.clear();
    }
}
