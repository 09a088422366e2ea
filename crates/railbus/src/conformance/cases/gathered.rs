//! Handlers that take many events at once.

use super::dead::letter;
use crate::{
    backend::{Broadcast, Start},
    bus::On,
    conformance::{
        finding::{Broken, Checked, Finding, ensure},
        refusal::no_groups,
        rules::SLACK,
        stage::{LONG_LEASE, Stage, literal},
    },
    delivery::Outcome,
    event::Event,
    handler::Batch,
    predicate,
    retry::Retry,
};
use std::time::{Duration, Instant};
use tokio::sync::mpsc;

/// How many events a batch has at most.
const MOST: u32 = 5;

/// How long a batch waits that is never to wait so long, and one that is to.
const NEVER: Duration = Duration::from_secs(3600);
const LINGER: Duration = Duration::from_millis(50);

/// How often what fails is tried.
const TRIES: u32 = 3;

/// A batch is handled when it is full, and what fills none when it has lingered; each of its events
/// comes to what was said of it, whatever becomes of the others.
pub(super) async fn gathered(stage: &Stage) -> Checked<Finding> {
    if stage.capability.broadcast != Broadcast::None {
        full(stage, false).await.map_err(|broken| broken.within("broadcast"))?;
    }
    if !stage.capability.groups {
        no_groups(stage).await?;
        return Ok(Finding::Passed(None));
    }
    full(stage, true).await?;
    lingers(stage).await.map_err(|broken| broken.within("what fills no batch"))?;
    each_its_own(stage).await.map_err(|broken| broken.within("each item"))?;
    Ok(Finding::Passed(None))
}

/// Two batches full: neither waits for what will never come.
async fn full(stage: &Stage, grouped: bool) -> Checked {
    let part = if grouped { "full" } else { "full broadcast" };
    let topic = stage.topic(part);
    let (near, far) = stage.pair().await?;
    let (says, mut said) = mpsc::unbounded_channel();
    let on: On = far.on(predicate::topic(&literal(&topic)));
    let on = match grouped {
        true => on.group(stage.group(part)).from(Start::Newest).lease(LONG_LEASE),
        false => on,
    };
    // The case may be over.
    let handler = async move |batch: Batch<u32>| drop(says.send(numbers(&batch)));
    on.batch(MOST as usize, NEVER).run(handler).await?;
    for event in events(&topic, MOST * 2) {
        near.publish(event).await?;
    }
    let mut all = Vec::new();
    for n in 1..=2 {
        let of = format!("batch {n} to be full");
        let batch = stage.within(&of, said.recv()).await?.unwrap_or_default();
        ensure(batch.len() == MOST as usize, || {
            format!("a batch of {MOST} that never waits has {}", batch.len())
        })?;
        all.extend(batch);
    }
    all.sort_unstable();
    ensure(all.iter().copied().eq(0..MOST * 2), || format!("{all:?} came in two batches"))?;
    Ok(stage.within("close", far.close_within(stage.patience)).await??)
}

/// Three events where a batch has many more: they are handled when the first has waited, not before.
async fn lingers(stage: &Stage) -> Checked {
    let (topic, group) = (stage.topic("lingers"), stage.group("lingers"));
    let (near, bus) = (stage.bus().await?, stage.bus().await?);
    let (says, mut said) = mpsc::unbounded_channel();
    // The case may be over.
    let handler = async move |batch: Batch<u32>| drop(says.send((Instant::now(), numbers(&batch))));
    let on = bus.on(predicate::topic(&literal(&topic))).group(&*group).from(Start::Newest);
    on.lease(LONG_LEASE).batch(64, LINGER).run(handler).await?;
    let began = Instant::now();
    for event in events(&topic, 3) {
        near.publish(event).await?;
    }
    let mut all = Vec::new();
    while all.len() < 3 {
        let (at, batch) = stage.within("a batch", said.recv()).await?.unwrap_or((began, vec![]));
        let waited = at.saturating_duration_since(began);
        ensure(waited + SLACK >= LINGER, || format!("a batch waited {waited:?} of {LINGER:?}"))?;
        all.extend(batch);
    }
    all.sort_unstable();
    ensure(all == [0, 1, 2], || format!("{all:?} came"))?;
    Ok(stage.within("close", bus.close_within(stage.patience)).await??)
}

/// One batch of which one is handled, one fails once, one fails always, one is not for this handler
/// and one is to come again later.
async fn each_its_own(stage: &Stage) -> Checked {
    let (topic, group) = (stage.topic("each"), stage.group("each"));
    let (near, bus) = (stage.open().await?, stage.bus().await?);
    let (says, mut said) = mpsc::unbounded_channel();
    let soon = Duration::from_millis(1);
    let handler = async move |batch: Batch<u32>| {
        for number in batch {
            // The case may be over.
            let _ = says.send((*number, number.attempt()));
            match (*number, number.attempt()) {
                (1, 1) => number.fail("not yet"),
                (2, _) => number.fail("never"),
                (3, _) => number.settle(Outcome::Skip),
                (4, 1) => number.settle(Outcome::Retry(soon)),
                _ => {}
            }
        }
    };
    let on = bus.on(predicate::topic(&literal(&topic))).group(&*group).from(Start::Newest);
    let retry = Retry::attempts(TRIES).backoff_factor(soon).max_backoff(soon);
    let on = on.named("each").lease(LONG_LEASE).retry(retry);
    on.batch(MOST as usize, LINGER).run(handler).await?;
    let events: Vec<_> = events(&topic, MOST).collect();
    stage.publish(&near, &events).await?;
    let expected = [(0, 1), (1, 1), (1, 2), (2, 1), (2, 2), (2, 3), (3, 1), (4, 1), (4, 2)];
    let mut told = Vec::new();
    while told.len() < expected.len() {
        let of = format!("call {} of {}", told.len() + 1, expected.len());
        let call = stage.within(&of, said.recv()).await?;
        told.push(call.ok_or_else(|| Broken::new("the handler is gone"))?);
    }
    if stage.capability.dead_letters {
        let letter = letter(stage, bus.keeper()?, &group).await?;
        ensure(letter.event_id == events[2].id() && letter.reason == "never", || {
            format!("the letter is {letter:?}")
        })?;
    }
    stage.within("all to be settled", bus.idle()).await??;
    stage.within("close", bus.close_within(stage.patience)).await??;
    told.extend(std::iter::from_fn(|| said.try_recv().ok()));
    told.sort_unstable();
    ensure(told == expected, || format!("handled as {told:?} (number, try)"))?;
    stage.join(&near, &group, &topic, stage.lease()).await?.nothing_else().await
}

fn events(topic: &str, count: u32) -> impl Iterator<Item = Event> {
    (0..count).map(move |n| Event::new("number").topic(topic).payload(n))
}

fn numbers(batch: &Batch<u32>) -> Vec<u32> {
    batch.iter().map(|number| **number).collect()
}
