//! How processes hear of each other's commits.
//!
//! Each process that waits for events binds a datagram socket and writes its name into the store;
//! whoever commits work sends one byte to each name before the commit and one after. A byte may be
//! lost, and a process may die between the two, so the listener also looks whether the write-ahead
//! log was written to: every [`ALERT`] for a while after anything happened, and when it is quiet as
//! soon as the system tells of a write (`watch`). Looking every [`ALERT`] for ever would burn more
//! than a millisecond a second, since each wake-up of an idle processor costs 50 to 90 µs; being
//! told of every write would wake the listener for each commit when there are many.

use super::{settings::Settings, watch::Watch};
use crate::{
    error::{Error, ErrorKind, Result},
    id::new_id,
};
use rusqlite::Transaction;
use std::{
    io,
    os::unix::net::UnixDatagram,
    path::PathBuf,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
    thread,
    time::{Duration, Instant},
};
use tokio::sync::watch;

/// How long a commit can go unheard if its bytes are lost.
const ALERT: Duration = Duration::from_millis(20);

/// How long a listener stays alert after something happened.
const ALERT_FOR: Duration = Duration::from_secs(1);

/// A commit is about to come.
const SOON: u8 = b'.';

/// A commit has brought work.
const NEWS: u8 = b'!';

/// The bell of one open store.
#[derive(Debug)]
pub(super) struct Wake {
    // Names are of the abstract namespace: they vanish with their process.
    name: String,
    // Sends only, and never waits: who has a byte unread needs no other.
    bell: UnixDatagram,
    changes: watch::Sender<Changes>,
    others: Mutex<Others>,
    listener: Mutex<Option<thread::JoinHandle<()>>>,
    closed: AtomicBool,
}

/// What changed so far.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Changes {
    /// Commits that brought work.
    pub(super) news: u64,
    /// Commits of other processes, whatever they brought.
    commits: u64,
}

#[derive(Debug, Default)]
struct Others {
    names: Vec<String>,
    gone: Vec<String>,
}

impl Wake {
    pub(super) fn new() -> Result<Arc<Self>> {
        let failed = |e: io::Error| {
            Error::new(ErrorKind::Internal, "open sqlite", "cannot make a socket").because(e)
        };
        let bell = UnixDatagram::unbound().map_err(failed)?;
        bell.set_nonblocking(true).map_err(failed)?;
        Ok(Arc::new(Self {
            name: format!("railbus-{}", new_id()),
            bell,
            changes: watch::Sender::new(Changes::default()),
            others: Mutex::default(),
            listener: Mutex::default(),
            closed: AtomicBool::new(false),
        }))
    }

    /// Returns what changes whenever the store may have.
    pub(super) fn changes(&self) -> watch::Receiver<Changes> {
        self.changes.subscribe()
    }

    /// Tells whoever waits in this process that there is work.
    pub(super) fn here(&self) {
        self.changes.send_modify(|changes| changes.news = changes.news.wrapping_add(1));
    }

    /// Tells whoever waits in this process that something was committed by another.
    fn committed(&self) {
        self.changes.send_modify(|changes| changes.commits = changes.commits.wrapping_add(1));
    }

    /// Reads who listens, within the transaction they will hear of.
    pub(super) fn read_listeners(&self, transaction: &Transaction<'_>) -> rusqlite::Result<()> {
        let mut others = self.others();
        for gone in others.gone.drain(..) {
            transaction.prepare_cached("DELETE FROM listeners WHERE name = ?1")?.execute([gone])?;
        }
        let mut listed =
            transaction.prepare_cached("SELECT name FROM listeners WHERE name <> ?1")?;
        let names = listed.query_map([&self.name], |row| row.get(0))?;
        others.names = names.collect::<rusqlite::Result<_>>()?;
        Ok(())
    }

    /// Makes all others that listen look sharp: a commit is about to come.
    pub(super) fn soon(&self) {
        self.ring(SOON);
    }

    /// Tells this process and all others that listen that work was committed.
    pub(super) fn everyone(&self) {
        self.here();
        self.ring(NEWS);
    }

    fn ring(&self, byte: u8) {
        let mut others = self.others();
        let Others { names, gone } = &mut *others;
        names.retain(|name| match send(&self.bell, name, byte) {
            Err(e) if e.kind() == io::ErrorKind::ConnectionRefused => {
                gone.push(name.clone());
                false
            }
            // A full socket has a byte that was not read yet: its owner will look.
            _ => true,
        });
    }

    /// Starts the listener, once, and returns the name to write into the store.
    pub(super) fn listen(self: &Arc<Self>, settings: &Settings) -> Result<Option<&str>> {
        let mut listener = self.listener.lock().unwrap_or_else(PoisonError::into_inner);
        if listener.is_some() || self.closed.load(Relaxed) {
            return Ok(None);
        }
        let wake = Arc::clone(self);
        let mut log = settings.path.clone().into_os_string();
        log.push("-wal");
        let watch = Watch::of(PathBuf::from(log));
        let failed = |e: io::Error| {
            Error::new(ErrorKind::Internal, "open sqlite", "cannot listen for commits").because(e)
        };
        let ear = bind(&self.name).map_err(failed)?;
        ear.set_read_timeout(Some(ALERT)).map_err(failed)?;
        let thread = thread::Builder::new()
            .name("railbus-sqlite-wake".into())
            .spawn(move || wake.hear(&ear, &watch))
            .map_err(failed)?;
        *listener = Some(thread);
        Ok(Some(&self.name))
    }

    fn hear(&self, ear: &UnixDatagram, watch: &Watch) {
        let (mut seen, mut alert) = (watch.written(), None::<Instant>);
        let mut byte = [0_u8; 1];
        while !self.closed.load(Relaxed) {
            if alert.is_none() && !watch.wait(ear) {
                continue;
            }
            if ear.recv(&mut byte).is_ok() {
                alert = Some(Instant::now());
                if byte[0] == NEWS {
                    self.here();
                }
                continue;
            }
            let written = watch.written();
            // Times are coarse: what was written just now may be written again unnoticed.
            let fresh =
                written.is_some_and(|(at, _)| at.elapsed().is_ok_and(|ago| ago < ALERT * 4));
            if written != seen || fresh {
                self.committed();
                alert = alert.or_else(|| Some(Instant::now()));
            }
            seen = written;
            if alert.is_some_and(|since| since.elapsed() > ALERT_FOR) {
                alert = None;
            }
        }
    }

    /// Returns the name under which this process listens.
    pub(super) fn name(&self) -> &str {
        &self.name
    }

    /// Ends the listener and returns its thread, if there is one.
    pub(super) fn close(&self) -> Option<thread::JoinHandle<()>> {
        self.closed.store(true, Relaxed);
        self.here();
        // If this byte is lost, the listener looks at the next recheck.
        let _ = send(&self.bell, &self.name, SOON);
        self.listener.lock().unwrap_or_else(PoisonError::into_inner).take()
    }

    fn others(&self) -> MutexGuard<'_, Others> {
        self.others.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(target_os = "linux")]
fn address(name: &str) -> io::Result<std::os::unix::net::SocketAddr> {
    use std::os::linux::net::SocketAddrExt;
    std::os::unix::net::SocketAddr::from_abstract_name(name)
}

#[cfg(target_os = "linux")]
fn bind(name: &str) -> io::Result<UnixDatagram> {
    UnixDatagram::bind_addr(&address(name)?)
}

#[cfg(target_os = "linux")]
fn send(socket: &UnixDatagram, name: &str, byte: u8) -> io::Result<()> {
    socket.send_to_addr(&[byte], &address(name)?).map(|_| ())
}

/// Elsewhere there is no abstract namespace: the recheck alone tells.
#[cfg(not(target_os = "linux"))]
fn bind(_name: &str) -> io::Result<UnixDatagram> {
    UnixDatagram::unbound()
}

#[cfg(not(target_os = "linux"))]
fn send(_socket: &UnixDatagram, _name: &str, _byte: u8) -> io::Result<()> {
    Ok(())
}
