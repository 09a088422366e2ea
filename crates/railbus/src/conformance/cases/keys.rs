//! Events of one key, one after another.

use crate::{
    backend::{Backend, Capability, Keyed, Order, Start, Verdict},
    bus::Bus,
    conformance::{
        census::census,
        finding::{Broken, Checked, Finding, ensure},
        refusal::{no_groups, refused},
        seat::{Seat, id},
        stage::{LONG_LEASE, Stage, literal, on_topic},
    },
    delivery::Delivery,
    event::Event,
    predicate,
    retry::Retry,
};
use std::{collections::BTreeMap, sync::Arc, time::Duration};
use tokio::sync::{Semaphore, mpsc};

/// How many work on a group at once, on two connections.
const WORKERS: usize = 8;

/// How many keys there are.
const KEYS: usize = 10;

/// What a case about keys comes to where there is no order by key.
async fn without_keys(stage: &Stage) -> Checked<Option<Finding>> {
    if !stage.capability.groups {
        return no_groups(stage).await.map(Some);
    }
    if stage.capability.keyed != Keyed::None {
        return Ok(None);
    }
    let (bus, topic) = (stage.bus().await?, stage.topic("refused"));
    let on = bus.on(predicate::topic(&literal(&topic))).group(stage.group("refused"));
    let opening = on.ordered_by_key().run(|_: &Event| ());
    let asked = stage.within("a refusal", opening.into_future()).await?;
    let can = |c: &Capability| c.keyed != Keyed::None;
    let hint = refused("order by key", asked.err(), can, &stage.capability)?;
    Ok(Some(Finding::Refused(hint)))
}

/// Many workers on two connections handle the events of each key in order, although handlers fail
/// by chance; nothing of a key comes after an event of it that is not settled.
pub(super) async fn order_by_key(stage: &Stage) -> Checked<Finding> {
    if let Some(finding) = without_keys(stage).await? {
        return Ok(finding);
    }
    unacked(stage).await.map_err(|broken| broken.within("after an event that is not settled"))?;
    let (topic, group) = (stage.topic("workers"), stage.group("workers"));
    let near = stage.open().await?;
    let (says, mut said) = mpsc::unbounded_channel();
    let buses = [stage.bus().await?, stage.bus().await?];
    for bus in &buses {
        let says = says.clone();
        let salt = stage.count(0, 1 << 20);
        by_key(bus, &group, &topic, WORKERS / 2)
            .retry(
                Retry::attempts(10)
                    .backoff_factor(Duration::from_millis(1))
                    .max_backoff(Duration::from_millis(3)),
            )
            .run(async move |delivery: Delivery| {
                tokio::task::yield_now().await;
                let event = delivery.event();
                if fails(&number(event), delivery.attempt(), salt) {
                    return Err("by chance");
                }
                // The case may be over.
                let _ = says.send((key(event), event.id().to_owned()));
                Ok(())
            })
            .await?;
    }
    let events = keyed(&topic, stage.counts.events * KEYS / 2, &|n| format!("k{}", n % KEYS));
    stage.publish(&near, &events).await?;
    let mut handled: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for n in 0..events.len() {
        let what = format!("event {} of {}", n + 1, events.len());
        let told = stage.within(&what, said.recv()).await?;
        let (key, id) = told.ok_or_else(|| Broken::new("the workers ended"))?;
        handled.entry(key).or_default().push(id);
    }
    // What is settled is told by then.
    for bus in &buses {
        stage.within("close", bus.close_within(stage.patience)).await??;
    }
    for (name, handled) in &handled {
        let of_key = events.iter().filter(|event| key(event) == *name);
        let expected: Vec<_> = of_key.map(Event::id).collect();
        ensure(handled.iter().map(String::as_str).eq(expected.iter().copied()), || {
            format!("the events of {name} were handled as {handled:?}, not as {expected:?}")
        })?;
    }
    Ok(Finding::Passed(Some(format!("{WORKERS} workers, {KEYS} keys"))))
}

/// Returns the payload, which a run of the same seed has as well; ids are new each time.
fn number(event: &Event) -> Vec<u8> {
    event.raw_payload().text().map_or_else(|_| Vec::new(), |text| text.to_vec())
}

/// Tells whether a try fails: one in three of the first three, the same with each run of a seed.
fn fails(payload: &[u8], attempt: u32, salt: usize) -> bool {
    let sum =
        payload.iter().fold(salt, |sum, byte| sum.wrapping_mul(31).wrapping_add((*byte).into()));
    attempt <= 3 && (sum >> (attempt * 3)).is_multiple_of(3)
}

fn by_key(bus: &Bus, group: &str, topic: &str, limit: usize) -> crate::bus::On {
    bus.on(predicate::topic(&literal(topic)))
        .group(group)
        .from(Start::Newest)
        .lease(LONG_LEASE)
        .limit(limit)
        .ordered_by_key()
}

fn key(event: &Event) -> String {
    event.key().unwrap_or_default().to_owned()
}

fn keyed(topic: &str, count: usize, key: &dyn Fn(usize) -> String) -> Vec<Event> {
    (0..count).map(|n| Event::new("keyed").topic(topic).key(key(n)).payload(n)).collect()
}

/// Holds the first event of a key: no other of it comes, held, held back or given back.
async fn unacked(stage: &Stage) -> Checked {
    let (topic, group) = (stage.topic("unacked"), stage.group("unacked"));
    let (near, far) = (stage.open().await?, stage.open().await?);
    let mut request = stage.request(&group, on_topic(&topic), LONG_LEASE);
    request.order = Order::ByKey;
    let one = stage.sit(&near, request.clone(), &topic).await?;
    let other = stage.sit(&far, request, &topic).await?;
    let events = keyed(&topic, 3, &|_| "a".into());
    stage.publish(&near, &events).await?;
    let first = one.next().await?;
    ensure(id(&first) == events[0].id(), || format!("{} came first", id(&first)))?;
    only_another_key(stage, &other, "while it is held").await?;
    if stage.capability.delay_max.is_some() {
        let delay = stage.lease();
        one.settle(&first.receipt, Verdict::Nack { delay }).await??;
        only_another_key(stage, &other, "while it is held back").await?;
    } else {
        one.settle(&first.receipt, Verdict::Release { delay: Duration::ZERO }).await??;
    }
    for event in &events {
        let next = other.next().await?;
        ensure(id(&next) == event.id(), || {
            format!("{} came although {} was not settled", id(&next), event.id())
        })?;
        other.ack(&next).await?;
    }
    if stage.capability.delay_max.is_some() {
        given_back(stage, &near, &topic, (&one, &other)).await?;
    }
    Ok(())
}

/// Gives an event back with a delay: what is published of its key after that does not come before.
async fn given_back(
    stage: &Stage,
    near: &Arc<dyn Backend>,
    topic: &str,
    (one, other): (&Seat, &Seat),
) -> Checked {
    let [first, behind] = [keyed(topic, 1, &|_| "c".into()), keyed(topic, 1, &|_| "c".into())];
    stage.publish(near, &first).await?;
    let leased = one.next().await?;
    one.settle(&leased.receipt, Verdict::Release { delay: stage.lease() }).await??;
    stage.publish(near, &behind).await?;
    only_another_key(stage, other, "while it is given back").await?;
    for event in first.iter().chain(&behind) {
        let next = other.next().await?;
        ensure(id(&next) == event.id(), || {
            format!("{} came although {} was given back before", id(&next), event.id())
        })?;
        other.ack(&next).await?;
    }
    Ok(())
}

/// Publishes an event of another key, which is all that may come.
async fn only_another_key(stage: &Stage, seat: &Seat, when: &str) -> Checked {
    let other = keyed(&stage.topic("unacked"), 1, &|_| "b".into());
    stage.publish(&stage.open().await?, &other).await?;
    for leased in seat.fetch(10).await? {
        let came = id(&leased);
        ensure(came == other[0].id(), || format!("{came} came {when}"))?;
        seat.ack(&leased).await?;
    }
    Ok(())
}

/// A key with a long backlog and a handler that stands still holds up no other key.
pub(super) async fn hot_key(stage: &Stage) -> Checked<Finding> {
    if let Some(finding) = without_keys(stage).await? {
        return Ok(finding);
    }
    let (topic, group) = (stage.topic("hot"), stage.group("hot"));
    let (near, bus) = (stage.open().await?, stage.bus().await?);
    let gate = Arc::new(Semaphore::new(0));
    let (waits, (says, mut said)) = (Arc::clone(&gate), mpsc::unbounded_channel());
    by_key(&bus, &group, &topic, WORKERS / 2)
        .run(async move |event: Event| {
            if key(&event) == "hot" {
                drop(waits.acquire().await);
            }
            // The case may be over.
            let _ = says.send(event.id().to_owned());
        })
        .await?;
    let hot = keyed(&topic, stage.counts.shared, &|_| "hot".into());
    let cold = keyed(&topic, stage.counts.events, &|n| format!("k{}", n % KEYS));
    stage.publish(&near, &hot).await?;
    stage.publish(&near, &cold).await?;
    let mut handled = Vec::new();
    let mut wait_for = async |events: &[Event], what: &str| {
        handled.clear();
        for n in 0..events.len() {
            let of = format!("event {} of {} {what}", n + 1, events.len());
            handled.extend(stage.within(&of, said.recv()).await?);
        }
        census(events.iter().map(Event::id), handled.iter().map(String::as_str))
    };
    wait_for(&cold, "beside a hot key").await?;
    gate.add_permits(Semaphore::MAX_PERMITS);
    wait_for(&hot, "of the hot key").await?;
    stage.within("close", bus.close_within(stage.patience)).await??;
    Ok(Finding::Passed(Some(format!("{} events wait of one key", hot.len()))))
}
