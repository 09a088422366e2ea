//! Members whose clocks disagree.

use super::kill::{joined, live};
use crate::{
    backend::Verdict,
    conformance::{
        census::census,
        finding::{Checked, Finding, ensure},
        member::Member,
        refusal::without_leases,
        seat::id,
        stage::Stage,
    },
    event::Event,
};
use std::time::Duration;

/// By how much the clocks of members are wrong.
const HOUR: i64 = 3600;

/// Members whose clocks are an hour ahead and an hour behind: a lease of theirs lasts as long as it
/// should, no longer and no shorter, and what is held back comes to them in its time.
pub(super) async fn clocks_apart(stage: &Stage) -> Checked<Finding> {
    if let Some(finding) = without_leases(stage).await? {
        return Ok(finding);
    }
    if !stage.capability.durable {
        return Ok(Finding::NotRun("it is in one process, which has one clock".into()));
    }
    if !stage.clocks_can_be_set() {
        let why = "the target doesn't say that its backend asks Railbus's clock (has_our_clock)";
        return Ok(Finding::NotRun(why.into()));
    }
    for clock_ahead in [HOUR, -HOUR] {
        let part = format!("clock {clock_ahead}");
        let (topic, group) = (stage.topic(&part), stage.group(&part));
        let backend = stage.open().await?;
        // A process takes its time to start, and to settle what it has.
        let lease = stage.lease() * 2;
        let seat = stage.join(&backend, &group, &topic, lease).await?;
        let mut events = stage.events(&topic, 4);
        if stage.capability.publish_delay_max.is_some() {
            // Held back by this process's clock, or the store's.
            let later = Event::new("later").topic(&*topic).delay(Duration::from_millis(20));
            events.push(later.payload(()));
        }
        let member = Member {
            group: group.clone(),
            topic: topic.clone(),
            lease_ms: u64::try_from(lease.as_millis()).unwrap_or(u64::MAX),
            settles: 2,
            max: 4,
            clock_ahead,
        };
        let Some(process) = stage.start_member(&member) else {
            let why = "the target doesn't say how to start a consumer process";
            return Ok(Finding::NotRun(why.into()));
        };
        let mut process = process?;
        // It waits for events before there are any: so it is known when its leases begin.
        joined(stage, &mut process).await.map_err(|broken| broken.within(&part))?;
        let begun = stage.history.now();
        stage.publish(&backend, &events).await?;
        let mut handled = Vec::new();
        live(stage, &mut process, &member, begun, &mut handled)
            .await
            .map_err(|broken| broken.within(&part))?;
        // It lives on: all that ends its leases is the time. What it held comes again when its lease has run out by everybody else's clock.
        while handled.len() < events.len() {
            let of = format!("{part}: {} of {} are handled", handled.len(), events.len());
            let leased = seat.next().await.map_err(|broken| broken.within(&of))?;
            if stage.capability.delay_max.is_some() && leased.attempt == 2 {
                let delay = Duration::from_millis(20);
                seat.settle(&leased.receipt, Verdict::Nack { delay }).await??;
                continue;
            }
            seat.ack(&leased).await?;
            handled.push(id(&leased).to_owned());
        }
        let duplicates = census(events.iter().map(Event::id), handled.iter().map(String::as_str))?;
        ensure(duplicates == 0, || format!("{part}: {duplicates} events came again"))?;
    }
    Ok(Finding::Passed(None))
}
