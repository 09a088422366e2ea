//! Joining groups and listening to broadcasts: what a bus is on its backend.

use super::{
    lanes::Lanes,
    members::{Ear, Member, Members, Terms},
    open::{Bus, Inner},
    table::Phase,
};
use crate::{
    backend::{Order, Source, Start, Subscribe},
    consumer::{Able, Group, Start as GroupStart},
    delivery::FailurePolicy,
    error::{Error, ErrorKind, Result},
    predicate::Interest,
    task,
};
use std::{
    sync::{Arc, Weak, atomic::Ordering::SeqCst},
    time::Duration,
};
use tokio::sync::watch;

/// How long an event is a member's unless its subscription says otherwise.
pub(super) const LEASE: Duration = Duration::from_secs(30);

/// How many deliveries of a group run at once unless a subscription says otherwise.
pub(super) const LIMIT: usize = 128;

impl Bus {
    /// Opens the membership of a group, or widens it to what its subscriptions want by now.
    pub(super) async fn join(&self, name: &str, terms: &Terms) -> Result<()> {
        let mut members = self.0.members.lock().await;
        // Closing may have come first while this waited for the lock.
        self.check_open("subscribe")?;
        // Leases are renewed by the clock.
        drop(task::sleep("subscribe", Duration::ZERO)?);
        // For cancelling from threads that know of no runtime.
        let _ = self.0.runtime.set(task::runtime("subscribe")?);
        self.join_locked(&mut members, name, terms).await
    }

    async fn join_locked(&self, members: &mut Members, name: &str, terms: &Terms) -> Result<()> {
        let interest = self.interest_of(name);
        let alive = members.groups.get(name).filter(|member| !member.has_failed());
        let terms = alive.map_or_else(|| terms.clone(), |member| member.terms.join(terms));
        self.check_filling(name, &terms)?;
        if alive.is_some_and(|member| member.interest == interest && member.terms == terms) {
            return Ok(());
        }
        let request = Subscribe {
            group: Some(name.into()),
            interest: interest.clone(),
            start: terms.start,
            lease: terms.lease,
            order: terms.order,
        };
        let source = self.0.backend.subscribe(request).await?;
        let before = members.groups.get(name).map(|member| &*member.group);
        let group = Arc::new(Group::start(self.start_of(name, source, &terms), before));
        self.watch(group.failed());
        members.replace(name, Some(Member { interest, terms, group }));
        Ok(())
    }

    /// Refuses terms of a group under which a batch of one of its subscriptions would never fill.
    pub(super) fn check_filling(&self, name: &str, terms: &Terms) -> Result<()> {
        let (entries, limit) = (self.0.table.of_group(name), terms.limit.unwrap_or(LIMIT));
        match entries.iter().map(|entry| entry.batch).max() {
            Some(max) if max > limit => {
                let why =
                    format!("a batch of {max} events never fills: the group's limit is {limit}");
                let hint = "the smallest limit of a group's subscriptions is that of all: set each to \
                            at least a batch, or give the batch a group of its own";
                Err(Error::new(ErrorKind::Config, "subscribe", why).with("group", name).hint(hint))
            }
            _ => Ok(()),
        }
    }

    fn interest_of(&self, name: &str) -> Interest {
        let all = self.0.table.of_group(name);
        Interest::of_all(all.iter().map(|entry| entry.predicate.interest()))
    }

    fn start_of(&self, name: &str, source: Arc<dyn Source>, terms: &Terms) -> GroupStart {
        // Weak: a member must not keep alive the bus that owns it.
        let (inner, policies) = (Arc::downgrade(&self.0), Arc::downgrade(&self.0));
        let (group, of_group) = (Arc::<str>::from(name), name.to_owned());
        let named = of_group.clone();
        GroupStart {
            group,
            source,
            matching: Arc::new(move |event| {
                let inner = Weak::upgrade(&inner);
                inner.and_then(|inner| inner.table.member(&of_group, event))
            }),
            policy: Arc::new(move || {
                let first = Weak::upgrade(&policies).and_then(|i| i.table.first_of(&named));
                first.map_or_else(
                    || (String::new(), FailurePolicy::for_group()),
                    |entry| (entry.name.to_string(), entry.policy.clone()),
                )
            }),
            able: Able::of(self.capability(), terms.lease),
            limit: terms.limit.unwrap_or(LIMIT),
            pull: terms.pull,
            credits: terms.credits.clone(),
            counters: Arc::clone(&self.0.counters),
        }
    }

    fn watch(&self, mut failed: watch::Receiver<Option<Error>>) {
        let inner = Arc::downgrade(&self.0);
        tokio::spawn(async move {
            let error = match failed.wait_for(Option::is_some).await {
                Ok(error) => error.clone(),
                Err(_) => return,
            };
            if let (Some(inner), Some(error)) = (inner.upgrade(), error) {
                inner.failed.send_replace(Some(error));
            }
        });
    }

    /// Listens to broadcasts, once, where the backend brings them.
    pub(super) async fn listen(&self) -> Result<()> {
        let mut members = self.0.members.lock().await;
        self.check_open("subscribe")?;
        if members.listening.is_some() {
            return Ok(());
        }
        let _ = self.0.runtime.set(task::runtime("subscribe")?);
        let request = Subscribe {
            group: None,
            interest: Interest::all(),
            start: Start::Newest,
            lease: LEASE,
            order: Order::Any,
        };
        let source = self.0.backend.subscribe(request).await?;
        let ear = Ear { source: Arc::clone(&source), heard: Arc::default() };
        if members.deaf.take().is_some() {
            self.0.hears_again();
        }
        members.listening = Some(ear.clone());
        let (gaps, of) = (note_gaps(Arc::downgrade(&self.0), source), &self.0);
        let hearing = hear(Arc::downgrade(of), ear);
        of.tasks.spawn(of.bounded(async move {
            tokio::select! {
                () = hearing => {}
                () = gaps => {}
            }
        }));
        Ok(())
    }

    /// Returns how often broadcasts may have been missed here since the bus was opened, such as while
    /// its server could not be reached. Who keeps what events told looks whether it changed.
    ///
    /// # Examples
    /// ```
    /// let bus = railbus::Bus::new();
    /// assert_eq!(bus.gaps(), 0, "inside a process nothing is missed");
    /// ```
    #[must_use]
    pub fn gaps(&self) -> u64 {
        self.0.gaps.load(SeqCst)
    }

    /// Returns how often broadcasts may have been missed; none if they may be missed now.
    pub(super) fn hears(&self) -> Option<u64> {
        let hears = self.phase() == Phase::Open && !self.0.deaf.load(SeqCst);
        hears.then(|| self.gaps())
    }

    /// Narrows or ends the membership of a group after one of its subscriptions was cancelled.
    pub(super) async fn narrow(&self, name: &str) {
        let mut members = self.0.members.lock().await;
        if self.phase() != Phase::Open {
            return;
        }
        if self.0.table.first_of(name).is_none() {
            members.replace(name, None);
            return;
        }
        let Some(terms) = members.groups.get(name).map(|member| member.terms.clone()) else {
            return;
        };
        if let Err(error) = self.join_locked(&mut members, name, &terms).await {
            tracing::warn!(group = name, %error, "the group could not be narrowed");
        }
    }

    /// Tells whether every broadcast that was published so far has been handled here, retries
    /// included.
    ///
    /// # Errors
    /// Returns what the backend says if it can't be asked, or what ended listening to broadcasts.
    pub async fn is_quiet(&self) -> Result<bool> {
        let members = self.0.members.lock().await;
        let (listening, deaf) = (members.listening.clone(), members.deaf.clone());
        drop(members);
        if let Some(error) = deaf {
            return Err(error);
        }
        if let Some(Ear { source, heard }) = listening {
            let heard = heard.load(SeqCst);
            if source.handed_out().await? != Some(heard) {
                return Ok(false);
            }
        }
        Ok(self.0.retries.is_empty())
    }
}

impl Inner {
    /// Notes that listening has begun again, and that events may have been missed before.
    fn hears_again(&self) {
        // In this order: who sees that it hears sees the gap.
        self.gaps.fetch_add(1, SeqCst);
        self.deaf.store(false, SeqCst);
    }

    /// Notes that an ear will hear no more: who subscribes next listens anew.
    async fn hears_no_more(&self, ear: &Ear, error: Error) {
        tracing::error!(%error, "listening to broadcasts ended");
        let mut members = self.members.lock().await;
        // Whoever listens again does so after this.
        self.deaf.store(true, SeqCst);
        if members.listening.as_ref().is_some_and(|now| Arc::ptr_eq(&now.heard, &ear.heard)) {
            members.listening = None;
        }
        members.deaf = Some(error.clone());
        drop(members);
        if error.kind() != ErrorKind::Closed {
            self.failed.send_replace(Some(error));
        }
    }
}

/// Notes when what was broadcast may have been missed.
async fn note_gaps(inner: Weak<Inner>, source: Arc<dyn Source>) {
    loop {
        source.gap().await;
        // Who listens ends by itself then.
        let Some(inner) = inner.upgrade() else { return std::future::pending().await };
        tracing::warn!("listening again: broadcasts may have been missed meanwhile");
        inner.hears_again();
    }
}

/// Hands what the backend broadcasts to the subscriptions without a group.
async fn hear(inner: Weak<Inner>, ear: Ear) {
    let keeps = inner.upgrade().is_some_and(|of| of.backend.capability().durable);
    let lanes = Lanes::new(inner.clone(), keeps, Arc::clone(&ear.heard));
    loop {
        let heard = match ear.source.fetch(256).await {
            Ok(heard) if heard.is_empty() => return,
            Ok(heard) => {
                if let Some(inner) = inner.upgrade().filter(|inner| inner.deaf.load(SeqCst)) {
                    inner.hears_again();
                }
                heard
            }
            Err(error) if !error.is_retryable() => {
                let Some(inner) = inner.upgrade() else { return };
                return inner.hears_no_more(&ear, error).await;
            }
            Err(error) => {
                if let Some(inner) = inner.upgrade() {
                    inner.deaf.store(true, SeqCst);
                }
                tracing::warn!(%error, "listening to broadcasts failed; trying again");
                tokio::time::sleep(Duration::from_secs(1)).await;
                continue;
            }
        };
        if let Some(inner) = inner.upgrade() {
            // All of them first: handing on waits where a lane is full.
            let events = heard.iter().filter_map(|leased| leased.event.as_ref().ok());
            events.for_each(|event| inner.early.tell(event));
        }
        for leased in heard {
            match leased.event {
                Ok(event) => lanes.hand_on(event).await,
                Err(e) => {
                    tracing::warn!(error = %e.error, "a broadcast is not an event");
                    let Some(inner) = inner.upgrade() else { return };
                    // What it would have told is not known.
                    inner.hears_again();
                    ear.heard.fetch_add(1, SeqCst);
                }
            }
            if inner.upgrade().is_none_or(|inner| inner.is_closed()) {
                return;
            }
        }
    }
}
