//! Who waits for room: first come, first served, without holding up those who go elsewhere.

use crate::{error::Result, event::Event};
use smallvec::SmallVec;
use std::collections::VecDeque;
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
        self.waiters.push_back(Waiter { number, connection, event, ways, told });
        (number, result)
    }

    /// Takes out those whose groups all have room and whom nobody before them waits for.
    pub(super) fn admit(&mut self, mut enters: impl FnMut(&Event, &[u64]) -> bool) {
        let (mut held, mut at) = (Ways::new(), 0);
        while let Some(waiter) = self.waiters.get(at) {
            let free = !waiter.ways.iter().any(|way| held.contains(way));
            if free && enters(&waiter.event, &waiter.ways) {
                if let Some(waiter) = self.waiters.remove(at) {
                    // Who does not wait any more has left the line, or is about to.
                    let _ = waiter.told.send(Ok(()));
                }
                continue;
            }
            for way in &waiter.ways {
                if !held.contains(way) {
                    held.push(*way);
                }
            }
            at += 1;
        }
    }

    /// Takes out all of whom `leaves` is true.
    pub(super) fn remove(&mut self, leaves: impl Fn(&Waiter) -> bool) -> Vec<Waiter> {
        let (left, stays) = std::mem::take(&mut self.waiters).into_iter().partition(leaves);
        self.waiters = stays;
        let left: VecDeque<Waiter> = left;
        left.into()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.waiters.is_empty()
    }
}
