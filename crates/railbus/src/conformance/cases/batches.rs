//! Many events in one call.

use crate::{
    backend::{Batch, Broadcast, Outgoing},
    conformance::{
        census::{census, once},
        finding::{Checked, Finding, ensure},
        refusal::no_groups,
        seat::{Ear, ids},
        stage::{LONG_LEASE, Stage, literal},
    },
    event::Event,
    predicate,
};

/// How many events of a batch are tried, or beyond the largest, at most, with short counts.
const LARGE: usize = 1_000;

/// A batch with an event that can't be published: each has its own result, or none is published;
/// what is confirmed arrives, what isn't doesn't. A batch of any size is published by a bus.
pub(super) async fn batch_publish(stage: &Stage) -> Checked<Finding> {
    let most = stage.capability.batch_max;
    ensure((stage.capability.batch == Batch::None) == (most == 1), || {
        format!("its batches are {:?}, and have {most} events", stage.capability.batch)
    })?;
    if stage.capability.broadcast != Broadcast::None {
        let topic = stage.topic("broadcast");
        let (near, far) = stage.pair().await?;
        let wanted = predicate::topic(&literal(&topic));
        let mut ear = Ear::open(&far, wanted, stage.patience).await?;
        let batch = mixed(stage, &topic);
        let results = stage.within("a batch", near.publish_all(&batch)).await?;
        let results: Vec<_> = results.iter().map(Result::is_ok).collect();
        let confirmed = confirmed(stage, &batch, &results)?;
        let end = stage.events(&topic, 1).remove(0);
        near.publish(end.clone()).await?;
        let expected: Vec<_> = confirmed.into_iter().chain([end.id()]).collect();
        let mut heard = ear.take(expected.len()).await?;
        heard.extend(ear.rest());
        once(expected, heard.iter().map(Event::id)).map_err(|b| b.within("broadcast"))?;
    }
    if stage.capability.broadcast == Broadcast::Live {
        directly(stage).await.map_err(|b| b.within("broadcast, by the backend itself"))?;
    }
    if !stage.capability.groups {
        no_groups(stage).await?;
        return Ok(Finding::Passed(None));
    }
    let topic = stage.topic("batch");
    let backend = stage.open().await?;
    let seat = stage.join(&backend, &stage.group("batch"), &topic, LONG_LEASE).await?;
    let batch = mixed(stage, &topic);
    let mut results = Vec::new();
    for part in batch.chunks(most) {
        let of_part = stage.within("a batch", backend.publish(part)).await?;
        results.extend(of_part.iter().map(Result::is_ok));
    }
    let confirmed = confirmed(stage, &batch, &results)?;
    let mut after = stage.events(&topic, 1);
    stage.publish(&backend, &after).await?;
    // One call with as many as it may have, if a queue that is bounded has room for them.
    let many = stage.events(&topic, most.min(stage.counts.shared.max(LARGE)));
    stage.publish(&backend, &many).await?;
    after.extend(many);
    if most < LARGE {
        let bus = stage.bus().await?;
        let large = stage.events(&topic, most + 1);
        let batch: Vec<Outgoing> = large.iter().cloned().map(Into::into).collect();
        let published = stage.within("a large batch", bus.publish_all(&batch)).await?;
        published.into_iter().try_for_each(|result| result.map(drop))?;
        after.extend(large);
    }
    let expected: Vec<_> = confirmed.into_iter().chain(after.iter().map(Event::id)).collect();
    let taken = seat.take(expected.len()).await?;
    census(expected, ids(&taken))?;
    seat.ack_together(&taken).await?;
    Ok(Finding::Passed(Some(format!("{:?}", stage.capability.batch))))
}

/// As by a bus, which looks through a batch before the backend does.
async fn directly(stage: &Stage) -> Checked {
    let topic = stage.topic("directly");
    let (near, far) = (stage.open().await?, stage.bus().await?);
    let mut ear = Ear::open(&far, predicate::topic(&literal(&topic)), stage.patience).await?;
    let batch = mixed(stage, &topic);
    let mut results = Vec::new();
    for part in batch.chunks(stage.capability.batch_max) {
        let of_part = stage.within("a batch", near.publish(part)).await?;
        results.extend(of_part.iter().map(Result::is_ok));
    }
    let confirmed = confirmed(stage, &batch, &results)?;
    let end = stage.events(&topic, 1);
    stage.publish(&near, &end).await?;
    let expected: Vec<_> = confirmed.into_iter().chain(end.iter().map(Event::id)).collect();
    let mut heard = ear.take(expected.len()).await?;
    heard.extend(ear.rest());
    once(expected, heard.iter().map(Event::id))
}

/// Returns a batch with an event that nobody can publish in its middle.
fn mixed(stage: &Stage, topic: &str) -> Vec<Outgoing> {
    let mut events = stage.events(topic, 4);
    events.insert(2, Event::new("").topic(topic).payload(()));
    events.into_iter().map(Into::into).collect()
}

/// Checks the results of such a batch; returns what was confirmed.
fn confirmed<'a>(stage: &Stage, batch: &'a [Outgoing], results: &[bool]) -> Checked<Vec<&'a str>> {
    let atomic = stage.capability.batch == Batch::Atomic;
    let sound = |outgoing: &Outgoing| !outgoing.event.event_type().is_empty();
    let expected: Vec<_> = batch.iter().map(|outgoing| sound(outgoing) && !atomic).collect();
    ensure(results == expected, || {
        format!("of a batch whose third event has no type the results are {results:?}")
    })?;
    let fates = batch.iter().zip(results);
    Ok(fates.filter(|(_, ok)| **ok).map(|(outgoing, _)| outgoing.event.id()).collect())
}

/// A fetch of many returns what is there, up to that many, and waits for no more.
pub(super) async fn batch_receive(stage: &Stage) -> Checked<Finding> {
    if !stage.capability.groups {
        return no_groups(stage).await;
    }
    let (topic, group) = (stage.topic("fetch"), stage.group("fetch"));
    let backend = stage.open().await?;
    let seat = stage.join(&backend, &group, &topic, LONG_LEASE).await?;
    for (there, asked) in [(1, 100), (7, 100), (20, 3)] {
        let events = stage.events(&topic, there);
        stage.publish(&backend, &events).await?;
        let mut taken = Vec::new();
        // A seat minds if more come than were asked for.
        while taken.len() < there {
            taken.extend(seat.fetch(asked).await?);
        }
        census(events.iter().map(Event::id), ids(&taken))?;
        seat.ack_together(&taken).await?;
    }
    Ok(Finding::Passed(None))
}
