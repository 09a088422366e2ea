//! Looks for a program, and has it installed if it is nowhere.

use super::{Kind, Program, debian, docker};
use crate::{
    error::{Error, Result},
    lock::Lock,
    place,
};
use std::{
    collections::BTreeMap,
    env, fs,
    path::{Path, PathBuf},
    sync::{Mutex, PoisonError},
};

/// What was found: it stays where it is while the program runs.
static FOUND: Mutex<BTreeMap<&'static str, Program>> = Mutex::new(BTreeMap::new());

/// Finds a program of that kind: where its variable says; else in `PATH`, where systems keep it, or
/// below the kept folder; else installs it there.
pub(crate) fn find(kind: &Kind) -> Result<Program> {
    let mut known = FOUND.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(program) = known.get(kind.name) {
        return Ok(program.clone());
    }
    let program = look(kind)?;
    known.insert(kind.name, program.clone());
    Ok(program)
}

fn look(kind: &Kind) -> Result<Program> {
    if let Some(named) = env::var_os(kind.variable).filter(|value| !value.is_empty()) {
        return told(kind, Path::new(&named));
    }
    let dockers = docker::root(&place::kept(), kind);
    let by_docker = || {
        docker::install(kind, &dockers).and_then(|()| {
            unpacked(kind, &dockers).ok_or_else(|| "its image does not run by Docker".to_owned())
        })
    };
    if env::var_os(docker::WANTED).is_some_and(|value| !value.is_empty()) && !kind.image.is_empty()
    {
        return by_docker().map_err(|why| missing(kind, &[], &why));
    }
    let mut wrong = Vec::new();
    for folder in place::path().into_iter().chain(places(kind.folders)) {
        match Program::at(kind, &folder.join(kind.program), None) {
            Some(Ok(program)) => return Ok(program),
            Some(Err(why)) => wrong.push(why),
            None => {}
        }
    }
    let root = place::kept().join(kind.program);
    if let Some(program) = unpacked(kind, &root) {
        return Ok(program);
    }
    // One at a time, whatever it is: they share what apt keeps.
    let _lock = Lock::on(&place::kept().join("install.lock"))?;
    // Another process may have installed it meanwhile.
    if let Some(program) = unpacked(kind, &root) {
        return Ok(program);
    }
    let installed = debian::install(kind, &root).and_then(|()| {
        unpacked(kind, &root).ok_or_else(|| "it was unpacked and does not run".to_owned())
    });
    let installed =
        installed.or_else(|why| by_docker().map_err(|docker| format!("{why}; {docker}")));
    installed.map_err(|why| missing(kind, &wrong, &why))
}

/// Returns a file that ends so, of packages that hold no program; has them unpacked if it is not
/// there yet.
pub(crate) fn file(kind: &Kind, end: &str) -> Result<PathBuf> {
    let root = place::kept().join(kind.program);
    let _lock = Lock::on(&place::kept().join("install.lock"))?;
    let look = || {
        let folders = kind.folders.iter().map(|f| root.join(f.trim_start_matches('/')));
        let files = folders.flat_map(|f| fs::read_dir(f).into_iter().flatten().flatten());
        files.map(|file| file.path()).find(|path| path.to_string_lossy().ends_with(end))
    };
    let mut found = look();
    if found.is_none() {
        debian::install(kind, &root).map_err(|why| missing(kind, &[], &why))?;
        found = look();
    }
    found.ok_or_else(|| missing(kind, &[], &format!("there is no file {end} in it")))
}

/// Takes the program that the variable names, or nothing.
fn told(kind: &Kind, named: &Path) -> Result<Program> {
    let path = if named.is_dir() { named.join(kind.program) } else { named.to_owned() };
    let found = Program::at(kind, &path, None);
    let found = found.unwrap_or_else(|| Err(format!("{}: no such program", path.display())));
    found.map_err(|why| Error::new(format!("{} says {why}", kind.variable)))
}

fn missing(kind: &Kind, wrong: &[String], why: &str) -> Error {
    let wrong: String = wrong.iter().map(|why| format!("\n  {why}")).collect();
    let least: Vec<_> = kind.version_min.iter().map(|n| n.to_string()).collect();
    let least =
        if least.is_empty() { String::new() } else { format!(" {} or newer", least.join(".")) };
    let named = match kind.variable {
        "" => String::new(),
        name => format!(", or say where it is by {name}=/path/to/{}", kind.program),
    };
    let docker = if kind.image.is_empty() { "" } else { ", or install Docker, which runs it" };
    Error::new(format!(
        "{}{least} is needed, and could not be installed: {why}\ninstall it by {}{named}{docker}{wrong}",
        kind.name, kind.advice,
    ))
}

/// Returns what was unpacked below that folder, if it runs.
pub(super) fn unpacked(kind: &Kind, root: &Path) -> Option<Program> {
    let below = |folder: &str| root.join(folder.trim_start_matches('/'));
    let usual = ["/usr/bin", "/usr/sbin"].map(below);
    let known = kind.folders.iter().map(|f| below(f).to_string_lossy().into_owned());
    let known: Vec<_> = known.collect();
    let known = places(&known.iter().map(String::as_str).collect::<Vec<_>>());
    let mut all = usual.into_iter().chain(known);
    all.find_map(|folder| Program::at(kind, &folder.join(kind.program), Some(root))?.ok())
}

/// Returns the folders that there are, with the newest version for a `*`.
pub(super) fn places(patterns: &[&str]) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for pattern in patterns {
        let Some((before, after)) = pattern.split_once('*') else {
            found.push(PathBuf::from(pattern));
            continue;
        };
        let (parent, start) = before.rsplit_once('/').unwrap_or(("", before));
        let names = fs::read_dir(parent).into_iter().flatten();
        let names = names.filter_map(|e| e.ok()?.file_name().into_string().ok());
        let mut versions: Vec<u32> =
            names.filter_map(|name| name.strip_prefix(start)?.parse().ok()).collect();
        versions.sort_unstable_by(|a, b| b.cmp(a));
        found.extend(versions.iter().map(|v| PathBuf::from(format!("{before}{v}{after}"))));
    }
    found
}
