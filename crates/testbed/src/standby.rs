//! A PostgreSQL that follows another one.

use crate::{
    cluster,
    error::{Doing, Error, Result},
    folder::Folder,
    postgres::Postgres,
    programs::Program,
    user::User,
};
use std::{
    os::unix::process::CommandExt,
    path::PathBuf,
    process::{Command, Stdio},
    thread,
    time::{Duration, Instant},
};

/// How long a standby may take until it follows.
const PATIENCE: Duration = Duration::from_secs(60);

impl Postgres {
    /// Starts a standby of this server: a copy of all its databases that is read only and told of each
    /// change by streaming. Returns once it follows.
    ///
    /// It has the same options; what is `synchronous_standby_names` here is nothing there.
    ///
    /// # Examples
    ///
    /// ```no_run
    /// use railbus_testbed::Postgres;
    ///
    /// let primary = Postgres::start()?;
    /// let standby = primary.standby()?;
    /// primary.waits_for_standbys()?;
    /// primary.kill()?;
    /// standby.promote()?;
    /// # Ok::<(), railbus_testbed::Error>(())
    /// ```
    ///
    /// # Errors
    ///
    /// This server does not run, or the other one does not come up.
    pub fn standby(&self) -> Result<Self> {
        let options = self.options_of().clone().without("synchronous_standby_names");
        let standby =
            options.start_on(|program, user, folder| self.copy_to(program, user, folder))?;
        let follows = "SELECT count(*) FROM pg_stat_replication WHERE state = 'streaming'";
        let start = Instant::now();
        while self.psql(cluster::OWNER, follows)? == "0" {
            if start.elapsed() > PATIENCE {
                return Err(Error::new(format!("the standby does not follow\n{}", standby.log())));
            }
            thread::sleep(Duration::from_millis(20));
        }
        Ok(standby)
    }

    /// Has each commit wait from now on until a standby has it too.
    ///
    /// # Errors
    ///
    /// The server does not answer.
    pub fn waits_for_standbys(&self) -> Result<()> {
        self.psql(cluster::OWNER, "ALTER SYSTEM SET synchronous_standby_names = '*'")?;
        self.psql(cluster::OWNER, "SELECT pg_reload_conf()")?;
        let start = Instant::now();
        let waits = "SELECT count(*) FROM pg_stat_replication WHERE sync_state = 'sync'";
        while self.psql(cluster::OWNER, waits)? == "0" {
            if start.elapsed() > PATIENCE {
                return Err(Error::new("no standby is waited for"));
            }
            thread::sleep(Duration::from_millis(20));
        }
        Ok(())
    }

    /// Makes a standby a server of its own that takes changes; returns once it does.
    ///
    /// # Errors
    ///
    /// It is no standby, or does not answer.
    pub fn promote(&self) -> Result<()> {
        match &*self.psql(cluster::OWNER, "SELECT pg_promote(true, 60)")? {
            "t" => Ok(()),
            _ => Err(Error::new("the standby was not promoted within a minute")),
        }
    }

    /// Copies this server's data, as it runs, to where another server has its own.
    fn copy_to(&self, program: &Program, user: Option<User>, folder: &Folder) -> Result<PathBuf> {
        let data = folder.path().join("data");
        let mut command = Command::new(program.beside("pg_basebackup"));
        program.surroundings(&mut command);
        command.args(["--write-recovery-conf", "--wal-method=stream", "--checkpoint=fast"]);
        command.args(["--no-sync", "--username", cluster::OWNER, "--pgdata"]).arg(&data);
        command.arg("--host").arg(self.folder()).args(["--port", &self.port().to_string()]);
        command.stdin(Stdio::null()).current_dir("/");
        if let Some(user) = user {
            command.uid(user.uid).gid(user.gid);
        }
        let output = command.output().doing(|| "start pg_basebackup".into())?;
        if !output.status.success() {
            let said = String::from_utf8_lossy(&output.stderr);
            return Err(Error::new(format!("pg_basebackup: {}\n{}", output.status, said.trim())));
        }
        Ok(data)
    }
}
