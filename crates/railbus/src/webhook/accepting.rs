//! Handing on to a durable bus what requests bring: who sent it is told when the bus has it.

use crate::{
    backend::{Outgoing, Receipt, Settle, Source, Verdict},
    bus::Bus,
    delivery::End,
    error::Error,
};
use std::{sync::Arc, time::Duration};

/// How many events are published at once.
const BATCH: usize = 256;

/// How soon a sender may come again whose event the bus could not take.
const AGAIN: Duration = Duration::from_secs(5);

/// Publishes until the source stops.
pub(super) async fn hand_on(source: Arc<dyn Source>, bus: Bus) {
    loop {
        let leased = match source.fetch(BATCH).await {
            Ok(leased) if leased.is_empty() => return,
            Ok(leased) => leased,
            Err(error) => return tracing::error!(%error, "webhooks are not taken any more"),
        };
        let taken = leased.into_iter().filter_map(|one| Some((one.receipt, one.event.ok()?)));
        let (receipts, events): (Vec<Receipt>, Vec<Outgoing>) =
            taken.map(|(receipt, event)| (receipt, event.into())).unzip();
        let results = bus.publish_all(&events).await;
        let settles = receipts.into_iter().zip(results);
        let settles: Vec<_> =
            settles.map(|(receipt, result)| settle(receipt, result.err())).collect();
        drop(source.settle(&settles).await);
    }
}

fn settle(receipt: Receipt, refused: Option<Error>) -> Settle {
    let Some(error) = refused else { return Settle::new(receipt, Verdict::Ack) };
    tracing::warn!(%error, "the bus did not take a webhook's event");
    if error.is_retryable() {
        return Settle::new(receipt, Verdict::Nack { delay: AGAIN });
    }
    let mut settle = Settle::new(receipt, Verdict::Ack);
    settle.ended.push(("".into(), End::Failed(error.to_string())));
    settle
}
