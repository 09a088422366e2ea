//! Settling: what became of leased events.

use super::{
    claim::Member,
    groups::latest_run,
    keys::{free, is_ordered},
    letters,
};
use crate::{
    backend::{Settle, Verdict},
    backends::record::{ends, lengthen, outcome_of, tries_of},
    clock::Timestamp,
    delivery::End,
};
use rusqlite::{OptionalExtension, Transaction, params};

/// Settles leases of a member's group; false for each that was lost. The second value tells whether
/// others can be leased now that have waited for their keys.
pub(super) fn settle(
    transaction: &Transaction<'_>,
    member: &Member,
    batch: &[Settle],
) -> rusqlite::Result<(Vec<bool>, bool)> {
    let now = member.timeline.now();
    let run = latest_run(transaction)?;
    let mut kept = vec![false; batch.len()];
    let mut acks: Vec<Ack> = Vec::new();
    for (at, settle) in batch.iter().enumerate() {
        match plain(settle) {
            Some(outcome) => acks.push(Ack {
                at,
                place: settle.receipt.place.cast_signed(),
                like: (settle.receipt.fence.cast_signed(), outcome, settle.retried),
            }),
            None => kept[at] = settle_fully(transaction, member, settle, now, run)?,
        }
    }
    acks.sort_unstable_by_key(|ack| (ack.like, ack.place));
    let follows = |a: &Ack, b: &Ack| a.like == b.like && a.place + 1 == b.place;
    for acks in acks.chunk_by(follows) {
        acknowledge(transaction, member.group, acks, (now, run), &mut kept)?;
    }
    let mut freed = false;
    if is_ordered(transaction, member.group)? {
        let through = |(settle, kept): (&Settle, &bool)| {
            let through = *kept && settle.verdict == Verdict::Ack;
            through.then(|| settle.receipt.place.cast_signed())
        };
        freed = free(transaction, member.group, batch.iter().zip(&kept).filter_map(through))?;
    }
    Ok((kept, freed))
}

/// A lease that ends with nothing worth keeping but the outcome.
struct Ack {
    // Where in the batch.
    at: usize,
    place: i64,
    // Its fence, its outcome, and whether anything in it was retried.
    like: (i64, i64, bool),
}

/// Returns the outcome if nothing else is worth keeping: one subscription, through without failure.
fn plain(settle: &Settle) -> Option<i64> {
    match (&settle.verdict, &*settle.failed, &*settle.ended) {
        (Verdict::Ack, [], []) => Some(outcome_of(&End::Done)),
        (Verdict::Ack, [], [(_, end @ (End::Done | End::Unmatched))]) => Some(outcome_of(end)),
        _ => None,
    }
}

/// Settles leases of events that follow each other, with one statement if none was lost.
fn acknowledge(
    transaction: &Transaction<'_>,
    group: i64,
    acks: &[Ack],
    (now, run): (Timestamp, i64),
    kept: &mut [bool],
) -> rusqlite::Result<()> {
    let [first, .., last] = acks else {
        return acknowledge_each(transaction, group, acks, (now, run), kept);
    };
    let (fence, outcome, retried) = first.like;
    // With the plus, the index of what is unsettled is no way to find them.
    let whole: bool = transaction
        .prepare_cached(
            "SELECT count(*) = ?5 FROM deliveries WHERE grp = ?1 AND seq BETWEEN ?2 AND ?3
             AND fence = ?4 AND +state = 0 AND leased = 1",
        )?
        .query_row(params![group, first.place, last.place, fence, acks.len() as i64], |row| {
            row.get(0)
        })?;
    if !whole {
        return acknowledge_each(transaction, group, acks, (now, run), kept);
    }
    transaction
        .prepare_cached(
            "UPDATE OR FAIL deliveries SET state = 1, leased = 0, due = 0,
             outcome = max(outcome, ?4), retried = retried OR ?7, run = ?5, settled_at = ?6
             WHERE grp = ?1 AND seq BETWEEN ?2 AND ?3",
        )?
        .execute(params![group, first.place, last.place, outcome, run, now.as_micros(), retried])?;
    acks.iter().for_each(|ack| kept[ack.at] = true);
    Ok(())
}

fn acknowledge_each(
    transaction: &Transaction<'_>,
    group: i64,
    acks: &[Ack],
    (now, run): (Timestamp, i64),
    kept: &mut [bool],
) -> rusqlite::Result<()> {
    let mut settle = transaction.prepare_cached(
        "UPDATE deliveries SET state = 1, leased = 0, due = 0, outcome = max(outcome, ?4),
         retried = retried OR ?7, run = ?5, settled_at = ?6
         WHERE grp = ?1 AND seq = ?2 AND fence = ?3 AND state = 0 AND leased = 1",
    )?;
    for ack in acks {
        let (fence, outcome, retried) = ack.like;
        let settled = settle.execute(params![
            group,
            ack.place,
            fence,
            outcome,
            run,
            now.as_micros(),
            retried
        ])?;
        kept[ack.at] = settled == 1;
    }
    Ok(())
}

struct Row {
    attempt: u32,
    outcome: i64,
    finished: Option<String>,
    history: Option<String>,
}

/// Reads what is stored of a lease; none if it was lost.
fn leased_row(
    transaction: &Transaction<'_>,
    group: i64,
    seq: i64,
    fence: i64,
) -> rusqlite::Result<Option<Row>> {
    transaction
        .prepare_cached(
            "SELECT attempt, outcome, finished, history FROM deliveries
             WHERE grp = ?1 AND seq = ?2 AND fence = ?3 AND state = 0 AND leased = 1",
        )?
        .query_row(params![group, seq, fence], |row| {
            Ok(Row {
                attempt: row.get(0)?,
                outcome: row.get(1)?,
                finished: row.get(2)?,
                history: row.get(3)?,
            })
        })
        .optional()
}

fn settle_fully(
    transaction: &Transaction<'_>,
    member: &Member,
    settle: &Settle,
    now: Timestamp,
    run: i64,
) -> rusqlite::Result<bool> {
    let (group, lease) = (member.group, member.lease);
    let (seq, fence) = (settle.receipt.place.cast_signed(), settle.receipt.fence.cast_signed());
    let row = leased_row(transaction, group, seq, fence)?;
    let Some(row) = row else { return Ok(false) };
    let history = lengthen(row.history.as_deref(), &settle.failed);
    let mut ends = row.finished.as_deref().map(ends).unwrap_or_default();
    ends.extend(settle.ended.iter().map(|(name, end)| (name.to_string(), end.clone())));
    let outcome = settle.ended.iter().map(|(_, end)| outcome_of(end)).fold(row.outcome, i64::max);
    for (subscription, end) in &settle.ended {
        if let End::Dead(reason) = end {
            let (tries, latest) = tries_of(history.as_deref(), subscription);
            let attempts = latest.unwrap_or(row.attempt);
            let at = Timestamp::now().as_micros();
            let letter = (seq, group, &**subscription, &**reason, attempts, tries, at);
            letters::insert(transaction, letter)?;
        }
    }
    let (state, leased, due, attempt) = match settle.verdict {
        Verdict::Ack => (1, false, 0, row.attempt),
        Verdict::Nack { delay } => (0, false, now.after(delay).as_micros(), row.attempt),
        Verdict::Extend { tries } => {
            (0, true, now.after(lease).as_micros(), row.attempt.saturating_add(tries))
        }
        Verdict::Release { delay } => {
            // The past, so that it comes before what was never delivered.
            let due = if delay.is_zero() { 0 } else { now.after(delay).as_micros() };
            (0, false, due, row.attempt.saturating_sub(1))
        }
    };
    let settled = (state == 1).then_some(now.as_micros());
    transaction
        .prepare_cached(
            "UPDATE deliveries SET state = ?3, leased = ?4, due = ?5, attempt = ?6, outcome = ?7,
             finished = ?8, history = ?9, settled_at = ?10, run = ?11,
             retried = retried OR ?12 OR ?6 > 1 WHERE grp = ?1 AND seq = ?2",
        )?
        .execute(params![
            group,
            seq,
            state,
            leased,
            due,
            attempt,
            outcome,
            (!ends.is_empty()).then(|| serde_json::to_string(&ends).ok()).flatten(),
            history,
            settled,
            settled.map(|_| run),
            settle.retried,
        ])?;
    Ok(true)
}

#[cfg(test)]
mod tests {
    use super::{
        super::{
            claim::{Look, claim, look},
            file::open_writer,
            groups, publish,
            settings::Settings,
            timeline::{Clocks, fake::Fake},
        },
        *,
    };
    use crate::{
        backend::{Order, Receipt, Start},
        event::Event,
        options::Options,
        predicate::Interest,
    };
    use rusqlite::Connection;
    use std::{sync::Arc, time::Duration};

    /// A process that has the store open.
    struct Process {
        store: Connection,
        member: Member,
    }

    impl Process {
        fn start(folder: &tempfile::TempDir, clocks: &Arc<Fake>) -> Self {
            let url = format!("sqlite:{}", folder.path().join("s.db").display());
            let settings = Settings::read(&Options::parse(&url).unwrap()).unwrap();
            let clocks: Arc<dyn Clocks> = clocks.clone();
            let (mut store, timeline) = open_writer(&settings, &clocks).unwrap();
            let wants = Interest::all();
            let group =
                work(&mut store, |t| groups::open(t, "g", &wants, (Start::Oldest, Order::Any)));
            let (lease, wants) = (Duration::from_secs(30), Arc::new(wants.compile()));
            Self { store, member: Member { group, lease, timeline, wants } }
        }

        fn publish(&mut self, event: Event) {
            let ready = publish::make_ready(&event.into(), 1 << 20, &self.member.timeline).unwrap();
            work(&mut self.store, |t| publish::insert(t, std::slice::from_ref(&ready)));
        }

        /// Claims what there is: the ids, and the tries they count.
        fn claim(&mut self) -> Vec<(String, u32)> {
            let leased = work(&mut self.store, |t| claim(t, &self.member, 10)).0;
            leased.into_iter().map(|l| (l.event.unwrap().id().to_owned(), l.attempt)).collect()
        }

        fn looks(&self) -> Look {
            look(&self.store, self.member.group, self.member.timeline.now()).unwrap()
        }
    }

    fn work<T>(
        store: &mut Connection,
        work: impl Fn(&Transaction<'_>) -> rusqlite::Result<T>,
    ) -> T {
        let transaction = store.transaction().unwrap();
        let value = work(&transaction).unwrap();
        transaction.commit().unwrap();
        value
    }

    fn got(id: &str, attempt: u32) -> Vec<(String, u32)> {
        vec![(id.to_owned(), attempt)]
    }

    const DAY: i64 = 24 * 60 * 60;

    #[test]
    fn a_wall_clock_that_is_set_moves_no_lease_and_no_delay() {
        let folder = tempfile::tempdir().unwrap();
        let clocks = Arc::new(Fake::of(Some("a"), 100 * DAY, 5));
        let mut one = Process::start(&folder, &clocks);
        one.publish(Event::new("t").id("now").payload(1));
        one.publish(Event::new("t").id("later").delay(Duration::from_secs(60)).payload(1));
        assert_eq!(one.claim(), got("now", 1));
        for wall in [0, 200 * DAY] {
            clocks.set_wall(wall);
            // One that starts now sees no other time than one that was there before.
            let mut two = Process::start(&folder, &clocks);
            assert_eq!((one.claim(), two.claim()), (vec![], vec![]));
            assert_eq!(
                two.looks(),
                Look::Wait(Some(one.member.timeline.now().after(one.member.lease)))
            );
        }
        clocks.pass(30);
        clocks.set_wall(0);
        assert_eq!(one.looks(), Look::Ready);
        assert_eq!(one.claim(), got("now", 2));
        clocks.pass(29);
        assert_eq!(one.claim(), vec![]);
        clocks.pass(1);
        assert_eq!(
            Process::start(&folder, &clocks).claim(),
            [got("now", 3), got("later", 1)].concat()
        );
    }

    #[test]
    fn many_events_keep_their_order_and_a_lost_lease_among_them_is_told_alone() {
        let folder = tempfile::tempdir().unwrap();
        let clocks = Arc::new(Fake::of(Some("a"), 100 * DAY, 5));
        let mut one = Process::start(&folder, &clocks);
        let make = |n: usize| {
            let event = Event::new("t").id(format!("e{n}")).payload(n);
            publish::make_ready(&event.into(), 1 << 20, &one.member.timeline).unwrap()
        };
        // As many as need a statement of each size, and some twice.
        let events: Vec<_> = (1..=64 + 2 * 16 + 4 + 3).map(make).collect();
        work(&mut one.store, |t| publish::insert_plain(t, &events.iter().collect::<Vec<_>>()));
        let leased = work(&mut one.store, |t| claim(t, &one.member, 1000)).0;
        let ids: Vec<_> =
            leased.iter().map(|l| l.event.as_ref().unwrap().id().to_owned()).collect();
        assert_eq!(ids, (1..=events.len()).map(|n| format!("e{n}")).collect::<Vec<_>>());
        let acks: Vec<_> =
            leased.iter().map(|l| Settle::new(l.receipt.clone(), Verdict::Ack)).collect();
        assert_eq!(work(&mut one.store, |t| settle(t, &one.member, &acks[49..50])).0, [true]);
        let backwards: Vec<_> = acks.iter().rev().cloned().collect();
        let mut kept = work(&mut one.store, |t| settle(t, &one.member, &backwards)).0;
        kept.reverse();
        assert_eq!(kept, (0..acks.len()).map(|at| at != 49).collect::<Vec<_>>());
        let again = work(&mut one.store, |t| settle(t, &one.member, &acks[..10])).0;
        assert_eq!(again, [false; 10]);
        assert_eq!((one.claim(), one.looks()), (vec![], Look::Wait(None)));
    }

    #[test]
    fn a_nack_is_delayed_on_the_timeline() {
        let folder = tempfile::tempdir().unwrap();
        let clocks = Arc::new(Fake::of(Some("a"), 100 * DAY, 5));
        let mut one = Process::start(&folder, &clocks);
        one.publish(Event::new("t").id("e").payload(1));
        assert_eq!(one.claim(), got("e", 1));
        clocks.set_wall(200 * DAY);
        let receipt = Receipt { place: 1, fence: 1, token: None };
        let nack = Settle::new(receipt, Verdict::Nack { delay: Duration::from_secs(10) });
        assert_eq!(
            work(&mut one.store, |t| settle(t, &one.member, std::slice::from_ref(&nack))).0,
            [true]
        );
        clocks.pass(9);
        assert_eq!(one.claim(), vec![]);
        clocks.pass(1);
        assert_eq!(one.claim(), got("e", 2));
    }

    #[test]
    fn a_boot_in_the_past_holds_nothing_back_for_longer_than_it_was() {
        let folder = tempfile::tempdir().unwrap();
        let clocks = Arc::new(Fake::of(Some("a"), 100 * DAY, 5));
        let mut one = Process::start(&folder, &clocks);
        one.publish(Event::new("t").id("e").payload(1));
        assert_eq!(one.claim(), got("e", 1));
        let clocks = Arc::new(Fake::of(Some("b"), 0, 1));
        let mut next = Process::start(&folder, &clocks);
        assert_eq!(next.claim(), vec![]);
        clocks.pass(30);
        assert_eq!(next.claim(), got("e", 2));
    }
}
