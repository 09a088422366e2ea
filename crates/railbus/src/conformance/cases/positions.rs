//! How far inputs were read.

use crate::{
    backend::{Advance, Outgoing, Position},
    conformance::{
        finding::{Broken, Checked, Finding, ensure},
        refusal::no_groups,
        seat::id,
        stage::{LONG_LEASE, Stage},
    },
    error::ErrorKind,
};

/// An input's position is stored with the event it came with, or neither is: it is there for others,
/// and a step from where the input no longer is publishes nothing.
pub(super) async fn positions(stage: &Stage) -> Checked<Finding> {
    if !stage.capability.groups {
        return no_groups(stage).await;
    }
    let (near, far) = (stage.open().await?, stage.open().await?);
    if !stage.capability.positions {
        ensure(near.accounts().is_none(), || "it keeps accounts without positions".into())?;
        return Ok(Finding::Refused("it keeps no accounts, and gives none".into()));
    }
    let (topic, input) = (stage.topic("input"), stage.topic("lines"));
    let seat = stage.join(&near, &stage.group("input"), &topic, LONG_LEASE).await?;
    let accounts = far.accounts();
    let accounts = accounts.ok_or_else(|| Broken::new("it claims positions, and keeps none"))?;
    let position = async |expected: Option<u64>| {
        let found = stage.within("a position", accounts.position(&input)).await??;
        let at = expected.map(|offset| Position { offset, fingerprint: offset * 7 });
        ensure(found == at, || format!("the input was read to {at:?}, and it is said: {found:?}"))
    };
    position(None).await?;
    let events = stage.events(&topic, 4);
    for (event, (from, to), sound) in [
        (&events[0], (0, 10), true),
        // Again, and as if something had been left out.
        (&events[1], (0, 10), false),
        (&events[2], (20, 30), false),
        (&events[3], (10, 20), true),
    ] {
        let to = Position { offset: to, fingerprint: to * 7 };
        let step = Advance { input: (&*input).into(), from, to };
        let batch = [Outgoing { position: Some(step), ..event.clone().into() }];
        let result = stage.within("a publish", near.publish(&batch)).await?.pop();
        let kind = result.and_then(Result::err).map(|error| error.kind());
        let expected = (!sound).then_some(ErrorKind::Stale);
        ensure(kind == expected, || {
            format!("a step from {from} must come to {expected:?}, and came to {kind:?}")
        })?;
        position(Some(if sound { to.offset } else { 10 })).await?;
    }
    // Neither of those that were refused.
    for event in [&events[0], &events[3]] {
        let leased = seat.next().await?;
        ensure(id(&leased) == event.id(), || format!("{} came", id(&leased)))?;
        seat.ack(&leased).await?;
    }
    Ok(Finding::Passed(None))
}
