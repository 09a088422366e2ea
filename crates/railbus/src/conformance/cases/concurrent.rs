//! Many publishers and many members at once.

use crate::{
    backend::{Backend, Broadcast, Settle, Source, Verdict},
    bus::Bus,
    conformance::{
        census::{census, counted},
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
use tokio::{
    sync::mpsc,
    task::{JoinError, JoinSet},
};

/// How many connections many subscribers share: servers have bounds.
const CONNECTIONS: usize = 8;

/// Many subscribers at once: every listener hears every broadcast, and the members of a group have
/// each event once between them.
pub(super) async fn subscribers(stage: &Stage) -> Checked<Finding> {
    let (count, events) = (stage.counts.subscribers, stage.counts.shared);
    if stage.capability.broadcast != Broadcast::None {
        broadcast(stage, 1, events, count).await.map_err(|broken| broken.within("broadcast"))?;
    }
    if !stage.capability.groups {
        no_groups(stage).await?;
        return Ok(Finding::Passed(None));
    }
    let duplicates = shared(stage, 1, events, count).await?;
    Ok(Finding::Passed(counted(duplicates)))
}

/// Many publishers at once, on connections of their own: what each was confirmed arrives, once in
/// the group, and in the order of its publisher where that is claimed.
pub(super) async fn publishers(stage: &Stage) -> Checked<Finding> {
    let (publishers, members) = (stage.counts.publishers, stage.counts.members);
    if stage.capability.broadcast != Broadcast::None {
        let heard = broadcast(stage, publishers, stage.counts.events, members);
        heard.await.map_err(|broken| broken.within("broadcast"))?;
    }
    if !stage.capability.groups {
        no_groups(stage).await?;
        return Ok(Finding::Passed(None));
    }
    let duplicates = shared(stage, publishers, stage.counts.published, members).await?;
    Ok(Finding::Passed(counted(duplicates)))
}

/// Members that compete for what is there already: nobody gets what another one holds.
pub(super) async fn exclusivity(stage: &Stage) -> Checked<Finding> {
    if !stage.capability.groups {
        return no_groups(stage).await;
    }
    let (topic, group) = (stage.topic("competing"), stage.group("competing"));
    let near = stage.open().await?;
    // So that the group is there before the events are.
    let first = stage.join(&near, &group, &topic, LONG_LEASE).await?;
    let events = stage.events(&topic, stage.counts.shared);
    stage.publish(&near, &events).await?;
    let mut seats = vec![first];
    for _ in 1..stage.counts.members {
        seats.push(stage.join(&stage.open().await?, &group, &topic, LONG_LEASE).await?);
    }
    let (gets, mut got) = mpsc::unbounded_channel();
    let mut members = JoinSet::new();
    for seat in &seats {
        let (source, gets, max) = (Arc::clone(&seat.source), gets.clone(), stage.count(1, 16));
        members.spawn(hold_all(source, max, gets));
    }
    drop(gets);
    let mut held = Vec::with_capacity(events.len());
    while held.len() < events.len() {
        let of = format!("{} of {} events", held.len(), events.len());
        held.extend(stage.within(&of, got.recv()).await.map_err(Broken::firmly)?);
    }
    seats.iter().for_each(|seat| seat.source.stop());
    all(stage, members).await?;
    held.extend(std::iter::from_fn(|| got.try_recv().ok()));
    let duplicates = census(events.iter().map(Event::id), held.iter().map(String::as_str))?;
    ensure(duplicates == 0, || format!("{duplicates} events were held twice at a time"))?;
    Ok(Finding::Passed(None))
}

/// Holds what comes until the source is stopped, and acks it then.
async fn hold_all(
    source: Arc<dyn Source>,
    max: usize,
    gets: mpsc::UnboundedSender<String>,
) -> Result<()> {
    let mut acks = Vec::new();
    loop {
        let leased = source.fetch(max).await?;
        if leased.is_empty() {
            return source.settle(&acks).await.into_iter().collect();
        }
        for leased in leased {
            acks.push(Settle::new(leased.receipt, Verdict::Ack));
            // The case may be over.
            let _ = gets.send(leased.event.map_err(|poison| poison.error)?.id().to_owned());
        }
    }
}

async fn broadcast(stage: &Stage, publishers: usize, count: usize, ears: usize) -> Checked {
    let topic = stage.topic("broadcast");
    let (near, far) = stage.pair().await?;
    let mut buses: Vec<Bus> = vec![far];
    let mut open = Vec::new();
    for n in 0..ears {
        let apart = stage.capability.broadcast != Broadcast::Inline;
        if apart && buses.len() < CONNECTIONS {
            buses.push(stage.bus().await?);
        }
        let bus = &buses[n % buses.len()];
        open.push(Ear::open(bus, predicate::topic(&literal(&topic)), stage.patience).await?);
    }
    let mut expected = Vec::new();
    let mut publishing = JoinSet::new();
    for _ in 0..publishers {
        let events = stage.events(&topic, count);
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
    for ear in &mut open {
        let mut heard = ear.take(expected.len()).await?;
        heard.extend(ear.rest());
        let heard = heard.iter().map(Event::id);
        let duplicates = census(expected.iter().map(String::as_str), heard)?;
        ensure(duplicates == 0, || format!("{duplicates} broadcasts were heard twice"))?;
    }
    Ok(())
}

async fn shared(stage: &Stage, publishers: usize, count: usize, members: usize) -> Checked<usize> {
    let (topic, group) = (stage.topic("shared"), stage.group("shared"));
    let (handles, mut handled) = mpsc::unbounded_channel();
    let mut working = JoinSet::new();
    let mut sources = Vec::new();
    let mut connections = Vec::new();
    for n in 0..members {
        if connections.len() < CONNECTIONS {
            connections.push(stage.open().await?);
        }
        let connection = &connections[n % connections.len()];
        let seat = stage.join(connection, &group, &topic, LONG_LEASE).await?;
        let max = stage.count(1, 16);
        sources.push(Arc::clone(&seat.source));
        working.spawn(handle_all(seat.source, max, handles.clone()));
    }
    drop(handles);
    let mut expected = HashSet::new();
    let mut publishing = JoinSet::new();
    for _ in 0..publishers {
        let events = stage.events(&topic, count);
        expected.extend(events.iter().map(|event| event.id().to_owned()));
        let batch = stage.count(1, 8).min(stage.capability.batch_max);
        publishing.spawn(publish_all(stage.open().await?, events, batch));
    }
    let (mut seen, mut missing) = (Vec::new(), expected.clone());
    while !missing.is_empty() {
        let what = format!("{} of {} events", missing.len(), expected.len());
        // Why a publisher gave up says more than that its events did not come.
        let next = tokio::select! {
            // No lease runs out meanwhile.
            next = stage.within(&what, handled.recv()) => next.map_err(Broken::firmly)?,
            Some(ended) = publishing.join_next() => {
                published(ended)?;
                continue;
            }
        };
        let id = next.ok_or_else(|| Broken::new("all members ended"))?;
        missing.remove(&id);
        seen.push(id);
    }
    all(stage, publishing).await?;
    sources.iter().for_each(|source| source.stop());
    all(stage, working).await?;
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
        published(ended)?;
    }
    Ok(())
}

fn published(ended: std::result::Result<Result<()>, JoinError>) -> Checked {
    Ok(ended.map_err(|e| Broken::new(format!("a publisher or member panicked: {e}")))??)
}
