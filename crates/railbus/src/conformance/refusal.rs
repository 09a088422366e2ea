//! What a backend doesn't claim must be refused when it is asked for.

use super::{
    finding::{Broken, Checked, Finding, ensure},
    stage::{LONG_LEASE, Stage, on_topic},
};
use crate::{
    backend::{Capability, Start, Subscribe},
    backends,
    error::{Error, ErrorKind},
    event::Event,
    predicate,
};

/// Returns what a case that needs leases comes to where there are none.
pub(super) async fn without_leases(stage: &Stage) -> Checked<Option<Finding>> {
    if !stage.capability.groups {
        return no_groups(stage).await.map(Some);
    }
    if stage.capability.lease_min.is_none() {
        return Ok(Some(Finding::NotRun("its groups have no leases".into())));
    }
    Ok(None)
}

/// Asks for a group, which must be refused: of a bus, and of the backend itself.
pub(super) async fn no_groups(stage: &Stage) -> Checked<Finding> {
    let (bus, backend) = (stage.bus().await?, stage.open().await?);
    let (topic, group) = (stage.topic("refused"), stage.group("refused"));
    let opening = bus.on(predicate::topic(&topic)).group(&*group).run(|_: &Event| ());
    let asked = stage.within("a refusal", opening.into_future()).await?;
    let hint = refused("a group", asked.err(), |c| c.groups, &stage.capability)?;
    let request = Subscribe {
        group: Some(group),
        interest: on_topic(&topic),
        start: Start::Newest,
        lease: LONG_LEASE,
        order: Default::default(),
    };
    let asked = stage.within("a refusal", backend.subscribe(request)).await?;
    refused("a source for a group", asked.err(), |c| c.groups, &stage.capability)?;
    Ok(Finding::Refused(format!("has no groups, and says so: {hint}")))
}

/// Checks that asking was refused, with a hint that names a backend that can; returns the hint.
pub(super) fn refused(
    what: &str,
    error: Option<Error>,
    can: fn(&Capability) -> bool,
    capability: &Capability,
) -> Checked<String> {
    let Some(error) = error else {
        return Err(Broken::new(format!("{what} is not claimed, and yet was given")));
    };
    ensure(error.kind() == ErrorKind::Unsupported, || {
        format!("{what} must be refused as unsupported, and was refused as {error:?}")
    })?;
    let mut able = backends::all().filter(|row| can(row.capability)).map(|row| row.scheme);
    let hint = error.advice().unwrap_or_default();
    // A build with no backend that can has none to name.
    let none = able.clone().all(|name| name == capability.name);
    ensure(none || able.any(|name| hint.contains(name)), || {
        format!("the refusal of {what} names no backend that can: {error}")
    })?;
    Ok(if hint.is_empty() { error.message().into() } else { hint.into() })
}
