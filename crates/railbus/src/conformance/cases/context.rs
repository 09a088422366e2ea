//! What goes on within a delivery, and what becomes of one that is broken off.

use crate::{
    backend::{Broadcast, Start},
    bus::{Bus, On},
    conformance::{
        census::census,
        finding::{Broken, Checked, Finding, ensure},
        refusal::no_groups,
        seat::{Ear, ids},
        stage::{LONG_LEASE, Stage, literal},
    },
    context::{Context, current, scope},
    error::Result,
    event::Event,
    predicate,
};
use std::time::Duration;
use tokio::sync::mpsc;

/// What goes on from a delivery to what its handler publishes.
const TRACE: [(&str, &str); 3] = [
    ("traceparent", "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"),
    ("tracestate", "congo=t61rcWkgMzE,rojo=00f067aa0ba902b7"),
    ("baggage", "user=Am%C3%A9lie;internal,tenant=north"),
];

/// Publishes in a scope with a conversation, a trace and metadata of its own.
async fn publish_in_scope(bus: &Bus, event: &Event) -> Result<()> {
    let work = scope("work").id("s-1").correlation_id("c-1").metadata("tenant", "north");
    let work = TRACE.iter().fold(work, |work, (key, value)| work.metadata(*key, *value));
    work.run(bus.publish(event)).await.map(drop)
}

/// Tells what is missing of what an event says of its cause.
fn missing(event: &Event, cause: &str, scoped: bool) -> Option<String> {
    let said = (event.correlation_id(), event.causation_id());
    let metadata = event.metadata();
    let is = |(key, value): &(&str, &str)| metadata.get(*key).is_some_and(|said| said == value);
    let traced = TRACE.iter().all(is);
    let tenant = metadata.get("tenant").is_some_and(|tenant| tenant == "north");
    let whole = said == ("c-1", Some(cause)) && traced && tenant == scoped;
    (!whole).then(|| format!("{} says {said:?} of its cause, and {metadata:?}", event.id()))
}

/// The context is that of the delivery as long as its handler runs, and ends with it; what is
/// published within names what caused it, and carries its trace on. So does what is published in a
/// scope, with the scope's metadata.
pub(super) async fn context(stage: &Stage) -> Checked<Finding> {
    if stage.capability.broadcast != Broadcast::None {
        delivery(stage, false).await.map_err(|broken| broken.within("broadcast"))?;
    }
    if !stage.capability.groups {
        no_groups(stage).await?;
        return Ok(Finding::Passed(None));
    }
    delivery(stage, true).await?;
    Ok(Finding::Passed(None))
}

async fn delivery(stage: &Stage, grouped: bool) -> Checked {
    let part = if grouped { "group" } else { "broadcast" };
    let (topic, after) = (stage.topic(part), stage.topic(&format!("after {part}")));
    let (near, far) = stage.pair().await?;
    let (says, mut said) = mpsc::unbounded_channel();
    let (bus, next) = (far.clone(), after.clone());
    let on: On = far.on(predicate::topic(&literal(&topic)));
    let on = match grouped {
        true => on.group(stage.group(part)).from(Start::Newest).lease(LONG_LEASE),
        false => on,
    };
    on.run(async move |event: Event| {
        let id = || current().map(|context| context.id().to_owned());
        let begun = id();
        let missed = missing(current().as_ref().map_or(&event, Context::event), "s-1", true);
        tokio::task::yield_now().await;
        let elsewhere = tokio::spawn(async move { id() }).await.ok().flatten();
        let follows = Event::new("follows").topic(&*next).payload(());
        // A handler that keeps its bus is a cycle, which ends with this one's subscription.
        let published = bus.publish(follows).await.is_ok();
        // The case may be over.
        let _ = says.send((event.id().to_owned(), begun, id(), elsewhere, published, missed));
    })
    .await?;
    let seat = match grouped {
        true => {
            let backend = stage.open().await?;
            Some(stage.join(&backend, &stage.group("after"), &after, LONG_LEASE).await?)
        }
        false => None,
    };
    let mut ear = match grouped {
        true => None,
        false => Some(Ear::open(&near, predicate::topic(&literal(&after)), stage.patience).await?),
    };
    let event = Event::new("caused").topic(&*topic).payload(());
    publish_in_scope(&near, &event).await?;
    let told = stage.within("the handler", said.recv()).await?;
    let id = event.id().to_owned();
    let expected = Some((id.clone(), Some(id.clone()), Some(id.clone()), None, true, None));
    ensure(told == expected, || {
        format!(
            "of {id} the handler was told {told:?} (id, before, after, elsewhere, published, missed)"
        )
    })?;
    ensure(current().is_none(), || "a delivery's context is left behind".into())?;
    let follows = match (&seat, &mut ear) {
        (Some(seat), _) => {
            let leased = seat.next().await?;
            seat.ack(&leased).await?;
            leased.event.map_err(|poison| poison.error)?
        }
        (None, Some(ear)) => ear.next().await?,
        (None, None) => return Ok(()),
    };
    if let Some(missed) = missing(&follows, &id, false) {
        return Err(Broken::new(format!("published in the delivery of {id}, {missed}")));
    }
    far.close_within(stage.patience).await?;
    Ok(())
}

/// A subscription that is broken off with deliveries in hand: those that were not settled come
/// again, at once and not when their lease has run out.
pub(super) async fn cancelled(stage: &Stage) -> Checked<Finding> {
    if !stage.capability.groups {
        return no_groups(stage).await;
    }
    let (topic, group) = (stage.topic("cancelled"), stage.group("cancelled"));
    let (near, bus) = (stage.open().await?, stage.bus().await?);
    let (says, mut said) = mpsc::unbounded_channel();
    let subscription = bus
        .on(predicate::topic(&literal(&topic)))
        .group(&*group)
        .from(Start::Newest)
        .lease(LONG_LEASE)
        .limit(2)
        .run(async move |event: Event| {
            // The case may be over.
            let _ = says.send(event.id().to_owned());
            std::future::pending::<()>().await;
        })
        .await?;
    let events = stage.events(&topic, 5);
    stage.publish(&near, &events).await?;
    for _ in 0..2 {
        stage.within("handlers to begin", said.recv()).await?;
    }
    subscription.cancel();
    stage.within("close", bus.close_within(Duration::from_millis(50))).await??;
    let seat = stage.join(&near, &group, &topic, LONG_LEASE).await?;
    let taken = seat.take(events.len()).await?;
    census(events.iter().map(Event::id), ids(&taken))?;
    seat.ack_together(&taken).await?;
    Ok(Finding::Passed(None))
}
