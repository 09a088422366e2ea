//! What a run says at its end, and that it is true.

use crate::scene::{APP, Ended, Scene, tries_before_a_redrive_are_not_counted, until};
use rustix::process::Signal;
use std::process::{Command, Output};

fn has(ended: &Ended, parts: &[&str]) {
    for part in parts {
        assert!(ended.said.contains(part), "no `{part}`: {}", ended.said);
    }
}

fn has_not(ended: &Ended, parts: &[&str]) {
    for part in parts {
        assert!(!ended.said.contains(part), "`{part}`: {}", ended.said);
    }
}

fn lines(from: usize, to: usize) -> String {
    (from..to).map(|n| format!("{{\"type\":\"a\",\"n\":{n}}}\n")).collect()
}

/// Appends to the input.
fn append(scene: &Scene, text: &str) {
    scene.write("in.ndjson", scene.read("in.ndjson") + text);
}

#[test]
fn the_letters_of_this_run_are_shown_and_no_older_ones() {
    let fail = "n=$(cat); echo \"sour $n\" >&2; exit 1";
    let scene = Scene::new(APP, lines(0, 1), fail);
    let first = scene.run();
    has(&first, &["1 event published · 0 succeeded · 1 in the dead letters", "next:"]);
    has(&first, &["    all, 1 try: step step: exit: ", "stderr ends: sour {\"type\""]);
    append(&scene, &lines(1, 14));
    let second = scene.run();
    has(&second, &["13 events published", "  dead letter 2: a {\"type\":\"a\",", "and 3 more"]);
    has_not(&second, &["\"n\":0}", "dead letter 1:"]);
    assert_eq!(second.said.matches("dead letter ").count(), 10, "{}", second.said);
}

#[test]
fn a_redrive_is_proposed_only_for_what_can_be_handed_back() {
    let scene = Scene::new(APP, "no event\n", "exit 1");
    let ended = scene.run();
    has(&ended, &["in.ndjson, line at byte 0", "dlq show"]);
    has_not(&ended, &["redrive"]);
    append(&scene, &lines(0, 1));
    has(&scene.run(), &["dlq show", "dlq redrive"]);
}

#[test]
fn what_to_do_next_names_the_bus_that_the_environment_named() {
    let scene = Scene::new(APP, lines(0, 1), "exit 1");
    let url = format!("sqlite:{}", scene.path("other.db").display());
    let run_on = |name: &str, url: &str| {
        let ran = scene.command(&["--until-idle"]).env(name, url).output().unwrap();
        String::from_utf8(ran.stderr).unwrap()
    };
    let said = run_on("RAILBUS_URL", &url);
    let again = format!("dlq redrive {url} && RAILBUS_URL={url} ");
    assert!(said.contains(&again), "{said}");
    assert!(!said.contains("is ignored"), "{said}");
    let said = run_on("RAILBUS_ULR", &url);
    let ignored = "the variable `RAILBUS_ULR` is ignored: did you mean `RAILBUS_URL`?";
    assert!(said.contains(ignored) && said.contains("running on"), "{said}");
    assert!(said.contains("dlq redrive ") && !said.contains(" RAILBUS_URL="), "{said}");
    // What is not shown can't be pasted.
    let said = run_on("RAILBUS_URL", &url.replace("other.db", "me:hunter2@other.db"));
    assert!(said.contains("(with RAILBUS_URL as it was for this run") && !said.contains("hunter2"));
}

#[test]
fn tries_of_an_earlier_run_before_a_redrive_are_not_counted() {
    tries_before_a_redrive_are_not_counted("sqlite:events.db");
}

#[test]
fn what_is_left_is_counted() {
    let slow = "echo begun > begun; until [ -e go ]; do sleep 0.01; done";
    let scene = Scene::new(&format!("{APP}limit = 1\n"), lines(0, 3), slow);
    let mut running = scene.start();
    until("a step runs", || scene.path("begun").exists());
    running.signal(Signal::TERM);
    until("it drains", || scene.read("said").contains("finishing what has begun"));
    scene.write("go", "");
    let ended = running.end();
    let left = ended.count("published") - ended.count("succeeded");
    assert!(left > 0, "{ended:?}");
    let said = scene.read("said");
    assert!(said.contains(&format!(" · {left} left for the next run · ")), "{said}");
    has_not(&scene.run(), &["left for the next run"]);
}

#[test]
fn a_pattern_that_nothing_matches_is_named_and_can_be_mended() {
    let app = APP.replace("type = \"*\"", "type = \"b.*\"\nwhere = { n = 1 }");
    let scene = Scene::new(&app, lines(0, 2), "cat > /dev/null");
    let ended = scene.run();
    ended.expect(0, &[("unmatched", 2)]);
    has(&ended, &["no [[on]] matched: `all` wants type = \"b.*\" and where n = 1", "groups prune"]);

    scene.write("app.toml", APP);
    let prune = ["groups", "prune", &format!("sqlite:{}", scene.path("events.db").display()), "g"];
    let pruned = Command::new(env!("CARGO_BIN_EXE_railbus")).args(prune).output().unwrap();
    assert!(pruned.status.success(), "{pruned:?}");
    let mended = scene.run();
    mended.expect(0, &[("published", 0), ("succeeded", 2)]);
    has_not(&mended, &["no [[on]] matched"]);
}

#[test]
fn nothing_new_claims_nothing_that_is_not_known() {
    let read = "nothing is new: the inputs were read to their end by an earlier run";
    let scene = Scene::new(APP, lines(0, 1), "exit 0");
    has_not(&scene.run(), &["nothing"]);
    has(&scene.run(), &[read, "to start over, delete the database: rm ", "events.db"]);
    let empty = Scene::new(APP, "", "exit 0").run();
    has(&empty, &["nothing came in"]);
    has_not(&empty, &["nothing is new"]);
    let stdin = Scene::new(&APP.replace("in.ndjson", "-"), "", "exit 0");
    for _ in 0..2 {
        let ended = stdin.run();
        has(&ended, &["nothing came in"]);
        has_not(&ended, &["nothing is new", "start over"]);
    }
}

#[test]
fn who_keeps_nothing_is_told_so_when_something_fails() {
    let keeps = "an [[on]] without `group` keeps nothing: what failed is gone";
    let app = APP.replace("group = \"g\"\n", "");
    let ended = Scene::new(&app, lines(0, 1), "exit 1").run();
    ended.expect(3, &[("failed", 1)]);
    has(&ended, &[keeps]);
    has_not(&Scene::new(&app, lines(0, 1), "exit 0").run(), &[keeps]);
    has_not(&Scene::new(APP, lines(0, 1), "exit 1").run(), &[keeps]);
}

fn check(scene: &Scene, args: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_railbus"));
    command.arg("check").arg(scene.path("app.toml")).args(args).env_remove("RAILBUS_URL");
    command.output().unwrap()
}

#[test]
fn check_counts_in_the_right_number() {
    let scene = Scene::new(APP, "", "exit 0");
    let check = || String::from_utf8(check(&scene, &[]).stderr).unwrap();
    assert!(check().contains("1 pipeline, 1 subscription, no mistakes"), "{}", check());
    scene.write("app.toml", format!("{APP}[pipelines.two]\nflow = \"step\"\n"));
    assert!(check().contains("2 pipelines, 1 subscription, no mistakes"), "{}", check());
}

#[test]
fn check_remarks_on_values_that_no_step_leaves_unless_the_pipeline_says_that_its_events_do() {
    let steps = "[steps.lines]\ncommand = [\"./step.sh\"]\n\
                 [steps.price]\ncommand = [\"./step.sh\"]\neach = \"lnes\"\n";
    let flow = "[pipelines.two]\nflow = \"lines -> price\"\n";
    let scene = Scene::new(&format!("{APP}{steps}{flow}"), "", "exit 0");
    let said = || String::from_utf8(check(&scene, &[]).stderr).unwrap();
    let remark = "pipeline `two` takes `lnes` from its events, since no step before leaves that";
    assert!(said().contains(remark), "{}", said());
    assert!(said().contains("did you mean `lines`?"), "{}", said());
    let run = scene.command(&["--until-idle"]).output().unwrap();
    let run = String::from_utf8(run.stderr).unwrap();
    assert!(run.contains(remark), "{run}");
    scene.write("app.toml", format!("{APP}{steps}{flow}input = \"lnes\"\n"));
    assert!(!said().contains("lnes"), "{}", said());
}

#[test]
fn check_remarks_on_what_is_never_used_and_never_comes() {
    let past =
        "[[input]]\nkind = \"at\"\nname = \"once\"\nat = \"2020-01-01T00:00:00Z\"\ntype = \"t\"\n";
    let more = "[steps.spare]\ncommand = [\"./step.sh\"]\n[pipelines.two]\nflow = \"step\"\n";
    let scene = Scene::new(&format!("{APP}{past}{more}"), "", "exit 0");
    let remarks = [
        "input `once`: all its times have passed",
        "step `spare` is in no flow",
        "no [[on]] runs pipeline `two`",
    ];
    let check = |args: &[&str]| check(&scene, args);
    let out = check(&[]);
    let said = String::from_utf8(out.stderr).unwrap();
    assert_eq!(out.status.code(), Some(0), "{said}");
    assert!(remarks.iter().all(|remark| said.contains(remark)), "{said}");
    let told: serde_json::Value = serde_json::from_slice(&check(&["--json"]).stdout).unwrap();
    assert_eq!(told, serde_json::json!({ "ok": true, "problems": [], "remarks": remarks }));
    has(&scene.run(), &remarks[..1]);
    let mut mistaken = Command::new(env!("CARGO_BIN_EXE_railbus"));
    mistaken.arg("check").arg(scene.path("app.toml")).env("RAILBUS_BUS_RETENTION", "1h");
    let said = String::from_utf8(mistaken.output().unwrap().stderr).unwrap();
    assert!(said.contains("`RAILBUS_BUS_RETENTION` is ignored: did you mean"), "{said}");
}

#[test]
fn check_tells_both_places_of_a_mistake() {
    let scene = Scene::new(&APP.replace("\"step\"", "\"step -> step\""), "", "exit 0");
    let check = |args: &[&str]| check(&scene, args);
    let said = String::from_utf8(check(&[]).stderr).unwrap();
    let lines: Vec<_> = said.lines().collect();
    assert!(lines[0].ends_with("app.toml:9:17: step `step` is named twice"), "{said}");
    assert!(lines[1].ends_with("app.toml:9:9: first named here"), "{said}");
    let told: serde_json::Value = serde_json::from_slice(&check(&["--json"]).stdout).unwrap();
    let also = serde_json::json!({ "message": "first named here", "line": 9, "column": 9 });
    assert_eq!(told["problems"][0]["also"], also);
}
