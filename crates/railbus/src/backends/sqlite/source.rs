//! Sources: a member of a group, and a listener to everything.

use super::{
    claim::{BYTES_MAX, Look, Member, claim, look, touch},
    groups::newest,
    reader::Reader,
    settle::settle,
    timeline::Timeline,
    wake::{Changes, Wake},
    writer::{Weight, Writer},
};
use crate::{
    backend::{Leased, Receipt, Settle, SharedFilter, Source, Undecodable, Verdict},
    clock::Timestamp,
    codec,
    error::{Error, ErrorKind, Result},
};
use async_trait::async_trait;
use bytes::Bytes;
use rusqlite::{Connection, params};
use std::{
    collections::BTreeSet,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
    time::{Duration, Instant},
};
use tokio::sync::{Notify, watch};

/// How many events a broadcast looks at in one go.
const LISTEN_MAX: i64 = 1024;

/// How many of those that are held back are looked for in one go.
const HELD_MAX: usize = 256;

/// How often a quiet member says that it is there.
const TOUCH_EVERY: Duration = Duration::from_secs(60);

/// How long work that only other members can do is left to them before looking again.
const OTHERS_WORK: Duration = Duration::from_millis(200);

/// Waits for the store to change, or for a time, or to be stopped.
#[derive(Debug)]
pub(super) struct Waiting {
    changes: watch::Receiver<Changes>,
    timeline: Timeline,
    stopped: watch::Sender<bool>,
}

impl Waiting {
    pub(super) fn new(wake: &Wake, timeline: Timeline) -> Self {
        Self { changes: wake.changes(), timeline, stopped: watch::Sender::new(false) }
    }

    /// Returns a receiver that has seen every change so far: what comes after is not missed.
    fn fresh(&self) -> watch::Receiver<Changes> {
        let mut changes = self.changes.clone();
        changes.mark_unchanged();
        changes
    }

    /// Waits; tells whether it heard of work.
    async fn wait(&self, mut changes: watch::Receiver<Changes>, until: Option<Timestamp>) -> bool {
        let before = changes.borrow().news;
        let mut stopped = self.stopped.subscribe();
        // Sleeping does not count while the machine is suspended, the timeline does; looking each
        // second bounds the error.
        let most = Duration::from_secs(if until.is_some() { 1 } else { 60 });
        let wait = until.map_or(most, |t| t.since(self.timeline.now()).min(most));
        tokio::select! {
            _ = changes.changed() => {}
            () = tokio::time::sleep(wait) => {}
            _ = stopped.wait_for(|stopped| *stopped) => {}
        }
        changes.borrow().news != before
    }

    fn is_stopped(&self) -> bool {
        *self.stopped.borrow()
    }

    fn stop(&self) {
        self.stopped.send_replace(true);
    }
}

/// A member of a group.
#[derive(Debug)]
pub(super) struct GroupSource {
    pub(super) member: Member,
    pub(super) name: String,
    pub(super) writer: Writer,
    pub(super) reader: Reader,
    pub(super) wake: Arc<Wake>,
    pub(super) waiting: Waiting,
    /// When the store last heard of this member.
    pub(super) touched: Mutex<Instant>,
}

impl GroupSource {
    /// Tells the store now and then that this member is there, so that `groups ls` does not show
    /// a quiet group as an abandoned one.
    async fn touch(&self) -> Result<()> {
        {
            let mut touched = self.touched.lock().unwrap_or_else(PoisonError::into_inner);
            if touched.elapsed() < TOUCH_EVERY {
                return Ok(());
            }
            *touched = Instant::now();
        }
        let group = self.member.group;
        self.writer.call(Weight::Light, move |t| touch(t, group)).await
    }
}

#[async_trait]
impl Source for GroupSource {
    async fn fetch(&self, max: usize) -> Result<Vec<Leased>> {
        // Where there may be work, claiming at once saves a look; a look costs no write lock.
        let mut hopeful = true;
        while !self.waiting.is_stopped() {
            let changes = self.waiting.fresh();
            if hopeful {
                let member = self.member.clone();
                let work = move |t: &rusqlite::Transaction<'_>| claim(t, &member, max);
                let (claimed, more) = self.writer.call(Weight::Light, work).await?;
                if !claimed.is_empty() {
                    return Ok(claimed);
                }
                if more {
                    continue;
                }
            }
            self.touch().await?;
            let (group, now) = (self.member.group, self.member.timeline.now());
            hopeful = match self.reader.call(move |c| look(c, group, now)).await? {
                Look::Ready if hopeful => {
                    // Something is due that another member must handle: no need to hurry.
                    let soon = self.member.timeline.now().after(OTHERS_WORK);
                    self.waiting.wait(changes, Some(soon)).await
                }
                Look::Ready => true,
                Look::Wait(due) => self.waiting.wait(changes, due).await,
                Look::Gone => {
                    let why = "the group was pruned while it was open";
                    return Err(Error::new(ErrorKind::NotFound, "fetch", why)
                        .with("group", &self.name)
                        .hint("start the program again to open it anew"));
                }
            };
        }
        Ok(Vec::new())
    }

    async fn settle(&self, batch: &[Settle]) -> Vec<Result<()>> {
        let gives_back = batch
            .iter()
            .any(|s| matches!(s.verdict, Verdict::Release { .. } | Verdict::Nack { .. }));
        let confirms = batch.iter().any(|s| matches!(s.verdict, Verdict::Ack));
        let weight = match (gives_back, confirms) {
            (true, _) => Weight::News,
            (false, true) => Weight::Durable,
            (false, false) => Weight::Light,
        };
        let (member, batch) = (self.member.clone(), batch.to_vec());
        let count = batch.len();
        let work = move |t: &rusqlite::Transaction<'_>| settle(t, &member, &batch);
        match self.writer.call(weight, work).await {
            Ok((kept, freed)) => {
                if freed {
                    // Others hear of the commit; whoever waits here does not hear of its own.
                    self.wake.here();
                }
                kept.into_iter().map(|kept| if kept { Ok(()) } else { Err(stale()) }).collect()
            }
            Err(e) => vec![Err(e); count],
        }
    }

    fn stop(&self) {
        self.waiting.stop();
    }

    async fn close(&self) -> Result<()> {
        self.stop();
        // Whoever waits for this group's leases may look again.
        self.wake.here();
        Ok(())
    }
}

fn stale() -> Error {
    Error::new(ErrorKind::Stale, "settle", "the lease was lost: the event is another member's now")
}

/// A listener to every event of interest from now on.
#[derive(Debug)]
pub(super) struct BroadcastSource {
    pub(super) wants: SharedFilter,
    pub(super) reader: Reader,
    pub(super) waiting: Waiting,
    pub(super) place: Mutex<Place>,
    // Told when retention removed what this had not come to, and when it reads on after it could not.
    pub(super) gap: Notify,
    pub(super) failed: AtomicBool,
}

/// How far a broadcast has listened, and what it holds back until it is due.
#[derive(Debug)]
pub(super) struct Place {
    pub(super) seq: i64,
    pub(super) held: BTreeSet<Held>,
    pub(super) handed_out: u64,
}

/// When an event is due, and its place in the log.
type Held = (i64, i64);

struct Heard {
    leased: Vec<Leased>,
    // How far it has listened by now, and what is held back besides.
    seq: i64,
    held: Vec<Held>,
    full: bool,
    missed: bool,
}

impl BroadcastSource {
    fn place(&self) -> MutexGuard<'_, Place> {
        self.place.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[async_trait]
impl Source for BroadcastSource {
    async fn fetch(&self, max: usize) -> Result<Vec<Leased>> {
        while !self.waiting.is_stopped() {
            let changes = self.waiting.fresh();
            let (wants, now) = (Arc::clone(&self.wants), self.waiting.timeline.now().as_micros());
            // Only this task listens on; others take out what is gone.
            let (seq, due) = {
                let place = self.place();
                let due = place.held.range(..=(now, i64::MAX)).take(max);
                (place.seq, due.copied().collect::<Vec<_>>())
            };
            let (from, first) = (seq, due.clone());
            let listening = move |c: &Connection| listen(c, from, &first, &wants, now, max);
            let heard = self.reader.call(listening).await;
            let mut heard = heard.inspect_err(|_| self.failed.store(true, Relaxed))?;
            heard.missed |= self.failed.swap(false, Relaxed);
            let next = {
                let mut place = self.place();
                for held in &due {
                    place.held.remove(held);
                }
                place.held.extend(heard.held);
                place.seq = heard.seq;
                place.handed_out += heard.leased.len() as u64;
                place.held.first().map(|(due, _)| Timestamp::from_micros(*due))
            };
            if heard.missed {
                self.gap.notify_one();
            }
            if !heard.leased.is_empty() {
                return Ok(heard.leased);
            }
            if !heard.full {
                self.waiting.wait(changes, next).await;
            }
        }
        Ok(Vec::new())
    }

    async fn handed_out(&self) -> Result<Option<u64>> {
        let newest = self.reader.call(newest).await?;
        loop {
            let first: Vec<_> = {
                let place = self.place();
                if place.seq < newest {
                    return Ok(None);
                }
                if place.held.is_empty() {
                    return Ok(Some(place.handed_out));
                }
                place.held.iter().take(HELD_MAX).copied().collect()
            };
            let asked = first.len();
            let gone = self.reader.call(move |c| gone(c, first)).await?;
            let mut place = self.place();
            for held in &gone {
                place.held.remove(held);
            }
            if gone.len() < asked {
                return Ok(None);
            }
        }
    }

    async fn gap(&self) {
        self.gap.notified().await;
    }

    async fn settle(&self, batch: &[Settle]) -> Vec<Result<()>> {
        // At most once: there is nothing to settle.
        vec![Ok(()); batch.len()]
    }

    fn stop(&self) {
        self.waiting.stop();
    }

    async fn close(&self) -> Result<()> {
        self.stop();
        Ok(())
    }
}

/// Reads what was held back and is `due` now, and what is new behind `seq` and wanted.
fn listen(
    connection: &Connection,
    mut seq: i64,
    due: &[Held],
    wants: &SharedFilter,
    now: i64,
    max: usize,
) -> rusqlite::Result<Heard> {
    let (mut leased, mut held) = (Vec::new(), Vec::new());
    let mut one = connection.prepare_cached("SELECT body FROM events WHERE seq = ?1")?;
    for (_, seq) in due {
        let mut rows = one.query([seq])?;
        if let Some(row) = rows.next()? {
            leased.push(hear(*seq, row.get(0)?));
        }
    }
    // Before the scan, which may see more: what lies between was removed by retention.
    let newest = newest(connection)?;
    let mut new = connection.prepare_cached(
        "SELECT seq, type, topic, due, rejected, body FROM events WHERE seq > ?1
         ORDER BY seq LIMIT ?2",
    )?;
    let mut rows = new.query(params![seq, LISTEN_MAX])?;
    let (mut seen, mut bytes) = (0, 0);
    let (mut full, mut missed) = (false, false);
    while let Some(row) = rows.next()? {
        full = leased.len() == max || bytes >= BYTES_MAX;
        if full {
            break;
        }
        let place: i64 = row.get(0)?;
        missed |= place > seq + 1;
        let wanted = wants.matches(row.get_ref(1)?.as_str()?, row.get_ref(2)?.as_str()?);
        if wanted && !row.get::<_, bool>(4)? {
            match row.get::<_, Option<i64>>(3)? {
                Some(due) if due > now => {
                    held.push((due, place));
                }
                _ => {
                    let body: Vec<u8> = row.get(5)?;
                    bytes += body.len();
                    leased.push(hear(place, body));
                }
            }
        }
        (seq, seen) = (place, seen + 1);
    }
    full |= seen == LISTEN_MAX;
    if !full {
        missed |= newest > seq;
        seq = seq.max(newest);
    }
    Ok(Heard { leased, seq, held, full, missed })
}

/// Returns what of this is gone, up to the first that is there still.
fn gone(connection: &Connection, mut held: Vec<Held>) -> rusqlite::Result<Vec<Held>> {
    let mut there = connection.prepare_cached("SELECT 1 FROM events WHERE seq = ?1")?;
    for (at, (_, seq)) in held.iter().enumerate() {
        if there.exists([seq])? {
            held.truncate(at);
            break;
        }
    }
    Ok(held)
}

fn hear(seq: i64, body: Vec<u8>) -> Leased {
    let raw = Bytes::from(body);
    Leased {
        receipt: Receipt { place: seq.cast_unsigned(), fence: 0, token: None },
        event: codec::decode(&raw).map_err(|error| Undecodable { raw, error }),
        attempt: 1,
        lost: false,
        finished: Vec::new(),
        only: None,
    }
}
