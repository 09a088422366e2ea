//! How processes hear of each other's commits.
//!
//! Each process that waits for events binds a datagram socket and writes its name into the store;
//! whoever commits something new sends one byte to each name. A byte may be lost, so the listener
//! also looks at SQLite's `data_version` every [`RECHECK`], which costs microseconds.

use super::{file::open_reader, settings::Settings};
use crate::{
    error::{Error, ErrorKind, Result},
    id::new_id,
};
use rusqlite::{Connection, Transaction};
use std::{
    io,
    os::unix::net::UnixDatagram,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
    thread,
    time::Duration,
};
use tokio::sync::watch;

/// How long a commit can go unheard if its byte is lost.
const RECHECK: Duration = Duration::from_millis(20);

/// The bell of one open store.
#[derive(Debug)]
pub(super) struct Wake {
    // Names are of the abstract namespace: they vanish with their process.
    name: String,
    // Sends only, and never waits: who has a byte unread needs no other.
    bell: UnixDatagram,
    changes: watch::Sender<u64>,
    others: Mutex<Others>,
    listener: Mutex<Option<thread::JoinHandle<()>>>,
    closed: AtomicBool,
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
            changes: watch::Sender::new(0),
            others: Mutex::default(),
            listener: Mutex::default(),
            closed: AtomicBool::new(false),
        }))
    }

    /// Returns what changes whenever the store may have.
    pub(super) fn changes(&self) -> watch::Receiver<u64> {
        self.changes.subscribe()
    }

    /// Tells whoever waits in this process.
    pub(super) fn here(&self) {
        self.changes.send_modify(|n| *n = n.wrapping_add(1));
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

    /// Tells this process and all others that listen.
    pub(super) fn everyone(&self) {
        self.here();
        let mut others = self.others();
        let Others { names, gone } = &mut *others;
        for name in names {
            match send(&self.bell, name) {
                // A full socket has a byte that was not read yet: its owner will look.
                Ok(()) => {}
                Err(e) if e.kind() == io::ErrorKind::WouldBlock => {}
                Err(_) => gone.push(name.clone()),
            }
        }
    }

    /// Starts the listener, once, and returns the name to write into the store.
    pub(super) fn listen(self: &Arc<Self>, settings: &Settings) -> Result<Option<&str>> {
        let mut listener = self.listener.lock().unwrap_or_else(PoisonError::into_inner);
        if listener.is_some() || self.closed.load(Relaxed) {
            return Ok(None);
        }
        let connection = open_reader(settings)?;
        let wake = Arc::clone(self);
        let failed = |e: io::Error| {
            Error::new(ErrorKind::Internal, "open sqlite", "cannot listen for commits").because(e)
        };
        let ear = bind(&self.name).map_err(failed)?;
        ear.set_read_timeout(Some(RECHECK)).map_err(failed)?;
        let thread = thread::Builder::new()
            .name("railbus-sqlite-wake".into())
            .spawn(move || wake.hear(&ear, &connection))
            .map_err(failed)?;
        *listener = Some(thread);
        Ok(Some(&self.name))
    }

    fn hear(&self, ear: &UnixDatagram, connection: &Connection) {
        let mut version = 0_i64;
        let mut byte = [0_u8; 1];
        while !self.closed.load(Relaxed) {
            let heard = ear.recv(&mut byte).is_ok();
            let found = connection
                .prepare_cached("PRAGMA data_version")
                .and_then(|mut s| s.query_row([], |row| row.get(0)));
            // If looking fails, waking up for nothing is the safe side.
            if heard || found.as_ref().map_or(true, |found| *found != version) {
                self.here();
            }
            version = found.unwrap_or(version);
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
        let _ = send(&self.bell, &self.name);
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
fn send(socket: &UnixDatagram, name: &str) -> io::Result<()> {
    socket.send_to_addr(b"!", &address(name)?).map(|_| ())
}

/// Elsewhere there is no abstract namespace: the recheck alone tells.
#[cfg(not(target_os = "linux"))]
fn bind(_name: &str) -> io::Result<UnixDatagram> {
    UnixDatagram::unbound()
}

#[cfg(not(target_os = "linux"))]
fn send(_socket: &UnixDatagram, _name: &str) -> io::Result<()> {
    Ok(())
}
