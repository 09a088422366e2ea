//! A server's folder, with the guard who sees to it that neither outlives the test run.

use crate::{
    error::{Doing, Error, Result},
    place,
    port::random,
    user::User,
};
use std::{
    env,
    fs::{self, DirBuilder},
    os::unix::{fs::DirBuilderExt, process::CommandExt},
    path::{Path, PathBuf},
    process::{self, Child, Command, Stdio},
};

const GUARD: &str = include_str!("guard.sh");

/// Writes its process number where the guard looks for it, in one step, and becomes the program.
/// If the folder is gone by then it does not.
const WRAPPER: &str = r#"echo $$ >"$0/pid.new" && mv "$0/pid.new" "$0/pid" && exec "$@""#;

/// Mounts a disk in memory where only this process and its children see it, and becomes the program as
/// the user.
const OWN_DISK: &str = r#"
user=$1 group=$2 bytes=$3
shift 3
mount -t tmpfs -o "size=$bytes,uid=$user,gid=$group,mode=700" railbus "$0" &&
    exec setpriv --reuid "$user" --regid "$group" --clear-groups "$@""#;

/// How long a folder's path may be: sockets have their paths from it, and those are short.
const PATH_MAX: usize = 60;

/// A folder that is removed on drop, and by the guard if it comes to no drop.
#[derive(Debug)]
pub(crate) struct Folder {
    path: PathBuf,
    guard: Child,
}

impl Folder {
    /// Makes a folder that belongs to the owner, or to oneself. A process that writes its number
    /// into the file `pid` in it is ended by the guard with that signal, and killed if that
    /// does not help.
    pub(crate) fn new(owner: Option<User>, signal: &str) -> Result<Self> {
        let path =
            temporary(owner)?.join(format!("railbus-{}-{:x}", process::id(), random() >> 40));
        // Before there is a folder, so that there is never one without a guard.
        let mut guard = Command::new("/bin/sh");
        guard.args(["-c", GUARD, "railbus-testbed-guard"]).arg(&path).arg(signal);
        guard.env_clear().env("PATH", "/usr/bin:/bin:/usr/sbin:/sbin").envs(place::of_docker());
        // In a group of its own, so that Ctrl-C does not reach it.
        guard.current_dir("/").process_group(0);
        guard.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::null());
        let guard = guard.spawn().doing(|| "start /bin/sh, which guards a server".into())?;
        let folder = Self { path, guard };
        let made = DirBuilder::new().mode(0o700).create(&folder.path);
        made.and_then(|()| folder.give(&folder.path, owner))
            .doing(|| format!("create {}", folder.path.display()))?;
        Ok(folder)
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// Writes a file that only its owner may read.
    pub(crate) fn write(&self, name: &str, text: &str, owner: Option<User>) -> Result<PathBuf> {
        use std::os::unix::fs::PermissionsExt;
        let path = self.path.join(name);
        fs::write(&path, text)
            .and_then(|()| fs::set_permissions(&path, fs::Permissions::from_mode(0o600)))
            .and_then(|()| self.give(&path, owner))
            .doing(|| format!("write {}", path.display()))?;
        Ok(path)
    }

    fn give(&self, path: &Path, owner: Option<User>) -> std::io::Result<()> {
        owner.map_or(Ok(()), |user| user.owns(path))
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        // The end of the pipe is what the guard waits for.
        drop(self.guard.stdin.take());
        let _ = self.guard.wait();
    }
}

/// Returns a command that runs the program so that the folder's guard ends it.
pub(crate) fn guarded(folder: &Folder, program: &Path) -> Command {
    let mut command = Command::new("/bin/sh");
    command.args(["-c", WRAPPER]).arg(folder.path()).arg(program);
    command
}

/// As [`guarded`], with a disk of so many bytes that nobody else sees.
pub(crate) fn with_disk(
    folder: &Folder,
    at: &Path,
    bytes: u64,
    user: User,
    program: &Path,
) -> Result<Command> {
    fs::create_dir_all(at).doing(|| format!("create {}", at.display()))?;
    let mut may = Command::new("unshare");
    may.args(["--mount", "true"]).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    if !may.status().is_ok_and(|status| status.success()) {
        return Err(Error::new("only root, where it may mount, can have a disk of its own"));
    }
    let mut command = guarded(folder, Path::new("unshare"));
    command.args(["--mount", "--propagation", "private", "/bin/sh", "-c", OWN_DISK]).arg(at);
    command.args([user.uid.to_string(), user.gid.to_string(), bytes.to_string()]).arg(program);
    Ok(command)
}

/// Returns the folder for temporary things: the system's, if the owner gets there and sockets
/// have room in it.
fn temporary(owner: Option<User>) -> Result<PathBuf> {
    let candidates = [env::temp_dir(), "/tmp".into(), "/var/tmp".into()];
    let fits = |folder: &PathBuf| {
        folder.as_os_str().len() <= PATH_MAX
            && folder.is_dir()
            && owner.is_none_or(|user| user.reaches(folder))
    };
    let why = "no temporary folder that every user gets to and whose path is short: set TMPDIR";
    candidates.into_iter().find(fits).ok_or_else(|| Error::new(why))
}
