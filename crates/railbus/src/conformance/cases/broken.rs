//! The server or the way to it fails, and comes back.

use super::persistent::{AGAIN_AFTER, Progress, again_and_again, publish_all};
use crate::{
    backend::{Broadcast, Ordering, Start},
    bus::Bus,
    conformance::{
        census::census,
        control::Control,
        finding::{Broken, Checked, Finding},
        history::What,
        proxy::{Proxy, Way},
        seat::Ear,
        stage::{LONG_LEASE, Stage, literal},
    },
    event::Event,
    predicate,
};
use futures_util::FutureExt;
use std::{
    collections::HashSet,
    panic::AssertUnwindSafe,
    sync::{Arc, atomic::Ordering::SeqCst},
    time::Duration,
};
use tokio::{sync::mpsc, task::JoinSet};

/// How many publish at once, and how many events each in one call.
const PUBLISHERS: usize = 8;
const BATCH: usize = 32;

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
    let straight = stage.open().await?;
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
        let (gaps, mut missed) = (bus.gaps(), HashSet::new());
        if round > 0 {
            proxy.reset();
            // Most likely while nobody listens.
            let meanwhile = stage.events(&topic, 1);
            stage.publish(&straight, &meanwhile).await?;
            missed.insert(meanwhile[0].id().to_owned());
        }
        let heard = goes_on(stage, &bus, &topic, &mut ear, &mut said, &mut missed);
        heard.await.map_err(within)?;
        let in_order = stage.capability.ordering != Ordering::None;
        if ear.is_some() && in_order && !missed.is_empty() {
            told(stage, &bus, gaps).await.map_err(within)?;
        }
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
    missed: &mut HashSet<String>,
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
            let heard = ear.until(&confirmed, AGAIN_AFTER * 5).await;
            missed.retain(|id| !heard.contains(id));
            if heard.contains(&confirmed) {
                return Ok(());
            }
        }
    };
    stage.within("publishing and receiving to go on", heard).await?
}

/// Waits until a gap is told: an event was not heard, though later ones are.
async fn told(stage: &Stage, bus: &Bus, before: u64) -> Checked {
    let telling = async {
        while bus.gaps() == before {
            // Nothing tells when it is told.
            tokio::time::sleep(AGAIN_AFTER).await;
        }
    };
    stage.within("a gap to be told, as a broadcast was missed", telling).await
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
    let _server = LeftRunning(stage);
    let fault = Fault::Server(ends, begins);
    let found = AssertUnwindSafe(survives(stage, None, fault)).catch_unwind().await;
    let found = found.unwrap_or_else(|_| Err(Broken::new("the backend or the case panicked")));
    // Whatever it came to, the next case finds a server that runs.
    stage.put_back().await;
    found
}

/// Has the server run again when a case is given up in the middle, such as by Ctrl-C.
struct LeftRunning<'a>(&'a Stage);

impl Drop for LeftRunning<'_> {
    fn drop(&mut self) {
        self.0.put_back_now();
    }
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
                let begun = stage.history.now();
                stage.order(*ends).await?;
                if matches!(ends, Control::Kill) {
                    stage.history.note(begun, [What::Crashed]);
                }
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
    let lease = match fault {
        // Each call takes a second by then, and none is lost.
        Fault::Late(_) => LATE * 20,
        Fault::Server(..) => LONG_LEASE / 10,
        _ => stage.lease() * 10,
    };
    let mut said = consumed(stage, &consumer, &topic, lease).await?;
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
        let id = stage.within(&of, said.recv()).await.map_err(Broken::firmly)?;
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
    lease: Duration,
) -> Checked<mpsc::UnboundedReceiver<String>> {
    let (says, said) = mpsc::unbounded_channel();
    if stage.capability.groups {
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
        let mut published = Vec::new();
        let hearing = async {
            loop {
                let event = stage.events(&self.topic, 1).remove(0);
                again_and_again(|| bus.publish(event.clone())).await?;
                published.push(event.id().to_owned());
                // On a way on which all takes its time, an earlier one comes first.
                let heard = ear.until(event.id(), OUTAGE).await;
                if heard.iter().any(|id| published.contains(id)) {
                    return Checked::Ok(());
                }
            }
        };
        stage.within("broadcasts to be heard again", hearing).await?
    }
}
