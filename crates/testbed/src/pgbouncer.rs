//! PgBouncer, before a PostgreSQL.

use crate::{
    cluster,
    error::Result,
    folder::Folder,
    postgres::{Postgres, answers},
    programs,
    server::{Launch, Plan, Server},
    url::with_address,
    user::User,
};
use rustix::process::Signal;
use std::ops::Deref;

/// The database in which it tells of itself, server or no server.
const OWN: &str = "pgbouncer";

/// A PgBouncer of its own, before a [`Postgres`], in transaction mode: from one transaction to the
/// next a client may be on another connection to the server.
///
/// It lets in whom the server lets in, but not encrypted. What all servers have (`port`, `kill`,
/// `start_again`, ..) is in [`Server`].
#[derive(Debug)]
pub struct PgBouncer {
    server: Server,
    url: String,
}

impl PgBouncer {
    /// Starts one before that server.
    ///
    /// # Errors
    ///
    /// There is no PgBouncer and it can't be installed, or it does not come up.
    pub fn before(postgres: &Postgres) -> Result<Self> {
        Self::with(postgres, &[])
    }

    /// Starts one with settings as `pgbouncer.ini` has them: `default_pool_size`, `2`.
    ///
    /// # Errors
    ///
    /// As for [`PgBouncer::before`].
    pub fn with(postgres: &Postgres, settings: &[(&str, &str)]) -> Result<Self> {
        let program = programs::find(&programs::PGBOUNCER)?;
        let user = User::without_rights()?;
        let folder = Folder::new(user, "KILL")?;
        let program = program.for_user(user, &folder)?;
        let socket = folder.path().to_owned();
        let ready = move || answers(&socket, OWN);
        let plan = Plan { name: "PgBouncer", user, orderly: Signal::TERM, folder };
        let server = Server::begin(plan, Box::new(ready), |folder, port| {
            let file = configure(postgres, folder, port, user, settings)?;
            Ok(Launch { program: program.clone(), args: vec![file.into_os_string()], disk: None })
        })?;
        let url = postgres.url("");
        let url = url.split_once('?').map_or(url.as_str(), |(url, _)| url);
        let url = with_address(url, server.address());
        Ok(Self { server, url })
    }

    /// Returns the URL of the database `postgres` by way of this one, with that scheme.
    pub fn url(&self, scheme: &str) -> String {
        format!("{scheme}{}", self.url)
    }

    /// Returns the same URL with this one's address in place of the server's, and without its
    /// settings for encryption.
    ///
    /// # Examples
    ///
    /// ```no_run
    /// use railbus_testbed::{PgBouncer, Postgres};
    ///
    /// let postgres = Postgres::start()?;
    /// let bouncer = PgBouncer::before(&postgres)?;
    /// let database = postgres.database()?;
    /// let url = bouncer.url_of(&database.url("postgres-queue"));
    /// # Ok::<(), railbus_testbed::Error>(())
    /// ```
    pub fn url_of(&self, url: &str) -> String {
        with_address(url.split_once("?sslmode=").map_or(url, |(url, _)| url), self.address())
    }
}

impl Deref for PgBouncer {
    type Target = Server;

    fn deref(&self) -> &Server {
        &self.server
    }
}

fn configure(
    postgres: &Postgres,
    folder: &Folder,
    port: u16,
    user: Option<User>,
    settings: &[(&str, &str)],
) -> Result<std::path::PathBuf> {
    let (at, owner) = (folder.path().display(), cluster::OWNER);
    let password = postgres.password().unwrap_or_default();
    // The others are looked up in the server, by this one.
    let users = format!("\"{owner}\" \"{}\"\n", password.replace('"', "\"\""));
    folder.write("users.txt", &users, user)?;
    let method = if postgres.password().is_some() { "scram-sha-256" } else { "trust" };
    let mut lines = vec![
        "[databases]".into(),
        // By its socket, where it lets in everyone who gets there.
        format!("* = host={} port={}", postgres.folder().display(), postgres.port()),
        "[pgbouncer]".into(),
        "listen_addr = 127.0.0.1".into(),
        format!("listen_port = {port}"),
        format!("unix_socket_dir = {at}"),
        format!("auth_type = {method}"),
        format!("auth_file = {at}/users.txt"),
        format!("auth_user = {owner}"),
        format!("admin_users = {owner}"),
        "pool_mode = transaction".into(),
        "ignore_startup_parameters = extra_float_digits".into(),
    ];
    lines.extend(settings.iter().map(|(name, value)| format!("{name} = {value}")));
    folder.write("pgbouncer.ini", &(lines.join("\n") + "\n"), user)
}
