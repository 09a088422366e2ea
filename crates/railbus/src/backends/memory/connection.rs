//! A connection to a memory: the contracts of a backend and of its keeper.

use super::{
    line::Ways,
    settings::{CAPABILITY, Settings, Wire},
    source::GroupSource,
    store::{Offer, State, Store, closed},
};
use crate::{
    backend::{
        Backend, Capability, GroupInfo, Keeper, Letter, LetterFilter, LetterId, Outgoing, Source,
        Start, Subscribe,
    },
    commons::Commons,
    context,
    error::{Error, ErrorKind, Result},
    event::Event,
    options::Options,
    predicate::Interest,
    sync::AtomicBool,
};
use async_trait::async_trait;
use std::{
    sync::{Arc, atomic::Ordering::Relaxed},
    time::Duration,
};
use tokio::sync::{Notify, oneshot};

/// Checks that there is no address, and the settings.
///
/// # Errors
/// Returns a config error that names what is there, or the setting that is unknown or wrong.
pub fn check(options: &Options) -> Result<()> {
    Settings::read(options).map(|_| ())
}

/// Opens a memory of its own.
///
/// # Errors
/// As [`check`].
pub async fn open(options: Options) -> Result<Arc<dyn Backend>> {
    Ok(Arc::new(Memory::of(&options)?))
}

/// The backend of one process: broadcasts are delivered inside publish, by the bus; each group has
/// a bounded queue, which ends with the last connection.
///
/// No log is kept: a group begins with what is published after its first member joined. It wants
/// what its open members want; when the last one has left, what they wanted stays wanted, so that
/// nothing is lost until somebody joins again.
///
/// Of dead letters the latest 10,000 are kept.
#[derive(Debug)]
pub struct Memory {
    store: Arc<Store>,
    number: u64,
    closed: Arc<AtomicBool>,
}

impl Default for Memory {
    fn default() -> Self {
        Self::on(Arc::new(Store::new(Settings::default())))
    }
}

impl Memory {
    /// Opens a memory of its own.
    ///
    /// # Errors
    /// As [`check`].
    pub(crate) fn of(options: &Options) -> Result<Self> {
        Ok(Self::on(Arc::new(Store::new(Settings::read(options)?))))
    }

    fn on(store: Arc<Store>) -> Self {
        let number = store.with(State::number);
        Self { store, number, closed: Arc::default() }
    }

    /// Opens another connection to the same memory, closed by itself: buses over both share
    /// groups, but not broadcasts.
    ///
    /// # Examples
    /// ```
    /// use railbus::{Bus, Event, backends::memory::Memory};
    /// use std::sync::Arc;
    ///
    /// # tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap().block_on(async {
    /// let memory = Memory::default();
    /// let (one, two) = (Bus::over(Arc::new(memory.connect())), Bus::over(Arc::new(memory)));
    /// let (handled, mut all) = tokio::sync::mpsc::unbounded_channel();
    /// two.on("order.placed").group("billing").run(move |e: &Event| handled.send(e.clone())).await?;
    /// one.on("never").group("billing").run(|_: &Event| {}).await?;
    /// one.publish(Event::new("order.placed")).await?;
    /// assert_eq!(all.recv().await.unwrap().event_type(), "order.placed");
    /// # Ok::<(), railbus::Error>(()) }).unwrap();
    /// ```
    #[must_use]
    pub fn connect(&self) -> Self {
        Self::on(Arc::clone(&self.store))
    }

    /// Tells when payloads are turned into bytes.
    #[must_use]
    pub fn wire(&self) -> Wire {
        self.store.settings.wire
    }

    fn check(&self) -> Result<()> {
        if self.closed.load(Relaxed) { Err(closed()) } else { Ok(()) }
    }

    fn end(&self) {
        if self.closed.swap(true, Relaxed) {
            return;
        }
        self.store.with(|state| {
            state.give_up(|_, connection| connection == self.number);
            state.leave(None, |_, connection| connection == self.number);
        });
        self.store.quiet.notify_waiters();
    }
}

/// Results that are still to come, each with its place in the batch.
struct Waiting<'a> {
    store: &'a Store,
    numbers: Ways,
    results: Vec<(usize, oneshot::Receiver<Result<()>>)>,
}

impl Drop for Waiting<'_> {
    /// Who does not wait any more makes way for those behind.
    fn drop(&mut self) {
        if !self.numbers.is_empty() {
            self.store.with(|state| state.give_up(|number, _| self.numbers.contains(&number)));
        }
    }
}

#[async_trait]
impl Backend for Memory {
    fn capability(&self) -> &Capability {
        &CAPABILITY
    }

    async fn publish(&self, batch: &[Outgoing]) -> Vec<Result<()>> {
        let patient = context::depth() == 0;
        let mut waiting = Waiting { store: &self.store, numbers: Ways::new(), results: Vec::new() };
        let mut results = Vec::with_capacity(batch.len());
        self.store.with(|state| {
            for (at, outgoing) in batch.iter().enumerate() {
                let checked = self.check().and_then(|()| outgoing.event.check());
                let offered = checked.and_then(|()| state.offer(self.number, outgoing, patient));
                results.push(offered.map(|offer| {
                    if let Offer::Waits(number, result) = offer {
                        waiting.numbers.push(number);
                        waiting.results.push((at, result));
                    }
                }));
            }
        });
        for (at, result) in std::mem::take(&mut waiting.results) {
            results[at] = result.await.unwrap_or_else(|_| Err(closed()));
        }
        waiting.numbers.clear();
        results
    }

    fn publish_now(&self, event: &Event) -> Option<Result<()>> {
        let patient = context::depth() == 0;
        let checked = self.check().and_then(|()| event.check());
        if checked.is_err() {
            return Some(checked);
        }
        self.store.with(|state| state.offer_now(event, patient))
    }

    fn collects(&self) -> bool {
        self.store.has_groups()
    }

    async fn subscribe(&self, request: Subscribe) -> Result<Arc<dyn Source>> {
        self.check()?;
        let able = &["sqlite"];
        let Some(name) = request.group else {
            let why = "delivers broadcasts inside publish and has no sources for them";
            return Err(CAPABILITY.refuse("subscribe", why, able));
        };
        if matches!(request.start, Start::At(_)) {
            return Err(CAPABILITY.refuse("subscribe", "can't start at a time", able));
        }
        let (wake, wants) = (Arc::new(Notify::new()), Arc::new(request.interest.compile()));
        let waking = (Arc::clone(&wake), request.order);
        let join =
            |state: &mut State| state.join(self.number, &name, request.interest, wants, waking);
        let (group, member) = self.store.with(join);
        Ok(Arc::new(GroupSource {
            store: Arc::clone(&self.store),
            closed: Arc::clone(&self.closed),
            name,
            group,
            member,
            lease: request.lease,
            wake,
        }))
    }

    fn encodes(&self) -> bool {
        self.wire() == Wire::Always
    }

    async fn withdraw(&self, event_id: &str) -> Result<bool> {
        self.check()?;
        let withdrawn = self.store.with(|state| state.withdraw(event_id));
        self.store.quiet.notify_waiters();
        Ok(withdrawn)
    }

    async fn ping(&self) -> Result<()> {
        self.check()
    }

    async fn settled(&self, groups: &[(String, Interest)]) -> Result<()> {
        let asking = Asking::new(&self.store);
        loop {
            // From here on no settlement is missed.
            let changed = self.store.quiet.notified();
            self.check()?;
            if asking.0.with(|state| state.is_settled(groups)) {
                return Ok(());
            }
            changed.await;
        }
    }

    async fn close(&self, _deadline: Duration) -> Result<()> {
        self.end();
        Ok(())
    }

    fn commons(&self) -> Option<Arc<dyn Commons>> {
        Some(self.store.commons())
    }

    fn keeper(&self) -> Option<&dyn Keeper> {
        Some(self)
    }
}

/// Someone who asks whether groups are through.
struct Asking<'a>(&'a Store);

impl<'a> Asking<'a> {
    fn new(store: &'a Store) -> Self {
        store.with(|state| state.asking += 1);
        Self(store)
    }
}

impl Drop for Asking<'_> {
    fn drop(&mut self) {
        self.0.with(|state| state.asking -= 1);
    }
}

#[async_trait]
impl Keeper for Memory {
    async fn groups(&self) -> Result<Vec<GroupInfo>> {
        self.check()?;
        Ok(self.store.with(|state| state.list()))
    }

    async fn prune(&self, group: &str) -> Result<()> {
        self.check()?;
        if !self.store.with(|state| state.prune(group)) {
            let why = format!("there is no group `{group}`");
            return Err(Error::new(ErrorKind::NotFound, "prune", why));
        }
        self.store.quiet.notify_waiters();
        Ok(())
    }

    async fn replay(&self, _group: &str, _start: Start) -> Result<u64> {
        self.check()?;
        Err(CAPABILITY.refuse("replay", "keeps no events that are settled", &["sqlite"]))
    }

    async fn letters(&self, filter: &LetterFilter) -> Result<Vec<Letter>> {
        self.check()?;
        Ok(self.store.with(|state| state.letters.list(filter)))
    }

    async fn redrive(&self, ids: &[LetterId]) -> Result<u64> {
        self.check()?;
        Ok(self.store.with(|state| state.redrive(ids)))
    }

    async fn purge(&self, ids: &[LetterId]) -> Result<u64> {
        self.check()?;
        Ok(self.store.with(|state| state.purge(ids)))
    }
}
