//! A folder of PostgreSQL's data, made once and copied for each server.

use crate::{
    copy,
    error::{Doing, Error, Result},
    folder::Folder,
    lock::Lock,
    place,
    programs::Program,
    user::User,
};
use std::{
    fs,
    path::PathBuf,
    process::{Command, Stdio},
};

/// The user and the database that there are from the beginning.
pub(crate) const OWNER: &str = "postgres";

/// Copies a fresh cluster to `data` in the folder; the first to ask for that version makes it.
pub(crate) fn copy(program: &Program, user: Option<User>, folder: &Folder) -> Result<PathBuf> {
    let source = made(program, user)?;
    let data = folder.path().join("data");
    copy::folder(&source, &data, user)
        .doing(|| format!("copy {} to {}", source.display(), data.display()))?;
    Ok(data)
}

fn made(program: &Program, user: Option<User>) -> Result<PathBuf> {
    let at = |kind: &str| place::kept().join(format!("cluster-{}{kind}", program.version));
    let cluster = at("");
    let _lock = Lock::on(&at(".lock"))?;
    if cluster.is_dir() {
        return Ok(cluster);
    }
    // Where the user without rights may write; kept by whoever runs the tests.
    let work = Folder::new(user, "KILL")?;
    let data = work.path().join("data");
    let mut command = Command::new(program.beside("initdb"));
    program.surroundings(&mut command);
    command.args(["--username", OWNER, "--auth=trust", "--encoding=UTF8", "--locale=C"]);
    command.args(["--no-sync", "--pgdata"]).arg(&data).stdin(Stdio::null()).current_dir("/");
    program.within(&mut command, user, work.path());
    let output = command.output().doing(|| "start initdb".into())?;
    if !output.status.success() {
        let said = String::from_utf8_lossy(&output.stderr);
        return Err(Error::new(format!("initdb: {}\n{}", output.status, said.trim())));
    }
    let fresh = at(".new");
    let kept = copy::remove(&fresh).and_then(|()| copy::folder(&data, &fresh, None));
    kept.and_then(|()| fs::rename(&fresh, &cluster))
        .doing(|| format!("keep {}", cluster.display()))?;
    Ok(cluster)
}
