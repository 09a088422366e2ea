//! What is published arrives, unchanged.

use crate::{
    backend::{Broadcast, Capability, Replay, Start},
    clock::Timestamp,
    conformance::{
        finding::{Broken, Checked, Finding, ensure},
        history::What,
        refusal::{no_groups, refused},
        seat::{Ear, Seat},
        stage::{LONG_LEASE, Stage, literal, on_topic},
    },
    event::{Event, EventBuilder},
    predicate,
};
use serde_json::{Value, json};
use std::time::Duration;

/// How far a start between two events is from each: as much as a server's clock may be off by.
const APART: Duration = Duration::from_millis(200);

/// Events of every shape arrive with payload and metadata intact, at listeners and at groups.
pub(super) async fn publish_subscribe(stage: &Stage) -> Checked<Finding> {
    if stage.capability.broadcast != Broadcast::None {
        let topic = stage.topic("broadcast");
        let (near, far) = stage.pair().await?;
        let wanted = predicate::topic(&literal(&topic));
        let mut ear = Ear::open(&far, wanted, stage.patience).await?;
        for event in shapes(&topic) {
            stage.within("a publish", near.publish(event.clone())).await??;
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
    early.nothing_else().await?;
    Ok(Finding::Passed(None))
}

/// A group that comes late sees what is retained, from where it asks to start, and again from there
/// when it is replayed; asking for more of the past than is claimed is refused.
pub(super) async fn late_subscriber(stage: &Stage) -> Checked<Finding> {
    if !stage.capability.groups {
        return no_groups(stage).await;
    }
    let topic = stage.topic("late");
    let (near, far) = (stage.open().await?, stage.open().await?);
    let before = stage.events(&topic, 3);
    stage.publish(&near, &before).await?;
    // The store's clock may be another one than this.
    tokio::time::sleep(APART).await;
    let time = Start::At(Timestamp::now());
    tokio::time::sleep(APART).await;
    let after = stage.events(&topic, 3);
    stage.publish(&near, &after).await?;
    let sit = |part: &str, start: Start| {
        let mut request = stage.request(&stage.group(part), on_topic(&topic), LONG_LEASE);
        request.start = start;
        stage.sit(&far, request, &topic)
    };
    let newest = stage.events(&topic, 1);
    let all: Vec<_> = before.iter().chain(&after).chain(&newest).cloned().collect();
    let mut seats = vec![(sit("newest", Start::Newest).await?, &newest[..])];
    if stage.capability.replay != Replay::Time {
        let bus = stage.bus().await?;
        let wanted = predicate::topic(&literal(&topic));
        let opening = bus.on(wanted).group(stage.group("at")).from(time).run(|_: &Event| ());
        let asked = stage.within("a refusal", opening.into_future()).await?;
        let can = |c: &Capability| c.replay == Replay::Time;
        refused("a start at a time", asked.err(), can, &stage.capability)?;
    } else {
        seats.push((sit("time", time).await?, &all[before.len()..]));
    }
    if stage.capability.replay != Replay::None {
        seats.push((sit("oldest", Start::Oldest).await?, &all[..]));
    }
    stage.publish(&near, &newest).await?;
    for (seat, events) in &seats {
        arrives(seat, events).await?;
    }
    if stage.capability.replay == Replay::Time {
        let group = stage.group("oldest");
        let keeper = far.keeper().ok_or_else(|| Broken::new("it replays, and keeps no groups"))?;
        let began = stage.history.now();
        let count = stage.within("a replay", keeper.replay(&group, time)).await??;
        stage.history.note(began, [What::Anew { group }]);
        let again = &all[before.len()..];
        ensure(count == again.len() as u64, || {
            format!("{} events are to come again, and the replay says {count}", again.len())
        })?;
        if let Some((seat, _)) = seats.last() {
            arrives(seat, again).await.map_err(|broken| broken.within("replayed"))?;
        }
    }
    match stage.capability.replay {
        Replay::None => Ok(Finding::Refused("it keeps no history, and says so".into())),
        _ => Ok(Finding::Passed(None)),
    }
}

pub(super) async fn arrives(seat: &Seat, events: &[Event]) -> Checked {
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

pub(super) fn same(sent: &Event, found: &Event) -> Checked {
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
