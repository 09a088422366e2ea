//! Everything that tests will want, had before they run.

use crate::{
    cluster,
    error::Result,
    folder::Folder,
    moto, programs,
    python::{INTEROP, Python},
    user::User,
};
use std::path::PathBuf;

/// A program that tests use.
#[derive(Clone, Debug)]
pub struct Installed {
    /// What it is: `Redis`.
    pub name: &'static str,
    /// Its version, as it says it.
    pub version: String,
    /// Where it is.
    pub path: PathBuf,
}

/// Finds all servers' programs and Python's packages, installs what is nowhere, and makes what is
/// made once, so that no test waits for it.
///
/// # Errors
///
/// One of them is nowhere and can't be installed; the error says how to do it by hand.
pub fn install() -> Result<Vec<Installed>> {
    let mut all = Vec::new();
    for kind in [&programs::REDIS, &programs::NATS, &programs::POSTGRES, &programs::PGBOUNCER] {
        let found = programs::find(kind)?;
        all.push(Installed { name: kind.name, version: found.version, path: found.path });
    }
    let user = User::without_rights()?;
    let folder = Folder::new(user, "KILL")?;
    let postgres = programs::find(&programs::POSTGRES)?.for_user(user, &folder)?;
    cluster::copy(&postgres, user, &folder)?;
    // As tests ask for them.
    Python::with(&[])?;
    Python::with(moto::PACKAGES)?;
    let python = Python::with(INTEROP)?;
    let version = python.run("import platform; print(platform.python_version())", &[])?;
    let path = python.program().to_owned();
    all.push(Installed { name: "Python", version: version.trim().to_owned(), path });
    Ok(all)
}
