//! Free ports.

use crate::error::{Error, Result};
use std::{
    collections::hash_map::RandomState,
    hash::{BuildHasher, Hasher},
    net::{Ipv4Addr, SocketAddr, TcpListener},
};

/// Below what systems give to those who connect, so that nobody gets a server's port for his own
/// end of a connection while the server is down.
const RANGE: std::ops::Range<u64> = 15_000..32_000;

/// How many ports are tried before something else must be wrong.
const TRIES: usize = 100;

/// Returns a number that nobody foresees.
pub(crate) fn random() -> u64 {
    RandomState::new().build_hasher().finish()
}

/// Returns an address on which somebody listened just now, with his listener.
pub(crate) fn listener() -> Result<TcpListener> {
    for _ in 0..TRIES {
        if let Ok(listener) = TcpListener::bind(address(candidate())) {
            return Ok(listener);
        }
    }
    Err(Error::new(format!("no free port among {TRIES} from {} to {}", RANGE.start, RANGE.end)))
}

/// Returns a port that was free just now.
pub(crate) fn free() -> Result<u16> {
    let listener = listener()?;
    listener.local_addr().map(|a| a.port()).map_err(|e| Error::new(e.to_string()))
}

pub(crate) fn address(port: u16) -> SocketAddr {
    (Ipv4Addr::LOCALHOST, port).into()
}

fn candidate() -> u16 {
    let offset = random() % (RANGE.end - RANGE.start);
    u16::try_from(RANGE.start + offset).unwrap_or(u16::MAX)
}
