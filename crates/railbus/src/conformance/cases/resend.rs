//! What a handler fails at comes again.

use crate::{
    backend::{Broadcast, Start, Verdict},
    bus::On,
    conformance::{
        finding::{Checked, Finding, ensure},
        refusal::no_groups,
        stage::{LONG_LEASE, Stage, literal},
    },
    delivery::Delivery,
    predicate,
    retry::Retry,
};
use std::{collections::BTreeMap, time::Duration};
use tokio::sync::mpsc;

/// How many tries each event takes.
const TRIES: u32 = 3;

/// An event whose handler fails twice is handled at the third try, each counted: in place, held
/// back by the backend, and as a broadcast where its policy says so.
pub(super) async fn resend_on_error(stage: &Stage) -> Checked<Finding> {
    let soon = Duration::from_millis(1);
    if stage.capability.broadcast != Broadcast::None {
        fails_twice(stage, "broadcast", None, soon).await?;
    }
    if !stage.capability.groups {
        no_groups(stage).await?;
        return Ok(Finding::Passed(None));
    }
    fails_twice(stage, "in place", Some(LONG_LEASE), soon).await?;
    // Longer than a third of the lease: the event goes back meanwhile.
    let lease = stage.lease() * 3;
    fails_twice(stage, "given back", Some(lease), lease * 2 / 5).await?;
    nacked(stage).await.map_err(|broken| broken.within("a source"))?;
    Ok(Finding::Passed(None))
}

async fn fails_twice(
    stage: &Stage,
    what: &str,
    group: Option<Duration>,
    wait: Duration,
) -> Checked {
    let topic = stage.topic(what);
    let (near, far) = stage.pair().await?;
    let (says, mut said) = mpsc::unbounded_channel();
    let retry = Retry::attempts(TRIES).backoff_factor(wait).max_backoff(wait);
    let on: On = far.on(predicate::topic(&literal(&topic))).retry(retry);
    let on = match group {
        Some(lease) => on.group(stage.group(what)).from(Start::Newest).lease(lease),
        None => on,
    };
    on.run(move |delivery: Delivery| {
        // The case may be over.
        let _ = says.send((delivery.event().id().to_owned(), delivery.attempt()));
        if delivery.attempt() < TRIES { Err("not yet") } else { Ok(()) }
    })
    .await?;
    let events = stage.events(&topic, stage.counts.events.min(20));
    for event in &events {
        near.publish(event.clone()).await?;
    }
    let mut tries: BTreeMap<String, Vec<u32>> = BTreeMap::new();
    for n in 0..events.len() * TRIES as usize {
        let (id, attempt) = stage
            .within(&format!("try {} in all, {what}", n + 1), said.recv())
            .await?
            .unwrap_or_default();
        tries.entry(id).or_default().push(attempt);
    }
    far.close_within(stage.patience).await?;
    ensure(said.try_recv().is_err(), || format!("more tries than {TRIES}, {what}"))?;
    for event in &events {
        let found = tries.get(event.id());
        ensure(found.is_some_and(|tries| tries.iter().copied().eq(1..=TRIES)), || {
            format!("the tries of {} were {found:?}, {what}", event.id())
        })?;
    }
    Ok(())
}

/// The same without the engine: given back at once, and handled by whoever gets it next.
async fn nacked(stage: &Stage) -> Checked {
    let (topic, group) = (stage.topic("nacked"), stage.group("nacked"));
    let (near, far) = (stage.open().await?, stage.open().await?);
    let one = stage.join(&near, &group, &topic, stage.lease()).await?;
    let other = stage.join(&far, &group, &topic, stage.lease()).await?;
    stage.publish(&near, &stage.events(&topic, 1)).await?;
    for seat in [&one, &other, &one] {
        let leased = seat.next().await?;
        seat.settle(&leased.receipt, Verdict::Nack { delay: Duration::ZERO }).await??;
    }
    let last = other.next().await?;
    ensure(!stage.capability.counts_attempts || last.attempt == 4, || {
        format!("given back three times, and then delivered as attempt {}", last.attempt)
    })?;
    other.ack(&last).await?;
    other.nothing_else().await
}
