//! A lease that was lost settles nothing.

use crate::{
    backend::{Fencing, Receipt, Verdict},
    conformance::{
        finding::{Checked, Finding, ensure},
        refusal::without_leases,
        seat::{Seat, id},
        stage::{LONG_LEASE, Stage},
    },
    error::ErrorKind,
};
use std::time::Duration;

fn verdicts() -> [Verdict; 4] {
    let delay = Duration::ZERO;
    [
        Verdict::Ack,
        Verdict::Extend { tries: 1 },
        Verdict::Nack { delay },
        Verdict::Release { delay },
    ]
}

/// A settlement by a lease that ran out and was given to another member, or to the same one
/// anew, is refused as stale and changes nothing; so is one of what is settled already.
pub(super) async fn stale_ack(stage: &Stage) -> Checked<Finding> {
    if let Some(finding) = without_leases(stage).await? {
        return Ok(finding);
    }
    if stage.capability.fencing == Fencing::None {
        return Ok(Finding::NotRun("it does not claim to notice lost leases".into()));
    }
    for another in [true, false] {
        lost(stage, another).await?;
    }
    settled(stage).await?;
    Ok(Finding::Passed(None))
}

async fn lost(stage: &Stage, another: bool) -> Checked {
    let whom = if another { "another member" } else { "the same member" };
    let (topic, group) = (stage.topic(whom), stage.group(whom));
    let (near, far) = (stage.open().await?, stage.open().await?);
    let one = stage.join(&near, &group, &topic, stage.lease()).await?;
    let other = stage.join(&far, &group, &topic, LONG_LEASE).await?;
    stage.publish(&near, &stage.events(&topic, verdicts().len())).await?;
    let taken = one.take(verdicts().len()).await?;
    let next = if another { &other } else { &one };
    // One at a time, so that the new lease is settled within its time.
    for _ in 0..taken.len() {
        let again = next.next().await?;
        let place = taken.iter().position(|t| id(t) == id(&again)).unwrap_or_default();
        let verdict = verdicts()[place].clone();
        let what = format!("{verdict:?} after the lease went to {whom}");
        refused(&one, &taken[place].receipt, verdict, &what).await?;
        next.ack(&again).await.map_err(|broken| broken.within(&what))?;
    }
    one.nothing_else().await
}

/// What is acked stays acked, and what is given back is nobody's.
async fn settled(stage: &Stage) -> Checked {
    let (topic, group) = (stage.topic("settled"), stage.group("settled"));
    let backend = stage.open().await?;
    let seat = stage.join(&backend, &group, &topic, stage.lease()).await?;
    stage.publish(&backend, &stage.events(&topic, 2)).await?;
    let acked = seat.next().await?;
    seat.ack(&acked).await?;
    let nacked = seat.next().await?;
    let delay = stage.lease();
    seat.settle(&nacked.receipt, Verdict::Nack { delay }).await??;
    for verdict in verdicts() {
        // An ack again may be taken as the same one, repeated.
        if verdict != Verdict::Ack {
            refused(&seat, &acked.receipt, verdict.clone(), &format!("{verdict:?} after an ack"))
                .await?;
        }
        refused(&seat, &nacked.receipt, verdict.clone(), &format!("{verdict:?} after a nack"))
            .await?;
    }
    let again = seat.next().await?;
    seat.ack(&again).await?;
    seat.nothing_else().await
}

async fn refused(seat: &Seat, receipt: &Receipt, verdict: Verdict, what: &str) -> Checked {
    let result = seat.settle(receipt, verdict).await?;
    let stale = result.as_ref().is_err_and(|e| e.kind() == ErrorKind::Stale);
    ensure(stale, || format!("{what} must be refused as stale, and gave {result:?}"))
}
