//! What a member holds, and until when by its own clock: SQS itself checks no settlement.

use super::message::{number, system};
use crate::backend::Receipt;
use aws_sdk_sqs::types::{Message, MessageSystemAttributeName};
use std::{collections::HashMap, sync::Arc, time::Duration};
use tokio::time::Instant;

/// Which part of a lease is not relied upon: the answer that brought it was on its way for a while.
const MARGIN: u32 = 10;

/// How much of it is not relied upon at most.
const MARGIN_MAX: Duration = Duration::from_millis(500);

/// An event that is held.
#[derive(Clone, Debug)]
pub(super) struct Lease {
    pub(super) message: Arc<Message>,
    pub(super) id: Arc<str>,
    pub(super) receipt: Arc<str>,
    /// What keeps its order, in a FIFO queue.
    pub(super) line: Option<Arc<str>>,
    pub(super) attempt: u32,
    /// When it was received, and until when it is ours.
    pub(super) since: Instant,
    pub(super) until: Instant,
}

impl Lease {
    /// Begins a lease with the answer that brought it; none if the answer lacks what settles it.
    pub(super) fn begin(message: Message, lease: Duration, fifo: bool) -> Option<Self> {
        let since = Instant::now();
        // Standard queues have groups of messages as well, for another purpose.
        let line = fifo.then(|| system(&message, &MessageSystemAttributeName::MessageGroupId));
        let line = line.flatten().map(Arc::from);
        let count = number(&message, &MessageSystemAttributeName::ApproximateReceiveCount);
        Some(Self {
            id: message.message_id()?.into(),
            receipt: message.receipt_handle()?.into(),
            line,
            attempt: count.and_then(|count| u32::try_from(count).ok()).unwrap_or(1).max(1),
            since,
            until: since + lease - (lease / MARGIN).min(MARGIN_MAX),
            message: Arc::new(message),
        })
    }
}

/// All that a member holds, by the places that its receipts name.
#[derive(Debug, Default)]
pub(super) struct Held {
    next: u64,
    by_place: HashMap<u64, Lease>,
    by_id: HashMap<Arc<str>, u64>,
}

impl Held {
    /// Takes a lease; one of the same event before it is lost. Returns what settles it.
    pub(super) fn put(&mut self, lease: Lease) -> Receipt {
        self.next += 1;
        let (place, fence) = (self.next, u64::from(lease.attempt));
        if let Some(before) = self.by_id.insert(Arc::clone(&lease.id), place) {
            self.by_place.remove(&before);
        }
        self.by_place.insert(place, lease);
        Receipt { place, fence, token: None }
    }

    /// Takes a lease out, if it is ours still.
    pub(super) fn take(&mut self, receipt: &Receipt) -> Option<Lease> {
        let lease = self.by_place.remove(&receipt.place)?;
        if self.by_id.get(&lease.id) == Some(&receipt.place) {
            self.by_id.remove(&lease.id);
        }
        (lease.until > Instant::now()).then_some(lease)
    }

    /// Puts a lease back whose settlement came to nothing.
    pub(super) fn put_back(&mut self, receipt: &Receipt, lease: Lease) {
        // It may have come again meanwhile.
        if !self.by_id.contains_key(&lease.id) {
            self.by_id.insert(Arc::clone(&lease.id), receipt.place);
            self.by_place.insert(receipt.place, lease);
        }
    }

    /// Returns a lease, if it is ours still.
    pub(super) fn get(&self, receipt: &Receipt) -> Option<Lease> {
        let lease = self.by_place.get(&receipt.place)?;
        (lease.until > Instant::now()).then(|| lease.clone())
    }

    /// Notes until when a lease was extended.
    pub(super) fn extend(&mut self, receipt: &Receipt, until: Instant) {
        if let Some(lease) = self.by_place.get_mut(&receipt.place) {
            lease.until = until;
        }
    }

    /// Forgets what was lost; returns the lines whose turn that was.
    pub(super) fn forget_lost(&mut self) -> Vec<Arc<str>> {
        let now = Instant::now();
        let lost: Vec<_> =
            self.by_place.iter().filter(|(_, lease)| lease.until <= now).map(|(p, _)| *p).collect();
        let lost = lost.into_iter().filter_map(|place| self.by_place.remove(&place));
        let mut lines = Vec::new();
        for lease in lost {
            self.by_id.remove(&lease.id);
            lines.extend(lease.line);
        }
        lines
    }
}
