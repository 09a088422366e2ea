//! Steps that are commands: what they are given and what they come to.
#![cfg(feature = "app")]
#![allow(clippy::unwrap_used, clippy::expect_used)]

use railbus::{
    error::ErrorKind,
    event::Event,
    step::{Flow, Input, InputParts, Opaque, Step, StepError, StepResult, Store},
    steps::command::CommandStep,
    store,
};
use serde_json::{Value, json};
use std::{
    fs,
    os::unix::fs::{OpenOptionsExt, PermissionsExt},
    process::Command,
    time::{Duration, Instant},
};

/// Well below every `sleep` of the scripts, well above what a busy machine needs.
const SOON: Duration = Duration::from_secs(30);

fn parts(event: Event, attempt: u32, step_try: u32) -> InputParts {
    InputParts::default().event(event).tries(attempt, step_try)
}

fn sh(script: &str) -> CommandStep {
    CommandStep::new(["/bin/sh", "-c", script]).unwrap()
}

async fn run_with(step: &CommandStep, payload: Value) -> StepResult {
    let event = Event::new("order.placed")
        .id("e-1")
        .topic("shop:orders")
        .correlation("c-1")
        .payload(payload);
    let store = Store::default();
    step.run(Input::of(&store, &parts(event, 3, 2))).await
}

async fn run(step: &CommandStep) -> StepResult {
    run_with(step, json!({"n": 1})).await
}

/// Runs a step that must come to an exception; returns its kind and what it says.
async fn exception(step: &CommandStep) -> (String, String) {
    match run(step).await.unwrap_err() {
        StepError::Exception(e) => (e.kind, e.error.to_string()),
        other => panic!("no exception: {other:?}"),
    }
}

#[tokio::test]
async fn the_payload_goes_in_and_a_document_comes_out() {
    let payload = json!({"z": 1, "a": "ü \u{0} \"", "n": [1.5, null, true]});
    let out = run_with(&CommandStep::new(["cat"]).unwrap(), payload.clone()).await.unwrap();
    assert_eq!(out, Flow::next(payload));
}

#[tokio::test]
async fn named_input_is_one_object_in_the_order_of_the_names() {
    let step = CommandStep::new(["cat"]).unwrap().input(["b", "a\"", "b"]);
    let signature = step.signature();
    let names: Vec<_> = signature.all_needs().iter().map(|n| (&*n.name, n.optional)).collect();
    assert_eq!(names, [("b", false), ("a\"", false)]);
    let (store, parts) = (store! { "a\"" => [1], "b" => "x", "c" => 3 }, InputParts::default());
    let Flow::Next(Some(out)) = step.run(Input::of(&store, &parts)).await.unwrap() else {
        panic!()
    };
    assert_eq!(out.value().unwrap().to_string(), r#"{"b":"x","a\"":[1]}"#);
}

#[tokio::test]
async fn what_was_piped_goes_before_the_payload() {
    let cat = CommandStep::new(["cat"]).unwrap();
    let signature = cat.signature();
    let need = &signature.all_needs()[0];
    assert_eq!((&*need.name, need.optional), ("input", true));
    let (store, parts) = (store! { "input" => 5 }, parts(Event::new("e").payload(6), 1, 1));
    let piped = cat.run(Input::of(&store, &parts)).await.unwrap();
    let bare = cat.run(Input::of(&Store::default(), &parts)).await.unwrap();
    assert_eq!((piped, bare), (Flow::next(json!(5)), Flow::next(json!(6))));
}

#[tokio::test]
async fn a_step_without_anything_to_give_it_does_not_start() {
    let (none, parts) = (Store::default(), InputParts::default());
    let kind = async |step: CommandStep, store: &Store| {
        let error = step.run(Input::of(store, &parts)).await.unwrap_err();
        (error.kind().to_owned(), error.line())
    };
    let (said, why) = kind(sh("echo 1"), &none).await;
    assert_eq!(said, "input");
    assert!(why.contains("nothing was piped"), "{why}");
    let (said, why) = kind(sh("echo 1").input(["order"]), &none).await;
    assert_eq!(said, "input");
    assert!(why.contains("there is no `order`"), "{why}");
    let opaque = store! { "order" => Opaque(1) };
    let (said, why) = kind(sh("echo 1").input(["order"]), &opaque).await;
    assert_eq!(said, "encode");
    assert!(why.contains("name: order"), "{why}");
}

#[tokio::test]
async fn nothing_or_whitespace_is_success_without_a_value() {
    assert_eq!(run(&sh("exit 0")).await.unwrap(), Flow::Next(None));
    assert_eq!(run(&sh("printf ' \\n\\t '; echo noise >&2")).await.unwrap(), Flow::Next(None));
}

#[tokio::test]
async fn any_document_is_a_value() {
    for (text, value) in [
        ("null", json!(null)),
        ("3", json!(3)),
        (r#"{"failure":"no","more":1}"#, json!({"failure": "no", "more": 1})),
        (r#"[{"failure":"no"}]"#, json!([{"failure": "no"}])),
        (" {} \n", json!({})),
    ] {
        assert_eq!(run(&sh(&format!("echo '{text}'"))).await.unwrap(), Flow::next(value), "{text}");
    }
}

#[tokio::test]
async fn a_sole_failure_is_a_failure() {
    for (text, message, value) in [
        (r#"{"failure":"no"}"#, "no", json!(null)),
        (r#"{"failure":{"message":"no"}}"#, "no", json!(null)),
        (r#"{"failure":{"message":"no","value":{"a":1}}}"#, "no", json!({"a": 1})),
    ] {
        match run(&sh(&format!("echo '{text}'"))).await.unwrap_err() {
            StepError::Failure(f) => assert_eq!((f.message(), f.found()), (message, &value)),
            other => panic!("{other:?}"),
        }
    }
}

#[tokio::test]
async fn a_sole_exception_is_that_exception() {
    let said = r#"echo '{"exception":{"kind":"busy","message":"come back"}}'"#;
    assert_eq!(exception(&sh(said)).await, ("busy".into(), "come back".into()));
}

#[tokio::test]
async fn a_malformed_failure_or_exception_is_garbage() {
    for text in [
        r#"{"failure":3}"#,
        r#"{"failure":{"value":3}}"#,
        r#"{"failure":{"message":"no","reason":3}}"#,
        r#"{"exception":"x"}"#,
        r#"{"exception":{"kind":"x"}}"#,
        r#"{"exception":{"kind":"x","message":1}}"#,
    ] {
        let (kind, message) = exception(&sh(&format!("echo '{text}'"))).await;
        assert_eq!(kind, "output", "{text}: {message}");
    }
}

#[tokio::test]
async fn garbage_is_an_exception_with_the_tail_of_stderr() {
    let deep = "head -c 10000 /dev/zero | tr '\\0' '['";
    for script in ["echo hello", "echo '{} {}'", "printf '\"\\377\"'", "echo '{'", deep] {
        let (kind, message) = exception(&sh(&format!("echo oops >&2; {script}"))).await;
        assert_eq!(kind, "output", "{script}");
        assert!(message.contains("/bin/sh -c") && message.ends_with("oops"), "{message}");
    }
}

#[tokio::test]
async fn another_exit_is_an_exception() {
    let (kind, message) = exception(&sh("echo '{}'; echo 'no disk' >&2; exit 3")).await;
    assert_eq!(kind, "exit");
    assert!(message.contains("exit status: 3") && message.ends_with("no disk"), "{message}");
    // A failure counts only with exit 0.
    assert_eq!(exception(&sh(r#"echo '{"failure":"no"}'; exit 1"#)).await.0, "exit");
}

#[tokio::test]
async fn a_crash_is_an_exception() {
    let (kind, message) = exception(&sh("echo before >&2; kill -SEGV $$")).await;
    assert_eq!(kind, "signal");
    assert!(message.contains("SIGSEGV") && message.ends_with("before"), "{message}");
}

#[tokio::test]
async fn only_the_tail_of_stderr_is_kept() {
    let (_, message) =
        exception(&sh("yes 0123456789 | head -c 3000000 >&2; echo last >&2; exit 1")).await;
    assert!(message.len() < 2400, "{}", message.len());
    assert!(message.contains("ends: …") && message.ends_with("last"), "{message}");
    let (_, message) = exception(&sh("printf 'a\\377b\\000\\033[1mc\\n\\n' >&2; exit 1")).await;
    assert!(message.ends_with("a\u{fffd}b\u{fffd}\u{fffd}[1mc"), "{message:?}");
}

#[tokio::test]
async fn a_flood_is_stopped() {
    let began = Instant::now();
    let (kind, message) =
        exception(&sh("echo why >&2; exec yes 0123456789").output_max(100_000)).await;
    assert_eq!(kind, "output");
    assert!(message.contains("more than 100000 bytes") && message.ends_with("why"), "{message}");
    assert!(began.elapsed() < SOON);
    // A limit is what may be written, not one less.
    assert_eq!(run(&sh("printf 1234").output_max(4)).await.unwrap(), Flow::next(json!(1234)));
    assert_eq!(exception(&sh("printf 12345").output_max(4)).await.0, "output");
}

#[tokio::test]
async fn megabytes_pass_both_ways() {
    let payload = json!("x".repeat(4_000_000));
    let out = run_with(&CommandStep::new(["cat"]).unwrap(), payload.clone()).await.unwrap();
    assert_eq!(out, Flow::next(payload));
}

#[tokio::test]
async fn stdin_need_not_be_read() {
    let payload = json!("x".repeat(4_000_000));
    assert_eq!(run_with(&sh("echo 1"), payload.clone()).await.unwrap(), Flow::next(json!(1)));
    assert_eq!(run_with(&sh("exec 0<&-; echo 1"), payload).await.unwrap(), Flow::next(json!(1)));
}

#[tokio::test]
async fn output_may_end_before_the_command() {
    let step = sh("echo 1; exec >&- 2>&-; cat >/dev/null; exit 4");
    assert_eq!(exception(&step).await.0, "exit");
}

#[tokio::test]
async fn the_environment_tells_of_the_event_and_hides_the_programs_own() {
    // The parent's variables are given to a program that runs the check, since a test may not set
    // its own while others read them.
    let out = Command::new(std::env::current_exe().unwrap())
        .env("AS_CHILD", "yes")
        .args(["--exact", "environment_within", "--nocapture"])
        .env("RAILBUS_URL", "postgres://me:secret@db")
        .env("RAILBUS_BUS__PASSWORD", "secret")
        .env("OTHER", "kept")
        .output()
        .unwrap();
    assert!(out.status.success(), "{}", String::from_utf8_lossy(&out.stderr));
}

#[tokio::test]
async fn environment_within() {
    if std::env::var_os("AS_CHILD").is_none() {
        return; // Run by the_environment_tells_of_the_event_and_hides_the_programs_own.
    }
    let script =
        r#"env | grep -e ^RAILBUS_ -e ^OTHER= | grep -v ^RAILBUS_GUARD= | sort >&2; exit 1"#;
    let (_, message) = exception(&sh(script)).await;
    let told = message.split("ends: ").nth(1).unwrap();
    let expected = "OTHER=kept\nRAILBUS_ATTEMPT=3\nRAILBUS_CORRELATION_ID=c-1\nRAILBUS_EVENT_ID=e-1\n\
                    RAILBUS_EVENT_TYPE=order.placed\nRAILBUS_TOPIC=shop:orders\nRAILBUS_TRY=2";
    assert_eq!(told, expected);
}

#[tokio::test]
async fn event_data_is_never_a_command() {
    let event = Event::new("$(touch touched)").id("; exit 9").payload("`exit 8`");
    let step = sh(r#"printf '"%s%s"' "$RAILBUS_EVENT_ID" "$RAILBUS_EVENT_TYPE""#);
    let store = Store::default();
    let out = step.run(Input::of(&store, &parts(event, 1, 1))).await;
    assert_eq!(out.unwrap(), Flow::next(json!("; exit 9$(touch touched)")));
}

#[tokio::test]
async fn what_can_not_start_says_why() {
    let folder = tempfile::tempdir().unwrap();
    let file = |name: &str, text: &str, mode: u32| {
        let path = folder.path().join(name);
        fs::write(&path, text).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
        CommandStep::new([path.to_str().unwrap()]).unwrap()
    };
    let missing = CommandStep::new(["no-such-program-here"]).unwrap();
    for (step, why) in [
        (missing, "`no-such-program-here` could not be started: it"),
        (file("interpreter", "#!/no/such/shell\n", 0o755), "or the interpreter"),
        (file("plain", "#!/bin/sh\n", 0o644), "not executable"),
        (file("bare", "echo 1\n", 0o755), "a first line such as #!/bin/sh"),
        (sh("echo 1").cwd(folder.path().join("nowhere")), "nowhere does not exist"),
    ] {
        let (kind, message) = exception(&step).await;
        assert_eq!(kind, "spawn");
        assert!(message.contains(why), "{message}");
    }
    for argv in [vec![], vec![""], vec!["a", "b\0"]] {
        assert_eq!(CommandStep::new(argv).unwrap_err().kind(), ErrorKind::Config);
    }
}

#[tokio::test]
async fn a_command_starts_from_its_folder() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("here.sh");
    fs::write(&path, "#!/bin/sh\nprintf '\"%s\"' \"$(pwd -P)\"\n").unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
    let step = CommandStep::new(["./here.sh"]).unwrap().cwd(folder.path());
    let real = folder.path().canonicalize().unwrap();
    assert_eq!(run(&step).await.unwrap(), Flow::next(json!(real)));
}

#[tokio::test]
async fn a_program_that_is_being_written_is_waited_for() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("busy");
    fs::copy("/bin/cat", &path).unwrap();
    let open = fs::OpenOptions::new().append(true).mode(0o755).open(&path).unwrap();
    let step = CommandStep::new([path.to_str().unwrap()]).unwrap();
    let (out, ()) = tokio::join!(run(&step), async {
        // Let go of once the step has met the open file.
        // sleep: nothing tells that a step waits for the file.
        tokio::time::sleep(Duration::from_millis(30)).await;
        drop(open);
    });
    assert_eq!(out.unwrap(), Flow::next(json!({"n": 1})));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_hundred_at_once() {
    let all = (0..100).map(|n| {
        tokio::spawn(async move { run_with(&CommandStep::new(["cat"]).unwrap(), json!(n)).await })
    });
    for (n, done) in all.collect::<Vec<_>>().into_iter().enumerate() {
        assert_eq!(done.await.unwrap().unwrap(), Flow::next(json!(n)));
    }
}
