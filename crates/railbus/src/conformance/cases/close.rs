//! After close there is nothing, and it says so.

use crate::{
    backend::{
        Backend, Broadcast, LetterFilter, LetterId, Outgoing, Replay, Start, Subscribe, Verdict,
    },
    bus::Bus,
    clock::Timestamp,
    conformance::{
        finding::{Broken, Checked, Finding, ensure},
        refusal::no_groups,
        seat::id,
        stage::{LONG_LEASE, Stage, literal, on_topic, within},
    },
    error::{Error, ErrorKind, Result},
    event::Event,
    journal::RunFilter,
    predicate,
};
use std::{sync::Arc, time::Duration};
use tokio::sync::mpsc;

const DEADLINE: Duration = Duration::from_secs(5);

/// How much longer than its deadline a close may take on a machine that is busy.
const GRACE: Duration = Duration::from_secs(5);

/// After close everything is a closed error and close itself is fine, a hundred times; close
/// returns within its deadline although someone waits for an event, or a handler hangs.
pub(super) async fn close(stage: &Stage) -> Checked<Finding> {
    of_bus(stage).await.map_err(|broken| broken.within("a bus"))?;
    of_backend(stage).await.map_err(|broken| broken.within("a backend"))?;
    if !stage.capability.groups {
        no_groups(stage).await?;
        return Ok(Finding::Passed(None));
    }
    of_source(stage).await.map_err(|broken| broken.within("a source"))?;
    hanging(stage).await.map_err(|broken| broken.within("a handler that hangs"))?;
    Ok(Finding::Passed(None))
}

fn closed<T>(what: &str, result: Result<T>) -> Checked {
    let error = result.err();
    let kind = error.as_ref().map(Error::kind);
    ensure(kind == Some(ErrorKind::Closed), || {
        format!("{what} after close must be a closed error, and gave {error:?}")
    })
}

/// Closes within `deadline`, and not much later.
async fn in_time<T>(deadline: Duration, closing: impl Future<Output = T>) -> Checked<T> {
    within(deadline + GRACE, "a close with a deadline", closing).await
}

async fn of_bus(stage: &Stage) -> Checked {
    let bus = stage.bus().await?;
    let topic = stage.topic("bus");
    if stage.capability.broadcast != Broadcast::None {
        bus.on(predicate::topic(&literal(&topic))).run(|_: &Event| ()).await?;
    }
    stage.within("a publish", bus.publish(stage.events(&topic, 1).remove(0))).await??;
    many_times(|| bus.close_within(DEADLINE)).await?;
    closed("publish", bus.publish(stage.events(&topic, 1).remove(0)).await)?;
    let batch: Vec<_> = stage.events(&topic, 3).into_iter().map(Into::into).collect();
    for result in bus.publish_all(&batch).await {
        closed("publish_all", result)?;
    }
    let wanted = predicate::topic(&literal(&topic));
    closed("subscribe", bus.on(wanted).run(|_: &Event| ()).await)?;
    closed("ping", bus.ping().await)
}

/// Closes a hundred times, one after another and at once.
async fn many_times<F: Future<Output = Result<()>>>(close: impl Fn() -> F) -> Checked {
    for n in 0..50 {
        let closed = in_time(DEADLINE, close()).await?;
        closed.map_err(|e| Broken::from(e).within(&format!("close number {}", n + 1)))?;
    }
    let closing = futures_util::future::join_all((0..50).map(|_| close()));
    let closed = in_time(DEADLINE, closing).await?;
    Ok(closed.into_iter().collect::<Result<()>>()?)
}

async fn of_backend(stage: &Stage) -> Checked {
    let backend: Arc<dyn Backend> = stage.open().await?;
    backend.ping().await?;
    many_times(|| backend.close(DEADLINE)).await?;
    let topic = stage.topic("backend");
    let batch: Vec<Outgoing> = stage.events(&topic, 3).into_iter().map(Into::into).collect();
    let results = stage.within("publish", backend.publish(&batch)).await?;
    ensure(results.len() == 3, || format!("3 events gave {} results", results.len()))?;
    for result in results {
        closed("publish", result)?;
    }
    let group = stage.capability.groups.then(|| stage.group("backend"));
    let request = Subscribe {
        group,
        interest: on_topic(&topic),
        start: Start::Newest,
        lease: LONG_LEASE,
        order: Default::default(),
    };
    closed("subscribe", stage.within("subscribe", backend.subscribe(request)).await?)?;
    closed("ping", stage.within("ping", backend.ping()).await?)?;
    if let Some(keeper) = backend.keeper() {
        closed("groups", stage.within("groups", keeper.groups()).await?)?;
        let filter = LetterFilter::default();
        closed("letters", stage.within("letters", keeper.letters(&filter)).await?)?;
        let (name, ids) = (stage.group("backend"), [LetterId::new("no such letter")]);
        closed("prune", stage.within("prune", keeper.prune(&name)).await?)?;
        if stage.capability.replay == Replay::Time {
            let replay = keeper.replay(&name, Start::At(Timestamp::now()));
            closed("replay", stage.within("replay", replay).await?)?;
        }
        closed("redrive", stage.within("redrive", keeper.redrive(&ids)).await?)?;
        closed("purge", stage.within("purge", keeper.purge(&ids)).await?)?;
    }
    if let Some(accounts) = backend.accounts() {
        closed("position", stage.within("position", accounts.position("input")).await?)?;
    }
    if stage.capability.withdraws {
        closed("withdraw", stage.within("withdraw", backend.withdraw("no such event")).await?)?;
    }
    if let Some(journal) = backend.journal() {
        let filter = RunFilter::default();
        closed("runs", stage.within("runs", journal.list(&filter)).await?)?;
    }
    Ok(())
}

/// Closes the backend, and in another round the source alone, while a fetch waits.
async fn of_source(stage: &Stage) -> Checked {
    for whole in [true, false] {
        let part = if whole { "source" } else { "source alone" };
        let (topic, group) = (stage.topic(part), stage.group(part));
        let backend = stage.open().await?;
        let seat = stage.join(&backend, &group, &topic, stage.lease()).await?;
        stage.publish(&backend, &stage.events(&topic, 2)).await?;
        let leased = seat.next().await?;
        seat.ack(&seat.next().await?).await?;
        let source = Arc::clone(&seat.source);
        let mut fetching = Box::pin(async move { source.fetch(1).await });
        // It has begun to wait before anything is closed.
        let early = futures_util::poll!(&mut fetching);
        ensure(early.is_pending(), || format!("a fetch of nothing gave {early:?}"))?;
        let waiting = tokio::spawn(fetching);
        if whole {
            in_time(DEADLINE, backend.close(DEADLINE)).await??;
        } else {
            in_time(DEADLINE, seat.source.close()).await??;
        }
        // A fetch that is stopped returns empty; it may also say that it was closed.
        let nothing = |fetched: &Result<Vec<_>>| match fetched {
            Ok(leased) => leased.is_empty(),
            Err(e) => e.kind() == ErrorKind::Closed,
        };
        let waited = stage.within("the waiting fetch to end", waiting).await?;
        let waited = waited.map_err(|e| Broken::new(format!("the waiting fetch: {e}")))?;
        ensure(nothing(&waited), || format!("the waiting fetch gave {waited:?}"))?;
        let fetched = stage.within("a fetch after close", seat.source.fetch(1)).await?;
        ensure(nothing(&fetched), || format!("a fetch after close gave {fetched:?}"))?;
        if whole {
            let settled = seat.settle(&leased.receipt, Verdict::Ack).await?;
            closed("settle", settled)?;
        }
        stage.within("close", seat.source.close()).await??;
        // What was leased is nobody's when its lease has run out.
        let next = stage.join(&stage.open().await?, &group, &topic, stage.lease()).await?;
        let again = next.next().await.map_err(|broken| broken.within("what it held"))?;
        ensure(id(&again) == id(&leased), || format!("{} came instead", id(&again)))?;
        next.ack(&again).await?;
    }
    Ok(())
}

/// A handler that never returns is left at the deadline, and its event comes again.
async fn hanging(stage: &Stage) -> Checked {
    let (topic, group) = (stage.topic("hanging"), stage.group("hanging"));
    let (near, bus): (_, Bus) = (stage.open().await?, stage.bus().await?);
    let (says, mut said) = mpsc::unbounded_channel();
    bus.on(predicate::topic(&literal(&topic)))
        .group(&*group)
        .from(Start::Newest)
        .lease(LONG_LEASE)
        .run(async move |event: Event| {
            // The case may be over.
            let _ = says.send(event.id().to_owned());
            std::future::pending::<()>().await;
        })
        .await?;
    stage.publish(&near, &stage.events(&topic, 1)).await?;
    let begun = stage.within("the handler", said.recv()).await?;
    let deadline = Duration::from_millis(50);
    in_time(deadline, bus.close_within(deadline)).await??;
    let seat = stage.join(&near, &group, &topic, stage.lease()).await?;
    let again = seat.next().await?;
    let same = begun.as_deref() == Some(id(&again));
    ensure(same, || format!("{} came instead of {begun:?}", id(&again)))?;
    seat.ack(&again).await
}
