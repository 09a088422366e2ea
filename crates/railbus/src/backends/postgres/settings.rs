//! What can be set for a connection, from the options and the environment, and its checks.

use super::tls::{Mode, Tls};
use crate::{
    error::{Error, ErrorKind, Result},
    options::{Options, Setting},
};
use std::{env, fmt, path::PathBuf, time::Duration};
use tokio_postgres::config::{Config, SslMode, TargetSessionAttrs};

/// What can be set for every backend on PostgreSQL.
pub(in crate::backends) const SERVER: [Setting; 15] = [
    Setting {
        key: "host",
        help: "a name, an address, the folder of a Unix socket, or several, joined by commas (default PGHOST, else localhost)",
    },
    Setting { key: "port", help: "from 1 to 65535 (default PGPORT, else 5432)" },
    Setting { key: "user", help: "who connects (default PGUSER, else this system's user)" },
    Setting { key: "password", help: "their password (default PGPASSWORD)" },
    Setting { key: "database", help: "which database (default PGDATABASE, else the user's name)" },
    Setting {
        key: "tls",
        help: "true: encrypted, and the server proves who it is (sslmode verify-full); false: never (sslmode disable)",
    },
    Setting {
        key: "sslmode",
        help: "disable, allow, prefer, require, verify-ca or verify-full, as psql means them (default PGSSLMODE, else verify-full where tls_ca is set, else prefer)",
    },
    Setting {
        key: "tls_ca",
        help: "a PEM file with the authorities to trust (default those of this system)",
    },
    Setting { key: "tls_cert", help: "a PEM file with this client's certificate" },
    Setting { key: "tls_key", help: "a PEM file with the key of tls_cert" },
    Setting {
        key: "prefix",
        help: "what its channels and tables are for: programs hear each other if they share it (default railbus)",
    },
    Setting { key: "schema", help: "where its tables are (default railbus)" },
    Setting {
        key: "application_name",
        help: "how the server lists the connections (default railbus)",
    },
    Setting {
        key: "connect_timeout",
        help: "how long connecting may take, and how long work waits for a server that is away (default 10s)",
    },
    Setting {
        key: "statement_timeout",
        help: "how long an answer may take before the connection is given up (default 10s)",
    },
];

/// Joins what all backends on PostgreSQL take and what one takes beside.
pub(in crate::backends) const fn with_server<const N: usize, const ALL: usize>(
    own: [Setting; N],
) -> [Setting; ALL] {
    assert!(ALL == N + SERVER.len(), "the lists must fit");
    let mut all = [SERVER[0]; ALL];
    let mut at = 0;
    while at < ALL {
        all[at] = if at < SERVER.len() { SERVER[at] } else { own[at - SERVER.len()] };
        at += 1;
    }
    all
}

const OPERATION: &str = "open postgres";

/// The longest name of a schema, a channel or a table, in bytes.
const IDENTIFIER_MAX: usize = 63;

/// The longest prefix: the names made of it have room for what follows it.
const PREFIX_MAX: usize = 40;

/// The keys that say where the database is; `DATABASE_URL` counts where none of them is set.
const PLACE: [&str; 5] = ["host", "port", "user", "password", "database"];

/// What is taken over from `DATABASE_URL`, which other programs read, too.
const SHARED: [&str; 12] = [
    "host",
    "port",
    "user",
    "password",
    "database",
    "tls",
    "sslmode",
    "tls_ca",
    "tls_cert",
    "tls_key",
    "connect_timeout",
    "application_name",
];

/// Where a database is and how to talk to it, checked.
#[derive(Clone)]
pub(in crate::backends) struct Server {
    config: Config,
    pub(in crate::backends) tls: Tls,
    pub(in crate::backends) prefix: String,
    pub(in crate::backends) schema: String,
    pub(in crate::backends) connect_timeout: Duration,
    pub(in crate::backends) statement_timeout: Duration,
    // For messages: host, port and database.
    pub(in crate::backends) shown: String,
}

impl fmt::Debug for Server {
    /// Writes what may be shown: no password.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Server({}, {:?})", self.shown, self.tls.mode)
    }
}

impl Server {
    /// Reads the settings, and the environment for what they leave out.
    pub(in crate::backends) fn read(options: &Options) -> Result<Self> {
        Self::read_with(options, |name| env::var(name).ok().filter(|value| !value.is_empty()))
    }

    /// As [`Server::read`], in an environment that is given.
    pub(super) fn read_with(
        options: &Options,
        environment: impl Fn(&str) -> Option<String>,
    ) -> Result<Self> {
        let options = with_database_url(options, &environment)?;
        let text = |key: &str, variable: &str| {
            options.text(key).map(str::to_owned).or_else(|| environment(variable))
        };
        let host = text("host", "PGHOST");
        let is_named = PLACE.iter().any(|key| options.text(key).is_some()) || host.is_some();
        if !is_named {
            let why = "nothing says where the database is";
            return Err(Error::new(ErrorKind::Config, OPERATION, why)
                .hint("write postgres://USER@HOST/DATABASE, or set host, DATABASE_URL or PGHOST"));
        }
        let host = host.unwrap_or_else(|| "localhost".into());
        let port = text("port", "PGPORT").map(|port| port_of(&port)).transpose()?;
        let hosts = hosts(&host, port.unwrap_or(5432))?;
        let database = text("database", "PGDATABASE");
        let connect_timeout = options.duration("connect_timeout").or_else(|error| {
            // As psql has it: seconds, without their unit.
            let seconds = options.text("connect_timeout").and_then(|text| text.parse().ok());
            seconds.map(Duration::from_secs).map(Some).ok_or(error)
        })?;
        let connect_timeout = positive("connect_timeout", connect_timeout)?;
        let statement_timeout =
            positive("statement_timeout", options.duration("statement_timeout")?)?;
        let sslmode = options.text("sslmode").is_none().then(|| environment("PGSSLMODE")).flatten();
        let tls = tls(&options, sslmode.as_deref())?;
        let is_local = hosts.iter().all(|(host, _)| host.starts_with('/'));
        let mut config = Config::new();
        for (host, port) in &hosts {
            config.host(host).port(*port);
        }
        if hosts.len() > 1 {
            // A standby takes neither NOTIFY nor rows.
            config.target_session_attrs(TargetSessionAttrs::ReadWrite);
        }
        let user = text("user", "PGUSER");
        user.as_ref().inspect(|user| drop(config.user(user.as_str())));
        text("password", "PGPASSWORD").inspect(|password| drop(config.password(password)));
        database.as_ref().inspect(|name| drop(config.dbname(name.as_str())));
        config.application_name(options.text("application_name").unwrap_or("railbus"));
        config.ssl_mode(if is_local { SslMode::Disable } else { tls.mode.of_client() });
        config.tcp_user_timeout(statement_timeout).connect_timeout(connect_timeout);
        config.keepalives(true).keepalives_idle(Duration::from_secs(10));
        config.keepalives_interval(Duration::from_secs(5)).keepalives_retries(3);
        let shown = database.or(user).map(|name| format!("/{name}")).unwrap_or_default();
        let places = hosts.iter().map(|(host, port)| match host.contains(':') {
            true => format!("[{host}]:{port}"),
            false => format!("{host}:{port}"),
        });
        Ok(Self {
            config,
            tls: if is_local { Tls { mode: Mode::Disable, ..tls } } else { tls },
            prefix: name(&options, "prefix", PREFIX_MAX)?,
            schema: name(&options, "schema", IDENTIFIER_MAX)?,
            connect_timeout,
            statement_timeout,
            shown: format!("{}{shown}", places.collect::<Vec<_>>().join(",")),
        })
    }

    /// Returns the client's own settings, encrypted as `mode` says.
    pub(super) fn config(&self, mode: SslMode) -> Config {
        let mut config = self.config.clone();
        config.ssl_mode(mode);
        config
    }

    /// Tells whether the servers are on this machine, by a socket.
    pub(super) fn is_encrypted(&self) -> bool {
        self.config.get_ssl_mode() != SslMode::Disable
    }
}

/// Writes a name as SQL has it, whatever is in it.
pub(in crate::backends) fn quote(identifier: &str) -> String {
    format!("\"{}\"", identifier.replace('"', "\"\""))
}

/// Adds what `DATABASE_URL` says, where nothing else says where the database is.
fn with_database_url(
    options: &Options,
    environment: &impl Fn(&str) -> Option<String>,
) -> Result<Options> {
    let mut options = options.clone();
    let is_placed = PLACE.iter().any(|key| options.text(key).is_some());
    let Some(url) = environment("DATABASE_URL").filter(|_| !is_placed) else { return Ok(options) };
    let told = Options::parse(&url).map_err(|e| e.with("in", "DATABASE_URL"))?;
    if !told.backend().starts_with("postgres") {
        let why = "DATABASE_URL is not the URL of a PostgreSQL database";
        return Err(Error::new(ErrorKind::Config, OPERATION, why)
            .hint("write postgres://USER@HOST/DATABASE, or set host"));
    }
    for key in SHARED {
        if let (Some(value), None) = (told.text(key), options.text(key)) {
            options.set(key, value);
        }
    }
    Ok(options)
}

fn port_of(text: &str) -> Result<u16> {
    let port = text.parse::<u16>().ok().filter(|port| *port > 0);
    port.ok_or_else(|| {
        Error::new(ErrorKind::Config, OPERATION, format!("`{text}` is not a port"))
            .hint("allowed: a whole number from 1 to 65535")
    })
}

/// Reads `a`, `a:1,b:2`, `[::1]:5432` or `/run/postgresql`.
fn hosts(text: &str, port: u16) -> Result<Vec<(String, u16)>> {
    if text.split(',').any(|host| host.trim().is_empty()) {
        let why = format!("a host of `{text}` is empty");
        return Err(Error::new(ErrorKind::Config, OPERATION, why)
            .hint("write HOST, or several as HOST:PORT,HOST:PORT"));
    }
    // One alone brings its port apart, so that a colon in it is an address of version 6.
    if !text.contains(',') && !text.starts_with('[') {
        return Ok(vec![(text.into(), port)]);
    }
    let one = |host: &str| match host.strip_prefix('[').and_then(|rest| rest.split_once(']')) {
        Some((host, "")) => Ok((host.to_owned(), port)),
        Some((host, rest)) => Ok((host.to_owned(), port_of(rest.trim_start_matches(':'))?)),
        None if host.starts_with('/') => Ok((host.to_owned(), port)),
        None => match host.split_once(':') {
            Some((host, port)) => Ok((host.to_owned(), port_of(port)?)),
            None => Ok((host.to_owned(), port)),
        },
    };
    text.split(',').map(|host| one(host.trim())).collect()
}

fn positive(key: &'static str, given: Option<Duration>) -> Result<Duration> {
    match given {
        Some(Duration::ZERO) => {
            let why = format!("a {key} of 0 leaves no time");
            Err(Error::new(ErrorKind::Config, OPERATION, why)
                .with("setting", key)
                .hint("set a second or more, such as 10s"))
        }
        given => Ok(given.unwrap_or(Duration::from_secs(10))),
    }
}

/// Reads a name that becomes a part of what is in the database.
fn name(options: &Options, key: &'static str, longest: usize) -> Result<String> {
    let name = options.text(key).unwrap_or("railbus");
    if name.is_empty() || name.len() > longest || name.contains('\0') {
        let why = format!("`{}` is not a value of `{key}`", name.escape_debug());
        return Err(Error::new(ErrorKind::Config, OPERATION, why)
            .hint(format!("allowed: 1 to {longest} bytes")));
    }
    Ok(name.into())
}

fn tls(options: &Options, environment: Option<&str>) -> Result<Tls> {
    let path = |key: &str| options.text(key).map(PathBuf::from);
    let (ca, cert, key) = (path("tls_ca"), path("tls_cert"), path("tls_key"));
    let wanted = options.one_of("tls", &[("true", Mode::VerifyFull), ("false", Mode::Disable)])?;
    let named = options.one_of("sslmode", &Mode::NAMES)?;
    let config = |why: String, hint: &str| {
        Err(Error::new(ErrorKind::Config, OPERATION, why).hint(hint.to_owned()))
    };
    if let (Some(wanted), Some(named)) = (wanted, named)
        && (wanted == Mode::Disable) != (named == Mode::Disable)
    {
        let why = "`tls` and `sslmode` contradict each other".into();
        return config(why, "keep one of them");
    }
    if cert.is_some() != key.is_some() {
        let (there, missing) =
            if cert.is_some() { ("tls_cert", "tls_key") } else { ("tls_key", "tls_cert") };
        return config(format!("`{there}` is set without `{missing}`"), "set both, or neither");
    }
    let environment = environment.map(|text| {
        let known = Mode::NAMES.iter().find(|(name, _)| *name == text).map(|(_, mode)| *mode);
        known.ok_or_else(|| {
            let names = Mode::NAMES.map(|(name, _)| name).join(", ");
            let why = format!("`{text}` is not a value of `PGSSLMODE`");
            Error::new(ErrorKind::Config, OPERATION, why).hint(format!("allowed: {names}"))
        })
    });
    let mode = match (named.or(wanted), environment) {
        (Some(mode), _) => mode,
        (None, Some(mode)) => mode?,
        (None, None) if ca.is_some() => Mode::VerifyFull,
        (None, None) => Mode::Prefer,
    };
    // As psql has it: who names an authority wants it asked.
    let mode = if mode == Mode::Require && ca.is_some() { Mode::VerifyCa } else { mode };
    Ok(Tls { mode, ca, cert, key })
}
