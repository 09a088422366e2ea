//! What an error of the server or of the connection means.

use super::settings::Server;
use crate::error::{Error, ErrorKind};
use async_nats::{ConnectError, ConnectErrorKind};
use serde::Deserialize;

/// What JetStream says where it refuses something.
#[derive(Clone, Debug, Default, Deserialize)]
pub(super) struct Refusal {
    #[serde(default)]
    pub(super) code: u16,
    #[serde(default)]
    pub(super) err_code: u32,
    #[serde(default)]
    pub(super) description: String,
}

impl Refusal {
    /// Tells whether somebody else wrote under the subject meanwhile.
    pub(super) fn is_late(&self) -> bool {
        [10_071, 10_164].contains(&self.err_code)
    }

    /// Returns what it means.
    pub(super) fn error(&self, operation: &'static str) -> Error {
        let (kind, why, hint) = self.meaning();
        let error = Error::new(kind, operation, why)
            .with("said", &self.description)
            .with("code", self.err_code);
        if hint.is_empty() { error } else { error.hint(hint) }
    }

    fn meaning(&self) -> (ErrorKind, &'static str, &'static str) {
        if let Some(known) = CODES.iter().find(|(code, ..)| *code == self.err_code) {
            return (known.1, known.2, known.3);
        }
        let said = |what: &str| self.description.contains(what);
        if said("maximum messages") || said("maximum bytes") {
            return (ErrorKind::Full, "the stream is full", FULL_HINT);
        }
        if self.code == 503 || said("timeout") {
            return (ErrorKind::Unavailable, "JetStream is not ready", "");
        }
        (ErrorKind::Internal, "JetStream refused what it was asked", "")
    }
}

const FULL_HINT: &str = "raise `max_bytes`, or let groups settle what is there; what is settled goes \
                         with `retention` and `max_len`";
const ENABLE_HINT: &str =
    "start the server with -js, or set `jetstream=false`: broadcasts alone need none";

/// What the server says, what it means, and what to do.
const CODES: &[(u32, ErrorKind, &str, &str)] = &[
    (10_076, ErrorKind::Unsupported, "the server runs without JetStream", ENABLE_HINT),
    (10_039, ErrorKind::Unsupported, "the account has no JetStream", ENABLE_HINT),
    (10_059, ErrorKind::NotFound, "the stream is not there", ""),
    (10_014, ErrorKind::NotFound, "the consumer is not there", ""),
    (
        10_058,
        ErrorKind::Config,
        "a stream of that name is there with other settings",
        "set `stream` to another name",
    ),
    (
        10_065,
        ErrorKind::Config,
        "another stream has subjects that begin so",
        "choose a `prefix` that neither goes on from another nor begins one",
    ),
    (
        10_074,
        ErrorKind::Config,
        "this server is alone, and can't have replicas",
        "leave `replicas` out",
    ),
    (
        10_005,
        ErrorKind::Config,
        "the cluster has too few servers for so many replicas",
        "lower `replicas`",
    ),
    (
        10_047,
        ErrorKind::Full,
        "the server has no room left for streams",
        "raise its max_file_store, or lower `retention`",
    ),
    (
        10_028,
        ErrorKind::Full,
        "the server has no memory left for streams",
        "raise its max_memory_store, or lower `retention`",
    ),
    (
        10_023,
        ErrorKind::Full,
        "the server has no resources left",
        "look at its limits and its disk",
    ),
    (10_077, ErrorKind::Full, "the stream is full", FULL_HINT),
    (
        10_054,
        ErrorKind::TooLarge,
        "the event is larger than the stream takes",
        "publish a reference to where the data is kept",
    ),
    (10_008, ErrorKind::Unavailable, "JetStream is not ready", ""),
    (10_009, ErrorKind::Unavailable, "JetStream has no leader", ""),
    (
        10_026,
        ErrorKind::Full,
        "the account has no more consumers to give",
        "prune groups: `railbus groups prune`",
    ),
    (10_027, ErrorKind::Full, "the account has no more streams to give", "raise its limit"),
];

/// Says what to do about a connection that could not be made.
pub(super) fn unconnected(server: &Server, error: ConnectError) -> Error {
    let text = format!("{error} {}", chain_of(&error)).to_ascii_lowercase();
    let tls = ["certificate", "handshake", "invalid peer", "alert", "tls"];
    let (kind, why, hint) = match error.kind() {
        ConnectErrorKind::Authentication | ConnectErrorKind::AuthorizationViolation => {
            (ErrorKind::Denied, DENIED, DENIED_HINT)
        }
        ConnectErrorKind::TimedOut => (
            ErrorKind::Timeout,
            "the server did not answer in time",
            "look whether it hangs, or raise `connect_timeout`",
        ),
        ConnectErrorKind::ServerParse => {
            (ErrorKind::Config, "the host is none", "write nats://HOST:PORT")
        }
        _ if text.contains("maximum connections") => (
            ErrorKind::Unavailable,
            "the server takes no more connections",
            "raise its max_connections",
        ),
        ConnectErrorKind::Tls => (ErrorKind::Denied, NO_TLS, TLS_HINT),
        _ if tls.iter().any(|word| text.contains(word)) => (ErrorKind::Denied, NO_TLS, TLS_HINT),
        _ if text.contains("expected info") || text.contains("invalid") => (
            ErrorKind::Unavailable,
            "what answers does not speak as NATS does",
            "look at host and port",
        ),
        _ => (
            ErrorKind::Unavailable,
            "the server can't be reached",
            "look whether it runs, and at host, port and tls",
        ),
    };
    Error::new(kind, "connect", why).with("server", server).hint(hint).because(error)
}

pub(super) const DENIED: &str = "the server does not let this user in";
pub(super) const DENIED_HINT: &str = "look at `user` and `password`, `token`, `nkey` or `creds`; in the environment it is RAILBUS_BUS__PASSWORD";
const NO_TLS: &str = "no encrypted connection is possible";
const TLS_HINT: &str = "look at `tls_ca`, `tls_cert` and `tls_key`, at the name in the server's certificate, \
                        and whether the port takes TLS";

fn chain_of(error: &dyn std::error::Error) -> String {
    let mut text = String::new();
    let mut next = error.source();
    while let Some(cause) = next {
        text += &format!("{cause} ");
        next = cause.source();
    }
    text
}

/// Returns the error of what is asked after the end.
pub(super) fn closed() -> Error {
    Error::new(ErrorKind::Closed, "nats", "the connection was closed")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_servers_say_is_understood() {
        let cases = [
            (400, 10_077, "maximum bytes exceeded", ErrorKind::Full),
            (400, 0, "maximum messages exceeded", ErrorKind::Full),
            (503, 10_039, "jetstream not enabled for account", ErrorKind::Unsupported),
            (503, 10_008, "JetStream system temporarily unavailable", ErrorKind::Unavailable),
            (500, 10_047, "insufficient storage resources available", ErrorKind::Full),
            (404, 10_014, "consumer not found", ErrorKind::NotFound),
            (500, 99_999, "something new", ErrorKind::Internal),
        ];
        for (code, err_code, said, kind) in cases {
            let told = Refusal { code, err_code, description: said.into() }.error("publish");
            assert_eq!(told.kind(), kind, "{told}");
            assert!(told.to_string().contains(said), "{told}");
        }
        assert!(Refusal { err_code: 10_071, ..Refusal::default() }.is_late());
    }
}
