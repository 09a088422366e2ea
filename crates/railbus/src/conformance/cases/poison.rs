//! What can't be read does not stop what can.

use super::dead::letter;
use crate::{
    backend::{Broadcast, Leased, Letter, LetterFilter, Ordering, Start, Verdict},
    bus::Bus,
    conformance::{
        census::census,
        finding::{Checked, Finding, ensure},
        refusal::no_groups,
        stage::{LONG_LEASE, Stage, literal},
    },
    event::Event,
    handler::Payload,
    predicate,
    retry::Retry,
};
use bytes::Bytes;
use std::time::Duration;
use tokio::sync::mpsc;

/// A payload of the wrong type, and stored bytes that are no event, end in their subscription's
/// policy; what comes after them is handled.
pub(super) async fn poison(stage: &Stage) -> Checked<Finding> {
    if stage.capability.broadcast != Broadcast::None {
        broadcast(stage).await.map_err(|broken| broken.within("broadcast"))?;
    }
    if !stage.capability.groups {
        no_groups(stage).await?;
        return Ok(Finding::Passed(None));
    }
    wrong_payload(stage).await.map_err(|broken| broken.within("a payload of the wrong type"))?;
    let stored = no_event(stage).await.map_err(|broken| broken.within("bytes that are no event"));
    if !stored? {
        let why = "a wrong payload passes; how to store bytes that are no event is not known";
        return Ok(Finding::NotRun(why.into()));
    }
    Ok(Finding::Passed(None))
}

fn wrong_then_right(topic: &str) -> [Event; 2] {
    let event = || Event::new("poison").topic(topic);
    [event().payload("a text"), event().payload(7_u32)]
}

async fn broadcast(stage: &Stage) -> Checked {
    let topic = stage.topic("broadcast");
    let (near, far) = stage.pair().await?;
    let (says, mut said) = mpsc::unbounded_channel();
    let opening = far.on(predicate::topic(&literal(&topic)));
    opening.run(move |n: Payload<u32>| says.send(*n)).await?;
    let [wrong, right] = wrong_then_right(&topic);
    let report = near.publish(wrong.clone()).await?;
    if stage.capability.broadcast == Broadcast::Inline {
        let told = report.failures.first().is_some_and(|f| f.error.contains(wrong.id()));
        ensure(told, || format!("the report does not name the event: {report:?}"))?;
    }
    near.publish(right).await?;
    let n = stage.within("the event after it", said.recv()).await?;
    ensure(n == Some(7), || format!("{n:?} came instead of 7"))
}

async fn wrong_payload(stage: &Stage) -> Checked {
    let (topic, group) = (stage.topic("payload"), stage.group("payload"));
    let (near, bus) = (stage.open().await?, stage.bus().await?);
    let (says, mut said) = mpsc::unbounded_channel();
    bus.on(predicate::topic(&literal(&topic)))
        .group(&*group)
        .from(Start::Newest)
        .lease(LONG_LEASE)
        .retry(Retry::attempts(1))
        .run(move |n: Payload<u32>| says.send(*n))
        .await?;
    let [wrong, right] = wrong_then_right(&topic);
    stage.publish(&near, &[wrong.clone(), right]).await?;
    let n = stage.within("the event after it", said.recv()).await?;
    ensure(n == Some(7), || format!("{n:?} came instead of 7"))?;
    if stage.capability.dead_letters {
        let letter = letter(stage, bus.keeper()?, &group).await?;
        ensure(letter.event_id == wrong.id() && letter.reason.contains(wrong.id()), || {
            format!("the letter is {letter:?}")
        })?;
    }
    Ok(())
}

/// Stores bytes before and between events; false if nobody knows how.
async fn no_event(stage: &Stage) -> Checked<bool> {
    let (topic, group) = (stage.topic("bytes"), stage.group("bytes"));
    let near = stage.open().await?;
    let seat = stage.join(&near, &group, &topic, LONG_LEASE).await?;
    let bytes = Bytes::from_static(b"\xff\x00 no event {");
    if !stage.inject(&topic, &bytes).await? {
        return Ok(false);
    }
    let events = stage.events(&topic, 2);
    stage.publish(&near, &events[..1]).await?;
    stage.inject(&topic, &Bytes::from_static(b"")).await?;
    stage.publish(&near, &events[1..]).await?;
    // As the source gives it, and handed back unharmed.
    let came = match stage.capability.ordering {
        Ordering::None | Ordering::PerKey => seat.take(4).await?,
        _ => vec![seat.next().await?],
    };
    let is_it = |leased: &Leased| leased.event.as_ref().is_err_and(|poison| poison.raw == bytes);
    ensure(came.iter().any(is_it), || format!("the bytes came as {:?}", came[0].event))?;
    let delay = Duration::ZERO;
    for leased in &came {
        seat.settle(&leased.receipt, Verdict::Nack { delay }).await??;
    }
    seat.source.close().await?;
    let bus = stage.bus().await?;
    let (says, mut said) = mpsc::unbounded_channel();
    bus.on(predicate::topic(&literal(&topic)))
        .group(&*group)
        .named("reader")
        .lease(LONG_LEASE)
        // The case may be over.
        .run(move |event: &Event| drop(says.send(event.id().to_owned())))
        .await?;
    let mut handled = Vec::new();
    for _ in &events {
        handled.extend(stage.within("an event after the bytes", said.recv()).await?);
    }
    census(events.iter().map(Event::id), handled.iter().map(String::as_str))?;
    if stage.capability.dead_letters {
        letters(stage, &bus, &group).await?;
    }
    Ok(true)
}

/// Waits until both pieces are dead letters of the subscription, with reasons.
async fn letters(stage: &Stage, bus: &Bus, group: &str) -> Checked {
    // The events behind them may be through before they are.
    stage.within("the bytes to be settled", bus.idle()).await??;
    bus.close_within(stage.patience).await?;
    let backend = stage.open().await?;
    let Some(keeper) = backend.keeper() else { return Ok(()) };
    let filter = LetterFilter { group: Some(group.into()), ..Default::default() };
    let letters = keeper.letters(&filter).await?;
    let sound = |letter: &Letter| {
        letter.event.is_none() && letter.subscription == "reader" && !letter.reason.is_empty()
    };
    ensure(letters.len() == 2 && letters.iter().all(sound), || {
        format!("two pieces were stored, and the letters are {letters:?}")
    })
}
