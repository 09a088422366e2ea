//! Copies of folders.

use crate::user::User;
use std::{fs, io, os::unix::fs::symlink, path::Path};

/// Copies a folder with all in it, and gives the copy to the user.
pub(crate) fn folder(from: &Path, to: &Path, user: Option<User>) -> io::Result<()> {
    fs::create_dir_all(to)?;
    for entry in fs::read_dir(from)? {
        let entry = entry?;
        let (source, target) = (entry.path(), to.join(entry.file_name()));
        let kind = entry.file_type()?;
        if kind.is_dir() {
            folder(&source, &target, user)?;
        } else if kind.is_symlink() {
            symlink(fs::read_link(&source)?, &target)?;
        } else {
            fs::copy(&source, &target)?;
            user.map_or(Ok(()), |user| user.owns(&target))?;
        }
    }
    fs::set_permissions(to, fs::metadata(from)?.permissions())?;
    user.map_or(Ok(()), |user| user.owns(to))
}

/// Removes a folder with all in it, if it is there.
pub(crate) fn remove(folder: &Path) -> io::Result<()> {
    match fs::remove_dir_all(folder) {
        Err(e) if e.kind() != io::ErrorKind::NotFound => Err(e),
        _ => Ok(()),
    }
}
