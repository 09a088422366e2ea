//! All groups of one memory, under one lock that is never held while anything waits.

use super::{
    group::{Found, Group, Member},
    letters::{LETTERS_MAX, Letters},
    line::{Line, Way, Ways},
    queue::Dead,
    settings::Settings,
};
use crate::{
    backend::{GroupInfo, Letter, LetterId, Order, Outgoing, Settle, SharedFilter},
    clock::Timestamp,
    commons::Local,
    error::{Error, ErrorKind, Result},
    event::Event,
    predicate::Interest,
    sync::{AtomicUsize, Mutex},
};
use std::{
    collections::BTreeMap,
    mem,
    sync::{
        Arc, OnceLock, PoisonError,
        atomic::Ordering::{Acquire, Release},
    },
    time::Duration,
};
use tokio::{
    sync::{Notify, oneshot},
    time::Instant,
};

/// What all connections to one memory share.
#[derive(Debug)]
pub(super) struct Store {
    pub(super) settings: Settings,
    state: Mutex<State>,
    // How many groups there are, for those who need not wait for the lock to know.
    groups: AtomicUsize,
    /// Told when something was settled while someone asks.
    pub(super) quiet: Notify,
    // Made when somebody asks for it, which most never do.
    commons: OnceLock<Arc<Local>>,
}

#[derive(Debug)]
pub(super) struct State {
    made: u64,
    queue_max: usize,
    groups: BTreeMap<u64, Group>,
    pub(super) letters: Letters,
    line: Line,
    /// How many wait for groups to be through.
    pub(super) asking: usize,
    gone: Gone,
}

/// What is let go of once the lock is open: payloads are the user's, and so is what their drops do,
/// and who reads the log.
#[derive(Debug, Default)]
struct Gone {
    events: Vec<Event>,
    letters: Vec<Letter>,
    groups: Vec<Group>,
    // Letters that gave way to later ones.
    gave_way: Vec<Letter>,
}

/// What became of an event that is to be published.
pub(super) enum Offer {
    Taken,
    /// It waits for room: the number to leave by, and where the result comes.
    Waits(u64, oneshot::Receiver<Result<()>>),
}

impl Store {
    pub(super) fn new(settings: Settings) -> Self {
        let state = State {
            made: 0,
            queue_max: settings.queue,
            groups: BTreeMap::new(),
            letters: Letters::default(),
            line: Line::default(),
            asking: 0,
            gone: Gone::default(),
        };
        let (state, groups) = (Mutex::new(state), AtomicUsize::new(0));
        Self { settings, state, groups, quiet: Notify::new(), commons: OnceLock::new() }
    }

    /// Returns what its connections have in common beside events.
    pub(super) fn commons(&self) -> Arc<Local> {
        Arc::clone(self.commons.get_or_init(Arc::default))
    }

    /// Does something under the lock; what it lets go of is dropped after it.
    pub(super) fn with<R>(&self, work: impl FnOnce(&mut State) -> R) -> R {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let result = work(&mut state);
        self.groups.store(state.groups.len(), Release);
        let gone = (!state.gone.is_empty()).then(|| mem::take(&mut state.gone));
        drop(state);
        gone.iter().for_each(Gone::tell);
        result
    }

    /// Tells whether there is any group.
    pub(super) fn has_groups(&self) -> bool {
        self.groups.load(Acquire) > 0
    }
}

impl Gone {
    fn is_empty(&self) -> bool {
        self.events.is_empty()
            && self.letters.is_empty()
            && self.groups.is_empty()
            && self.gave_way.is_empty()
    }

    fn tell(&self) {
        for letter in &self.gave_way {
            tracing::warn!(
                event = letter.event_id,
                group = letter.group,
                subscription = letter.subscription,
                reason = letter.reason,
                "a dead letter gave way to a later one: memory keeps {LETTERS_MAX}"
            );
        }
    }
}

impl State {
    pub(super) fn number(&mut self) -> u64 {
        self.made += 1;
        self.made
    }

    pub(super) fn group_mut(&mut self, number: u64) -> Option<&mut Group> {
        self.groups.get_mut(&number)
    }

    pub(super) fn number_of(&self, name: &str) -> Option<u64> {
        self.groups.iter().find(|(_, group)| *group.name == *name).map(|(number, _)| *number)
    }

    /// Makes a source a member of a group, which begins with it if it is new; returns the numbers
    /// of the group and of the member.
    pub(super) fn join(
        &mut self,
        connection: u64,
        name: &str,
        interest: Interest,
        wants: SharedFilter,
        (wake, order): (Arc<Notify>, Order),
    ) -> (u64, u64) {
        let member = self.number();
        let number = self.number_of(name).unwrap_or_else(|| self.number());
        let group = self.groups.entry(number).or_insert_with(|| Group::new(name));
        group.join(Member::new(member, connection, interest, wants, wake), order);
        (number, member)
    }

    /// Ends memberships; who waits for room that nobody can make any more is told.
    pub(super) fn leave(&mut self, group: Option<u64>, leaves: impl Fn(u64, u64) -> bool) {
        let all = self.groups.iter_mut();
        for (_, group) in all.filter(|(number, _)| group.is_none_or(|group| group == **number)) {
            group.leave(&leaves);
        }
        self.admit();
    }

    /// Puts an event into the queues of all groups that want it, or into none of them. Where one
    /// is full it waits in line if `patient`.
    pub(super) fn offer(
        &mut self,
        connection: u64,
        outgoing: &Outgoing,
        patient: bool,
    ) -> Result<Offer> {
        let event = &outgoing.event;
        if let Some(reason) = &outgoing.rejected {
            let input = outgoing.position.as_ref().map_or("", |p| &*p.input);
            let gave_way = self.letters.add(|id| letter_of_input(id, event, input, reason));
            self.gone.gave_way.extend(gave_way);
            return Ok(Offer::Taken);
        }
        let (ways, waits) = self.ways(event, patient)?;
        if waits {
            let (number, result) = self.line.join(connection, event.clone(), ways);
            return Ok(Offer::Waits(number, result));
        }
        enter(&mut self.groups, event, &ways);
        Ok(Offer::Taken)
    }

    /// As [`State::offer`], but none if it would have to wait.
    pub(super) fn offer_now(&mut self, event: &Event, patient: bool) -> Option<Result<()>> {
        match self.ways(event, patient) {
            Ok((_, true)) => None,
            Ok((ways, false)) => {
                enter(&mut self.groups, event, &ways);
                Some(Ok(()))
            }
            Err(error) => Some(Err(error)),
        }
    }

    /// Returns the groups that want an event, and whether it must wait for one of them.
    fn ways(&self, event: &Event, patient: bool) -> Result<(Ways, bool)> {
        let (mut ways, most) = (Ways::new(), self.queue_max);
        let mut full = false;
        for (number, group) in &self.groups {
            if group.wants(event) {
                ways.push(*number);
                if group.is_full(most) && (!patient || group.is_hopeless(most)) {
                    return Err(group.overloaded(most, event));
                }
                full |= group.is_full(most);
            }
        }
        let waits = full || (patient && !self.line.is_empty() && self.line.is_before(&ways));
        Ok((ways, waits))
    }

    /// Lets in who waits, as far as there is room, and tells those for whom there never will be.
    pub(super) fn admit(&mut self) {
        if self.line.is_empty() {
            return;
        }
        let (groups, most) = (&mut self.groups, self.queue_max);
        let out = self.line.admit(|event, ways| {
            let mut of = ways.iter().filter_map(|way| groups.get(way));
            if let Some(group) = of.clone().find(|group| group.is_hopeless(most)) {
                return Way::Never(group.overloaded(most, event));
            }
            if of.any(|group| group.is_full(most)) {
                return Way::Full;
            }
            enter(groups, event, ways);
            Way::Free
        });
        self.gone.events.extend(out);
    }

    /// Takes publishers out of the line; those of a connection that closes are told.
    pub(super) fn give_up(&mut self, leaves: impl Fn(u64, u64) -> bool) {
        for waiter in self.line.remove(|waiter| leaves(waiter.number, waiter.connection)) {
            // Who does not wait any more need not be told.
            let _ = waiter.told.send(Err(closed()));
            self.gone.events.push(waiter.event);
        }
        self.admit();
    }

    /// Leases to a member what it wants, or says how long there is nothing.
    pub(super) fn claim(&mut self, group: u64, member: u64, lease: Duration, max: usize) -> Found {
        let found = match self.groups.get_mut(&group) {
            Some(group) => group.claim(member, lease, max),
            None => Found::Gone,
        };
        // A lease that ran out may have been the last hope of who waits for room.
        self.admit();
        found
    }

    /// Settles a batch of a group; false for each lease that was lost.
    pub(super) fn settle(&mut self, group: u64, lease: Duration, batch: &[Settle]) -> Vec<bool> {
        let Some(of) = self.groups.get_mut(&group) else { return vec![false; batch.len()] };
        let kept = batch.iter().map(|settle| {
            let Some(settled) = of.queue.settle(settle, lease) else { return false };
            for dead in settled.dead {
                self.gone.gave_way.extend(self.letters.add(|id| letter(id, &of.name, dead)));
            }
            self.gone.events.extend(settled.through);
            if let Some(event) = settled.freed {
                of.wake(&event, false);
            }
            if let Some((event, held_back)) = settled.again {
                of.wake(&event, held_back);
            }
            true
        });
        let kept = kept.collect();
        self.admit();
        kept
    }

    /// Tells whether these groups have settled all that is of interest beside them.
    pub(super) fn is_settled(&self, groups: &[(String, Interest)]) -> bool {
        let unsettled = |(name, interest): &(String, Interest)| {
            let group = self.groups.values().find(|group| *group.name == **name);
            group.is_some_and(|g| g.queue.len() > 0 && g.queue.has(&interest.compile()))
        };
        !groups.iter().any(unsettled)
    }

    /// Lists the groups by name.
    pub(super) fn list(&self) -> Vec<GroupInfo> {
        let info = |group: &Group| group.info(self.letters.count(&group.name));
        let mut all: Vec<_> = self.groups.values().map(info).collect();
        all.sort_by(|a, b| a.name.cmp(&b.name));
        all
    }

    /// Forgets a group with all it has; false if there is none of that name.
    pub(super) fn prune(&mut self, name: &str) -> bool {
        let group = self.number_of(name).and_then(|number| self.groups.remove(&number));
        let Some(group) = group else { return false };
        group.end();
        self.gone.groups.push(group);
        self.gone.letters.append(&mut self.letters.of_group(name));
        self.admit();
        true
    }

    /// Takes back what is held back still; tells whether there was anything.
    pub(super) fn withdraw(&mut self, event_id: &str) -> bool {
        let (now, before) = (Instant::now(), self.gone.events.len());
        for group in self.groups.values_mut() {
            self.gone.events.extend(group.queue.withdraw(event_id, now));
        }
        let any = self.gone.events.len() > before;
        self.admit();
        any
    }

    /// Deletes letters; tells how many.
    pub(super) fn purge(&mut self, ids: &[LetterId]) -> u64 {
        let before = self.gone.letters.len();
        self.gone.letters.extend(ids.iter().filter_map(|id| self.letters.delete(id)));
        (self.gone.letters.len() - before) as u64
    }

    /// Hands letters back to the subscriptions they failed in; tells how many.
    pub(super) fn redrive(&mut self, ids: &[LetterId]) -> u64 {
        let mut redriven = 0;
        for id in ids {
            let groups = &self.groups;
            let known = |name: &str| groups.values().any(|group| *group.name == *name);
            let Some((name, subscription, event)) = self.letters.take(id, known) else { continue };
            let group = self.groups.values_mut().find(|group| *group.name == *name);
            let Some(group) = group else { continue };
            group.queue.redrive(event.clone(), subscription);
            group.wake(&event, false);
            redriven += 1;
        }
        redriven
    }
}

fn enter(groups: &mut BTreeMap<u64, Group>, event: &Event, ways: &[u64]) {
    for way in ways {
        let Some(group) = groups.get_mut(way) else { continue };
        group.queue.push(event.clone());
        group.wake(event, event.delay().is_some());
    }
}

pub(super) fn closed() -> Error {
    Error::new(ErrorKind::Closed, "memory", "the bus is closed")
}

fn letter(id: LetterId, group: &str, dead: Dead) -> Letter {
    Letter {
        id,
        event_id: dead.event.id().into(),
        event_type: dead.event.event_type().into(),
        topic: dead.event.topic().into(),
        event: Some(dead.event),
        group: Some(group.into()),
        subscription: dead.subscription,
        reason: dead.reason,
        attempts: dead.attempts,
        at: Timestamp::now(),
        history: dead.history,
    }
}

/// Keeps a line of an input that never became an event.
fn letter_of_input(id: LetterId, event: &Event, input: &str, reason: &str) -> Letter {
    Letter {
        id,
        event_id: event.id().into(),
        event_type: event.event_type().into(),
        topic: event.topic().into(),
        event: Some(event.clone()),
        group: None,
        subscription: input.into(),
        reason: reason.into(),
        attempts: 0,
        at: Timestamp::now(),
        history: Vec::new(),
    }
}
