//! What a file without mistakes comes to.

use super::{APP, Folder};
use railbus::{
    app::{CommandSpec, InputSpec, Problems, ProcessesSpec, StepSpec, WorkSpec},
    delivery::Then,
    event::Event,
    retry::Retry,
    schedule::{Missed, Schedule},
    steps::command::Mode,
};
use serde_json::json;
use std::{
    path::{Path, PathBuf},
    time::Duration,
};

const FULL: &str = r#"
bus.url = "sqlite:data/orders.db?retention=48h"

[[input]]
kind = "ndjson"
path = "orders.ndjson"
type_field = "event"
payload_field = "payload"
topic = "shop:{event}"

[[input]]
backend = "interval"
every = "1h30m"
type = "tick"
topic = "clock"
payload = { z = 1, a = [true, 2.5, "x"], at = 2026-01-01T00:00:00Z }

[[input]]
kind = "ndjson"
path = "-"

[steps.charge]
command = ["./charge.sh", "--fast", ""]
mode = "worker"
executor = { kind = "processes", max_workers = 3, max_tasks_per_child = 7 }
input = ["order", "bare"]
output = "payment"
retry = { max_attempts = 4, backoff_factor = 0.25, max_backoff = 10, jitter = 0.2, retry_on = ["gateway", "timeout"] }
timeout = "30s"

[steps.bare]
command = ["cat", "-"]

[steps.unused]
command = ["true"]

[pipelines.fulfil]
flow = "bare -> charge"

[pipelines.unused]
flow = "bare"

[[on]]
type = "order.*"
topic = "shop:*"
where = { "sender.type" = "User", count = 1, sender.admin = false }
group = "fulfilment"
pipeline = "fulfil"
limit = 3
retry = { max_attempts = 2 }
then = "stop"
lease = "1m"

[[on]]
pipeline = "fulfil"
group = "fulfilment"
name = "second"

[[on]]
pipeline = "fulfil"
"#;

fn command(step: &StepSpec) -> &CommandSpec {
    let WorkSpec::Command(command) = &step.work else { panic!("{step:?}") };
    command
}

#[test]
fn a_file_with_everything_is_resolved_with_its_defaults() {
    let folder = Folder::new();
    folder.script("charge.sh", 0o755);
    folder.write("orders.ndjson", "");
    let app = folder.load(FULL, &[("RAILBUS_LOG", "debug"), ("RAILBUS_BUS__", "x")]).unwrap();
    assert_eq!(app.folder, folder.0);
    assert_eq!(app.bus.backend(), "sqlite");
    assert_eq!(Path::new(app.bus.address()), folder.0.join("data/orders.db"));
    assert_eq!(app.bus.text("retention"), Some("48h"));

    let [InputSpec::Ndjson(file), InputSpec::Schedule(clock), InputSpec::Ndjson(stdin)] =
        &app.inputs[..]
    else {
        panic!("{:?}", app.inputs)
    };
    assert_eq!((&*file.name, &*file.type_field), ("orders.ndjson", "event"));
    assert_eq!(file.path, Some(folder.0.join("orders.ndjson")));
    assert_eq!(file.payload_field.as_deref(), Some("payload"));
    assert_eq!(file.topic.as_deref(), Some("shop:{event}"));
    assert_eq!((&*clock.name, &*clock.event_type), ("tick", "tick"));
    let every = Schedule::every(Duration::from_secs(5400)).unwrap();
    assert_eq!((clock.topic.as_deref(), &clock.schedule), (Some("clock"), &every));
    let payload = r#"{"z":1,"a":[true,2.5,"x"],"at":"2026-01-01T00:00:00Z"}"#;
    assert_eq!(clock.payload.to_string(), payload);
    assert_eq!((&*stdin.name, &stdin.path, &*stdin.type_field), ("stdin", &None, "type"));
    assert_eq!((&stdin.payload_field, &stdin.topic), (&None, &None));

    let names = |all: Vec<&str>| all.join(" ");
    assert_eq!(names(app.steps.iter().map(|s| &*s.name).collect()), "charge bare unused");
    let charge = app.step("charge").unwrap();
    assert_eq!(command(charge).program.as_os_str(), folder.0.join("charge.sh").as_os_str());
    assert_eq!(command(charge).args, ["--fast", ""]);
    assert_eq!(charge.input.as_deref(), Some(&["order".to_owned(), "bare".to_owned()][..]));
    assert_eq!(charge.output, "payment");
    let executor = ProcessesSpec { max_workers: Some(3), max_tasks_per_child: Some(7) };
    assert_eq!(command(charge).mode, Mode::Worker);
    assert_eq!(command(charge).executor, Some(executor));
    let retry = Retry::attempts(4).backoff_factor(Duration::from_millis(250));
    let retry = retry.max_backoff(Duration::from_secs(10)).jitter(0.2);
    let retry = retry.on_kind("gateway").on_kind("timeout");
    assert_eq!((&charge.retry, charge.timeout), (&Some(retry), Duration::from_secs(30)));
    let bare = app.step("bare").unwrap();
    assert_eq!((&command(bare).program, &bare.retry), (&PathBuf::from("cat"), &None));
    assert_eq!((command(bare).mode, &command(bare).executor), (Mode::Document, &None));
    assert_eq!((&bare.input, &*bare.output), (&None, "bare"));
    assert_eq!(bare.timeout, Duration::from_secs(300));
    assert_eq!(app.pipeline("fulfil").unwrap().steps, ["bare", "charge"]);
}

#[test]
fn schedules_are_resolved_with_their_time_zone_jitter_and_policy() {
    let text = r#"
bus.url = "memory:"
steps.a.command = ["cat"]
pipelines.p.flow = "a"
on = [{ type = "*", pipeline = "p" }]
[[input]]
kind = "cron"
cron = "30 2 * * MON-FRI"
time_zone = "Europe/Berlin"
jitter = "90s"
missed = "all"
type = "report"
name = "nightly"
[[input]]
kind = "at"
at = 2026-04-01T08:00:00+02:00
type = "once"
[[input]]
kind = "at"
at = ["2026-04-01T08:00:00Z", "2026-04-02T08:00:00Z"]
missed = "skip"
type = "twice"
"#;
    let app = Folder::new().load(text, &[]).unwrap();
    let [InputSpec::Schedule(nightly), InputSpec::Schedule(once), InputSpec::Schedule(twice)] =
        &app.inputs[..]
    else {
        panic!("{:?}", app.inputs)
    };
    let cron = Schedule::cron("30 2 * * MON-FRI").unwrap().time_zone("Europe/Berlin").unwrap();
    let cron = cron.jitter(Duration::from_secs(90)).unwrap().missed(Missed::All);
    assert_eq!((&*nightly.name, &nightly.schedule), ("nightly", &cron));
    let one = Schedule::at(["2026-04-01T06:00:00Z"]).unwrap();
    assert_eq!((&*once.name, &once.schedule), ("once", &one));
    let two = Schedule::at(["2026-04-01T08:00:00Z", "2026-04-02T08:00:00Z"]).unwrap();
    assert_eq!(twice.schedule, two.missed(Missed::Skip));
    let endless: Vec<_> = app.inputs.iter().map(InputSpec::is_endless).collect();
    assert_eq!(endless, [true, false, false]);
}

#[test]
fn subscriptions_have_their_predicate_policy_and_defaults() {
    let folder = Folder::new();
    folder.script("charge.sh", 0o755);
    folder.write("orders.ndjson", "");
    let app = folder.load(FULL, &[]).unwrap();
    let [first, second, third] = &app.subscriptions[..] else { panic!() };
    assert_eq!((&*first.name, first.group.as_deref()), ("fulfil", Some("fulfilment")));
    assert_eq!((first.limit, first.lease), (3, Duration::from_secs(60)));
    let policy = first.policy();
    assert_eq!((policy.retry, policy.then), (Retry::attempts(2), Then::Stop));
    let wanted = |event_type: &str, topic: &str, payload| {
        first.predicate().matches(&Event::new(event_type).topic(topic).payload(payload))
    };
    let payload = json!({"sender": {"type": "User", "admin": false}, "count": 1.0});
    assert!(wanted("order.placed", "shop:x", payload.clone()));
    assert!(!wanted("order", "shop:x", payload.clone()));
    assert!(!wanted("order.placed", "shop", payload));
    assert!(!wanted("order.placed", "shop:x", json!({"sender": {"type": "User"}, "count": 1})));

    assert_eq!((&*second.name, &*second.pipeline), ("second", "fulfil"));
    let cores = std::thread::available_parallelism().unwrap().get();
    assert_eq!((second.limit, second.lease), (cores, Duration::from_secs(30)));
    let policy = second.policy();
    assert_eq!((policy.retry.max_attempts(), policy.then), (5, Then::DeadLetter));
    assert!(second.predicate().matches(&Event::new("anything").into()));

    assert_eq!((&*third.name, &third.group), ("fulfil", &None));
    let policy = third.policy();
    assert_eq!((policy.retry.max_attempts(), policy.then), (1, Then::Drop));
}

#[test]
fn the_environment_names_the_bus_and_sets_its_keys() {
    let folder = Folder::new();
    let table = "[bus]\nkind = \"sqlite\"\npath = \"a.db\"\nretention = \"48h\"\nmax_size = 10\n";
    let rest =
        "[steps.a]\ncommand = [\"true\"]\n[pipelines.p]\nflow = \"a\"\n[[on]]\npipeline = \"p\"\n";
    let here = folder.0.display();
    let cases: &[(&[(&str, &str)], String)] = &[
        (&[], format!("sqlite:{here}/a.db?max_size=10&retention=48h")),
        // Another place on the same backend keeps the settings; relative to where one stands.
        (&[("RAILBUS_URL", "sqlite:b.db")], "sqlite:b.db?max_size=10&retention=48h".into()),
        (
            &[("RAILBUS_URL", "sqlite:b.db?max_size=2")],
            "sqlite:b.db?max_size=2&retention=48h".into(),
        ),
        // Another backend does not.
        (&[("RAILBUS_URL", "memory:")], "memory:".into()),
        (&[("RAILBUS_BUS__KIND", "memory")], "memory:".into()),
        (
            &[("RAILBUS_BUS__RETENTION", "1h")],
            format!("sqlite:{here}/a.db?max_size=10&retention=1h"),
        ),
        (&[("RAILBUS_BUS__PATH", "c.db")], "sqlite:c.db?max_size=10&retention=48h".into()),
        (
            &[("RAILBUS_BUS__URL", "sqlite:c.db"), ("RAILBUS_URL", "sqlite:b.db")],
            "sqlite:b.db?max_size=10&retention=48h".into(),
        ),
        (
            &[("RAILBUS_TOKEN", "x"), ("BUS__X", "y")],
            format!("sqlite:{here}/a.db?max_size=10&retention=48h"),
        ),
    ];
    for (env, expected) in cases {
        let app = folder.load(format!("{table}{rest}"), env).unwrap();
        assert_eq!(app.bus.to_string(), *expected, "{env:?}");
    }
    let elsewhere = [
        ("RAILBUS_BUS__KIND", "sqlite"),
        ("RAILBUS_BUS__PATH", "d"),
        ("RAILBUS_BUS__MAX_SIZE", "1"),
    ];
    let app = folder.load(format!("bus.url = \"memory:\"\n{rest}"), &elsewhere).unwrap();
    assert_eq!(app.bus.to_string(), "sqlite:d?max_size=1");
    // The environment is enough.
    let app = folder.load(rest, &[("RAILBUS_URL", "memory:")]).unwrap();
    assert_eq!(app.bus.backend(), "memory");
    let app = folder.load(format!("bus.retention = \"1h\"\n{rest}"), &[("RAILBUS_URL", "memory:")]);
    assert_eq!(app.unwrap().bus.backend(), "memory");
}

#[test]
fn an_absolute_address_and_no_address_stay_as_they_are() {
    let folder = Folder::new();
    let rest = &APP[APP.find('\n').unwrap()..];
    for (url, address) in [
        ("sqlite:/var/x.db", "/var/x.db"),
        ("sqlite:///var/x.db", "/var/x.db"),
        ("sqlite::memory:", ":memory:"),
        ("memory:", ""),
    ] {
        let app = folder.load(format!("bus.url = \"{url}\"{rest}"), &[]).unwrap();
        assert_eq!(app.bus.address(), address);
    }
}

#[test]
fn a_byte_order_mark_is_fine() {
    assert!(Folder::new().load(format!("\u{feff}{APP}"), &[]).is_ok());
}

#[test]
fn a_file_of_inputs_alone_publishes_for_others() {
    let text = "bus.url = \"memory:\"\n[[input]]\nkind = \"ndjson\"\npath = \"-\"\n";
    let app = Folder::new().load(text, &[]).unwrap();
    assert_eq!((app.inputs.len(), app.subscriptions.len()), (1, 0));
}

#[test]
fn a_secret_in_a_url_is_not_told() {
    let folder = Folder::new();
    let rest = &APP[APP.find('\n').unwrap()..];
    let app = folder.load(format!("bus.url = \"sqlite://me:hunter2@host/db\"{rest}"), &[]).unwrap();
    assert!(!format!("{app:?}").contains("hunter2"), "{app:?}");
    for url in [
        "x://me:hunter2@host/db",
        "x:me:hunter2@host/db",
        "me:hunter2@host/db",
        "//me:hunter2@host/db",
        "memory://me:hunter2@host/db",
        "sqlite:x?password=hunter2",
        "sqlite://me:what?hunter2@host/db",
        "x://me:what?and&hunter2@host/db",
        "x://host/db?password=hunter2&password=hunter2",
    ] {
        let kept = |problems: Problems| {
            assert!(!format!("{problems} {problems:?}").contains("hunter2"), "{url}: {problems:?}");
        };
        kept(folder.problems(&format!("bus.url = \"{url}\"{rest}"), &[]));
        kept(folder.problems(&format!("bus.kind = \"{url}\"{rest}"), &[]));
        for name in ["RAILBUS_URL", "RAILBUS_BUS__URL", "RAILBUS_BUS__KIND"] {
            kept(folder.problems(APP, &[(name, url)]));
        }
    }
}

#[test]
fn nothing_cut_short_or_garbled_makes_the_reader_panic() {
    let folder = Folder::new();
    folder.script("charge.sh", 0o755);
    folder.write("orders.ndjson", "");
    for end in (0..FULL.len()).step_by(7) {
        let _ = folder.load(&FULL[..end], &[]);
        let mut garbled = FULL.to_owned();
        garbled.replace_range(end..=end, ["[", "\"", "=", "\n", "{"][end % 5]);
        let _ = folder.load(&garbled, &[]);
    }
}
