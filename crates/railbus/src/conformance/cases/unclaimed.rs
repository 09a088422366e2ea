//! What is not claimed, asked for one by one.

use crate::{
    backend::{Broadcast, Capability, Keyed, Patterns, Settle, Verdict},
    bus::On,
    conformance::{
        finding::{Broken, Checked, Finding, ensure},
        refusal::{no_groups, refused},
        stage::{LONG_LEASE, Stage, literal},
    },
    delivery::Then,
    error::ErrorKind,
    event::Event,
    predicate,
};
use std::time::Duration;

/// Everything that a backend may claim and this one does not is asked for, and refused with the
/// name of one that can.
pub(super) async fn unclaimed(stage: &Stage) -> Checked<Finding> {
    let c = &stage.capability;
    let mut told = Vec::new();
    let mut refuses = async |what: &'static str, can: fn(&Capability) -> bool, on: On| {
        let opening = on.run(|_: &Event| ());
        let asked = stage.within("a refusal", opening.into_future()).await?;
        refused(what, asked.err(), can, c)?;
        told.push(what);
        Checked::Ok(())
    };
    let bus = stage.bus().await?;
    let on = |part: &str| bus.on(predicate::topic(&literal(&stage.topic(part))));
    let grouped = |part: &str| on(part).group(stage.group(part)).lease(LONG_LEASE);
    if c.broadcast == Broadcast::None {
        refuses("broadcast", |c| c.broadcast != Broadcast::None, on("broadcast")).await?;
    }
    if c.patterns == Patterns::None {
        let pattern = bus.on(predicate::topic(&format!("{}*", literal(&stage.topic("pattern")))));
        let pattern = if c.groups { pattern.group(stage.group("pattern")) } else { pattern };
        refuses("patterns", |c| c.patterns != Patterns::None, pattern).await?;
    }
    if c.groups && !c.dead_letters {
        let letters = grouped("letters").then(Then::DeadLetter);
        refuses("dead letters", |c| c.dead_letters, letters).await?;
    }
    if c.groups && c.keyed == Keyed::None {
        let keys = grouped("keys").ordered_by_key();
        refuses("order by key", |c| c.keyed != Keyed::None, keys).await?;
    }
    if !c.groups {
        no_groups(stage).await?;
        told.push("groups");
    }
    if !c.journal {
        refused("a journal of runs", bus.journal().err(), |c| c.journal, c)?;
        told.push("durable runs");
    }
    if !c.positions {
        ensure(bus.accounts().is_none(), || "it keeps accounts without positions".into())?;
        told.push("input positions");
    }
    if c.groups {
        bounds(stage, &grouped).await?;
    }
    if c.groups && c.lease_min.is_some() && !c.extends {
        extends(stage).await?;
        told.push("extension");
    }
    match told.is_empty() {
        true => Ok(Finding::Passed(Some("it claims all there is".into()))),
        false => Ok(Finding::Passed(Some(format!("refuses: {}", told.join(", "))))),
    }
}

/// Leases outside of what is claimed are refused when the subscription opens.
async fn bounds(stage: &Stage, grouped: &(dyn Fn(&str) -> On + Sync)) -> Checked {
    let c = &stage.capability;
    let least = c.lease_min.filter(|least| *least > Duration::from_millis(1)).map(|l| l / 2);
    let most = c.lease_max.map(|most| most + Duration::from_secs(1));
    for lease in [least, most].into_iter().flatten() {
        let opening = grouped("lease").lease(lease).run(|_: &Event| ());
        let asked = stage.within("a refusal", opening.into_future()).await?.err();
        let kind = asked.as_ref().map(crate::error::Error::kind);
        ensure(kind == Some(ErrorKind::Config), || {
            format!("a lease of {lease:?} must be refused as a config error, and gave {asked:?}")
        })?;
    }
    Ok(())
}

/// An extension where there is none is refused as unsupported.
async fn extends(stage: &Stage) -> Checked {
    let (topic, group) = (stage.topic("extend"), stage.group("extend"));
    let backend = stage.open().await?;
    let seat = stage.join(&backend, &group, &topic, LONG_LEASE).await?;
    stage.publish(&backend, &stage.events(&topic, 1)).await?;
    let leased = seat.next().await?;
    let extend = Settle::new(leased.receipt.clone(), Verdict::Extend { tries: 0 });
    let asked = seat.settle_fully(extend).await?;
    refused("an extension", asked.err(), |c| c.extends, &stage.capability)
        .map_err(|broken: Broken| broken.within("extend"))?;
    seat.ack(&leased).await
}
