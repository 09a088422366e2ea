//! Groups side by side.

use crate::{
    backend::Start,
    bus::Bus,
    conformance::{
        census::census,
        finding::{Checked, Finding, ensure},
        refusal::no_groups,
        stage::{LONG_LEASE, Stage, literal},
    },
    event::Event,
    predicate,
};
use std::sync::Arc;
use tokio::sync::{Semaphore, mpsc};

/// Two groups on one topic each get everything, whatever becomes of it in the other.
pub(super) async fn two_groups(stage: &Stage) -> Checked<Finding> {
    if !stage.capability.groups {
        return no_groups(stage).await;
    }
    let topic = stage.topic("both");
    let (near, far) = (stage.open().await?, stage.open().await?);
    let one = stage.join(&near, &stage.group("one"), &topic, stage.lease()).await?;
    let other = stage.join(&far, &stage.group("other"), &topic, stage.lease()).await?;
    let events = stage.events(&topic, stage.counts.events);
    stage.publish(&near, &events).await?;
    for seat in [&one, &other] {
        let handled = seat.handle(events.len()).await?;
        census(events.iter().map(Event::id), handled.iter().map(String::as_str))?;
    }
    one.nothing_else().await?;
    // The other group gets the marker of the first one, too.
    let taken = other.take(1).await?;
    other.ack_all(&taken).await?;
    other.nothing_else().await?;
    Ok(Finding::Passed(None))
}

/// A consumer that stands still holds up no other group on its topic, and no other topic.
pub(super) async fn slow_consumer(stage: &Stage) -> Checked<Finding> {
    if !stage.capability.groups {
        return no_groups(stage).await;
    }
    let (topic, other) = (stage.topic("crowded"), stage.topic("quiet"));
    let (near, bus) = (stage.open().await?, stage.bus().await?);
    let gate = Arc::new(Semaphore::new(0));
    let waits = Arc::clone(&gate);
    let (says, mut said) = mpsc::unbounded_channel();
    let told = says.clone();
    bus.on(predicate::topic(&literal(&topic)))
        .group(stage.group("slow"))
        .from(Start::Newest)
        .lease(LONG_LEASE)
        .limit(2)
        .run(async move |event: Event| {
            drop(waits.acquire().await);
            // The case may be over.
            let _ = told.send(("slow", event.id().to_owned()));
        })
        .await?;
    quick(&bus, stage, "quick", &topic, says.clone()).await?;
    quick(&bus, stage, "apart", &other, says).await?;
    let events = stage.events(&topic, stage.counts.events);
    let others = stage.events(&other, stage.counts.events);
    stage.publish(&near, &events).await?;
    stage.publish(&near, &others).await?;
    let mut by_group = [("slow", Vec::new()), ("quick", Vec::new()), ("apart", Vec::new())];
    let mut wait_for = async |count: usize| {
        for n in 0..count {
            let what = format!("event {} of {count}", n + 1);
            let Some((group, id)) = stage.within(&what, said.recv()).await? else { break };
            by_group.iter_mut().filter(|(name, _)| *name == group).for_each(|(_, handled)| {
                handled.push(id.clone());
            });
        }
        Checked::Ok(by_group.clone())
    };
    let handled = wait_for(events.len() * 2).await.map_err(|b| b.within("beside a slow group"))?;
    ensure(handled[0].1.is_empty(), || "the gate was shut, and yet passed".into())?;
    gate.add_permits(Semaphore::MAX_PERMITS);
    let handled = wait_for(events.len()).await.map_err(|b| b.within("once it goes on"))?;
    for (n, (group, handled)) in handled.iter().enumerate() {
        let expected = if n == 2 { &others } else { &events };
        census(expected.iter().map(Event::id), handled.iter().map(String::as_str))
            .map_err(|broken| broken.within(group))?;
    }
    Ok(Finding::Passed(None))
}

type Says = mpsc::UnboundedSender<(&'static str, String)>;

async fn quick(bus: &Bus, stage: &Stage, name: &'static str, topic: &str, says: Says) -> Checked {
    bus.on(predicate::topic(&literal(topic)))
        .group(stage.group(name))
        .from(Start::Newest)
        .lease(LONG_LEASE)
        // The case may be over.
        .run(move |event: &Event| drop(says.send((name, event.id().to_owned()))))
        .await?;
    Ok(())
}
