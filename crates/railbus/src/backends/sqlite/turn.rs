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
//! was stopped, SQLite is asked without it. A line that was waited for in vain is not waited for again
//! until it has moved.

use super::settings::Settings;
use rusqlite::{Connection, ErrorCode, Transaction, TransactionBehavior};
use rustix::{
    fs::{FlockOperation, flock},
    io::Errno,
};
use std::{
    fs::File,
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
    // Until when it is worth looking again.
    until: Instant,
}

impl Turn {
    /// Finds the line of a store whose log is there, since a connection has read from it.
    pub(super) fn of(connection: &Connection, settings: &Settings) -> Self {
        // As SQLite has it, where the file was named by a link or from another folder.
        let log = connection.path().map(|path| File::open(format!("{path}-wal")));
        if let Some(Err(error)) = &log {
            tracing::debug!(%error, "there is no line of writers before the store");
        }
        let log = log.and_then(Result::ok).map(Arc::new);
        Self { log, patience: settings.busy_timeout, stand_in: None }
    }

    /// Comes to the front of the line; if it is not reached within the store's `busy_timeout`, goes past
    /// it, and past it at once for as long as it does not move.
    pub(super) fn come(&mut self) -> Front {
        let patience = self.patience;
        let front = |log| Front { log, patience, until: Instant::now() + patience };
        let is_left = self.stand_in.as_ref().is_some_and(|s| s.left.load(SeqCst));
        if is_left {
            // So that the others, who look that often, find the file free.
            thread::sleep(LOOK_AGAIN[1]);
            return front(None);
        }
        let Some(log) = self.log.clone() else { return front(None) };
        match flock(&*log, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => return front(Some(log)),
            Err(Errno::WOULDBLOCK | Errno::INTR) => {}
            // A file system without such locks.
            Err(_) => return front(None),
        }
        let Some(reached) = self.ask(&log) else { return front(None) };
        if reached.recv_timeout(patience).is_ok() {
            return front(Some(log));
        }
        // Before the receiver goes, upon which the other thread looks.
        if let Some(stand_in) = &self.stand_in {
            stand_in.left.store(true, SeqCst);
        }
        front(None)
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::options::Options;

    /// A file with a log, and how its line is found with that patience.
    /// The log stays for as long as the connection is open.
    fn store(patience: &str) -> (tempfile::TempDir, Connection, Settings) {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("s.db");
        let store = Connection::open(&path).unwrap();
        store.execute_batch("PRAGMA journal_mode = wal; CREATE TABLE t (a)").unwrap();
        let url = format!("sqlite:{}?busy_timeout={patience}", path.display());
        (folder, store, Settings::read(&Options::parse(&url).unwrap()).unwrap())
    }

    fn write(turn: &mut Turn, store: &Connection) {
        let transaction = turn.come().begin(store).unwrap();
        transaction.execute("INSERT INTO t VALUES (1)", []).unwrap();
        transaction.commit().unwrap();
    }

    #[test]
    fn a_line_that_does_not_move_is_left_and_stood_in_again() {
        let (_folder, store, settings) = store("1ms");
        // A process that was stopped while it was in front.
        let front = Turn::of(&store, &settings).come();
        assert!(front.log.is_some());
        let mut turn = Turn::of(&store, &settings);
        assert!(turn.come().log.is_none());
        turn.patience = Duration::from_secs(600);
        // Nobody waits for it again; the database itself is free.
        for _ in 0..100 {
            write(&mut turn, &store);
        }
        drop(front);
        while turn.come().log.is_none() {
            thread::yield_now();
        }
    }

    #[test]
    fn who_writes_past_a_line_that_does_not_move_puts_nobody_off() {
        let (_folder, store, settings) = store("300ms");
        let front = Turn::of(&store, &settings).come();
        assert!(front.log.is_some());
        let (over, all) = mpsc::channel();
        for _ in 0..3 {
            let (over, path, settings) =
                (over.clone(), store.path().unwrap().to_owned(), settings.clone());
            thread::spawn(move || {
                let store = Connection::open(&path).unwrap();
                let mut turn = Turn::of(&store, &settings);
                for _ in 0..200 {
                    write(&mut turn, &store);
                }
                over.send(()).unwrap();
            });
        }
        for _ in 0..3 {
            all.recv_timeout(Duration::from_secs(60)).unwrap();
        }
        drop(front);
    }

    #[test]
    fn who_opens_the_file_by_a_link_stands_in_the_same_line() {
        let (folder, store, settings) = store("1ms");
        let link = folder.path().join("link.db");
        std::os::unix::fs::symlink(store.path().unwrap(), &link).unwrap();
        let linked = Connection::open(&link).unwrap();
        let front = Turn::of(&store, &settings).come();
        assert!(front.log.is_some());
        let mut turn = Turn::of(&linked, &Settings { path: link, ..settings });
        assert!(turn.log.is_some());
        assert!(turn.come().log.is_none(), "the first is in front");
    }
}
