//! Servers by Docker, the last resort. What answers here to the name of `docker` is a stand-in, which
//! notes what it is asked and starts the programs of this machine: that Docker itself does as it does
//! was not tried.
#![allow(clippy::unwrap_used)]

use std::{
    env, fs,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    thread,
    time::{Duration, Instant},
};

/// How long what is to go may still be there.
const PATIENCE: Duration = Duration::from_secs(30);

/// The containers are files with process numbers; they outlive who started them, as Docker's do.
const STAND_IN: &str = r#"#!/bin/sh
here=$(dirname "$0")
echo "$*" >>"$here/asked"
mkdir -p "$here/containers"
at() { echo "$here/containers/$1"; }
send() { [ -f "$(at "$2")" ] && kill -s "$1" "$(cat "$(at "$2")")"; }
case $1 in
version) ;;
container) [ -f "$(at "$3")" ] ;;
kill) if [ "$2" = --signal ]; then send "$3" "$4"; else send KILL "$2"; fi ;;
pause) send STOP "$2" ;;
unpause) send CONT "$2" ;;
rm) send KILL "$3"; rm -f "$(at "$3")" ;;
run)
    shift
    while :; do
        case $1 in
        --rm) shift ;;
        --name) name=$2; shift 2 ;;
        --user) user=$2; shift 2 ;;
        --entrypoint) program=$2; shift 2 ;;
        --network | --label | -v) shift 2 ;;
        *) break ;;
        esac
    done
    shift
    export LD_LIBRARY_PATH=LIBRARIES
    [ -n "$name" ] || exec "FOLDER/$program" "$@"
    setsid "FOLDER/$program" "$@" &
    echo $! >"$(at "$name")"
    wait $!
    code=$?
    rm -f "$(at "$name")"
    exit $code
    ;;
esac
"#;

/// A machine on which there is a stand-in for Docker.
struct Machine(PathBuf);

impl Machine {
    fn new(name: &str) -> Self {
        let folder = env::temp_dir().join(format!("railbus-docker-{}-{name}", std::process::id()));
        fs::create_dir_all(&folder).unwrap();
        // What a server of this machine is.
        let redis = railbus_testbed::Redis::start().unwrap();
        let program = fs::read_link(format!("/proc/{}/exe", redis.pid().unwrap())).unwrap();
        let bin = program.parent().unwrap();
        // Those that were unpacked have their libraries beside them.
        let lib = bin.parent().unwrap().join("lib");
        let libraries: Vec<_> = fs::read_dir(lib)
            .into_iter()
            .flatten()
            .map(|entry| entry.unwrap().path().display().to_string())
            .filter(|path| path.ends_with("-linux-gnu"))
            .collect();
        let text = STAND_IN
            .replace("LIBRARIES", &libraries.join(":"))
            .replace("FOLDER", &bin.display().to_string());
        let machine = Self(folder);
        fs::write(machine.0.join("docker"), text).unwrap();
        fs::set_permissions(machine.0.join("docker"), fs::Permissions::from_mode(0o755)).unwrap();
        machine
    }

    /// Returns what starts a server by Docker and runs a command beside it.
    fn run(&self, args: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_railbus-testbed"));
        let path = format!("{}:{}", self.0.display(), env::var("PATH").unwrap());
        command.args(args).env("PATH", path).env("RAILBUS_TESTBED_DOCKER", "1");
        command.env("RAILBUS_TESTBED", self.0.join("kept"));
        command
    }

    fn asked(&self) -> String {
        fs::read_to_string(self.0.join("asked")).unwrap_or_default()
    }

    fn containers(&self) -> Vec<PathBuf> {
        let entries = fs::read_dir(self.0.join("containers")).into_iter().flatten();
        entries.map(|entry| entry.unwrap().path()).collect()
    }
}

impl Drop for Machine {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

#[test]
fn a_server_is_run_and_told_what_to_do_by_a_stand_in_for_docker() {
    let machine = Machine::new("told");
    let orders = ["pause", "resume", "kill", "start", "stop", "start"];
    let orders = orders.map(|order| format!("{{control}} {order}")).join(" && ");
    let ran = machine.run(&["run", "redis", "--", "sh", "-c", &orders]).output().unwrap();
    assert!(ran.status.success(), "{}\n{}", String::from_utf8_lossy(&ran.stderr), machine.asked());
    let asked = machine.asked();
    for part in ["run --rm --network host --label railbus-testbed", "--entrypoint redis-server"] {
        assert!(asked.contains(part), "{part} in {asked}");
    }
    for order in
        ["pause railbus-", "unpause railbus-", "kill railbus-", "kill --signal TERM railbus-"]
    {
        assert!(asked.lines().any(|line| line.starts_with(order)), "{order} in {asked}");
    }
    assert_eq!(asked.lines().filter(|line| line.contains("--name railbus-")).count(), 3, "{asked}");
    gone(&machine);
}

#[test]
fn a_test_run_that_is_killed_leaves_no_container_of_a_stand_in_for_docker() {
    let machine = Machine::new("killed");
    let mut command = machine.run(&["run", "redis", "--", "cat"]);
    let mut run = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    // `cat` says it again once the server answers.
    use std::io::{BufRead, Write};
    writeln!(run.stdin.as_mut().unwrap(), "ready").unwrap();
    let mut line = String::new();
    std::io::BufReader::new(run.stdout.take().unwrap()).read_line(&mut line).unwrap();
    assert_eq!(line, "ready\n");
    let [container] = machine.containers().try_into().unwrap();
    let pid = fs::read_to_string(&container).unwrap();
    assert!(Path::new("/proc").join(pid.trim()).exists());
    let folder = env::temp_dir().join(container.file_name().unwrap());
    run.kill().unwrap();
    run.wait().unwrap();
    gone(&machine);
    let start = Instant::now();
    let left = || folder.exists() || folder.with_extension("gone").exists();
    while Path::new("/proc").join(pid.trim()).exists() || left() {
        assert!(start.elapsed() < PATIENCE, "{} is still there", folder.display());
        // sleep: nobody tells when what is no child of ours has gone
        thread::sleep(Duration::from_millis(20));
    }
    assert!(machine.asked().contains("rm -f railbus-"), "{}", machine.asked());
}

/// Waits until there is no container.
fn gone(machine: &Machine) {
    let start = Instant::now();
    while !machine.containers().is_empty() {
        assert!(start.elapsed() < PATIENCE, "{:?}", machine.containers());
        // sleep: nobody tells when what is no child of ours has gone
        thread::sleep(Duration::from_millis(20));
    }
}

#[test]
fn where_there_is_no_program_no_package_and_no_docker_it_says_what_to_install() {
    let empty = env::temp_dir().join(format!("railbus-nothing-{}", std::process::id()));
    fs::create_dir_all(&empty).unwrap();
    let mut command = Command::new(env!("CARGO_BIN_EXE_railbus-testbed"));
    command.args(["run", "redis", "--", "true"]).env("PATH", &empty);
    let ran = command.env("RAILBUS_TESTBED", empty.join("kept")).output().unwrap();
    fs::remove_dir_all(&empty).unwrap();
    let said = String::from_utf8(ran.stderr).unwrap();
    assert!(!ran.status.success());
    for part in
        ["Redis 7.0 or newer is needed", "docker: ", "apt-get install redis-server", "Docker"]
    {
        assert!(said.contains(part), "no {part} in {said}");
    }
}
