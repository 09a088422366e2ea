//! What an error of the server or of the connection means.

use super::settings::Server;
use crate::error::{Error, ErrorKind, causes};
use redis::{ErrorKind as Kind, RedisError, ServerErrorKind};

/// Turns an error of the client into one that says what to do.
///
/// Where what was asked may be given to all, as in a pipeline, it is the first that counts.
pub(in crate::backends) fn fault(
    operation: &'static str,
    server: &Server,
    error: RedisError,
) -> Error {
    let (kind, why, hint) = meaning(&error, server);
    let right = right(&error.to_string(), server);
    let told = Error::new(kind, operation, why).with("server", server).because(error);
    if let Some((missing, hint)) = right {
        return told.with("missing", missing).hint(hint);
    }
    match hint {
        "" => told,
        hint => told.hint(hint),
    }
}

/// Returns what a user is not allowed, and the line that allows it, where the server says it.
fn right(text: &str, server: &Server) -> Option<(String, String)> {
    let (_, said) = text.split_once("permissions to ")?;
    let line = |right: &str| format!("ACL SETUSER {} {right}", server.user());
    if let Some((command, _)) = said.strip_prefix("run the '").and_then(|s| s.split_once('\'')) {
        return Some((format!("command {command}"), line(&format!("+{command}"))));
    }
    let what = if said.contains("channel") { "channel" } else { "key" };
    Some((what.into(), line(&server.needs)))
}

type Meaning = (ErrorKind, &'static str, &'static str);

fn meaning(error: &RedisError, server: &Server) -> Meaning {
    let text = error.to_string();
    // Older servers put the code of what failed inside a script into the middle of the text.
    let is_code = |code: &str| error.code() == Some(code) || text.contains(&format!("-{code} "));
    let has = |what: &str| match what.bytes().all(|b| b.is_ascii_uppercase()) {
        true => is_code(what),
        false => text.contains(what),
    };
    if error.is_timeout() {
        return (
            ErrorKind::Timeout,
            "the server did not answer in time",
            "what was asked may have been done; look whether the server hangs, or raise `timeout`",
        );
    }
    if let Some(known) = CODES.iter().find(|(code, ..)| has(code)) {
        return (known.1, known.2, known.3);
    }
    match error.kind() {
        Kind::AuthenticationFailed => denied(),
        Kind::Server(_) => (ErrorKind::Internal, "the server refused what it was asked", ""),
        Kind::RESP3NotSupported => old(),
        Kind::InvalidClientConfig => {
            (ErrorKind::Config, "the connection can't be set up", "look at the tls_ settings")
        }
        Kind::Io if server.tls.is_some() && is_tls(&text) => (
            ErrorKind::Denied,
            "no encrypted connection is possible",
            "look at `tls_ca`, `tls_cert` and `tls_key`, at the name in the server's certificate, \
             and whether the port takes TLS",
        ),
        Kind::Parse => (
            ErrorKind::Unavailable,
            "what answers does not speak as Redis does",
            "look at host and port, and whether the port takes TLS only",
        ),
        _ => (
            ErrorKind::Unavailable,
            "the server can't be reached",
            "look whether it runs, and at host, port and tls",
        ),
    }
}

/// What the server says, what it means, and what to do.
const CODES: &[(&str, ErrorKind, &str, &str)] = &[
    ("WRONGPASS", ErrorKind::Denied, DENIED, DENIED_HINT),
    ("NOAUTH", ErrorKind::Denied, "the server wants a password", UNSAID_HINT),
    ("invalid password", ErrorKind::Denied, DENIED, DENIED_HINT),
    ("AUTH called without any password", ErrorKind::Denied, DENIED, "leave `password` out"),
    (
        "DB index is out of range",
        ErrorKind::Config,
        "the server has no such database",
        "set `database` to a number below the server's `databases`, 16 by default",
    ),
    (
        "invalid DB index",
        ErrorKind::Config,
        "the server has no such database",
        "set `database` to a number below the server's `databases`, 16 by default",
    ),
    (
        "max number of clients",
        ErrorKind::Unavailable,
        "the server takes no more connections",
        "raise the server's `maxclients`",
    ),
    ("LOADING", ErrorKind::Unavailable, "the server is reading its data from disk", ""),
    ("MASTERDOWN", ErrorKind::Unavailable, "the server is a replica without its master", ""),
    ("CLUSTERDOWN", ErrorKind::Unavailable, "the cluster is down", ""),
    ("TRYAGAIN", ErrorKind::Unavailable, "the server asks to try again", ""),
    ("BUSY", ErrorKind::Unavailable, "the server is busy with a script", ""),
    (
        "MISCONF",
        ErrorKind::Full,
        "the server can't write its data to disk, and takes no more",
        "look at the server's disk and its log",
    ),
    (
        "OOM",
        ErrorKind::Full,
        "the server has no memory left",
        "raise its `maxmemory`, or lower `max_len` or `retention`",
    ),
    (
        "NOREPLICAS",
        ErrorKind::Unavailable,
        "the server lacks replicas to write",
        "look at the server's `min-replicas-to-write`",
    ),
    (
        "READONLY",
        ErrorKind::Unavailable,
        "the server is a replica and takes no writes",
        "name the master, if this was not a failover",
    ),
    (
        "MOVED",
        ErrorKind::Unsupported,
        "the server is part of a cluster, and the keys are on another",
        "name the server that holds them, or one without cluster mode",
    ),
    (
        "WRONGTYPE",
        ErrorKind::Corrupt,
        "a key of that name holds something else",
        "choose another `prefix` or `stream`",
    ),
    (
        "executing the script can't",
        ErrorKind::Denied,
        "the user may not do what a script does",
        "give the user's access list the commands on streams, hashes, sets and sorted sets, and the \
         keys and channels that begin with the stream's name in braces",
    ),
    (
        "NOPERM",
        ErrorKind::Denied,
        "the user may not do this",
        "give the user's access list the command, the keys and the channels",
    ),
];

const DENIED: &str = "the server does not accept user and password";
const DENIED_HINT: &str = "look at `user` and `password`";
const UNSAID_HINT: &str = "set `password`, in the URL as redis://:PASSWORD@HOST, or in the environment as \
                           RAILBUS_BUS__PASSWORD";

fn denied() -> Meaning {
    (ErrorKind::Denied, DENIED, DENIED_HINT)
}

fn old() -> Meaning {
    (ErrorKind::Version, "the server is too old", "Redis 6.2 or later is needed")
}

/// Tells whether a message of the system's or of rustls is about encryption.
fn is_tls(text: &str) -> bool {
    let text = text.to_ascii_lowercase();
    ["certificate", "tls", "handshake", "invalidmessage", "corrupt", "invalid peer", "alert"]
        .iter()
        .any(|word| text.contains(word))
}

/// Tells whether the connection must not be used again after this error.
pub(in crate::backends) fn is_broken(error: &RedisError) -> bool {
    // After a timeout nobody knows what the next answer belongs to, or whether one will come. A
    // replica that was a master is left for whoever answers under the name now.
    error.is_timeout()
        || error.is_unrecoverable_error()
        || error.is_io_error()
        || matches!(
            error.kind(),
            Kind::Server(ServerErrorKind::ReadOnly | ServerErrorKind::MasterDown)
        )
}

/// Tells whether a connection that was there broke before the answer had come.
pub(in crate::backends) fn is_cut(error: &Error) -> bool {
    let broke = |cause: &(dyn std::error::Error + 'static)| {
        cause.downcast_ref::<RedisError>().is_some_and(RedisError::is_io_error)
    };
    error.kind() == ErrorKind::Unavailable
        && error.operation() != "connect"
        && causes(error).any(broke)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::options::Options;

    #[test]
    fn what_servers_say_is_understood() {
        let server = Server::read(&Options::parse("redis://h").unwrap()).unwrap();
        let cases = [
            ("BUSY Redis is busy running a script. You can only call SCRIPT KILL.", "busy with"),
            ("WRONGPASS invalid username-password pair or user is disabled.", "user and password"),
            ("NOAUTH Authentication required.", "wants a password"),
            ("ERR invalid password", "user and password"),
            ("ERR AUTH <password> called without any password configured", "the server"),
            ("ERR DB index is out of range", "no such database"),
            ("ERR max number of clients reached", "no more connections"),
            ("LOADING Redis is loading the dataset in memory", "reading its data"),
            ("MASTERDOWN Link with MASTER is down", "without its master"),
            ("CLUSTERDOWN Hash slot not served", "the cluster is down"),
            ("TRYAGAIN Multiple keys request during rehashing of slot", "try again"),
            ("MISCONF Redis is configured to save RDB snapshots", "to disk"),
            ("OOM command not allowed when used memory > 'maxmemory'.", "no memory left"),
            ("ERR Error running script: @user_script:9: -OOM command not allowed", "no memory"),
            ("NOREPLICAS Not enough good replicas to write.", "lacks replicas"),
            ("READONLY You can't write against a read only replica.", "takes no writes"),
            ("MOVED 3999 127.0.0.1:6381", "on another"),
            ("WRONGTYPE Operation against a key holding the wrong kind of value", "something else"),
            ("ERR The user executing the script can't run this command", "what a script does"),
            ("NOPERM this user has no permissions to run the 'xadd' command", "may not do this"),
        ];
        for (said, meaning) in cases {
            let value = redis::parse_redis_value(format!("-{said}\r\n").as_bytes()).unwrap();
            let told = fault("ask", &server, value.extract_error().unwrap_err());
            assert!(told.message().contains(meaning), "{said}: {told}");
        }
        let value = redis::parse_redis_value(b"-ERR something else\r\n").unwrap();
        let told = fault("ask", &server, value.extract_error().unwrap_err());
        assert_eq!(told.kind(), ErrorKind::Internal, "{told}");
    }
}
