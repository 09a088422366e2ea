//! From an input to the bus: batch by batch, each with the position it moves.

use super::open::{Bus, WeakBus};
use crate::{
    backend::{Outgoing, RunMark},
    error::{Error, ErrorKind, Result},
    event::Event,
    input::EventInput,
};
use serde_json::json;
use std::{future::Future, pin::pin, time::Duration};

/// The waits while the backend can't be reached; after the last the input gives up.
const PATIENCE: [Duration; 6] = [
    Duration::from_millis(100),
    Duration::from_millis(500),
    Duration::from_secs(1),
    Duration::from_secs(3),
    Duration::from_secs(10),
    Duration::from_secs(15),
];

/// Publishes what an input has until it ends, `stop` is over or the bus is gone.
///
/// # Errors
/// Returns what the input or the bus said when it can't go on. What was read but not published is
/// read again by who resumes it.
pub(crate) async fn feed(
    input: &mut dyn EventInput,
    bus: WeakBus,
    run: Option<RunMark>,
    stop: impl Future<Output = ()> + Send,
) -> Result<()> {
    let mut stop = pin!(stop);
    loop {
        let batch = tokio::select! {
            biased;
            () = &mut stop => return Ok(()),
            batch = input.next() => batch?,
        };
        // What waits for its input does not keep a bus alive that nobody has any more.
        let Some(bus) = bus.upgrade().filter(|_| !batch.is_empty()) else { return Ok(()) };
        let most = bus.capability().payload_max;
        let batch: Vec<_> = batch.into_iter().map(|o| prepare(o, most, run)).collect();
        match publish(&bus, &batch).await {
            Ok(()) => input.published().await,
            Err(e) if e.kind() == ErrorKind::Stale => resume(input, &bus).await?,
            Err(e) => return Err(e.with("input", input.name())),
        }
    }
}

/// Goes to where the input was left off.
pub(crate) async fn resume(input: &mut dyn EventInput, bus: &Bus) -> Result<()> {
    let position = match bus.accounts() {
        Some(accounts) => accounts.position(input.name()).await?,
        None => None,
    };
    input.resume(position).await
}

/// Marks an event as this run's; one that the backend would refuse goes to the dead letters, so
/// that those behind it are not held up.
fn prepare(mut outgoing: Outgoing, payload_max: usize, run: Option<RunMark>) -> Outgoing {
    outgoing.run = run;
    let event = &outgoing.event;
    let size = event.raw_payload().text().map_or(0, |text| text.len());
    let refused = match event.check() {
        Err(e) => Some(e.to_string()),
        Ok(()) if size > payload_max => {
            Some(format!("the payload has {size} bytes; the backend takes {payload_max}"))
        }
        Ok(()) => None,
    };
    if let (Some(reason), None) = (refused, &outgoing.rejected) {
        let source = event.source().to_owned();
        outgoing.event = Event::new("railbus.rejected")
            .id(event.id().chars().take(64).collect::<String>())
            .source(source)
            .payload(json!({ "reason": reason }));
        outgoing.rejected = Some(reason);
    }
    outgoing
}

/// Publishes a batch; while the backend can't be reached, what is left of it again.
async fn publish(bus: &Bus, batch: &[Outgoing]) -> Result<()> {
    let mut left = batch.to_vec();
    for wait in PATIENCE.iter().map(Some).chain([None]) {
        let results = bus.publish_all(&left).await;
        let mut failed: Option<Error> = None;
        left = left
            .into_iter()
            .zip(results)
            .filter_map(|(outgoing, result)| {
                let error = result.err()?;
                failed.get_or_insert(error);
                Some(outgoing)
            })
            .collect();
        match (failed, wait) {
            (None, _) => return Ok(()),
            (Some(e), Some(wait)) if e.kind() == ErrorKind::Unavailable => {
                tracing::warn!(error = %e, again_in = ?wait, "an input's events wait");
                tokio::time::sleep(*wait).await;
            }
            (Some(e), _) => return Err(e),
        }
    }
    Ok(())
}
