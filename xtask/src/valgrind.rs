//! valgrind: the machine's, else Debian's package, unpacked below `target/` without root.

use crate::cargo::{self, Outcome};
use std::{
    env, fs,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

const MISSING: &str = "valgrind is needed: install it, such as by \
                       `apt-get install valgrind`";

/// Where valgrind is.
pub(crate) struct Valgrind {
    program: PathBuf,
    // Where it finds its tools, if not where it was built for.
    library: Option<PathBuf>,
}

impl Valgrind {
    /// Finds valgrind, or fetches it.
    pub(crate) fn find() -> Result<Self, String> {
        if runs(Path::new("valgrind"), None) {
            return Ok(Self { program: "valgrind".into(), library: None });
        }
        let folder = cargo::root().join("target/tools/valgrind");
        let found = |folder: &Path| {
            let (program, library) =
                (folder.join("usr/bin/valgrind"), folder.join("usr/libexec/valgrind"));
            runs(&program, Some(&library)).then_some(Self { program, library: Some(library) })
        };
        if let Some(valgrind) = found(&folder) {
            return Ok(valgrind);
        }
        fetch(&folder).map_err(|why| format!("{MISSING} ({why})"))?;
        found(&folder).ok_or_else(|| format!("{MISSING} (Debian's package does not run here)"))
    }

    /// Runs a command that must succeed and leave nothing behind that nobody points to any more, nor
    /// touch memory that it must not.
    pub(crate) fn memcheck(&self, program: &Path, args: &[String]) -> Outcome {
        let mut command = self.command();
        command.args(["--leak-check=full", "--errors-for-leak-kinds=definite", "--quiet"]);
        // Who waits by looking again and again must not keep the others from running.
        command.args([
            "--show-leak-kinds=definite,indirect",
            "--error-exitcode=9",
            "--fair-sched=yes",
        ]);
        cargo::done(command.arg(program).args(args).env_remove("RAILBUS_URL"))
    }

    fn command(&self) -> Command {
        let mut command = Command::new(&self.program);
        if let Some(library) = &self.library {
            command.env("VALGRIND_LIB", library);
        }
        command
    }

    /// Counts the instructions of a command that must succeed; returns them and what it printed.
    pub(crate) fn count(&self, program: &Path, args: &[&str]) -> Result<(u64, String), String> {
        let mut command = self.command();
        command.args(["--tool=callgrind", "--callgrind-out-file=/dev/null"]);
        command.arg(program).args(args).env_remove("RAILBUS_URL");
        let output = command.output().map_err(|e| format!("valgrind: {e}"))?;
        let (said, printed) =
            (String::from_utf8_lossy(&output.stderr), String::from_utf8_lossy(&output.stdout));
        if !output.status.success() {
            return Err(format!("{} under valgrind: {}: {said}", program.display(), output.status));
        }
        let collected = said.lines().find_map(|line| line.split("Collected :").nth(1));
        let count = collected.and_then(|text| text.trim().parse().ok());
        let count = count.ok_or_else(|| format!("valgrind counted nothing: {said}"))?;
        Ok((count, printed.into_owned()))
    }
}

fn runs(program: &Path, library: Option<&Path>) -> bool {
    let mut command = Command::new(program);
    if let Some(library) = library {
        command.env("VALGRIND_LIB", library);
    }
    let quiet = command.arg("--version").stdout(Stdio::null()).stderr(Stdio::null());
    quiet.status().is_ok_and(|status| status.success())
}

/// Downloads the package and unpacks it.
fn fetch(folder: &Path) -> Outcome {
    fs::create_dir_all(folder).map_err(|e| format!("{}: {e}", folder.display()))?;
    let apt = |args: &[&str]| {
        let mut command = Command::new("apt-get");
        // Lists of its own: the machine's may be empty, and without root they can't be filled.
        let own = |name: &str| {
            let path = folder.join(name);
            let _ = fs::create_dir_all(path.join("partial"));
            path.display().to_string()
        };
        command.arg("-o").arg(format!("Dir::State::lists={}", own("lists")));
        command.arg("-o").arg(format!("Dir::Cache={}", own("cache")));
        command.args(["-o", "Debug::NoLocking=1", "-q"]);
        cargo::done(command.args(args).current_dir(folder))
    };
    if env::var_os("PATH").is_none() {
        return Err("there is no PATH".into());
    }
    apt(&["update"])?;
    apt(&["download", "valgrind"])?;
    let package = fs::read_dir(folder)
        .map_err(|e| e.to_string())?
        .filter_map(|entry| entry.ok().map(|e| e.path()))
        .find(|path| path.extension().is_some_and(|e| e == "deb"));
    let package = package.ok_or("no package was downloaded")?;
    cargo::done(Command::new("dpkg").arg("-x").arg(&package).arg(folder))
}
