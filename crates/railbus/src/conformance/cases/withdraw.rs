//! Events that are taken back before they are due.

use crate::{
    backend::{Broadcast, Capability, Verdict},
    conformance::{
        census::{census, once},
        finding::{Checked, Finding, ensure},
        refusal::{no_groups, refused},
        seat::{Ear, id, ids},
        stage::{Stage, literal},
    },
    event::Event,
    predicate,
};
use std::time::{Duration, Instant};

/// How long an event is held back that is withdrawn: longer where the machine is too slow.
const DELAYS: [Duration; 3] =
    [Duration::from_millis(400), Duration::from_secs(2), Duration::from_secs(10)];

/// An event that is held back is taken back, once, and comes to nobody; one that was handed out, or
/// was never there, is not.
pub(super) async fn withdrawal(stage: &Stage) -> Checked<Finding> {
    if !stage.capability.withdraws && stage.capability.broadcast != Broadcast::Inline {
        let asked = stage.within("a refusal", async {
            let bus = stage.bus().await?;
            Checked::Ok(bus.withdraw(&stage.topic("nothing")).await)
        });
        let can = |c: &Capability| c.withdraws;
        let hint = refused("withdrawing", asked.await??.err(), can, &stage.capability)?;
        return Ok(Finding::Refused(hint));
    }
    if stage.capability.broadcast != Broadcast::None {
        let mut withdrawn = false;
        for delay in DELAYS {
            let heard = async { Checked::Ok(withdrawn || heard(stage, delay).await?) };
            withdrawn = heard.await.map_err(|broken| broken.within("broadcast"))?;
        }
        ensure(withdrawn, too_late)?;
    }
    if !stage.capability.withdraws {
        return Ok(Finding::Refused("nothing is stored, and the bus itself withdraws".into()));
    }
    if !stage.capability.groups {
        no_groups(stage).await?;
        return Ok(Finding::Passed(None));
    }
    let mut withdrawn = false;
    for delay in DELAYS {
        withdrawn = withdrawn || shared(stage, delay).await?;
    }
    ensure(withdrawn, too_late)?;
    Ok(Finding::Passed(None))
}

fn too_late() -> String {
    "what is held back was handed out before it could be withdrawn".into()
}

/// Withdraws from a group; false if that was too late.
async fn shared(stage: &Stage, delay: Duration) -> Checked<bool> {
    let part = format!("withdrawn {delay:?}");
    let (topic, group) = (stage.topic(&part), stage.group(&part));
    let (near, far) = (stage.open().await?, stage.open().await?);
    let seat = stage.join(&far, &group, &topic, stage.lease()).await?;
    let [gone, stays] = two(&topic, delay);
    let now = stage.events(&topic, 1).remove(0);
    let began = Instant::now();
    stage.publish(&near, &[gone.clone(), stays.clone(), now.clone()]).await?;
    let withdraw = async |event: &str, expected: bool, what: &str| {
        let withdrawn = stage.within("a withdrawal", far.withdraw(event)).await??;
        ensure(withdrawn == expected, || {
            format!("withdrawing {what} must say {expected}, and said {withdrawn}")
        })
    };
    // By another connection than it came from.
    let withdrawn = withdraw(gone.id(), true, "what is held back").await;
    if withdrawn.is_err() && began.elapsed() >= delay {
        return Ok(false);
    }
    withdrawn?;
    withdraw(gone.id(), false, "what was withdrawn").await?;
    withdraw(&stage.topic("never"), false, "what was never there").await?;
    let leased = seat.next().await?;
    ensure(id(&leased) == now.id(), || format!("{} came instead of {}", id(&leased), now.id()))?;
    withdraw(now.id(), false, "what was handed out").await?;
    let mut handled = Vec::new();
    if stage.capability.delay_max.is_some() {
        let delay = stage.lease();
        seat.settle(&leased.receipt, Verdict::Nack { delay }).await??;
        withdraw(now.id(), false, "what is held back for another try").await?;
    } else {
        seat.ack(&leased).await?;
        handled.push(leased);
    }
    while handled.len() < 2 {
        let leased = seat.next().await?;
        seat.ack(&leased).await?;
        handled.push(leased);
    }
    census([stays.id(), now.id()], ids(&handled))?;
    seat.nothing_else().await?;
    Ok(true)
}

/// Returns an event that is to be taken back, and one that is due soon after it.
fn two(topic: &str, delay: Duration) -> [Event; 2] {
    [delay, delay + Duration::from_millis(100)]
        .map(|delay| Event::new("later").topic(topic).delay(delay).payload(()))
}

/// Withdraws a broadcast, which nobody on its bus hears then; false if that was too late.
async fn heard(stage: &Stage, delay: Duration) -> Checked<bool> {
    let topic = stage.topic(&format!("unheard {delay:?}"));
    let bus = stage.bus().await?;
    let mut ear = Ear::open(&bus, predicate::topic(&literal(&topic)), stage.patience).await?;
    let [gone, stays] = two(&topic, delay);
    let began = Instant::now();
    for event in [&gone, &stays] {
        bus.publish(event.clone()).await?;
    }
    for (times, expected) in [("once", true), ("again", false)] {
        let withdrawn = stage.within("a withdrawal", bus.withdraw(gone.id())).await??;
        if expected && !withdrawn && began.elapsed() >= delay {
            return Ok(false);
        }
        ensure(withdrawn == expected, || {
            format!("withdrawing {times} must say {expected}, and said {withdrawn}")
        })?;
    }
    // Due after the other one would have been.
    let mut heard = ear.take(1).await?;
    heard.extend(ear.rest());
    once([stays.id()], heard.iter().map(Event::id))?;
    Ok(true)
}
