//! What is published arrives, unchanged.

use crate::{
    backend::{Broadcast, Replay, Start, Subscribe},
    clock::Timestamp,
    conformance::{
        finding::{Broken, Checked, Finding, ensure},
        refusal::no_groups,
        seat::{Ear, Seat},
        stage::{LONG_LEASE, Stage, literal, on_topic},
    },
    event::{Event, EventBuilder},
    predicate,
};
use serde_json::{Value, json};

/// Events of every shape arrive with payload and metadata intact, at listeners and at groups; a
/// group that is new sees what is retained.
pub(super) async fn publish_subscribe(stage: &Stage) -> Checked<Finding> {
    if stage.capability.broadcast != Broadcast::None {
        let topic = stage.topic("broadcast");
        let (near, far) = stage.pair().await?;
        let wanted = predicate::topic(&literal(&topic));
        let mut ear = Ear::open(&far, wanted, stage.patience).await?;
        for event in shapes(&topic) {
            near.publish(event.clone()).await?;
            same(&event, &ear.next().await?)?;
        }
    }
    if !stage.capability.groups {
        no_groups(stage).await?;
        return Ok(Finding::Passed(None));
    }
    let topic = stage.topic("shared");
    let (near, far) = (stage.open().await?, stage.open().await?);
    let early = stage.join(&far, &stage.group("early"), &topic, stage.lease()).await?;
    let events = shapes(&topic);
    stage.publish(&near, &events).await?;
    arrives(&early, &events).await?;
    if stage.capability.replay != Replay::None {
        let request = Subscribe {
            group: Some(stage.group("late")),
            interest: on_topic(&topic),
            start: Start::Oldest,
            lease: LONG_LEASE,
            order: Default::default(),
        };
        let late = stage.sit(&far, request, &topic).await?;
        arrives(&late, &events).await.map_err(|b| b.within("a group that came late"))?;
    }
    early.nothing_else().await?;
    Ok(Finding::Passed(None))
}

async fn arrives(seat: &Seat, events: &[Event]) -> Checked {
    for leased in seat.take(events.len()).await? {
        seat.ack(&leased).await?;
        let found = leased.event.map_err(|poison| Broken::from(poison.error))?;
        let sent = events.iter().find(|event| event.id() == found.id());
        let sent = sent.ok_or_else(|| Broken::new(format!("{} was invented", found.id())))?;
        same(sent, &found)?;
    }
    Ok(())
}

/// Returns events that differ in everything an event has.
fn shapes(topic: &str) -> Vec<Event> {
    let plain = || Event::new("shape.plain").topic(topic);
    let payloads = [
        Value::Null,
        json!(true),
        json!([u64::MAX, i64::MIN, 1.5, -0.0, 1e300]),
        json!(""),
        json!({ "b": 1, "a": { "": [[], {}], "é\u{1f980}": "\u{0}\t\"\\" } }),
        json!("x".repeat(64 << 10)),
    ];
    let many = (0..64).fold(plain(), |event, n| event.metadata(format!("key-{n}"), "v".repeat(n)));
    let full = plain()
        .id("i".repeat(200) + topic)
        .source("https://example.com/shop?x=1")
        .timestamp(Timestamp::from_micros(1_234_567))
        .correlation("Korrelation \"1\"")
        .causation("cause/1")
        .schema("https://example.com/schema/2")
        .metadata("schlüssel", "wert\nzwei")
        .metadata("empty", "");
    let mut events: Vec<_> = payloads.into_iter().map(|p| plain().payload(p)).collect();
    events.push(many.payload(0));
    events.push(full.payload(json!({ "n": 1 })));
    events.push(plain().source("railbus").payload(0));
    events.push(EventBuilder::into(Event::new("Größe 🦀:*[x]").topic(topic)));
    events
}

fn same(sent: &Event, found: &Event) -> Checked {
    let (a, b) = (sent.to_map()?, found.to_map()?);
    for (key, value) in &a {
        ensure(b.get(key) == Some(value), || {
            let what = |v: Option<&Value>| v.map_or("nothing".into(), short);
            format!("`{key}` was {} and came as {}", short(value), what(b.get(key)))
        })?;
    }
    let added = b.keys().find(|key| !a.contains_key(*key));
    ensure(added.is_none(), || format!("{added:?} came although it was not sent"))?;
    let (a, b) = (sent.raw_payload().text()?, found.raw_payload().text()?);
    ensure(a == b, || "the payload's text came changed".into())
}

fn short(value: &Value) -> String {
    value.to_string().chars().take(60).collect()
}
