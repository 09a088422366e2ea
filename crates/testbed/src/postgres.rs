//! PostgreSQL.

use crate::{
    certificates, cluster,
    error::{Doing, Error, Result},
    folder::Folder,
    programs::{self, Program},
    server::{Disk, Launch, Plan, Server},
    tls::{Tls, tls_options},
    url::{encoded, encoded_path},
    user::User,
};
use rustix::process::Signal;
use std::{
    fmt,
    io::{self, Read, Write},
    ops::Deref,
    os::unix::net::UnixStream,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    sync::atomic::{AtomicUsize, Ordering},
    time::Duration,
};

/// A PostgreSQL server of its own, at least version 13.
///
/// What is committed outlives the process, however it ends, but not the machine: nothing is synced
/// to the disk unless [`PostgresOptions::fsync`] says so. What all servers have (`port`, `kill`,
/// `start_again`, ..) is in [`Server`].
#[derive(Debug)]
pub struct Postgres {
    server: Server,
    options: PostgresOptions,
    databases: AtomicUsize,
}

impl Postgres {
    /// Starts a server that lets everyone in on this machine.
    ///
    /// # Errors
    ///
    /// There is no PostgreSQL and it can't be installed, or it does not come up.
    pub fn start() -> Result<Self> {
        Self::options().start()
    }

    /// Returns what may be said of a server before it starts.
    pub fn options() -> PostgresOptions {
        PostgresOptions::default()
    }

    /// Returns the URL of the database `postgres` with that scheme, as the user `postgres`, who
    /// may do everything.
    pub fn url(&self, scheme: &str) -> String {
        self.url_of(scheme, cluster::OWNER, cluster::OWNER, self.password())
    }

    /// Creates a database that nobody else has.
    ///
    /// # Errors
    ///
    /// The server does not answer.
    pub fn database(&self) -> Result<Database<'_>> {
        let number = self.databases.fetch_add(1, Ordering::Relaxed) + 1;
        let name = format!("test_{number}");
        self.psql(cluster::OWNER, &format!("CREATE DATABASE {name}"))?;
        Ok(Database { postgres: self, name })
    }

    /// Returns the URL of the database `postgres` with that scheme, as another user.
    pub fn url_as(&self, scheme: &str, role: &str, password: &str) -> String {
        self.url_of(scheme, cluster::OWNER, role, Some(password))
    }

    /// Creates a user who may log in with that password, and nothing else.
    ///
    /// # Errors
    ///
    /// The server does not answer, or there is such a user.
    pub fn role(&self, name: &str, password: &str) -> Result<()> {
        let (name, password) = (name.replace('"', "\"\""), password.replace('\'', "''"));
        let sql = format!("CREATE ROLE \"{name}\" LOGIN PASSWORD '{password}'");
        self.psql(cluster::OWNER, &sql).map(drop)
    }

    /// Runs SQL in that database as the user `postgres`, by way of the server's socket, whatever
    /// is in the way of others; returns the rows, a line each, with `|` between columns.
    ///
    /// # Errors
    ///
    /// The server does not answer, or a statement fails: those before it stay done.
    pub fn psql(&self, database: &str, sql: &str) -> Result<String> {
        let (folder, port) = (self.folder().display(), self.port());
        let owner = cluster::OWNER;
        self.psql_at(&format!("host={folder} port={port} user={owner} dbname={database}"), sql)
    }

    /// Runs SQL by way of that URL (`postgresql://`), as [`Postgres::psql`] does.
    ///
    /// # Errors
    ///
    /// As for [`Postgres::psql`], or whoever the URL says is not let in.
    pub fn psql_at(&self, url: &str, sql: &str) -> Result<String> {
        let program = self.program();
        let mut command = Command::new(program.beside("psql"));
        program.surroundings(&mut command);
        program.within(&mut command, None, self.folder());
        command.args(["-X", "-A", "-t", "-q", "-v", "ON_ERROR_STOP=1", "-d", url, "-c", sql]);
        let output = command.stdin(Stdio::null()).output().doing(|| "start psql".into())?;
        if !output.status.success() {
            let said = String::from_utf8_lossy(&output.stderr);
            return Err(Error::new(format!("psql: {}", said.trim())));
        }
        Ok(String::from_utf8_lossy(&output.stdout).trim_end_matches('\n').to_owned())
    }

    /// Creates a database on the small disk, which has about eight million bytes of its own.
    ///
    /// # Errors
    ///
    /// The server was started without [`PostgresOptions::small_disk`], or does not answer.
    pub fn small_database(&self) -> Result<Database<'_>> {
        let number = self.databases.fetch_add(1, Ordering::Relaxed) + 1;
        let name = format!("small_{number}");
        let at = small_disk(self.folder()).display().to_string();
        let owner = cluster::OWNER;
        if self.psql(owner, "SELECT count(*) FROM pg_tablespace WHERE spcname = 'small'")? == "0" {
            self.psql(owner, &format!("CREATE TABLESPACE small LOCATION '{at}'"))?;
        }
        self.psql(owner, &format!("CREATE DATABASE {name} TABLESPACE small"))?;
        Ok(Database { postgres: self, name })
    }

    pub(crate) fn options_of(&self) -> &PostgresOptions {
        &self.options
    }

    pub(crate) fn password(&self) -> Option<&str> {
        self.options.password.as_deref()
    }

    fn url_of(&self, scheme: &str, database: &str, role: &str, password: Option<&str>) -> String {
        let password = password.map(|p| format!(":{}", encoded(p))).unwrap_or_default();
        let identity = format!("{}{password}", encoded(role));
        let mut url = format!("{scheme}://{identity}@{}/{database}", self.address());
        let tls = &self.options.tls;
        if tls.is_on {
            let ca = encoded_path(&self.ca_path());
            url += &format!("?sslmode=verify-full&sslrootcert={ca}");
        }
        if tls.asks_clients {
            let certificate = encoded_path(&self.client_cert_path());
            let key = encoded_path(&self.client_key_path());
            url += &format!("&sslcert={certificate}&sslkey={key}");
        }
        url
    }
}

impl Deref for Postgres {
    type Target = Server;

    fn deref(&self) -> &Server {
        &self.server
    }
}

/// A database of a [`Postgres`] that was made for one test.
pub struct Database<'a> {
    postgres: &'a Postgres,
    name: String,
}

impl Database<'_> {
    /// Returns the database's name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Returns its URL with that scheme, as the user `postgres`.
    pub fn url(&self, scheme: &str) -> String {
        let password = self.postgres.password();
        self.postgres.url_of(scheme, &self.name, cluster::OWNER, password)
    }

    /// Returns its URL with that scheme, as another user.
    pub fn url_as(&self, scheme: &str, role: &str, password: &str) -> String {
        self.postgres.url_of(scheme, &self.name, role, Some(password))
    }

    /// Runs SQL in it, as [`Postgres::psql`] does.
    ///
    /// # Errors
    ///
    /// As for [`Postgres::psql`].
    pub fn psql(&self, sql: &str) -> Result<String> {
        self.postgres.psql(&self.name, sql)
    }
}

impl fmt::Debug for Database<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Database").field("name", &self.name).finish_non_exhaustive()
    }
}

/// What may be said of a [`Postgres`] before it starts.
#[derive(Clone, Debug, Default)]
pub struct PostgresOptions {
    password: Option<String>,
    fsync: bool,
    tls: Tls,
    small: Option<u64>,
    settings: Vec<(String, String)>,
}

impl PostgresOptions {
    /// Sets the password of the user `postgres`, without which nobody is let in.
    #[must_use]
    pub fn password(mut self, password: &str) -> Self {
        self.password = Some(password.into());
        self
    }

    /// Has what is committed synced to the disk; off by default, since no test ends the machine.
    #[must_use]
    pub fn fsync(mut self, on: bool) -> Self {
        self.fsync = on;
        self
    }

    tls_options!();

    /// Takes a setting out.
    pub(crate) fn without(mut self, name: &str) -> Self {
        self.settings.retain(|(known, _)| known != name);
        self
    }

    /// Adds a setting, as `postgresql.conf` has them: `max_connections`, `20`.
    #[must_use]
    pub fn setting(mut self, name: &str, value: &str) -> Self {
        self.settings.push((name.into(), value.into()));
        self
    }

    /// Adds a disk of its own with so many bytes, for [`Postgres::small_database`]. It is in memory, and
    /// empty after [`Server::start_again`]. Only root can have one.
    #[must_use]
    pub fn small_disk(mut self, bytes: u64) -> Self {
        self.small = Some(bytes);
        self
    }

    /// Starts the server and waits until it answers.
    ///
    /// # Errors
    ///
    /// As for [`Postgres::start`].
    pub fn start(self) -> Result<Postgres> {
        let postgres = self.start_on(cluster::copy)?;
        if let Some(password) = postgres.password() {
            let owner = cluster::OWNER;
            let sql = format!("ALTER ROLE {owner} PASSWORD '{}'", password.replace('\'', "''"));
            postgres.psql(owner, &sql)?;
        }
        Ok(postgres)
    }

    /// Starts a server on the data that `fill` puts into its folder.
    pub(crate) fn start_on(
        self,
        fill: impl FnOnce(&Program, Option<User>, &Folder) -> Result<PathBuf>,
    ) -> Result<Postgres> {
        let program = programs::find(&programs::POSTGRES)?;
        let user = User::without_rights()?;
        // It ends at once and takes its processes and its shared memory along.
        let folder = Folder::new(user, "QUIT")?;
        let program = program.for_user(user, &folder)?;
        fill(&program, user, &folder)?;
        let socket = folder.path().to_owned();
        let ready = move || answers(&socket, cluster::OWNER);
        let plan = Plan { name: "PostgreSQL", user, orderly: Signal::INT, folder };
        let server = Server::begin(plan, Box::new(ready), |folder, port| {
            self.configure(&program, folder, port, user)
        })?;
        let databases = AtomicUsize::new(0);
        Ok(Postgres { server, options: self, databases })
    }

    fn configure(
        &self,
        program: &Program,
        folder: &Folder,
        port: u16,
        user: Option<User>,
    ) -> Result<Launch> {
        let at = folder.path().display();
        let method = if self.password.is_some() { "scram-sha-256" } else { "trust" };
        // What is not encrypted is not let in where it should be.
        let host = if self.tls.is_on { "hostssl" } else { "host" };
        let client = if self.tls.asks_clients { " clientcert=verify-ca" } else { "" };
        let access = format!(
            "local all,replication all trust\n{host} all all 127.0.0.1/32 {method}{client}\n"
        );
        folder.write("hba.conf", &access, user)?;
        let on = |on: bool| if on { "on" } else { "off" }.to_owned();
        let mut settings = vec![
            ("listen_addresses", "127.0.0.1".into()),
            ("port", port.to_string()),
            ("unix_socket_directories", at.to_string()),
            ("hba_file", format!("{at}/hba.conf")),
            ("fsync", on(self.fsync)),
            ("full_page_writes", on(self.fsync)),
            ("jit", "off".into()),
            // In files of its own folder, which go with it: others outlive a kill.
            ("dynamic_shared_memory_type", "mmap".into()),
        ];
        if self.tls.is_on {
            certificates::make(folder, user, &self.tls.names(), cluster::OWNER)?;
            let file = |name: &str| format!("{at}/{name}");
            settings.extend([
                ("ssl", "on".into()),
                ("ssl_ca_file", file(certificates::CA)),
                ("ssl_cert_file", file(certificates::SERVER.0)),
                ("ssl_key_file", file(certificates::SERVER.1)),
            ]);
        }
        let own = self.settings.iter().map(|(name, value)| (name.as_str(), value.clone()));
        settings.extend(own);
        let mut args = vec!["-D".into(), folder.path().join("data").into_os_string()];
        for (name, value) in settings {
            args.extend(["-c".into(), format!("{name}={value}").into()]);
        }
        let disk = self.small.map(|bytes| Disk { at: small_disk(folder.path()), bytes });
        Ok(Launch { program: program.clone(), args, disk })
    }
}

/// Where the small disk of a server is.
fn small_disk(folder: &Path) -> PathBuf {
    folder.join("small")
}

/// Asks to be let in: whoever is refused was answered, except by a server that is starting.
pub(crate) fn answers(folder: &Path, database: &str) -> io::Result<bool> {
    let sockets = std::fs::read_dir(folder)?.filter_map(|entry| Some(entry.ok()?.path()));
    let is_socket = |path: &PathBuf| {
        let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
        name.starts_with(".s.PGSQL.") && !name.ends_with(".lock")
    };
    let Some(path) = sockets.into_iter().find(is_socket) else { return Ok(false) };
    let mut stream = UnixStream::connect(path)?;
    stream.set_read_timeout(Some(Duration::from_secs(5)))?;
    let mut message = vec![0, 0, 0, 0, 0, 3, 0, 0];
    message.extend(format!("user\0{}\0database\0{database}\0\0", cluster::OWNER).into_bytes());
    let length = u32::try_from(message.len()).unwrap_or(0);
    message[..4].copy_from_slice(&length.to_be_bytes());
    stream.write_all(&message)?;
    let mut answer = [0; 512];
    let length = stream.read(&mut answer)?;
    let starting = answer.windows(5).any(|code| code == b"57P03");
    Ok(length > 0 && !starting)
}
