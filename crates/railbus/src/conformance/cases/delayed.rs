//! Events that are published to come later.

use crate::{
    backend::{Broadcast, Capability},
    conformance::{
        census::{census, once},
        finding::{Checked, Finding, ensure},
        refusal::{no_groups, refused},
        rules::SLACK,
        seat::{Ear, id, ids},
        stage::{LONG_LEASE, Stage, literal},
    },
    error::{Error, ErrorKind},
    event::Event,
    predicate,
};
use std::time::{Duration, Instant};

/// How late an event may come, beside what its backend counts delays in.
const LATEST: Duration = Duration::from_secs(2);

/// A delayed event comes, soon after its time and not before its time, whoever is open then; one that is not delayed does
/// not wait for it. A delay that is longer than claimed is refused.
pub(super) async fn delayed_events(stage: &Stage) -> Checked<Finding> {
    let Some(most) = stage.capability.publish_delay_max else {
        return refuses(stage, Duration::from_millis(1)).await.map(Finding::Refused);
    };
    if most < Duration::MAX {
        refuses(stage, most + Duration::from_secs(1)).await?;
    }
    if stage.capability.broadcast != Broadcast::None {
        heard(stage).await.map_err(|broken| broken.within("broadcast"))?;
    }
    if !stage.capability.groups {
        no_groups(stage).await?;
        return Ok(Finding::Passed(None));
    }
    let (topic, group) = (stage.topic("later"), stage.group("later"));
    let (near, far) = (stage.open().await?, stage.open().await?);
    let seat = stage.join(&far, &group, &topic, LONG_LEASE).await?;
    let events = delayed(stage, &topic);
    let began = Instant::now();
    stage.publish(&near, &events).await?;
    let mut come = Vec::new();
    let mut late = Duration::ZERO;
    for _ in &events {
        let leased = seat.next().await?;
        let at = began.elapsed();
        late = late.max(not_early(&events, id(&leased), at)?);
        seat.ack(&leased).await?;
        come.push(leased);
    }
    census(events.iter().map(Event::id), ids(&come))?;
    ensure(id(&come[0]) == events[2].id(), || {
        format!("{} came before the event without a delay", id(&come[0]))
    })?;
    let longest = LATEST + stage.capability.delay_step;
    ensure(late <= longest, || format!("an event came {late:?} late, of {longest:?} at most"))?;
    Ok(Finding::Passed(Some(format!("at most {} ms late", late.as_millis()))))
}

/// Returns events that come later, and one that does not, in no order.
fn delayed(stage: &Stage, topic: &str) -> Vec<Event> {
    let lease = stage.lease();
    let after = |delay: Duration| Event::new("later").topic(topic).delay(delay).payload(());
    let now = Event::new("now").topic(topic).payload(());
    vec![after(lease * 2), after(lease), now, after(lease / 3)]
}

/// Checks that an event came in its time; returns how late it was.
fn not_early(events: &[Event], id: &str, at: Duration) -> Checked<Duration> {
    let delay = events.iter().find(|event| event.id() == id).and_then(Event::delay);
    let delay = delay.unwrap_or_default();
    ensure(at + SLACK >= delay, || format!("{id} was to come after {delay:?}, and came {at:?}"))?;
    Ok(at.saturating_sub(delay))
}

async fn heard(stage: &Stage) -> Checked {
    let topic = stage.topic("heard later");
    let (near, far) = stage.pair().await?;
    let mut ear = Ear::open(&far, predicate::topic(&literal(&topic)), stage.patience).await?;
    let events = delayed(stage, &topic);
    let began = Instant::now();
    for event in &events {
        near.publish(event.clone()).await?;
    }
    let mut heard = Vec::new();
    for _ in &events {
        heard.push(ear.next().await?);
        not_early(&events, heard[heard.len() - 1].id(), began.elapsed())?;
    }
    once(events.iter().map(Event::id), heard.iter().map(Event::id))
}

/// Publishes with a delay that is not claimed; returns the hint of the refusal.
async fn refuses(stage: &Stage, delay: Duration) -> Checked<String> {
    let bus = stage.bus().await?;
    let event = Event::new("later").topic(stage.topic("refused")).delay(delay).payload(());
    let asked = stage.within("a refusal", bus.publish(event)).await?;
    // Where nothing leaves the process, the bus itself waits.
    if stage.capability.publish_delay_max.is_none()
        && stage.capability.broadcast == Broadcast::Inline
    {
        asked?;
        return Ok("nothing is stored, and the bus itself waits".into());
    }
    if stage.capability.publish_delay_max.is_some() {
        let kind = asked.as_ref().err().map(Error::kind);
        ensure(kind == Some(ErrorKind::Unsupported), || {
            format!("a delay of {delay:?} must be refused as unsupported, and gave {asked:?}")
        })?;
        return Ok(String::new());
    }
    let can = |c: &Capability| c.publish_delay_max.is_some();
    refused("a delayed event", asked.err(), can, &stage.capability)
}
