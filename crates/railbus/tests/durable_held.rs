//! Runs in a journal: who holds one, what ends it, and that nothing is decided twice.
#![cfg(any(feature = "postgres", feature = "sqlite"))]
#![allow(clippy::unwrap_used, clippy::expect_used)]

#[path = "durable_held/decided.rs"]
mod decided;
#[path = "durable_held/ended.rs"]
mod ended;
#[path = "durable_held/held.rs"]
mod held;
#[allow(dead_code)]
#[path = "kept_runs/place.rs"]
mod place;

use place::{Place, on_each_backend};
use railbus::{
    Bus, Error, Flow, Pipeline, RunReport, StepDef, StepResult,
    pipeline::Run,
    step::{Input, Signature, Step},
    store,
};
use std::sync::{
    Arc, Mutex,
    atomic::{AtomicBool, Ordering},
};
use tokio::sync::Notify;

/// A store of its own, and what its steps were called.
struct Scene {
    place: Arc<Place>,
    calls: Arc<Mutex<Vec<String>>>,
}

impl Scene {
    fn on(place: Place) -> Self {
        Self { place: Arc::new(place), calls: Arc::default() }
    }

    async fn bus(&self) -> Bus {
        self.place.bus("").await
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

    /// Runs until the step hangs, and is no more then, as if its process had died.
    async fn dies(&self, run: Run, hang: &Hang) {
        tokio::select! {
            report = run => panic!("it came to its end: {report}"),
            () = hang.reached() => {}
        }
        self.place.expire();
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
