//! What the backend refuses of an app, told with its place before anything runs.

use crate::Folder;

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
        ("bus = { url = \"sqlite:x\", retenton = \"1h\" }", (1, 38), "`retenton`", "`retention`"),
        ("bus = { url = \"sqlite:x\", synchronous = \"off\" }", (1, 41), "`off`", "allowed: full"),
        ("bus.url = \"memory:\"", (9, 9), "memory has no groups", "sqlite:PATH"),
    ] {
        let problems = folder.problems(&format!("{bus}\n{REST}"), &[]);
        let [problem] = problems.list() else { panic!("{problems}") };
        assert_eq!(problem.line_column(), Some(place), "{problems}");
        assert!(problem.message.contains(message), "{problems}");
        assert!(problem.hint.as_deref().unwrap_or_default().contains(hint), "{problems}");
    }
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
