//! Looking at a store from outside: what `doctor` tells of it.

use super::{
    fault::fault,
    file::{connect, examine, owner},
    schema::VERSION,
    settings::{Settings, shown},
};
use crate::{
    backends::checkup::{Check, Checkup},
    error::{Error, ErrorKind, Result},
    options::Options,
};
use rusqlite::Connection;
use rustix::fs::{Access, access, statvfs};
use std::{
    fs,
    path::{Path, PathBuf},
};

const OPERATION: &str = "look at sqlite";

/// Below this much free space an app that is busy may soon stop.
const LITTLE_SPACE: u64 = 256 << 20;

/// A log that grows beyond this is not being written back.
const LARGE_LOG: u64 = 64 << 20;

/// The largest file that is read through to find damage: about a second's work.
const READ_THROUGH: u64 = 256 << 20;

/// Looks at the file and its folder; nothing is created or changed. May block.
pub fn look(options: &Options) -> Checkup {
    let mut checkup = Checkup::default();
    let settings = match Settings::read(options) {
        Ok(settings) => settings,
        Err(error) => {
            checkup.checks.push(Check::failed("settings", &error));
            return checkup;
        }
    };
    checkup.checks.push(said(&settings));
    let folder = folder_of(&settings.path);
    let size = examine(&settings.path);
    let can_write = writable(&folder);
    let sound = can_write.is_ok() && size.is_ok();
    checkup.add("folder", can_write);
    checkup.add("disk", free(&folder));
    checkup.begins = matches!(size, Ok(None | Some(0)));
    checkup.add("file", size.and_then(|size| file(&settings, size)));
    if !sound || checkup.begins {
        return checkup;
    }
    checkup.checks.push(log(&settings.path));
    let connection = match connect(&settings).and_then(|c| inside(c, &settings, &mut checkup)) {
        Ok(connection) => connection,
        Err(error) => {
            checkup.checks.push(Check::failed("schema", &error));
            return checkup;
        }
    };
    checkup.add("integrity", integrity(&connection, &settings));
    checkup
}

fn said(settings: &Settings) -> Check {
    let synchronous = match settings.full_sync {
        true => "full: an Ok survives power loss",
        false => "normal: the last Oks may go with the power",
    };
    let max_size = settings.max_size.map_or_else(|| "unlimited".into(), size_of);
    Check::ok(
        "settings",
        format!(
            "synchronous {synchronous}; retention {:?}, busy_timeout {:?}, max_size {max_size}",
            settings.retention, settings.busy_timeout
        ),
    )
}

fn folder_of(path: &Path) -> PathBuf {
    match path.parent() {
        Some(folder) if !folder.as_os_str().is_empty() => folder.into(),
        _ => ".".into(),
    }
}

/// Checks that the log can be written next to the file.
fn writable(folder: &Path) -> Result<Check> {
    let refused = |kind, why: &'static str, hint: &str, cause: rustix::io::Errno| {
        let error = Error::new(kind, OPERATION, why).with("folder", shown(folder));
        error.because(std::io::Error::from(cause)).hint(hint)
    };
    match access(folder, Access::WRITE_OK | Access::EXEC_OK) {
        Ok(()) => Ok(Check::ok("folder", format!("{} can be written", shown(folder)))),
        Err(e @ (rustix::io::Errno::NOENT | rustix::io::Errno::NOTDIR)) => Err(refused(
            ErrorKind::NotFound,
            "the file's folder does not exist",
            "create the folder, or name another one",
            e,
        )),
        Err(e) => Err(refused(
            ErrorKind::Denied,
            "the file's folder can't be written",
            "SQLite keeps its log next to the file: give this user write permission on the folder",
            e,
        )),
    }
}

fn free(folder: &Path) -> Result<Check> {
    let disk = statvfs(folder).map_err(|e| {
        Error::new(ErrorKind::Unavailable, OPERATION, "the disk can't be asked for its space")
            .with("folder", shown(folder))
            .because(std::io::Error::from(e))
    })?;
    let free = disk.f_bavail.saturating_mul(disk.f_frsize);
    let detail = format!("{} free", size_of(free));
    Ok(match free < LITTLE_SPACE {
        true => Check::warn("disk", detail, "free some space: a full disk stops publishing"),
        false => Check::ok("disk", detail),
    })
}

fn file(settings: &Settings, size: Option<u64>) -> Result<Check> {
    let path = shown(&settings.path);
    let size = match size {
        None | Some(0) => {
            let why = if size.is_none() { "does not exist yet" } else { "is empty" };
            let advice = "it becomes a store when a bus first opens it";
            return Ok(Check::warn("file", format!("{path} {why}"), advice));
        }
        Some(size) => size,
    };
    access(&settings.path, Access::READ_OK | Access::WRITE_OK).map_err(|e| {
        Error::new(ErrorKind::Denied, OPERATION, "this user can't read and write the file")
            .with("file", &path)
            .because(std::io::Error::from(e))
            .hint("give this user permission to read and write it")
    })?;
    let detail = format!("{path}, {}", size_of(size));
    Ok(match settings.max_size {
        Some(most) if size >= most / 10 * 9 => {
            let advice = "raise max_size or lower retention: a full file stops publishing";
            Check::warn("file", format!("{detail} of at most {}", size_of(most)), advice)
        }
        _ => Check::ok("file", detail),
    })
}

fn log(path: &Path) -> Check {
    let mut log = path.as_os_str().to_owned();
    log.push("-wal");
    let size = fs::metadata(log).map_or(0, |about| about.len());
    let detail = format!("{} not yet written back", size_of(size));
    match size > LARGE_LOG {
        true => {
            let advice = "look for a process that hangs in a transaction on this file";
            Check::warn("log", detail, advice)
        }
        false => Check::ok("log", detail),
    }
}

/// Checks whose file it is, and how old its schema.
fn inside(
    connection: Connection,
    settings: &Settings,
    checkup: &mut Checkup,
) -> Result<Connection> {
    let failed = |e| fault(OPERATION, &settings.path, e);
    connection.pragma_update(None, "query_only", true).map_err(failed)?;
    let found = owner(&connection, settings)?;
    checkup.begins = found < VERSION;
    let detail = format!("version {found}");
    checkup.checks.push(match found < VERSION {
        true => {
            let advice = "the next bus that opens it brings it up to date; older programs can't \
                          open it then";
            Check::warn("schema", format!("{detail}, this railbus has {VERSION}"), advice)
        }
        false => Check::ok("schema", detail),
    });
    Ok(connection)
}

fn integrity(connection: &Connection, settings: &Settings) -> Result<Check> {
    let failed = |e| fault(OPERATION, &settings.path, e);
    let size = fs::metadata(&settings.path).map_or(0, |about| about.len());
    if size > READ_THROUGH {
        let detail = format!("not read through: larger than {}", size_of(READ_THROUGH));
        return Ok(Check::ok("integrity", detail));
    }
    let said: String =
        connection.query_row("PRAGMA quick_check(1)", [], |row| row.get(0)).map_err(failed)?;
    if said == "ok" {
        return Ok(Check::ok("integrity", "no damage found"));
    }
    Err(Error::new(ErrorKind::Corrupt, OPERATION, "the database file is damaged")
        .with("file", shown(&settings.path))
        .with("found", said.lines().collect::<Vec<_>>().join(" "))
        .hint("restore it from a copy, or save what is left with `sqlite3 FILE .recover`"))
}

/// Writes a size as people read it.
fn size_of(bytes: u64) -> String {
    let units = [(30, "GiB"), (20, "MiB"), (10, "KiB")];
    match units.into_iter().find(|(shift, _)| bytes >> shift > 0) {
        Some((shift, unit)) => format!("{:.1} {unit}", bytes as f64 / (1u64 << shift) as f64),
        None => format!("{bytes} bytes"),
    }
}
