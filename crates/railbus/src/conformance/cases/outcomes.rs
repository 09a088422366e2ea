//! What each subscription of a group came to.

use crate::{
    backend::Start,
    bus::Bus,
    conformance::{
        finding::{Broken, Checked, Finding, ensure},
        refusal::without_leases,
        stage::{LONG_LEASE, Stage, literal},
    },
    delivery::{Delivery, Outcome},
    predicate,
    retry::Retry,
};
use std::time::Duration;
use tokio::sync::mpsc;

/// How long a lease is that an event is not kept for until it is tried again.
const LEASE: Duration = Duration::from_millis(500);

/// Who handled an event is not called again because another subscription of its group failed, be it
/// by another member later: where that is claimed.
pub(super) async fn outcomes(stage: &Stage) -> Checked<Finding> {
    if let Some(finding) = without_leases(stage).await? {
        return Ok(finding);
    }
    if stage.capability.delay_max.is_none() {
        return Ok(Finding::NotRun("nothing is held back until another member is there".into()));
    }
    let (topic, group) = (stage.topic("outcomes"), stage.group("outcomes"));
    let near = stage.open().await?;
    let (says, mut said) = mpsc::unbounded_channel();
    let first = open(stage, &group, &topic, says.clone(), true).await?;
    let event = stage.events(&topic, 1).remove(0);
    stage.publish(&near, std::slice::from_ref(&event)).await?;
    let mut told = Vec::new();
    while told.len() < 2 {
        told.push(next(stage, &mut said).await?);
    }
    stage.within("close", first.close_within(stage.patience)).await??;
    let second = open(stage, &group, &topic, says, false).await?;
    while told.iter().filter(|name| **name == "failing").count() < 2 {
        told.push(next(stage, &mut said).await?);
    }
    stage.within("the event to be settled", second.idle()).await??;
    stage.within("close", second.close_within(stage.patience)).await??;
    told.extend(std::iter::from_fn(|| said.try_recv().ok()));
    told.sort_unstable();
    if stage.capability.keeps_finished {
        ensure(told == ["failing", "failing", "sound"], || {
            format!("one failed once and one was through, and these were called: {told:?}")
        })?;
        return Ok(Finding::Passed(None));
    }
    Ok(Finding::Passed(Some(format!("it is not claimed that they are kept: {told:?}"))))
}

async fn next(
    stage: &Stage,
    said: &mut mpsc::UnboundedReceiver<&'static str>,
) -> Checked<&'static str> {
    let name = stage.within("both subscriptions to be called", said.recv()).await?;
    name.ok_or_else(|| Broken::new("the subscriptions are gone"))
}

/// Opens a bus with both subscriptions, of which one may have the event come again later.
async fn open(
    stage: &Stage,
    group: &str,
    topic: &str,
    says: mpsc::UnboundedSender<&'static str>,
    fails: bool,
) -> Checked<Bus> {
    let bus = stage.bus().await?;
    let lease = if fails { LEASE.max(stage.lease()) } else { LONG_LEASE };
    for name in ["failing", "sound"] {
        let says = says.clone();
        bus.on(predicate::topic(&literal(topic)))
            .group(group)
            .named(name)
            .from(Start::Newest)
            .lease(lease)
            .retry(Retry::attempts(3))
            .run(move |_: Delivery| {
                // The case may be over.
                let _ = says.send(name);
                // Longer than it is leased, so that it is given back.
                if fails && name == "failing" { Outcome::Retry(lease * 2) } else { Outcome::Done }
            })
            .await?;
    }
    Ok(bus)
}
