//! Mistakes in steps: their places, what is said about them, and the hints.

use super::{APP, Folder, mistakes::each};

#[test]
fn mistakes_in_steps() {
    each(
        &format!("{APP}[steps.b]\n"),
        &[
            ("", 8, 1, "[steps.b] has no `command`", "[\"./step.sh\""),
            ("command = \"true\"", 9, 11, "an array of strings, not a string", "shell"),
            ("command = []", 9, 11, "`command` is empty", "[\"./step.sh\""),
            ("command = [\"\", \"x\"]", 9, 11, "`command` is empty", "[\"./step.sh\""),
            ("command = [\"x\", 1]", 9, 17, "hold strings, not a whole number", "./step.sh"),
            ("command = [\"x\\u0000\"]", 9, 12, "NUL", ""),
            ("command = [\"./no.sh\"]", 9, 11, "can't find", "app file's folder"),
            ("command = [\"./\"]", 9, 11, "is not a file", "app file's folder"),
            ("comand = [\"x\"]\ncommand = [\"sh\"]", 9, 1, "`comand`", "mean `command`?"),
            ("command = [\"sh\"]\nmode = \"wrker\"", 10, 8, "not a value", "mean `worker`?"),
            ("command = [\"sh\"]\ntimeout = 30", 10, 11, "must be a duration", "\"30s\""),
            ("command = [\"sh\"]\ntimeout = \"30\"", 10, 11, "not a duration", "30s"),
            ("command = [\"sh\"]\ntimeout = \"0s\"", 10, 11, "more than zero", ""),
            ("command = [\"sh\"]\nretry = 3", 10, 9, "`retry` must be a table", "max_attempts"),
            (
                "command = [\"sh\"]\nretry = { attempts = 3 }",
                10,
                11,
                "`attempts`",
                "`max_attempts`?",
            ),
            ("command = [\"sh\"]\nretry = { max_attempts = 0 }", 10, 26, "from 1 to", ""),
            ("command = [\"sh\"]\nretry = { max_attempts = -1 }", 10, 26, "not -1", ""),
            ("command = [\"sh\"]\nretry = { max_attempts = 1.5 }", 10, 26, "a whole number", ""),
            ("command = [\"sh\"]\nretry = { backoff_factor = -0.5 }", 10, 28, "zero or more", ""),
            ("command = [\"sh\"]\nretry = { max_backoff = inf }", 10, 25, "zero or more", ""),
            ("command = [\"sh\"]\nretry = { max_backoff = \"1s\" }", 10, 25, "a number of", "0.5"),
            ("command = [\"sh\"]\nretry = { jitter = 2 }", 10, 20, "from 0 to 1", "0.2"),
            (
                "command = [\"sh\"]\nretry = { retry_on = \"x\" }",
                10,
                22,
                "an array",
                "[\"timeout\"]",
            ),
            ("command = [\"sh\"]\nretry = { on = [\"x\"] }", 10, 11, "`on`", "retry_on"),
            ("command = [\"sh\"]\ninput = \"order\"", 10, 9, "an array of strings", "[\"order\"]"),
            ("command = [\"sh\"]\ninput = []", 10, 9, "`input` is empty", "without it"),
            ("command = [\"sh\"]\ninput = [\"a\", \" \"]", 10, 9, "is empty", "[\"order\"]"),
            ("command = [\"sh\"]\ninput = [\"a\", \"b\", \"a\"]", 10, 9, "`a` comes twice", "once"),
            ("command = [\"sh\"]\noutput = \"\"", 10, 10, "`output` is empty", ""),
            ("command = [\"sh\"]\noutput = [\"x\"]", 10, 10, "must be a string", ""),
            ("command = [\"sh\"]\noutputs = \"x\"", 10, 1, "`outputs`", "mean `output`?"),
        ],
    );
    each(APP, &[("[steps.\"b c\"]\ncommand = [\"sh\"]", 8, 8, "`b c` is not a name", "letters")]);
    each(APP, &[("[steps]\nb = 1", 9, 5, "`b` must be a table", "[steps.NAME]")]);
}

#[test]
fn mistakes_in_executors() {
    each(
        &format!("{APP}[steps.b]\n"),
        &[
            ("command = [\"sh\"]\nexecutor = \"processes\"", 10, 12, "must be a table", "kind"),
            ("command = [\"sh\"]\nexecutor = {}", 10, 12, "`executor` has no `kind`", "add exec"),
            (
                "command = [\"sh\"]\nexecutor = { kind = \"threads\" }",
                10,
                21,
                "a command can't run by `threads`",
                "kind = \"processes\"",
            ),
            (
                "command = [\"sh\"]\nexecutor = { kind = \"processes\", workers = 3 }",
                10,
                34,
                "`workers` is not a key of `executor`",
                "mean `max_workers`?",
            ),
            (
                "command = [\"sh\"]\nexecutor = { kind = \"processes\", max_workers = 0 }",
                10,
                48,
                "must be from 1",
                "",
            ),
            (
                "command = [\"sh\"]\nexecutor = { kind = \"processes\", max_tasks_per_child = 3 }",
                10,
                34,
                "`max_tasks_per_child` is for workers",
                "add mode = \"worker\"",
            ),
        ],
    );
}

#[test]
fn a_command_that_is_not_executable_says_how_to_make_it_so() {
    let folder = Folder::new();
    folder.script("x.sh", 0o644);
    let text = format!("{APP}[steps.b]\ncommand = [\"./x.sh\"]");
    let problems = folder.problems(&text, &[]);
    let [problem] = problems.list() else { panic!("{problems}") };
    assert_eq!(problem.line_column(), Some((9, 11)));
    assert!(problem.message.ends_with("x.sh is not executable"), "{problems}");
    assert!(problem.hint.as_deref().unwrap().starts_with("chmod +x "), "{problems}");
    folder.script("x.sh", 0o755);
    assert!(folder.load(&text, &[]).is_ok());
}
