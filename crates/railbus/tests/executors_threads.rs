//! Steps on pools of threads, and executors as maps.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::needless_pass_by_value)]

use futures_util::future::join_all;
use railbus::{
    Bus, ErrorKind, Event, Pipeline, RunReport, Status, StepDef, Store,
    cancel::Cancel,
    context,
    executors::{Blocking, Inline, Threads},
    json, step, store,
};
use std::{
    future::pending,
    sync::{
        Arc, Barrier, Mutex,
        atomic::{AtomicBool, AtomicU32, Ordering},
        mpsc::{Sender, channel},
    },
    thread,
};
use tokio::{
    runtime::{Builder, Handle},
    sync::oneshot,
    time::Duration,
};

fn name() -> StepDef {
    StepDef::value("name", |_| thread::current().name().unwrap_or_default().to_owned())
}

async fn run(step: StepDef, pool: Threads) -> RunReport {
    Pipeline::new("p").step(step.executor(pool)).build().unwrap().run(Store::new()).await
}

async fn name_on(pool: Threads) -> String {
    run(name(), pool).await.get::<String>("name").unwrap().to_string()
}

#[tokio::test]
async fn threads_are_named_and_start_when_there_is_work() {
    let pool = || Threads::new(3).thread_name_prefix("named_");
    // One after another, one thread is enough.
    for _ in 0..10 {
        assert_eq!(name_on(pool()).await, "named_0");
    }
    // All at once: each waits for the other two.
    let barrier = Arc::new(Barrier::new(3));
    let meet = || {
        let barrier = Arc::clone(&barrier);
        let step = StepDef::value("name", move |_| {
            barrier.wait();
            thread::current().name().unwrap_or_default().to_owned()
        });
        run(step, pool())
    };
    let mut names: Vec<String> = join_all([meet(), meet(), meet()])
        .await
        .iter()
        .map(|report| report.get::<String>("name").unwrap().to_string())
        .collect();
    names.sort();
    assert_eq!(names, ["named_0", "named_1", "named_2"]);
}

#[tokio::test]
async fn equal_descriptions_share_a_pool_and_others_do_not() {
    let id = || StepDef::value("id", |_| format!("{:?}", thread::current().id()));
    let on = async |pool: Threads| run(id(), pool).await.get::<String>("id").unwrap().to_string();
    let pool = || Threads::new(1).thread_name_prefix("shared_");
    let first = on(pool()).await;
    assert_eq!(on(pool()).await, first);
    assert_ne!(on(pool().max_tasks_per_child(100)).await, first);
    let map = json!({"kind": "threads", "max_workers": 1, "thread_name_prefix": "shared_"});
    let by_map = Pipeline::new("p").step(id().executor(map)).build().unwrap();
    assert_eq!(*by_map.run(Store::new()).await.get::<String>("id").unwrap(), first);
    assert!(name_on(Threads::default()).await.starts_with("railbus-"));
}

#[tokio::test]
async fn a_thread_is_replaced_after_its_tasks_and_keeps_its_name() {
    let id = || {
        StepDef::value("id", |_| {
            let thread = thread::current();
            (format!("{:?}", thread.id()), thread.name().unwrap_or_default().to_owned())
        })
    };
    let mut seen = Vec::new();
    for _ in 0..6 {
        let pool = Threads::new(1).max_tasks_per_child(2).thread_name_prefix("short_");
        let report = run(id(), pool).await;
        seen.push((*report.get::<(String, String)>("id").unwrap()).clone());
    }
    assert!(seen[0] == seen[1] && seen[2] == seen[3] && seen[4] == seen[5], "{seen:?}");
    assert!(seen[1] != seen[2] && seen[3] != seen[4], "{seen:?}");
    assert!(seen.iter().all(|(_, name)| name == "short_0"), "{seen:?}");
}

#[tokio::test]
async fn a_panic_is_the_tasks_own() {
    let pool = || Threads::new(1).thread_name_prefix("panics_");
    let report = run(StepDef::value("falls", |_| -> u8 { panic!("it tripped") }), pool()).await;
    assert_eq!(report.steps()[0].error.as_deref(), Some("panic: it tripped"));
    assert_eq!(name_on(pool()).await, "panics_0");
}

#[step]
async fn sleeps() -> String {
    // sleep: that timers run on the thread is what is tested.
    tokio::time::sleep(Duration::from_millis(1)).await;
    thread::current().name().unwrap_or_default().to_owned()
}

#[step]
async fn yields() -> bool {
    tokio::task::yield_now().await;
    Handle::try_current().is_ok()
}

#[tokio::test]
async fn an_async_step_runs_on_its_thread_with_the_runtime() {
    let report = run(sleeps(), Threads::new(1).thread_name_prefix("async_")).await;
    assert_eq!(*report.get::<String>("sleeps").unwrap(), "async_0");
    // A sync step may wait on the runtime, as one on Blocking may.
    let waits = || StepDef::value("waits", |_| Handle::current().block_on(async { 7 }));
    assert_eq!(*run(waits(), Threads::new(1)).await.get::<i32>("waits").unwrap(), 7);
    let blocking = Pipeline::new("p").step(waits().executor(Blocking)).build().unwrap();
    assert_eq!(*blocking.run(Store::new()).await.get::<i32>("waits").unwrap(), 7);
}

#[test]
fn without_a_runtime_threads_run_all_the_same() {
    // Woken by a thread, polled by hand.
    let done = Builder::new_current_thread().build().unwrap();
    drop(done);
    let mut running = Box::pin(run(yields(), Threads::new(1).thread_name_prefix("bare_")));
    let report = loop {
        if let Some(report) = futures_util::FutureExt::now_or_never(&mut running) {
            break report;
        }
        thread::yield_now();
    };
    assert!(!*report.get::<bool>("yields").unwrap(), "{report}");
}

/// Has the only thread of a pool wait until this is dropped.
async fn occupied(pool: Threads) -> Sender<()> {
    let ((go_on, wait), (begun, begins)) = (channel::<()>(), oneshot::channel());
    let parts = Mutex::new(Some((wait, begun)));
    let blocks = StepDef::value("blocks", move |_| {
        let (wait, begun) = parts.lock().unwrap().take().unwrap();
        begun.send(()).unwrap();
        let _ = wait.recv();
    });
    tokio::spawn(run(blocks, pool));
    begins.await.unwrap();
    go_on
}

#[tokio::test]
async fn what_is_given_up_before_it_began_never_begins() {
    let pool = || Threads::new(1).thread_name_prefix("queue_");
    let busy = occupied(pool()).await;
    let began = Arc::new(AtomicBool::new(false));
    let mark = Arc::clone(&began);
    let late = run(StepDef::value("late", move |_| mark.store(true, Ordering::Relaxed)), pool());
    tokio::select! {
        biased;
        report = late => panic!("{report}"),
        () = tokio::task::yield_now() => {}
    }
    // What it held is let go of although the thread is still busy.
    assert_eq!(Arc::strong_count(&began), 1);
    drop(busy);
    assert_eq!(name_on(pool()).await, "queue_0");
    assert!(!began.load(Ordering::Relaxed));
}

type Told = Arc<Mutex<Option<oneshot::Sender<bool>>>>;

#[tokio::test]
async fn what_is_given_up_later_is_told() {
    let ((tell, told), (begun, begins)) = (oneshot::channel(), oneshot::channel());
    let (tell, begun): (Told, Told) =
        (Arc::new(Mutex::new(Some(tell))), Arc::new(Mutex::new(Some(begun))));
    let looks = StepDef::value("looks", move |input| {
        begun.lock().unwrap().take().unwrap().send(input.is_cancelled()).unwrap();
        while !input.is_cancelled() {
            thread::yield_now();
        }
        tell.lock().unwrap().take().unwrap().send(true).unwrap();
    });
    tokio::select! {
        report = run(looks, Threads::new(1).thread_name_prefix("told_")) => panic!("{report}"),
        cancelled = begins => assert!(!cancelled.unwrap()),
    }
    assert!(told.await.unwrap());
}

/// Tells by being dropped.
struct Dropped(Option<oneshot::Sender<()>>);

impl Drop for Dropped {
    fn drop(&mut self) {
        drop(self.0.take());
    }
}

static KEEPS: Mutex<Option<(Dropped, oneshot::Sender<Cancel>)>> = Mutex::new(None);

#[step]
async fn waits_for_ever(cancel: Cancel) {
    let (_dropped, begun) = KEEPS.lock().unwrap().take().unwrap();
    begun.send(cancel).unwrap();
    pending::<()>().await;
}

#[tokio::test]
async fn an_async_step_that_is_given_up_ends_at_its_await() {
    let ((dropped, ended), (begun, begins)) = (oneshot::channel(), oneshot::channel());
    *KEEPS.lock().unwrap() = Some((Dropped(Some(dropped)), begun));
    let pool = || Threads::new(1).thread_name_prefix("await_");
    let cancel = tokio::select! {
        report = run(waits_for_ever(), pool()) => panic!("{report}"),
        cancel = begins => cancel.unwrap(),
    };
    assert!(ended.await.is_err() && cancel.is_cancelled());
    assert_eq!(name_on(pool()).await, "await_0");
}

#[step]
fn calm(cancel: Cancel) -> bool {
    cancel.is_cancelled()
}

#[tokio::test]
async fn what_ends_by_itself_was_not_cancelled() {
    assert!(!*run(calm(), Threads::new(1)).await.get::<bool>("calm").unwrap());
    let inline = Pipeline::new("p").step(calm).build().unwrap();
    assert!(!*inline.run(Store::new()).await.get::<bool>("calm").unwrap());
}

#[tokio::test]
async fn the_context_crosses_to_the_thread() {
    let (bus, seen) = (Bus::new(), Arc::new(AtomicU32::new(0)));
    let count = Arc::clone(&seen);
    let step = StepDef::value("who", move |_| {
        let context = context::current().unwrap();
        assert_eq!((context.id(), context.correlation_id()), ("e-1", "c-1"));
        count.fetch_add(1, Ordering::Relaxed)
    });
    let step = step.executor(Threads::new(1));
    bus.on("tick").run(Pipeline::new("p").step(step).build().unwrap()).await.unwrap();
    bus.publish(Event::new("tick").id("e-1").correlation("c-1")).await.unwrap();
    assert_eq!(seen.load(Ordering::Relaxed), 1);
}

fn refused(map: railbus::Value, why: &str, hint: &str) {
    let error = Pipeline::new("p").step(name().executor(map)).build().expect_err(why);
    assert_eq!(error.kind(), ErrorKind::Config);
    let (text, advice) = (error.to_string(), error.advice().unwrap_or_default().to_owned());
    assert!(text.contains(why) && text.contains("name"), "{text}");
    assert!(advice.contains(hint), "{advice}");
}

#[test]
fn maps_are_strict() {
    refused(json!({"kind": "treads"}), "`treads` is not a kind", "did you mean `threads`?");
    refused(json!({"kind": "gpu"}), "`gpu` is not a kind", "inline, blocking, threads, processes");
    refused(json!({"max_workers": 4}), "`kind` is missing", "inline, blocking");
    refused(json!("threads"), "\"threads\" is not a map", "\"kind\": \"threads\"");
    refused(json!({"kind": 4}), "`kind` must be a text, not 4", "quotes");
    let threads = |key: &str, value: railbus::Value| json!({"kind": "threads", key: value});
    let meant = "did you mean `max_workers`?";
    refused(threads("max_worker", json!(4)), "`max_worker` is not a key of an executor", meant);
    refused(threads("memory_limit", json!(4)), "`memory_limit` is not a key of `threads`", "known");
    for wrong in [json!(0), json!(-1), json!(1.5), json!("4")] {
        refused(threads("max_workers", wrong), "`max_workers` must be a whole number", "default");
    }
    refused(threads("thread_name_prefix", json!(1)), "`thread_name_prefix` must be a text", "");
    let processes = json!({"kind": "processes", "thread_name_prefix": "p"});
    refused(processes, "`thread_name_prefix` is not a key of `processes`", "max_tasks_per_child");
    refused(json!({"kind": "inline", "max_workers": 1}), "not a key of `inline`", "none but kind");
}

#[tokio::test]
async fn every_kind_of_map_makes_its_executor() {
    let kinds =
        [json!({"kind": "inline"}), json!({"kind": "blocking"}), json!({"kind": "threads"})];
    for kind in kinds {
        let pipeline = Pipeline::new("p").step(name().executor(kind)).build().unwrap();
        assert_eq!(pipeline.run(store! {}).await.status(), Status::Success);
    }
    // What is said last counts.
    let inline = name().executor(Threads::new(1)).executor(Inline);
    let here = Pipeline::new("p").step(inline).build().unwrap().run(store! {}).await;
    assert_eq!(Some(here.get::<String>("name").unwrap().as_str()), thread::current().name());
}

#[test]
fn pools_of_nothing_are_refused() {
    for (pool, why) in [
        (Threads::new(0), "a pool of no threads"),
        (Threads::new(1).max_tasks_per_child(0), "a thread without a task"),
        (Threads::new(1).thread_name_prefix("a\0b"), "a thread's name has no NUL"),
    ] {
        let error = Pipeline::new("p").step(name().executor(pool)).build().expect_err(why);
        assert!(error.to_string().contains(why), "{error}");
    }
}
