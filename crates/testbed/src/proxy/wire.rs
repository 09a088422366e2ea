//! What goes through a connection, one way: read as soon as it comes, passed on when the fault of
//! the hour lets it.

use super::{
    fault::{Fault, Way},
    link::Link,
};
use std::{
    collections::{BTreeMap, BTreeSet},
    io::{self, ErrorKind, Read, Write},
    net::{Shutdown, SocketAddr, TcpStream},
    sync::{
        Arc, Condvar, Mutex, MutexGuard, PoisonError,
        mpsc::{Receiver, SyncSender, sync_channel},
    },
    thread,
    time::{Duration, Instant},
};

/// How much is read at once, and how many of these wait.
const CHUNK: usize = 16 * 1024;
const CHUNKS_MAX: usize = 64;

/// How long the server's side may take to accept.
const CONNECT_MAX: Duration = Duration::from_secs(10);

/// How often something trickles.
const TRICKLES_PER_SECOND: u32 = 20;

/// What all threads of a proxy share.
#[derive(Debug)]
pub(super) struct Shared {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Debug, Default)]
pub(super) struct State {
    pub(super) fault: Fault,
    pub(super) links: BTreeMap<u64, Arc<Link>>,
    pub(super) accepted: u64,
    /// From where the proxy itself connects, to wake up who listens.
    pub(super) knocks: BTreeSet<SocketAddr>,
    pub(super) bytes: u64,
    pub(super) is_listening: bool,
    pub(super) is_over: bool,
}

/// What came at once, and when.
struct Chunk {
    came: Instant,
    bytes: Vec<u8>,
}

impl Shared {
    pub(super) fn new() -> Self {
        Self { state: Mutex::default(), changed: Condvar::new() }
    }

    pub(super) fn state(&self) -> MutexGuard<'_, State> {
        // What a panic may leave behind is a number.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Changes what is shared, and has everyone look.
    pub(super) fn change<T>(&self, change: impl FnOnce(&mut State) -> T) -> T {
        let changed = change(&mut self.state());
        self.changed.notify_all();
        changed
    }

    /// Waits until it is so, or for that long.
    pub(super) fn wait(&self, patience: Duration, is_so: impl Fn(&State) -> bool) {
        let waits = |state: &mut State| !is_so(state);
        // A panic elsewhere changes nothing here.
        drop(self.changed.wait_timeout_while(self.state(), patience, waits));
    }

    /// Waits until something may pass, and returns how much of it.
    fn pass(&self, link: &Link, way: Way, chunk: &Chunk, last: Instant) -> io::Result<usize> {
        let mut state = self.state();
        loop {
            if link.is_cut() {
                return Err(ErrorKind::ConnectionReset.into());
            }
            let due = match state.fault {
                Fault::None => return Ok(usize::MAX),
                Fault::HalfOpen if way == Way::ToServer => return Ok(usize::MAX),
                Fault::Refuse | Fault::BlackHole | Fault::HalfOpen => None,
                Fault::Latency(time) => Some((chunk.came + time, usize::MAX)),
                Fault::Trickle { bytes_per_second: rate } => {
                    let turns = rate.clamp(1, TRICKLES_PER_SECOND);
                    let size = usize::try_from(rate / turns).unwrap_or(usize::MAX).max(1);
                    Some((last + Duration::from_secs(1) / turns, size))
                }
            };
            state = match due.map(|(at, size)| (at.saturating_duration_since(Instant::now()), size))
            {
                Some((left, size)) if left.is_zero() => return Ok(size),
                Some((left, _)) => {
                    let waited = self.changed.wait_timeout(state, left);
                    waited.unwrap_or_else(PoisonError::into_inner).0
                }
                None => self.changed.wait(state).unwrap_or_else(PoisonError::into_inner),
            };
        }
    }
}

/// Connects a client to the server and serves both until the connection is over.
pub(super) fn serve(shared: &Shared, link: &Link, server: SocketAddr) {
    let now = Instant::now();
    let chunk = Chunk { came: now, bytes: Vec::new() };
    // As if what the client sent first was what did not get through.
    let server = shared
        .pass(link, Way::ToServer, &chunk, now)
        .and_then(|_| TcpStream::connect_timeout(&server, CONNECT_MAX));
    let Ok(server) = server else { return link.cut() };
    let (client, server) = link.joined(server);
    thread::scope(|scope| {
        for (from, to, way) in [(client, server, Way::ToServer), (server, client, Way::ToClient)] {
            let (sender, receiver) = sync_channel(CHUNKS_MAX);
            scope.spawn(move || take(link, from, &sender));
            scope.spawn(move || {
                if give(shared, link, to, way, &receiver).is_err() {
                    link.cut();
                }
            });
        }
    });
}

fn take(link: &Link, mut from: &TcpStream, sender: &SyncSender<Chunk>) {
    let mut bytes = vec![0; CHUNK];
    loop {
        match from.read(&mut bytes) {
            Ok(0) => return,
            Ok(length) => {
                let chunk = Chunk { came: Instant::now(), bytes: bytes[..length].to_vec() };
                if sender.send(chunk).is_err() {
                    return;
                }
            }
            Err(e) if e.kind() == ErrorKind::Interrupted => {}
            Err(_) => return link.cut(),
        }
    }
}

fn give(
    shared: &Shared,
    link: &Link,
    to: &TcpStream,
    way: Way,
    chunks: &Receiver<Chunk>,
) -> io::Result<()> {
    let mut last = Instant::now();
    for chunk in chunks {
        let mut rest = &chunk.bytes[..];
        while !rest.is_empty() {
            let size = shared.pass(link, way, &chunk, last)?.min(rest.len());
            last = Instant::now();
            // Counted first, so that whoever has it finds it counted.
            shared.state().bytes += size as u64;
            write(link, to, &rest[..size])?;
            rest = &rest[size..];
        }
    }
    // The end of what was said goes the same way.
    shared.pass(link, way, &Chunk { came: Instant::now(), bytes: Vec::new() }, last)?;
    to.shutdown(Shutdown::Write)
}

fn write(link: &Link, mut to: &TcpStream, mut bytes: &[u8]) -> io::Result<()> {
    while !bytes.is_empty() {
        match to.write(bytes) {
            Ok(length) => bytes = &bytes[length..],
            Err(e) if e.kind() == ErrorKind::Interrupted => {}
            // The peer does not read; it is looked at again whether anybody wants it to.
            Err(e) if matches!(e.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {
                if link.is_cut() {
                    return Err(ErrorKind::ConnectionReset.into());
                }
            }
            Err(e) => return Err(e),
        }
    }
    Ok(())
}
