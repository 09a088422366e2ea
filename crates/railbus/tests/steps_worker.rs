//! Commands that stay: what they are asked, what they answer, and how they may end.
#![cfg(feature = "app")]
#![allow(clippy::unwrap_used, clippy::expect_used)]

use railbus::{
    event::Event,
    step::{Flow, Input, InputParts, Step, StepError, StepResult, Store},
    steps::{
        command::{CommandStep, Mode},
        worker::Workers,
    },
    store,
};
use serde_json::{Value, json};
use std::{
    fs,
    io::{Read, Write},
    process::exit,
    time::{Duration, Instant},
};

/// Well below every `sleep` of the workers, well above what a busy machine needs.
const SOON: Duration = Duration::from_secs(30);

/// This program as a worker. The harness has things to say on stdout, so that the pipe for answers
/// is moved aside, as any worker does well to do.
fn worker(workers: &Workers) -> CommandStep {
    let program = std::env::current_exe().unwrap();
    let line = format!(
        "AS_WORKER=yes exec '{}' --exact worker_within --nocapture 3>&1 >&2",
        program.display()
    );
    CommandStep::new(["/bin/sh", "-c", &line]).unwrap().mode(Mode::Worker).workers(workers)
}

fn sh(script: &str, workers: &Workers) -> CommandStep {
    CommandStep::new(["/bin/sh", "-c", script]).unwrap().mode(Mode::Worker).workers(workers)
}

/// Asks for `what` to be done.
async fn ask(step: &CommandStep, what: Value) -> StepResult {
    step.run(Input::of(&store! { "input" => what }, &InputParts::default())).await
}

async fn exception(step: &CommandStep, what: Value) -> (String, String) {
    match ask(step, what).await.unwrap_err() {
        StepError::Exception(e) => (e.kind, e.error.to_string()),
        other => panic!("no exception: {other:?}"),
    }
}

/// Returns the worker's process id.
async fn pid(step: &CommandStep) -> Value {
    match ask(step, json!({"do": "pid"})).await.unwrap() {
        Flow::Next(Some(pid)) => pid.value().unwrap().clone(),
        other => panic!("{other:?}"),
    }
}

fn is_there(pid: &Value) -> bool {
    fs::exists(format!("/proc/{pid}")).unwrap()
}

/// Waits until a process is gone, not even a zombie.
async fn gone(pid: &Value) {
    let began = Instant::now();
    while is_there(pid) {
        assert!(began.elapsed() < SOON, "{pid} is left over");
        // sleep: the end of a process that is no child of this test's can't be awaited.
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

#[test]
fn worker_within() {
    if std::env::var_os("AS_WORKER").is_none() {
        return; // Run by `worker`.
    }
    assert_eq!(std::env::var("RAILBUS_WORKER").as_deref(), Ok("1"));
    let mut answers = fs::OpenOptions::new().write(true).open("/dev/fd/3").unwrap();
    let mut stdin = std::io::stdin().lock();
    let mut head = [0; 4];
    while stdin.read_exact(&mut head).is_ok() {
        let mut text = vec![0; u32::from_be_bytes(head) as usize];
        stdin.read_exact(&mut text).unwrap();
        let task: Value = serde_json::from_slice(&text).unwrap();
        let (id, input) = (&task["id"], &task["input"]);
        eprintln!("task {id}");
        let mut say = |text: &[u8]| {
            answers.write_all(&u32::try_from(text.len()).unwrap().to_be_bytes()).unwrap();
            answers.write_all(text).unwrap();
        };
        match input["do"].as_str().unwrap_or_default() {
            "pid" => say(json!({"id": id, "value": std::process::id()}).to_string().as_bytes()),
            "task" => say(json!({"id": id, "value": task}).to_string().as_bytes()),
            "none" => say(json!({"id": id}).to_string().as_bytes()),
            "say" => {
                let mut answer = input["answer"].clone();
                answer.as_object_mut().unwrap().entry("id").or_insert(id.clone());
                say(answer.to_string().as_bytes());
            }
            "garbage" => say(b"not json"),
            "huge" => say(json!({"id": id, "value": "x".repeat(2_000_000)}).to_string().as_bytes()),
            "half" => {
                say(&[]);
                exit(0)
            }
            "twice" => {
                // In one piece, so that both are there when the first is read.
                let answer = json!({"id": id, "value": 1}).to_string();
                let length = u32::try_from(answer.len()).unwrap().to_be_bytes();
                let frame = [&length[..], answer.as_bytes()].concat();
                answers.write_all(&frame.repeat(2)).unwrap();
            }
            "exit" => exit(3),
            "abort" => std::process::abort(),
            // sleep: longer than any test waits.
            "hang" => std::thread::sleep(Duration::from_secs(1000)),
            other => panic!("{other}"),
        }
    }
    if let Ok(path) = std::env::var("AT_END") {
        fs::write(path, "ended").unwrap();
    }
}

#[tokio::test]
async fn a_worker_is_told_the_task_and_what_it_is_for() {
    let step = worker(&Workers::new(1)).step_name("transform");
    let event = Event::new("order.placed").id("e-1").topic("shop:orders").correlation("c-1");
    let event = event
        .metadata("traceparent", "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01")
        .payload(json!({"do": "task"}));
    let parts = InputParts::default().event(event).tries(3, 2);
    let told = json!({
        "id": 1,
        "step": "transform",
        "input": {"do": "task"},
        "event": {
            "id": "e-1",
            "type": "order.placed",
            "topic": "shop:orders",
            "correlation_id": "c-1",
            "traceparent": "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
        },
        "attempt": 3,
        "try": 2,
    });
    let came = step.run(Input::of(&Store::default(), &parts)).await.unwrap();
    assert_eq!(came, Flow::next(told));
    let Flow::Next(Some(second)) = ask(&step, json!({"do": "task"})).await.unwrap() else {
        panic!()
    };
    assert_eq!((second.at("id"), second.at("event")), (Some(&json!(2)), Some(&json!(null))));
}

#[tokio::test]
async fn answers_are_values_failures_and_exceptions() {
    let step = worker(&Workers::new(1));
    let say = async |answer: Value| ask(&step, json!({"do": "say", "answer": answer})).await;
    assert_eq!(ask(&step, json!({"do": "none"})).await.unwrap(), Flow::Next(None));
    assert_eq!(say(json!({"value": null})).await.unwrap(), Flow::next(json!(null)));
    // A value is a value, whatever its keys are.
    let value = json!({"failure": "no"});
    assert_eq!(say(json!({"value": value.clone()})).await.unwrap(), Flow::next(value));
    match say(json!({"failure": {"message": "no", "value": 3}})).await.unwrap_err() {
        StepError::Failure(no) => assert_eq!((no.message(), no.found()), ("no", &json!(3))),
        other => panic!("{other:?}"),
    }
    let error = say(json!({"exception": {"kind": "gateway", "message": "x"}})).await.unwrap_err();
    assert_eq!((error.kind(), &*error.line()), ("gateway", "x"));
    // All by one worker.
    let Flow::Next(Some(task)) = ask(&step, json!({"do": "task"})).await.unwrap() else { panic!() };
    assert_eq!(task.at("id"), Some(&json!(6)));
}

#[tokio::test]
async fn a_worker_that_breaks_fails_its_task_with_the_reason_and_is_replaced() {
    let step = worker(&Workers::new(1)).output_max(1_000_000).timeout(SOON);
    for (what, kind, why) in [
        (json!({"do": "exit"}), "exit", "ended with exit status: 3"),
        (json!({"do": "abort"}), "signal", "SIGABRT"),
        (json!({"do": "garbage"}), "output", "answered what is not one JSON document"),
        (json!({"do": "huge"}), "output", "wrote more than 1000000 bytes"),
        (json!({"do": "half"}), "output", "answered what is not one JSON document"),
        (json!({"do": "say", "answer": {"id": 7}}), "output", "answered task 7, but was asked 2"),
        (json!({"do": "say", "answer": {"value": 1, "failure": "x"}}), "output", "more than one"),
        (json!({"do": "say", "answer": {"values": 1}}), "output", "`values`; value, failure and"),
        (json!({"do": "say", "answer": {"failure": 1}}), "output", "neither a text nor"),
    ] {
        let before = pid(&step).await;
        let (said, message) = exception(&step, what.clone()).await;
        assert_eq!(said, kind, "{what}: {message}");
        assert!(message.contains(why), "{what}: {message}");
        assert!(message.contains("its stderr ends: ") && message.contains("task 2"), "{message}");
        // Of this task alone.
        assert!(!message.contains("task 1"), "{message}");
        gone(&before).await;
        assert_ne!(pid(&step).await, before);
        // Each begins with a new worker.
        let _ = exception(&step, json!({"do": "exit"})).await;
    }
}

#[tokio::test]
async fn a_hang_is_a_timeout_and_the_worker_is_killed() {
    let workers = Workers::new(1);
    let step = worker(&workers);
    let before = pid(&step).await;
    let (kind, message) =
        exception(&step.clone().timeout(Duration::from_millis(200)), json!({"do": "hang"})).await;
    assert_eq!(kind, "timeout");
    assert!(message.contains("took longer than 200ms"), "{message}");
    gone(&before).await;
    assert_ne!(pid(&step).await, before);
}

#[tokio::test]
async fn a_dropped_run_kills_its_worker_and_no_other() {
    let workers = Workers::new(2);
    let step = worker(&workers);
    let before = pid(&step).await;
    let hang = ask(&step, json!({"do": "hang"}));
    assert!(tokio::time::timeout(Duration::from_millis(100), hang).await.is_err());
    gone(&before).await;
    assert_ne!(pid(&step).await, before);
}

#[tokio::test]
async fn what_is_no_worker_is_told() {
    let workers = Workers::new(1);
    let (kind, message) = exception(&sh("echo hello; exec cat >&2", &workers), json!(1)).await;
    assert_eq!(kind, "output");
    assert!(message.contains("is no frame: it starts \"hell\""), "{message}");
    let (kind, message) = exception(&sh("exec >&-; exec sleep 1000", &workers), json!(1)).await;
    assert_eq!(kind, "output");
    assert!(message.contains("closed its stdout"), "{message}");
    let (kind, message) = exception(&sh("printf '\\0\\0\\0\\5ab'", &workers), json!(1)).await;
    assert!(kind == "exit" && message.contains("exit status: 0"), "{kind} {message}");
    let (kind, _) = exception(&sh("exit 0", &workers), json!("x".repeat(1_000_000))).await;
    assert_eq!(kind, "exit");
    let none = CommandStep::new(["no-such-program-here"]).unwrap().mode(Mode::Worker);
    assert_eq!(exception(&none, json!(1)).await.0, "spawn");
}

#[tokio::test]
async fn what_was_not_asked_for_is_not_taken_for_the_next_answer() {
    let workers = Workers::new(1);
    let step = worker(&workers);
    assert_eq!(ask(&step, json!({"do": "twice"})).await.unwrap(), Flow::next(json!(1)));
    for _ in 0..3 {
        let Flow::Next(Some(pid)) = ask(&step, json!({"do": "pid"})).await.unwrap() else {
            panic!()
        };
        assert_ne!(pid.value(), Some(&json!(2)));
    }
}

#[tokio::test]
async fn workers_live_on_and_are_replaced_after_their_tasks() {
    let step = worker(&Workers::new(1).max_tasks_per_child(3));
    let mut pids = Vec::new();
    for _ in 0..7 {
        pids.push(pid(&step).await);
    }
    assert!(pids[0] == pids[1] && pids[1] == pids[2] && pids[3] == pids[5], "{pids:?}");
    assert!(pids[2] != pids[3] && pids[5] != pids[6], "{pids:?}");
    gone(&pids[0]).await;
    assert!(is_there(&pids[6]));
}

#[tokio::test]
async fn no_more_run_at_once_than_is_allowed() {
    let workers = Workers::new(3);
    let step = worker(&workers);
    let all: Vec<_> = (0..30)
        .map(|_| {
            let step = step.clone();
            tokio::spawn(async move { pid(&step).await })
        })
        .collect();
    let mut pids = Vec::new();
    for one in all {
        pids.push(one.await.unwrap().to_string());
    }
    pids.sort();
    pids.dedup();
    assert!(pids.len() <= 3, "{pids:?}");
}

#[tokio::test]
async fn commands_share_workers_also_with_those_that_do_not_stay() {
    let folder = tempfile::tempdir().unwrap();
    let workers = Workers::new(2);
    // Counts how many run at once, by their files.
    let script =
        format!("cd '{}' && : >$$ && ls | wc -l && sleep 0.02 && rm $$", folder.path().display());
    let step = CommandStep::new(["/bin/sh", "-c", &script]).unwrap().workers(&workers);
    let all: Vec<_> = (0..12)
        .map(|_| {
            let step = step.clone();
            tokio::spawn(async move { ask(&step, json!(1)).await })
        })
        .collect();
    for one in all {
        let Flow::Next(Some(n)) = one.await.unwrap().unwrap() else { panic!() };
        assert!(n.get::<u32>().unwrap() <= 2, "{n:?}");
    }
}

#[tokio::test]
async fn a_worker_of_another_command_makes_room() {
    let workers = Workers::new(1);
    let (first, second) = (worker(&workers), worker(&workers).cwd("/"));
    let before = pid(&first).await;
    assert_ne!(pid(&second).await, before);
    gone(&before).await;
}

#[tokio::test]
async fn idle_workers_end_with_what_shares_them_and_are_told_before() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("end");
    let program = std::env::current_exe().unwrap();
    let line = format!(
        "AT_END='{}' AS_WORKER=yes exec '{}' --exact worker_within --nocapture 3>&1 >&2",
        path.display(),
        program.display()
    );
    let workers = Workers::new(2);
    let step = sh(&line, &workers);
    let idle = pid(&step).await;
    drop((step, workers));
    gone(&idle).await;
    assert_eq!(fs::read_to_string(path).unwrap(), "ended");
}

#[tokio::test]
async fn an_idle_worker_that_dies_is_no_zombie_and_is_replaced() {
    let step = worker(&Workers::new(1));
    let before = pid(&step).await;
    let killed = std::process::Command::new("kill").args(["-KILL", &before.to_string()]).status();
    assert!(killed.unwrap().success());
    gone(&before).await;
    assert_ne!(pid(&step).await, before);
}

#[test]
fn a_worker_of_another_runtime_is_not_used() {
    let step = worker(&Workers::new(1));
    let runtime = || tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let first = runtime().block_on(pid(&step));
    runtime().block_on(async {
        assert_ne!(pid(&step).await, first);
        gone(&first).await;
    });
}
