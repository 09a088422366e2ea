//! Deliveries that are settled by hand.

use super::{call::run_entry, entry::Entry, shared::Shared};
use crate::{
    backend::{Receipt, Settle, Verdict},
    delivery::{Asked, ByHand, Delivery, End, Lease, Nack, Outcome, Told},
};
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
            loop {
                tokio::select! {
                    // First: who ends with it need not be told before the end.
                    biased;
                    outcome = &mut running => break outcome,
                    Some(asked) = asks.recv() => self.while_it_runs(shared, entry, asked).await,
                }
            }
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

    /// Does at once what the handler asks for, which may wait for it. A nack takes effect when it is
    /// through: nobody gets the event while it works.
    async fn while_it_runs(&mut self, shared: &Shared, entry: &Entry, asked: Asked) {
        let Asked { hand, told } = asked;
        let mut extend = Settle::new(self.receipt.clone(), Verdict::Extend { tries: 0 });
        if let ByHand::Ack = hand {
            // From here on it does not come again, even if the process dies.
            extend.ended = vec![(Arc::clone(&entry.name), End::Done)];
        }
        self.settled = true;
        // Who does not wait need not be told.
        drop(told.send(shared.settler.settle(extend).await));
        self.decide(hand);
    }

    /// Waits for what is decided after the handler has returned.
    async fn after(&mut self, shared: &Shared, asks: &mut mpsc::UnboundedReceiver<Asked>) {
        while self.decided.is_none()
            && let Some(Asked { hand, told }) = asks.recv().await
        {
            if let ByHand::Extend = hand {
                let extend = Settle::new(self.receipt.clone(), Verdict::Extend { tries: 0 });
                drop(told.send(shared.settler.settle(extend).await));
                continue;
            }
            self.told = Some(told);
            self.decide(hand);
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
