//! A program that was found, and what it needs around it.

use super::{Kind, docker};
use crate::{
    copy,
    error::{Doing, Error},
    folder::Folder,
    place,
    user::User,
};
use std::{
    env, fs,
    os::unix::process::CommandExt,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

/// A program of a kind, known to run.
#[derive(Clone, Debug)]
pub(crate) struct Program {
    pub(crate) path: PathBuf,
    /// Such as `7.0.15`.
    pub(crate) version: String,
    /// Below which folder it was unpacked, with its libraries, if it was.
    root: Option<PathBuf>,
}

impl Program {
    /// Looks at a program that may be there; says why it won't do if it is.
    pub(crate) fn at(
        kind: &Kind,
        path: &Path,
        root: Option<&Path>,
    ) -> Option<Result<Self, String>> {
        // A link may stand alone in its folder: what is beside it is where it leads to.
        let path = path.canonicalize().ok().filter(|path| path.is_file())?;
        let named = path.with_file_name(kind.program);
        let path = if named.is_file() { named } else { path };
        let mut program = Self { path, version: String::new(), root: root.map(Into::into) };
        if let Some(missing) = kind.beside.iter().find(|name| !program.beside(name).is_file()) {
            return Some(Err(format!("{}: no {missing} beside it", program.path.display())));
        }
        let mut command = Command::new(&program.path);
        program.surroundings(&mut command);
        let output = command.arg("--version").stdin(Stdio::null()).output();
        let said =
            output.map(|o| String::from_utf8_lossy(&[o.stdout, o.stderr].concat()).into_owned());
        let said = said.unwrap_or_else(|e| e.to_string());
        let Some(version) = version_in(&said) else {
            let said = said.trim();
            return Some(Err(format!("{}: says no version: {said}", program.path.display())));
        };
        if numbers(version) < kind.version_min.to_vec() {
            let least: Vec<_> = kind.version_min.iter().map(ToString::to_string).collect();
            let least = least.join(".");
            let why = format!("{}: version {version}, at least {least}", program.path.display());
            return Some(Err(format!("{why} is needed")));
        }
        program.version = version.to_owned();
        Some(Ok(program))
    }

    /// Returns the path of another program in the same folder.
    pub(crate) fn beside(&self, name: &str) -> PathBuf {
        self.path.with_file_name(name)
    }

    /// Returns the same program as it is started by way of another path.
    pub(crate) fn as_at(&self, path: &Path) -> Self {
        Self { path: path.to_owned(), ..self.clone() }
    }

    /// Returns a program that the user gets to: as root, what is below one's own folders must be
    /// copied for whoever has no rights. The copy is where the server's folder is.
    pub(crate) fn for_user(&self, user: Option<User>, folder: &Folder) -> Result<Self, Error> {
        if self.is_dockers() {
            return Ok(self.clone());
        }
        let own = self.path.parent().unwrap_or(&self.path);
        if user.is_none_or(|user| user.reaches(own)) {
            return Ok(self.clone());
        }
        let below = |root: &PathBuf| self.path.strip_prefix(root).ok().map(Path::to_owned);
        let (Some(root), Some(path)) = (&self.root, self.root.as_ref().and_then(below)) else {
            let why = "is not to be reached by users without rights, as whom it has to run";
            return Err(Error::new(format!("{} {why}", self.path.display())));
        };
        let to = folder.path().join("programs");
        copy::folder(root, &to, user).doing(|| format!("copy {}", root.display()))?;
        Ok(Self { path: to.join(path), version: self.version.clone(), root: Some(to) })
    }

    /// Gives a command the environment that this program needs, and nothing of the test's own,
    /// which may hold settings of servers.
    pub(crate) fn surroundings(&self, command: &mut Command) {
        command.env_clear().env("LC_ALL", "C").env("TZ", "UTC");
        let path = env::join_paths(place::path()).unwrap_or_else(|_| "/usr/bin:/bin".into());
        command.env("PATH", path);
        if self.is_dockers() {
            command.envs(place::of_docker());
        }
        self.show_libraries(command);
    }

    /// Tells whether it runs by Docker.
    pub(crate) fn is_dockers(&self) -> bool {
        self.root.as_deref().is_some_and(docker::is_at)
    }

    /// Has a command run as that user, with that folder.
    pub(crate) fn within(&self, command: &mut Command, user: Option<User>, folder: &Path) {
        if self.is_dockers() {
            command.env("RAILBUS_FOLDER", folder);
        }
        match user {
            Some(user) if self.is_dockers() => {
                command.env("RAILBUS_USER", format!("{}:{}", user.uid, user.gid));
            }
            Some(user) => {
                command.uid(user.uid).gid(user.gid);
            }
            None => {}
        }
    }

    /// Has a command find the libraries that were unpacked with this program.
    pub(crate) fn show_libraries(&self, command: &mut Command) {
        let root = self.root.as_deref();
        if let Ok(libraries) = env::join_paths(root.map(libraries).unwrap_or_default())
            && !libraries.is_empty()
        {
            command.env("LD_LIBRARY_PATH", libraries);
        }
    }
}

/// Returns the folders below `root` that hold libraries.
pub(super) fn libraries(root: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for folder in ["usr/lib", "lib"].map(|name| root.join(name)) {
        let entries =
            fs::read_dir(&folder).into_iter().flatten().filter_map(|e| Some(e.ok()?.path()));
        let triplets = entries.filter(|path| path.to_string_lossy().ends_with("-linux-gnu"));
        found.extend(triplets);
    }
    found
}

/// Finds the first word that is a version: `7.0.15`, `15.18`, also in `v=7.0.15` and `v2.9.10`.
fn version_in(text: &str) -> Option<&str> {
    let words = text.split(|c: char| c.is_whitespace() || "=,()".contains(c));
    let is_version = |word: &&str| {
        word.contains('.')
            && word
                .split('.')
                .all(|part| !part.is_empty() && part.bytes().all(|b| b.is_ascii_digit()))
    };
    words.map(|word| word.strip_prefix('v').unwrap_or(word)).find(is_version)
}

pub(crate) fn numbers(version: &str) -> Vec<u32> {
    version.split('.').map(|part| part.parse().unwrap_or(0)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_read_as_programs_say_them() {
        let redis = "Redis server v=7.0.15 sha=00000000:0 malloc=jemalloc-5.3.0 bits=64";
        assert_eq!(version_in(redis), Some("7.0.15"));
        let postgres = "postgres (PostgreSQL) 15.18 (Debian 15.18-0+deb12u1)";
        assert_eq!(version_in(postgres), Some("15.18"));
        assert_eq!(version_in("PgBouncer 1.18.0\nlibevent 2.1.12-stable"), Some("1.18.0"));
        assert_eq!(version_in("nats-server: v2.9.10"), Some("2.9.10"));
        assert_eq!(version_in("error while loading shared libraries: libx.so.5"), None);
        assert!(numbers("7.0.15") >= vec![7, 0] && numbers("6.2.9") < vec![7, 0]);
    }
}
