//! An open connection: its two sockets, and how it is cut.

use socket2::SockRef;
use std::{
    net::{Shutdown, TcpStream},
    sync::{
        OnceLock,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

/// How long a write may block before it looks whether the link was cut.
const WRITE_TURN: Duration = Duration::from_millis(50);

#[derive(Debug)]
pub(super) struct Link {
    client: TcpStream,
    server: OnceLock<TcpStream>,
    is_cut: AtomicBool,
}

impl Link {
    pub(super) fn new(client: TcpStream) -> Self {
        prepare(&client);
        Self { client, server: OnceLock::new(), is_cut: AtomicBool::new(false) }
    }

    /// Takes in the server's side; returns both.
    pub(super) fn joined(&self, server: TcpStream) -> (&TcpStream, &TcpStream) {
        prepare(&server);
        let server = self.server.get_or_init(|| server);
        if self.is_cut() {
            self.cut();
        }
        (&self.client, server)
    }

    pub(super) fn is_cut(&self) -> bool {
        self.is_cut.load(Ordering::SeqCst)
    }

    /// Sees to it that both sides are told of a reset as soon as nobody uses the sockets any more,
    /// and that nobody waits on them.
    pub(super) fn cut(&self) {
        self.is_cut.store(true, Ordering::SeqCst);
        for stream in [Some(&self.client), self.server.get()].into_iter().flatten() {
            // Both fail only if the peer was quicker.
            let _ = SockRef::from(stream).set_linger(Some(Duration::ZERO));
            // Wakes who reads, and sends nothing.
            let _ = stream.shutdown(Shutdown::Read);
        }
    }
}

fn prepare(stream: &TcpStream) {
    // Neither fails on a socket that is connected; else the first read does.
    let _ = stream.set_nodelay(true);
    let _ = stream.set_write_timeout(Some(WRITE_TURN));
}
