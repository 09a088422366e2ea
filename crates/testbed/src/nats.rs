//! NATS.

use crate::{
    certificates,
    error::{Error, Result},
    folder::Folder,
    port::random,
    programs::{self, Program},
    server::{Launch, Plan, Server},
    tls::{Tls, tls_options},
    url::{encoded, encoded_path},
};
use rustix::process::Signal;
use std::{
    fs,
    io::{self, BufRead, BufReader},
    net::TcpStream,
    ops::Deref,
    time::Duration,
};

/// How long a server may take to say what it is.
const PATIENCE: Duration = Duration::from_secs(2);

/// A NATS server of its own, at least version 2.9, with JetStream unless that is left out.
///
/// What all servers have (`port`, `kill`, `start_again`, ..) is in [`Server`].
#[derive(Debug)]
pub struct Nats {
    server: Server,
    options: NatsOptions,
}

impl Nats {
    /// Starts a server without password and encryption.
    ///
    /// # Errors
    ///
    /// There is no NATS and it can't be installed, or it does not come up.
    pub fn start() -> Result<Self> {
        Self::options().start()
    }

    /// Returns what may be said of a server before it starts.
    pub fn options() -> NatsOptions {
        NatsOptions::default()
    }

    /// Returns its URL, with what it takes to be let in.
    pub fn url(&self) -> String {
        let identity = match (&self.options.user, &self.options.token) {
            (Some((name, password)), _) => format!("{}:{}@", encoded(name), encoded(password)),
            (None, Some(token)) => format!("{}@", encoded(token)),
            (None, None) => String::new(),
        };
        let mut url = format!("nats://{identity}{}", self.address());
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

    /// Has it let in that user instead of the one before, once it is started again.
    ///
    /// # Errors
    ///
    /// Its file of settings can't be written.
    pub fn let_in(&self, name: &str, password: &str) -> Result<()> {
        let file = self.folder().join("users.conf");
        fs::write(&file, users(&[(name, password)], "")?)
            .map_err(|e| Error::new(format!("{}: {e}", file.display())))
    }
}

impl Deref for Nats {
    type Target = Server;

    fn deref(&self) -> &Server {
        &self.server
    }
}

/// What may be said of a [`Nats`] before it starts.
#[derive(Clone, Debug, Default)]
pub struct NatsOptions {
    user: Option<(String, String)>,
    rights: String,
    token: Option<String>,
    nkey: Option<String>,
    without_jetstream: bool,
    tls: Tls,
    settings: Vec<(String, String)>,
}

impl NatsOptions {
    /// Lets in this user alone; [`Nats::url`] names it.
    #[must_use]
    pub fn user(mut self, name: &str, password: &str) -> Self {
        self.user = Some((name.into(), password.into()));
        self
    }

    /// Gives the user these permissions, as in the server's file: `publish: ["a.>"]`.
    #[must_use]
    pub fn rights(mut self, permissions: &str) -> Self {
        self.rights = permissions.into();
        self
    }

    /// Lets in who has this token; [`Nats::url`] names it.
    #[must_use]
    pub fn token(mut self, token: &str) -> Self {
        self.token = Some(token.into());
        self
    }

    /// Lets in who has the seed of this public key.
    #[must_use]
    pub fn nkey(mut self, public: &str) -> Self {
        self.nkey = Some(public.into());
        self
    }

    /// Leaves JetStream out: nothing is kept.
    #[must_use]
    pub fn without_jetstream(mut self) -> Self {
        self.without_jetstream = true;
        self
    }

    tls_options!();

    /// Adds a setting, as in the server's file: `max_payload`, `64KB`.
    #[must_use]
    pub fn setting(mut self, name: &str, value: &str) -> Self {
        self.settings.push((name.into(), value.into()));
        self
    }

    /// Starts the server and waits until it answers.
    ///
    /// # Errors
    ///
    /// As for [`Nats::start`].
    pub fn start(self) -> Result<Nats> {
        let program = programs::find(&programs::NATS)?;
        let folder = Folder::new(None, "KILL")?;
        let name = format!("testbed-{:x}", random());
        // The port is in a file, since another may be tried.
        let (at, own) = (folder.path().join("port"), format!("\"server_name\":\"{name}\""));
        let ready = move || {
            let port: u16 = fs::read_to_string(&at)?.parse().map_err(io::Error::other)?;
            Ok(says(port)?.contains(&own))
        };
        let plan = Plan { name: "NATS", user: None, orderly: Signal::TERM, folder };
        let server = Server::begin(plan, Box::new(ready), |folder, port| {
            self.configure(&program, folder, port, &name)
        })?;
        Ok(Nats { server, options: self })
    }

    fn configure(
        &self,
        program: &Program,
        folder: &Folder,
        port: u16,
        name: &str,
    ) -> Result<Launch> {
        let at = folder.path().display();
        folder.write("port", &port.to_string(), None)?;
        let mut lines =
            vec![format!("listen: \"127.0.0.1:{port}\""), format!("server_name: \"{name}\"")];
        if !self.without_jetstream {
            lines.push(format!(
                "jetstream {{ store_dir: \"{at}/store\", max_memory_store: 268435456, max_file_store: \
                 4294967296 }}"
            ));
        }
        lines.extend(self.encryption(folder)?);
        lines.extend(self.settings.iter().map(|(name, value)| format!("{name}: {value}")));
        let users = match (&self.user, &self.token, &self.nkey) {
            (Some((name, password)), ..) => users(&[(name, password)], &self.rights)?,
            (None, Some(token), _) => format!("authorization {{ token: {} }}\n", quoted(token)?),
            (None, None, Some(key)) => {
                format!("authorization {{ users: [ {{ nkey: {key} }} ] }}\n")
            }
            (None, None, None) => String::new(),
        };
        folder.write("users.conf", &users, None)?;
        lines.push("include \"users.conf\"".into());
        let file = folder.write("nats.conf", &(lines.join("\n") + "\n"), None)?;
        let args = vec!["-c".into(), file.into_os_string()];
        Ok(Launch { program: program.clone(), args, disk: None })
    }

    fn encryption(&self, folder: &Folder) -> Result<Vec<String>> {
        if !self.tls.is_on {
            return Ok(Vec::new());
        }
        certificates::make(folder, None, &self.tls.names(), "client")?;
        let at = folder.path().display();
        let (certificate, key) = certificates::SERVER;
        let verify = self.tls.asks_clients;
        Ok(vec![format!(
            "tls {{ cert_file: \"{at}/{certificate}\", key_file: \"{at}/{key}\", ca_file: \"{at}/{}\", \
             verify: {verify} }}",
            certificates::CA
        )])
    }
}

fn users(users: &[(&str, &str)], rights: &str) -> Result<String> {
    let mut all = String::new();
    for (name, password) in users {
        let (name, password) = (quoted(name)?, quoted(password)?);
        all += &format!("{{ user: {name}, password: {password}, permissions: {{ {rights} }} }}");
    }
    Ok(format!("authorization {{ users: [ {all} ] }}\n"))
}

/// Returns the first line that a server says to whoever connects.
fn says(port: u16) -> io::Result<String> {
    let stream = TcpStream::connect(crate::port::address(port))?;
    stream.set_read_timeout(Some(PATIENCE))?;
    let mut line = String::new();
    BufReader::new(stream).read_line(&mut line)?;
    Ok(line)
}

/// Writes a value as the server's settings have it.
fn quoted(value: &str) -> Result<String> {
    if value.contains(['\n', '\r']) {
        return Err(Error::new("a name or password with a line break"));
    }
    Ok(format!("\"{}\"", value.replace('\\', "\\\\").replace('"', "\\\"")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_passwords_may_have_quotes() {
        let text = users(&[("a\"b", "c\\d")], "publish: \"x\"").unwrap();
        assert!(text.contains(r#"user: "a\"b", password: "c\\d""#), "{text}");
        assert!(users(&[("a\n", "b")], "").is_err());
    }
}
