//! The guardian: one shell beside the program that kills the steps' processes if the program dies.
//!
//! A program that is killed with SIGKILL can't clean up behind itself, and not every system can
//! tell a child that its parent died. So the guardian holds the reading end of a pipe that only
//! the program writes to. The pipe ends with the program, however it ends, and the guardian then
//! kills every process group it was told of and not told to forget.

use rustix::process::{Pid, Signal, kill_process_group};
use std::{
    collections::BTreeSet,
    io::{self, Write},
    os::unix::process::CommandExt,
    process::{Child, Command, Stdio},
    sync::{Mutex, PoisonError},
};

/// The environment variable by which the guardian finds a child that had no time to be announced.
pub(crate) const MARK: &str = "RAILBUS_GUARD";

/// How much of stderr is kept: its end.
const TAIL_MAX: usize = 2048;

/// Reads `+ NAME` and `- NAME`; at the end kills what is left. A name in digits is a process
/// group; any other is the mark of a child whose parent died while it was being started: it is
/// looked up where the system shows the environments of processes, a few times, since it may be
/// about to come.
const SCRIPT: &str = r#"
trap '' HUP INT QUIT TERM
names=' '
while read -r sign name; do
    case $sign in
    +) names="$names$name " ;;
    -) case $names in
        *" $name "*) names="${names%%" $name "*} ${names#*" $name "}" ;;
        esac ;;
    esac
done
marks=
for name in $names; do
    case $name in
    *[!0-9]*) marks="$marks $name" ;;
    *) kill -s KILL -- "-$name" ;;
    esac
done
for pause in 0 0.1 0.5; do
    [ -n "$marks" ] && [ -d /proc/self ] || break
    sleep "$pause"
    for mark in $marks; do
        for file in $(grep -lsF "RAILBUS_GUARD=$mark" /proc/[0-9]*/environ); do
            pid=${file#/proc/}
            pid=${pid%/environ}
            kill -s KILL -- "-$pid"
            kill -s KILL "$pid"
        done
    done
done
"#;

static GUARDIAN: Mutex<Guardian> = Mutex::new(Guardian { shell: None, names: BTreeSet::new() });

struct Guardian {
    shell: Option<Child>,
    // Everything the shell watches, so that another shell can take over.
    names: BTreeSet<String>,
}

impl Guardian {
    /// Runs `change` on the one guardian of this program.
    fn with<T>(change: impl FnOnce(&mut Self) -> T) -> T {
        // What a panic may leave behind is a name too many, which harms nobody.
        change(&mut GUARDIAN.lock().unwrap_or_else(PoisonError::into_inner))
    }

    fn watch(&mut self, name: &str) -> io::Result<()> {
        self.names.insert(name.to_owned());
        if self.tell(&format!("+ {name}\n")).is_ok() {
            return Ok(());
        }
        let replayed: String = self.names.iter().map(|name| format!("+ {name}\n")).collect();
        self.start().and_then(|()| self.tell(&replayed)).inspect_err(|_| {
            self.names.remove(name);
        })
    }

    fn forget(&mut self, name: &str) {
        // A shell that does not listen any more is replaced at the next `watch`.
        if self.names.remove(name) && self.tell(&format!("- {name}\n")).is_err() {
            self.end();
        }
    }

    fn tell(&mut self, lines: &str) -> io::Result<()> {
        match self.shell.as_mut().and_then(|shell| shell.stdin.as_mut()) {
            Some(pipe) => pipe.write_all(lines.as_bytes()),
            None => Err(io::ErrorKind::NotConnected.into()),
        }
    }

    /// Starts the shell in a group of its own, so that Ctrl-C and the end of the program's own
    /// group leave it alive; without the environment, which may hold secrets.
    fn start(&mut self) -> io::Result<()> {
        self.end();
        let mut command = Command::new("/bin/sh");
        command.args(["-c", SCRIPT, "railbus-guardian"]);
        command.env_clear().env("PATH", "/usr/bin:/bin").current_dir("/").process_group(0);
        command.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::null());
        self.shell = Some(command.spawn()?);
        Ok(())
    }

    fn end(&mut self) {
        if let Some(mut shell) = self.shell.take() {
            // Both fail only if it is gone already.
            let _ = shell.kill();
            let _ = shell.wait();
        }
    }
}

/// A child in the guardian's care, from before it starts; its whole group is killed on drop.
///
/// The group's leader must not be reaped while this lives: until then nobody else can get its
/// number.
#[derive(Debug)]
pub(crate) struct Ward {
    mark: String,
    group: Option<Pid>,
}

impl Ward {
    /// Announces a child that is about to be started with [`Ward::mark`] in its environment.
    pub(crate) fn announce() -> io::Result<Self> {
        let ward = Self { mark: format!("step-{}", crate::id::new_id()), group: None };
        Guardian::with(|guardian| guardian.watch(&ward.mark))?;
        Ok(ward)
    }

    /// Returns the value of [`MARK`] for the child.
    pub(crate) fn mark(&self) -> &str {
        &self.mark
    }

    /// Takes in the child's process group, now that it has started.
    pub(crate) fn started(&mut self, group: Pid) -> io::Result<()> {
        self.group = Some(group);
        Guardian::with(|guardian| {
            guardian.watch(&number(group))?;
            guardian.forget(&self.mark);
            Ok(())
        })
    }

    /// Kills every process of the group.
    pub(crate) fn kill(&self) {
        if let Some(group) = self.group {
            // It fails if nobody is left.
            let _ = kill_process_group(group, Signal::KILL);
        }
    }
}

impl Drop for Ward {
    fn drop(&mut self) {
        self.kill();
        Guardian::with(|guardian| {
            guardian.forget(&self.mark);
            if let Some(group) = self.group {
                guardian.forget(&number(group));
            }
        });
    }
}

fn number(group: Pid) -> String {
    group.as_raw_nonzero().to_string()
}

/// The end of a text of any length, in bounded memory.
#[derive(Debug, Default)]
pub(crate) struct Tail {
    bytes: Vec<u8>,
    is_cut: bool,
}

impl Tail {
    pub(crate) fn push(&mut self, more: &[u8]) {
        self.bytes.extend_from_slice(more);
        if self.bytes.len() > 2 * TAIL_MAX {
            self.cut();
        }
    }

    fn cut(&mut self) {
        let over = self.bytes.len().saturating_sub(TAIL_MAX);
        self.bytes.drain(..over);
        self.is_cut |= over > 0;
    }

    /// Returns the tail as text on which a terminal or a store can't choke.
    pub(crate) fn text(mut self) -> String {
        self.cut();
        let text = String::from_utf8_lossy(&self.bytes);
        let harmless = |c: char| c == '\n' || c == '\t' || !c.is_control();
        let clean: String =
            text.trim().chars().map(|c| if harmless(c) { c } else { '\u{fffd}' }).collect();
        if self.is_cut { format!("…{clean}") } else { clean }
    }
}
