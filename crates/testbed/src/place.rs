//! Where things are: what is kept from run to run, and what goes with its server.

use std::{
    env,
    path::{Path, PathBuf},
};

/// Returns the folder for what is installed and made once: `RAILBUS_TESTBED`, by default
/// `servers` below cargo's target folder.
pub(crate) fn kept() -> PathBuf {
    if let Some(folder) = env::var_os("RAILBUS_TESTBED") {
        return folder.into();
    }
    let target = env::var_os("CARGO_TARGET_DIR").map(PathBuf::from);
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    let root = root.canonicalize().unwrap_or(root);
    // A relative one is meant from where cargo was called, which is the root as a rule.
    root.join(target.unwrap_or_else(|| "target".into())).join("servers")
}

/// Returns the variables that say where Docker is, and who asks it.
pub(crate) fn of_docker() -> impl Iterator<Item = (&'static str, std::ffi::OsString)> {
    let names = ["HOME", "DOCKER_HOST", "DOCKER_CONTEXT", "DOCKER_CONFIG", "XDG_RUNTIME_DIR"];
    names.into_iter().filter_map(|name| Some((name, env::var_os(name)?)))
}

/// Returns the folders of `PATH`.
pub(crate) fn path() -> Vec<PathBuf> {
    env::var_os("PATH").map(|path| env::split_paths(&path).collect()).unwrap_or_default()
}
