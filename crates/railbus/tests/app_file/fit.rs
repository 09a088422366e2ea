//! What the backend refuses of an app, told with its place before anything runs.

use crate::{APP, Folder};
use railbus::{ErrorKind, app::App, options::Options};

const REST: &str = "[steps.a]\ncommand = [\"true\"]\n[pipelines.p]\nflow = \"a\"\n[[on]]\ntype = \"x\"\npipeline = \"p\"\ngroup = \"g\"\n";

#[test]
fn what_the_backend_refuses_is_told_with_its_place() {
    let folder = Folder::new();
    for (bus, place, message, hint) in [
        (
            "bus.url = \"sqlit:x.db\"",
            (1, 11),
            "there is no backend `sqlit`",
            "did you mean `sqlite`",
        ),
        ("bus = { url = \"sqlite:x\", retenton = \"1h\" }", (1, 27), "`retenton`", "`retention`"),
        ("bus = { url = \"sqlite:x\", synchronous = \"off\" }", (1, 41), "`off`", "allowed: full"),
        ("bus = { kind = \"sqlite\", path = \"x\", ulr = \"y\" }", (1, 38), "`ulr`", "mean `url`?"),
        ("bus.url = \"memory:\"", (9, 9), "groups of memory end with the process", "sqlite:PATH"),
    ] {
        let problems = folder.problems(&format!("{bus}\n{REST}"), &[]);
        let [problem] = problems.list() else { panic!("{problems}") };
        assert_eq!(problem.line_column(), Some(place), "{problems}");
        assert!(problem.message.contains(message), "{problems}");
        assert!(problem.hint.as_deref().unwrap_or_default().contains(hint), "{problems}");
    }
}

#[test]
fn a_key_that_was_to_name_the_bus_is_told_though_the_environment_names_one() {
    let folder = Folder::new();
    let problems =
        folder.problems(&format!("bus.ulr = \"sqlite:x\"\n{REST}"), &[(URL, "sqlite:y")]);
    let [problem] = problems.list() else { panic!("{problems}") };
    assert_eq!(problem.line_column(), Some((1, 5)), "{problems}");
    assert!(problem.hint.as_deref().unwrap().contains("did you mean `url`?"), "{problems}");
}

#[test]
fn what_the_environment_got_wrong_is_told_as_its_own() {
    let folder = Folder::new();
    let text = format!("bus.url = \"sqlite:x\"\n{REST}");
    for (name, value, message) in [
        ("RAILBUS_URL", "sqlit:x", "RAILBUS_URL: there is no backend `sqlit`"),
        ("RAILBUS_BUS__RETENTON", "1h", "RAILBUS_BUS__RETENTON: `retenton` is not a setting"),
        ("RAILBUS_BUS__RETENTION", "soon", "RAILBUS_BUS__RETENTION: `soon` is not a duration"),
    ] {
        let problems = folder.problems(&text, &[(name, value)]).to_string();
        assert!(problems.contains(message), "{problems}");
    }
}

#[test]
fn each_thing_the_backend_refuses_is_told_where_it_was_said() {
    let folder = Folder::new();
    let bus =
        "[bus]\nurl = \"sqlite:x?synchronous=url\"\nurl_ = 1\nretention = \"url\"\nmax_size = -1";
    let problems = folder.problems(&format!("{bus}\n{REST}"), &[]);
    let told: Vec<_> = problems.list().iter().map(|p| (p.line_column(), &*p.message)).collect();
    let expected = [
        (Some((2, 7)), "`url` is not a value of `synchronous`"),
        (Some((3, 1)), "`url_` is not a setting of sqlite"),
        (Some((4, 13)), "`url` is not a duration"),
        (Some((5, 12)), "`-1` is not a size"),
    ];
    assert_eq!(told, expected);
}

const URL: &str = "RAILBUS_URL";
const KIND: &str = "RAILBUS_BUS__KIND";
const PATH: &str = "RAILBUS_BUS__PATH";
const RETENTION: &str = "RAILBUS_BUS__RETENTION";
const RETENTION_LOWER: &str = "RAILBUS_BUS__retention";
const WAIT: &str = "RAILBUS_BUS__BUSY_TIMEOUT";

/// The bus in the file, the environment, and what the first line of the problems has in it.
type Blame = (&'static str, &'static [(&'static str, &'static str)], &'static str);

fn blamed(cases: &[Blame]) {
    let folder = Folder::new();
    let rest = REST.replace("group = \"g\"\n", "");
    for (bus, environment, message) in cases {
        let text = format!("[bus]\n{}\n{rest}", bus.replace("; ", "\n"));
        let problems = folder.problems(&text, environment).to_string();
        let first = problems.lines().next().unwrap_or_default();
        assert!(first.contains(message), "{bus} {environment:?}\n{problems}");
    }
}

#[test]
fn a_text_that_another_message_quotes_is_not_to_blame() {
    let file = "url = 'sqlite:x'; synchronous = '1h'";
    blamed(&[
        (file, &[(RETENTION, "1h")], ":3:15: `1h` is not a value"),
        ("url = 'sqlite:x'; retention = 'soon'", &[(WAIT, "1s")], ":3:13: `soon` is not"),
        ("url = 'sqlite:x'; y = 1", &[(URL, "sqlite:y")], ":3:1: `y` is not a setting"),
        ("url = 'sqlite:x'; retention = 'url'", &[], ":3:13: `url` is not a duration"),
        ("url = 'sqlite:x'; b = 'a'; a = 1", &[], ":3:1: `b` is not a setting"),
        ("kind = 'nsq'", &[(PATH, "nsq")], ":2:8: there is no backend `nsq`"),
    ]);
}

#[test]
fn who_came_last_is_to_blame() {
    let file = "url = 'sqlite:x'; retention = 'x'";
    blamed(&[
        (file, &[(RETENTION, "x")], "RAILBUS_BUS__RETENTION: `x` is"),
        (file, &[(URL, "sqlite:y?retention=x")], "RAILBUS_URL: `x` is"),
        ("url = 'sqlite:x?retention=x'", &[(RETENTION, "x")], "RAILBUS_BUS__RETENTION: `x` is"),
        ("url = 'sqlite:x'", &[(RETENTION, "x"), (RETENTION_LOWER, "y")], "__retention: `y` is"),
        ("url = 'memory:'", &[(KIND, "nsq"), (PATH, "x")], "RAILBUS_BUS__KIND: there is no back"),
    ]);
}

#[test]
fn an_address_is_blamed_on_who_gave_it_or_did_not() {
    blamed(&[
        ("url = 'sqlite:'", &[(RETENTION, "1h")], ":2:7: the path of the database file is"),
        ("kind = 'sqlite'", &[], ":2:8: the path of the database file is missing"),
        ("url = 'sqlite:x'", &[(PATH, "")], "RAILBUS_BUS__PATH: the path of the database"),
        ("url = 'memory:'", &[(KIND, "sqlite")], "RAILBUS_BUS__KIND: the path of the database"),
        ("kind = 'memory'; path = 'x'", &[], ":3:8: memory has no address"),
        ("url = 'memory:'", &[(PATH, "x")], "RAILBUS_BUS__PATH: memory has no address"),
        ("kind = 'sqlite'", &[(KIND, "memory"), (PATH, "x")], "__PATH: memory has no address"),
        ("url = 'sqlite:x'", &[(RETENTION, "")], "RAILBUS_BUS__RETENTION: `` is not a duration"),
    ]);
}

#[test]
fn one_mistake_is_told_once() {
    let folder = Folder::new();
    for (bus, group) in [
        ("memory:", "\"\""),
        ("memory:", "\" \""),
        ("memory:", "\"\\u0000\""),
        ("memory:", "1"),
        ("memory:", "\"g\""),
        ("sqlite:?retention=1h&max_size=1", "\"g\""),
        ("memory:x", "\"\""),
    ] {
        let rest = REST.replace("\"g\"", group);
        let problems = folder.problems(&format!("bus.url = \"{bus}\"\n{rest}"), &[]);
        let expected = if bus == "memory:x" { 2 } else { 1 };
        assert_eq!(problems.list().len(), expected, "{bus} {group}\n{problems}");
    }
}

#[railbus::test]
async fn an_app_with_groups_does_not_open_where_nobody_keeps_account_of_them() {
    let folder = Folder::new();
    let text = APP.replace("memory:", "sqlite:x.db") + "type = \"a\"\ngroup = \"g\"";
    let mut app = folder.load(text, &[]).unwrap();
    app.bus = Options::parse("memory:").unwrap();
    let error = App::open(&app).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unsupported, "{error}");
    assert!(error.to_string().contains("memory keeps no accounts"), "{error}");
}

#[cfg(feature = "postgres")]
#[test]
fn a_server_is_no_setting_to_be_looked_at_without_its_place() {
    let folder = Folder::new();
    for bus in [
        "bus.url = \"postgres-queue://me:secret@h:7/d?poll=1s\"",
        "bus = { kind = \"postgres-queue\", database = \"d\", poll_only = true }",
    ] {
        folder.load(format!("{bus}\n{REST}"), &[]).unwrap();
    }
    let bus = "[bus]\nkind = \"postgres-queue\"\nhost = \"h\"\nport = 70000\npoll = \"0s\"";
    let problems = folder.problems(&format!("{bus}\n{REST}"), &[]);
    let told: Vec<_> = problems.list().iter().map(|p| (p.line_column(), &*p.message)).collect();
    let expected = [
        (Some((5, 8)), "a poll of 0 would never rest"),
        (Some((4, 8)), "`70000` is not a value of `port`"),
    ];
    for one in expected {
        assert!(told.contains(&one), "{told:?}");
    }
    assert_eq!(told.len(), 2, "{told:?}");
}
