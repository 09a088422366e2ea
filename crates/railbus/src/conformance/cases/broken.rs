//! The server or the way to it fails, and comes back.

use crate::{
    backend::{Backend, Broadcast, Start},
    bus::Bus,
    conformance::{
        census::census,
        control::Control,
        finding::{Broken, Checked, Finding, ensure},
        proxy::{Proxy, Way},
        seat::Ear,
        stage::{LONG_LEASE, Stage, literal},
    },
    error::{Error, Result},
    event::Event,
    predicate,
};
use futures_util::FutureExt;
use std::{
    collections::HashSet,
    panic::AssertUnwindSafe,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst},
    },
    time::Duration,
};
use tokio::{sync::mpsc, task::JoinSet};

/// How many publish at once, and how many events each in one call.
const PUBLISHERS: usize = 8;
const BATCH: usize = 32;

/// How many each goes on with at a time as long as anything fails.
const MORE: usize = 4;

/// How soon what was not confirmed is published again.
const AGAIN_AFTER: Duration = Duration::from_millis(20);

/// How long the way is a black hole, and the server stands still.
const OUTAGE: Duration = Duration::from_secs(1);

/// How late everything is on a slow way.
const LATE: Duration = Duration::from_millis(500);

const NO_SERVER: &str = "it has no server that could be cut off";
const NO_CONTROL: &str = "the target doesn't say how to control its server (--control CMD)";

/// The connections of a bus are cut three times: each time publishing and receiving go on, by
/// themselves.
pub(super) async fn reconnect(stage: &Stage) -> Checked<Finding> {
    let Some(proxy) = stage.proxy().await? else { return Ok(Finding::NotRun(NO_SERVER.into())) };
    stage.history.expect_faults();
    let backend = stage.open_by(Some(&proxy)).await?;
    let bus = Bus::over(backend);
    let topic = stage.topic("reconnect");
    let mut ear = match stage.capability.broadcast {
        Broadcast::None => None,
        _ => Some(Ear::open(&bus, predicate::topic(&literal(&topic)), stage.patience).await?),
    };
    let (says, mut said) = mpsc::unbounded_channel();
    if stage.capability.groups {
        bus.on(predicate::topic(&literal(&topic)))
            .group(stage.group("reconnect"))
            .from(Start::Newest)
            .lease(stage.lease() * 2)
            // The case may be over.
            .run(move |event: &Event| drop(says.send(event.id().to_owned())))
            .await?;
    }
    for round in 0..=3 {
        let within = |broken: Broken| broken.within(&format!("after {round} resets"));
        if round > 0 {
            proxy.reset();
        }
        let heard = goes_on(stage, &bus, &topic, &mut ear, &mut said);
        heard.await.map_err(within)?;
    }
    stage.within("close", bus.close_within(stage.patience)).await??;
    Ok(Finding::Passed(None))
}

/// Publishes until one event is heard, and handled in the group.
async fn goes_on(
    stage: &Stage,
    bus: &Bus,
    topic: &str,
    ear: &mut Option<Ear>,
    said: &mut mpsc::UnboundedReceiver<String>,
) -> Checked {
    let heard = async {
        let mut handled = !stage.capability.groups;
        loop {
            // A broadcast that nobody is there to hear is lost, so that there are more.
            let event = stage.events(topic, 1).remove(0);
            again_and_again(|| bus.publish(event.clone())).await?;
            let confirmed = event.id().to_owned();
            if !handled {
                while said.recv().await.is_some_and(|id| id != confirmed) {}
                handled = true;
            }
            let Some(ear) = ear.as_mut() else { return Checked::Ok(()) };
            if ear.hears(&confirmed, AGAIN_AFTER * 5).await {
                return Ok(());
            }
        }
    };
    stage.within("publishing and receiving to go on", heard).await?
}

/// Repeats what fails with an error that may pass.
async fn again_and_again<T, F: Future<Output = Result<T>>>(publish: impl Fn() -> F) -> Checked {
    loop {
        match publish().await {
            Ok(_) => return Ok(()),
            Err(error) if error.is_retryable() => tokio::time::sleep(AGAIN_AFTER).await,
            Err(error) => return Err(Broken::from(error).within("what must pass by trying again")),
        }
    }
}

/// All connections are cut again and again while many publish.
pub(super) async fn reset(stage: &Stage) -> Checked<Finding> {
    let Some(proxy) = stage.proxy().await? else { return Ok(Finding::NotRun(NO_SERVER.into())) };
    survives(stage, Some(&proxy), Fault::Reset(&proxy)).await
}

/// For a while nothing arrives, and nobody is told; then it does, or the connection is cut.
pub(super) async fn black_hole(stage: &Stage) -> Checked<Finding> {
    let Some(proxy) = stage.proxy().await? else { return Ok(Finding::NotRun(NO_SERVER.into())) };
    survives(stage, Some(&proxy), Fault::BlackHole(&proxy)).await
}

/// Everything takes half a second each way.
pub(super) async fn latency(stage: &Stage) -> Checked<Finding> {
    let Some(proxy) = stage.proxy().await? else { return Ok(Finding::NotRun(NO_SERVER.into())) };
    survives(stage, Some(&proxy), Fault::Late(&proxy)).await
}

/// The server is stopped in order and started again while many publish.
pub(super) async fn restarted(stage: &Stage) -> Checked<Finding> {
    controlled(stage, Control::Stop, Control::Start).await
}

/// The server is killed and started again while many publish.
pub(super) async fn killed(stage: &Stage) -> Checked<Finding> {
    controlled(stage, Control::Kill, Control::Start).await
}

/// The server stands still for a while: it is neither gone nor does it answer.
pub(super) async fn paused(stage: &Stage) -> Checked<Finding> {
    controlled(stage, Control::Pause, Control::Resume).await
}

async fn controlled(stage: &Stage, ends: Control, begins: Control) -> Checked<Finding> {
    if !stage.is_controlled() {
        return Ok(Finding::NotRun(NO_CONTROL.into()));
    }
    let fault = Fault::Server(ends, begins);
    let found = AssertUnwindSafe(survives(stage, None, fault)).catch_unwind().await;
    let found = found.unwrap_or_else(|_| Err(Broken::new("the backend or the case panicked")));
    if found.is_err() {
        // Whatever it came to, the next case finds a server that runs.
        let _ = stage.order(begins).await;
    }
    found
}

/// What fails, and is there again.
enum Fault<'a> {
    Reset(&'a Proxy),
    BlackHole(&'a Proxy),
    Late(&'a Proxy),
    Server(Control, Control),
}

impl Fault<'_> {
    async fn happen(&self, stage: &Stage, round: usize) -> Checked {
        match self {
            Self::Reset(proxy) => proxy.reset(),
            Self::BlackHole(proxy) => {
                proxy.set(Way::BlackHole);
                tokio::time::sleep(OUTAGE).await;
                if round % 2 == 1 {
                    proxy.reset();
                }
                proxy.set(Way::Clear);
            }
            Self::Late(proxy) => proxy.set(Way::Late(LATE)),
            Self::Server(ends, begins) => {
                stage.order(*ends).await?;
                tokio::time::sleep(OUTAGE).await;
                stage.order(*begins).await?;
            }
        }
        Ok(())
    }
}

/// Publishes many events from several connections while the way or the server fails in the middle
/// of it, three times: what was confirmed is handled, whatever is told of the rest, and after each
/// time broadcasts are heard again.
async fn survives(stage: &Stage, proxy: Option<&Proxy>, fault: Fault<'_>) -> Checked<Finding> {
    stage.history.expect_faults();
    let topic = stage.topic("faults");
    let consumer = Bus::over(stage.open_by(proxy).await?);
    let mut said = consumed(stage, &consumer, &topic, proxy.is_some()).await?;
    let mut echo = Echo::open(stage, &consumer).await?;
    let count = stage.counts.faulted / PUBLISHERS * PUBLISHERS;
    let progress = Arc::<Progress>::default();
    let mut publishing = JoinSet::new();
    for _ in 0..PUBLISHERS {
        let backend = stage.open_by(proxy).await?;
        let events = stage.events(&topic, count / PUBLISHERS);
        let batch = stage.capability.batch_max.min(BATCH);
        publishing.spawn(publish_all(backend, events, batch, Arc::clone(&progress)));
    }
    let failing = async {
        for round in 0..3 {
            while progress.confirmed.load(SeqCst) < count * (round + 1) / 5 {
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
            fault.happen(stage, round).await?;
            let heard = echo.comes_back(stage, &consumer).await;
            heard.map_err(|b| b.within(&format!("after {} times", round + 1)))?;
        }
        progress.is_over.store(true, SeqCst);
        Checked::Ok(())
    };
    let published = async {
        let mut published = HashSet::new();
        while let Some(ended) = publishing.join_next().await {
            let ids = ended.map_err(|e| Broken::new(format!("a publisher panicked: {e}")))?;
            published.extend(ids?);
        }
        Checked::Ok(published)
    };
    // Many waits, each of which may take as long as one.
    let both = async { tokio::try_join!(failing, published) };
    let both = tokio::time::timeout(stage.patience * 4, both).await;
    let ((), expected) = both.map_err(|_| {
        let done = progress.confirmed.load(SeqCst);
        Broken::new(format!("{done} events were confirmed, and then no more"))
    })??;
    let (count, doubts) = (expected.len(), progress.doubted.load(SeqCst));
    if !stage.capability.groups {
        let note = format!("{count} confirmed, {doubts} tried again; broadcasts may be missed");
        return Ok(Finding::Passed(Some(note)));
    }
    let (mut handled, mut missing) = (Vec::new(), expected.clone());
    while !missing.is_empty() {
        let of = format!("{} of {count} confirmed events to be handled", missing.len());
        let id = stage.within(&of, said.recv()).await.map_err(|b| Broken::firm(b.to_string()))?;
        let id = id.ok_or_else(|| Broken::new("the consumer ended"))?;
        missing.remove(&id);
        handled.push(id);
    }
    handled.extend(std::iter::from_fn(|| said.try_recv().ok()));
    let census = census(expected.iter().map(String::as_str), handled.iter().map(String::as_str));
    let duplicates = census?;
    let note = format!("{count} confirmed, {doubts} tried again, none lost, {duplicates} twice");
    Ok(Finding::Passed(Some(note)))
}

/// Has a group on `bus` tell what it handles, where there are groups.
async fn consumed(
    stage: &Stage,
    bus: &Bus,
    topic: &str,
    by_proxy: bool,
) -> Checked<mpsc::UnboundedReceiver<String>> {
    let (says, said) = mpsc::unbounded_channel();
    if stage.capability.groups {
        let lease = if by_proxy { stage.lease() * 10 } else { LONG_LEASE / 10 };
        bus.on(predicate::topic(&literal(topic)))
            .group(stage.group("faults"))
            .from(Start::Newest)
            .lease(lease)
            // The case may be over.
            .run(move |event: &Event| drop(says.send(event.id().to_owned())))
            .await?;
    }
    Ok(said)
}

/// A listener that is to hear broadcasts again after each fault.
struct Echo {
    topic: String,
    ear: Option<Ear>,
}

impl Echo {
    async fn open(stage: &Stage, bus: &Bus) -> Checked<Self> {
        let topic = stage.topic("echo");
        let ear = match stage.capability.broadcast {
            Broadcast::None => None,
            _ => Some(Ear::open(bus, predicate::topic(&literal(&topic)), stage.patience).await?),
        };
        Ok(Self { topic, ear })
    }

    /// Publishes until one event is heard.
    async fn comes_back(&mut self, stage: &Stage, bus: &Bus) -> Checked {
        let Some(ear) = &mut self.ear else { return Ok(()) };
        let hearing = async {
            loop {
                let event = stage.events(&self.topic, 1).remove(0);
                again_and_again(|| bus.publish(event.clone())).await?;
                if ear.hears(event.id(), OUTAGE).await {
                    return Checked::Ok(());
                }
            }
        };
        stage.within("broadcasts to be heard again", hearing).await?
    }
}

/// How far those who publish are, and whether they may stop.
#[derive(Default)]
struct Progress {
    confirmed: AtomicUsize,
    doubted: AtomicUsize,
    is_over: AtomicBool,
}

/// Publishes all, each until it is confirmed, and then some more as long as anything fails; returns
/// the ids.
async fn publish_all(
    backend: Arc<dyn Backend>,
    events: Vec<Event>,
    batch: usize,
    progress: Arc<Progress>,
) -> Checked<Vec<String>> {
    let mut published = Vec::new();
    for part in events.chunks(batch) {
        publish_part(&*backend, part, &progress).await?;
        published.extend(part.iter().map(|event| event.id().to_owned()));
    }
    let topic = events.first().map(|event| event.topic().to_owned()).unwrap_or_default();
    while !progress.is_over.load(SeqCst) {
        let more: Vec<_> = (0..batch.min(MORE))
            .map(|n| Event::new("conformance.more").topic(&*topic).payload(n))
            .collect();
        publish_part(&*backend, &more, &progress).await?;
        published.extend(more.iter().map(|event| event.id().to_owned()));
        tokio::time::sleep(AGAIN_AFTER).await;
    }
    Ok(published)
}

async fn publish_part(backend: &dyn Backend, part: &[Event], progress: &Progress) -> Checked {
    let mut left = part.to_vec();
    while !left.is_empty() {
        let out: Vec<_> = left.iter().cloned().map(Into::into).collect();
        let results = backend.publish(&out).await;
        let (got, of) = (results.len(), left.len());
        ensure(got == of, || format!("a batch of {of} events gave {got} results"))?;
        let mut failed: Option<Error> = None;
        let each = left.into_iter().zip(results);
        left = each
            .filter_map(|(event, result)| {
                failed = Some(result.err()?);
                Some(event)
            })
            .collect();
        progress.confirmed.fetch_add(of - left.len(), SeqCst);
        progress.doubted.fetch_add(left.len(), SeqCst);
        match failed {
            Some(error) if !error.is_retryable() => {
                return Err(Broken::from(error).within("what must pass by trying again"));
            }
            Some(_) => tokio::time::sleep(AGAIN_AFTER).await,
            None => {}
        }
    }
    Ok(())
}
