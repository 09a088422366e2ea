//! What can be set for a connection, from the options and the environment, and its checks.

use super::{
    environment::{PLACE, with_database_url, with_psql},
    tls::{Mode, Tls},
};
use crate::{
    error::{Error, ErrorKind, Result},
    options::Options,
};
use std::{env, fmt, path::PathBuf, time::Duration};
use tokio_postgres::config::{Config, SslMode, TargetSessionAttrs};

const OPERATION: &str = "open postgres";

/// The longest name of a schema, a channel or a table, in bytes.
const IDENTIFIER_MAX: usize = 63;

/// The longest prefix: the names made of it have room for what follows it.
const PREFIX_MAX: usize = 40;

/// Where a database is and how to talk to it, checked.
#[derive(Clone)]
pub(in crate::backends) struct Server {
    config: Config,
    hosts: Vec<(String, u16)>,
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
        let options = with_psql(with_database_url(options, &environment)?, &environment);
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
        let connect_timeout = positive("connect_timeout", seconds(&options, "connect_timeout")?)?;
        let statement_timeout =
            positive("statement_timeout", options.duration("statement_timeout")?)?;
        let sslmode = options.text("sslmode").is_none().then(|| environment("PGSSLMODE")).flatten();
        let tls = tls(&options, sslmode.as_deref())?;
        let is_local = hosts.iter().all(|(host, _)| host.starts_with('/'));
        let tls = if is_local { Tls { mode: Mode::Disable, ..tls } } else { tls };
        let (user, password) = (text("user", "PGUSER"), text("password", "PGPASSWORD"));
        let mut config = reaching(hosts.len(), connect_timeout, statement_timeout);
        if let Some(user) = &user {
            config.user(user.as_str());
        }
        if let Some(password) = password {
            config.password(password);
        }
        if let Some(database) = &database {
            config.dbname(database.as_str());
        }
        config.application_name(options.text("application_name").unwrap_or("railbus"));
        Ok(Self {
            config,
            tls,
            prefix: name(&options, "prefix", PREFIX_MAX)?,
            schema: name(&options, "schema", IDENTIFIER_MAX)?,
            connect_timeout,
            statement_timeout,
            shown: shown(&hosts, database.or(user).as_deref()),
            hosts,
        })
    }

    /// Returns how many hosts there are to try.
    pub(super) fn hosts(&self) -> usize {
        self.hosts.len()
    }

    /// Returns the client's own settings for one of the hosts, encrypted as `mode` says.
    pub(super) fn config(&self, host: usize, mode: SslMode) -> Config {
        let mut config = self.config.clone();
        if let Some((host, port)) = self.hosts.get(host) {
            config.host(host).port(*port);
        }
        config.ssl_mode(mode);
        config
    }

    /// Returns how long one of the hosts is tried: one that is silent leaves time for the others.
    pub(super) fn share(&self) -> Duration {
        share_of(self.connect_timeout, self.hosts.len())
    }
}

/// Returns settings by which a server is reached, and by which it is noticed that it is not.
fn reaching(hosts: usize, connecting: Duration, answering: Duration) -> Config {
    let mut config = Config::new();
    if hosts > 1 {
        // A standby takes neither NOTIFY nor rows.
        config.target_session_attrs(TargetSessionAttrs::ReadWrite);
    }
    // A name may stand for two addresses, of which one is silent.
    config.tcp_user_timeout(answering).connect_timeout(share_of(connecting, hosts) / 2);
    config.keepalives(true).keepalives_idle(Duration::from_secs(10));
    config.keepalives_interval(Duration::from_secs(5)).keepalives_retries(3);
    config
}

fn share_of(connecting: Duration, hosts: usize) -> Duration {
    connecting / u32::try_from(hosts.max(1)).unwrap_or(u32::MAX)
}

/// Shows where a database is.
fn shown(hosts: &[(String, u16)], database: Option<&str>) -> String {
    let places = hosts.iter().map(|(host, port)| match host.contains(':') {
        true => format!("[{host}]:{port}"),
        false => format!("{host}:{port}"),
    });
    let database = database.map(|name| format!("/{name}")).unwrap_or_default();
    format!("{}{database}", places.collect::<Vec<_>>().join(","))
}

/// Writes a name as SQL has it, whatever is in it.
pub(in crate::backends) fn quote(identifier: &str) -> String {
    format!("\"{}\"", identifier.replace('"', "\"\""))
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

/// Reads a duration, which may be seconds without their unit, as psql has it.
fn seconds(options: &Options, key: &'static str) -> Result<Option<Duration>> {
    let bare = options.text(key).and_then(|text| text.parse().ok()).map(Duration::from_secs);
    bare.map_or_else(|| options.duration(key), |bare| Ok(Some(bare)))
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

#[cfg(test)]
mod tests {
    use super::*;
    use tokio_postgres::config::Host;

    fn read(url: &str, environment: &[(&str, &str)]) -> Result<Server> {
        let environment = environment.to_vec();
        Server::read_with(&Options::parse(url)?, |name| {
            let found = environment.iter().find(|(known, _)| *known == name);
            found.map(|(_, value)| (*value).to_owned())
        })
    }

    fn shown(url: &str, environment: &[(&str, &str)]) -> String {
        let server = read(url, environment).unwrap();
        let user = server.config.get_user().unwrap_or_default().to_owned();
        let password = server.config.get_password().unwrap_or_default();
        format!("{user} {} {}", String::from_utf8_lossy(password), server.shown)
    }

    #[test]
    fn what_is_set_comes_before_the_database_url_and_that_before_the_environment_of_psql() {
        let env = [
            ("DATABASE_URL", "postgresql+asyncpg://a:b@c:1/d?pgbouncer=true&schema=x"),
            ("PGHOST", "h"),
            ("PGPORT", "2"),
            ("PGUSER", "u"),
            ("PGPASSWORD", "p"),
            ("PGDATABASE", "e"),
        ];
        assert_eq!(shown("postgres://", &env), "a b c:1/d");
        assert_eq!(shown("postgres://me@here/mine", &env), "me p here:2/mine");
        assert_eq!(shown("postgres-queue://", &env[1..]), "u p h:2/e");
        assert_eq!(shown("postgres:///mine", &[]), "  localhost:5432/mine");
        let nothing = read("postgres://", &[]).unwrap_err();
        assert_eq!(nothing.kind(), ErrorKind::Config);
        let foreign = read("postgres://", &[("DATABASE_URL", "redis://h")]).unwrap_err();
        assert!(foreign.to_string().contains("DATABASE_URL"), "{foreign}");
    }

    #[test]
    fn hosts_are_names_addresses_sockets_or_several() {
        let shown = |url: &str| shown(url, &[]).trim().to_owned();
        assert_eq!(shown("postgres://[::1]:7/d"), "[::1]:7/d");
        assert_eq!(shown("postgres://a:1,b,[::1]:3/d"), "a:1,b:5432,[::1]:3/d");
        let local = read("postgres://%2Frun%2Fpg/d", &[]).unwrap();
        assert!(
            matches!(&local.config(0, SslMode::Disable).get_hosts()[0], Host::Unix(path) if path.ends_with("pg"))
        );
        assert_eq!(local.tls.mode, Mode::Disable);
        assert!(read("postgres://a,,b/d", &[]).is_err());
        assert!(read("postgres://h/d", &[("PGPORT", "65536")]).is_err());
    }

    #[test]
    fn encryption_is_what_psql_means_by_it() {
        let mode = |url: &str, env: &[(&str, &str)]| read(url, env).map(|server| server.tls.mode);
        let env = [("PGSSLMODE", "require")];
        for (query, env, expected) in [
            ("", &[][..], Mode::Prefer),
            ("", &env, Mode::Require),
            ("?tls=true", &env, Mode::VerifyFull),
            ("?ssl=false", &env, Mode::Disable),
            ("?sslmode=allow", &env, Mode::Allow),
            ("?tls=true&sslmode=verify-ca", &[], Mode::VerifyCa),
            ("?tls_ca=/ca.pem", &[], Mode::VerifyFull),
            ("?sslmode=require&sslrootcert=/ca.pem", &[], Mode::VerifyCa),
        ] {
            assert_eq!(mode(&format!("postgres://h/d{query}"), env).unwrap(), expected, "{query}");
        }
        for wrong in ["tls=true&sslmode=disable", "sslmode=full", "tls_cert=/c.pem", "tls_key=/k"] {
            let error = mode(&format!("postgres://h/d?{wrong}"), &[]).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Config, "{wrong}");
        }
        assert!(mode("postgres://h/d", &[("PGSSLMODE", "on")]).is_err());
    }

    #[test]
    fn what_psql_is_told_of_certificates_and_times_counts_where_nothing_else_is_said() {
        let env = [
            ("PGSSLMODE", "verify-ca"),
            ("PGSSLROOTCERT", "/ca.pem"),
            ("PGSSLCERT", "/c.pem"),
            ("PGSSLKEY", "/k.pem"),
            ("PGCONNECT_TIMEOUT", "3"),
            ("PGAPPNAME", "shop"),
        ];
        let of_it = |server: &Server| {
            let path =
                |path: &Option<PathBuf>| path.as_ref().map(|path| path.display().to_string());
            let Tls { mode, ca, cert, key } = &server.tls;
            let name = server.config.get_application_name().map(str::to_owned);
            let times = server.connect_timeout.as_secs();
            (*mode, [path(ca), path(cert), path(key), name], times)
        };
        let texts = |all: [&str; 4]| all.map(|text| Some(text.to_owned()));
        let told = of_it(&read("postgres://h/d", &env).unwrap());
        assert_eq!(told, (Mode::VerifyCa, texts(["/ca.pem", "/c.pem", "/k.pem", "shop"]), 3));
        let query = "sslmode=verify-full&tls_ca=/o&tls_cert=/p&tls_key=/q&connect_timeout=7s";
        let url = format!("postgres://h/d?{query}&application_name=mine");
        let said = of_it(&read(&url, &env).unwrap());
        assert_eq!(said, (Mode::VerifyFull, texts(["/o", "/p", "/q", "mine"]), 7));
        // To psql these are no limit, and the authorities of the system.
        let none = [("PGCONNECT_TIMEOUT", "0"), ("PGSSLROOTCERT", "system")];
        let (mode, files, times) = of_it(&read("postgres://h/d", &none).unwrap());
        assert_eq!((mode, &files[0], times), (Mode::Prefer, &None, 10));
        let alone = read("postgres://h/d", &[("PGSSLROOTCERT", "/ca.pem")]).unwrap();
        assert_eq!(of_it(&alone).0, Mode::Prefer);
        assert!(read("postgres://h/d", &[("PGCONNECT_TIMEOUT", "soon")]).is_err());
    }

    #[test]
    fn times_are_durations_or_as_psql_has_them_and_never_none() {
        let timeout = |query: &str| read(&format!("postgres://h/d?{query}"), &[]);
        assert_eq!(timeout("connect_timeout=3").unwrap().connect_timeout.as_secs(), 3);
        assert_eq!(timeout("connect_timeout=1m").unwrap().connect_timeout.as_secs(), 60);
        for wrong in ["connect_timeout=0", "statement_timeout=0s", "connect_timeout=soon"] {
            assert_eq!(timeout(wrong).unwrap_err().kind(), ErrorKind::Config, "{wrong}");
        }
    }

    #[test]
    fn a_password_is_never_shown() {
        let server = read("postgres://me:hunter2@h/d", &[]).unwrap();
        assert!(!format!("{server:?} {}", server.shown).contains("hunter2"));
    }
}
