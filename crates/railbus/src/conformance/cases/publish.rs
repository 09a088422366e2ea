//! What is published arrives, unchanged.

use crate::{
    backend::{Backend, Broadcast, Capability, Ordering, Replay, Start},
    clock::Timestamp,
    conformance::{
        finding::{Broken, Checked, Finding, ensure},
        history::What,
        refusal::{no_groups, refused},
        seat::{Ear, Seat},
        stage::{LONG_LEASE, Stage, literal, on_topic},
    },
    error::Result,
    event::{Event, EventBuilder},
    predicate,
};
use serde_json::{Value, json};
use std::{sync::Arc, time::Duration};

/// How far a start between two events is from each, and so how wrong a start at a time may be.
const APART: Duration = Duration::from_millis(200);

/// From which difference on it is told that the store has another clock than this machine.
const OFF_BY: Duration = Duration::from_secs(1);

/// Which part of its patience a case waits for an event that may not be there.
const NEITHER: u32 = 10;

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
    let clock = stage.topic("clock");
    let two = stage.events(&clock, 2);
    stage.publish(&near, &before).await?;
    stage.publish(&near, &two[..1]).await?;
    tokio::time::sleep(APART).await;
    let (between, ours) = (stage.store_time().await?, Timestamp::now());
    tokio::time::sleep(APART).await;
    let after = stage.events(&topic, 3);
    stage.publish(&near, &two[1..]).await?;
    stage.publish(&near, &after).await?;
    let sit = |part: &str, start: Start| {
        let mut request = stage.request(&stage.group(part), on_topic(&topic), LONG_LEASE);
        request.start = start;
        stage.sit(&far, request, &topic)
    };
    if stage.capability.replay == Replay::Time {
        let parted = Parted { topic: &clock, before: &two[0], after: &two[1] };
        parted.by(stage, &far, between).await?;
    }
    let time = Start::At(between);
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
        _ => Ok(Finding::Passed(off_by(ours, between))),
    }
}

/// Two events, published with those before a time and with those after it.
struct Parted<'a> {
    topic: &'a str,
    before: &'a Event,
    after: &'a Event,
}

impl Parted<'_> {
    /// Checks that a start at a time gives what was published after it, and not what was before.
    async fn by(&self, stage: &Stage, backend: &Arc<dyn Backend>, time: Timestamp) -> Checked {
        let first = self.first(stage, backend, time).await?;
        let is_after = first.as_deref() == Some(self.after.id());
        ensure(is_after, || {
            let which = if first.is_some() { "before it too" } else { "after it not even once" };
            format!(
                "a start at a time gives what was published {which} (a store whose clock is not this \
                 machine's needs a target that says what it is)"
            )
        })
    }

    /// Returns the first of the two that a group gets which starts at a time; none if it gets neither.
    async fn first(
        &self,
        stage: &Stage,
        backend: &Arc<dyn Backend>,
        time: Timestamp,
    ) -> Checked<Option<String>> {
        let group = stage.group("parted");
        let mut request = stage.request(&group, on_topic(self.topic), LONG_LEASE);
        request.start = Start::At(time);
        let source = stage.within("a source to open", backend.subscribe(request)).await??;
        let mut came = Vec::new();
        let (stop, stopped) = (source.clone(), stage.patience / NEITHER);
        let stopping = async move {
            tokio::time::sleep(stopped).await;
            stop.stop();
        };
        let coming = async {
            // Without an order the one before may come behind the one after.
            let enough = if stage.capability.ordering == Ordering::None { 2 } else { 1 };
            while came.len() < enough {
                let leased = source.fetch(2).await?;
                if leased.is_empty() {
                    break;
                }
                for leased in leased {
                    came.push(leased.event.map_err(|poison| poison.error)?.id().to_owned());
                }
            }
            Result::<()>::Ok(())
        };
        let coming = async {
            tokio::pin!(coming);
            tokio::select! {
                came = &mut coming => came,
                // What is fetched for is never let go of: it ends by itself.
                () = stopping => coming.await,
            }
        };
        stage.within("an event after a time", coming).await??;
        stage.within("a source to close", source.close()).await??;
        let before = came.iter().position(|id| id == self.before.id());
        Ok(before.map_or_else(|| came.first().cloned(), |place| came.get(place).cloned()))
    }
}

/// Says by how much a store's clock is off, if it is.
fn off_by(ours: Timestamp, theirs: Timestamp) -> Option<String> {
    let off = theirs.as_micros() - ours.as_micros();
    let by = Duration::from_micros(off.unsigned_abs());
    let way = if off > 0 { "ahead of" } else { "behind" };
    (by >= OFF_BY).then(|| format!("its clock is about {by:.1?} {way} this machine's"))
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
