//! Whose turn it is to write: all that have the file open stand in one line.
//!
//! Left to itself, SQLite looks again and again whether it may write, ever less often, up to every
//! 100 ms. Who begins anew at once finds the file free in the moments between, who has waited for long
//! does not: among many writers some wait in vain. So whoever wants to write first takes a lock of the
//! system's on the write-ahead log, which is given in the order in which it is asked for, and gives it
//! back as soon as its transaction has begun. So one of ours at a time looks, and often; the others sleep, and
//! who has just written comes last. SQLite itself locks the database and its index, never the log.
//!
//! What is written is safe without a line: where it can't be had, or does not move since a process in it
//! was stopped, SQLite is asked at once.

use super::settings::Settings;
use rusqlite::{Connection, ErrorCode, Transaction, TransactionBehavior};
use rustix::{
    fs::{FlockOperation, flock},
    io::Errno,
};
use std::{
    fs::File,
    path::PathBuf,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::SeqCst},
        mpsc,
    },
    thread,
    time::{Duration, Instant},
};

/// How soon who is in front looks again, at first and at most.
const LOOK_AGAIN: [Duration; 2] = [Duration::from_micros(50), Duration::from_millis(2)];

/// A place to stand in line, of one connection.
#[derive(Debug)]
pub(super) struct Turn {
    // None where there is no line.
    log: Option<Arc<File>>,
    patience: Duration,
    // Made when it is first needed.
    stand_in: Option<StandIn>,
}

/// A thread that waits in line: a wait for the system's lock can't be ended, one for a thread can.
#[derive(Debug)]
struct StandIn {
    // None ends the thread.
    asks: Option<mpsc::Sender<mpsc::SyncSender<()>>>,
    thread: Option<thread::JoinHandle<()>>,
    // Whether it still waits although nobody waits for it.
    left: Arc<AtomicBool>,
}

/// The front of the line; who drops it lets the next come.
#[derive(Debug)]
pub(super) struct Front {
    log: Option<Arc<File>>,
    patience: Duration,
    // Until when it is worth looking again; no longer than one look if the line does not move.
    until: Instant,
}

impl Turn {
    /// Finds the line of a store whose log is there, since a connection has read from it.
    pub(super) fn of(settings: &Settings) -> Self {
        let mut log = settings.path.clone().into_os_string();
        log.push("-wal");
        let log = File::open(PathBuf::from(log)).ok().map(Arc::new);
        Self { log, patience: settings.busy_timeout, stand_in: None }
    }

    /// Comes to the front of the line, or gives up on it if it does not move: if for as long as the
    /// store's `busy_timeout` nobody has written.
    pub(super) fn come(&mut self, connection: &Connection) -> Front {
        let patience = self.patience;
        let mut until = Instant::now() + patience;
        let Some(log) = self.log.clone() else { return Front { log: None, patience, until } };
        let left = self.stand_in.as_ref().is_some_and(|s| s.left.load(SeqCst));
        if !left {
            match flock(&*log, FlockOperation::NonBlockingLockExclusive) {
                Ok(()) => return Front { log: Some(log), patience, until },
                Err(Errno::WOULDBLOCK | Errno::INTR) => {}
                // A file system without such locks.
                Err(_) => return Front { log: None, patience, until },
            }
        }
        let Some(reached) = self.ask(&log) else { return Front { log: None, patience, until } };
        let mut seen = written(connection);
        loop {
            let waited = reached.recv_timeout(until.saturating_duration_since(Instant::now()));
            let now = written(connection);
            if now != seen {
                (seen, until) = (now, Instant::now() + patience);
            } else if waited == Err(mpsc::RecvTimeoutError::Timeout) {
                break;
            }
            match waited {
                Ok(()) => return Front { log: Some(log), patience, until },
                Err(mpsc::RecvTimeoutError::Timeout) => {}
                Err(mpsc::RecvTimeoutError::Disconnected) => break,
            }
        }
        // Before the receiver goes, upon which the other thread looks.
        if let Some(stand_in) = &self.stand_in {
            stand_in.left.store(true, SeqCst);
        }
        Front { log: None, patience, until: Instant::now() }
    }

    /// Sends the other thread to stand in line; returns where it tells of having come to the front.
    fn ask(&mut self, log: &Arc<File>) -> Option<mpsc::Receiver<()>> {
        if self.stand_in.is_none() {
            self.stand_in = StandIn::start(log);
        }
        // Handed over only to who waits still: the front is nobody's else.
        let (reply, reached) = mpsc::sync_channel(0);
        self.stand_in.as_ref()?.asks.as_ref()?.send(reply).ok()?;
        Some(reached)
    }
}

impl StandIn {
    fn start(log: &Arc<File>) -> Option<Self> {
        let (asks, asked) = mpsc::channel::<mpsc::SyncSender<()>>();
        let left = Arc::new(AtomicBool::new(false));
        let (log, is_left) = (Arc::clone(log), Arc::clone(&left));
        let stand = move || {
            for reply in asked {
                while flock(&*log, FlockOperation::LockExclusive) == Err(Errno::INTR) {}
                if reply.send(()).is_err() {
                    // Nothing is lost if that fails: the line ends with the process.
                    let _ = flock(&*log, FlockOperation::Unlock);
                    is_left.store(false, SeqCst);
                }
            }
        };
        let thread = thread::Builder::new().name("railbus-sqlite-line".into()).spawn(stand).ok()?;
        Some(Self { asks: Some(asks), thread: Some(thread), left })
    }
}

impl Drop for StandIn {
    fn drop(&mut self) {
        self.asks = None;
        // One that still stands in a line that does not move ends when it moves.
        if !self.left.load(SeqCst)
            && let Some(thread) = self.thread.take()
        {
            let _ = thread.join();
        }
    }
}

impl Front {
    /// Begins a transaction that writes, once whoever writes now is through.
    pub(super) fn begin(self, connection: &Connection) -> rusqlite::Result<Transaction<'_>> {
        connection.busy_timeout(Duration::ZERO)?;
        let begun = self.look(connection);
        connection.busy_timeout(self.patience)?;
        begun
    }

    fn look<'c>(&self, connection: &'c Connection) -> rusqlite::Result<Transaction<'c>> {
        let mut pause = LOOK_AGAIN[0];
        loop {
            match Transaction::new_unchecked(connection, TransactionBehavior::Immediate) {
                Err(e) if is_busy(&e) && Instant::now() < self.until => {
                    thread::sleep(pause);
                    pause = (pause * 2).min(LOOK_AGAIN[1]);
                }
                begun => return begun,
            }
        }
    }
}

impl Drop for Front {
    fn drop(&mut self) {
        if let Some(log) = &self.log {
            let _ = flock(&**log, FlockOperation::Unlock);
        }
    }
}

/// Tells whether others were in the way.
pub(super) fn is_busy(error: &rusqlite::Error) -> bool {
    let code = error.sqlite_error_code();
    matches!(code, Some(ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked))
}

/// Returns what changes when another connection writes.
fn written(connection: &Connection) -> Option<i64> {
    connection.prepare_cached("PRAGMA data_version").ok()?.query_row([], |row| row.get(0)).ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::options::Options;

    #[test]
    fn a_line_that_does_not_move_is_left_and_stood_in_again() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("s.db");
        let store = Connection::open(&path).unwrap();
        store.execute_batch("PRAGMA journal_mode = wal; CREATE TABLE t (a)").unwrap();
        let url = format!("sqlite:{}?busy_timeout=1ms", path.display());
        let settings = Settings::read(&Options::parse(&url).unwrap()).unwrap();
        // A process that was stopped while it was in front.
        let mut stopped = Turn::of(&settings);
        let front = stopped.come(&store);
        assert!(front.log.is_some());
        let mut turn = Turn::of(&settings);
        for _ in 0..3 {
            let front = turn.come(&store);
            assert!(front.log.is_none());
            // The database itself is free.
            front.begin(&store).unwrap().rollback().unwrap();
        }
        turn.patience = Duration::from_secs(60);
        let next = thread::scope(|scope| {
            let next = scope.spawn(|| turn.come(&Connection::open(&path).unwrap()));
            drop(front);
            next.join().unwrap()
        });
        assert!(next.log.is_some());
        assert!(stopped.log.is_some_and(|log| {
            flock(&*log, FlockOperation::NonBlockingLockExclusive) == Err(Errno::WOULDBLOCK)
        }));
    }
}
