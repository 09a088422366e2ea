//! Python with packages of others, for tests that speak with what is written in it.

use crate::{
    copy,
    error::{Doing, Error, Result},
    folder::{self, Folder},
    lock::Lock,
    place,
    programs::{self, Program},
};
use std::{
    fs,
    io::{BufRead, BufReader, Write},
    os::unix::process::CommandExt,
    path::{Path, PathBuf},
    process::{Child, ChildStdin, Command, Output, Stdio},
    sync::mpsc::{Receiver, RecvTimeoutError, channel},
    thread,
    time::Duration,
};

/// The packages that tests of interoperation use, at the versions they were written for.
pub const INTEROP: &[&str] =
    &["cloudevents==2.2.0", "dataknobs-common==1.3.8", "asyncpg==0.31.0", "redis==7.1.0"];

/// How much of what a program says to stderr an error shows: its end.
const TAIL_MAX: usize = 3000;

/// A Python with packages, in a folder that is kept and shared by all who want the same ones.
#[derive(Clone, Debug)]
pub struct Python {
    program: PathBuf,
    base: Program,
}

impl Python {
    /// Makes a Python that has those packages, as pip knows them; the first to ask for them has them
    /// installed.
    ///
    /// # Errors
    ///
    /// There is no Python 3 with `venv`, or a package can't be installed.
    ///
    /// # Examples
    ///
    /// ```no_run
    /// use railbus_testbed::Python;
    ///
    /// let python = Python::with(&["cloudevents"])?;
    /// let version = python.run("import cloudevents, sys; print(sys.argv[1])", &["a"])?;
    /// assert_eq!(version, "a\n");
    /// # Ok::<(), railbus_testbed::Error>(())
    /// ```
    pub fn with(packages: &[&str]) -> Result<Self> {
        let mut packages = packages.to_vec();
        packages.sort_unstable();
        packages.dedup();
        let plain = |c: char| if c.is_ascii_alphanumeric() || "-_.=".contains(c) { c } else { '_' };
        let name: String = format!("python-{}", packages.join("+"));
        let name: String = name.chars().map(|c| if c == '+' { c } else { plain(c) }).collect();
        let home = place::kept().join(&name);
        let base = programs::find(&programs::PYTHON)?;
        let made = Self { program: home.join("bin/python"), base };
        let _lock = Lock::on(&place::kept().join(format!("{name}.lock")))?;
        // Written last, so that what was broken off is not taken for whole.
        let whole = home.join("whole");
        if whole.exists() && made.run("pass", &[]).is_ok() {
            return Ok(made);
        }
        copy::remove(&home).doing(|| format!("remove {}", home.display()))?;
        if let Err(why) = made.make(&home, &packages) {
            // It would only be in the way.
            let _ = copy::remove(&home);
            return Err(why);
        }
        fs::write(&whole, "").doing(|| format!("write {}", whole.display()))?;
        Ok(made)
    }

    fn make(&self, home: &Path, packages: &[&str]) -> Result<()> {
        let venv = |option: &str| {
            let mut command = Command::new(&self.base.path);
            self.base.show_libraries(&mut command);
            output(command.args(["-m", "venv", option]).arg(home))
        };
        let mut pip = self.command();
        // Debian's Python has no pip to put there.
        if venv("--clear").is_ok() {
            pip.args(["-m", "pip"]);
        } else {
            venv("--without-pip")?;
            pip.arg(programs::file(&programs::PIP, ".whl")?.join("pip"));
        }
        if packages.is_empty() {
            return Ok(());
        }
        pip.args(["install", "--quiet", "--disable-pip-version-check"]);
        output(pip.args(packages)).map(drop)
    }

    /// Returns the Python's path.
    pub fn program(&self) -> &Path {
        &self.program
    }

    /// Runs a program to its end, and returns what it printed.
    ///
    /// # Errors
    ///
    /// It ended with an error; what it said is part of ours.
    pub fn run(&self, script: &str, args: &[&str]) -> Result<String> {
        let output = output(self.command().args(["-c", script]).args(args))?;
        Ok(String::from_utf8_lossy(&output.stdout).into_owned())
    }

    /// Starts a program that goes on, and is spoken with by lines. It ends with its value, as
    /// servers do.
    ///
    /// # Errors
    ///
    /// It can't be started.
    pub fn start(&self, script: &str, args: &[&str]) -> Result<PythonProcess> {
        PythonProcess::start(self, script, args)
    }

    fn command(&self) -> Command {
        let mut command = Command::new(&self.program);
        self.base.show_libraries(&mut command);
        command.env("PYTHONUNBUFFERED", "1").stdin(Stdio::null());
        command
    }
}

/// A program in Python that runs.
#[derive(Debug)]
pub struct PythonProcess {
    child: Child,
    stdin: Option<ChildStdin>,
    lines: Receiver<String>,
    folder: Folder,
}

impl PythonProcess {
    fn start(python: &Python, script: &str, args: &[&str]) -> Result<Self> {
        let folder = Folder::new(None, "KILL")?;
        let script = folder.write("program.py", script, None)?;
        let log = fs::File::create(folder.path().join("log")).doing(|| "write a log".into())?;
        let mut command = folder::guarded(&folder, &python.program);
        python.base.show_libraries(&mut command);
        command.arg(script).args(args).env("PYTHONUNBUFFERED", "1").process_group(0);
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(log);
        let mut child = command.spawn().doing(|| format!("start {}", python.program.display()))?;
        let (sender, lines) = channel();
        let stdin = child.stdin.take();
        if let Some(stdout) = child.stdout.take() {
            // It ends with the program, or with whoever hears its lines.
            thread::spawn(move || {
                BufReader::new(stdout)
                    .lines()
                    .map_while(Result::ok)
                    .try_for_each(|l| sender.send(l))
            });
        }
        Ok(Self { child, stdin, lines, folder })
    }

    /// Waits for the next line that it prints.
    ///
    /// # Errors
    ///
    /// It has ended, or prints none within that time; what it said is part of the error.
    pub fn line(&self, patience: Duration) -> Result<String> {
        self.lines.recv_timeout(patience).map_err(|why| {
            let why = match why {
                RecvTimeoutError::Timeout => format!("printed nothing within {patience:?}"),
                RecvTimeoutError::Disconnected => "has ended".into(),
            };
            let log = fs::read(self.folder.path().join("log")).unwrap_or_default();
            Error::new(format!("the program {why}\n{}", tail(&log)))
        })
    }

    /// Says a line to it, on its stdin.
    ///
    /// # Errors
    ///
    /// It does not listen any more.
    pub fn say(&mut self, line: &str) -> Result<()> {
        let stdin = self.stdin.as_mut().ok_or_else(|| Error::new("its stdin is closed"))?;
        stdin.write_all(format!("{line}\n").as_bytes()).doing(|| "speak with a program".into())
    }

    /// Closes its stdin and waits for its end; returns the lines that it still printed.
    ///
    /// # Errors
    ///
    /// It ended with an error; what it said is part of ours.
    pub fn end(mut self) -> Result<Vec<String>> {
        drop(self.stdin.take());
        let lines = self.lines.iter().collect();
        let status = self.child.wait().doing(|| "wait for a program".into())?;
        if status.success() {
            return Ok(lines);
        }
        let log = fs::read(self.folder.path().join("log")).unwrap_or_default();
        Err(Error::new(format!("the program: {status}\n{}", tail(&log))))
    }
}

impl Drop for PythonProcess {
    fn drop(&mut self) {
        // Both fail only if it is gone.
        let _ = self.child.kill();
        let _ = self.child.wait();
        let _ = fs::remove_file(self.folder.path().join("pid"));
    }
}

fn output(command: &mut Command) -> Result<Output> {
    let name = command.get_program().to_string_lossy().into_owned();
    let output = command.stdin(Stdio::null()).output().doing(|| format!("start {name}"))?;
    if output.status.success() {
        return Ok(output);
    }
    let said = [output.stdout, output.stderr].concat();
    Err(Error::new(format!("{name}: {}\n{}", output.status, tail(&said))))
}

fn tail(bytes: &[u8]) -> String {
    let from = bytes.len().saturating_sub(TAIL_MAX);
    String::from_utf8_lossy(&bytes[from..]).trim().to_owned()
}
