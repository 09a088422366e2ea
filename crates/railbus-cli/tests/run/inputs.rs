//! What an input may be, and what becomes of it.

use crate::scene::{APP, Scene, until};
use std::{
    fs::{self, File},
    io::Write,
    process::Stdio,
};

const NOTE: &str = "cat > /dev/null; echo \"$RAILBUS_EVENT_ID\" >> noted";

fn lines(from: usize, count: usize) -> String {
    (from..from + count).map(|n| format!("{{\"type\":\"a\",\"n\":{n}}}\n")).collect()
}

#[test]
fn every_bad_line_is_accounted_for_and_the_good_ones_go_on() {
    let scene = Scene::new(APP, "", NOTE);
    let mut file = File::create(scene.path("in.ndjson")).unwrap();
    let (open, close) = ("[".repeat(10_000), "]".repeat(10_000));
    let mut bad = 0;
    for (line, is_bad) in [
        (&b"{\"type\":\"good\"}"[..], false),
        (b"", false),
        (b"   ", false),
        (b"{\"type\":\"trunc", true),
        (b"\xff\xfe{\"type\":\"a\"}", true),
        (b"[1, 2]", true),
        (b"{\"kind\":\"no type\"}", true),
        (b"{\"type\":7}", true),
        (b"{\"type\":\"\"}", true),
        (format!("{{\"type\":\"{}\"}}", "x".repeat(4096)).as_bytes(), true),
        (format!("{{\"type\":\"deep\",\"x\":{open}{close}}}").as_bytes(), true),
        (b"{\"type\":\"good\",\"x\":\"\xd1\x8f\"}", false),
    ] {
        file.write_all(line).unwrap();
        file.write_all(b"\n").unwrap();
        bad += u64::from(is_bad);
    }
    // A line of 100 MiB, then one without an end.
    file.write_all(b"{\"type\":\"huge\",\"x\":\"").unwrap();
    for _ in 0..100 {
        file.write_all(&[b'x'; 1 << 20]).unwrap();
    }
    file.write_all(b"\"}\n{\"type\":\"good\"}").unwrap();
    drop(file);

    let mut child = scene.command(&["--until-idle"]).spawn().unwrap();
    let status = format!("/proc/{}/status", child.id());
    let mut peak = 0;
    while child.try_wait().unwrap().is_none() {
        // Where there is no /proc, the counts alone must do.
        let text = fs::read_to_string(&status).unwrap_or_default();
        let kib = text
            .lines()
            .find_map(|l| l.strip_prefix("VmHWM:")?.trim().split(' ').next()?.parse().ok());
        peak = peak.max(kib.unwrap_or(0_u64));
    }
    let ended = crate::scene::Running(Some(child)).end();
    let bad = bad + 1;
    ended.expect(3, &[("published", bad + 3), ("succeeded", 3), ("dead_lettered", bad)]);
    assert!(peak < 150 << 10, "memory is not bounded: {peak} KiB");
    assert_eq!(scene.run().count("published"), 0);
}

#[test]
fn an_empty_input_is_no_event() {
    Scene::new(APP, "", NOTE).run().expect(0, &[("published", 0)]);
    Scene::new(APP, "\n\n  \n", NOTE).run().expect(0, &[("published", 0)]);
}

#[test]
fn a_topic_out_of_limits_is_a_dead_letter() {
    let app = APP.replace("path = \"in.ndjson\"", "path = \"in.ndjson\"\ntopic = \"{where}\"");
    let long = "x".repeat(4096);
    let text = format!(
        "{{\"type\":\"a\",\"where\":\"\"}}\n{{\"type\":\"a\",\"where\":\"{long}\"}}\n\
         {{\"type\":\"a\"}}\n{{\"type\":\"a\",\"where\":\"here\"}}\n"
    );
    let ended = Scene::new(&app, text, NOTE).run();
    ended.expect(3, &[("published", 4), ("succeeded", 1), ("dead_lettered", 3)]);
}

#[test]
fn a_file_that_grew_goes_on_and_one_that_was_edited_is_refused() {
    let scene = Scene::new(APP, lines(0, 5), NOTE);
    scene.run().expect(0, &[("published", 5), ("succeeded", 5)]);
    scene.write("in.ndjson", lines(0, 8));
    scene.run().expect(0, &[("published", 3), ("succeeded", 3)]);
    for changed in [lines(1, 8), lines(0, 4)] {
        scene.write("in.ndjson", changed);
        let ended = scene.run();
        assert_eq!(ended.code, Some(1), "{ended:?}");
        assert!(ended.said.contains("in.ndjson") && ended.said.contains("start over"), "{ended:?}");
    }
    assert_eq!(scene.read("noted").lines().count(), 8);
}

#[test]
fn stdin_is_read_to_its_end() {
    let scene = Scene::new(&APP.replace("in.ndjson", "-"), "", NOTE);
    let mut child = scene.command(&["--until-idle"]).stdin(Stdio::piped()).spawn().unwrap();
    child.stdin.take().unwrap().write_all(lines(0, 3).as_bytes()).unwrap();
    let ended = crate::scene::Running(Some(child)).end();
    ended.expect(0, &[("published", 3), ("succeeded", 3)]);
}

#[test]
fn two_programs_read_one_file_without_repeating_a_line() {
    let scene = Scene::new(APP, lines(0, 600), NOTE);
    let start = || crate::scene::Running(Some(scene.command(&["--until-idle"]).spawn().unwrap()));
    let (one, two) = (start(), start());
    let (one, two) = (one.end(), two.end());
    assert_eq!((one.code, two.code), (Some(0), Some(0)), "{one:?} {two:?}");
    assert_eq!(one.count("published") + two.count("published"), 600, "{one:?} {two:?}");
    let noted = scene.read("noted");
    let ids: std::collections::HashSet<_> = noted.lines().collect();
    assert_eq!((ids.len(), noted.lines().count()), (600, 600));
}

#[test]
fn a_full_disk_ends_the_run_and_the_next_one_goes_on_where_it_was() {
    let scene =
        Scene::new(&APP.replace("events.db", "events.db?max_size=150000"), lines(0, 2000), NOTE);
    let ended = scene.run();
    assert_eq!(ended.code, Some(1), "{ended:?}");
    assert!(ended.said.contains("full") && ended.said.contains("max_size"), "{ended:?}");
    scene.write("app.toml", APP);
    let ended = scene.run();
    assert_eq!(ended.code, Some(0), "{ended:?}");
    let noted = scene.read("noted");
    let ids: std::collections::HashSet<_> = noted.lines().collect();
    assert_eq!(ids.len(), 2000);
}

#[test]
fn the_environment_moves_the_app_to_another_store() {
    let scene = Scene::new(APP, lines(0, 2), NOTE);
    let run = |key: &str, value: String| {
        let mut command = scene.command(&["--until-idle"]);
        command.env(key, value);
        crate::scene::Running(Some(command.spawn().unwrap())).end()
    };
    let other = scene.path("other.db");
    run("RAILBUS_URL", format!("sqlite:{}", other.display())).expect(0, &[("published", 2)]);
    assert!(other.exists() && !scene.path("events.db").exists());
    let ended = run("RAILBUS_BUS__RETENTON", "1h".into());
    assert_eq!(ended.code, Some(1));
    assert!(ended.said.contains("did you mean `retention`"), "{ended:?}");
}

#[test]
fn an_interval_makes_events_until_it_is_stopped() {
    let app = APP.replace(
        "kind = \"ndjson\"\npath = \"in.ndjson\"",
        "kind = \"interval\"\nevery = \"20ms\"\ntype = \"tick\"\npayload = { n = 1 }",
    );
    let scene = Scene::new(&app, "", NOTE);
    let refused = scene.run();
    assert_eq!(refused.code, Some(1));
    assert!(refused.said.contains("--until-idle") && refused.said.contains("tick"), "{refused:?}");
    let mut running = scene.start();
    until("three ticks were handled", || scene.read("noted").lines().count() >= 3);
    running.signal(rustix::process::Signal::TERM);
    let ended = running.end();
    assert_eq!(ended.code, Some(0), "{ended:?}");
    assert!(ended.count("succeeded") >= 3, "{ended:?}");
}

#[test]
fn memory_broadcasts_and_refuses_a_group() {
    let app = APP.replace("sqlite:events.db", "memory:");
    let refused = Scene::new(&app, lines(0, 2), NOTE).run();
    assert_eq!(refused.code, Some(1));
    assert!(refused.said.contains("groups of memory end with the process"), "{refused:?}");
    assert!(refused.said.contains("sqlite"), "{refused:?}");
    let app = app.replace("group = \"g\"\n", "").replace("type = \"*\"", "type = \"a\"");
    let text = format!("{}nonsense\n{{\"type\":\"b\"}}\n", lines(0, 2));
    let scene = Scene::new(&app, text, NOTE);
    let ended = scene.run();
    ended.expect(3, &[("published", 4), ("succeeded", 2), ("failed", 1), ("unmatched", 1)]);
    assert_eq!(scene.read("noted").lines().count(), 2);
}

#[test]
fn broadcasts_on_a_store_are_all_handled_before_the_end() {
    let app = APP.replace("group = \"g\"\n", "");
    let scene = Scene::new(&app, lines(0, 700), NOTE);
    scene.run().expect(0, &[("published", 700), ("succeeded", 700)]);
    assert_eq!(scene.read("noted").lines().count(), 700);
}

#[test]
fn a_broadcast_that_is_tried_again_is_waited_for() {
    for url in ["memory:", "sqlite:events.db"] {
        let app = APP
            .replace("sqlite:events.db", url)
            .replace("group = \"g\"\n", "")
            .replace("max_attempts = 1", "max_attempts = 3, backoff_factor = 0.2");
        let step = "cat > /dev/null; [ \"$RAILBUS_ATTEMPT\" = 3 ]";
        let ended = Scene::new(&app, lines(0, 2), step).run();
        ended.expect(0, &[("published", 2), ("succeeded", 2), ("retried", 2), ("runs", 6)]);
    }
}

#[test]
fn broadcasts_beside_groups_are_told_and_their_failures_count_for_the_exit() {
    let app = format!(
        "{APP}\n[[on]]\nname = \"watch\"\ntype = \"*\"\npipeline = \"watch\"\n\
         [pipelines.watch]\nflow = \"look\"\n[steps.look]\ncommand = [\"./look.sh\"]\n"
    );
    let scene = Scene::new(&app, lines(0, 3), NOTE);
    scene.script("look.sh", "case $(cat) in *'\"n\":1'*) exit 1 ;; esac");
    let ended = scene.run();
    ended.expect(3, &[("published", 3), ("succeeded", 3), ("failed", 0)]);
    assert!(ended.said.contains("2 handled · 1 failed"), "{ended:?}");
}
