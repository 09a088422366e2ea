//! A test run that is killed with SIGKILL leaves no server and no folder behind.
//!
//! This program is that test run, and whoever kills it: it starts itself again.
#![allow(clippy::unwrap_used)]

use railbus_testbed::{PgBouncer, Postgres, Python, Redis, Result};
use std::{
    env, fs,
    io::{BufRead, BufReader, Write},
    path::PathBuf,
    process::{Child, Command, Stdio},
    thread,
    time::{Duration, Instant},
};

const ROLE: &str = "RAILBUS_TESTBED_KILLED";

/// How long what was left behind may still be there.
const PATIENCE: Duration = Duration::from_secs(30);

fn main() {
    if env::var_os(ROLE).is_some() {
        run_until_killed().unwrap();
    }
    everything_goes_with_the_test_run();
    println!("test everything_goes_with_the_test_run ... ok");
}

/// Starts one of each, says where they are, and waits.
fn run_until_killed() -> Result<()> {
    let (redis, paused) = (Redis::start()?, Redis::start()?);
    let (postgres, broken) = (Postgres::start()?, Postgres::start()?);
    let bouncer = PgBouncer::before(&postgres)?;
    let python =
        Python::with(&[])?.start("import os, time\nprint(os.getpid())\ntime.sleep(600)", &[])?;
    let program = python.line(PATIENCE)?;
    // A child of the server that is busy, and some that are stopped.
    let busy = "DO $$ BEGIN PERFORM pg_sleep(600); END $$";
    let url = postgres.url("postgresql");
    thread::scope(|scope| {
        scope.spawn(|| postgres.psql_at(&url, busy));
        let count = "SELECT count(*) FROM pg_stat_activity WHERE query LIKE 'DO %'";
        while postgres.psql("postgres", count).unwrap() != "1" {}
        paused.pause().unwrap();
        broken.kill().unwrap();
        let mut told = format!("{program} -\n");
        for server in [&*redis, &*paused, &*postgres, &*broken, &*bouncer] {
            let pid = server.pid().unwrap_or(0);
            told += &format!("{pid} {}\n", server.folder().display());
        }
        std::io::stdout().write_all(format!("{told}over\n").as_bytes()).unwrap();
        loop {
            thread::park();
        }
    })
}

/// The test run, which is killed, also if a test of it fails.
struct Run(Child);

impl Drop for Run {
    fn drop(&mut self) {
        self.0.kill().unwrap();
        self.0.wait().unwrap();
    }
}

fn everything_goes_with_the_test_run() {
    let segments = shared_memory();
    let mut command = Command::new(env::current_exe().unwrap());
    let mut run = Run(command.env(ROLE, "1").stdout(Stdio::piped()).spawn().unwrap());
    let lines = BufReader::new(run.0.stdout.take().unwrap()).lines().map_while(|line| line.ok());
    let told: Vec<_> = lines.take_while(|line| line != "over").collect();
    assert_eq!(told.len(), 6, "the run did not get there: {told:?}");
    let mut pids = Vec::new();
    let mut folders = Vec::new();
    for line in &told {
        let (pid, folder) = line.split_once(' ').unwrap();
        pids.extend(pid.parse::<u32>().ok().filter(|pid| *pid > 0));
        folders.extend((folder != "-").then(|| PathBuf::from(folder)));
    }
    assert!(pids.iter().all(|pid| is_there(*pid)) && folders.iter().all(|f| f.is_dir()));
    let children: Vec<_> = pids.iter().flat_map(|pid| children(*pid)).collect();
    assert!(children.len() >= 5, "PostgreSQL has more processes than {children:?}");
    drop(run);
    let start = Instant::now();
    let left = || {
        let pids: Vec<_> = pids.iter().chain(&children).filter(|pid| is_there(**pid)).collect();
        let folders: Vec<_> = folders
            .iter()
            .flat_map(|folder| [folder.clone(), folder.with_extension("gone")])
            .filter(|folder| folder.exists())
            .collect();
        let memory: Vec<_> =
            shared_memory().into_iter().filter(|line| !segments.contains(line)).collect();
        (pids, folders, memory)
    };
    while left() != (vec![], vec![], vec![]) {
        assert!(start.elapsed() < PATIENCE, "left behind: {:?}", left());
        // sleep: nobody tells when what is no child of ours has gone
        thread::sleep(Duration::from_millis(20));
    }
}

/// Tells whether the process is there, other than as one that nobody has waited for yet.
fn is_there(pid: u32) -> bool {
    processes().iter().any(|(there, _, state)| *there == pid && !state.starts_with('Z'))
}

fn children(parent: u32) -> Vec<u32> {
    processes().iter().filter(|(_, of, _)| *of == parent).map(|(pid, ..)| *pid).collect()
}

/// Returns number, parent and state of every process there is.
fn processes() -> Vec<(u32, u32, String)> {
    let parsed = |pid: &str, parent: &str, state: &str| {
        Some((pid.trim().parse().ok()?, parent.parse().ok()?, state.to_owned()))
    };
    if let Ok(folder) = fs::read_dir("/proc/self").and_then(|_| fs::read_dir("/proc")) {
        let stats =
            folder.filter_map(|entry| fs::read_to_string(entry.ok()?.path().join("stat")).ok());
        let read = |stat: String| {
            let ((pid, _), (_, rest)) = (stat.split_once(' ')?, stat.rsplit_once(") ")?);
            let mut words = rest.split(' ');
            let (state, parent) = (words.next()?, words.next()?);
            parsed(pid, parent, state)
        };
        return stats.filter_map(read).collect();
    }
    let output = Command::new("ps").args(["-A", "-o", "pid=,ppid=,state="]).output().unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    let read = |line: &str| {
        let mut words = line.split_whitespace();
        parsed(words.next()?, words.next()?, words.next()?)
    };
    text.lines().filter_map(read).collect()
}

/// Returns the segments of shared memory that there are, where the system shows them.
fn shared_memory() -> Vec<String> {
    let text = fs::read_to_string("/proc/sysvipc/shm").unwrap_or_default();
    let number = |line: &str| line.split_whitespace().nth(1).map(str::to_owned);
    text.lines().skip(1).filter_map(number).collect()
}
