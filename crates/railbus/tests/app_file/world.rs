//! Mistakes that show only in what the file names: programs, inputs, groups.

use super::{APP, Folder};
use std::{
    fs,
    os::unix::{fs::PermissionsExt, net::UnixListener},
    process::Command,
};

/// A program to try, with what is said about it and what is to be done.
type Program<'a> = (&'a str, &'a [u8], &'a str, &'a str);

/// Returns place, message and hint of the one mistake.
fn one(folder: &Folder, text: &str) -> ((usize, usize), String, String) {
    let problems = folder.problems(text, &[]);
    let [problem] = problems.list() else { panic!("{text}\n{problems}") };
    let hint = problem.hint.clone().unwrap_or_default();
    (problem.line_column().unwrap(), problem.message.clone(), hint)
}

#[test]
fn a_bare_command_is_looked_up_in_path() {
    let folder = Folder::new();
    let app = format!("{APP}[steps.b]\ncommand = [\"railbus-none.sh\"]");
    let (place, message, hint) = one(&folder, &app);
    assert_eq!((place, &*message), ((9, 11), "there is no `railbus-none.sh` in PATH"));
    assert!(hint.starts_with("install it"), "{hint}");
    folder.script("railbus-none.sh", 0o755);
    let (_, _, hint) = one(&folder, &app);
    assert!(hint.starts_with("did you mean \"./railbus-none.sh\"?"), "{hint}");
    assert!(folder.load(app.replace("railbus-none", "./railbus-none"), &[]).is_ok());
    assert!(folder.load(app.replace("railbus-none.sh", "sh"), &[]).is_ok());
}

#[test]
fn a_program_begins_as_one() {
    let folder = Folder::new();
    let app = format!("{APP}[steps.b]\ncommand = [\"./b\"]");
    let wrong = "has no first line such as #!/bin/sh";
    let cases: [Program<'_>; 5] = [
        ("a script", b"#!/bin/sh\n", "", ""),
        ("a program", b"\x7fELF\x02\x01", "", ""),
        ("bare", b"echo hello\n", wrong, "begin the script"),
        ("empty", b"", wrong, "begin the script"),
        ("commented", b"\n#!/bin/sh\n", wrong, "begin the script"),
    ];
    for (what, bytes, message, hint) in cases {
        let path = folder.write("b", bytes);
        fs::set_permissions(path, fs::Permissions::from_mode(0o755)).unwrap();
        if message.is_empty() {
            assert!(folder.load(&app, &[]).is_ok(), "{what}");
            continue;
        }
        let (place, found, advice) = one(&folder, &app);
        assert_eq!(place, (9, 11), "{what}");
        assert!(found.ends_with(message) && advice.starts_with(hint), "{what}: {found} {advice}");
    }
}

#[test]
fn an_input_needs_its_file() {
    let folder = Folder::new();
    let app = |path: &str| format!("{APP}[[input]]\nkind = \"ndjson\"\npath = \"{path}\"");
    let (place, message, hint) = one(&folder, &app("none.ndjson"));
    assert_eq!(place, (10, 8));
    assert!(message.starts_with("can't find ") && message.contains("none.ndjson"), "{message}");
    assert!(hint.contains("app file's folder"), "{hint}");
    let (_, message, _) = one(&folder, &app("."));
    assert!(message.ends_with("is a folder, not a file"), "{message}");
    folder.write("none.ndjson", "");
    let device = app("/dev/null");
    let made = Command::new("mkfifo").arg(folder.0.join("pipe")).status();
    assert!(made.unwrap().success());
    for good in [&app("none.ndjson"), &app("-"), &app("pipe"), &device] {
        assert!(folder.load(good, &[]).is_ok(), "{good}");
    }
    // Root may read all files; a socket can be opened by nobody.
    let _socket = UnixListener::bind(folder.0.join("socket")).unwrap();
    let shut = folder.write("shut.ndjson", "");
    fs::set_permissions(&shut, fs::Permissions::from_mode(0o000)).unwrap();
    let is_root = fs::File::open(shut).is_ok();
    for name in ["socket", "shut.ndjson"].into_iter().take(if is_root { 1 } else { 2 }) {
        let (place, message, hint) = one(&folder, &app(name));
        let is_told = message.starts_with("can't read ") && message.contains(name);
        assert!(place == (10, 8) && is_told && hint.contains("read the file"), "{message} {hint}");
    }
}

#[test]
fn only_what_is_there_is_suggested() {
    let folder = Folder::new();
    let (_, _, hint) = one(&folder, &format!("{APP}[[input]]\nkind = \"kafka\""));
    assert_eq!(
        hint,
        if cfg!(feature = "webhook") {
            "known: ndjson, interval, cron, at, http"
        } else {
            "known: ndjson, interval, cron, at"
        }
    );
    let input = format!("{APP}[[input]]\nkind = \"ndjson\"\npath = \"-\"\n");
    for (text, meant) in [
        (format!("{input}payload = \"p\""), "did you mean `payload_field`?"),
        (format!("{input}type = \"p\""), "did you mean `type_field`?"),
        (format!("{APP}retries = 3"), "did you mean `retry`?"),
        (format!("{APP}retry = {{ attempts = 3 }}"), "did you mean `max_attempts`?"),
        (format!("{APP}concurrency = 3"), "did you mean `limit`?"),
    ] {
        let (_, _, hint) = one(&folder, &text);
        assert!(hint.starts_with(meant), "{text}: {hint}");
    }
}

#[test]
fn dead_letters_need_a_group_and_a_group_a_short_name() {
    let folder = Folder::new();
    let (place, message, hint) = one(&folder, &format!("{APP}then = \"dead_letter\""));
    assert_eq!((place, &*message), ((8, 8), "dead letters need a `group`"));
    assert!(hint.starts_with("add a `group`"), "{hint}");
    assert!(folder.load(format!("{APP}then = \"drop\""), &[]).is_ok());

    let app = APP.replace("memory:", "sqlite:x.db");
    let grouped = |name: &str| format!("{app}group = \"{name}\"\nthen = \"dead_letter\"");
    let (place, message, _) = one(&folder, &grouped(&"g".repeat(257)));
    assert_eq!(place, (8, 9));
    assert!(message.contains("257 bytes; at most 256"), "{message}");
    assert!(folder.load(grouped(&"g".repeat(256)), &[]).is_ok());
    // Without a group, a durable backend broadcasts.
    assert!(folder.load(&app, &[]).is_ok());
}
