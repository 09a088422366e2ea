//! Whom a server runs as: PostgreSQL and PgBouncer refuse to run as root.

use crate::error::{Error, Result};
use std::{
    fs,
    os::unix::fs::{MetadataExt, chown},
    path::Path,
    process::Command,
};

/// A user without rights.
#[derive(Clone, Copy, Debug)]
pub(crate) struct User {
    pub(crate) uid: u32,
    pub(crate) gid: u32,
}

impl User {
    /// Returns whom to run as: nobody else than oneself, or, as root, `postgres` or `nobody`.
    pub(crate) fn without_rights() -> Result<Option<Self>> {
        if !rustix::process::geteuid().is_root() {
            return Ok(None);
        }
        let known = ["postgres", "nobody"].into_iter().find_map(|name| {
            Some(Self { uid: id("-u", name)?, gid: id("-g", name)? }).filter(|user| user.uid != 0)
        });
        let why =
            "as root a user without rights is needed: neither `postgres` nor `nobody` is known";
        known.map(Some).ok_or_else(|| Error::new(why))
    }

    /// Tells whether this user gets to what is in that folder.
    pub(crate) fn reaches(self, folder: &Path) -> bool {
        let Ok(folder) = folder.canonicalize() else { return false };
        folder.ancestors().all(|part| {
            fs::metadata(part).is_ok_and(|data| {
                let mode = data.mode();
                let class = match (data.uid() == self.uid, data.gid() == self.gid) {
                    (true, _) => mode >> 6,
                    (_, true) => mode >> 3,
                    _ => mode,
                };
                class & 1 == 1
            })
        })
    }

    /// Makes a file or folder this user's.
    pub(crate) fn owns(self, path: &Path) -> std::io::Result<()> {
        chown(path, Some(self.uid), Some(self.gid))
    }
}

fn id(option: &str, name: &str) -> Option<u32> {
    let output = Command::new("id").args([option, name]).output().ok()?;
    String::from_utf8_lossy(&output.stdout).trim().parse().ok()
}
