//! Inputs that are posted to: what a file says of them, and every mistake.

use super::{APP, Folder, mistakes::each};
use railbus::app::{HttpSpec, InputSpec};

const INPUT: &str = "[[input]]\nkind = \"http\"\n";

#[test]
fn an_input_that_is_posted_to_is_resolved() {
    let folder = Folder::new();
    let app = APP.replace("memory:", "sqlite:a.db");
    let text = format!(
        "{app}{INPUT}host = \"0.0.0.0\"\nport = 8080\npath = \"/hooks\"\nmode = \"accept\"\n\
         scheme = \"github\"\nsecret_env = \"NEW, OLD\"\ntopic = \"github:{{type}}\"\nbody_max = \"2MiB\"\n\
         [[input]]\nkind = \"http\"\nname = \"others\"\nport = 8081\n"
    );
    let app = folder.load(text, &[("NEW", "hunter2"), ("OLD", "hunter1")]).unwrap();
    let InputSpec::Http(HttpSpec { name, options }) = &app.inputs[0] else { panic!("{app:?}") };
    assert_eq!((name.as_str(), options.text("port")), ("/hooks", Some("8080")));
    assert_eq!(options.text("secret"), Some("hunter2\nhunter1"));
    assert!(!format!("{app:?}").contains("hunter"), "{app:?}");
    assert!(app.inputs[0].is_endless());
    assert_eq!(app.inputs[1].name(), "others");
}

#[test]
fn mistakes_in_what_is_posted_to() {
    let app = APP.replace("memory:", "sqlite:a.db");
    each(
        &format!("{app}{INPUT}"),
        &[
            ("", 8, 1, "has no `port`", "add port = 8080"),
            ("port = 70000", 10, 8, "`70000` is not a value of `port`", "a whole number"),
            ("port = []", 10, 8, "`port` must be a text or a number", ""),
            ("port = 1\nprot = 2", 11, 1, "`prot` is not a key", "did you mean `port`?"),
            ("port = 1\nmode = \"handle\"", 11, 8, "not a value of `mode`", "known: accept"),
            ("port = 1\npath = \"hooks\"", 11, 8, "not a value of `path`", "such as /hooks"),
            ("port = 1\nscheme = \"github\"", 8, 1, "no secret is said", "set secret_env"),
            ("port = 1\nsecret = \"a\"", 8, 1, "how requests are signed", "set scheme"),
            (
                "port = 1\nscheme = \"hub\"\nsecret = \"a\"",
                11,
                10,
                "`hub` is not a value of `scheme`",
                "github, standard",
            ),
            (
                "port = 1\nscheme = \"github\"\nsecret_env = \"NONE\"",
                12,
                14,
                "no variable `NONE`",
                "set it to the secret",
            ),
            ("port = 1\nbody_timeout = \"0s\"", 11, 16, "`0s` is not a value", "a duration"),
        ],
    );
    let folder = Folder::new();
    let problems = folder.problems(&format!("{APP}{INPUT}port = 1\n"), &[]);
    let told = problems.to_string();
    assert!(told.contains("senders are told that the bus has their events"), "{told}");
    assert!(told.contains("sqlite:PATH"), "{told}");
}

#[test]
fn what_is_posted_elsewhere_is_resolved_and_its_mistakes_are_told() {
    let on = "bus.url = \"sqlite:a.db\"\n[[on]]\ntype = \"order.*\"\n";
    let folder = Folder::new();
    let text = format!(
        "{on}group = \"to-crm\"\nurl = \"https://crm.example.org/hooks?token=hunter3\"\n\
         scheme = \"standard\"\nsecret_env = \"CRM\"\nmode = \"structured\"\ntimeout = \"5s\"\n"
    );
    let app = folder.load(text, &[("CRM", "whsec_aHVudGVyMg==")]).unwrap();
    let spec = &app.subscriptions[0];
    let post = spec.post.as_ref().unwrap();
    assert_eq!(format!("{post:?}"), "Endpoint(https://crm.example.org/hooks?…)");
    assert_eq!((spec.name.as_str(), spec.limit, spec.pipeline.as_str()), ("to-crm", 16, ""));
    let shown = format!("{app:?}");
    assert!(!shown.contains("hunter") && !shown.contains("aHVudGVyMg"), "{shown}");
    each(
        &format!("{on}group = \"g\"\n"),
        &[
            ("", 2, 1, "has no `pipeline`", "add pipeline ="),
            ("url = \"ftp://x\"", 5, 7, "`ftp` is not a scheme", "https://"),
            ("url = \"http://x\"\nmode = \"odd\"", 6, 8, "not a value of `mode`", "binary"),
            ("url = \"http://x\"\npipeline = \"p\"", 6, 1, "both say", "keep one"),
            ("url = \"http://x\"\nscheme = \"stripe\"", 6, 10, "no secret is said", "secret_env"),
            (
                "url = \"http://x\"\nsecret_env = \"NONE\"",
                6,
                14,
                "no variable `NONE`",
                "set it to the secret",
            ),
            ("url = \"http://x\"\ntimeot = 1", 6, 1, "`timeot`", "mean `timeout`"),
        ],
    );
    let told = folder.problems(&format!("{on}url = \"http://x\"\n"), &[]).to_string();
    assert!(told.contains("what is posted needs a `group`"), "{told}");
}
