//! Who waits for room: first come, first served, without holding up those who go elsewhere.

use crate::{
    error::{Error, Result},
    event::Event,
};
use smallvec::SmallVec;
use std::collections::{BTreeMap, VecDeque};
use tokio::sync::oneshot;

/// The groups that an event goes to, by number.
pub(super) type Ways = SmallVec<[u64; 4]>;

/// An event whose publisher waits until all its groups have room.
#[derive(Debug)]
pub(super) struct Waiter {
    pub(super) number: u64,
    pub(super) connection: u64,
    pub(super) event: Event,
    pub(super) ways: Ways,
    pub(super) told: oneshot::Sender<Result<()>>,
}

/// The publishers that wait, in the order they came.
#[derive(Debug, Default)]
pub(super) struct Line {
    made: u64,
    waiters: VecDeque<Waiter>,
    // How many wait for each group.
    of: BTreeMap<u64, usize>,
}

/// Whether one who waits may go on.
pub(super) enum Way {
    /// All its groups have room.
    Free,
    /// One of them has none.
    Full,
    /// One of them will have none.
    Never(Error),
}

impl Line {
    /// Tells whether someone waits for one of these groups.
    pub(super) fn is_before(&self, ways: &[u64]) -> bool {
        self.waiters.iter().any(|waiter| waiter.ways.iter().any(|way| ways.contains(way)))
    }

    /// Joins the end; returns the number to leave by, and where the result will come.
    pub(super) fn join(
        &mut self,
        connection: u64,
        event: Event,
        ways: Ways,
    ) -> (u64, oneshot::Receiver<Result<()>>) {
        self.made += 1;
        let number = self.made;
        let (told, result) = oneshot::channel();
        ways.iter().for_each(|way| *self.of.entry(*way).or_default() += 1);
        self.waiters.push_back(Waiter { number, connection, event, ways, told });
        (number, result)
    }

    /// Takes out those who need not wait any more: `way` says who may go in, unless somebody before
    /// them waits for the same group. Returns their events.
    ///
    /// It stops where nobody behind can have room, so that a long line costs nothing.
    pub(super) fn admit(&mut self, mut way: impl FnMut(&Event, &[u64]) -> Way) -> Vec<Event> {
        let (mut held, mut at, mut out) = (Ways::new(), 0, Vec::new());
        while held.len() < self.of.len()
            && let Some(waiter) = self.waiters.get(at)
        {
            let behind = waiter.ways.iter().any(|way| held.contains(way));
            let told = match if behind { Way::Full } else { way(&waiter.event, &waiter.ways) } {
                Way::Free => Ok(()),
                Way::Never(error) => Err(error),
                Way::Full => {
                    let new = waiter.ways.iter().filter(|way| !held.contains(way));
                    let new: Ways = new.copied().collect();
                    held.extend(new);
                    at += 1;
                    continue;
                }
            };
            if let Some(waiter) = self.waiters.remove(at) {
                self.left(&waiter.ways);
                // Who does not wait any more has left the line, or is about to.
                let _ = waiter.told.send(told);
                out.push(waiter.event);
            }
        }
        out
    }

    /// Takes out all of whom `leaves` is true.
    pub(super) fn remove(&mut self, leaves: impl Fn(&Waiter) -> bool) -> Vec<Waiter> {
        let (left, stays) = std::mem::take(&mut self.waiters).into_iter().partition(leaves);
        self.waiters = stays;
        let left: VecDeque<Waiter> = left;
        left.iter().for_each(|waiter| self.left(&waiter.ways));
        left.into()
    }

    fn left(&mut self, ways: &[u64]) {
        for way in ways {
            if let Some(count) = self.of.get_mut(way) {
                *count -= 1;
                if *count == 0 {
                    self.of.remove(way);
                }
            }
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.waiters.is_empty()
    }
}
