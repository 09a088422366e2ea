//! A bus is idle when all is handled, and not before.

use crate::{
    backend::{Broadcast, Start},
    bus::Bus,
    conformance::{
        finding::{Broken, Checked, Finding, ensure},
        refusal::no_groups,
        stage::{LONG_LEASE, Stage, literal},
    },
    event::Event,
    predicate,
};
use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering::SeqCst},
};
use tokio::sync::{Notify, Semaphore};

/// Who waits until a bus is idle waits until what was published before is handled, by listeners and
/// by groups, and no longer.
pub(super) async fn idle(stage: &Stage) -> Checked<Finding> {
    if stage.capability.broadcast != Broadcast::None {
        let (near, far) = stage.pair().await?;
        waits(stage, &near, &far, None).await.map_err(|broken| broken.within("broadcast"))?;
    }
    if !stage.capability.groups {
        no_groups(stage).await?;
        return Ok(Finding::Passed(None));
    }
    let (near, far) = (stage.bus().await?, stage.bus().await?);
    let group = stage.group("idle");
    waits(stage, &near, &far, Some(group)).await.map_err(|broken| broken.within("group"))?;
    Ok(Finding::Passed(None))
}

async fn waits(stage: &Stage, near: &Bus, far: &Bus, group: Option<String>) -> Checked {
    let topic = stage.topic(if group.is_some() { "grouped" } else { "heard" });
    let (gate, begun) = (Arc::new(Semaphore::new(0)), Arc::new(Notify::new()));
    let handled = Arc::<AtomicUsize>::default();
    let (waits, begins, counts) = (Arc::clone(&gate), Arc::clone(&begun), Arc::clone(&handled));
    let on = far.on(predicate::topic(&literal(&topic)));
    let inline = group.is_none() && stage.capability.broadcast == Broadcast::Inline;
    let on = match group {
        Some(group) => on.group(group).from(Start::Newest).lease(LONG_LEASE),
        None => on,
    };
    on.run(async move |_: Event| {
        begins.notify_one();
        // The case may be over.
        drop(waits.acquire().await);
        counts.fetch_add(1, SeqCst);
    })
    .await?;
    let events = stage.events(&topic, stage.counts.events.min(20));
    if inline {
        // Handled before each publish returns.
        gate.add_permits(Semaphore::MAX_PERMITS);
    }
    for event in &events {
        stage.within("a publish", near.publish(event.clone())).await??;
    }
    if !inline {
        stage.within("a handler to begin", begun.notified()).await?;
        let idle = tokio::time::timeout(stage.lease(), far.idle()).await;
        ensure(idle.is_err(), || format!("idle while a handler runs: {idle:?}"))?;
        gate.add_permits(Semaphore::MAX_PERMITS);
    }
    stage.within("the bus to be idle", far.idle()).await??;
    let (handled, count) = (handled.load(SeqCst), events.len());
    ensure(handled == count, || format!("idle when {handled} of {count} were handled"))?;
    let closed = stage.within("close", far.close_within(stage.patience)).await?;
    closed.map_err(Broken::from)
}
