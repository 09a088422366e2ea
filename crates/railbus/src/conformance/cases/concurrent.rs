//! Many publishers and many members at once.

use crate::{
    backend::{Backend, Broadcast, Settle, Source, Verdict},
    conformance::{
        census::census,
        finding::{Broken, Checked, Finding, ensure},
        refusal::no_groups,
        seat::Ear,
        stage::{LONG_LEASE, Stage, literal},
    },
    error::Result,
    event::Event,
    predicate,
};
use std::{collections::HashSet, sync::Arc};
use tokio::{sync::mpsc, task::JoinSet};

/// Publishers on connections of their own, members of one group on theirs: each event is handled
/// by one of them; and every listener hears every broadcast.
pub(super) async fn concurrent(stage: &Stage) -> Checked<Finding> {
    if stage.capability.broadcast != Broadcast::None {
        broadcast(stage).await.map_err(|broken| broken.within("broadcast"))?;
    }
    if !stage.capability.groups {
        no_groups(stage).await?;
        return Ok(Finding::Passed(None));
    }
    let duplicates = shared(stage).await.map_err(|broken| broken.within("group"))?;
    Ok(Finding::Passed((duplicates > 0).then(|| format!("{duplicates} duplicates"))))
}

async fn broadcast(stage: &Stage) -> Checked {
    let topic = stage.topic("broadcast");
    let (near, far) = stage.pair().await?;
    let mut ears = Vec::new();
    for n in 0..stage.counts.members {
        // Half of them share a bus.
        let bus = if n % 2 == 0 { far.clone() } else { stage.pair().await?.1 };
        let bus = if stage.capability.broadcast == Broadcast::Inline { far.clone() } else { bus };
        ears.push(Ear::open(&bus, predicate::topic(&literal(&topic)), stage.patience).await?);
    }
    let mut expected = Vec::new();
    let mut publishing = JoinSet::new();
    for _ in 0..stage.counts.publishers {
        let events = stage.events(&topic, stage.counts.events);
        expected.extend(events.iter().map(|event| event.id().to_owned()));
        let bus = near.clone();
        publishing.spawn(async move {
            for event in events {
                bus.publish(event).await?;
            }
            Ok(())
        });
    }
    all(stage, publishing).await?;
    for ear in &mut ears {
        let mut heard = ear.take(expected.len()).await?;
        heard.extend(ear.rest());
        let heard = heard.iter().map(Event::id);
        let duplicates = census(expected.iter().map(String::as_str), heard)?;
        ensure(duplicates == 0, || format!("{duplicates} broadcasts were heard twice"))?;
    }
    Ok(())
}

async fn shared(stage: &Stage) -> Checked<usize> {
    let (topic, group) = (stage.topic("shared"), stage.group("shared"));
    let (handles, mut handled) = mpsc::unbounded_channel();
    let mut members = JoinSet::new();
    let mut sources = Vec::new();
    for _ in 0..stage.counts.members {
        let seat = stage.join(&stage.open().await?, &group, &topic, LONG_LEASE).await?;
        let max = stage.count(1, 16);
        sources.push(Arc::clone(&seat.source));
        members.spawn(handle_all(seat.source, max, handles.clone()));
    }
    drop(handles);
    let mut expected = HashSet::new();
    let mut publishing = JoinSet::new();
    for _ in 0..stage.counts.publishers {
        let events = stage.events(&topic, stage.counts.events);
        expected.extend(events.iter().map(|event| event.id().to_owned()));
        let batch = stage.count(1, 8);
        publishing.spawn(publish_all(stage.open().await?, events, batch));
    }
    all(stage, publishing).await?;
    let (mut seen, mut missing) = (Vec::new(), expected.clone());
    while !missing.is_empty() {
        let what = format!("{} of {} events", missing.len(), expected.len());
        let next = stage.within(&what, handled.recv()).await?;
        let id = next.ok_or_else(|| Broken::new("all members ended"))?;
        missing.remove(&id);
        seen.push(id);
    }
    sources.iter().for_each(|source| source.stop());
    all(stage, members).await?;
    seen.extend(std::iter::from_fn(|| handled.try_recv().ok()));
    census(expected.iter().map(String::as_str), seen.iter().map(String::as_str))
}

async fn publish_all(backend: Arc<dyn Backend>, events: Vec<Event>, batch: usize) -> Result<()> {
    for part in events.chunks(batch) {
        let part: Vec<_> = part.iter().cloned().map(Into::into).collect();
        backend.publish(&part).await.into_iter().collect::<Result<()>>()?;
    }
    Ok(())
}

/// Acks what comes, until the source is stopped.
async fn handle_all(
    source: Arc<dyn Source>,
    max: usize,
    handled: mpsc::UnboundedSender<String>,
) -> Result<()> {
    loop {
        let leased = source.fetch(max).await?;
        if leased.is_empty() {
            return Ok(());
        }
        let acks: Vec<_> =
            leased.iter().map(|l| Settle::new(l.receipt.clone(), Verdict::Ack)).collect();
        source.settle(&acks).await.into_iter().collect::<Result<()>>()?;
        for event in leased.into_iter().filter_map(|leased| leased.event.ok()) {
            // The case that counts them may be over.
            let _ = handled.send(event.id().to_owned());
        }
    }
}

async fn all(stage: &Stage, mut tasks: JoinSet<Result<()>>) -> Checked {
    while let Some(ended) = stage.within("a publisher or member to end", tasks.join_next()).await? {
        ended.map_err(|e| Broken::new(format!("a publisher or member panicked: {e}")))??;
    }
    Ok(())
}
