//! What a step may do to itself without doing it to others.

use crate::scene::{APP, Scene};

/// Fails in the way that the event's payload names.
const STEP: &str = r#"
case $(cat) in
*crash*) kill -SEGV $$ ;;
*hang*) sleep 1000 ;;
*exit*) echo 'the disk is on fire' >&2; exit 7 ;;
*garbage*) printf '\377\376 not json' ;;
*megabytes*) head -c 50000000 /dev/zero ;;
*failure*) echo '{"failure": "no such item"}' ;;
*named*) echo '{"exception": {"kind": "busy", "message": "try later"}}' ;;
*value*) echo '{"total": 3}' ;;
esac
"#;

#[test]
fn a_step_that_goes_wrong_is_its_own_dead_letter_and_nothing_elses() {
    let app =
        APP.replace("command = [\"./step.sh\"]", "command = [\"./step.sh\"]\ntimeout = \"500ms\"");
    let ways = ["crash", "hang", "exit", "garbage", "megabytes", "failure", "named"];
    let line = |way: &&str| format!("{{\"type\":\"a\",\"way\":\"{way}\"}}\n{{\"type\":\"a\"}}\n");
    let text: String =
        ways.iter().map(line).collect::<String>() + "{\"type\":\"a\",\"way\":\"value\"}\n";
    let scene = Scene::new(&app, text, STEP);
    let ended = scene.run();
    ended.expect(3, &[("published", 15), ("succeeded", 8), ("dead_lettered", 7)]);
    for reason in [
        "signal",
        "timeout",
        "the disk is on fire",
        "output: ",
        "wrote more than",
        "no such item",
        "busy: try later",
    ] {
        assert!(ended.said.contains(reason), "no `{reason}`: {}", ended.said);
    }
}

#[test]
fn the_tries_of_a_step_and_of_its_event_are_told_apart() {
    let app = APP
        .replace(
            "command = [\"./step.sh\"]",
            "command = [\"./step.sh\"]\nretry = { max_attempts = 2, backoff_factor = 0.01 }",
        )
        .replace("max_attempts = 1", "max_attempts = 2, backoff_factor = 0.01");
    let note = "cat >/dev/null; echo \"$RAILBUS_ATTEMPT.$RAILBUS_TRY $RAILBUS_EVENT_TYPE $RAILBUS_TOPIC\" >> noted; exit 1";
    let scene = Scene::new(&app, "{\"type\":\"a\"}\n", note);
    scene.run().expect(3, &[("dead_lettered", 1), ("retried", 1), ("runs", 2)]);
    let noted: Vec<_> = scene.read("noted").lines().map(str::to_owned).collect();
    assert_eq!(noted, ["1.1 a a", "1.2 a a", "2.1 a a", "2.2 a a"]);
}

#[test]
fn steps_run_in_order_and_the_first_that_fails_ends_the_run() {
    let app = APP.replace("flow = \"step\"", "flow = \"step -> second -> third\"")
        + "[steps.second]\ncommand = [\"./second.sh\"]\n[steps.third]\ncommand = [\"./third.sh\"]\n";
    let scene = Scene::new(&app, "{\"type\":\"a\"}\n{\"type\":\"b\"}\n", "echo one >> noted");
    scene.script("second.sh", "echo two >> noted; case $(cat) in *b*) exit 1 ;; esac");
    scene.script("third.sh", "echo three >> noted");
    scene.run().expect(3, &[("succeeded", 1), ("dead_lettered", 1)]);
    let count = |name: &str| scene.read("noted").lines().filter(|line| *line == name).count();
    assert_eq!((count("one"), count("two"), count("three")), (2, 2, 1));
}

#[test]
fn what_is_dropped_counts_as_failed_and_stop_ends_the_program() {
    let app = APP.replace("max_attempts = 1 }", "max_attempts = 1 }\nthen = \"drop\"");
    let scene = Scene::new(&app, "{\"type\":\"a\"}\n", "exit 1");
    scene.run().expect(3, &[("published", 1), ("failed", 1)]);
    let scene =
        Scene::new(&app.replace("drop", "stop"), "{\"type\":\"a\"}\n", "echo sour >&2; exit 1");
    let ended = scene.run();
    assert_eq!(ended.code, Some(1), "{ended:?}");
    assert!(ended.said.contains("said stop") && ended.said.contains("sour"), "{ended:?}");
    // The event is still there for whoever mends the step.
    scene.script("step.sh", "exit 0");
    scene.run().expect(0, &[("carried", 1), ("succeeded", 1)]);
}
