//! Deliveries that are settled by hand.

use super::{call::run_entry, entry::Entry, shared::Shared};
use crate::{
    backend::{Receipt, Settle, Verdict},
    delivery::{Asked, ByHand, Delivery, End, Lease, Nack, Outcome, Told},
};
use futures_util::future::{Fuse, FusedFuture, FutureExt};
use std::{pin::pin, sync::Arc, time::Duration};
use tokio::sync::mpsc;

/// A call of a handler that settles by hand.
pub(super) struct Hand<'a> {
    delivery: &'a Delivery,
    receipt: &'a Receipt,
    decided: Option<Outcome>,
    // Whether the store has heard of it already.
    settled: bool,
    told: Option<Told>,
}

impl<'a> Hand<'a> {
    pub(super) fn new(delivery: &'a Delivery, receipt: &'a Receipt) -> Self {
        Self { delivery, receipt, decided: None, settled: false, told: None }
    }

    /// Tells whether something of it was settled already.
    pub(super) fn has_settled(&self) -> bool {
        self.settled
    }

    /// Returns who waits for the settlement of the delivery.
    pub(super) fn told(self) -> Option<Told> {
        self.told
    }

    /// Runs the handler, and waits until the lease was settled by hand; what was decided so wins
    /// over the outcome.
    pub(super) async fn run(&mut self, shared: &Shared, entry: &Entry) -> Outcome {
        let (lease, mut asks) = Lease::new();
        self.delivery.marks.leave_lease(lease);
        let outcome = {
            let mut running = pin!(run_entry(entry, self.delivery));
            // Beside the handler: not all wait for what they ask for.
            let mut settling = pin!(Fuse::terminated());
            let outcome = loop {
                tokio::select! {
                    // First: who ends with it need not be told before the end.
                    biased;
                    outcome = &mut running => break outcome,
                    hand = &mut settling => self.decide(hand),
                    Some(asked) = asks.recv(), if settling.is_terminated() => {
                        self.settled = true;
                        settling.set(at_once(shared, self.early(entry, &asked), asked).fuse());
                    }
                }
            };
            if !settling.is_terminated() {
                self.decide(settling.await);
            }
            outcome
        };
        // A lease that the handler did not take must not be waited for.
        drop(self.delivery.take_lease());
        self.after(shared, &mut asks).await;
        match (self.decided.take(), outcome) {
            (Some(decided), _) => decided,
            (None, Outcome::Done) => {
                Outcome::Nacked(Nack { delay: Duration::ZERO, reason: "unsettled".into() })
            }
            (None, outcome) => outcome,
        }
    }

    /// Returns how what is asked for while the handler runs is settled at once. A nack takes effect
    /// when it is through: nobody gets the event while it works.
    fn early(&self, entry: &Entry, asked: &Asked) -> Settle {
        let mut extend = self.extend();
        if let ByHand::Ack = asked.hand {
            // From here on it does not come again, even if the process dies.
            extend.ended = vec![(Arc::clone(&entry.name), End::Done)];
        }
        extend
    }

    fn extend(&self) -> Settle {
        Settle::new(self.receipt.clone(), Verdict::Extend { tries: 0 })
    }

    /// Waits for what is decided after the handler has returned.
    async fn after(&mut self, shared: &Shared, asks: &mut mpsc::UnboundedReceiver<Asked>) {
        while self.decided.is_none()
            && let Some(asked) = asks.recv().await
        {
            if let ByHand::Extend = asked.hand {
                at_once(shared, self.extend(), asked).await;
                continue;
            }
            self.told = Some(asked.told);
            self.decide(asked.hand);
        }
    }

    fn decide(&mut self, hand: ByHand) {
        match hand {
            ByHand::Ack => self.decided = Some(Outcome::Done),
            ByHand::Nack(nack) => self.decided = Some(Outcome::Nacked(nack)),
            ByHand::Extend => {}
        }
    }
}

/// Settles what is asked for and tells who asked; returns what it was.
async fn at_once(shared: &Shared, settle: Settle, asked: Asked) -> ByHand {
    let Asked { hand, told } = asked;
    // Who does not wait need not be told.
    drop(told.send(shared.settler.settle(settle).await));
    hand
}
