//! A consumer that stands still takes no more than it asked for.

use crate::{
    backend::Start,
    conformance::{
        census::census,
        finding::{Checked, Finding, ensure},
        history::What,
        refusal::no_groups,
        stage::{LONG_LEASE, Stage, literal},
    },
    event::Event,
    predicate,
};
use std::sync::Arc;
use tokio::sync::{Semaphore, mpsc};

/// How many events the consumer works on at once.
const LIMIT: usize = 4;

/// How many it may hold for each of these.
const AHEAD: usize = 4;

/// With a consumer that stands still the backlog stays in the store: its process has leased a few
/// events, however many wait, and publishers go on.
pub(super) async fn bounded(stage: &Stage) -> Checked<Finding> {
    if !stage.capability.groups {
        return no_groups(stage).await;
    }
    let (topic, group) = (stage.topic("backlog"), stage.group("backlog"));
    let (near, bus) = (stage.open().await?, stage.bus().await?);
    let gate = Arc::new(Semaphore::new(0));
    let (waits, (says, mut said)) = (Arc::clone(&gate), mpsc::unbounded_channel());
    bus.on(predicate::topic(&literal(&topic)))
        .group(&*group)
        .from(Start::Newest)
        .lease(LONG_LEASE)
        .limit(LIMIT)
        .run(async move |event: Event| {
            // The case may be over.
            let _ = says.send(event.id().to_owned());
            drop(waits.acquire().await);
        })
        .await?;
    let events = stage.events(&topic, stage.counts.shared);
    stage.publish(&near, &events).await?;
    let mut handled = Vec::with_capacity(events.len());
    for _ in 0..LIMIT {
        handled.extend(stage.within("handlers to begin", said.recv()).await?);
    }
    // Whatever it fetches besides it has fetched by the time that a seat is through with as many.
    let seat = stage.join(&near, &stage.group("beside"), &topic, LONG_LEASE).await?;
    let after = stage.events(&topic, LIMIT);
    stage.publish(&near, &after).await?;
    seat.handle(after.len()).await?;
    let records = stage.history.records();
    let held = records.iter().filter(
        |record| matches!(&record.what, What::Delivered(d) if d.group.as_deref() == Some(&*group)),
    );
    let held = held.count();
    ensure(held <= LIMIT * AHEAD, || {
        format!("a consumer that works on {LIMIT} events at once took {held}")
    })?;
    gate.add_permits(Semaphore::MAX_PERMITS);
    let all: Vec<_> = events.iter().chain(&after).map(Event::id).collect();
    while handled.len() < all.len() {
        let of = format!("event {} of {}", handled.len() + 1, all.len());
        handled.extend(stage.within(&of, said.recv()).await?);
    }
    census(all, handled.iter().map(String::as_str))?;
    Ok(Finding::Passed(Some(format!("{held} of {} were taken", events.len()))))
}
