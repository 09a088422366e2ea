//! `railbus subscribe`: live or in a group, acked only once it is printed.

use super::{PATIENCE, Scene, text};
use rustix::process::Signal;

use std::{
    collections::HashSet,
    io::{BufRead, BufReader},
    process::Stdio,
};

const IN_GROUP: [&str; 5] = ["subscribe", "sqlite:a.db", "shop:*", "--group", "g"];

/// What a group has not settled, and what it holds.
fn lag(scene: &Scene, name: &str) -> (u64, u64) {
    let groups = scene.json(&["groups", "ls", "sqlite:a.db"]);
    let group = groups.iter().find(|group| group["name"] == name).unwrap();
    (group["lag"].as_u64().unwrap(), group["leased"].as_u64().unwrap())
}

#[test]
fn a_line_is_time_type_topic_id_and_payload() {
    let scene = Scene::new();
    let data = ["--data", r#"{"b": 1, "a": 2}"#, "--type", "order.placed", "--id", "one"];
    scene.ok(&[&["publish", "sqlite:a.db", "shop:orders"], &data[..]].concat());
    let line = scene.ok(&[&IN_GROUP[..], &["--count", "1"]].concat());
    let (time, rest) = line.trim_end().split_once(' ').unwrap();
    assert!(time.ends_with('Z') && time.contains('T'), "{line}");
    assert_eq!(rest, r#"order.placed shop:orders one {"b": 1, "a": 2}"#);
}

#[test]
fn a_document_is_the_whole_event() {
    let scene = Scene::with_events(&["shop:a"]);
    let events = scene.json(&[&IN_GROUP[..], &["--count", "1"]].concat());
    let keys: Vec<_> = events[0].as_object().unwrap().keys().collect();
    assert_eq!(keys, ["id", "type", "topic", "source", "payload", "timestamp"]);
}

#[test]
fn control_characters_are_shown_and_not_obeyed() {
    let scene = Scene::new();
    let topic = "shop:\u{1b}[31m\n\u{9b}";
    scene.ok(&["publish", "sqlite:a.db", topic, "--data", "\"\u{9b}2J\u{7f}\""]);
    let line = scene.ok(&["subscribe", "sqlite:a.db", "*", "--group", "g", "--count", "1"]);
    assert!(!line.trim_end().contains(char::is_control), "{line:?}");
    assert!(line.contains(r"shop:\u{1b}[31m\n\u{9b}"), "{line}");
    assert!(line.contains(r#""\u009b2J\u007f""#), "{line}");
    let events = scene.json(&["subscribe", "sqlite:a.db", "*", "--group", "h", "--count", "1"]);
    assert_eq!(text(&events[0], "topic"), topic);
}

#[test]
fn a_group_takes_as_many_as_asked_for_and_leaves_the_rest() {
    let scene = Scene::with_events(&["shop:a", "other", "shop:b", "shop:c", "shop:d"]);
    let topics = |count| {
        let events = scene.json(&[&IN_GROUP[..], &["--count", count]].concat());
        events.iter().map(|event| text(event, "topic").to_owned()).collect::<Vec<_>>()
    };
    assert_eq!(topics("1"), ["shop:a"]);
    assert_eq!(lag(&scene, "g"), (3, 0));
    assert_eq!(topics("2"), ["shop:b", "shop:c"]);
    assert_eq!(lag(&scene, "g"), (1, 0));
    assert_eq!(topics("1"), ["shop:d"]);
    assert_eq!(lag(&scene, "g"), (0, 0));
}

#[test]
fn without_a_group_events_are_live_and_every_subscriber_sees_them() {
    let scene = Scene::with_events(&["shop:before"]);
    let (a, b) = (scene.subscriber(&["shop:*", "--count", "2"]), scene.subscriber(&["shop:*"]));
    for topic in ["shop:1", "other", "shop:2", "shop:3"] {
        scene.ok(&["publish", "sqlite:a.db", topic]);
    }
    let topic = |line: &str| line.split(' ').nth(2).unwrap().to_owned();
    let seen: Vec<_> = (0..3).map(|_| topic(&b.line())).collect();
    assert_eq!(seen, ["shop:1", "shop:2", "shop:3"]);
    b.signal(Signal::INT);
    assert_eq!(b.end(), (0, vec![]));
    let (code, lines) = a.end();
    assert_eq!((code, lines.iter().map(|l| topic(l)).collect::<Vec<_>>()), (0, seen[..2].into()));
    assert!(scene.json(&["groups", "ls", "sqlite:a.db"]).is_empty());
}

#[test]
fn two_subscribers_of_a_group_share_its_events() {
    let scene = Scene::with_events(&["shop:first"]);
    let members = [(); 2].map(|()| scene.subscriber(&["shop:*", "--group", "g", "--json"]));
    let input: String = (1..50).map(|i| format!("{i}\n")).collect();
    assert_eq!(scene.feed(&["publish", "sqlite:a.db", "shop:x", "-"], input.as_bytes()).code, 0);
    let mut seen = Vec::new();
    let began = std::time::Instant::now();
    while seen.len() < 50 {
        assert!(began.elapsed() < PATIENCE, "{} of 50 came", seen.len());
        seen.extend(members.iter().flat_map(|member| member.out.try_iter()));
        std::thread::yield_now();
    }
    for member in members {
        member.signal(Signal::TERM);
        assert_eq!(member.end(), (0, vec![]));
    }
    let payload = |line: &String| super::documents(line)[0]["payload"].as_u64().unwrap();
    assert_eq!(seen.iter().map(payload).collect::<HashSet<_>>().len(), 50);
    assert_eq!(lag(&scene, "g"), (0, 0));
}

#[test]
fn an_event_that_nobody_read_is_given_back() {
    let scene = Scene::with_events(&["shop:1", "shop:2", "shop:3"]);
    for _ in 0..3 {
        let mut command = scene.command(&[&IN_GROUP[..], &["--json"]].concat());
        let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        drop(child.stdout.take());
        let ended = child.wait_with_output().unwrap();
        let said = String::from_utf8(ended.stderr).unwrap();
        assert_eq!(ended.status.code(), Some(0), "{said}");
        assert_eq!(said.lines().count(), 1, "{said}");
        assert_eq!(lag(&scene, "g"), (3, 0));
    }
    // Other members of the group still have all their tries.
    let store = rusqlite::Connection::open(scene.path("a.db")).unwrap();
    let tries = store.query_row("SELECT max(attempt) FROM deliveries", [], |row| row.get(0));
    assert_eq!(tries, Ok(0_u32));
    drop(store);
    let events = scene.json(&[&IN_GROUP[..], &["--count", "3"]].concat());
    let topics: Vec<_> = events.iter().map(|event| text(event, "topic")).collect();
    assert_eq!(topics, ["shop:1", "shop:2", "shop:3"]);
    assert!(scene.json(&["dlq", "ls", "sqlite:a.db"]).is_empty());
}

#[test]
fn a_signal_is_heard_while_nobody_empties_the_pipe() {
    let scene = Scene::new();
    let large = format!("\"{}\"\n", "x".repeat(1 << 20));
    let input = format!("1\n{large}");
    assert_eq!(scene.feed(&["publish", "sqlite:a.db", "shop:x", "-"], input.as_bytes()).code, 0);
    let mut command = scene.command(&IN_GROUP);
    let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let mut out = BufReader::new(child.stdout.take().unwrap());
    let mut line = String::new();
    out.read_line(&mut line).unwrap();
    // The second event does not fit into the pipe; once it is leased, printing it has begun.
    let began = std::time::Instant::now();
    while lag(&scene, "g") != (1, 1) {
        assert!(began.elapsed() < PATIENCE);
    }
    rustix::process::kill_process(rustix::process::Pid::from_child(&child), Signal::TERM).unwrap();
    assert_eq!(child.wait().unwrap().code(), Some(0));
    assert_eq!(lag(&scene, "g"), (1, 0));
}

#[cfg(target_os = "linux")]
#[test]
fn an_event_that_could_not_be_written_is_an_error_and_is_given_back() {
    let scene = Scene::with_events(&["shop:1"]);
    let full = std::fs::OpenOptions::new().write(true).open("/dev/full").unwrap();
    let ended = scene.command(&IN_GROUP).stdout(full).output().unwrap();
    let said = String::from_utf8(ended.stderr).unwrap();
    assert_eq!(ended.status.code(), Some(1), "{said}");
    assert!(said.contains("stdout can't be written"), "{said}");
    assert_eq!(lag(&scene, "g"), (1, 0));
}

/// As timeout(1) does: to the process, then to its group.
#[test]
fn signals_that_come_at_once_count_as_one() {
    let scene = Scene::with_events(&["shop:1", "shop:2", "shop:3"]);
    for _ in 0..3 {
        let running = scene.subscriber(&["shop:*", "--group", "g"]);
        running.signal(Signal::INT);
        running.signal(Signal::TERM);
        assert_eq!(running.end().0, 0);
    }
    assert_eq!(lag(&scene, "g").1, 0);
}

#[test]
fn a_group_that_is_pruned_meanwhile_ends_the_subscriber() {
    let scene = Scene::with_events(&["shop:1"]);
    let running = scene.subscriber(&["shop:*", "--group", "g"]);
    running.line();
    scene.ok(&["groups", "prune", "sqlite:a.db", "g"]);
    running.hear("pruned");
    assert_eq!(running.end().0, 1);
}

#[test]
fn what_can_bring_nothing_is_refused() {
    let scene = Scene::new();
    let said = scene.broken(&["subscribe", "memory:", "*"]);
    assert!(said.contains("reaches nobody outside this process"), "{said}");
    assert_eq!(scene.run(&["subscribe", "sqlite:a.db", "*", "--count", "0"]).code, 2);
    let long = "g".repeat(257);
    let said = scene.broken(&["subscribe", "sqlite:a.db", "*", "--group", &long]);
    assert!(said.contains("a group's name has 1 to 256 bytes"), "{said}");
}

#[test]
fn a_subscriber_may_come_before_the_first_publisher() {
    let scene = Scene::new();
    let running = scene.subscriber(&["*", "--count", "1"]);
    scene.ok(&["publish", "sqlite:a.db", "t", "--data", "1"]);
    let (code, lines) = running.end();
    assert_eq!((code, lines.len()), (0, 1));
    assert!(lines[0].ends_with(" 1"), "{lines:?}");
}
