//! A server's processes, and signals to them.

use rustix::process::{Pid, Signal, kill_process, kill_process_group, test_kill_process};
use std::{
    fs,
    path::Path,
    process::{Child, Command, ExitStatus},
    thread,
    time::{Duration, Instant},
};

/// How long processes that were killed may take to be gone.
const PATIENCE: Duration = Duration::from_secs(5);

/// Returns the processes whose parent that one is. PostgreSQL gives each of them a group of its
/// own, so that a signal to the server's group does not get to them.
fn children(parent: u32) -> Vec<u32> {
    let pairs = match fs::read_dir("/proc/self").and_then(|_| fs::read_dir("/proc")) {
        Ok(entries) => entries.filter_map(|e| pair_of_stat(&e.ok()?.path().join("stat"))).collect(),
        Err(_) => pairs_of_ps(),
    };
    pairs.into_iter().filter(|(_, of)| *of == parent).map(|(pid, _)| pid).collect()
}

/// Reads process and parent; what is between them is a name in parentheses, and a letter.
fn pair_of_stat(path: &Path) -> Option<(u32, u32)> {
    let text = fs::read_to_string(path).ok()?;
    let (pid, rest) = text.split_once(' ')?;
    let (_, rest) = rest.rsplit_once(')')?;
    Some((pid.parse().ok()?, rest.split_whitespace().nth(1)?.parse().ok()?))
}

fn pairs_of_ps() -> Vec<(u32, u32)> {
    let output = Command::new("ps").args(["-A", "-o", "pid=", "-o", "ppid="]).output();
    let text = output.map(|o| String::from_utf8_lossy(&o.stdout).into_owned()).unwrap_or_default();
    let pair = |line: &str| {
        let (pid, parent) = line.trim().split_once(' ')?;
        Some((pid.parse().ok()?, parent.trim().parse().ok()?))
    };
    text.lines().filter_map(pair).collect()
}

pub(crate) fn signal(pid: u32, signal: Signal) {
    if let Some(pid) = number(pid) {
        // It fails if the process is gone, which is as good.
        let _ = kill_process(pid, signal);
    }
}

/// Kills a server with all its processes, as a machine that loses its power does.
pub(crate) fn kill(pid: u32) {
    // Stopped first, so that it starts none while they are looked up.
    signal(pid, Signal::STOP);
    let children = children(pid);
    signal(pid, Signal::KILL);
    if let Some(group) = number(pid) {
        let _ = kill_process_group(group, Signal::KILL);
    }
    children.iter().for_each(|child| signal(*child, Signal::KILL));
    // PostgreSQL does not start again while one of its own is there.
    let start = Instant::now();
    while children.iter().any(|child| is_alive(*child)) && start.elapsed() < PATIENCE {
        thread::sleep(Duration::from_millis(1));
    }
}

/// Tells whether there is such a process, other than one that has ended and waits to be noticed.
fn is_alive(pid: u32) -> bool {
    match fs::read_to_string(format!("/proc/{pid}/stat")) {
        Ok(text) => text.rsplit_once(") ").is_some_and(|(_, rest)| !rest.starts_with('Z')),
        Err(_) if Path::new("/proc/self").exists() => false,
        Err(_) => number(pid).is_some_and(|pid| test_kill_process(pid).is_ok()),
    }
}

/// Stops a server with all its processes, the server first.
pub(crate) fn pause(pid: u32) {
    signal(pid, Signal::STOP);
    children(pid).into_iter().for_each(|child| signal(child, Signal::STOP));
}

/// Lets all processes of a server go on, the server last.
pub(crate) fn resume(pid: u32) {
    children(pid).into_iter().for_each(|child| signal(child, Signal::CONT));
    signal(pid, Signal::CONT);
}

fn number(pid: u32) -> Option<Pid> {
    i32::try_from(pid).ok().and_then(Pid::from_raw)
}

/// Waits for a process; returns nothing if it does not end in time.
pub(crate) fn ends(child: &mut Child, patience: Duration) -> Option<ExitStatus> {
    let start = Instant::now();
    while start.elapsed() < patience {
        if let Ok(Some(status)) = child.try_wait() {
            return Some(status);
        }
        thread::sleep(Duration::from_millis(5));
    }
    None
}
