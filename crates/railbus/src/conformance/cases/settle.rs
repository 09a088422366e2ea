//! Many settlements in one call.

use crate::{
    backend::{Fencing, Settle, Verdict},
    conformance::{
        census::census,
        finding::{Broken, Checked, Finding, ensure},
        refusal::without_leases,
        seat::{id, ids},
        stage::{LONG_LEASE, Stage},
    },
    error::ErrorKind,
};
use std::time::Duration;

/// A settlement of many has a result for each, in order: one that is refused stands in the way of
/// no other, and each comes to what it says.
pub(super) async fn partial_settle(stage: &Stage) -> Checked<Finding> {
    if let Some(finding) = without_leases(stage).await? {
        return Ok(finding);
    }
    let (topic, group) = (stage.topic("partial"), stage.group("partial"));
    let backend = stage.open().await?;
    let seat = stage.join(&backend, &group, &topic, LONG_LEASE).await?;
    stage.publish(&backend, &stage.events(&topic, 6)).await?;
    let taken = seat.take(6).await?;
    seat.ack(&taken[0]).await?;
    let delay = Duration::ZERO;
    let extend = Verdict::Extend { tries: 0 };
    let verdicts = [
        (1, Verdict::Ack),
        (0, extend.clone()),
        (2, Verdict::Nack { delay }),
        (3, extend),
        (0, Verdict::Nack { delay }),
        (4, Verdict::Release { delay }),
        (5, Verdict::Ack),
    ];
    let settle =
        |(n, verdict): &(usize, Verdict)| Settle::new(taken[*n].receipt.clone(), verdict.clone());
    let results = seat.settle_together(verdicts.iter().map(settle).collect()).await?;
    let claims = |verdict: &Verdict| match verdict {
        Verdict::Extend { .. } => stage.capability.extends,
        Verdict::Nack { .. } => stage.capability.delay_max.is_some(),
        _ => true,
    };
    for ((n, verdict), result) in verdicts.iter().zip(&results) {
        let of = || format!("{verdict:?} of event {n} in a batch gave {result:?}");
        match n {
            0 if stage.capability.fencing == Fencing::None || !claims(verdict) => {}
            0 => {
                let stale = result.as_ref().is_err_and(|e| e.kind() == ErrorKind::Stale);
                ensure(stale, || format!("it was settled before, and {}", of()))?;
            }
            _ => ensure(result.is_ok() || !claims(verdict), of)?,
        }
    }
    // What came to nothing is held still.
    let back: Vec<_> = verdicts
        .iter()
        .zip(&results)
        .filter(|((n, v), r)| {
            *n > 0 && r.is_ok() && matches!(v, Verdict::Nack { .. } | Verdict::Release { .. })
        })
        .map(|((n, _), _)| id(&taken[*n]))
        .collect();
    let again = seat.take(back.len()).await?;
    census(back.iter().copied(), ids(&again))?;
    seat.ack_together(&again).await?;
    let held = verdicts.iter().zip(&results).filter(|((n, verdict), result)| {
        *n > 0 && (matches!(verdict, Verdict::Extend { .. }) || result.is_err())
    });
    for ((n, _), _) in held {
        seat.ack(&taken[*n]).await.map_err(|b: Broken| b.within("what was held all the time"))?;
    }
    Ok(Finding::Passed(None))
}
