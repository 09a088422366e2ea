//! What befalls the calls of a process, by its simulation's luck.

use super::{luck::Fault, world::World};
use crate::{
    error::{Error, ErrorKind},
    testing::fate::{Act, Done, Door, Fate},
};
use futures_util::future::BoxFuture;
use std::{
    fmt,
    future::ready,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

/// For how long no lease is renewed, once one is not.
const LEASES_LOST_FOR: Duration = Duration::from_secs(60);

/// The fate of a process.
pub(super) struct ByLuck {
    pub(super) world: Arc<World>,
    pub(super) process: String,
    pub(super) gone: CancellationToken,
    // What befalls the next publish, if that was asked without being able to wait.
    next: Mutex<Option<Act>>,
    // Until when no lease is renewed.
    leases_lost: Mutex<Option<Instant>>,
}

impl ByLuck {
    pub(super) fn new(world: &Arc<World>, process: &str, gone: &CancellationToken) -> Self {
        let (world, gone, next) = (Arc::clone(world), gone.clone(), Mutex::default());
        let leases_lost = Mutex::default();
        Self { world, process: process.to_owned(), gone, next, leases_lost }
    }

    fn hit(&self, fault: Fault) -> bool {
        self.world.befalls(&self.process, fault)
    }

    /// Tells whether leases are not renewed now: for long enough that they end.
    fn loses_leases(&self) -> bool {
        let mut until = self.leases_lost.lock().unwrap_or_else(PoisonError::into_inner);
        let now = Instant::now();
        if until.is_none_or(|until| until <= now) {
            *until = self.hit(Fault::LeaseLost).then(|| now + LEASES_LOST_FOR);
        }
        until.is_some()
    }

    fn slow(&self) -> Option<Act> {
        let slow = self.hit(Fault::Slow);
        slow.then(|| Act::Delay(Duration::from_millis(self.world.luck().pick(1..20_000))))
    }
}

fn unavailable(operation: &'static str) -> Error {
    Error::new(ErrorKind::Unavailable, operation, "a fault of the simulation")
}

impl Fate for ByLuck {
    fn befalls(&self, door: Door) -> Option<Act> {
        match door {
            Door::Publish => {
                let next = self.next.lock().unwrap_or_else(PoisonError::into_inner).take();
                if next.is_some() {
                    return next;
                }
                if self.hit(Fault::PublishFails) {
                    return Some(Act::Fail(unavailable("publish")));
                }
                if self.hit(Fault::AnswerLost) {
                    return Some(Act::Lose(unavailable("publish")));
                }
                if self.hit(Fault::PublishedTwice) {
                    return Some(Act::Twice);
                }
                self.slow()
            }
            Door::Fetch => {
                if self.hit(Fault::FetchFails) {
                    return Some(Act::Fail(unavailable("fetch")));
                }
                if self.hit(Fault::FetchLost) {
                    return Some(Act::Lose(unavailable("fetch")));
                }
                self.slow()
            }
            Door::Settle => {
                if self.hit(Fault::DeliveredAgain) {
                    return Some(Act::Twice);
                }
                if self.hit(Fault::SettleForgotten) {
                    return Some(Act::Forget);
                }
                self.slow()
            }
            Door::Renew => self.loses_leases().then_some(Act::Forget),
        }
    }

    fn is_now(&self) -> bool {
        let act = self.befalls(Door::Publish);
        let is_now = act.is_none();
        *self.next.lock().unwrap_or_else(PoisonError::into_inner) = act;
        is_now
    }

    fn takes_part(&self) -> bool {
        true
    }

    fn healed(&self) -> BoxFuture<'_, ()> {
        Box::pin(ready(()))
    }

    fn hear(&self, done: &Done<'_>) {
        let what = match done {
            Done::Published(event, Ok(())) => {
                self.world.stored(event);
                format!("publishes {} {}", event.event_type(), event.id())
            }
            Done::Published(event, Err(error)) => {
                format!("can't publish {} {}: {error}", event.event_type(), event.id())
            }
            Done::Leased(group, leased) => self.world.ledger().leased(group, leased),
            Done::Settled(group, settle, Ok(())) => self.world.ledger().settled(group, settle),
            Done::Settled(group, settle, Err(error)) => {
                let id = self.world.ledger().id_of(group, &settle.receipt);
                format!("{group} can't settle {id}: {error}")
            }
            Done::Withdrawn(id) => {
                self.world.ledger().withdrawn(id);
                format!("takes back {id}")
            }
        };
        self.world.note(&self.process, &what);
    }

    fn gone(&self) -> BoxFuture<'_, ()> {
        Box::pin(self.gone.cancelled())
    }
}

impl fmt::Debug for ByLuck {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ByLuck({})", self.process)
    }
}
