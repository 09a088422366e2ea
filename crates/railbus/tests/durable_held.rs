//! Runs in a journal: who holds one, what ends it, and that nothing is decided twice.
#![cfg(feature = "sqlite")]
#![allow(clippy::unwrap_used, clippy::expect_used)]

#[path = "durable_held/decided.rs"]
mod decided;
#[path = "durable_held/ended.rs"]
mod ended;
#[path = "durable_held/held.rs"]
mod held;

use railbus::{
    Bus, Error, Flow, Pipeline, RunReport, StepDef, StepResult,
    pipeline::Run,
    step::{Input, Signature, Step},
    store,
};
use std::{
    path::PathBuf,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};
use tempfile::TempDir;
use tokio::sync::Notify;

/// A store of its own, and what its steps were called.
struct Scene {
    _folder: TempDir,
    path: PathBuf,
    calls: Arc<Mutex<Vec<String>>>,
}

impl Scene {
    fn new() -> Self {
        let folder = TempDir::new().unwrap();
        let path = folder.path().join("runs.db");
        Self { _folder: folder, path, calls: Arc::default() }
    }

    async fn bus(&self) -> Bus {
        self.bus_with("").await
    }

    async fn bus_with(&self, settings: &str) -> Bus {
        Bus::open(format!("sqlite:{}{settings}", self.path.display())).await.unwrap()
    }

    /// A step that says that it was called, and leaves its own name.
    fn says(&self, name: &str) -> StepDef {
        let (said, calls) = (name.to_owned(), Arc::clone(&self.calls));
        StepDef::value(name, move |_| {
            calls.lock().unwrap().push(said.clone());
            said.clone()
        })
    }

    fn called(&self) -> String {
        std::mem::take(&mut *self.calls.lock().unwrap()).join(" ")
    }

    /// Lets all leases run out, as time would.
    fn expire(&self) {
        let store = rusqlite::Connection::open(&self.path).unwrap();
        store.busy_timeout(Duration::from_secs(10)).unwrap();
        store.execute("UPDATE journal SET until = 0 WHERE state IS NULL", []).unwrap();
    }

    /// Runs until the step hangs, and is no more then, as if its process had died.
    async fn dies(&self, run: Run, hang: &Hang) {
        tokio::select! {
            report = run => panic!("it came to its end: {report}"),
            () = hang.reached() => {}
        }
        self.expire();
    }
}

/// A step that hangs the first time, and goes through after that.
#[derive(Clone, Default)]
struct Hang(Arc<(AtomicBool, Notify)>);

impl Hang {
    async fn reached(&self) {
        self.0.1.notified().await;
    }
}

#[async_trait::async_trait]
impl Step for Hang {
    fn signature(&self) -> Signature {
        Signature::new("hang")
    }

    async fn run(&self, _: Input<'_>) -> StepResult {
        if !self.0.0.swap(true, Ordering::SeqCst) {
            self.0.1.notify_one();
            std::future::pending::<()>().await;
        }
        Ok(Flow::next("through"))
    }
}

fn of(report: &RunReport) -> &Error {
    let railbus::StepError::Exception(exception) = report.error().expect("an error") else {
        panic!("{report}");
    };
    assert_eq!(exception.kind, "journal", "{report}");
    exception.error.downcast_ref().expect("an error of the journal")
}

async fn run(pipeline: &Pipeline, bus: &Bus, id: &str) -> RunReport {
    pipeline.run(store! {}).journal(bus, id).unwrap().await
}
