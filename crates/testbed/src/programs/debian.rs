//! Debian's packages, downloaded and unpacked without root: nothing on the machine changes.

use super::{Kind, find, program::libraries};
use crate::copy;
use std::{
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

/// How far libraries are followed that need further libraries.
const DEPTH_MAX: usize = 6;

/// Downloads a program's packages, with the libraries that the machine lacks, and unpacks them all
/// below `root`.
pub(super) fn install(kind: &Kind, root: &Path) -> Result<(), String> {
    // The machine's lists first: a container has none as a rule, and they may be out of date.
    let Err(why) = install_by(&Apt::of_machine(root)?, kind, root) else { return Ok(()) };
    let apt = Apt::with_own_lists(root).map_err(|own| format!("{why}; {own}"))?;
    install_by(&apt, kind, root)
}

fn install_by(apt: &Apt, kind: &Kind, root: &Path) -> Result<(), String> {
    let mut packages = Vec::new();
    for name in kind.packages {
        packages.push(apt.newest(name)?);
    }
    // Unpacked beside and moved in one step, so that what was broken off is not taken for whole.
    let fresh = root.with_extension("new");
    remove(&fresh)?;
    let mut fetched = BTreeSet::new();
    apt.unpack(&packages, &fresh)?;
    for _ in 0..DEPTH_MAX {
        fetched.extend(packages.iter().cloned());
        if lacking(&programs(kind, &fresh), &fresh).is_empty()
            && lacking(&shared(&fresh), &fresh).is_empty()
        {
            break;
        }
        packages = apt.libraries(&packages)?.into_iter().filter(|p| !fetched.contains(p)).collect();
        apt.unpack(&packages, &fresh)?;
    }
    // What else is loaded while it runs may lack some: most of it no test needs.
    let lacking = lacking(&programs(kind, &fresh), &fresh);
    if !lacking.is_empty() {
        let lacking: Vec<_> = lacking.into_iter().collect();
        return Err(format!("these libraries are not there: {}", lacking.join(" ")));
    }
    for unused in kind.unused {
        for path in find::places(&[&fresh.join(unused).to_string_lossy()]) {
            remove(&path)?;
        }
    }
    remove(root)?;
    fs::rename(&fresh, root).map_err(|e| format!("rename {}: {e}", fresh.display()))
}

fn remove(folder: &Path) -> Result<(), String> {
    copy::remove(folder).map_err(|e| format!("remove {}: {e}", folder.display()))
}

/// Returns the libraries that those files ask for and that are nowhere.
fn lacking(files: &[PathBuf], root: &Path) -> BTreeSet<String> {
    let folders = std::env::join_paths(libraries(root)).unwrap_or_default();
    let mut lacking = BTreeSet::new();
    for file in files {
        let output = Command::new("ldd").arg(file).env("LD_LIBRARY_PATH", &folders).output();
        let text = output.map(|o| String::from_utf8_lossy(&o.stdout).into_owned());
        let text = text.unwrap_or_default();
        let missing = text.lines().filter(|line| line.contains("not found"));
        lacking.extend(missing.filter_map(|l| Some(l.split_whitespace().next()?.to_owned())));
    }
    lacking
}

/// Returns the programs that the kind needs.
fn programs(kind: &Kind, root: &Path) -> Vec<PathBuf> {
    let is_program = |path: &Path| {
        let folder = path.parent().and_then(Path::file_name);
        let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
        folder.is_some_and(|folder| folder == "bin" || folder == "sbin")
            && (name == kind.program || kind.beside.contains(&name))
    };
    files(root).into_iter().filter(|path| is_program(path) && path.is_file()).collect()
}

/// Returns what programs load while they run.
fn shared(root: &Path) -> Vec<PathBuf> {
    let is_shared = |path: &Path| path.extension().is_some_and(|end| end == "so");
    files(root).into_iter().filter(|path| is_shared(path)).collect()
}

/// Returns all files below the folder.
fn files(root: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let mut folders = vec![root.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
            let is_folder = entry.file_type().is_ok_and(|kind| kind.is_dir());
            if is_folder { &mut folders } else { &mut found }.push(entry.path());
        }
    }
    found
}

/// apt, with a folder of its own for what it needs root for elsewhere.
struct Apt {
    downloads: PathBuf,
    own: Vec<String>,
}

impl Apt {
    fn of_machine(root: &Path) -> Result<Self, String> {
        let downloads = root.with_file_name("apt");
        for part in ["lists/partial", "cache/archives/partial"] {
            let folder = downloads.join(part);
            fs::create_dir_all(&folder).map_err(|e| format!("create {}: {e}", folder.display()))?;
        }
        let own = vec![
            format!("Dir::Cache={}", downloads.join("cache").display()),
            "Debug::NoLocking=1".into(),
            "APT::Sandbox::User=root".into(),
        ];
        Ok(Self { downloads, own })
    }

    fn with_own_lists(root: &Path) -> Result<Self, String> {
        let mut apt = Self::of_machine(root)?;
        apt.own.push(format!("Dir::State::lists={}", apt.downloads.join("lists").display()));
        apt.call("apt-get", &["update", "-q"])?;
        Ok(apt)
    }

    /// Returns the package of that name; for a `*` the newest version that there is.
    fn newest(&self, name: &str) -> Result<String, String> {
        let Some((before, after)) = name.split_once('*') else {
            let known = self.call("apt-cache", &["show", "--no-all-versions", name])?;
            return if known.is_empty() { Err(no_package(name)) } else { Ok(name.to_owned()) };
        };
        let names = self.call("apt-cache", &["pkgnames", before])?;
        let version = |line: &str| -> Option<u32> {
            line.strip_prefix(before)?.strip_suffix(after)?.parse().ok()
        };
        let newest = names.lines().filter_map(version).max().ok_or_else(|| no_package(name))?;
        Ok(format!("{before}{newest}{after}"))
    }

    /// Returns the libraries that those packages depend on and that are not installed.
    fn libraries(&self, packages: &[String]) -> Result<Vec<String>, String> {
        let mut found = BTreeSet::new();
        for package in packages {
            let text = self.call("apt-cache", &["depends", "--important", package])?;
            let names = text.lines().filter_map(|line| line.trim().strip_prefix("Depends: "));
            let wanted = |name: &&str| {
                // LLVM is large, and only compiles what tests never run long enough for.
                name.starts_with("lib") && !name.starts_with("libllvm") && !name.ends_with("-perl")
            };
            found
                .extend(names.filter(wanted).filter(|name| !is_installed(name)).map(str::to_owned));
        }
        Ok(found.into_iter().collect())
    }

    fn unpack(&self, packages: &[String], root: &Path) -> Result<(), String> {
        if packages.is_empty() {
            return Ok(());
        }
        let folder = self.downloads.join("packages");
        remove(&folder)?;
        fs::create_dir_all(&folder).map_err(|e| format!("create {}: {e}", folder.display()))?;
        let mut download = self.command("apt-get", &["download", "-q"]);
        run(download.args(packages).current_dir(&folder))?;
        for entry in fs::read_dir(&folder).map_err(|e| e.to_string())?.flatten() {
            run(Command::new("dpkg-deb").arg("-x").arg(entry.path()).arg(root))?;
        }
        remove(&folder)
    }

    fn call(&self, program: &str, args: &[&str]) -> Result<String, String> {
        run(&mut self.command(program, args))
    }

    fn command(&self, program: &str, args: &[&str]) -> Command {
        let mut command = Command::new(program);
        command.args(self.own.iter().flat_map(|option| ["-o", option.as_str()])).args(args);
        command.env("LC_ALL", "C");
        command
    }
}

fn no_package(name: &str) -> String {
    format!("apt knows no package {name}")
}

fn is_installed(package: &str) -> bool {
    let mut command = Command::new("dpkg-query");
    command.args(["--show", "--showformat=${db:Status-Status}", package]);
    run(&mut command).is_ok_and(|status| status == "installed")
}

/// Runs a command and returns what it printed; if it failed, what it said.
fn run(command: &mut Command) -> Result<String, String> {
    let name = command.get_program().to_string_lossy().into_owned();
    let output = command.stdin(Stdio::null()).output().map_err(|e| format!("{name}: {e}"))?;
    if output.status.success() {
        return Ok(String::from_utf8_lossy(&output.stdout).into_owned());
    }
    let said = String::from_utf8_lossy(&output.stderr).trim().to_owned();
    Err(format!("{name}: {}: {said}", output.status))
}
