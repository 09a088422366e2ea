//! Steps that are requests: what a file says of them, and every mistake.

use super::{APP, Folder, mistakes::each};
use railbus::{
    app::{Place, WorkSpec},
    retry::Retry,
    steps::http::{HttpStep, Statuses},
};
use std::time::Duration;

const POST: &str = r#"[steps.charge]
post = "https://pay.example.org/charges"
headers = { x-tenant = "north" }
headers_env = { authorization = "PAY_AUTH" }
status = { success = [200, "201"], failure = [409], retry = ["5xx"] }
input = ["order"]
output = "payment"
retry = { max_attempts = 2, retry_on = ["http"] }
timeout = "2s"

[steps.bare]
post = "http://localhost:8080"
"#;

#[test]
fn a_request_is_resolved_with_its_defaults() {
    let folder = Folder::new();
    let app = folder.load(format!("{APP}{POST}"), &[("PAY_AUTH", "Bearer hunter2")]).unwrap();
    let charge = app.step("charge").unwrap();
    let WorkSpec::Post(post) = &charge.work else { panic!("{charge:?}") };
    let statuses = Statuses::default().success([200, 201]).unwrap();
    let statuses = statuses.failure([409]).unwrap().retry(["5xx"]).unwrap();
    let step = HttpStep::post("https://pay.example.org/charges").unwrap();
    let step = step.header("x-tenant", "north").unwrap();
    let step = step.header("authorization", "Bearer hunter2").unwrap().statuses(statuses);
    assert_eq!(post.request, step);
    assert_eq!((&*charge.output, charge.timeout), ("payment", Duration::from_secs(2)));
    assert_eq!(charge.input.as_deref(), Some(&["order".to_owned()][..]));
    assert_eq!(charge.retry, Some(Retry::attempts(2).on_kind("http")));
    assert!(!format!("{app:?}").contains("hunter2"), "{app:?}");
    let bare = app.step("bare").unwrap();
    assert_eq!((&*bare.output, bare.timeout), ("bare", Duration::from_secs(30)));
    let WorkSpec::Post(post) = &bare.work else { panic!("{bare:?}") };
    assert_eq!(post.request, HttpStep::post("http://localhost:8080").unwrap());
}

#[test]
fn mistakes_in_requests() {
    each(
        &format!("{APP}[steps.b]\n"),
        &[
            ("post = 1", 9, 8, "`post` must be a string", ""),
            ("post = \"\"", 9, 8, "`post` is empty", ""),
            ("post = \"example.org\"", 9, 8, "has no scheme", "https://"),
            ("post = \"ftp://h/x\"", 9, 8, "`ftp` is not a scheme", "https://"),
            ("post = \"http://me:pw@h\"", 9, 8, "a user or a password", "environment"),
            ("pots = \"http://h\"\npost = \"http://h\"", 9, 1, "`pots`", "mean `post`?"),
            (
                "post = \"http://h\"\ncommand = [\"sh\"]\nmode = \"worker\"",
                10,
                1,
                "[steps.b] has both `command` and `post`",
                "keep one",
            ),
            ("post = \"http://h\"\nmode = \"document\"", 10, 1, "`mode` is not a key", "known"),
            ("command = [\"sh\"]\nheaders = {}", 10, 1, "`headers` is not a key", "known"),
            ("post = \"http://h\"\nheaders = 1", 10, 11, "must be a table", "x-tenant"),
            ("post = \"http://h\"\nheaders = { x = 1 }", 10, 17, "`x` must be a string", ""),
            ("post = \"http://h\"\nheaders = { \"a b\" = \"x\" }", 10, 21, "header's name", "use"),
            ("post = \"http://h\"\nheaders = { Host = \"x\" }", 10, 20, "makes", "leave it out"),
            ("post = \"http://h\"\nheaders = { x = \"a\\nb\" }", 10, 17, "can't be sent", "line"),
            (
                "post = \"http://h\"\nheaders_env = { x = \"NOT_SET\" }",
                10,
                21,
                "there is no variable `NOT_SET`",
                "set it to the value of the header `x`",
            ),
            ("post = \"http://h\"\nstatus = [200]", 10, 10, "must be a table", "\"5xx\""),
            ("post = \"http://h\"\nstatus = { ok = [200] }", 10, 12, "`ok`", "success"),
            ("post = \"http://h\"\nstatus = { retry = 503 }", 10, 20, "an array", "\"5xx\""),
            ("post = \"http://h\"\nstatus = { retry = [5.5] }", 10, 21, "hold statuses", "5xx"),
            ("post = \"http://h\"\nstatus = { retry = [99] }", 10, 21, "`99` is not a", "100"),
            ("post = \"http://h\"\nstatus = { retry = [\"6xx\"] }", 10, 21, "`6xx`", "5xx"),
            (
                "post = \"http://h\"\nstatus = { success = [200], failure = [200] }",
                10,
                40,
                "`200` has two meanings",
                "keep one",
            ),
            ("post = \"http://h\"\ntimeout = \"0s\"", 10, 11, "more than zero", ""),
        ],
    );
}

#[test]
fn a_secret_in_a_header_is_not_told() {
    let folder = Folder::new();
    let text = format!("{APP}{POST}");
    let problems = folder.problems(&text, &[("PAY_AUTH", "hunter2\n")]);
    let [problem] = problems.list() else { panic!("{problems}") };
    assert!(matches!(problem.place, Place::File { line: 11, .. }), "{problems}");
    assert!(problem.message.contains("`authorization` can't be sent"), "{problems}");
    assert!(!format!("{problems} {problems:?}").contains("hunter2"));
}
