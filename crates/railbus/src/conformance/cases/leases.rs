//! Held back, run out, extended: what time does to a lease.

use crate::{
    backend::{Capability, Release, Verdict},
    conformance::{
        finding::{Broken, Checked, Finding, ensure},
        refusal::{refused, without_leases},
        seat::{Seat, id},
        stage::{LONG_LEASE, Stage},
    },
};
use std::time::Duration;

/// What is given back with a delay comes again, and not before it, be it longer than the lease.
pub(super) async fn nack_delay(stage: &Stage) -> Checked<Finding> {
    if let Some(finding) = without_leases(stage).await? {
        return Ok(finding);
    }
    let (topic, group) = (stage.topic("delayed"), stage.group("delayed"));
    let backend = stage.open().await?;
    let seat = stage.join(&backend, &group, &topic, stage.lease()).await?;
    let Some(most) = stage.capability.delay_max else {
        stage.publish(&backend, &stage.events(&topic, 1)).await?;
        let leased = seat.next().await?;
        let delay = Duration::from_secs(1);
        let asked = seat.settle(&leased.receipt, Verdict::Nack { delay }).await?;
        let can = |c: &Capability| c.delay_max.is_some();
        let hint = refused("holding an event back", asked.err(), can, &stage.capability)?;
        return Ok(Finding::Refused(hint));
    };
    let lease = stage.lease();
    let mut delays = vec![Duration::ZERO, lease * 2, lease / 2];
    let random = || stage.lease() * u32::try_from(stage.count(1, 120)).unwrap_or(1) / 100;
    delays.extend(std::iter::repeat_with(random).take(stage.counts.rounds));
    stage.publish(&backend, &stage.events(&topic, delays.len())).await?;
    let taken = seat.take(delays.len()).await?;
    // The history knows when each came again.
    for (leased, delay) in taken.iter().zip(&delays) {
        let delay = (*delay).min(most);
        seat.settle(&leased.receipt, Verdict::Nack { delay }).await??;
    }
    for _ in &delays {
        let again = seat.next().await?;
        seat.ack(&again).await?;
    }
    seat.nothing_else().await?;
    Ok(Finding::Passed(None))
}

/// A lease that runs out gives the event to another member, and not before it has; what was
/// acked in time never comes again, even if the fetch before it was a long wait.
pub(super) async fn lease_expiry(stage: &Stage) -> Checked<Finding> {
    if let Some(finding) = without_leases(stage).await? {
        return Ok(finding);
    }
    let (topic, group) = (stage.topic("expiry"), stage.group("expiry"));
    let (near, far) = (stage.open().await?, stage.open().await?);
    let one = stage.join(&near, &group, &topic, stage.lease()).await?;
    let other = stage.join(&far, &group, &topic, stage.lease()).await?;
    let events = stage.events(&topic, 4);
    stage.publish(&near, &events).await?;
    let taken = one.take(4).await?;
    one.ack_all(&taken[..2]).await?;
    let again = other.take(2).await?;
    for leased in &again {
        ensure(taken[2..].iter().any(|t| id(t) == id(leased)), || {
            format!("{} came again although it was acked in time", id(leased))
        })?;
        ensure(!stage.capability.counts_attempts || leased.attempt == 2, || {
            format!("came again as attempt {} after its lease ran out", leased.attempt)
        })?;
    }
    other.ack_all(&again).await?;
    other.nothing_else().await?;
    // A fetch that waits longer than a lease must not have begun the lease meanwhile.
    let late = async {
        tokio::time::sleep(stage.lease() * 2).await;
        stage.publish(&near, &stage.events(&topic, 1)).await
    };
    let (leased, published) = tokio::join!(one.next(), late);
    published?;
    one.ack(&leased?).await?;
    one.nothing_else().await?;
    Ok(Finding::Passed(None))
}

/// A lease that is extended in time is kept, however often; tries made meanwhile are counted.
pub(super) async fn extension(stage: &Stage) -> Checked<Finding> {
    if let Some(finding) = without_leases(stage).await? {
        return Ok(finding);
    }
    if !stage.capability.extends {
        return not_extended(stage).await.map(Finding::Refused);
    }
    kept(stage).await?;
    tries(stage).await.map_err(|broken| broken.within("tries in place"))?;
    Ok(Finding::Passed(None))
}

/// Asks for more time where none is given: the lease stays as it is.
async fn not_extended(stage: &Stage) -> Checked<String> {
    let (topic, group) = (stage.topic("kept"), stage.group("kept"));
    let backend = stage.open().await?;
    let seat = stage.join(&backend, &group, &topic, stage.lease()).await?;
    stage.publish(&backend, &stage.events(&topic, 1)).await?;
    let leased = seat.next().await?;
    let asked = seat.settle(&leased.receipt, Verdict::Extend { tries: 0 }).await?;
    let hint = refused("an extension", asked.err(), |c| c.extends, &stage.capability)?;
    seat.ack(&leased).await?;
    Ok(hint)
}

/// Keeps an event for three leases, while another member waits.
async fn kept(stage: &Stage) -> Checked {
    let (topic, group, lease) = (stage.topic("kept"), stage.group("kept"), stage.lease());
    let (near, far) = (stage.open().await?, stage.open().await?);
    let one = stage.join(&near, &group, &topic, lease).await?;
    let other = stage.join(&far, &group, &topic, lease).await?;
    stage.publish(&near, &stage.events(&topic, 1)).await?;
    let leased = one.next().await?;
    let after = stage.events(&topic, 1);
    let keeping = async {
        for _ in 0..12 {
            tokio::time::sleep(lease / 4).await;
            let extended = one.settle(&leased.receipt, Verdict::Extend { tries: 0 }).await?;
            extended.map_err(|e| Broken::from(e).within("extending in time"))?;
        }
        one.ack(&leased).await?;
        stage.publish(&near, &after).await
    };
    // What the other one gets at last is what was published last.
    let (kept, next) = tokio::join!(keeping, other.next());
    kept?;
    let next = next?;
    ensure(after.iter().any(|event| event.id() == id(&next)), || {
        format!("{} was given away although its lease was extended in time", id(&next))
    })?;
    other.ack(&next).await?;
    other.nothing_else().await
}

/// Tries made in place show in the next delivery's attempt.
async fn tries(stage: &Stage) -> Checked {
    if !stage.capability.counts_attempts {
        return Ok(());
    }
    let (topic, group) = (stage.topic("tries"), stage.group("tries"));
    let backend = stage.open().await?;
    let seat: Seat = stage.join(&backend, &group, &topic, LONG_LEASE).await?;
    stage.publish(&backend, &stage.events(&topic, 1)).await?;
    let leased = seat.next().await?;
    for tries in [1, 2] {
        seat.settle(&leased.receipt, Verdict::Extend { tries }).await??;
    }
    let delay = Duration::ZERO;
    seat.settle(&leased.receipt, Verdict::Nack { delay }).await??;
    let again = seat.next().await?;
    ensure(again.attempt == 5, || {
        format!("delivered once and tried three times more, and then attempt {}", again.attempt)
    })?;
    // Given back unstarted, again and again: it is the same attempt, or each is one.
    let mut expected = again.attempt;
    let mut leased = again;
    for _ in 0..stage.counts.rounds {
        seat.settle(&leased.receipt, Verdict::Release { delay }).await??;
        leased = seat.next().await?;
        expected += u32::from(stage.capability.release == Release::CountsAsAttempt);
        ensure(leased.attempt == expected, || {
            format!("released, and then attempt {} instead of {expected}", leased.attempt)
        })?;
    }
    seat.ack(&leased).await
}
