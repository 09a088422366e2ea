//! Runs that are kept: one an id, one holder at a time, each place once.

use super::{
    journal_desk::{Desk, HOLDER, SHAPE, is, opened, word},
    journal_kept::kept,
};
use crate::{
    backend::{Begun, NewRun, Record, RecordStatus, RunEnd, RunError, RunLease, RunState, Told},
    conformance::{
        finding::{Broken, Checked, Finding, ensure, ensure_firmly},
        refusal::refused,
        rules::SLACK,
        stage::{LONG_LEASE, Stage, within},
    },
    error::ErrorKind,
};
use futures_util::future::{join_all, try_join};
use std::time::Duration;

/// A run is one however often and by whom it is begun; it is taken over once, after its lease, and
/// whoever lost it writes nothing any more; what was recorded is there, each place once; its end can be
/// asked for; one that has ended is not begun anew; runs are listed and pruned as asked for.
pub(super) async fn journal(stage: &Stage) -> Checked<Finding> {
    if !stage.capability.journal {
        let asked = stage.bus().await?.journal();
        let hint = refused("a journal of runs", asked.err(), |c| c.journal, &stage.capability)?;
        return Ok(Finding::Refused(format!("keeps no runs, and says so: {hint}")));
    }
    let desk = Desk { stage, near: opened(stage).await?, far: opened(stage).await? };
    let of = |what: &'static str| move |broken: Broken| broken.within(what);
    desk.begun().await.map_err(of("begun"))?;
    desk.recorded().await.map_err(of("recorded"))?;
    desk.taken_over().await.map_err(of("taken over"))?;
    desk.left().await.map_err(of("left"))?;
    desk.cancelled().await.map_err(of("cancelled"))?;
    desk.ended().await.map_err(of("ended"))?;
    kept(&desk).await.map_err(of("listed and pruned"))?;
    closed(stage).await?;
    Ok(Finding::Passed(None))
}

/// A journal ends with its connection.
async fn closed(stage: &Stage) -> Checked {
    let backend = stage.open().await?;
    let journal = backend.journal().ok_or_else(|| Broken::new("a connection has no journal"))?;
    stage.within("close", backend.close(stage.patience)).await??;
    let asked = stage.within("an answer after close", journal.find("any")).await?;
    is(asked, ErrorKind::Closed, "a journal after close")
}

fn charged(visit: u32) -> Record {
    let mut record = Record::new("charge", visit);
    (record.tries, record.duration) = (3, Duration::from_micros(1_234_567));
    record.values.set("receipt", "\u{1F4E6} \"1\"\n");
    record
}

fn failed() -> Record {
    let mut record = Record::new("ship/each#3", 1);
    record.status = RecordStatus::Exception;
    record.error = Some(RunError::new("timeout", "nobody\nopened"));
    record
}

impl Desk<'_> {
    /// Checks what is recorded of a run, as anybody reads it.
    async fn holds(&self, id: &str, expected: &[Record]) -> Checked {
        let found = self.ask("a run to be read", self.far.load(id)).await??;
        let found = found.ok_or_else(|| Broken::firm(format!("run {id} is gone")))?;
        let numbers = found.records.iter().map(|one| one.number).collect::<Vec<_>>();
        let records: Vec<_> = found.records.into_iter().map(|one| one.record).collect();
        ensure_firmly(records == expected, || {
            let places = |of: &[Record]| {
                of.iter().map(|r| format!("{} {}", r.path, r.visit)).collect::<Vec<_>>().join(", ")
            };
            let (kept, sent) = (places(&records), places(expected));
            format!("recorded was [{sent}], and kept is [{kept}]: {records:?}")
        })?;
        ensure(numbers.iter().copied().eq(1..=expected.len() as u64), || {
            format!("records are numbered {numbers:?}")
        })
    }

    /// Many who begin a run at once: one has it, and all others are told who.
    async fn begun(&self) -> Checked {
        let run = self.run("begun", LONG_LEASE);
        let all = (0..self.stage.counts.members * 2).map(|n| {
            let journal = if n % 2 == 0 { &self.near } else { &self.far };
            self.ask("a run to begin", journal.begin(&run))
        });
        let mut leases = Vec::new();
        for begun in join_all(all).await {
            match begun?? {
                Begun::New(lease) => leases.push(lease),
                Begun::Elsewhere(info) => {
                    let left = info.lease_left;
                    let sound = info.owner == HOLDER && !left.is_zero() && left <= LONG_LEASE;
                    ensure(sound, || format!("who began it is told as {info:?}"))?;
                }
                other => return Err(Broken::new(format!("a run is {}: {other:?}", word(&other)))),
            }
        }
        ensure_firmly(leases.len() == 1, || {
            format!("a run was begun by {} at once: {leases:?}", leases.len())
        })?;
        let lease = leases.remove(0);
        ensure(lease.run == run.id && lease.lease == LONG_LEASE, || {
            format!("the lease of {} is {lease:?}", run.id)
        })?;
        let found = self.ask("a run to be found", self.far.find(&run.id)).await??;
        let found = found.ok_or_else(|| Broken::firm("a run that was begun is not there"))?;
        let input = found.input.get::<u64>("order");
        let sound = found.shape == SHAPE && input.as_deref().ok() == Some(&7);
        ensure(sound && found.run.state == RunState::Running, || {
            format!("it stands as {found:?}")
        })?;
        let unknown = self.ask("a run that is not there", self.far.find("no such run")).await??;
        ensure(unknown.is_none(), || format!("found {unknown:?}"))?;
        // Left, it is nobody's who would run another graph.
        self.ask("a release", self.near.release(&lease)).await??;
        let mut other = run.clone();
        other.shape = "charge -> pack -> ship".into();
        let begun = self.ask("a run to begin", self.far.begin(&other)).await??;
        ensure(matches!(&begun, Begun::OtherShape { shape, .. } if shape == SHAPE), || {
            format!("a run of another graph is {}: {begun:?}", word(&begun))
        })?;
        let lease = self.hold(&self.far, &run, "resumed").await?;
        self.put_away(&lease).await
    }

    /// What is confirmed is there, in its order, each place once, and a batch is kept or refused whole.
    async fn recorded(&self) -> Checked {
        let run = self.run("recorded", LONG_LEASE);
        let lease = self.hold(&self.near, &run, "new").await?;
        let sent = [charged(1), failed(), charged(2)];
        for batch in [&sent[..2], &sent[2..], &sent[1..]] {
            let told = self.ask("a record", self.near.record(&lease, batch)).await??;
            ensure(told == Told::GoOn, || format!("a record is told {told:?}"))?;
        }
        self.holds(&run.id, &sent).await?;
        let mut other = charged(1);
        other.tries = 4;
        let batch = [Record::new("new", 1), other];
        let refused = self.ask("a record", self.near.record(&lease, &batch)).await?;
        ensure(refused.is_err(), || {
            "another record for a recorded place must be refused, and was confirmed".into()
        })?;
        self.holds(&run.id, &sent).await.map_err(|b| b.within("after a batch that was refused"))?;
        self.put_away(&lease).await
    }

    /// A run whose holder is gone is taken over by one of many, not before its lease has run out since
    /// it was last renewed; from then on the holder writes nothing.
    async fn taken_over(&self) -> Checked {
        let length = self.stage.lease();
        let run = self.run("taken over", length);
        let lost = self.hold(&self.near, &run, "new").await?;
        let holding = async {
            tokio::time::sleep(length / 2).await;
            let _ = self.ask("a record", self.near.record(&lost, &[charged(1)])).await??;
            tokio::time::sleep(length / 2).await;
            let begun = self.stage.history.now();
            let _ = self.ask("a renewal", self.near.renew(&lost)).await??;
            Checked::Ok(begun)
        };
        let taking = async {
            let takers = (0..self.stage.counts.members.max(2)).map(|n| self.takes(&run, n));
            let taken = join_all(takers).await.into_iter().collect::<Checked<Vec<_>>>()?;
            Checked::Ok(taken.into_iter().flatten().collect::<Vec<_>>())
        };
        let (renewed, mut taken) = try_join(holding, taking).await?;
        ensure_firmly(taken.len() == 1, || {
            format!("a run was taken over {} times: {taken:?}", taken.len())
        })?;
        let (at, lease) = taken.remove(0);
        ensure_firmly(at + SLACK >= renewed + length, || {
            let after = at.saturating_sub(renewed);
            format!("a run was taken over {after:?} after its lease of {length:?} was renewed")
        })?;
        ensure(lease.fence > lost.fence, || format!("the fence went from {lost:?} to {lease:?}"))?;
        let late = self.ask("a record", self.near.record(&lost, &[charged(2)])).await?;
        is(late, ErrorKind::Stale, "a record under a lease that was lost")?;
        let late = self.ask("a renewal", self.near.renew(&lost)).await?;
        is(late, ErrorKind::Stale, "a renewal of a lease that was lost")?;
        let late = self.ask("an end", self.near.end(&lost, RunEnd::Failure, None)).await?;
        is(late, ErrorKind::Stale, "an end under a lease that was lost")?;
        self.ask("a release", self.near.release(&lost)).await??;
        self.holds(&run.id, &[charged(1)]).await.map_err(|b| b.within("as it was left"))?;
        let info = self.look(&run.id).await?;
        ensure(info.state == RunState::Running && info.resumed == 1, || {
            format!("who lost a run changed it, or its takeover is not told: {info:?}")
        })?;
        let _ = self.ask("a record", self.far.record(&lease, &[failed()])).await??;
        self.holds(&run.id, &[charged(1), failed()]).await?;
        self.put_away(&lease).await
    }

    /// Begins a run again and again until it is taken over; returns when that was, if this one did it.
    async fn takes(&self, run: &NewRun, number: usize) -> Checked<Option<(Duration, RunLease)>> {
        let journal = opened(self.stage).await?;
        let mut run = NewRun { owner: format!("taker {number}"), ..run.clone() };
        let (pause, longest) = (run.lease / 10, self.stage.patience + run.lease * 4);
        // Long, so that it is not taken over once more.
        run.lease = LONG_LEASE;
        let taking = async {
            loop {
                match self.ask("a run to be taken over", journal.begin(&run)).await?? {
                    Begun::Resumed(lease) => return Ok(Some((self.stage.history.now(), lease))),
                    Begun::Elsewhere(info) if info.owner == HOLDER => {}
                    Begun::Elsewhere(_) => return Ok(None),
                    other => {
                        let why = format!("a run that was left is {}: {other:?}", word(&other));
                        return Err(Broken::new(why));
                    }
                }
                tokio::time::sleep(pause).await;
            }
        };
        // Beside what its lease takes, however long that is here.
        within(longest, "a run to be taken over", taking).await?
    }

    /// A lease that ran out is still the holder's while nobody takes it; one that is given back is anybody's.
    async fn left(&self) -> Checked {
        let length = self.stage.lease();
        let run = self.run("left", length);
        let lease = self.hold(&self.near, &run, "new").await?;
        tokio::time::sleep(length + SLACK).await;
        let info = self.look(&run.id).await?;
        ensure(info.state == RunState::Left && info.lease_left.is_zero(), || {
            format!("a run whose lease ran out stands as {info:?}")
        })?;
        let _ = self.ask("a late record", self.near.record(&lease, &[charged(1)])).await??;
        self.holds(&run.id, &[charged(1)]).await?;
        self.ask("a release", self.near.release(&lease)).await??;
        let run = NewRun { lease: LONG_LEASE, ..run };
        let first = self.hold(&self.far, &run, "resumed").await?;
        // At once, though its lease would have lasted.
        self.ask("a release", self.far.release(&first)).await??;
        let again = self.hold(&self.near, &run, "resumed").await?;
        ensure(again.fence > first.fence && first.fence > lease.fence, || {
            format!("the fences of a run are {lease:?}, {first:?} and {again:?}")
        })?;
        self.put_away(&again).await
    }

    /// Whoever runs a run is told that its end is asked for; one that nobody runs ends.
    async fn cancelled(&self) -> Checked {
        let run = self.run("cancelled", LONG_LEASE);
        let lease = self.hold(&self.near, &run, "new").await?;
        let asked = self.ask("a cancel", self.far.cancel(&run.id)).await??;
        ensure(asked == RunState::Running, || format!("one that runs is told as {asked:?}"))?;
        let told = self.ask("a record", self.near.record(&lease, &[charged(1)])).await??;
        let again = self.ask("a renewal", self.near.renew(&lease)).await??;
        ensure((told, again) == (Told::Cancel, Told::Cancel), || {
            format!("that its end is asked for, a record is told {told:?}, a renewal {again:?}")
        })?;
        self.holds(&run.id, &[charged(1)]).await?;
        let ending = self.near.end(&lease, RunEnd::Cancelled, None);
        self.ask("an end", ending).await??;
        let over = RunState::Ended(RunEnd::Cancelled);
        let asked = self.ask("a cancel", self.far.cancel(&run.id)).await??;
        ensure(asked == over, || format!("one that has ended is told as {asked:?}"))?;
        let run = self.run("cancelled where it was left", LONG_LEASE);
        let lease = self.hold(&self.near, &run, "new").await?;
        self.ask("a release", self.near.release(&lease)).await??;
        let asked = self.ask("a cancel", self.far.cancel(&run.id)).await??;
        ensure(asked == RunState::Left, || format!("one that was left is told as {asked:?}"))?;
        self.is_over(&run, RunEnd::Cancelled).await?;
        let unknown = self.ask("a cancel", self.far.cancel("no such run")).await?;
        is(unknown, ErrorKind::NotFound, "a cancel of no run")
    }

    /// A run that ended stays as it ended, and is not begun anew.
    async fn ended(&self) -> Checked {
        let run = self.run("ended", LONG_LEASE);
        let lease = self.hold(&self.near, &run, "new").await?;
        let error = RunError::new("failure", "no such address");
        for _ in 0..2 {
            let ending = self.near.end(&lease, RunEnd::Failure, Some(error.clone()));
            self.ask("an end", ending).await?.map_err(|e| Broken::from(e).within("ended again"))?;
        }
        self.is_over(&run, RunEnd::Failure).await?;
        let info = self.look(&run.id).await?;
        ensure(info.error == Some(error), || format!("what went wrong is told as {info:?}"))?;
        let late = self.ask("a record", self.near.record(&lease, &[charged(1)])).await?;
        is(late, ErrorKind::Stale, "a record of a run that has ended")?;
        let late = self.ask("an end", self.near.end(&lease, RunEnd::Success, None)).await?;
        is(late, ErrorKind::Stale, "another end of a run that has ended")?;
        self.holds(&run.id, &[]).await
    }

    /// Checks that a run is over, for whoever begins it.
    async fn is_over(&self, run: &NewRun, how: RunEnd) -> Checked {
        let begun = self.ask("a run to begin", self.far.begin(run)).await??;
        let over = RunState::Ended(how);
        ensure_firmly(matches!(&begun, Begun::Finished(info) if info.state == over), || {
            format!("a run that has ended was begun, and is {}: {begun:?}", word(&begun))
        })
    }
}
