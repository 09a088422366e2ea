//! What can be set for a server, and what pub/sub on it guarantees.

use crate::{
    backend::{Batch, Broadcast, Capability, Fencing, Keyed, Ordering, Patterns, Release, Replay},
    codec::Format,
    error::{Error, ErrorKind, Result},
    options::{Options, Setting},
};
use std::{fmt, fs, time::Duration};

/// What the redis backend guarantees.
pub const CAPABILITY: Capability = Capability {
    name: "redis",
    broadcast: Broadcast::Live,
    groups: false,
    ordering: Ordering::Total,
    keyed: Keyed::None,
    counts_attempts: false,
    fencing: Fencing::None,
    lease_min: None,
    extends: false,
    lease_max: None,
    delay_max: None,
    publish_delay_max: None,
    withdraws: false,
    delay_step: Duration::from_millis(1),
    dedup: None,
    patterns: Patterns::Client,
    replay: Replay::None,
    dead_letters: false,
    keeps_finished: false,
    keeps_history: false,
    release: Release::Free,
    batch: Batch::BestEffort,
    positions: false,
    journal: false,
    durable: false,
    payload_max: 16 << 20,
    metadata_max: usize::MAX,
    batch_max: 10_000,
};

/// What every backend on a Redis server can be told in the URL, the table or the map.
macro_rules! server_settings {
    ($($more:expr),* $(,)?) => {
        &[
            Setting { key: "host", help: "the server's name or address (default localhost)" },
            Setting { key: "port", help: "its port (default 6379)" },
            Setting { key: "user", help: "the user of its access list (default: the server's `default`)" },
            Setting { key: "password", help: "the user's password" },
            Setting { key: "database", help: "the number of the database (default 0); channels are the same in all of them" },
            Setting { key: "tls", help: "true: the connection is encrypted, as rediss: says (default false)" },
            Setting { key: "tls_ca", help: "a PEM file of the authorities to trust instead of the system's" },
            Setting { key: "tls_cert", help: "a PEM file of the client's certificate" },
            Setting { key: "tls_key", help: "a PEM file of the client's key" },
            Setting { key: "connect_timeout", help: "how long connecting may take (default 5s)" },
            Setting { key: "timeout", help: "how long the server may take to answer (default 5s)" },
            $($more),*
        ]
    };
}
pub(in crate::backends) use server_settings;

/// What can be set in the URL, the table or the map.
pub const SETTINGS: &[Setting] = server_settings![
    Setting { key: "prefix", help: "what channels begin with, `prefix:topic` (default events)" },
    Format::SETTING
];

/// The prefix of channels, and the name of the stream, unless another is set.
pub(in crate::backends) const PREFIX: &str = "events";

/// Where a server is and as whom, checked.
#[derive(Clone)]
pub(in crate::backends) struct Server {
    pub(in crate::backends) host: String,
    pub(in crate::backends) port: u16,
    pub(in crate::backends) user: Option<String>,
    pub(in crate::backends) password: Option<String>,
    pub(in crate::backends) database: u16,
    pub(in crate::backends) tls: Option<Tls>,
    pub(in crate::backends) connect_timeout: Duration,
    pub(in crate::backends) timeout: Duration,
    /// The keys and channels that its user needs, as an access list has them.
    pub(in crate::backends) needs: String,
}

/// What files an encrypted connection needs.
#[derive(Clone, Debug, Default)]
pub(in crate::backends) struct Tls {
    ca: Option<String>,
    identity: Option<(String, String)>,
}

impl fmt::Debug for Server {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Server").field(&self.to_string()).finish()
    }
}

impl fmt::Display for Server {
    /// Writes where it is, without its secrets.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.host.contains(':') {
            true => write!(f, "[{}]:{}/{}", self.host, self.port, self.database),
            false => write!(f, "{}:{}/{}", self.host, self.port, self.database),
        }
    }
}

impl Server {
    /// Reads where a server is; the keys have been checked.
    pub(in crate::backends) fn read(options: &Options) -> Result<Self> {
        let number = |key, default| {
            let Some(text) = options.text(key) else { return Ok(default) };
            text.parse::<u16>().map_err(|e| {
                let why = format!("`{text}` is not a value of `{key}`");
                Error::new(ErrorKind::Config, "open redis", why)
                    .because(e)
                    .hint("allowed: a whole number up to 65535")
            })
        };
        let text = |key| options.text(key).filter(|text| !text.is_empty()).map(str::to_owned);
        let host = text("host").unwrap_or_else(|| "localhost".into());
        if host.contains(',') {
            let why = "several hosts are named, and one server is used";
            return Err(Error::new(ErrorKind::Unsupported, "open redis", why)
                .with("host", &host)
                .hint("name one host; a cluster or sentinels are not used"));
        }
        let password = text("password");
        if text("user").is_some() && password.is_none() {
            let why = "a user is named without a password";
            return Err(Error::new(ErrorKind::Config, "open redis", why)
                .hint("set `password`; a password alone is written redis://:PASSWORD@HOST"));
        }
        Ok(Self {
            host,
            port: number("port", 6379)?,
            user: text("user"),
            password,
            database: number("database", 0)?,
            tls: Tls::read(options)?,
            connect_timeout: timeout(options, "connect_timeout")?,
            timeout: timeout(options, "timeout")?,
            needs: String::new(),
        })
    }

    /// Returns by which name the server knows its user.
    pub(in crate::backends) fn user(&self) -> &str {
        self.user.as_deref().unwrap_or("default")
    }
}

/// The longest that a server may take.
const TIMEOUT_MAX: Duration = Duration::from_secs(60 * 60);

fn timeout(options: &Options, key: &'static str) -> Result<Duration> {
    let timeout = options.duration(key)?.unwrap_or(Duration::from_secs(5));
    if timeout.is_zero() || timeout > TIMEOUT_MAX {
        let why = format!("a {key} of {timeout:?} is not possible");
        return Err(Error::new(ErrorKind::Config, "open redis", why)
            .with("setting", key)
            .hint(format!("set more than 0 and at most {TIMEOUT_MAX:?}")));
    }
    Ok(timeout)
}

impl Tls {
    fn read(options: &Options) -> Result<Option<Self>> {
        let text = |key| options.text(key).map(str::to_owned);
        let on = options.one_of("tls", &[("true", true), ("false", false)])?.unwrap_or(false);
        let config = |why: String, hint: &str| {
            Err(Error::new(ErrorKind::Config, "open redis", why).hint(hint))
        };
        let (ca, cert, key) = (text("tls_ca"), text("tls_cert"), text("tls_key"));
        let files = [("tls_ca", &ca), ("tls_cert", &cert), ("tls_key", &key)];
        if let (false, Some((name, _))) = (on, files.iter().find(|(_, file)| file.is_some())) {
            let why = format!("`{name}` is set for a connection that is not encrypted");
            return config(why, "write rediss: for redis:, or set tls = true");
        }
        let identity = match (cert, key) {
            (Some(cert), Some(key)) => Some((cert, key)),
            (None, None) => None,
            _ => {
                let why = "of `tls_cert` and `tls_key` one is missing".into();
                return config(why, "set both: a certificate is of no use without its key");
            }
        };
        Ok(on.then_some(Self { ca, identity }))
    }

    /// Reads the files.
    pub(in crate::backends) fn certificates(&self) -> Result<redis::TlsCertificates> {
        let read = |key: &'static str, path: &String| {
            fs::read(path).map_err(|e| {
                Error::new(ErrorKind::Config, "open redis", format!("`{key}` can't be read"))
                    .with("file", path)
                    .because(e)
            })
        };
        let client_tls = match &self.identity {
            None => None,
            Some((cert, key)) => Some(redis::ClientTlsConfig {
                client_cert: read("tls_cert", cert)?,
                client_key: read("tls_key", key)?,
            }),
        };
        let root_cert = self.ca.as_ref().map(|ca| read("tls_ca", ca)).transpose()?;
        Ok(redis::TlsCertificates { client_tls, root_cert })
    }
}

/// Reads the prefix of channels.
pub(super) fn prefix(options: &Options) -> Result<String> {
    match options.text("prefix") {
        Some(prefix) if prefix.is_empty() || prefix.contains('\0') => {
            Err(Error::new(ErrorKind::Config, "open redis", "the prefix is empty or has a NUL")
                .with("setting", "prefix")
                .hint("set what channels begin with, such as events"))
        }
        prefix => Ok(prefix.unwrap_or(PREFIX).to_owned()),
    }
}
