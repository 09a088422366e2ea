//! A backend around another one, which does one thing wrong.

use super::{
    heard::Heard,
    journaled::{Leases, Spoiled},
    mutant::Mutant,
    sent::{is_swallowed, out},
};
use async_trait::async_trait;
use railbus::{
    Event,
    backend::{
        Accounts, Backend, Capability, GroupInfo, Journal, Keeper, Leased, Letter, LetterFilter,
        LetterId, Order, Outgoing, Receipt, Settle, Source, Start, Subscribe, Verdict,
    },
    error::Result,
    predicate::Interest,
};
use std::{
    collections::{HashMap, HashSet},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};
use tokio::time::timeout;

/// How long what is not there is waited for by a mutant that throws it away.
const GLANCE: Duration = Duration::from_millis(100);

/// What marks the receipt of a lease that the other backend knows nothing of.
const GHOST: &str = "ghost";

/// An event that is leased, and the member that has it.
type Ghost = (usize, Receipt, Event);

/// What all connections of a mutant share.
#[derive(Debug, Default)]
pub(crate) struct Shared {
    // By group: events that are leased, to be leased once more, and by whom they are.
    ghosts: Mutex<HashMap<String, Vec<Ghost>>>,
    // The groups that somebody has joined.
    joined: Mutex<HashSet<String>>,
    members: Mutex<usize>,
    // Connections that should have been closed.
    left: Mutex<Vec<Arc<dyn Backend>>>,
    // The leases of runs.
    leases: Leases,
}

#[derive(Debug)]
pub(crate) struct Wrapped {
    inner: Arc<dyn Backend>,
    mutant: Mutant,
    shared: Arc<Shared>,
    // What was fetched and not settled, of all sources of this connection.
    held: Arc<Mutex<Held>>,
}

type Held = Vec<(Fetched, Receipt)>;

/// The source that something was fetched from.
#[derive(Clone)]
struct Fetched(Arc<dyn Source>);

impl std::fmt::Debug for Fetched {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Source")
    }
}

struct WrappedSource {
    inner: Arc<dyn Source>,
    mutant: Mutant,
    group: String,
    number: usize,
    shared: Arc<Shared>,
    held: Arc<Mutex<Held>>,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn is_ghost(receipt: &Receipt) -> bool {
    receipt.token.as_deref() == Some(GHOST)
}

/// Returns the time that this is to a clock an hour ahead.
fn behind(start: Start) -> Start {
    match start {
        Start::At(time) => Start::At(time.before(Duration::from_secs(3600))),
        start => start,
    }
}

fn ack(receipt: &Receipt) -> [Settle; 1] {
    [Settle::new(receipt.clone(), Verdict::Ack)]
}

impl Wrapped {
    pub(crate) fn new(inner: Arc<dyn Backend>, mutant: Mutant, shared: Arc<Shared>) -> Self {
        Self { inner, mutant, shared, held: Arc::default() }
    }

    fn ask(&self, mut request: Subscribe) -> Subscribe {
        match self.mutant {
            Mutant::CollidingTopics => {
                for clause in &mut request.interest.0 {
                    let blur = |topic: &String| topic.replace([':', '.', '-', '_'], "?");
                    clause.topic = clause.topic.as_ref().map(blur);
                }
            }
            Mutant::BrokenPattern => {
                for clause in &mut request.interest.0 {
                    let shells = |topic: &String| topic.replace("[!", "[^");
                    clause.topic = clause.topic.as_ref().map(shells);
                    clause.event_type = clause.event_type.as_ref().map(shells);
                }
            }
            Mutant::IgnoredKey => request.order = Order::Any,
            Mutant::LostHistory => request.start = Start::Newest,
            Mutant::OldestForTime if matches!(request.start, Start::At(_)) => {
                request.start = Start::Oldest;
            }
            Mutant::ClockAhead => request.start = behind(request.start),
            Mutant::OldestForNewest => request.start = Start::Oldest,
            Mutant::IgnoredInterest => request.interest = Interest::all(),
            _ => {}
        }
        request
    }
}

#[async_trait]
impl Backend for Wrapped {
    fn capability(&self) -> &Capability {
        self.inner.capability()
    }

    async fn publish(&self, batch: &[Outgoing]) -> Vec<Result<()>> {
        let swallowed = |o: &Outgoing| is_swallowed(self.mutant, o, self.capability().payload_max);
        if batch.iter().any(swallowed) {
            let (confirmed, rest): (Vec<_>, _) = batch.iter().cloned().partition(swallowed);
            let mut results = vec![Ok(()); confirmed.len()];
            results.extend(self.inner.publish(&rest).await);
            return results;
        }
        let out: Vec<_> = batch.iter().map(|outgoing| out(self.mutant, outgoing)).collect();
        if self.mutant == Mutant::LostOfBatch && out.len() > 1 {
            let mut results = self.inner.publish(&out[1..]).await;
            results.insert(0, Ok(()));
            return results;
        }
        if self.mutant == Mutant::PublishedTwice {
            self.inner.publish(&out).await;
        }
        let results = self.inner.publish(&out).await;
        if self.mutant == Mutant::ConfirmedUnsent { vec![Ok(()); results.len()] } else { results }
    }

    async fn subscribe(&self, mut request: Subscribe) -> Result<Arc<dyn Source>> {
        if self.mutant == Mutant::GroupsForAll {
            request.group = None;
        }
        let Some(group) = request.group.clone() else {
            let inner = self.inner.subscribe(request).await?;
            return Ok(Arc::new(Heard::new(inner, self.mutant)));
        };
        let inner = self.inner.subscribe(self.ask(request)).await?;
        let again = !lock(&self.shared.joined).insert(group.clone());
        if self.mutant == Mutant::LostOnReconnect && again {
            let wait = async { inner.fetch(100).await };
            if let Ok(Ok(leased)) = timeout(GLANCE, wait).await {
                let acks: Vec<_> = leased.iter().flat_map(|l| ack(&l.receipt)).collect();
                inner.settle(&acks).await;
            }
        }
        let number = {
            let mut members = lock(&self.shared.members);
            *members += 1;
            *members
        };
        let (mutant, shared) = (self.mutant, Arc::clone(&self.shared));
        let held = Arc::clone(&self.held);
        Ok(Arc::new(WrappedSource { inner, mutant, group, number, shared, held }))
    }

    fn encodes(&self) -> bool {
        self.inner.encodes()
    }

    async fn settled(&self, groups: &[(String, Interest)]) -> Result<()> {
        self.inner.settled(groups).await
    }

    async fn withdraw(&self, event_id: &str) -> Result<bool> {
        match self.mutant {
            Mutant::Unwithdrawn => Ok(true),
            Mutant::WithdrawnTwice => self.inner.withdraw(event_id).await.map(|_| true),
            _ => self.inner.withdraw(event_id).await,
        }
    }

    async fn ping(&self) -> Result<()> {
        self.inner.ping().await
    }

    async fn close(&self, deadline: Duration) -> Result<()> {
        match self.mutant {
            Mutant::OpenForEver => return Ok(()),
            Mutant::LeftOpen => {
                lock(&self.shared.left).push(Arc::clone(&self.inner));
                return Ok(());
            }
            Mutant::LostOnClose => {
                let held = std::mem::take(&mut *lock(&self.held));
                for (source, receipt) in held {
                    source.0.settle(&ack(&receipt)).await;
                }
            }
            _ => {}
        }
        self.inner.close(deadline).await
    }

    fn keeper(&self) -> Option<&dyn Keeper> {
        self.inner.keeper().map(|_| self as &dyn Keeper)
    }

    fn accounts(&self) -> Option<&dyn Accounts> {
        self.inner.accounts()
    }

    fn journal(&self) -> Option<Arc<dyn Journal>> {
        let (mutant, leases) = (self.mutant, Arc::clone(&self.shared.leases));
        self.inner.journal().map(|inner| Arc::new(Spoiled { inner, mutant, leases }) as _)
    }
}

impl Wrapped {
    fn kept(&self) -> &dyn Keeper {
        self.inner.keeper().unwrap()
    }
}

#[async_trait]
impl Keeper for Wrapped {
    async fn groups(&self) -> Result<Vec<GroupInfo>> {
        self.kept().groups().await
    }

    async fn prune(&self, group: &str) -> Result<()> {
        self.kept().prune(group).await
    }

    async fn replay(&self, group: &str, start: Start) -> Result<u64> {
        let start = match self.mutant {
            Mutant::ReplaysAll => Start::Oldest,
            Mutant::ClockAhead => behind(start),
            _ => start,
        };
        let count = self.kept().replay(group, start).await?;
        Ok(if self.mutant == Mutant::SilentReplay { 0 } else { count })
    }

    async fn letters(&self, filter: &LetterFilter) -> Result<Vec<Letter>> {
        let mut letters = self.kept().letters(filter).await?;
        for letter in &mut letters {
            match self.mutant {
                Mutant::LostReason => letter.reason.clear(),
                Mutant::LostTries => letter.history.clear(),
                _ => {}
            }
        }
        Ok(letters)
    }

    async fn redrive(&self, ids: &[LetterId]) -> Result<u64> {
        let redriven = self.kept().redrive(ids).await?;
        Ok(if self.mutant == Mutant::RedrivenTwice { ids.len() as u64 } else { redriven })
    }

    async fn purge(&self, ids: &[LetterId]) -> Result<u64> {
        self.kept().purge(ids).await
    }
}

impl WrappedSource {
    /// Leases what another member has, once each.
    fn haunt(&self, leased: &mut Vec<Leased>) {
        let mut ghosts = lock(&self.shared.ghosts);
        let ghosts = ghosts.entry(self.group.clone()).or_default();
        let place = ghosts.iter().position(|(member, ..)| *member != self.number);
        if let Some((_, receipt, event)) = place.map(|place| ghosts.swap_remove(place)) {
            leased.push(Leased {
                receipt: Receipt { token: Some(GHOST.into()), ..receipt },
                event: Ok(event),
                attempt: 2,
                lost: true,
                finished: Vec::new(),
                only: None,
            });
        }
        let real = leased.iter().filter(|l| !is_ghost(&l.receipt) && l.attempt == 1);
        let ghost = |l: &Leased| Some((self.number, l.receipt.clone(), l.event.clone().ok()?));
        ghosts.extend(real.filter_map(ghost));
    }

    fn changed(&self, settle: &Settle) -> Settle {
        let mut settle = settle.clone();
        let zero = Duration::ZERO;
        settle.verdict = match (self.mutant, settle.verdict) {
            (Mutant::ForgottenDelay, Verdict::Nack { .. }) => Verdict::Nack { delay: zero },
            (Mutant::BurntRelease, Verdict::Release { delay }) => Verdict::Nack { delay },
            (Mutant::ForgottenTries, Verdict::Extend { .. }) => Verdict::Extend { tries: 0 },
            (_, verdict) => verdict,
        };
        settle
    }

    /// Tells whether a settlement is only said to be done.
    fn skips(&self, settle: &Settle) -> bool {
        is_ghost(&settle.receipt)
            || match self.mutant {
                Mutant::EarlyAck => true,
                Mutant::ForgottenAck => settle.verdict == Verdict::Ack,
                Mutant::ForgottenExtension => matches!(settle.verdict, Verdict::Extend { .. }),
                _ => false,
            }
    }
}

#[async_trait]
impl Source for WrappedSource {
    async fn fetch(&self, max: usize) -> Result<Vec<Leased>> {
        let asked = if self.mutant == Mutant::TooMany { max * 10 } else { max };
        let mut leased = self.inner.fetch(asked).await?;
        let is_poison = |l: &Leased| l.event.is_err();
        match self.mutant {
            Mutant::LostPoison => {
                while leased.iter().any(is_poison) {
                    let (lost, rest): (Vec<_>, _) = leased.into_iter().partition(is_poison);
                    let acks: Vec<_> = lost.iter().flat_map(|l| ack(&l.receipt)).collect();
                    self.inner.settle(&acks).await;
                    leased = if rest.is_empty() { self.inner.fetch(max).await? } else { rest };
                }
            }
            Mutant::FailsByPoison => {
                if let Some(Err(poison)) = leased.iter().map(|l| &l.event).find(|e| e.is_err()) {
                    return Err(poison.error.clone());
                }
            }
            Mutant::ForgottenFinished => leased.iter_mut().for_each(|l| l.finished.clear()),
            Mutant::EarlyAck => {
                let acks: Vec<_> = leased.iter().flat_map(|l| ack(&l.receipt)).collect();
                self.inner.settle(&acks).await.into_iter().collect::<Result<()>>()?;
            }
            Mutant::LostAttempt => leased.iter_mut().for_each(|l| l.attempt = 1),
            Mutant::SwappedOrder => leased.reverse(),
            Mutant::DoubleLease => self.haunt(&mut leased),
            Mutant::LostOnClose => {
                let of = |l: &Leased| (Fetched(Arc::clone(&self.inner)), l.receipt.clone());
                lock(&self.held).extend(leased.iter().map(of));
            }
            _ => {}
        }
        Ok(leased)
    }

    async fn settle(&self, batch: &[Settle]) -> Vec<Result<()>> {
        let settled: HashSet<_> = batch.iter().map(|settle| settle.receipt.clone()).collect();
        lock(&self.held).retain(|(_, receipt)| !settled.contains(receipt));
        let mut done: Vec<_> =
            batch.iter().filter(|s| !self.skips(s)).map(|s| self.changed(s)).collect();
        if let (Mutant::AlikeInBatch, Some(first)) = (self.mutant, batch.first()) {
            done.iter_mut().for_each(|settle| settle.verdict = first.verdict.clone());
        }
        let mut results = self.inner.settle(&done).await.into_iter();
        let result = |settle: &Settle| match self.skips(settle) {
            true => Ok(()),
            false => {
                let result = results.next().unwrap();
                if self.mutant == Mutant::IgnoredFence { Ok(()) } else { result }
            }
        };
        batch.iter().map(result).collect()
    }

    async fn handed_out(&self) -> Result<Option<u64>> {
        self.inner.handed_out().await
    }

    fn stop(&self) {
        self.inner.stop();
    }

    async fn close(&self) -> Result<()> {
        self.inner.close().await
    }
}
