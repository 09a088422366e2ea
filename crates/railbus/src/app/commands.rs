//! The commands of an app file: programs that must be there and startable.

use super::{
    table::{Field, Table},
    values::{from_folder, whole},
    work::{CommandSpec, ProcessesSpec},
};
use crate::steps::command::Mode;
use rustix::fs::{Access, access};
use std::{
    env,
    fs::File,
    io::Read,
    path::{Path, PathBuf},
};

/// How a command is written.
pub(super) const EXAMPLE: &str =
    "command = [\"./step.sh\", \"argument\"]; it never goes through a shell";

/// Reads the keys that belong to a command, `command` among them; `None` if one is wrong.
pub(super) fn read(field: &Field<'_>, table: &Table<'_>, folder: &Path) -> Option<CommandSpec> {
    let argv = argv(field, folder);
    let modes = [("document", Mode::Document), ("worker", Mode::Worker)];
    let mode = table.take("mode").map(|f| f.one_of(&modes));
    let given = mode.flatten();
    let executor = table.take("executor").map(|f| processes(&f, given));
    let (program, args) = argv?;
    let mode = whole(mode)?.unwrap_or_default();
    Some(CommandSpec { program, args, mode, executor: whole(executor)? })
}

/// Reads where a command runs: in processes of its own, so that only their number can be said.
fn processes(field: &Field<'_>, mode: Option<Mode>) -> Option<ProcessesSpec> {
    const EXECUTOR: &str = "executor = { kind = \"processes\", max_workers = 4 }";
    let table = field.table("`executor`", Some(format!("write {EXECUTOR}")))?;
    let kind = table.need("kind", EXECUTOR).and_then(|kind| match kind.text()? {
        "processes" => Some(()),
        other => {
            let why = format!("a command can't run by `{}`", other.escape_debug());
            let hint = format!("it is a process of its own: {EXECUTOR}");
            kind.notes.hinted(kind.span.clone(), why, hint);
            None
        }
    });
    let workers = table.take("max_workers").map(|f| f.count());
    let tasks = table.take("max_tasks_per_child").map(|f| {
        if mode != Some(Mode::Worker) {
            let why = "`max_tasks_per_child` is for workers";
            let hint = "add mode = \"worker\"; else a command is a new process for each task";
            f.notes.hinted(f.key_span.clone(), why, hint);
            return None;
        }
        f.count()
    });
    table.finish();
    kind?;
    let max_workers = whole(workers)?.map(|n| usize::try_from(n).unwrap_or(usize::MAX));
    Some(ProcessesSpec { max_workers, max_tasks_per_child: whole(tasks)? })
}

/// Reads a command. Its program must be there, executable, and something that can be started:
/// with a `/` it is resolved from the folder, else looked up in `PATH`.
fn argv(field: &Field<'_>, folder: &Path) -> Option<(PathBuf, Vec<String>)> {
    let texts = field.texts(EXAMPLE)?;
    let (first, args) = texts.split_first()?;
    let args = args.iter().map(|&arg| arg.to_owned()).collect();
    let checked = if first.contains('/') {
        startable(from_folder(folder, first))
    } else {
        in_path(first, folder)
    };
    match checked {
        Ok(program) => Some((program, args)),
        Err((why, hint)) => {
            field.notes.hinted(field.span.clone(), why, hint);
            None
        }
    }
}

/// Checks that a file can be started; else tells why not, and what to do.
fn startable(program: PathBuf) -> Result<PathBuf, (String, String)> {
    let shown = program.display();
    let missing = || "a command with a `/` is looked up from the app file's folder".to_owned();
    match std::fs::metadata(&program) {
        Err(error) => Err((format!("can't find {shown}: {error}"), missing())),
        Ok(found) if !found.is_file() => Err((format!("{shown} is not a file"), missing())),
        Ok(_) if access(&program, Access::EXEC_OK).is_err() => {
            Err((format!("{shown} is not executable"), format!("chmod +x {shown}")))
        }
        Ok(_) if !has_format(&program) => {
            let why = format!("{shown} has no first line such as #!/bin/sh");
            Err((why, "begin the script with the program that runs it".into()))
        }
        Ok(_) => Ok(program),
    }
}

/// Tells whether a file begins as scripts or programs do. What can't be read may be one.
fn has_format(program: &Path) -> bool {
    const PROGRAMS: [[u8; 4]; 6] = [
        *b"\x7fELF",
        [0xfe, 0xed, 0xfa, 0xce],
        [0xfe, 0xed, 0xfa, 0xcf],
        [0xce, 0xfa, 0xed, 0xfe],
        [0xcf, 0xfa, 0xed, 0xfe],
        [0xca, 0xfe, 0xba, 0xbe],
    ];
    let Ok(file) = File::open(program) else { return true };
    let mut head = Vec::with_capacity(4);
    if file.take(4).read_to_end(&mut head).is_err() {
        return true;
    }
    head.starts_with(b"#!") || PROGRAMS.iter().any(|magic| head == magic)
}

/// Checks that a bare name is found in `PATH`; it stays as it is.
fn in_path(name: &str, folder: &Path) -> Result<PathBuf, (String, String)> {
    let runs = |path: &Path| path.is_file() && access(path, Access::EXEC_OK).is_ok();
    // Without a PATH the system has one of its own, which is not known here.
    let found = env::var_os("PATH")
        .is_none_or(|all| env::split_paths(&all).any(|folder| runs(&folder.join(name))));
    if found {
        return Ok(name.into());
    }
    let hint = if folder.join(name).is_file() {
        format!("did you mean \"./{name}\"? A command without a `/` is looked up in PATH")
    } else {
        "install it, or write its path; a command without a `/` is looked up in PATH".into()
    };
    Err((format!("there is no `{}` in PATH", name.escape_debug()), hint))
}
