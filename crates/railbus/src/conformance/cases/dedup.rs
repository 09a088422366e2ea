//! One id, published twice.

use crate::{
    conformance::{
        finding::{Checked, Finding, ensure},
        history::What,
        refusal::no_groups,
        seat::id,
        stage::{LONG_LEASE, Stage},
    },
    event::Event,
};
use std::time::Duration;

/// The longest window whose end is waited for.
const WAITED_MAX: Duration = Duration::from_secs(5);

/// An event under the id of one that is there is confirmed and stored once within the window that
/// is claimed, and as another one after its end; where none is claimed it is another event, and comes twice.
pub(super) async fn dedup_window(stage: &Stage) -> Checked<Finding> {
    if !stage.capability.groups {
        return no_groups(stage).await;
    }
    let (topic, group) = (stage.topic("twice"), stage.group("twice"));
    let (near, far) = (stage.open().await?, stage.open().await?);
    let seat = stage.join(&far, &group, &topic, LONG_LEASE).await?;
    let event = Event::new("twice").topic(&*topic).payload(());
    if stage.capability.dedup.is_none() {
        // Two events of one id, which the history must not take for one.
        let twice = What::Doubtful { event: event.id().into() };
        stage.history.note(stage.history.now(), [twice]);
    }
    stage.publish(&near, std::slice::from_ref(&event)).await?;
    stage.publish(&far, std::slice::from_ref(&event)).await?;
    let end = stage.events(&topic, 1);
    stage.publish(&near, &end).await?;
    let times = if stage.capability.dedup.is_some() { 1 } else { 2 };
    let taken = seat.take(times + 1).await?;
    let came = taken.iter().filter(|leased| id(leased) == event.id()).count();
    let ended = taken.iter().any(|leased| id(leased) == end[0].id());
    ensure(came == times && ended, || {
        format!(
            "published twice under one id, to be stored {times} times, and it came {came} times"
        )
    })?;
    seat.ack_together(&taken).await?;
    let Some(window) = stage.capability.dedup else {
        return Ok(Finding::Passed(Some("none is claimed: each publish is stored".into())));
    };
    if window > WAITED_MAX {
        let why = format!("within {window:?}; that is too long to wait for its end");
        return Ok(Finding::Passed(Some(why)));
    }
    // Another event of that id, which the history must not take for the first one.
    let anew = What::Doubtful { event: event.id().into() };
    stage.history.note(stage.history.now(), [anew]);
    // It is the store's clock that counts, from when the first one was stored.
    tokio::time::sleep(window + stage.capability.delay_step).await;
    stage.publish(&near, std::slice::from_ref(&event)).await?;
    let again = seat.next().await.map_err(|broken| broken.within("after the window's end"))?;
    ensure(id(&again) == event.id(), || format!("{} came instead", id(&again)))?;
    seat.ack(&again).await?;
    Ok(Finding::Passed(Some(format!("within {window:?}, and not after"))))
}
