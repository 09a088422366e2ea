//! The ways a worker may come to its end within a task.

use super::{
    Case,
    crossing::pid,
    error,
    left_over::{state, until},
    run, runtime,
};
use futures_util::future::join_all;
use railbus::{IntoStep, Retry, Status, executors::Processes, step, store};
use std::process::{Command, abort, exit, id};

pub(crate) const CASES: &[Case] = &[
    ("a worker that ends fails its task", ends_fail_their_task),
    ("a worker out of memory fails its task", memory_is_limited),
    ("the others go on", others_go_on),
    ("a task may be tried again by another worker", tasks_are_tried_again),
    ("a worker that dies while it waits is reaped and not missed", idle_workers_are_replaced),
];

#[step]
pub(crate) fn dies(how: &str, event: Option<railbus::Event>) -> u32 {
    drop(event);
    eprintln!("about to die");
    match how {
        "abort" => abort(),
        "exit" => exit(3),
        "exit well" => exit(0),
        "kill" => kill(id()),
        _ => {}
    }
    id()
}

#[step]
pub(crate) fn fills(bytes: usize) -> usize {
    let filled = vec![7u8; bytes];
    filled.len()
}

pub(crate) fn kill(pid: u32) {
    signal(pid, "KILL");
}

pub(crate) fn signal(pid: u32, name: &str) {
    let sent = Command::new("kill").args(["-s", name, &pid.to_string()]).status().unwrap();
    assert!(sent.success());
}

fn ends_fail_their_task() {
    runtime().block_on(async {
        let ways = [("abort", "SIGABRT"), ("kill", "SIGKILL"), ("exit", "3"), ("exit well", "0")];
        for (how, why) in ways {
            let report = run(dies(), Processes::new(1), store! { "how" => how.to_owned() }).await;
            assert_eq!(report.status(), Status::Exception);
            let error = error(&report);
            assert!(error.starts_with("worker: "), "{error}");
            assert!(error.contains(why) && error.contains("about to die"), "{how}: {error}");
            // Another takes its place.
            let report = run(pid(), Processes::new(1), store! {}).await;
            assert_eq!(report.status(), Status::Success, "{report}");
        }
    });
}

fn memory_is_limited() {
    runtime().block_on(async {
        let fill = |bytes: usize| {
            let pool = Processes::new(1).memory_limit(2 << 30);
            run(fills(), pool, store! { "bytes" => bytes })
        };
        assert_eq!(*fill(1 << 20).await.get::<usize>("fills").unwrap(), 1 << 20);
        let error = error(&fill(3 << 30).await);
        // What it says of it may be cut off by a backtrace.
        assert!(error.contains("SIGABRT"), "{error}");
        assert_eq!(fill(1 << 20).await.status(), Status::Success);
    });
}

fn others_go_on() {
    runtime().block_on(async {
        let how = ["abort", "stay", "kill", "stay", "exit", "stay"];
        let all = how.map(|how| run(dies(), Processes::new(2), store! { "how" => how.to_owned() }));
        let well: Vec<_> =
            join_all(all).await.iter().map(|r| r.status() == Status::Success).collect();
        assert_eq!(well, [false, true, false, true, false, true]);
    });
}

fn tasks_are_tried_again() {
    runtime().block_on(async {
        let again =
            dies.retry(Retry::attempts(3).on_kind("worker").backoff_factor(Default::default()));
        let report = run(again, Processes::new(1), store! { "how" => "abort".to_owned() }).await;
        assert_eq!((report.status(), report.steps()[0].tries), (Status::Exception, 3));
    });
}

fn idle_workers_are_replaced() {
    runtime().block_on(async {
        let next = async || {
            let report = run(pid(), Processes::new(1), store! {}).await;
            *report.get::<u32>("pid").unwrap_or_else(|_| panic!("{report}"))
        };
        let first = next().await;
        kill(first);
        // Nobody asks for it meanwhile.
        until("it is reaped", || state(first).is_none());
        assert_ne!(next().await, first);
    });
}
