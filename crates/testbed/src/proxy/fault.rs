//! What is wrong with a network.

use std::time::Duration;

/// What is wrong with a network, from now on, for open connections too.
///
/// Nothing is ever lost on an open connection, as TCP has it: what does not go on waits, and comes
/// when the fault is over, or never if the connection is [reset](crate::Proxy::reset) before.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub enum Fault {
    /// Nothing.
    #[default]
    None,
    /// Nobody listens: whoever connects is refused at once, and open connections are reset.
    Refuse,
    /// Nothing goes through in either direction, and nobody is told. Whoever connects is accepted
    /// and hears nothing.
    BlackHole,
    /// What the client says arrives, what the server says does not.
    HalfOpen,
    /// Everything takes that long, each way.
    Latency(Duration),
    /// Everything goes through by so many bytes a second, on each connection and each way.
    Trickle {
        /// At least 1.
        bytes_per_second: u32,
    },
}

/// Which way something goes.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Way {
    ToServer,
    ToClient,
}
