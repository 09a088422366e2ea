//! Redis.

use crate::{
    certificates,
    error::{Doing, Error, Result},
    folder::Folder,
    port::random,
    programs::{self, Program},
    resp::Connection,
    server::{Launch, Plan, Server},
    tls::{Tls, tls_options},
    url::{encoded, encoded_path},
};
use rustix::process::Signal;
use std::{
    ops::Deref,
    path::{Path, PathBuf},
};

/// The user by whom the testbed itself asks the server.
const OWN_USER: &str = "testbed";

/// A Redis server of its own, at least version 7.0; it keeps nothing on disk unless asked to.
///
/// What all servers have (`port`, `kill`, `start_again`, ..) is in [`Server`].
#[derive(Debug)]
pub struct Redis {
    server: Server,
    password: String,
    options: RedisOptions,
}

impl Redis {
    /// Starts a server without password and encryption.
    ///
    /// # Errors
    ///
    /// There is no Redis and it can't be installed, or it does not come up.
    pub fn start() -> Result<Self> {
        Self::options().start()
    }

    /// Returns what may be said of a server before it starts.
    pub fn options() -> RedisOptions {
        RedisOptions::default()
    }

    /// Returns its URL with that scheme, with what it takes to be let in.
    pub fn url(&self, scheme: &str) -> String {
        let identity = match (&self.options.user, &self.options.password) {
            (Some((name, password)), _) => format!("{}:{}@", encoded(name), encoded(password)),
            (None, Some(password)) => format!(":{}@", encoded(password)),
            (None, None) => String::new(),
        };
        let mut url = format!("{scheme}://{identity}{}", self.address());
        let tls = &self.options.tls;
        if tls.is_on {
            url += &format!("?tls=true&tls_ca={}", encoded_path(&self.ca_path()));
        }
        if tls.asks_clients {
            let certificate = encoded_path(&self.client_cert_path());
            let key = encoded_path(&self.client_key_path());
            url += &format!("&tls_cert={certificate}&tls_key={key}");
        }
        url
    }

    /// Gives the server a command, by way of its socket, whatever is in the way of others; a list
    /// has a line for each item.
    ///
    /// # Errors
    ///
    /// The server does not answer, or answers with an error.
    ///
    /// # Examples
    ///
    /// ```no_run
    /// let redis = railbus_testbed::Redis::start()?;
    /// redis.command(&["SET", "a", "1"])?;
    /// assert_eq!(redis.command(&["GET", "a"])?, "1");
    /// # Ok::<(), railbus_testbed::Error>(())
    /// ```
    pub fn command(&self, command: &[&str]) -> Result<String> {
        let answer = Connection::open(&socket(self.folder()), OWN_USER, &self.password)
            .and_then(|mut connection| connection.call(command)?);
        answer.doing(|| format!("redis: {}", command.join(" ")))
    }
}

impl Deref for Redis {
    type Target = Server;

    fn deref(&self) -> &Server {
        &self.server
    }
}

/// What may be said of a [`Redis`] before it starts.
#[derive(Clone, Debug, Default)]
pub struct RedisOptions {
    password: Option<String>,
    user: Option<(String, String)>,
    appendonly: bool,
    fsync: bool,
    databases: Option<u32>,
    tls: Tls,
    args: Vec<(String, String)>,
}

impl RedisOptions {
    /// Sets the password of the default user.
    #[must_use]
    pub fn password(mut self, password: &str) -> Self {
        self.password = Some(password.into());
        self
    }

    /// Adds a user who may do everything. Without [`RedisOptions::password`] nobody else is let
    /// in; [`Redis::url`] names this one.
    #[must_use]
    pub fn user(mut self, name: &str, password: &str) -> Self {
        self.user = Some((name.into(), password.into()));
        self
    }

    /// Keeps what is written over an end of the process, also by SIGKILL; off by default.
    #[must_use]
    pub fn appendonly(mut self, on: bool) -> Self {
        self.appendonly = on;
        self
    }

    /// Has every write synced to the disk; off by default, since no test ends the machine.
    #[must_use]
    pub fn fsync(mut self, on: bool) -> Self {
        self.fsync = on;
        self
    }

    tls_options!();

    /// Sets how many databases there are; 16 by default.
    #[must_use]
    pub fn databases(mut self, count: u32) -> Self {
        self.databases = Some(count);
        self
    }

    /// Adds a setting, as on the command line or as in `redis.conf`: `--maxmemory-policy`,
    /// `allkeys-lru`.
    #[must_use]
    pub fn arg(mut self, name: &str, value: &str) -> Self {
        self.args.push((name.trim_start_matches("--").into(), value.into()));
        self
    }

    /// Starts the server and waits until it answers.
    ///
    /// # Errors
    ///
    /// As for [`Redis::start`].
    pub fn start(self) -> Result<Redis> {
        let program = programs::find(&programs::REDIS)?;
        let folder = Folder::new(None, "KILL")?;
        let password = format!("{:x}", random());
        let (socket, own) = (socket(folder.path()), password.clone());
        let ready = move || {
            let answer = Connection::open(&socket, OWN_USER, &own)?.call(&["PING"])?;
            Ok(answer? == "PONG")
        };
        let plan = Plan { name: "Redis", user: None, orderly: Signal::TERM, folder };
        let server = Server::begin(plan, Box::new(ready), |folder, port| {
            self.configure(&program, folder, port, &password)
        })?;
        Ok(Redis { server, password, options: self })
    }

    fn configure(
        &self,
        program: &Program,
        folder: &Folder,
        port: u16,
        password: &str,
    ) -> Result<Launch> {
        let (at, socket) = (folder.path().display(), socket(folder.path()));
        let mut lines = vec![
            "bind 127.0.0.1".into(),
            format!("dir {at}"),
            format!("unixsocket {}", socket.display()),
            "save \"\"".into(),
            format!("databases {}", self.databases.unwrap_or(16)),
            format!("appendonly {}", yes(self.appendonly)),
            format!("appendfsync {}", if self.fsync { "always" } else { "no" }),
            format!("user {OWN_USER} on >{password} ~* &* +@all"),
        ];
        lines.extend(self.encryption(folder, port)?);
        if let Some(password) = &self.password {
            lines.push(format!("requirepass {}", quoted(password)?));
        }
        if let Some((name, password)) = &self.user {
            let secret = quoted(&format!(">{password}"))?;
            lines.push(format!("user {} on {secret} ~* &* +@all", quoted(name)?));
            if self.password.is_none() {
                lines.push("user default off".into());
            }
        }
        let own = self.args.iter().map(|(name, value)| format!("{name} {value}"));
        lines.extend(own);
        let file = folder.write("redis.conf", &(lines.join("\n") + "\n"), None)?;
        let args = vec![file.into_os_string()];
        Ok(Launch { program: program.clone(), args, disk: None })
    }

    /// Says on which port, and whether what goes through it is encrypted.
    fn encryption(&self, folder: &Folder, port: u16) -> Result<Vec<String>> {
        if !self.tls.is_on {
            return Ok(vec![format!("port {port}")]);
        }
        certificates::make(folder, None, &self.tls.names(), "client")?;
        let at = folder.path().display();
        let (certificate, key) = certificates::SERVER;
        Ok(vec![
            "port 0".into(),
            format!("tls-port {port}"),
            format!("tls-ca-cert-file {at}/{}", certificates::CA),
            format!("tls-cert-file {at}/{certificate}"),
            format!("tls-key-file {at}/{key}"),
            format!("tls-auth-clients {}", if self.tls.asks_clients { "yes" } else { "optional" }),
        ])
    }
}

fn socket(folder: &Path) -> PathBuf {
    folder.join("redis.sock")
}

fn yes(on: bool) -> &'static str {
    if on { "yes" } else { "no" }
}

/// Writes a value as Redis's settings have it.
fn quoted(value: &str) -> Result<String> {
    if value.contains(['\n', '\r']) {
        return Err(Error::new("a name or password with a line break"));
    }
    Ok(format!("\"{}\"", value.replace('\\', "\\\\").replace('"', "\\\"")))
}
