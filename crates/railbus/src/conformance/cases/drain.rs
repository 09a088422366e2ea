//! Letting go in order: what runs finishes, what has not started is given back.

use crate::{
    backend::{Broadcast, Capability, Release, Start, Verdict},
    bus::Bus,
    conformance::{
        census::census,
        finding::{Broken, Checked, Finding, ensure},
        refusal::no_groups,
        seat::{id, ids},
        stage::{LONG_LEASE, Stage, literal},
    },
    error::ErrorKind,
    event::Event,
    predicate,
};
use std::{sync::Arc, time::Duration};
use tokio::sync::{Semaphore, mpsc};

/// A drain finishes what is in flight, fetches nothing new, and gives back what has not started,
/// which burns no attempt where the backend says so.
pub(super) async fn drain(stage: &Stage) -> Checked<Finding> {
    if stage.capability.broadcast == Broadcast::Inline {
        inline(stage).await.map_err(|broken| broken.within("broadcast"))?;
    }
    if !stage.capability.groups {
        no_groups(stage).await?;
        return Ok(Finding::Passed(None));
    }
    in_flight(stage).await?;
    for n in 0..stage.counts.rounds {
        at_once(stage, n).await.map_err(|broken| broken.within("drained as events come"))?;
    }
    if stage.capability.lease_min.is_some() {
        released(stage).await.map_err(|broken| broken.within("released"))?;
    }
    Ok(Finding::Passed(None))
}

/// A publish whose handler runs is waited for, and the next one refused.
async fn inline(stage: &Stage) -> Checked {
    let topic = stage.topic("inline");
    let bus = stage.bus().await?;
    let (says, mut said) = mpsc::unbounded_channel();
    let gate = Arc::new(Semaphore::new(0));
    let waits = Arc::clone(&gate);
    bus.on(predicate::topic(&literal(&topic)))
        .run(async move |event: Event| {
            // The case may be over.
            let _ = says.send(("began", event.id().to_owned()));
            drop(waits.acquire().await);
            let _ = says.send(("ended", event.id().to_owned()));
        })
        .await?;
    let event = stage.events(&topic, 1).remove(0);
    let (publisher, published) = (bus.clone(), event.clone());
    let publishing = tokio::spawn(async move { publisher.publish(published).await });
    stage.within("the handler", said.recv()).await?;
    let draining = bus.drain();
    let late = bus.publish(event).await.err().map(|e| e.kind());
    ensure(late == Some(ErrorKind::Closed), || format!("a publish while draining gave {late:?}"))?;
    let closing = tokio::spawn(draining.finish(stage.patience));
    gate.add_permits(1);
    stage.within("the drain", closing).await?.map_err(|e| Broken::new(e.to_string()))??;
    let ended = said.try_recv().ok().map(|(what, _)| what);
    ensure(ended == Some("ended"), || "the drain did not wait for the handler".into())?;
    stage.within("the publish", publishing).await?.map_err(|e| Broken::new(e.to_string()))??;
    Ok(())
}

async fn in_flight(stage: &Stage) -> Checked {
    let (topic, group) = (stage.topic("drain"), stage.group("drain"));
    let (near, bus) = (stage.open().await?, stage.bus().await?);
    let (says, mut said) = mpsc::unbounded_channel();
    let gate = Arc::new(Semaphore::new(0));
    let waits = Arc::clone(&gate);
    let limit = 3;
    bus.on(predicate::topic(&literal(&topic)))
        .group(&*group)
        .from(Start::Newest)
        .lease(LONG_LEASE)
        .limit(limit)
        .run(async move |event: Event| {
            // The case may be over.
            let _ = says.send(("began", event.id().to_owned()));
            drop(waits.acquire().await);
            let _ = says.send(("ended", event.id().to_owned()));
        })
        .await?;
    let events = stage.events(&topic, limit * 3);
    stage.publish(&near, &events).await?;
    let mut began = Vec::new();
    for _ in 0..limit {
        began.extend(stage.within("handlers to begin", said.recv()).await?);
    }
    let draining = bus.drain();
    gate.add_permits(Semaphore::MAX_PERMITS);
    stage.within("the drain", draining.finish(stage.patience)).await??;
    let mut ended = Vec::new();
    while let Ok((what, id)) = said.try_recv() {
        ensure(what == "ended", || format!("{id} was begun while draining"))?;
        ended.push(id);
    }
    census(began.iter().map(|(_, id)| id.as_str()), ended.iter().map(String::as_str))
        .map_err(|broken| broken.within("what was in flight"))?;
    let seat = stage.join(&near, &group, &topic, stage.lease()).await?;
    let rest = seat.take(events.len() - limit).await?;
    seat.ack_all(&rest).await?;
    for leased in &rest {
        unburnt(&stage.capability, id(leased), leased.attempt)?;
    }
    let all = ended.iter().map(String::as_str).chain(ids(&rest));
    let duplicates = census(events.iter().map(Event::id), all)?;
    ensure(duplicates == 0, || format!("{duplicates} events that were finished came again"))?;
    seat.nothing_else().await
}

fn unburnt(capability: &Capability, id: &str, attempt: u32) -> Checked {
    let free = capability.release == Release::Free && capability.counts_attempts;
    ensure(!free || attempt == 1, || format!("{id} was never begun, and is attempt {attempt}"))
}

/// Drains in the middle of a fetch: each event was handled, or comes as if nothing had been.
async fn at_once(stage: &Stage, round: usize) -> Checked {
    let part = format!("at once {round}");
    let (topic, group) = (stage.topic(&part), stage.group(&part));
    let (near, bus): (_, Bus) = (stage.open().await?, stage.bus().await?);
    let (says, mut said) = mpsc::unbounded_channel();
    bus.on(predicate::topic(&literal(&topic)))
        .group(&*group)
        .from(Start::Newest)
        .lease(LONG_LEASE)
        // The case may be over.
        .run(move |event: &Event| drop(says.send(event.id().to_owned())))
        .await?;
    let events = stage.events(&topic, stage.counts.events);
    let after = stage.count(0, events.len());
    let (first, second) = events.split_at(after);
    let draining = async {
        stage.publish(&near, first).await?;
        let (published, finished) =
            tokio::join!(stage.publish(&near, second), bus.drain().finish(stage.patience));
        finished?;
        published
    };
    stage.within("the drain", draining).await??;
    let mut handled: Vec<_> = std::iter::from_fn(|| said.try_recv().ok()).collect();
    let seat = stage.join(&near, &group, &topic, LONG_LEASE).await?;
    while handled.len() < events.len() {
        let leased = seat.next().await?;
        unburnt(&stage.capability, id(&leased), leased.attempt)?;
        handled.push(id(&leased).to_owned());
        seat.ack(&leased).await?;
    }
    let duplicates = census(events.iter().map(Event::id), handled.iter().map(String::as_str))?;
    ensure(duplicates == 0, || format!("{duplicates} events that were finished came again"))
}

/// A release with a delay holds the event back; without one it comes before what is new.
async fn released(stage: &Stage) -> Checked {
    let (topic, group) = (stage.topic("released"), stage.group("released"));
    let backend = stage.open().await?;
    let seat = stage.join(&backend, &group, &topic, stage.lease()).await?;
    stage.publish(&backend, &stage.events(&topic, 2)).await?;
    for delay in [Duration::ZERO, stage.lease() / 2, stage.lease() * 2] {
        let delay = delay.min(stage.capability.delay_max.unwrap_or_default());
        for leased in seat.take(2).await? {
            seat.settle(&leased.receipt, Verdict::Release { delay }).await??;
        }
    }
    let last = seat.take(2).await?;
    seat.ack_all(&last).await?;
    seat.nothing_else().await
}
