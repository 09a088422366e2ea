//! A consumer process that is killed loses nothing.

use crate::{
    backend::{Receipt, Verdict},
    conformance::{
        census::census,
        finding::{Broken, Checked, Finding},
        history::{Delivered, What},
        member::{Member, Process, Said},
        recorder::new_number,
        refusal::without_leases,
        seat::id,
        stage::Stage,
    },
};
use std::{collections::HashMap, time::Duration};

/// Processes that hold events are killed, one after another: what they had settled stays
/// settled, what they held comes again with its deliveries counted, and all is handled in the end.
pub(super) async fn kill_9(stage: &Stage) -> Checked<Finding> {
    if let Some(finding) = without_leases(stage).await? {
        return Ok(finding);
    }
    if !stage.capability.durable {
        return Ok(Finding::NotRun("its events do not survive a process".into()));
    }
    let (topic, group) = (stage.topic("killed"), stage.group("killed"));
    let backend = stage.open().await?;
    // A process takes its time to start, and to settle what it has.
    let lease = stage.lease() * 2;
    let seat = stage.join(&backend, &group, &topic, lease).await?;
    let events = stage.events(&topic, stage.counts.kills * 4);
    stage.publish(&backend, &events).await?;
    let mut handled = Vec::new();
    for _ in 0..stage.counts.kills {
        let member = Member {
            group: group.clone(),
            topic: topic.clone(),
            lease_ms: u64::try_from(lease.as_millis()).unwrap_or(u64::MAX),
            settles: stage.count(0, 2),
            max: stage.count(2, 6),
            clock_ahead: 0,
        };
        let Some(process) = stage.start_member(&member) else {
            let why = "the target doesn't say how to start a consumer process";
            return Ok(Finding::NotRun(why.into()));
        };
        let (begun, mut process) = (stage.history.now(), process?);
        live(stage, &mut process, &member, begun, &mut handled).await?;
        process.kill();
    }
    while handled.len() < events.len() {
        let of = format!("{} of {} are handled", handled.len(), events.len());
        let leased = seat.next().await.map_err(|broken| broken.within(&of))?;
        seat.ack(&leased).await?;
        handled.push(id(&leased).to_owned());
    }
    seat.nothing_else().await?;
    census(events.iter().map(|event| event.id()), handled.iter().map(String::as_str))?;
    Ok(Finding::Passed(Some(format!("{} processes killed", stage.counts.kills))))
}

/// Writes down what a process says until it holds something; it took nothing before `begun`.
pub(super) async fn live(
    stage: &Stage,
    process: &mut Process,
    member: &Member,
    begun: Duration,
    handled: &mut Vec<String>,
) -> Checked {
    let number = new_number();
    let mut receipts = HashMap::new();
    loop {
        let said = stage.within("a consumer process to say something", process.next()).await?;
        match said.ok_or_else(|| Broken::new("a consumer process ended by itself"))? {
            Said::Delivered { id, attempt } => {
                // Its receipts are its own; these stand for them.
                let receipt = Receipt { place: receipts.len() as u64, fence: 0, token: None };
                receipts.insert(id.clone(), receipt.clone());
                let delivered = What::Delivered(Delivered {
                    event: id,
                    group: Some(member.group.clone()),
                    member: number,
                    receipt,
                    attempt,
                    lease: Duration::from_millis(member.lease_ms),
                    by_key: false,
                    wants: "".into(),
                });
                stage.history.note(begun, [delivered]);
            }
            Said::Settled { id } => {
                let receipt = receipts.get(&id).cloned();
                let settled = receipt.map(|receipt| What::Settled {
                    member: number,
                    receipt,
                    verdict: Verdict::Ack,
                });
                stage.history.note(begun, settled);
                handled.push(id);
            }
            Said::Joined {} => {}
            Said::Holding {} => break,
        }
    }
    Ok(())
}

/// Waits until a process is a member of its group.
pub(super) async fn joined(stage: &Stage, process: &mut Process) -> Checked {
    match stage.within("a consumer process to join", process.next()).await? {
        Some(Said::Joined {}) => Ok(()),
        said => Err(Broken::new(format!("a consumer process said {said:?} before it had joined"))),
    }
}
