//! The proxy: what listens, and what tests tell it.

use super::{
    fault::Fault,
    link::Link,
    wire::{self, Shared, State},
};
use crate::{
    error::{Doing, Result},
    port,
    url::with_address,
};
use socket2::{Domain, Socket, Type};
use std::{
    fmt,
    net::{SocketAddr, TcpListener, TcpStream},
    sync::Arc,
    thread::{self, JoinHandle},
    time::Duration,
};

/// How long it may take until what was told is so.
const PATIENCE: Duration = Duration::from_secs(10);

/// A TCP proxy before a server, with the [`Fault`]s of a network.
///
/// Clients that connect while the server is down are accepted, and reset at once. It ends with its
/// value, and resets what is open then.
pub struct Proxy {
    address: SocketAddr,
    shared: Arc<Shared>,
    front: Option<JoinHandle<()>>,
}

impl Proxy {
    /// Starts a proxy before the server at that address, on a free port.
    ///
    /// # Errors
    ///
    /// There is no free port.
    pub fn to(server: SocketAddr) -> Result<Self> {
        let listener = port::listener()?;
        let address = listener.local_addr().doing(|| "start a proxy".into())?;
        let shared = Arc::new(Shared::new());
        shared.state().is_listening = true;
        let front = {
            let shared = Arc::clone(&shared);
            thread::spawn(move || listen(&shared, Some(listener), address, server))
        };
        Ok(Self { address, shared, front: Some(front) })
    }

    /// Returns the address it listens on.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Returns the same URL with the proxy's address in place of the server's.
    pub fn url_of(&self, url: &str) -> String {
        with_address(url, self.address)
    }

    /// Has this be wrong with the network from now on, instead of what was wrong before; returns
    /// when it is so.
    pub fn fault(&self, fault: Fault) {
        self.shared.change(|state| state.fault = fault);
        let refuses = fault == Fault::Refuse;
        if refuses {
            self.reset();
        }
        self.shared.wait(PATIENCE, |state| state.is_listening != refuses);
    }

    /// Resets every open connection, on both sides, and returns when they are gone.
    pub fn reset(&self) {
        self.knock();
        let last = self.shared.change(|state| {
            state.links.values().for_each(|link| link.cut());
            state.accepted
        });
        let newer = |number: &u64| *number > last;
        self.shared.wait(PATIENCE, |state| state.links.keys().all(newer));
    }

    /// Returns how many connections are open.
    pub fn connections(&self) -> usize {
        self.knock();
        self.shared.state().links.len()
    }

    /// Returns how many connections there have been.
    pub fn accepted(&self) -> u64 {
        self.knock();
        self.shared.state().accepted
    }

    /// Returns how many bytes went through, both ways together.
    pub fn bytes(&self) -> u64 {
        self.shared.state().bytes
    }

    /// Returns when everyone who has connected by now was let in, or sent away: connects as one
    /// more, who is known by his address and is no client.
    fn knock(&self) {
        let Ok(socket) = Socket::new(Domain::IPV4, Type::STREAM, None) else { return };
        // These fail if nobody listens, and then there is nobody to wait for.
        let bound = socket.bind(&port::address(0).into()).and_then(|()| socket.local_addr());
        let Some(own) = bound.ok().and_then(|address| address.as_socket()) else { return };
        self.shared.state().knocks.insert(own);
        if socket.connect(&self.address.into()).is_ok() {
            let is_heard = |state: &State| !state.knocks.contains(&own) || !state.is_listening;
            self.shared.wait(PATIENCE, is_heard);
        }
        self.shared.state().knocks.remove(&own);
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.shared.change(|state| state.is_over = true);
        self.reset();
        if let Some(front) = self.front.take() {
            // It does not panic.
            let _ = front.join();
        }
    }
}

impl fmt::Debug for Proxy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let state = self.shared.state();
        let mut shown = f.debug_struct("Proxy");
        shown.field("address", &self.address).field("fault", &state.fault);
        shown.field("connections", &state.links.len()).finish_non_exhaustive()
    }
}

/// Takes in who connects, while anybody may.
fn listen(
    shared: &Arc<Shared>,
    mut listener: Option<TcpListener>,
    address: SocketAddr,
    server: SocketAddr,
) {
    while !shared.state().is_over {
        if shared.state().fault == Fault::Refuse {
            // Closed, since nothing else refuses.
            drop(listener.take());
            shared.change(|state| state.is_listening = false);
            shared.wait(PATIENCE, |state| state.is_over || state.fault != Fault::Refuse);
            continue;
        }
        let Some(open) = &listener else {
            listener = TcpListener::bind(address).ok();
            match listener {
                Some(_) => shared.change(|state| state.is_listening = true),
                // Somebody else has the port for a moment.
                None => thread::sleep(Duration::from_millis(20)),
            }
            continue;
        };
        let Ok((client, from)) = open.accept() else { continue };
        if !shared.change(|state| state.knocks.remove(&from)) {
            enter(shared, client, server);
        }
    }
    drop(listener);
    shared.change(|state| state.is_listening = false);
}

/// Serves a client in a thread of its own, unless nobody is to be served any more.
fn enter(shared: &Arc<Shared>, client: TcpStream, server: SocketAddr) {
    let link = Arc::new(Link::new(client));
    let number = shared.change(|state| {
        if state.is_over || state.fault == Fault::Refuse {
            return None;
        }
        state.accepted += 1;
        state.links.insert(state.accepted, Arc::clone(&link));
        Some(state.accepted)
    });
    let Some(number) = number else { return link.cut() };
    let shared = Arc::clone(shared);
    thread::spawn(move || {
        wire::serve(&shared, &link, server);
        // The sockets close with the last who holds them, so not before it is off the list.
        shared.change(|state| {
            state.links.remove(&number);
            drop(link);
        });
    });
}
