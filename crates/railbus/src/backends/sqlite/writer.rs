//! The one thread of a process that writes: it commits what many callers ask for as one group.

use super::{
    fault::fault,
    file::{open_writer, set_synchronous},
    publish::{Moved, Ready, insert, insert_plain},
    retention::{self, SWEEP_MAX, Swept},
    settings::Settings,
    timeline::{Clocks, System, Timeline},
    trash,
    turn::{Front, Turn, is_busy},
    wake::Wake,
};
use crate::{
    clock::Timestamp,
    error::{Error, ErrorKind, Result},
};
use rusqlite::{Connection, Transaction};
use std::{
    sync::{Arc, mpsc},
    thread,
    time::{Duration, Instant},
};
use tokio::sync::oneshot;

/// How many jobs one transaction takes in: enough for the sync to be shared by all who wait,
/// few enough that none waits long.
const GROUP_MAX: usize = 512;

/// How soon the writer goes on looking for what retention lets go.
const SWEEP_ON: Duration = Duration::from_millis(2);

/// For how long retention goes on with what it owes while others wait.
const SWEEP_AT_ONCE: Duration = Duration::from_millis(20);

/// How many transactions of it come at once at most, however much was stored.
const SWEEP_STEPS: i64 = 16;

/// How often it begins anew, at most and at least; in between, twice a retention.
const SWEEP_EVERY: [Duration; 2] = [Duration::from_millis(100), Duration::from_secs(60)];

/// What a commit is worth, and who must hear of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Weight {
    /// Confirmed to someone: survives power loss. New work: other processes are woken.
    News,
    /// Confirmed to someone: survives power loss.
    Durable,
    /// May be forgotten by power loss, since the lease would run out anyway.
    Light,
}

/// A handle to the writer thread.
#[derive(Clone, Debug)]
pub(super) struct Writer {
    // None ends the thread, whoever still holds a handle.
    jobs: mpsc::Sender<Option<Box<dyn Job>>>,
}

trait Job: Send {
    /// Does the work within a transaction; may be called again if that was rolled back.
    fn run(&mut self, transaction: &Transaction<'_>) -> rusqlite::Result<()>;
    /// Tells the caller; the error is that of the transaction.
    fn done(self: Box<Self>, committed: Result<()>);
    fn weight(&self) -> Weight;
    /// The events that are all there is to it, if that is so: they are inserted with those of
    /// others instead.
    fn events(&self) -> Option<&[Ready]> {
        None
    }
}

struct Call<T, F> {
    work: F,
    weight: Weight,
    value: Option<T>,
    reply: oneshot::Sender<Result<T>>,
}

impl<T, F> Job for Call<T, F>
where
    T: Send,
    F: FnMut(&Transaction<'_>) -> rusqlite::Result<T> + Send,
{
    fn run(&mut self, transaction: &Transaction<'_>) -> rusqlite::Result<()> {
        self.value = Some((self.work)(transaction)?);
        Ok(())
    }

    fn done(self: Box<Self>, committed: Result<()>) {
        let lost = || Error::new(ErrorKind::Internal, "sqlite", "a job ended without a value");
        let Self { value, reply, .. } = *self;
        // A caller that stopped waiting does not undo what was committed.
        let _ = reply.send(committed.and_then(|()| value.ok_or_else(lost)));
    }

    fn weight(&self) -> Weight {
        self.weight
    }
}

struct Publish {
    events: Vec<Ready>,
    plain: bool,
    moved: Moved,
    reply: oneshot::Sender<Result<Moved>>,
}

impl Job for Publish {
    fn run(&mut self, transaction: &Transaction<'_>) -> rusqlite::Result<()> {
        self.moved = insert(transaction, &self.events)?;
        Ok(())
    }

    fn done(self: Box<Self>, committed: Result<()>) {
        let Self { moved, reply, .. } = *self;
        let _ = reply.send(committed.map(|()| moved));
    }

    fn weight(&self) -> Weight {
        Weight::News
    }

    fn events(&self) -> Option<&[Ready]> {
        self.plain.then_some(&self.events)
    }
}

impl Writer {
    /// Opens the file and starts the thread; it ends when the last handle is dropped.
    pub(super) fn start(
        settings: &Settings,
        wake: Arc<Wake>,
    ) -> Result<(Self, Timeline, thread::JoinHandle<()>)> {
        let (jobs, queue) = mpsc::channel();
        let thread = Thread::open(settings, wake)?;
        let timeline = thread.timeline.clone();
        let thread = thread::Builder::new()
            .name("railbus-sqlite-writer".into())
            .spawn(move || thread.run(&queue))
            .map_err(|e| {
                Error::new(ErrorKind::Internal, "open sqlite", "cannot start a thread").because(e)
            })?;
        Ok((Self { jobs }, timeline, thread))
    }

    /// Runs `work` in a transaction shared with whatever else is asked for at the moment, and
    /// returns when that is committed.
    ///
    /// # Cancel safety
    /// The work is done even if the caller stops waiting.
    pub(super) async fn call<T: Send + 'static>(
        &self,
        weight: Weight,
        work: impl FnMut(&Transaction<'_>) -> rusqlite::Result<T> + Send + 'static,
    ) -> Result<T> {
        let (reply, answer) = oneshot::channel();
        self.ask(Box::new(Call { work, weight, value: None, reply }), answer).await
    }

    /// Stores events, together with whatever else is asked for at the moment, or nothing if another
    /// process moved an input of theirs; returns when that is committed.
    ///
    /// # Cancel safety
    /// They are stored even if the caller stops waiting.
    pub(super) async fn publish(&self, events: Vec<Ready>) -> Result<Moved> {
        let (reply, answer) = oneshot::channel();
        let plain = events.iter().all(Ready::is_plain);
        self.ask(Box::new(Publish { events, plain, moved: None, reply }), answer).await
    }

    async fn ask<T>(&self, job: Box<dyn Job>, answer: oneshot::Receiver<Result<T>>) -> Result<T> {
        let closed = || Error::new(ErrorKind::Closed, "sqlite", "the store is closed");
        self.jobs.send(Some(job)).map_err(|_| closed())?;
        answer.await.map_err(|_| closed())?
    }

    /// Ends the thread once it has done what was asked for before.
    pub(super) fn stop(&self) {
        // A thread that is gone has ended.
        let _ = self.jobs.send(None);
    }
}

struct Thread {
    connection: Connection,
    turn: Turn,
    settings: Settings,
    timeline: Timeline,
    // How far the store is known to have come.
    noted: Timestamp,
    wake: Arc<Wake>,
    // Whether the connection syncs at commit now; switched only when a group needs the other.
    synced: bool,
    // How far retention has looked, how much came since it last did, and how much it has to look at.
    swept: i64,
    stored: i64,
    owed: i64,
}

impl Thread {
    fn open(settings: &Settings, wake: Arc<Wake>) -> Result<Self> {
        let clocks: Arc<dyn Clocks> = Arc::new(System);
        let (connection, timeline) = open_writer(settings, &clocks)?;
        Ok(Self {
            turn: Turn::of(&connection, settings),
            connection,
            settings: settings.clone(),
            timeline,
            noted: Timestamp::default(),
            wake,
            synced: true,
            swept: 0,
            stored: 0,
            owed: 0,
        })
    }

    fn run(mut self, queue: &mpsc::Receiver<Option<Box<dyn Job>>>) {
        let mut next_sweep = Instant::now() + SWEEP_EVERY[0];
        loop {
            let wait = next_sweep.saturating_duration_since(Instant::now());
            match queue.recv_timeout(wait) {
                Ok(Some(first)) => {
                    // Whatever comes meanwhile is of this group.
                    let front = self.turn.come();
                    let mut last = false;
                    let more = queue.try_iter().take(GROUP_MAX - 1);
                    let more = more.take_while(|job| {
                        last |= job.is_none();
                        !last
                    });
                    let group = [first].into_iter().chain(more.flatten()).collect();
                    self.commit(group, front);
                    if last {
                        return;
                    }
                }
                Err(mpsc::RecvTimeoutError::Timeout) => {}
                Ok(None) | Err(mpsc::RecvTimeoutError::Disconnected) => return,
            }
            if Instant::now() >= next_sweep {
                next_sweep = Instant::now() + self.sweep();
            }
        }
    }

    /// Commits a group; if a job may be to blame that it fails, each job alone, so that one can't
    /// spoil the others. If the lock could not be had, none can do better alone.
    fn commit(&mut self, mut group: Vec<Box<dyn Job>>, front: Front) {
        let outcome = self.attempt(&mut group, front);
        if outcome.as_ref().is_err_and(|e| !is_busy(e)) && group.len() > 1 {
            for job in group {
                let mut alone = vec![job];
                let front = self.turn.come();
                let outcome = self.attempt(&mut alone, front);
                self.tell(alone, outcome);
            }
        } else {
            self.tell(group, outcome);
        }
    }

    fn attempt(&mut self, group: &mut [Box<dyn Job>], front: Front) -> rusqlite::Result<()> {
        let sync = self.settings.full_sync && group.iter().any(|j| j.weight() != Weight::Light);
        if sync != self.synced {
            set_synchronous(&self.connection, sync)?;
            self.synced = sync;
        }
        let transaction = front.begin(&self.connection)?;
        // First, so that whoever claims in the same group finds them.
        let events: Vec<_> = group.iter().filter_map(|job| job.events()).flatten().collect();
        insert_plain(&transaction, &events)?;
        let stored = i64::try_from(events.len() + group.len()).unwrap_or(i64::MAX >> 1);
        for job in group.iter_mut().filter(|job| job.events().is_none()) {
            job.run(&transaction)?;
        }
        let news = group.iter().any(|j| j.weight() == Weight::News);
        if news {
            self.wake.read_listeners(&transaction)?;
            self.wake.soon();
        }
        let noted = self.timeline.note(&transaction, self.noted)?;
        transaction.commit()?;
        self.noted = noted;
        self.stored = self.stored.saturating_add(stored);
        if news {
            self.wake.everyone();
        }
        Ok(())
    }

    fn tell(&self, group: Vec<Box<dyn Job>>, outcome: rusqlite::Result<()>) {
        let outcome = outcome.map_err(|e| fault("sqlite", &self.settings.path, e));
        for job in group {
            job.done(outcome.clone());
        }
    }

    /// Looks at some of what retention may let go; returns when to go on. So that it keeps up, it owes a
    /// look at twice as much as was stored: at twice as much as the last group at once, at the rest
    /// for up to [`SWEEP_AT_ONCE`], in between others have their turn.
    fn sweep(&mut self) -> Duration {
        let [soon, later] = SWEEP_EVERY;
        let Settings { retention, journal_retention, .. } = self.settings;
        let later = (retention.min(journal_retention) / 2).clamp(soon, later);
        let began = Instant::now();
        let more = std::mem::take(&mut self.stored).saturating_mul(2);
        self.owed = self.owed.saturating_add(more);
        let mut least = more.min(SWEEP_STEPS * SWEEP_MAX);
        let mut removed = 0;
        loop {
            let (swept, more) = match self.sweep_some() {
                Ok(some) => some,
                Err(e) => {
                    let error = fault("retention", &self.settings.path, e);
                    tracing::warn!(%error, "settled events could not be removed; trying again later");
                    return later;
                }
            };
            self.swept = swept.next.unwrap_or(0);
            removed += swept.removed;
            least -= SWEEP_MAX;
            self.owed = (self.owed - SWEEP_MAX).max(0);
            if swept.next.is_none() {
                self.owed = 0;
                return if more { SWEEP_ON } else { later };
            }
            let is_time = self.owed == 0 || began.elapsed() >= SWEEP_AT_ONCE;
            if least <= 0 && is_time {
                // Where all stays, going through it takes a tenth of the time.
                let gains = self.owed > 0 || removed > 0;
                return if gains { SWEEP_ON } else { SWEEP_ON.max(began.elapsed() * 9) };
            }
        }
    }

    /// Looks at what one transaction may: others wait for it only briefly, and it for no disk.
    fn sweep_some(&mut self) -> rusqlite::Result<(Swept, bool)> {
        if self.synced {
            set_synchronous(&self.connection, false)?;
            self.synced = false;
        }
        let Settings { retention, journal_retention, .. } = self.settings;
        let transaction = self.turn.come().begin(&self.connection)?;
        let swept = retention::sweep(&transaction, &self.timeline, retention, self.swept)?;
        let over = self.timeline.now().before(journal_retention);
        let more = trash::sweep(&transaction, over)?;
        transaction.commit()?;
        Ok((swept, more))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::options::Options;

    #[test]
    fn retention_goes_some_of_its_way_at_a_time_and_keeps_up_with_groups() {
        const MANY: i64 = 200_000;
        let folder = tempfile::tempdir().unwrap();
        let url = format!("sqlite:{}?retention=1ms", folder.path().join("s.db").display());
        let settings = Settings::read(&Options::parse(&url).unwrap()).unwrap();
        let mut thread = Thread::open(&settings, Wake::new().unwrap()).unwrap();
        let fill = format!(
            "WITH RECURSIVE n(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM n WHERE n < {MANY})
             INSERT INTO events (id, type, topic, at, body) SELECT n, 't', 't', 0, '{{}}' FROM n"
        );
        thread.connection.execute_batch(&fill).unwrap();
        let left = |thread: &Thread| {
            let count = "SELECT count(*) FROM events";
            thread.connection.query_row(count, [], |row| row.get::<_, i64>(0)).unwrap()
        };
        // After a long rest much is owed: a part of it, then whoever waits.
        thread.stored = MANY;
        assert_eq!(thread.sweep(), SWEEP_ON);
        let after_rest = left(&thread);
        assert!(after_rest > MANY / 2, "{after_rest} are left");
        assert!(after_rest <= MANY - SWEEP_STEPS * SWEEP_MAX, "{after_rest} are left");
        // After a group at least twice as much goes as came.
        thread.stored = 5_000;
        thread.sweep();
        assert!(left(&thread) <= after_rest - 10_000);
    }
}
