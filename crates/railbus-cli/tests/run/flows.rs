//! Flows of an app: branches, groups, items, what is piped, and how they are shown.

use crate::scene::Scene;
use railbus_testbed::Postgres;
use serde_json::Value;
use std::process::Command;

/// An order is checked; what is fine is charged and its lines are packed, what is not is refused.
const APP: &str = r#"
bus.url = "sqlite:events.db"
[[input]]
kind = "ndjson"
path = "in.ndjson"
payload_field = "order"
[steps.step]
command = ["./step.sh"]
[steps.refuse]
command = ["./refuse.sh"]
[steps.lines]
command = ["./lines.sh"]
input = ["order"]
[steps.pack]
command = ["./pack.sh"]
each = "lines"
at_once = 2
[steps.mail]
command = ["./mail.sh"]
input = ["pack"]
[steps.log]
command = ["./log.sh"]
[pipelines.fulfil]
input = "order"
flow = """
step(
    0 -> refuse,                                # nothing to pack
    1 -> lines -> pack -> mail || log
)
"""
[[on]]
type = "*"
group = "g"
pipeline = "fulfil"
retry = { max_attempts = 1 }
"#;

fn scene(app: &str) -> Scene {
    let lines =
        "{\"type\":\"order\",\"order\":{\"of\":[3,4]}}\n{\"type\":\"order\",\"order\":{}}\n";
    let check = r#"case $(cat) in *of*) ;; *) echo '{"failure": "no lines"}' ;; esac"#;
    let scene = Scene::new(app, lines, check);
    scene.script("refuse.sh", "echo refused >> noted");
    scene.script("lines.sh", "cat >> noted; echo '[3, 4]'");
    scene.script("pack.sh", "n=$(cat); echo $((n * 10))");
    scene.script("mail.sh", "cat >> noted");
    scene.script("log.sh", "echo logged >> noted");
    scene
}

#[test]
fn an_app_has_the_whole_language_of_flows() {
    let scene = scene(APP);
    scene.run().expect(0, &[("published", 2), ("succeeded", 2), ("runs", 2)]);
    let noted = scene.read("noted");
    for part in ["refused", r#"{"order":{"of":[3,4]}}"#, r#"{"pack":[30,40]}"#, "logged"] {
        assert_eq!(noted.matches(part).count(), 1, "{part}: {noted}");
    }
}

#[test]
fn a_step_is_shown_by_a_line_where_progress_is_asked_for() {
    let scene = scene(APP);
    let ended = scene.command(&["--until-idle", "--progress"]).output().unwrap();
    let said = String::from_utf8_lossy(&ended.stderr);
    for line in [
        "fulfil.step: 1 of 2 ok, 0 tried again, ",
        "fulfil.refuse: 1 of 1 ok, 0 tried again, ",
        "fulfil.pack: 1 of 1 ok, 0 tried again, ",
    ] {
        assert!(said.contains(line), "no `{line}`: {said}");
    }
    assert!(said.contains(" s each, 1 failed"), "{said}");
}

#[test]
fn check_draws_pipelines() {
    let scene = scene(APP);
    let check = |args: &[&str]| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_railbus"));
        command.arg("check").arg(scene.path("app.toml")).args(args).env_remove("RAILBUS_URL");
        let output = command.output().unwrap();
        assert!(output.status.success(), "{output:?}");
        String::from_utf8(output.stdout).unwrap()
    };
    let drawn = check(&["--graph"]);
    assert!(drawn.starts_with("%% fulfil\nflowchart TD\n    s0[\"step\"]\n"), "{drawn}");
    for part in ["s0 -- \"0\" --> s1", "pack for each of lines", "subgraph"] {
        assert!(drawn.contains(part), "no {part}: {drawn}");
    }
    assert!(check(&["--graph", "dot"]).starts_with("digraph \"fulfil\" {"));
    let json: Value = serde_json::from_str(&check(&["--graph", "--json"])).unwrap();
    assert_eq!(json["graphs"]["fulfil"].as_str().unwrap().trim_end(), drawn.trim_end());
}

#[test]
fn what_no_step_leaves_is_told_before_anything_runs() {
    let scene = scene(&APP.replace("input = [\"pack\"]", "input = [\"packed\"]"));
    let mut command = Command::new(env!("CARGO_BIN_EXE_railbus"));
    command.arg("check").arg(scene.path("app.toml")).env_remove("RAILBUS_URL");
    let output = command.output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{said}");
    assert!(said.contains("nothing leaves `packed`"), "{said}");
    assert!(said.contains("step: mail"), "{said}");
}

/// Three steps; the second kills the program the first time it runs.
const KEPT: &str = r#"
bus.url = "sqlite:events.db"
[[input]]
kind = "ndjson"
path = "in.ndjson"
[steps.step]
command = ["./step.sh"]
[steps.second]
command = ["./second.sh"]
[steps.third]
command = ["./third.sh"]
[pipelines.all]
flow = "step -> second |-> third"
journal = true
[[on]]
type = "*"
group = "g"
pipeline = "all"
lease = "1s"
"#;

/// Runs it on that bus until it is killed.
fn kept(url: &str) -> Scene {
    let app = KEPT.replace("sqlite:events.db", url);
    let scene = Scene::new(&app, "{\"type\":\"a\"}\n", "echo one >> noted");
    let kills = "if [ ! -e killed ]; then touch killed; kill -9 $PPID; sleep 1; fi";
    scene.script("second.sh", &format!("{kills}; echo two >> noted; echo 22"));
    scene.script("third.sh", "cat >> noted");
    let ended = scene.command(&["--until-idle"]).output().unwrap();
    assert!(!ended.status.success(), "{ended:?}");
    assert_eq!(scene.read("noted"), "one\n");
    scene
}

#[test]
fn an_event_that_comes_again_after_a_kill_goes_on_with_its_run() {
    let server = Postgres::start().unwrap();
    let queue = server.database().unwrap().url("postgres-queue");
    for url in ["sqlite:events.db", &queue] {
        let scene = kept(url);
        scene.run().expect(0, &[("succeeded", 1)]);
        assert_eq!(scene.read("noted"), "one\ntwo\n22", "{url}");
    }
}

#[test]
fn a_run_that_was_left_is_gone_on_with_by_hand() {
    let server = Postgres::start().unwrap();
    let queue = server.database().unwrap().url("postgres-queue");
    for url in ["sqlite:events.db", &queue] {
        is_gone_on_with_by_hand(url);
    }
}

fn is_gone_on_with_by_hand(url: &str) {
    let scene = kept(url);
    let railbus = |args: &[&str]| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_railbus"));
        command.args(args).current_dir(scene.path("")).env_remove("RAILBUS_URL");
        command.output().unwrap()
    };
    let listed = railbus(&["runs", "ls", url, "--json"]);
    let run: Value = serde_json::from_slice(&listed.stdout).unwrap();
    let id = run["id"].as_str().unwrap();
    let start = std::time::Instant::now();
    let resumed = loop {
        let resumed = railbus(&["runs", "resume", "app.toml", id, "--json"]);
        if resumed.status.success() {
            break resumed;
        }
        let said = String::from_utf8_lossy(&resumed.stdout).into_owned();
        assert!(said.contains("someone else runs it"), "{resumed:?}");
        assert!(start.elapsed() < crate::scene::SOON);
        // sleep: the lease of the program that was killed runs out, and tells nobody.
        std::thread::sleep(std::time::Duration::from_millis(100));
    };
    let report: Value = serde_json::from_slice(&resumed.stdout).unwrap();
    assert_eq!(report["status"], "success", "{report}");
    assert_eq!(scene.read("noted"), "one\ntwo\n22");
    let none = railbus(&["runs", "resume", "app.toml", "no such run"]);
    assert!(String::from_utf8_lossy(&none.stderr).contains(id), "{none:?}");
    let shown = railbus(&["runs", "show", url, id]);
    assert!(String::from_utf8_lossy(&shown.stdout).contains("third"), "{shown:?}");
    let over = railbus(&["runs", "cancel", url, id]);
    assert!(String::from_utf8_lossy(&over.stderr).contains("has ended, success"), "{over:?}");
    let pruned = railbus(&["runs", "prune", url, "--older-than", "0s", "--json"]);
    let pruned: Value = serde_json::from_slice(&pruned.stdout).unwrap();
    assert_eq!(pruned["pruned"], 1, "{url}");
}

#[test]
fn runs_are_kept_only_where_the_backend_can() {
    let app = KEPT.replace("sqlite:events.db", "memory:").replace("group = \"g\"\n", "");
    let scene = Scene::new(&app, "", "true");
    scene.script("second.sh", "true");
    scene.script("third.sh", "true");
    let mut command = Command::new(env!("CARGO_BIN_EXE_railbus"));
    let output = command
        .arg("check")
        .arg(scene.path("app.toml"))
        .env_remove("RAILBUS_URL")
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(said.contains("memory keeps no runs") && said.contains("sqlite:"), "{said}");
}
