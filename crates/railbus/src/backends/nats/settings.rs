//! What can be set for a server and its stream, and what they guarantee.

use crate::{
    backend::{Batch, Broadcast, Capability, Fencing, Keyed, Ordering, Patterns, Release, Replay},
    codec::Format,
    error::{Error, ErrorKind, Result},
    options::{Options, Setting},
};
use std::{borrow::Cow, fmt, time::Duration};

/// What the nats backend guarantees, on a server with its usual limits.
pub const CAPABILITY: Capability = Capability {
    name: "nats",
    broadcast: Broadcast::Live,
    groups: true,
    ordering: Ordering::Alike,
    keyed: Keyed::None,
    counts_attempts: true,
    fencing: Fencing::Deadline,
    lease_min: Some(Duration::from_millis(100)),
    extends: true,
    lease_max: None,
    delay_max: Some(DELAY_MAX),
    publish_delay_max: Some(DELAY_MAX),
    withdraws: false,
    delay_step: Duration::from_millis(1),
    dedup: Some(WINDOW),
    patterns: Patterns::Client,
    replay: Replay::Oldest,
    dead_letters: true,
    keeps_finished: true,
    keeps_history: true,
    release: Release::Free,
    batch: Batch::BestEffort,
    positions: false,
    journal: false,
    durable: true,
    payload_max: payload_max(1 << 20),
    metadata_max: usize::MAX,
    batch_max: 10_000,
};

/// The server counts in nanoseconds, and has a sign and today's date to go with them.
const DELAY_MAX: Duration = Duration::from_secs(10 * 365 * 24 * 60 * 60);

/// For how long the server knows an id again, unless it is set.
const WINDOW: Duration = Duration::from_secs(120);

/// Returns how much of what a server takes is left to a payload: the rest is for headers.
pub(super) const fn payload_max(all: usize) -> usize {
    let headers = if all / 16 < 64 << 10 { all / 16 } else { 64 << 10 };
    all - headers
}

/// What can be set in the URL, the table or the map.
pub const SETTINGS: &[Setting] = &[
    Setting {
        key: "host",
        help: "the server's name or address (default localhost), or several, with their ports, between commas",
    },
    Setting { key: "port", help: "its port (default 4222)" },
    Setting { key: "user", help: "the user, or without a password the token" },
    Setting { key: "password", help: "the user's password" },
    Setting { key: "token", help: "the token that the server asks for" },
    Setting { key: "nkey", help: "a file with the seed of the key that the server knows" },
    Setting { key: "creds", help: "a file of credentials, as nsc writes it" },
    Setting {
        key: "tls",
        help: "true: the connection must be encrypted (default: if the server says so)",
    },
    Setting {
        key: "tls_ca",
        help: "a PEM file of the authorities to trust instead of the system's",
    },
    Setting { key: "tls_cert", help: "a PEM file of the client's certificate" },
    Setting { key: "tls_key", help: "a PEM file of the client's key" },
    Setting { key: "connect_timeout", help: "how long connecting may take (default 5s)" },
    Setting { key: "timeout", help: "how long the server may take to answer (default 5s)" },
    Setting { key: "inbox", help: "what the subjects of answers begin with (default _INBOX)" },
    Setting {
        key: "jetstream",
        help: "false: nothing is kept, there are no groups, and no JetStream is asked for (default true)",
    },
    Setting { key: "domain", help: "the domain of JetStream, where it is not the server's own" },
    Setting { key: "prefix", help: "what subjects begin with, `prefix.topic` (default events)" },
    Setting {
        key: "stream",
        help: "the stream's name (default the prefix, with _ for its dots); two more have it with _desk and _dead behind",
    },
    Setting {
        key: "storage",
        help: "where a stream that is new keeps events: file (default) or memory",
    },
    Setting {
        key: "replicas",
        help: "on how many servers a stream that is new is kept (default 1)",
    },
    Setting { key: "max_len", help: "how many events are kept at most (default: no limit)" },
    Setting {
        key: "max_bytes",
        help: "how many bytes the stream may take, such as 1GiB: then nothing more is taken, or with trim=hard the oldest goes (default: no limit)",
    },
    Setting {
        key: "trim",
        help: "settled (default): what a group has not settled is kept beyond max_len and retention; hard: the server removes the oldest, whatever it is",
    },
    Setting {
        key: "retention",
        help: "how long events are kept (default 24h; with trim=hard no limit)",
    },
    Setting {
        key: "duplicate_window",
        help: "for how long an id that is published again is taken for the same event (default 2m; 0s: never)",
    },
    Format::SETTING,
];

/// Where a server is and as whom, checked.
#[derive(Clone)]
pub(super) struct Server {
    pub(super) hosts: Vec<String>,
    pub(super) identity: Identity,
    pub(super) tls: Tls,
    pub(super) connect_timeout: Duration,
    pub(super) timeout: Duration,
    pub(super) inbox: String,
}

/// Who asks.
#[derive(Clone, Default)]
pub(super) enum Identity {
    #[default]
    Nobody,
    User(String, String),
    Token(String),
    /// A file with a seed.
    Key(String),
    /// A file with credentials.
    Credentials(String),
}

/// What an encrypted connection needs.
#[derive(Clone, Debug, Default)]
pub(super) struct Tls {
    pub(super) is_on: bool,
    pub(super) ca: Option<String>,
    pub(super) identity: Option<(String, String)>,
}

/// The settings of one bus, checked.
#[derive(Clone, Debug)]
pub(super) struct Settings {
    pub(super) server: Server,
    pub(super) jetstream: bool,
    pub(super) api: String,
    pub(super) prefix: String,
    pub(super) stream: String,
    pub(super) limits: Limits,
    pub(super) format: Format,
}

/// How streams that are new are made, and what is removed from them.
#[derive(Clone, Debug)]
pub(super) struct Limits {
    pub(super) storage: &'static str,
    pub(super) replicas: u64,
    pub(super) max_len: Option<u64>,
    pub(super) max_bytes: Option<u64>,
    pub(super) hard: bool,
    pub(super) retention: Option<Duration>,
    pub(super) window: Option<Duration>,
}

impl fmt::Debug for Server {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Server").field(&self.to_string()).finish()
    }
}

impl fmt::Display for Server {
    /// Writes where it is, without its secrets.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.hosts.join(","))
    }
}

fn config(why: impl Into<Cow<'static, str>>, key: &'static str, hint: &str) -> Error {
    Error::new(ErrorKind::Config, "open nats", why).with("setting", key).hint(hint)
}

impl Server {
    fn read(options: &Options) -> Result<Self> {
        let text = |key| options.text(key).filter(|text| !text.is_empty());
        let port = match text("port") {
            None => 4222,
            Some(text) => text.parse::<u16>().ok().filter(|port| *port > 0).ok_or_else(|| {
                let why = format!("`{text}` is not a value of `port`");
                config(why, "port", "allowed: a whole number from 1 to 65535")
            })?,
        };
        let host = |host: &str| match (host.starts_with('['), host.matches(':').count()) {
            (false, 0) => format!("{host}:{port}"),
            (false, 2..) => format!("[{host}]:{port}"),
            (true, _) if host.ends_with(']') => format!("{host}:{port}"),
            _ => host.to_owned(),
        };
        let hosts = text("host").unwrap_or("localhost").split(',').map(str::trim);
        let hosts: Vec<_> = hosts.filter(|one| !one.is_empty()).map(host).collect();
        let inbox = text("inbox").unwrap_or("_INBOX");
        if !is_subject(inbox) {
            let why = format!("`{inbox}` is not the beginning of a subject");
            return Err(config(
                why,
                "inbox",
                "allowed: words with dots between, such as _INBOX.app",
            ));
        }
        Ok(Self {
            hosts,
            identity: Identity::read(options)?,
            tls: Tls::read(options)?,
            connect_timeout: timeout(options, "connect_timeout")?,
            timeout: timeout(options, "timeout")?,
            inbox: inbox.to_owned(),
        })
    }
}

impl Identity {
    fn read(options: &Options) -> Result<Self> {
        let text = |key| options.text(key).filter(|text| !text.is_empty()).map(str::to_owned);
        let ways = ["user", "token", "nkey", "creds"].map(|key| (key, text(key)));
        let mut set = ways.iter().filter_map(|(key, value)| Some((*key, value.clone()?)));
        let (first, second, password) = (set.next(), set.next(), text("password"));
        if let (Some((one, _)), Some((other, _))) = (&first, &second) {
            let why = format!("`{one}` and `{other}` both say who asks");
            return Err(config(why, other, "set one of user, token, nkey and creds"));
        }
        match (first, password) {
            (None, None) => Ok(Self::Nobody),
            (Some(("user", user)), Some(password)) => Ok(Self::User(user, password)),
            // As all clients read it: nats://TOKEN@HOST.
            (Some(("user" | "token", token)), None) => Ok(Self::Token(token)),
            (Some(("nkey", file)), None) => Ok(Self::Key(file)),
            (Some((_, file)), None) => Ok(Self::Credentials(file)),
            (_, Some(_)) => {
                let why = "a password is set without a user";
                Err(config(why, "user", "set `user`: nats://USER:PASSWORD@HOST"))
            }
        }
    }
}

impl Tls {
    fn read(options: &Options) -> Result<Self> {
        let text = |key| options.text(key).map(str::to_owned);
        let on = options.one_of("tls", &[("true", true), ("false", false)])?;
        let (ca, cert, key) = (text("tls_ca"), text("tls_cert"), text("tls_key"));
        let files = [("tls_ca", &ca), ("tls_cert", &cert), ("tls_key", &key)];
        if let (Some(false), Some((name, _))) = (on, files.iter().find(|(_, f)| f.is_some())) {
            let why = format!("`{name}` is set for a connection that is not encrypted");
            return Err(config(why, name, "set tls = true"));
        }
        let is_on = on.unwrap_or_else(|| files.iter().any(|(_, file)| file.is_some()));
        let identity = match (cert, key) {
            (Some(cert), Some(key)) => Some((cert, key)),
            (None, None) => None,
            _ => {
                let why = "of `tls_cert` and `tls_key` one is missing";
                let hint = "set both: a certificate is of no use without its key";
                return Err(config(why, "tls_key", hint));
            }
        };
        Ok(Self { is_on, ca, identity })
    }
}

/// The longest that a server may take.
const TIMEOUT_MAX: Duration = Duration::from_secs(60 * 60);

fn timeout(options: &Options, key: &'static str) -> Result<Duration> {
    let timeout = options.duration(key)?.unwrap_or(Duration::from_secs(5));
    if timeout.is_zero() || timeout > TIMEOUT_MAX {
        let why = format!("a {key} of {timeout:?} is not possible");
        return Err(config(why, key, &format!("set more than 0 and at most {TIMEOUT_MAX:?}")));
    }
    Ok(timeout)
}

/// Tells whether a text can begin subjects.
fn is_subject(text: &str) -> bool {
    let plain = |c: char| !(c <= ' ' || c == '\u{7f}' || matches!(c, '*' | '>' | '$' | '%'));
    text.split('.').all(|token| !token.is_empty()) && text.chars().all(plain)
}

impl Settings {
    pub(super) fn read(options: &Options) -> Result<Self> {
        options.check(SETTINGS)?;
        let prefix = options.text("prefix").unwrap_or("events");
        if !is_subject(prefix) || prefix.len() > 100 {
            let why = format!("`{prefix}` can't begin subjects");
            let hint = "allowed: words with dots between, without blanks, *, >, $ and %, such as shop.events";
            return Err(config(why, "prefix", hint));
        }
        let derived = prefix.replace('.', "_");
        let stream = options.text("stream").unwrap_or(&derived);
        let plain = |c: char| c.is_ascii_alphanumeric() || c == '-' || c == '_';
        if stream.is_empty() || stream.len() > 200 || !stream.chars().all(plain) {
            let why = format!("`{stream}` is not the name of a stream");
            let hint = "set `stream` to letters, digits, - and _";
            return Err(config(why, "stream", hint));
        }
        let api = match options.text("domain") {
            Some(domain) if domain.contains('.') || !is_subject(domain) => {
                let why = format!("`{domain}` is not a domain of JetStream");
                return Err(config(
                    why,
                    "domain",
                    "allowed: one word, as the server's settings have it",
                ));
            }
            Some(domain) => format!("$JS.{domain}.API"),
            None => "$JS.API".into(),
        };
        let switch = [("true", true), ("false", false)];
        Ok(Self {
            server: Server::read(options)?,
            jetstream: options.one_of("jetstream", &switch)?.unwrap_or(true),
            api,
            prefix: prefix.into(),
            stream: stream.into(),
            limits: Limits::read(options)?,
            format: Format::of(options)?,
        })
    }
}

impl Limits {
    fn read(options: &Options) -> Result<Self> {
        let number = |key: &'static str, most: u64| {
            let Some(text) = options.text(key) else { return Ok(None) };
            match text.parse::<u64>().ok().filter(|n| (1..=most).contains(n)) {
                None => {
                    let why = format!("`{text}` is not a value of `{key}`");
                    Err(config(why, key, "allowed: a whole number from 1 on, such as 3"))
                }
                number => Ok(number),
            }
        };
        let hard = options.one_of("trim", &[("settled", false), ("hard", true)])?.unwrap_or(false);
        let day = Duration::from_secs(24 * 60 * 60);
        let window = options.duration("duplicate_window")?.unwrap_or(WINDOW);
        if !window.is_zero() && window < Duration::from_millis(100) {
            let why = format!("a duplicate_window of {window:?} is not possible");
            return Err(config(why, "duplicate_window", "set 100ms or more, or 0s for none"));
        }
        let max_bytes = options.size("max_bytes")?;
        if max_bytes.is_some_and(|bytes| bytes == 0 || bytes > i64::MAX.unsigned_abs()) {
            return Err(config("no event has room there", "max_bytes", "set a size such as 1GiB"));
        }
        let storage = [("file", "file"), ("memory", "memory")];
        Ok(Self {
            storage: options.one_of("storage", &storage)?.unwrap_or("file"),
            replicas: number("replicas", 5)?.unwrap_or(1),
            max_len: number("max_len", i64::MAX.unsigned_abs())?,
            max_bytes,
            hard,
            retention: options.duration("retention")?.or((!hard).then_some(day)),
            window: (!window.is_zero()).then_some(window),
        })
    }
}
