//! Real webhook deliveries through the program: counts in equal counts out, to the unit, also when
//! it is killed half way and started again.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use serde_json::Value;
use std::{
    collections::{BTreeMap, HashSet},
    fs,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    process::{Command, Output, Stdio},
    time::{Duration, Instant},
};

const INPUT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/data/github-webhooks.ndjson");

/// Reviews want pull requests; the audit wants what people did, of types not starting with `s`,
/// and rejects deletions. Both run in one group, so that some events are two subscriptions'.
const APP: &str = r#"
bus.url = "sqlite:hooks.db"
[[input]]
kind = "ndjson"
path = "hooks.ndjson"
type_field = "event"
payload_field = "payload"
topic = "github:{event}"
[steps.note]
command = ["./note.sh"]
[steps.gate]
command = ["./gate.sh"]
[pipelines.review]
flow = "note"
[pipelines.audit]
flow = "note -> gate"
[[on]]
topic = "github:pull_request*"
group = "hooks"
pipeline = "review"
lease = "1s"
[[on]]
type = "[!s]*"
where = { "sender.type" = "User" }
group = "hooks"
pipeline = "audit"
lease = "1s"
"#;

/// Writes down which event it was: one short write, so that lines never mix.
const NOTE: &str =
    "#!/bin/sh\ncat >/dev/null\necho \"$RAILBUS_EVENT_ID $RAILBUS_TOPIC\" >> noted\n";

/// Says no to deletions; answers nothing else.
const GATE: &str = "#!/bin/sh
case $(head -c 30) in
*'\"action\":\"deleted\"'*) echo '{\"failure\": {\"message\": \"it was deleted\", \"value\": 1}}' ;;
esac
cat >/dev/null
";

struct Scene(tempfile::TempDir);

impl Scene {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        fs::copy(INPUT, folder.path().join("hooks.ndjson")).unwrap();
        fs::write(folder.path().join("app.toml"), APP).unwrap();
        for (name, text) in [("note.sh", NOTE), ("gate.sh", GATE)] {
            let path = folder.path().join(name);
            fs::write(&path, text).unwrap();
            fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
        }
        Self(folder)
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    fn railbus(&self) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_railbus"));
        command.args(["run", "--until-idle", "--json"]).arg(self.path("app.toml"));
        command.env_remove("RAILBUS_URL").stdin(Stdio::null());
        command
    }

    fn noted(&self) -> Vec<(String, String)> {
        let text = fs::read_to_string(self.path("noted")).unwrap_or_default();
        let pairs = text.lines().filter_map(|line| line.split_once(' '));
        pairs.map(|(id, topic)| (id.into(), topic.into())).collect()
    }

    /// Returns the dead letters: how many there are for each reason.
    fn letters(&self) -> (usize, usize) {
        let store = rusqlite::Connection::open(self.path("hooks.db")).unwrap();
        let count =
            |sql: &str| store.query_row(sql, [], |row| row.get::<_, i64>(0)).unwrap() as usize;
        (count("SELECT count(*) FROM letters"), count("SELECT count(DISTINCT seq) FROM letters"))
    }
}

/// What the file alone says must come out.
#[derive(Debug, Default, PartialEq)]
struct Expected {
    published: u64,
    succeeded: u64,
    dead_lettered: u64,
    unmatched: u64,
    /// Runs by topic: how often each step `note` runs at least.
    noted: BTreeMap<String, usize>,
}

fn expected() -> Expected {
    let mut expected = Expected::default();
    for line in fs::read_to_string(INPUT).unwrap().lines() {
        let line: Value = serde_json::from_str(line).unwrap();
        let event = line["event"].as_str().unwrap();
        let payload = &line["payload"];
        let review = event.starts_with("pull_request");
        let audit = !event.starts_with('s') && payload["sender"]["type"] == "User";
        let rejected = audit && payload["action"] == "deleted";
        expected.published += 1;
        match (review || audit, rejected) {
            (_, true) => expected.dead_lettered += 1,
            (true, false) => expected.succeeded += 1,
            (false, false) => expected.unmatched += 1,
        }
        let runs = usize::from(review) + usize::from(audit);
        if runs > 0 {
            *expected.noted.entry(format!("github:{event}")).or_default() += runs;
        }
    }
    expected
}

fn summary(out: &Output) -> Value {
    let text = String::from_utf8_lossy(&out.stdout);
    let said = String::from_utf8_lossy(&out.stderr);
    serde_json::from_str(&text).unwrap_or_else(|e| panic!("{e}: {text}\n{said}"))
}

fn count(summary: &Value, key: &str) -> u64 {
    summary[key].as_u64().unwrap_or_else(|| panic!("no {key} in {summary}"))
}

fn by_topic(noted: &[(String, String)]) -> BTreeMap<String, usize> {
    let mut topics = BTreeMap::new();
    for (_, topic) in noted {
        *topics.entry(topic.clone()).or_default() += 1;
    }
    topics
}

#[test]
fn real_webhooks_come_out_as_they_went_in() {
    let (scene, expected) = (Scene::new(), expected());
    assert!(expected.dead_lettered > 0 && expected.unmatched > 0, "{expected:?}");
    let out = scene.railbus().output().unwrap();
    let summary = summary(&out);
    assert_eq!(out.status.code(), Some(3), "{}", String::from_utf8_lossy(&out.stderr));
    for (key, wanted) in [
        ("published", expected.published),
        ("carried", 0),
        ("succeeded", expected.succeeded),
        ("failed", 0),
        ("dead_lettered", expected.dead_lettered),
        ("unmatched", expected.unmatched),
        ("retried", 0),
    ] {
        assert_eq!(count(&summary, key), wanted, "{key} in {summary}");
    }
    assert_eq!(by_topic(&scene.noted()), expected.noted);
}

#[test]
fn a_run_that_is_killed_half_way_goes_on_to_the_same_counts() {
    let (scene, expected) = (Scene::new(), expected());
    let mut first = scene.railbus().stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
    let began = Instant::now();
    while scene.noted().len() < 60 {
        assert!(first.try_wait().unwrap().is_none(), "it ended before it could be killed");
        assert!(began.elapsed() < Duration::from_secs(60), "it does not get on");
        std::thread::yield_now();
    }
    first.kill().unwrap();
    first.wait().unwrap();
    let before = settled(&scene.path("hooks.db"));

    let out = scene.railbus().output().unwrap();
    let summary = summary(&out);
    assert_eq!(out.status.code(), Some(3), "{}", String::from_utf8_lossy(&out.stderr));
    let sum = |keys: &[&str]| keys.iter().map(|key| count(&summary, key)).sum::<u64>();
    let came = sum(&["published", "carried"]);
    assert_eq!(came, sum(&["succeeded", "failed", "dead_lettered", "unmatched"]), "{summary}");
    // What the first run had settled, and what no group wanted, is not carried over.
    assert_eq!(before + came, expected.published, "{summary}");

    let (letters, events) = scene.letters();
    assert_eq!(
        (letters, events),
        (expected.dead_lettered as usize, expected.dead_lettered as usize)
    );
    let noted = scene.noted();
    let ids: HashSet<_> = noted.iter().map(|(id, _)| id).collect();
    assert_eq!(ids.len() as u64, expected.succeeded + expected.dead_lettered, "each was handled");
    for (topic, runs) in by_topic(&noted) {
        assert!(runs >= expected.noted[&topic], "{topic} was handled {runs} times");
    }
    let again = scene.railbus().output().unwrap();
    assert_eq!(again.status.code(), Some(0));
    assert_eq!(count(&self::summary(&again), "published"), 0);
}

/// Counts the events that a killed run had got through with, or that nobody wants.
fn settled(store: &Path) -> u64 {
    let store = rusqlite::Connection::open(store).unwrap();
    let sql = "SELECT count(*) FROM events e LEFT JOIN deliveries d ON d.seq = e.seq
               WHERE d.state = 1 OR (d.seq IS NULL AND e.type LIKE 's%')";
    store.query_row(sql, [], |row| row.get::<_, i64>(0)).unwrap() as u64
}
