//! Where a case plays: connections that are recorded, and names that nobody else uses.

use super::{
    control::Control,
    counts::Counts,
    finding::{Broken, Checked, Excuse},
    history::History,
    member::{Member, Process},
    proxy::Proxy,
    random::Random,
    recorder::Recorded,
    rules,
    seat::Seat,
    target::Target,
};
use crate::{
    backend::{Backend, Broadcast, Capability, Order, RunFilter, Start, Subscribe},
    bus::Bus,
    clock::Timestamp,
    error::Result,
    event::Event,
    id::new_id,
    predicate::{Clause, Interest},
};
use bytes::Bytes;
use std::{
    collections::BTreeSet,
    future::Future,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

/// The lease of the cases that let one run out: short, since they wait for it.
const LEASE: Duration = Duration::from_millis(300);

/// The lease where none is to run out.
pub(super) const LONG_LEASE: Duration = Duration::from_secs(60);

/// How long letting go may take.
const CLOSE_WITHIN: Duration = Duration::from_secs(5);

/// How long a server may take to do what it is told.
const CONTROL_WITHIN: Duration = Duration::from_secs(60);

/// What a case needs, made anew for each.
pub(super) struct Stage {
    target: Target,
    pub(super) capability: Capability,
    pub(super) counts: Counts,
    pub(super) patience: Duration,
    pub(super) history: History,
    // How much longer than usual leases are: more where this machine is slow.
    scale: u32,
    prefix: String,
    random: Mutex<Random>,
    opened: Mutex<Vec<Arc<dyn Backend>>>,
    // One order to the server at a time.
    ordering: Arc<tokio::sync::Mutex<()>>,
    // What has the server run again, if it may not.
    undo: Mutex<Option<Control>>,
    groups: Mutex<Vec<String>>,
    pipelines: Mutex<Vec<String>>,
}

impl Stage {
    pub(super) fn new(
        target: Target,
        capability: Capability,
        counts: Counts,
        patience: Duration,
        random: Random,
        scale: u32,
    ) -> Self {
        // Not from the seed: a run that is repeated must not find the events of the first.
        let id = new_id();
        let prefix = format!("conf-{}:", &id[id.len().saturating_sub(12)..]);
        Self {
            target,
            capability,
            counts,
            patience,
            history: History::new(),
            scale,
            prefix,
            random: Mutex::new(random),
            opened: Mutex::default(),
            ordering: Arc::default(),
            undo: Mutex::default(),
            groups: Mutex::default(),
            pipelines: Mutex::default(),
        }
    }

    /// Opens a connection of its own.
    pub(super) async fn open(&self) -> Checked<Arc<dyn Backend>> {
        let inner = self.within("a connection to open", self.target.open()).await??;
        Ok(self.recorded(inner))
    }

    /// Opens a connection that leaves no trace: neither recorded nor closed with the stage.
    pub(super) async fn open_unseen(&self, proxy: Option<&Proxy>) -> Checked<Arc<dyn Backend>> {
        let by = proxy.and_then(|proxy| self.target.open_by(proxy.address()));
        let opening = by.unwrap_or_else(|| self.target.open());
        Ok(self.within("a connection to open", opening).await??)
    }

    /// Opens a proxy before the store's server; none if it is not said where that is.
    pub(super) async fn proxy(&self) -> Checked<Option<Proxy>> {
        match self.target.upstream() {
            Some(upstream) => Proxy::open(upstream).await.map(Some),
            None => Ok(None),
        }
    }

    /// Opens a connection by way of a proxy, if there is one.
    pub(super) async fn open_by(&self, proxy: Option<&Proxy>) -> Checked<Arc<dyn Backend>> {
        let opening = proxy.and_then(|proxy| self.target.open_by(proxy.address()));
        let Some(opening) = opening else { return self.open().await };
        let inner = self.within("a connection to open by the proxy", opening).await??;
        Ok(self.recorded(inner))
    }

    /// Tries to open a connection with a wrong password; none if it is not said how.
    pub(super) async fn open_as_stranger(&self) -> Checked<Option<Result<Arc<dyn Backend>>>> {
        let Some(opening) = self.target.open_as_stranger() else { return Ok(None) };
        self.within("a refusal of a wrong password", opening).await.map(Some)
    }

    /// Does something to the server, if it is said how.
    pub(super) async fn order(&self, order: Control) -> Checked {
        let Some(doing) = self.target.order(order) else { return Ok(()) };
        let what = format!("the server to {}", order.name());
        let undo = order.undone_by();
        if undo.is_some() {
            // Whatever comes of it.
            *lock(&self.undo) = undo;
        }
        let turn = Arc::clone(&self.ordering).lock_owned().await;
        // A task of its own, so that what is begun is done before the next, though nobody waits.
        let doing = tokio::spawn(async move {
            let done = doing.await;
            drop(turn);
            done
        });
        let panicked = |e| Broken::new(format!("{what} panicked: {e}"));
        within(CONTROL_WITHIN, &what, doing).await?.map_err(panicked)??;
        if undo.is_none() {
            lock(&self.undo).take();
        }
        Ok(())
    }

    /// Has the server run again if it may not.
    pub(super) async fn put_back(&self) {
        let undo = *lock(&self.undo);
        if let Some(order) = undo {
            // What it comes to, the next case tells.
            let _ = self.order(order).await;
            lock(&self.undo).take();
        }
    }

    /// As [`Stage::put_back`], where nobody can wait: this thread does.
    pub(super) fn put_back_now(&self) {
        let Some(order) = lock(&self.undo).take() else { return };
        let Some(doing) = self.target.order(order) else { return };
        let ordering = Arc::clone(&self.ordering);
        let ordered = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
            let after = async {
                // If what was begun is stuck, there is no reason left to wait for it.
                let _turn = within(CLOSE_WITHIN, "its turn", ordering.lock()).await;
                within(CONTROL_WITHIN, order.name(), doing).await
            };
            runtime.map(|runtime| runtime.block_on(after))
        });
        if !matches!(ordered.join(), Ok(Ok(Ok(Ok(()))))) {
            tracing::error!(order = order.name(), "the server may be left as it is");
        }
    }

    /// Returns what time it is by the store's clock: this machine's, unless it is said how to ask it.
    pub(super) async fn store_time(&self) -> Checked<Timestamp> {
        match self.target.asked() {
            Some(asking) => Ok(self.within("the time by the store's clock", asking).await??),
            None => Ok(Timestamp::now()),
        }
    }

    /// Tells whether it is said how to control the server.
    pub(super) fn is_controlled(&self) -> bool {
        self.target.is_controlled()
    }

    fn recorded(&self, inner: Arc<dyn Backend>) -> Arc<dyn Backend> {
        let backend: Arc<dyn Backend> = Arc::new(Recorded::new(inner, self.history.clone()));
        lock(&self.opened).push(Arc::clone(&backend));
        backend
    }

    /// Opens a bus over a connection of its own.
    pub(super) async fn bus(&self) -> Checked<Bus> {
        Ok(Bus::over(self.open().await?))
    }

    /// Opens a bus to publish on and one to listen on: the same where nothing leaves the process.
    pub(super) async fn pair(&self) -> Checked<(Bus, Bus)> {
        let near = self.bus().await?;
        let far = match self.capability.broadcast {
            Broadcast::Inline => near.clone(),
            _ => self.bus().await?,
        };
        Ok((near, far))
    }

    /// Returns a topic of this case's own.
    pub(super) fn topic(&self, part: &str) -> String {
        format!("{}{part}", self.prefix)
    }

    /// Returns a group of this case's own, which is forgotten afterwards.
    pub(super) fn group(&self, part: &str) -> String {
        let group = self.topic(part);
        lock(&self.groups).push(group.clone());
        group
    }

    /// Returns the name of a pipeline of this case's own, whose runs are forgotten afterwards.
    pub(super) fn pipeline(&self, part: &str) -> String {
        let pipeline = self.topic(part);
        lock(&self.pipelines).push(pipeline.clone());
        pipeline
    }

    /// Returns the lease of cases that let one run out.
    pub(super) fn lease(&self) -> Duration {
        LEASE.max(self.capability.lease_min.unwrap_or_default()) * self.scale
    }

    /// Joins a group that sees what is published on the topic from now on.
    pub(super) async fn join(
        &self,
        backend: &Arc<dyn Backend>,
        group: &str,
        topic: &str,
        lease: Duration,
    ) -> Checked<Seat> {
        self.sit(backend, self.request(group, on_topic(topic), lease), topic).await
    }

    /// Returns what asks for a group that sees what is published from now on.
    pub(super) fn request(&self, group: &str, interest: Interest, lease: Duration) -> Subscribe {
        let (group, order) = (Some(group.into()), Order::default());
        Subscribe { group, interest, start: Start::Newest, lease, order }
    }

    /// Opens a source that is asked for in full; `topic` is where it can be sent something.
    pub(super) async fn sit(
        &self,
        backend: &Arc<dyn Backend>,
        request: Subscribe,
        topic: &str,
    ) -> Checked<Seat> {
        let source = self.within("a source to open", backend.subscribe(request)).await??;
        Ok(Seat::new(source, Arc::clone(backend), topic.into(), self.patience))
    }

    /// Returns new events on a topic, numbered in their payloads.
    pub(super) fn events(&self, topic: &str, count: usize) -> Vec<Event> {
        let event = |n| Event::new("conformance").topic(topic).payload(n);
        (0..count).map(event).collect()
    }

    /// Publishes a batch of which every event must be confirmed.
    pub(super) async fn publish(&self, backend: &Arc<dyn Backend>, events: &[Event]) -> Checked {
        let batch: Vec<_> = events.iter().cloned().map(Into::into).collect();
        for part in batch.chunks(self.capability.batch_max) {
            let results = self.within("a publish to be confirmed", backend.publish(part)).await?;
            if results.len() != part.len() {
                let (got, of) = (results.len(), part.len());
                return Err(Broken::new(format!("a batch of {of} events gave {got} results")));
            }
            results.into_iter().collect::<Result<()>>()?;
        }
        Ok(())
    }

    /// Waits for something that must happen.
    pub(super) async fn within<T>(
        &self,
        what: &str,
        happens: impl Future<Output = T>,
    ) -> Checked<T> {
        within(self.patience, what, happens).await
    }

    /// Tells whether the clock of a member in a process of its own can be set.
    pub(super) fn clocks_can_be_set(&self) -> bool {
        self.target.clocks_can_be_set()
    }

    /// Starts a member as a process; none if the target doesn't say how.
    pub(super) fn start_member(&self, member: &Member) -> Option<Checked<Process>> {
        self.target.command().map(|command| Process::start(command, member))
    }

    /// Stores bytes that are no event; false if the target doesn't say how.
    pub(super) async fn inject(&self, topic: &str, bytes: &Bytes) -> Checked<bool> {
        let Some(injecting) = self.target.injection(topic, bytes) else { return Ok(false) };
        self.within("bytes to be stored", injecting).await??;
        Ok(true)
    }

    /// Returns a count that the seed decides, from `low` to `high`, both included.
    pub(super) fn count(&self, low: usize, high: usize) -> usize {
        lock(&self.random).count(low, high)
    }

    /// Checks the history against what the backend claims.
    pub(super) fn check_history(&self) -> Checked {
        rules::check(&self.history, &self.capability)
    }

    /// Tells whether a failure may come from a machine that was too slow for the leases here.
    pub(super) fn excuses(&self, excuse: Excuse) -> bool {
        match excuse {
            Excuse::Slow => self.history.slowest() > self.lease() / 3,
            Excuse::Still => self.history.stillest() > self.lease(),
            Excuse::None => false,
        }
    }

    /// Lets go of all connections, and has the store forget the groups and the runs.
    pub(super) async fn strike(&self) {
        let opened = std::mem::take(&mut *lock(&self.opened));
        let closing = opened.iter().map(|backend| backend.close(CLOSE_WITHIN));
        // What a case has left behind is no part of what it found.
        let _ = within(CLOSE_WITHIN, "closing", futures_util::future::join_all(closing)).await;
        let groups = std::mem::take(&mut *lock(&self.groups));
        let pipelines: BTreeSet<_> =
            std::mem::take(&mut *lock(&self.pipelines)).into_iter().collect();
        if groups.is_empty() && pipelines.is_empty() {
            return;
        }
        let Ok(Ok(backend)) = within(CLOSE_WITHIN, "opening", self.target.open()).await else {
            return;
        };
        if let Some(keeper) = backend.keeper() {
            for group in groups {
                let _ = within(CLOSE_WITHIN, "pruning", keeper.prune(&group)).await;
            }
        }
        if let Some(journal) = backend.journal() {
            for pipeline in pipelines {
                let of = RunFilter { pipeline: Some(literal(&pipeline)), ..RunFilter::default() };
                let pruning = journal.prune(&of, Duration::ZERO);
                let _ = within(CLOSE_WITHIN, "pruning", pruning).await;
            }
        }
        let _ = within(CLOSE_WITHIN, "closing", backend.close(CLOSE_WITHIN)).await;
    }
}

/// Returns the interest in one topic, whatever characters it has.
pub(super) fn on_topic(topic: &str) -> Interest {
    Interest(vec![Clause { event_type: None, topic: Some(literal(topic)) }])
}

/// Returns the pattern that matches this text alone.
pub(super) fn literal(text: &str) -> String {
    let one = |c: char| if "*?[".contains(c) { format!("[{c}]") } else { c.to_string() };
    text.chars().map(one).collect()
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Waits for something that must happen within `patience`.
pub(super) async fn within<T>(
    patience: Duration,
    what: &str,
    happens: impl Future<Output = T>,
) -> Checked<T> {
    let late = |_| Broken::late(format!("waited {patience:?} for {what}"));
    tokio::time::timeout(patience, happens).await.map_err(late)
}
