//! Going on after what happens many times: closing, opening, giving back.

use crate::{
    backend::{Leased, Settle, Verdict},
    bus::Bus,
    conformance::{
        census::{census, counted},
        finding::{Broken, Checked, Finding},
        refusal::{no_groups, without_leases},
        seat::{id, ids},
        stage::{LONG_LEASE, Stage, literal},
    },
    error::Result,
    event::Event,
    predicate,
};
use std::time::Duration;
use tokio::sync::mpsc;

/// How often a subscriber comes and goes, and how many do at once.
const ROUNDS: usize = 5;
const AT_ONCE: usize = 10;

/// Subscribers come and go, round after round; what one leaves the next one gets.
pub(super) async fn continue_after_close(stage: &Stage) -> Checked<Finding> {
    if !stage.capability.groups {
        return no_groups(stage).await;
    }
    let (topic, group) = (stage.topic("rounds"), stage.group("rounds"));
    let near = stage.open().await?;
    stage.join(&near, &group, &topic, LONG_LEASE).await?.source.close().await?;
    let events = stage.events(&topic, stage.counts.events);
    stage.publish(&near, &events).await?;
    let (says, mut said) = mpsc::unbounded_channel();
    let mut handled = Vec::new();
    for round in 0..ROUNDS {
        let bus = open(stage, &group, &topic, says.clone()).await?;
        let until = events.len() * (round + 1) / ROUNDS;
        while handled.len() < until {
            let what = format!("event {} in round {}", handled.len() + 1, round + 1);
            handled.extend(stage.within(&what, said.recv()).await?);
        }
        stage.within("close", bus.close_within(stage.patience)).await??;
        handled.extend(std::iter::from_fn(|| said.try_recv().ok()));
    }
    let duplicates = census(events.iter().map(Event::id), handled.iter().map(String::as_str))?;
    Ok(Finding::Passed(counted(duplicates)))
}

/// Many subscribers open and close at once while events come; what they leave is not lost.
pub(super) async fn close_at_once(stage: &Stage) -> Checked<Finding> {
    if !stage.capability.groups {
        return no_groups(stage).await;
    }
    let (topic, group) = (stage.topic("at once"), stage.group("at once"));
    let near = stage.open().await?;
    let seat = stage.join(&near, &group, &topic, LONG_LEASE).await?;
    let events = stage.events(&topic, stage.counts.events * 2);
    let (first, second) = events.split_at(stage.counts.events);
    let (says, mut said) = mpsc::unbounded_channel();
    stage.publish(&near, first).await?;
    let opening = (0..AT_ONCE).map(|_| open(stage, &group, &topic, says.clone()));
    let opened = futures_util::future::join_all(opening).await;
    let buses: Vec<Bus> = opened.into_iter().collect::<Checked<_>>()?;
    let closing = buses.iter().map(|bus| bus.close_within(stage.patience));
    let closing = stage.within("closing", futures_util::future::join_all(closing));
    let (published, closed) = tokio::join!(stage.publish(&near, second), closing);
    published?;
    closed?.into_iter().collect::<Result<()>>()?;
    let mut handled: Vec<_> = std::iter::from_fn(|| said.try_recv().ok()).collect();
    while handled.len() < events.len() {
        let of = format!("{} of {} are handled", handled.len(), events.len());
        let leased = seat.next().await.map_err(|broken| broken.within(&of))?;
        seat.ack(&leased).await?;
        handled.push(id(&leased).to_owned());
    }
    let duplicates = census(events.iter().map(Event::id), handled.iter().map(String::as_str))?;
    Ok(Finding::Passed(counted(duplicates)))
}

async fn open(
    stage: &Stage,
    group: &str,
    topic: &str,
    says: mpsc::UnboundedSender<String>,
) -> Checked<Bus> {
    let bus = stage.bus().await?;
    bus.on(predicate::topic(&literal(topic)))
        .group(group)
        .lease(LONG_LEASE)
        // The case may be over.
        .run(move |event: &Event| drop(says.send(event.id().to_owned())))
        .await?;
    Ok(bus)
}

/// Hundreds of events are given back, and all of them come again; others are handled meanwhile.
pub(super) async fn continue_after_nacks(stage: &Stage) -> Checked<Finding> {
    if let Some(finding) = without_leases(stage).await? {
        return Ok(finding);
    }
    let (topic, group) = (stage.topic("nacks"), stage.group("nacks"));
    let backend = stage.open().await?;
    let seat = stage.join(&backend, &group, &topic, LONG_LEASE).await?;
    let events = stage.events(&topic, stage.counts.nacks);
    stage.publish(&backend, &events).await?;
    let taken = seat.take(events.len()).await?;
    let delay = Duration::ZERO;
    let nack = |l: &Leased| Settle::new(l.receipt.clone(), Verdict::Nack { delay });
    let settled = seat.settle_together(taken.iter().map(nack).collect()).await?;
    settled.into_iter().collect::<Result<()>>()?;
    let after = stage.events(&topic, 10);
    stage.publish(&backend, &after).await?;
    let again = seat.take(events.len() + after.len()).await?;
    census(events.iter().chain(&after).map(Event::id), ids(&again))?;
    let wrong = again.iter().find(|leased| {
        let expected = if after.iter().any(|event| event.id() == id(leased)) { 1 } else { 2 };
        stage.capability.counts_attempts && leased.attempt != expected
    });
    if let Some(leased) = wrong {
        let why = format!("{} came as attempt {}", id(leased), leased.attempt);
        return Err(Broken::new(why));
    }
    seat.ack_together(&again).await?;
    Ok(Finding::Passed(Some(format!("{} nacks", events.len()))))
}
