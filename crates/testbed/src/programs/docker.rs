//! The last resort: programs of Docker's images, on a machine that has Docker and nothing else.

use super::{Kind, Program};
use crate::place;
use std::{
    fs::{self, Permissions},
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

/// A program of an image, as if it were here: in the machine's network, with the server's folder, as
/// whoever is to be its user, of whom the machine knows the name.
const SCRIPT: &str = r#"#!/bin/sh
# Written by railbus-testbed.
set -- IMAGE "$@"
if [ -n "$RAILBUS_CONTAINER" ]; then
    while docker container inspect "$RAILBUS_CONTAINER" >/dev/null 2>&1; do
        docker rm -f "$RAILBUS_CONTAINER" >/dev/null 2>&1
    done
    set -- --name "$RAILBUS_CONTAINER" "$@"
fi
[ -z "$RAILBUS_FOLDER" ] || set -- -v "$RAILBUS_FOLDER:$RAILBUS_FOLDER" "$@"
exec docker run --rm --network host --label railbus-testbed -v /etc/passwd:/etc/passwd:ro \
    --user "${RAILBUS_USER:-$(id -u):$(id -g)}" --entrypoint PROGRAM "$@"
"#;

/// Says that servers run by Docker even where there are programs.
pub(crate) const WANTED: &str = "RAILBUS_TESTBED_DOCKER";

/// The name of the file that tells that programs below a folder are Docker's.
const MARK: &str = "docker";

/// Returns where the programs of a kind are that are Docker's.
pub(super) fn root(kept: &Path, kind: &Kind) -> PathBuf {
    kept.join(format!("docker-{}", kind.program))
}

/// Writes what runs the programs of a kind by Docker, if it is there and has an image of them.
pub(super) fn install(kind: &Kind, root: &Path) -> Result<(), String> {
    if kind.image.is_empty() {
        return Err("there is no image of it for Docker".into());
    }
    let mut version = Command::new("docker");
    let output = version.arg("version").stdin(Stdio::null()).output();
    let output = output.map_err(|e| format!("docker: {e}"))?;
    if !output.status.success() {
        let said = String::from_utf8_lossy(&output.stderr);
        return Err(format!("docker version: {}: {}", output.status, said.trim()));
    }
    let folder = root.join("usr/bin");
    let written = fs::create_dir_all(&folder).and_then(|()| {
        for program in [&[kind.program], kind.beside].concat() {
            let (path, fresh) = (folder.join(program), folder.join(format!("{program}.new")));
            let text = SCRIPT.replace("IMAGE", kind.image).replace("PROGRAM", program);
            fs::write(&fresh, text)?;
            fs::set_permissions(&fresh, Permissions::from_mode(0o755))?;
            fs::rename(&fresh, path)?;
        }
        fs::write(root.join(MARK), kind.image)
    });
    written.map_err(|e| format!("write {}: {e}", folder.display()))
}

/// Tells whether what is below that folder runs by Docker.
pub(super) fn is_at(root: &Path) -> bool {
    root.join(MARK).is_file()
}

/// Returns where Docker's own program is.
pub(crate) fn path_of_docker() -> String {
    let found = place::path().into_iter().map(|f| f.join("docker")).find(|p| p.is_file());
    found.map_or_else(|| "docker".into(), |path| path.display().to_string())
}

/// Does something to a container; one that is gone is as good.
pub(crate) fn tell(program: &Program, order: &[&str], container: &str) {
    let mut command = Command::new("docker");
    program.surroundings(&mut command);
    command.args(order).arg(container);
    let _ = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).status();
}
