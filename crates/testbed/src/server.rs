//! A server process: started, ended in every way, and known to be ready.

use crate::{
    certificates,
    error::{Doing, Error, Result},
    family,
    folder::{self, Folder},
    port,
    programs::{self, Program},
    user::User,
};
use rustix::process::Signal;
use std::{
    ffi::OsString,
    fmt, fs,
    fs::OpenOptions,
    io,
    net::SocketAddr,
    os::unix::process::CommandExt,
    path::{Path, PathBuf},
    process::{Child, ExitStatus, Stdio},
    sync::{Mutex, MutexGuard, PoisonError},
    thread,
    time::{Duration, Instant},
};

/// How long a server may take until it answers, and until it ends when it is asked to.
const PATIENCE: Duration = Duration::from_secs(60);

/// How much of a server's log an error shows.
const LOG_MAX: usize = 3000;

/// How many ports are tried at the first start.
const PORTS_MAX: usize = 10;

/// How a server is started.
#[derive(Debug)]
pub(crate) struct Launch {
    pub(crate) program: Program,
    pub(crate) args: Vec<OsString>,
    /// What it has for a disk of its own.
    pub(crate) disk: Option<Disk>,
}

/// A disk in memory that only its server sees, and that goes with it.
#[derive(Debug)]
pub(crate) struct Disk {
    pub(crate) at: PathBuf,
    pub(crate) bytes: u64,
}

/// Tells whether the server answers by now.
type Ready = Box<dyn Fn() -> io::Result<bool> + Send + Sync>;

/// What all servers have in common. [`Redis`](crate::Redis) and the others are one, with what is
/// theirs.
pub struct Server {
    name: &'static str,
    user: Option<User>,
    // Ends the server in an orderly way.
    orderly: Signal,
    port: u16,
    launch: Launch,
    ready: Ready,
    child: Mutex<Option<Child>>,
    folder: Folder,
}

/// What a server needs before its port is known.
pub(crate) struct Plan {
    pub(crate) name: &'static str,
    pub(crate) user: Option<User>,
    pub(crate) orderly: Signal,
    pub(crate) folder: Folder,
}

enum Failed {
    /// Somebody else was quicker.
    PortInUse(Error),
    For(Error),
}

impl Server {
    /// Starts a server on a free port: `configure` writes down what it needs to know, for that
    /// port.
    pub(crate) fn begin(
        plan: Plan,
        ready: Ready,
        configure: impl Fn(&Folder, u16) -> Result<Launch>,
    ) -> Result<Self> {
        let Plan { name, user, orderly, folder } = plan;
        let port = port::free()?;
        let launch = configure(&folder, port)?;
        let child = Mutex::default();
        let mut server = Self { name, user, orderly, port, launch, ready, child, folder };
        for _ in 0..PORTS_MAX {
            match server.launch() {
                Ok(()) => return Ok(server),
                Err(Failed::For(why)) => return Err(why),
                Err(Failed::PortInUse(_)) => server.port = port::free()?,
            }
            server.launch = configure(&server.folder, server.port)?;
        }
        Err(Error::new(format!("{name} found {PORTS_MAX} ports in use, one after another")))
    }

    /// Returns the port it listens on, on 127.0.0.1.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// Returns the address it listens on.
    pub fn address(&self) -> SocketAddr {
        port::address(self.port)
    }

    /// Returns its folder, which is removed with it.
    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// Returns the file with the authority that signed the server's certificate. This and the other
    /// files are there if connections are encrypted.
    pub fn ca_path(&self) -> PathBuf {
        self.folder().join(certificates::CA)
    }

    /// Returns the file with a client's certificate by the same authority.
    pub fn client_cert_path(&self) -> PathBuf {
        self.folder().join(certificates::CLIENT.0)
    }

    /// Returns the file with the key of that certificate.
    pub fn client_key_path(&self) -> PathBuf {
        self.folder().join(certificates::CLIENT.1)
    }

    /// Returns the file with an authority that signed nothing here.
    pub fn strangers_ca_path(&self) -> PathBuf {
        self.folder().join(certificates::STRANGERS_CA)
    }

    /// Returns the file with a client's certificate by that authority.
    pub fn strangers_cert_path(&self) -> PathBuf {
        self.folder().join(certificates::STRANGER.0)
    }

    /// Returns the file with the key of the stranger's certificate.
    pub fn strangers_key_path(&self) -> PathBuf {
        self.folder().join(certificates::STRANGER.1)
    }

    /// Returns its process number, if it runs.
    pub fn pid(&self) -> Option<u32> {
        self.child().as_ref().map(Child::id)
    }

    /// Returns the version of the program, as it says it.
    pub fn version(&self) -> &str {
        &self.launch.program.version
    }

    pub(crate) fn program(&self) -> &Program {
        &self.launch.program
    }

    /// Returns what the server has written to its log.
    pub fn log(&self) -> String {
        let bytes = fs::read(self.folder().join("log")).unwrap_or_default();
        String::from_utf8_lossy(&bytes).into_owned()
    }

    /// Kills it with all its processes, by SIGKILL, and waits until they are gone.
    ///
    /// # Errors
    ///
    /// It does not run, or does not go.
    pub fn kill(&self) -> Result<()> {
        let mut running = self.child();
        let child = running.as_mut().ok_or_else(|| self.is_down())?;
        self.end(child);
        child.wait().doing(|| format!("wait for the end of {}", self.name))?;
        self.reaped(&mut running);
        Ok(())
    }

    /// Ends it in an orderly way, and waits until it is gone.
    ///
    /// # Errors
    ///
    /// It does not run, or it does not end within a minute.
    pub fn stop(&self) -> Result<()> {
        let mut running = self.child();
        let child = running.as_mut().ok_or_else(|| self.is_down())?;
        if self.container().is_some() {
            self.tell_docker(&["unpause"]);
            let signal = if self.orderly == Signal::INT { "INT" } else { "TERM" };
            self.tell_docker(&["kill", "--signal", signal]);
        } else {
            family::resume(child.id());
            family::signal(child.id(), self.orderly);
        }
        if family::ends(child, PATIENCE).is_none() {
            let said = self.tail();
            return Err(Error::new(format!("{} does not end when asked to\n{said}", self.name)));
        }
        self.reaped(&mut running);
        Ok(())
    }

    /// Starts it again after [`Server::kill`] or [`Server::stop`], on its port and with its folder,
    /// and waits until it answers.
    ///
    /// # Errors
    ///
    /// It runs already, or it does not come up; its log is part of the error.
    pub fn start_again(&self) -> Result<()> {
        if self.pid().is_some() {
            return Err(Error::new(format!("{} runs already", self.name)));
        }
        let start = Instant::now();
        loop {
            match self.launch() {
                Ok(()) => return Ok(()),
                // The system may need a moment to take the port back.
                Err(Failed::PortInUse(_)) if start.elapsed() < PATIENCE / 4 => {
                    thread::sleep(Duration::from_millis(50));
                }
                Err(Failed::PortInUse(why) | Failed::For(why)) => return Err(why),
            }
        }
    }

    /// Stops it with all its processes where they are, by SIGSTOP: connections stay, nobody
    /// answers.
    ///
    /// # Errors
    ///
    /// It does not run.
    pub fn pause(&self) -> Result<()> {
        self.tell_docker(&["pause"]);
        let signal = |pid| {
            if self.container().is_none() {
                family::pause(pid);
            }
        };
        self.pid().map(signal).ok_or_else(|| self.is_down())
    }

    /// Lets it go on after [`Server::pause`].
    ///
    /// # Errors
    ///
    /// It does not run.
    pub fn resume(&self) -> Result<()> {
        self.tell_docker(&["unpause"]);
        self.pid().map(family::resume).ok_or_else(|| self.is_down())
    }

    /// Returns the name of the container it runs in, if it runs by Docker: that of its folder.
    fn container(&self) -> Option<String> {
        let name = || self.folder().file_name().unwrap_or_default().to_string_lossy().into_owned();
        self.launch.program.is_dockers().then(name)
    }

    fn tell_docker(&self, order: &[&str]) {
        if let Some(container) = self.container() {
            programs::tell(&self.launch.program, order, &container);
        }
    }

    /// Kills the server. Docker's own program is left to end with its container, as it does.
    fn end(&self, child: &mut Child) {
        self.tell_docker(&["kill"]);
        if self.container().is_none() || family::ends(child, PATIENCE / 6).is_none() {
            family::kill(child.id());
        }
    }

    fn is_down(&self) -> Error {
        Error::new(format!("{} does not run", self.name))
    }

    fn child(&self) -> MutexGuard<'_, Option<Child>> {
        self.child.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Forgets a process that is gone, here and where the guard looks.
    fn reaped(&self, running: &mut Option<Child>) {
        *running = None;
        let _ = fs::remove_file(self.folder().join("pid"));
    }

    fn launch(&self) -> Result<(), Failed> {
        let log = self.folder().join("log");
        let before = fs::metadata(&log).map_or(0, |data| data.len());
        let log = OpenOptions::new().create(true).append(true).open(&log);
        let log = log.and_then(|log| Ok((log.try_clone()?, log)));
        let (out, err) = log.doing(|| format!("open {}'s log", self.name)).map_err(Failed::For)?;
        let program = &self.launch.program.path;
        let (mut command, user) = match (&self.launch.disk, self.user) {
            (None, user) => (folder::guarded(&self.folder, program), user),
            // It gives up its rights once it has the disk.
            (Some(disk), Some(user)) => {
                let own = folder::with_disk(&self.folder, &disk.at, disk.bytes, user, program);
                (own.map_err(Failed::For)?, None)
            }
            (Some(_), None) => {
                let why = "only root, where it may mount, can have a disk of its own";
                return Err(Failed::For(Error::new(why)));
            }
        };
        command.args(&self.launch.args);
        self.launch.program.surroundings(&mut command);
        command.stdin(Stdio::null()).stdout(out).stderr(err).process_group(0).current_dir("/");
        self.launch.program.within(&mut command, user, self.folder());
        if let Some(container) = self.container() {
            command.env("RAILBUS_CONTAINER", container);
            // For the guard, who ends it by name.
            self.folder
                .write("docker", &format!("{}\n", programs::path_of_docker()), None)
                .map_err(Failed::For)?;
        }
        let child = command.spawn().doing(|| format!("start {}", self.name));
        let mut running = self.child();
        *running = Some(child.map_err(Failed::For)?);
        self.comes_up(&mut running, before)
    }

    /// Waits until the server answers.
    fn comes_up(&self, running: &mut Option<Child>, log_before: u64) -> Result<(), Failed> {
        let start = Instant::now();
        let mut pause = Duration::from_millis(2);
        while let Some(child) = running.as_mut() {
            // Before it is asked: else what answers might be another one.
            let ended = child.try_wait().ok().flatten();
            if let Some(status) = ended {
                self.reaped(running);
                return Err(self.why_it_ended(status, log_before));
            }
            if (self.ready)().unwrap_or(false) {
                return Ok(());
            }
            if start.elapsed() > PATIENCE {
                family::kill(child.id());
                let _ = child.wait();
                self.reaped(running);
                break;
            }
            thread::sleep(pause);
            pause = (pause * 2).min(Duration::from_millis(50));
        }
        let why = format!("{} did not answer within {PATIENCE:?}\n{}", self.name, self.tail());
        Err(Failed::For(Error::new(why)))
    }

    fn why_it_ended(&self, status: ExitStatus, log_before: u64) -> Failed {
        let log = self.log();
        let own = log.get(usize::try_from(log_before).unwrap_or(0)..).unwrap_or(&log);
        let in_use = own.to_ascii_lowercase().contains("address already in use");
        let program = self.launch.program.path.display();
        let why = format!("{} ended at once ({status}): {program}\n{}", self.name, self.tail());
        if in_use { Failed::PortInUse(Error::new(why)) } else { Failed::For(Error::new(why)) }
    }

    fn tail(&self) -> String {
        let log = self.log();
        let mut from = log.len().saturating_sub(LOG_MAX);
        while !log.is_char_boundary(from) {
            from += 1;
        }
        format!("its log ends with:\n{}", log[from..].trim())
    }
}

impl fmt::Debug for Server {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut shown = f.debug_struct(self.name);
        shown.field("port", &self.port).field("pid", &self.pid());
        shown.field("folder", &self.folder()).finish_non_exhaustive()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        if let Some(mut child) = self.child().take() {
            self.end(&mut child);
            // Reaped before the guard looks, to whom a process that was not is one that lives.
            let _ = child.wait();
            let _ = fs::remove_file(self.folder().join("pid"));
        }
    }
}
